"""Choice of the motion source, and structure from motion or odometry of all clips."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthWarning
from egodepth.data.preparation.clips import NO_PART, Clip, KnownMotion
from egodepth.data.preparation.structure_from_motion import (
    NothingReconstructedError,
    find_colmap,
    reconstruct,
)
from egodepth.data.preparation.survey import TURNING, Survey
from egodepth.runs.run import Run
from egodepth.settings.training import PoseSource
from egodepth.training.odometry_poses import track

MIN_PARALLAX = 0.003
"""Minimum parallax for structure from motion, as a share of the image width at the chosen stride: one pixel at
a width of 320, three times the tracking error of corners."""
MAX_KEY_FRAMES = 2000
"""Maximum number of key frames for which ``auto`` chooses structure from motion, about a second each."""


def is_hand_held(surveys: list[Survey]) -> bool:
    """Whether image motion from rotation is large compared to parallax, in the median over clips."""
    return float(np.median([seen.turn for seen in surveys])) >= TURNING


def choose_poses(
    clips: list[Clip], surveys: list[Survey], *, has_baseline: bool
) -> tuple[PoseSource, str]:
    """Resolve ``auto``: return the motion source for some footage, and the reason, in words.

    Args:
        clips: footage.
        surveys: surveys of the used clips.
        has_baseline: whether the other camera of a rig is a source.
    """
    turn = float(np.median([seen.turn for seen in surveys]))
    parallax = float(np.median([seen.parallax for seen in surveys]))
    held = is_hand_held(surveys)
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
            "hours; --data.poses sfm runs it anyway, and slam takes odometry's"
        )
    return "sfm", f"{reason}, with parallax enough for structure from motion"


def share_with_motion(clips: list[Clip]) -> float:
    """Share of the training pairs whose motion is known, among clips with structure from motion."""
    known = total = 0
    for clip in clips:
        pairs = set(clip.pairs(clip.stride)) - clip.excluded_pairs
        if clip.motion is None or not clip.is_used or not pairs:
            continue
        first, second = clip.motion.part[np.array(sorted(pairs))].T
        known += int(((first == second) & (first != NO_PART)).sum())
        total += len(pairs)
    return known / max(total, 1)


def reconstruct_all(clips: list[Clip], folder: Path) -> tuple[list[Clip], list[str]]:
    """Run structure from motion on each clip, see :func:`_place_all`.

    Raises:
        NothingReconstructedError: it fails on all clips.
    """
    return _place_all(clips, lambda clip: reconstruct(clip, folder), "structure from motion")


def track_all(clips: list[Clip], folder: Path, start: Path | None) -> tuple[list[Clip], list[str]]:
    """Run odometry on each clip, see :func:`_place_all`.

    Args:
        clips: footage.
        folder: cache folder.
        start: run that the training starts from; by default ``builtin``.

    Raises:
        EgodepthError: it fails on all clips.
    """
    run = Run.load("builtin" if start is None else start)
    return _place_all(clips, lambda clip: track(run, clip, folder), "odometry")


def _place_all(
    clips: list[Clip], place: Callable[[Clip], Clip], method: str
) -> tuple[list[Clip], list[str]]:
    """Find the motion of each clip; the second camera of a rig shares the motion of the first. Clips for which
    that fails get no motion, with a warning. Also return a line for each clip.

    Raises:
        NothingReconstructedError: it fails on all clips.
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
            placed = place(clip)
        except NothingReconstructedError as error:
            failed.append(error)
            found.append(replace(clip, motion=KnownMotion.unknown(len(clip.frames))))
            continue
        found.append(placed)
        lines.append(_describe(placed, method))
    if failed and not lines:
        raise failed[0]
    for failure in failed:
        warnings.warn(f"{failure}; its frames are left out", EgodepthWarning, stacklevel=3)
    return found, lines


def _describe(placed: Clip, method: str) -> str:
    assert placed.motion is not None
    known = placed.motion.part != NO_PART
    between = ""
    if placed.stride > 1 and method == "structure from motion":
        keys = known[:: placed.stride].sum()
        between = f", {known.sum() - keys} of them between key frames {placed.stride} apart"
    parts = len(np.unique(placed.motion.part[known]))
    refined = placed.refined_focal()
    changed = (
        f"; focal length refined from {refined[0]:.0f} to {refined[1]:.0f} pixels"
        if refined
        else ""
    )
    return (
        f"{placed.sequence.name}: {method} placed {known.sum()} of {len(placed.frames)} frames in {parts} "
        f"part{'s' if parts > 1 else ''}{between}{changed}"
    )


def _share(first: Clip, clip: Clip) -> Clip:
    """Give a rig's second camera the motion of the first. This neglects the baseline: when the rig rotates, the
    second camera also moves by angle times baseline, which refinement corrects."""
    assert first.motion is not None
    places, shared = first.positions, KnownMotion.unknown(len(clip.numbers))
    for number, position in clip.positions.items():
        if number in places:
            shared.world_from_camera[position] = first.motion.world_from_camera[places[number]]
            shared.part[position] = first.motion.part[places[number]]
    return replace(clip, camera=first.camera, motion=shared)
