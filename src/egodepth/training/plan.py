"""What a training makes of its footage: stride, pairs left out, and where the motion comes from."""

import math
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
    find_colmap,
    reconstruct,
)
from egodepth.data.preparation.survey import TURNING, Survey, is_blank, is_static, survey
from egodepth.data.preparation.unknown_camera import estimate_unknown_camera, with_estimate
from egodepth.data.sequence import Sequence, time_per_frame
from egodepth.data.splits import Split
from egodepth.geometry.camera import Camera
from egodepth.runs.motion_gap import MotionGap, typical_gap
from egodepth.settings.training import DataSettings, PoseSource, TrainSettings
from egodepth.training.snippets import SnippetStream

SHOWN_CAMERAS = 3
MIN_PARALLAX = 0.003
"""Share of the image's width, at the stride chosen, that structure from motion is tried from: a pixel of 320,
three times what corners are followed to."""
MIN_SHARE_WITH_MOTION = 0.5
"""Of the pairs of frames, for structure from motion to be kept: the other pairs teach nothing. Its better poses
are worth a tenth of Abs Rel, not more than half of the footage."""
MAX_KEY_FRAMES = 2000
"""Of all footage, for structure from motion that nobody asked for: about a second of each."""
CAMERAS_FROM = {
    "given": "given", "metadata": "by its metadata", "fov": "by its field of view",
    "guess": "a guess", "estimate": "found from the frames",
}  # fmt: skip
MOTIONS = {
    "network": "PoseNet's", "aligned": "PoseNet's, aligned in every step",
    "sfm": "structure from motion, refined during training", "given": "given with the footage",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Clips as they are trained on.

    Attributes:
        clips: with strides, pairs left out, and poses where they are known.
        poses: where motions come from; never ``auto``.
        lines: what was found and chosen, in words.
    """

    clips: list[Clip]
    poses: PoseSource
    lines: list[str]


def make_plan(clips: list[Clip], data: DataSettings) -> Plan:
    """Look at the footage where the settings leave a choice, and find its motion before the training
    where they ask for it.

    Raises:
        EgodepthError: frames that show nothing, poses that are missing, or structure from motion that finds
            nothing.
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
            replace(clip, stride=seen.stride, useless=seen.frozen | seen.cuts)
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
        poses, reason = _choose_poses(clips, used, has_baseline=data.partner)
        lines.append(f"poses: {poses}, since {reason}")
    if poses == "given" and data.directions:
        clips = [replace(clip, motion=KnownMotion.given(clip.sequence)) for clip in clips]
    if poses == "sfm" and data.directions:
        try:
            placed, found = _reconstruct_all(clips, data.cache or default_cache_folder())
            lines += found
            share = _share_with_motion(placed)
            if data.poses == "auto" and share < MIN_SHARE_WITH_MOTION:
                raise NothingReconstructedError(
                    f"structure from motion gives motions to {100 * share:.0f} % of the pairs of frames, and "
                    "the others would not be learned from; --data.poses sfm trains on these alone"
                )
            clips = placed
        except NothingReconstructedError as error:
            if data.poses != "auto":
                raise EgodepthError(f"{error}; use --data.poses aligned or network") from error
            poses = "aligned" if _is_hand_held(used) else "network"
            lines.append(f"poses: {poses} after all, since {error}")
    return Plan(clips, poses, lines)


class LabelsStoppedError(Exception):
    """Making labels was stopped; what there is of them is kept."""


def label_plan(
    plan: Plan,
    folder: Path,
    device: torch.device,
    seconds: float | None,
    stopped: Callable[[], bool] = lambda: False,
) -> Plan:
    """The plan with dense labels of its clips, as far as their motion is known.

    Args:
        plan: with clips and their motion.
        folder: of the cache.
        device: to compute on.
        seconds: time to take at most; each clip gets its share by its frames.
        stopped: asked after each label whether to stop.

    Raises:
        EgodepthError: broken frames, poses without motion, or a folder that can't be written.
        LabelsStoppedError: ``stopped`` said so.
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
    """The gap that PoseNet learns motions over: the median of all pairs of target and source."""
    gaps = []
    for clip in clips:
        seconds = time_per_frame(clip.sequence.frames)
        gaps.append(MotionGap(clip.stride, seconds and clip.stride * seconds))
    pairs = [
        len(clip.pairs(clip.stride)) - len(clip.useless) if clip.is_used else 0 for clip in clips
    ]
    return typical_gap(gaps, pairs)


def _describe_gaps(clips: list[Clip]) -> list[str]:
    """What predictions make of clips with several strides."""
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
    """Clips, those whose camera never moves without targets, with a warning.

    Args:
        clips: footage.
        stride: at least, that it is trained at.

    Raises:
        EgodepthError: none moves.
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
    """Clips with what belongs to their camera, and what was found.

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


def find_cameras(sequences: list[Sequence], folder: Path) -> tuple[list[Sequence], list[str]]:
    """Sequences whose camera nobody told with the one that their own frames tell, and what was found.

    Where the frames do not decide the focal length, as where a camera moves without turning, the guess stays,
    with a warning.

    Raises:
        EgodepthError: broken frames.
    """
    done, lines = [], []
    for sequence in sequences:
        if sequence.camera_from != "guess":
            if sequence.camera_from == "metadata":
                lines.append(f"{sequence.name}: {_describe_camera(sequence)}, by its metadata")
            done.append(sequence)
            continue
        found = estimate_unknown_camera(sequence, folder)
        if found is not None and not found.doubt:
            sequence = with_estimate(sequence, found)
            lines.append(
                f"{sequence.name}: {_describe_camera(sequence)} +- {100 * found.deviation:.1f} %, by "
                f"{found.pairs} pairs of its frames"
                + (f"; its radial distortion (k1 {found.k1:.3f}) is undone" if found.k1 else "")
            )
        else:
            reason = (
                "too few corners can be followed"
                if found is None
                else f"{found.doubt}; {found.focal:.0f} pixels fit best, with a deviation of "
                f"{100 * found.deviation:.0f} %"
            )
            warnings.warn(
                f"{sequence.name}: the frames do not tell the focal length ({reason}); "
                f"{_describe_camera(sequence)} is a guess, and depth and turns will be off as far as it "
                "is: give --data.fov, --data.focal or --data.camera",
                EgodepthWarning,
                stacklevel=2,
            )
        done.append(sequence)
    return done, lines


def _describe_camera(sequence: Sequence, camera: Camera | None = None) -> str:
    """Of the sequence's own camera, or of another size's that the training found for it."""
    camera = camera or sequence.camera
    assert camera is not None
    width = sequence.frames.width
    focal = float(camera.matrix[0, 0]) * width / camera.width
    degrees = 2 * math.degrees(math.atan(width / (2 * focal)))
    return f"focal length {focal:.0f} pixels ({degrees:.0f} degrees wide)"


def describe_plan(
    settings: TrainSettings, stream: SnippetStream, steps: int, seconds_per_step: float | None
) -> list[tuple[str, str]]:
    """What the training will do: headings and what stands behind them.

    Args:
        settings: with everything decided.
        stream: of the footage.
        steps: to be made.
        seconds_per_step: measured, where it was.
    """
    clips = stream.clips
    cameras = sorted(
        {
            f"{_describe_camera(c.sequence, c.camera)}, "
            f"{c.sequence.camera_note or CAMERAS_FROM[c.sequence.camera_from]}"
            for c in clips
        }
    )
    strides = sorted({clip.stride for clip in clips})
    rows = [
        ("footage", f"{stream.frame_count} frames of {len(clips)} sequence{'s' * (len(clips) > 1)}"),
        ("snippets", f"{stream.snippet_count} of {stream.frames_a_snippet} frames, strides "
         f"{', '.join(map(str, strides))}"),
        ("camera", "; ".join(cameras[:SHOWN_CAMERAS]) + "; ..." * (len(cameras) > SHOWN_CAMERAS)),
        ("networks", f"see {settings.model.width}x{settings.model.height}; method {settings.method}"),
        ("motion", MOTIONS[settings.data.poses] if settings.data.directions else "the rig's own"),
        ("steps", f"{steps} of {stream.batch_size} snippets, {steps / stream.steps_per_epoch:.1f} epochs"),
    ]  # fmt: skip
    if seconds_per_step is not None:
        rows.append(("time", f"about {progress.describe_seconds(steps * seconds_per_step)}"))
    return rows


def restrict(clips: list[Clip], split: Split) -> list[Clip]:
    """Clips whose targets are the frames of a split."""
    numbers = [split.numbers(clip.sequence) for clip in clips]
    return [
        replace(clip, targets=None if chosen is None else frozenset(chosen))
        for clip, chosen in zip(clips, numbers, strict=True)
    ]


def _is_hand_held(surveys: list[Survey]) -> bool:
    return float(np.median([seen.turn for seen in surveys])) >= TURNING


def _choose_poses(
    clips: list[Clip], surveys: list[Survey], *, has_baseline: bool
) -> tuple[PoseSource, str]:
    turn = float(np.median([seen.turn for seen in surveys]))
    parallax = float(np.median([seen.parallax for seen in surveys]))
    held = _is_hand_held(surveys)
    reason = (
        f"turning moves the image {turn:.1f} times as much as parallax does: the camera "
        f"{'is hand-held' if held else 'drives'}"
    )
    otherwise: PoseSource = "aligned" if held else "network"
    if has_baseline:
        return (
            otherwise,
            f"{reason}, and structure from motion has another unit than the rig's baseline",
        )
    key_frames = sum(len(clip.frames) // clip.stride for clip in clips if clip.is_used)
    if find_colmap() is None:
        return otherwise, f"{reason}, and pycolmap is not installed"
    if parallax < MIN_PARALLAX:
        return otherwise, (
            f"{reason}, and it hardly moves: parallax is {100 * parallax:.2g} % of the width, and structure "
            f"from motion needs {100 * MIN_PARALLAX:g} %"
        )
    if key_frames > MAX_KEY_FRAMES:
        return otherwise, (
            f"{reason}, and structure from motion of {key_frames} frames (more than {MAX_KEY_FRAMES}) takes "
            "hours; --data.poses sfm does it all the same"
        )
    return "sfm", f"{reason}, with parallax enough for structure from motion"


def _share_with_motion(clips: list[Clip]) -> float:
    """Of the pairs that can be learned from, those whose motion is known."""
    known = total = 0
    for clip in clips:
        pairs = set(clip.pairs(clip.stride)) - clip.useless
        if clip.motion is None or not clip.is_used or not pairs:
            continue
        first, second = clip.motion.part[np.array(sorted(pairs))].T
        known += int(((first == second) & (first != NO_PART)).sum())
        total += len(pairs)
    return known / max(total, 1)


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


def _reconstruct_all(clips: list[Clip], folder: Path) -> tuple[list[Clip], list[str]]:
    """Structure from motion of each clip; the second camera of a rig takes the first one's. A clip that it
    fails on has no motions, with a warning.

    Raises:
        NothingReconstructedError: it fails on all.
    """
    found: list[Clip] = []
    lines: list[str] = []
    failed: list[NothingReconstructedError] = []
    for clip in clips:
        first = next(
            (f for f in found if clip.sequence.rig and f.sequence.rig == clip.sequence.rig),
            None,
        )
        if first is not None or not clip.is_used:
            found.append(clip if first is None else _share(first, clip))
            continue
        try:
            placed = reconstruct(clip, folder)
        except NothingReconstructedError as error:
            failed.append(error)
            found.append(replace(clip, motion=KnownMotion.unknown(len(clip.frames))))
            continue
        found.append(placed)
        assert placed.motion is not None
        known = placed.motion.part != NO_PART
        if clip.stride > 1:
            keys = known[:: clip.stride].sum()
            between = f", {known.sum() - keys} of them between key frames {clip.stride} apart"
        else:
            between = ""
        parts = len(np.unique(placed.motion.part[known]))
        focal = float(placed.camera.matrix[0, 0] / clip.camera.matrix[0, 0])
        changed = f"; focal length times {focal:.3f}" if clip.sequence.camera_guessed else ""
        lines.append(
            f"{clip.sequence.name}: structure from motion placed {known.sum()} of "
            f"{len(clip.frames)} frames in {parts} part{'s' if parts > 1 else ''}{between}{changed}"
        )
    if failed and not lines:
        raise failed[0]
    for failure in failed:
        warnings.warn(f"{failure}; its frames are left out", EgodepthWarning, stacklevel=2)
    return found, lines


def _share(first: Clip, clip: Clip) -> Clip:
    """The motion of a rig's first camera for its second. The baseline is left out: where the rig turns,
    it moves the second camera by the angle times the baseline, which refinement takes up."""
    assert first.motion is not None
    if not np.array_equal(first.numbers, clip.numbers):
        places = first.positions
        motion = first.motion
        poses = np.full((len(clip.numbers), 4, 4), np.nan)
        part = np.full(len(clip.numbers), NO_PART)
        for i, number in enumerate(clip.numbers):
            if int(number) in places:
                poses[i] = motion.world_from_camera[places[int(number)]]
                part[i] = motion.part[places[int(number)]]
        return replace(clip, camera=first.camera, motion=replace(motion, world_from_camera=poses,
                       part=part, points={}))  # fmt: skip
    return replace(clip, camera=first.camera, motion=replace(first.motion, points={}))
