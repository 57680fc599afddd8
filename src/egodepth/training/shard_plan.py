"""Planning a training from shards, which hold their footage's plan."""

import hashlib
import warnings
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.preparation.clips import Clip, KnownMotion
from egodepth.data.sequence import Sequence
from egodepth.data.shards.stored import StoredClip, StoredFrames, shard_frames, stored_clip
from egodepth.data.splits import get_split
from egodepth.settings.training import DataSettings, PoseSource, TrainSettings
from egodepth.training.plan import MIN_SHARE_WITH_MOTION, Plan, restrict
from egodepth.training.pose_source import is_hand_held, share_with_motion
from egodepth.training.snippets import SnippetStream

OTHER_SHARDS = (
    "cannot resume: the shards hold other clips, snippets or frames than when the run was trained; start a new "
    "run from it with --init"
)
METHODS = {"sfm": "structure from motion", "slam": "odometry"}
"""What finds the poses of clips before a training."""
KNOWN_BEFORE = (*METHODS, "given")
"""Motion sources that are known before a training."""


def is_from_shards(sequences: list[Sequence]) -> bool:
    """Whether the footage of a training is shards."""
    return any(shard_frames(sequence) is not None for sequence in sequences)


def plan_of_shards(
    settings: TrainSettings, sequences: list[Sequence]
) -> tuple[TrainSettings, Plan]:
    """Take footage as shards have it; return the settings with the size decided, and the plan.

    Raises:
        EgodepthError: a setting that these shards were not made with.
    """
    frames = [each for sequence in sequences if (each := shard_frames(sequence)) is not None]
    stored = [clip for sequence in sequences if (clip := stored_clip(sequence)) is not None]
    data = settings.data
    lines = []
    for made in {id(each.made): each.made for each in frames}.values():
        settings = _with_size(settings, made)
        _check(data, made)
        lines.append(describe_shards(made))
    clips = [replace(each.clip, sequence=s) for each, s in zip(stored, sequences, strict=True)]
    if data.stride != "auto" and any(clip.stride != data.stride for clip in clips):
        strides = sorted({clip.stride for clip in clips})
        raise EgodepthError(
            f"these shards were made with strides {', '.join(map(str, strides[:5]))}: give --data.stride auto, "
            f"or shard again with --data.stride {data.stride}"
        )
    if data.split is not None:
        clips = restrict(clips, get_split(data.split))
    found, reason = _poses(data, clips, stored)
    lines += [f"poses: {found}, {reason}"] if reason else []
    if data.directions:
        clips = _with_motion(clips, stored, found)
    else:
        clips = [replace(clip, motion=None, dense=None) for clip in clips]
    wants_labels = data.dense_labels and settings.loss.dense > 0
    if not wants_labels:
        clips = [replace(clip, dense=None) for clip in clips]
    elif found in KNOWN_BEFORE and not any(clip.dense is not None for clip in clips):
        lines.append(
            "depth from many views: these shards hold no labels; egodepth shard with --data.dense_labels true "
            f"and --data.poses {found} makes them"
        )
    first = clips[0].frames
    assert isinstance(first, StoredFrames)
    return settings, Plan(clips, found, lines, chunks=first.chunks)


def snippet_counts(clips: list[Clip], settings: TrainSettings) -> list[int]:
    """Snippets of each clip in a training with these settings."""
    data = settings.data
    try:
        stream = SnippetStream(
            clips, directions=data.directions, partner=data.partner, batch_size=1, seed=0
        )
    except EgodepthError:  # none at all
        return [0] * len(clips)
    return np.bincount(stream.targets[:, 0], minlength=len(clips)).tolist()


def shards_digest(stream: SnippetStream) -> str:
    """Digest of the clips, snippets and chunks of a training from shards; empty for other footage."""
    if stream.chunks is None:
        return ""
    found = hashlib.sha256(stream.chunks.digest.encode())
    for clip in stream.clips:
        found.update(repr((clip.sequence.name, clip.stride, len(clip.frames))).encode())
    found.update(np.ascontiguousarray(stream.targets, np.int64).tobytes())
    return found.hexdigest()


def check_same_shards(stream: SnippetStream, saved: dict[str, Any] | None) -> str:
    """Check that a training that is resumed sees the shards of its checkpoint; return their digest.

    Raises:
        EgodepthError: others.
    """
    found = shards_digest(stream)
    if saved and saved.get("egodepth_shards", found) != found:
        raise EgodepthError(OTHER_SHARDS)
    return found


