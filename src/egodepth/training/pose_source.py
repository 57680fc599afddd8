"""Choice of the motion source, and structure from motion of all clips."""

import warnings
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
from egodepth.settings.training import PoseSource

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
            "hours; --data.poses sfm runs it anyway"
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
    """Run structure from motion on each clip; the second camera of a rig shares the motion of the first. Clips
    for which it fails get no motion, with a warning.

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
        refined = placed.refined_focal()
        changed = (
            f"; focal length refined from {refined[0]:.0f} to {refined[1]:.0f} pixels"
            if refined
            else ""
        )
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
    """Give a rig's second camera the motion of the first. This neglects the baseline: when the rig rotates, the
    second camera also moves by angle times baseline, which refinement corrects."""
    assert first.motion is not None
    places, shared = first.positions, KnownMotion.unknown(len(clip.numbers))
    for number, position in clip.positions.items():
        if number in places:
            shared.world_from_camera[position] = first.motion.world_from_camera[places[number]]
            shared.part[position] = first.motion.part[places[number]]
    return replace(clip, camera=first.camera, motion=shared)
