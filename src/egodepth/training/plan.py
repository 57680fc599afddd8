"""Planning a training from its footage: strides, excluded pairs, and the motion source."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.preparation.clips import NO_PART, Clip, KnownMotion
from egodepth.data.preparation.dense_depth import add_labels, key_positions
from egodepth.data.preparation.static_mask import find_static_mask, read_mask
from egodepth.data.preparation.structure_from_motion import (
    NothingReconstructedError,
)
from egodepth.data.preparation.survey import Survey, is_blank, is_static, survey
from egodepth.data.sequence import time_per_frame
from egodepth.data.shards.chunks import Chunks
from egodepth.data.splits import Split
from egodepth.runs.motion_gap import MotionGap, typical_gap
from egodepth.settings.training import DataSettings, PoseSource, TrainSettings
from egodepth.training.plan_cameras import describe_camera
from egodepth.training.pose_source import (
    choose_poses,
    is_hand_held,
    reconstruct_all,
    share_with_motion,
    track_all,
)
from egodepth.training.snippets import SnippetStream

SHOWN_CAMERAS = 3
MIN_SHARE_WITH_MOTION = 0.5
"""Minimum share of frame pairs with motion for ``auto`` to keep structure from motion: the other pairs are not
trained on. Its better poses gain a tenth of Abs Rel, which is not worth more than half of the footage."""
CAMERAS_FROM = {
    "given": "given", "metadata": "by its metadata", "fov": "by its field of view",
    "guess": "a guess", "estimate": "found from the frames",
}  # fmt: skip
MOTIONS = {
    "network": "PoseNet's", "aligned": "PoseNet's, aligned in every step",
    "sfm": "structure from motion, refined during training",
    "slam": "odometry with its loops closed, refined during training", "given": "given with the footage",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Plan of a training: its clips and motion source.

    Attributes:
        clips: clips with strides, excluded pairs, and poses if known.
        poses: source of motion; never ``auto``.
        lines: findings and decisions, in words.
        surveys: survey of each clip; empty without surveys.
        chunks: chunks of the shards that the clips are read from; None for footage.
    """

    clips: list[Clip]
    poses: PoseSource
    lines: list[str]
    surveys: tuple[Survey, ...] = ()
    chunks: Chunks | None = None


def make_plan(clips: list[Clip], data: DataSettings, start: Path | None = None) -> Plan:
    """Resolve ``auto`` settings by looking at the footage, and find its motion if it is to be known before
    training.

    Args:
        clips: footage.
        data: settings.
        start: run that the training starts from, which odometry uses; by default ``builtin``.

    Raises:
        EgodepthError: blank frames, a static camera, missing poses, an unreadable mask, or failed structure
            from motion or odometry.
    """
    blank = [clip.sequence.name for clip in clips if clip.is_used and is_blank(clip)]
    if blank:
        raise EgodepthError(
            f"the frames of {', '.join(blank[:SHOWN_CAMERAS])} show nothing: all pixels are alike, black, "
            "white or of one colour; leave it out"
        )
    clips, lines = mask_static(clips, data.mask)
    if data.views == "mono":
        clips = leave_out_static(clips, 1 if data.stride == "auto" else data.stride)
    surveys: list[Survey] = []
    used: list[Survey] = []
    if data.directions and "auto" in (data.stride, data.poses):
        stride = None if data.stride == "auto" else data.stride
        for clip in progress.track(clips, "looking at the footage", len(clips), "clips"):
            surveys.append(survey(clip, stride))
        lines += [_describe(clip, seen) for clip, seen in zip(clips, surveys, strict=True)]
        clips = [
            replace(clip, stride=seen.stride, excluded_pairs=seen.frozen | seen.cuts)
            for clip, seen in zip(clips, surveys, strict=True)
        ]
    elif data.stride != "auto":
        clips = [replace(clip, stride=data.stride) for clip in clips]
    if data.needs_pose_net:
        lines += _describe_gaps(clips)
    poses = data.poses
    if poses == "auto" and not data.directions:
        poses = "network"  # there is no motion in time to find
    elif poses == "auto":
        used = [seen for clip, seen in zip(clips, surveys, strict=True) if clip.is_used] or surveys
        poses, reason = choose_poses(clips, used, has_baseline=data.partner)
        lines.append(f"poses: {poses}, since {reason}")
    if poses == "given" and data.directions:
        clips = [replace(clip, motion=KnownMotion.given(clip.sequence)) for clip in clips]
        _warn_of_jumps(clips)
    if poses == "slam" and data.directions:
        try:
            clips, found = track_all(clips, data.cache or default_cache_folder(), start)
        except NothingReconstructedError as error:
            raise EgodepthError(f"{error}; use --data.poses aligned or network") from error
        lines += found
    if poses == "sfm" and data.directions:
        try:
            placed, found = reconstruct_all(clips, data.cache or default_cache_folder())
            lines += found
            share = share_with_motion(placed)
            if data.poses == "auto" and share < MIN_SHARE_WITH_MOTION:
                raise NothingReconstructedError(
                    f"structure from motion gives motions to {100 * share:.0f} % of the pairs of frames, and "
                    "the others would not be learned from; --data.poses sfm trains on these alone"
                )
            clips = placed
        except NothingReconstructedError as error:
            if data.poses != "auto":
                raise EgodepthError(f"{error}; use --data.poses aligned or network") from error
            poses = "aligned" if is_hand_held(used) else "network"
            lines.append(f"poses: {poses} after all, since {error}")
    return Plan(clips, poses, lines, tuple(surveys))


