"""How well PoseNet's motions fit the depth of some footage, by direct alignment of a few short clips."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from egodepth.data.sequence import Frame, Sequence
from egodepth.inference.arguments import footage_of
from egodepth.inference.odometry.motion_chain import gap_of
from egodepth.inference.odometry.tracker import Odometry, OdometrySettings
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run

CLIPS, PAIRS = 4, 2
"""Number of clips, spread over the footage, and of PoseNet's pairs in each, one after the other."""
MIN_PAIRS = 3
"""Fewest pairs that must be aligned for a verdict."""
MIN_STEP = 2e-3
"""Shortest motion that is compared, as a share of the median depth."""
MAX_ERROR = 0.5
"""Largest error at which PoseNet's motions fit."""


class MotionFit(NamedTuple):
    """How PoseNet's motions differ from those that align the images with the predicted depth.

    Attributes:
        error: median distance between where both motions take a point at the median depth, as a share of the
            camera's way.
        ratio: median length of the aligned motions over PoseNet's.
    """

    error: float
    ratio: float

    @property
    def doubt(self) -> str:
        """Why PoseNet's motions can't be used, in words; empty if they fit."""
        if self.error <= MAX_ERROR:
            return ""
        way = f"{max(self.ratio, 1 / self.ratio):.1f} times too {'short' if self.ratio > 1 else 'long'}"
        return f"PoseNet's motions do not fit the depth (off by {self.error:.0%} of the way, {way})"


def fit_of_motions(run: Run, sequence: Sequence) -> MotionFit | None:
    """Compare PoseNet's motions with direct alignment in a few short clips. On footage unlike that of its
    training PoseNet's steps can be several times too short for the depth, which nothing else would show.

    Args:
        run: trained networks, with a PoseNet.
        sequence: footage; without a camera of its own, it gets the run's.

    Returns:
        The fit; None if too few motions are long and sure enough.
    """
    sequence = footage_of(run, sequence)
    gap = gap_of(sequence.frames, run.motion_gap)
    length = min(PAIRS * gap + 1, len(sequence.frames))
    last = len(sequence.frames) - length
    starts = np.unique(np.linspace(0, last, CLIPS).round().astype(int))
    wanted = sorted({int(start) + i for start in starts for i in range(length)})
    # A video may hold fewer frames than it says, so a clip has those that came.
    places = {sequence.frames.numbers[place]: place for place in wanted}
    frames = {places[frame.number]: frame for frame in sequence.frames.at(wanted)}
    clips = [[frames[start + i] for i in range(length) if start + i in frames] for start in starts]
    found = [pair for clip in clips if clip for pair in _compare(run, sequence, clip, gap)]
    if len(found) < MIN_PAIRS:
        return None
    error, ratio = np.median(found, axis=0)
    return MotionFit(float(error), float(ratio))


def _compare(
    run: Run, sequence: Sequence, clip: list[Frame], gap: int
) -> list[tuple[float, float]]:
    """Error and ratio of each of PoseNet's pairs in a clip that could be aligned."""
    assert sequence.camera is not None
    tracker = Odometry(run, sequence.camera, OdometrySettings(loops=False), gap=gap)
    tracked = [tracker.track(frame) for frame in clip]
    images = {i: run.prepare(clip[i].image)[None] for i in range(0, len(clip), gap)}
    with naming(clip[0]):
        depth = float(np.median(run.maps_of_frames(images[0], *images[0].shape[-2:])[0]))
    found = []
    for first in range(0, len(clip) - gap, gap):
        ends = tracked[first], tracked[first + gap]
        aligned = np.linalg.inv(ends[1].world_from_camera) @ ends[0].world_from_camera
        way = float(np.linalg.norm(aligned[:3, 3]))
        if not all(end.trusted and not end.segment for end in ends) or way < MIN_STEP * depth:
            continue
        with naming(clip[first + gap]):
            predicted = run.motions_of_frames(images[first], images[first + gap])[0]
        turn = Rotation.from_matrix(aligned[:3, :3].T @ predicted[:3, :3]).magnitude()
        away = float(np.linalg.norm(predicted[:3, 3] - aligned[:3, 3])) + float(turn) * depth
        found.append((away / way, way / max(float(np.linalg.norm(predicted[:3, 3])), 1e-9)))
    return found