def describe_shards(made: dict[str, Any]) -> str:
    """Describe shards in a line."""
    form = "as JPEG" if made["frames"] == "jpeg" else "as in the cache"
    return (
        f"shards of {made['frame_count']} frames of {made['clip_count']} clips, "
        f"{made['width']}x{made['height']} {form}, {made['bytes'] / 1e9:.3g} GB in {made['chunk_count']} "
        f"chunks, made on {made['date']}"
    )


def _with_size(settings: TrainSettings, made: dict[str, Any]) -> TrainSettings:
    size, model = (made["height"], made["width"]), settings.model
    if settings.data.fit_size:
        return settings.changed(
            model=model.changed(height=size[0], width=size[1]),
            data=settings.data.changed(fit_size=False),
        )
    if size != (model.height, model.width):
        raise EgodepthError(
            f"these shards hold frames of {size[1]}x{size[0]}, and the networks see "
            f"{model.width}x{model.height}: give --model.height {size[0]} --model.width {size[1]}, or shard "
            "again"
        )
    return settings


def _check(data: DataSettings, made: dict[str, Any]) -> None:
    """Check settings that shards have decided.

    Raises:
        EgodepthError: another mask, or views that they lack.
    """
    had = made["data"]
    if data.mask != had["mask"]:
        raise EgodepthError(
            f"these shards were made with --data.mask {had['mask']}, not {data.mask}: give the same, or shard "
            "again"
        )
    if data.views != had["views"] and had["views"] != "mono_stereo":
        raise EgodepthError(
            f"these shards were made with --data.views {had['views']}, not {data.views}: shard again with it, "
            "or with mono_stereo, which has both"
        )


def _poses(
    data: DataSettings, clips: list[Clip], stored: list[StoredClip]
) -> tuple[PoseSource, str]:
    """The motion source, and why, if it was to be chosen."""
    kinds = {each.poses for each in stored}
    if data.refines_poses and data.poses not in kinds and data.directions:
        raise EgodepthError(
            f"these shards hold no poses of {METHODS[data.poses]}: shard again with --data.poses {data.poses}, "
            "or give --data.poses network or aligned"
        )
    if data.poses != "auto":
        return data.poses, ""
    if not data.directions:
        return "network", ""
    known: tuple[PoseSource, ...] = ("given", "slam")
    for source in known:
        if kinds == {source}:
            return source, "as the shards were made"
    share = share_with_motion(
        [c if s.poses == "sfm" else _without(c) for c, s in zip(clips, stored, strict=True)]
    ) * _used_share(clips, stored)
    if share >= MIN_SHARE_WITH_MOTION:
        return "sfm", f"which the shards hold for {100 * share:.0f} % of the pairs of frames"
    surveys = [each.survey for each in stored if each.survey is not None]
    if not surveys:
        kept: Literal["aligned", "network"] = "aligned" if kinds == {"aligned"} else "network"
        return kept, "as the shards were made"
    held = is_hand_held(surveys)
    return (
        "aligned" if held else "network",
        f"since the camera {'is hand-held' if held else 'drives'}, and the shards hold poses of structure from "
        f"motion for {100 * share:.0f} % of the pairs of frames",
    )


def _used_share(clips: list[Clip], stored: list[StoredClip]) -> float:
    """Share of the frames in clips with structure from motion."""
    frames = [len(clip.numbers) for clip in clips]
    placed = sum(n for n, each in zip(frames, stored, strict=True) if each.poses == "sfm")
    return placed / max(sum(frames), 1)


def _without(clip: Clip) -> Clip:
    return replace(clip, motion=None)


def _with_motion(clips: list[Clip], stored: list[StoredClip], poses: str) -> list[Clip]:
    """Clips with the motion, and the labels made with it, of a source."""
    done: list[Clip] = []
    for clip, each in zip(clips, stored, strict=True):
        kept = clip if each.poses == poses else replace(clip, motion=None, dense=None)
        if poses == "given" and kept.motion is None:
            kept = replace(kept, motion=KnownMotion.given(clip.sequence))
        if poses in METHODS and kept.motion is None:
            kept = replace(kept, motion=KnownMotion.unknown(len(clip.numbers)))
        done.append(kept)
    lost = [c.sequence.name for c, e in zip(clips, stored, strict=True) if e.poses != poses]
    if poses in METHODS and lost:
        warnings.warn(
            f"{len(lost)} of {len(clips)} clips in the shards have no poses of {METHODS[poses]}, "
            f"{lost[0]} among them; they are left out",
            EgodepthWarning,
            stacklevel=2,
        )
    return done