def _warn_of_jumps(clips: list[Clip]) -> None:
    """Warn of given poses whose path jumps; no frames are compared across a jump."""
    for clip in clips:
        assert clip.motion is not None
        known = np.flatnonzero(clip.motion.part != NO_PART)
        after = known[1:][np.diff(clip.motion.part[known]) > 0]
        if len(after):
            numbers = clip.sequence.frames.numbers
            some = ", ".join(str(numbers[i]) for i in after[:SHOWN_CAMERAS])
            warnings.warn(
                f"{clip.sequence.name}: the path of its poses jumps before frame {some}"
                f"{', ...' if len(after) > SHOWN_CAMERAS else ''} to hundreds of times its steps; no frames "
                "are compared across it, but if their unit changes there, depth will be wrong",
                EgodepthWarning,
                stacklevel=3,
            )


class LabelsStoppedError(Exception):
    """Making labels was stopped; finished labels are kept."""


def label_plan(
    plan: Plan,
    folder: Path,
    device: torch.device,
    seconds: float | None,
    stopped: Callable[[], bool] = lambda: False,
) -> Plan:
    """Add dense labels to all clips of a plan whose motion is known.

    Args:
        plan: plan of the training.
        folder: cache folder.
        device: device to compute on.
        seconds: time limit, shared among clips by their number of key frames; None for no limit.
        stopped: called after each label; True stops.

    Raises:
        EgodepthError: broken frames, poses without motion, or a folder that cannot be written.
        LabelsStoppedError: ``stopped`` returned True.
    """
    clips, covered, count, wanted = [], 0.0, 0, 0
    total = sum(len(key_positions(c)) for c in plan.clips if c.motion is not None and c.is_used)

    def look_out(done: int, total: int) -> None:
        if stopped():
            raise LabelsStoppedError

    for clip in plan.clips:
        if clip.motion is None or not clip.is_used:
            clips.append(clip)
            continue
        keys = key_positions(clip)
        share = None if seconds is None else round(seconds * len(keys) / total, 1)
        labelled = add_labels(clip, folder, device, look_out, share)
        assert labelled.dense is not None
        posed = np.flatnonzero(clip.motion.part != NO_PART)
        shares = [float((labelled.dense[frame, 0] > 0).mean()) for frame in posed]
        covered += sum(shares)
        clips.append(labelled if any(shares) else clip)
        count += sum(of > 0 for of in shares)
        wanted += len(posed)
    if not count:
        if not wanted:
            return plan
        line = "depth from many views: no two frames agree on any, so that there are no labels"
        return replace(plan, lines=[*plan.lines, line])
    of = f" of {wanted}" if count < wanted else ""
    line = (
        f"depth from many views: labels of {count}{of} frames, {100 * covered / count:.0f} % of their "
        "pixels"
    )
    return replace(plan, clips=clips, lines=[*plan.lines, line])


def motion_gap(clips: list[Clip]) -> MotionGap:
    """Gap between frames for which PoseNet learns motions: the median over all training pairs."""
    gaps = []
    for clip in clips:
        seconds = time_per_frame(clip.sequence.frames)
        gaps.append(MotionGap(clip.stride, seconds and clip.stride * seconds))
    pairs = [
        len(clip.pairs(clip.stride)) - len(clip.excluded_pairs) if clip.is_used else 0
        for clip in clips
    ]
    return typical_gap(gaps, pairs)


def _describe_gaps(clips: list[Clip]) -> list[str]:
    """Describe the gap that predictions use if clips have different strides; empty otherwise."""
    strides = sorted({clip.stride for clip in clips if clip.is_used})
    if len(strides) <= 1:
        return []
    gap = motion_gap(clips)
    length = f"{gap.frames} frames" if gap.seconds is None else f"{gap.seconds:.2g} s"
    return [
        f"strides {strides[0]} to {strides[-1]}: predictions ask PoseNet for motions over {length}, the "
        "median of the training's pairs"
    ]


def leave_out_static(clips: list[Clip], stride: int) -> list[Clip]:
    """Remove all targets of clips with a static camera, with a warning.

    Args:
        clips: footage.
        stride: smallest training stride.

    Raises:
        EgodepthError: the camera is static in all clips.
    """
    watched = progress.track(clips, "looking for motion", len(clips), "clips")
    static = [clip.is_used and is_static(clip, stride) for clip in watched]
    names = [clip.sequence.name for clip, still in zip(clips, static, strict=True) if still]
    if not names:
        return clips
    shown = ", ".join(names[:SHOWN_CAMERAS]) + ", ..." * (len(names) > SHOWN_CAMERAS)
    if all(still or not clip.is_used for clip, still in zip(clips, static, strict=True)):
        raise EgodepthError(
            f"the camera of {shown} does not move: without motion there is no depth to learn from; use footage "
            "of a moving camera, or a stereo rig with --data.views stereo"
        )
    warnings.warn(
        f"the camera of {shown} does not move: there is nothing to learn from, and it is left out",
        EgodepthWarning,
        stacklevel=2,
    )
    return [
        replace(clip, targets=frozenset()) if still else clip
        for clip, still in zip(clips, static, strict=True)
    ]


def mask_static(clips: list[Clip], mask: str) -> tuple[list[Clip], list[str]]:
    """Add static masks to clips; also return a line for each mask that was found.

    Args:
        clips: footage.
        mask: ``none``, ``auto`` or an image file, see ``data.mask``.

    Raises:
        EgodepthError: see :func:`read_mask`.
    """
    if mask == "none":
        return clips, []
    done, lines = [], []
    for clip in progress.track(clips, "looking for what stays in place", len(clips), "clips"):
        static = (
            find_static_mask(clip)
            if mask == "auto"
            else read_mask(Path(mask), *clip.frames.shape[2:])
        )
        done.append(replace(clip, static=static))
        if static is not None and mask == "auto":
            lines.append(
                f"{clip.sequence.name}: {100 * static.mean():.0f} % of the image stays in place (bonnet, "
                "watermark, borders) and is left out; --data.mask none takes it in"
            )
    return done, lines


def describe_plan(
    settings: TrainSettings, stream: SnippetStream, steps: int, seconds_per_step: float | None
) -> list[tuple[str, str]]:
    """Describe a training as rows of heading and text.

    Args:
        settings: resolved settings.
        stream: training snippets.
        steps: number of steps.
        seconds_per_step: measured time per step, if known.
    """
    clips = stream.clips
    cameras = sorted(
        {
            f"{describe_camera(clip.sequence, clip.camera)}, {_source_of_camera(clip)}"
            for clip in clips
        }
    )
    strides = sorted({clip.stride for clip in clips})
    rows = [
        ("footage", f"{stream.frame_count} frames of {len(clips)} sequence{'s' * (len(clips) > 1)}"),
        ("snippets", f"{stream.snippet_count} of {stream.frames_per_snippet} frames, strides "
         f"{', '.join(map(str, strides))}"),
        ("camera", "; ".join(cameras[:SHOWN_CAMERAS]) + "; ..." * (len(cameras) > SHOWN_CAMERAS)),
        ("networks", f"see {settings.model.width}x{settings.model.height}; method {settings.method}"),
        ("motion", MOTIONS[settings.data.poses] if settings.data.directions else "the rig's own"),
        ("steps", f"{steps} of {stream.batch_size} snippets, {steps / stream.steps_per_epoch:.1f} epochs"),
    ]  # fmt: skip
    if seconds_per_step is not None:
        rows.append(("time", f"about {progress.describe_seconds(steps * seconds_per_step)}"))
    return rows


def _source_of_camera(clip: Clip) -> str:
    """Where the camera of a clip comes from, in words; structure from motion may have refined it."""
    sequence = clip.sequence
    source = sequence.camera_note or CAMERAS_FROM[sequence.camera_from]
    refined = clip.refined_focal()
    if refined is None:
        return source
    return f"refined by structure from motion from {refined[0]:.0f} pixels {source}"


def restrict(clips: list[Clip], split: Split) -> list[Clip]:
    """Restrict the targets of clips to the frames of a split."""
    numbers = [split.numbers(clip.sequence) for clip in clips]
    return [
        replace(clip, targets=None if chosen is None else frozenset(chosen))
        for clip, chosen in zip(clips, numbers, strict=True)
    ]


def _describe(clip: Clip, seen: Survey) -> str:
    text = (
        f"{clip.sequence.name}: stride {seen.stride}, parallax {100 * seen.parallax:.1f} % of the "
        f"width, turning {seen.turn:.1f} times that"
    )
    pairs = len(clip.pairs(seen.stride))
    if seen.frozen or seen.cuts:
        text += (
            f"; of {pairs} pairs {len(seen.frozen)} without parallax and {len(seen.cuts)} across "
            "cuts are left out"
        )
    return text
