"""Score how still depth is over footage, without ground truth."""

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.prefetch import prefetch
from egodepth.data.sequence import Sequence, place_of_number
from egodepth.evaluation.temporal import PairStillness, score_pair, summarize_stillness
from egodepth.geometry.trajectory import poses_at, read_trajectory
from egodepth.inference.odometry.track import TrackingInterrupted, track_sequence
from egodepth.inference.pose_scale import scale_of_poses, working_size
from egodepth.inference.scoring.depth_scores import Predictor, RunPredictor

MAX_WIDTH = 640
"""Width in pixels at which depth maps are compared; wider ones are reduced to it."""
MAX_APART = 0.02
"""Largest time in seconds between a frame and its pose in a trajectory file."""


@dataclass(frozen=True)
class Stillness:
    """How still depth is.

    Attributes:
        summary: over all pairs of frames, see :func:`summarize_stillness`.
        sequences: the same for each sequence by its name.
        caption: where the motion is from, in words.
    """

    summary: dict[str, Any]
    sequences: dict[str, dict[str, Any]]
    caption: str

    def to_json(self) -> dict[str, Any]:
        """Content for ``--json``."""
        return {**self.summary, "sequences": self.sequences, "protocol": self.caption}


def evaluate_stillness(
    predictor: Predictor,
    sequences: list[Sequence],
    *,
    trajectory: Path | None = None,
    scaled: bool = True,
) -> Stillness:
    """Score the depth of each frame, moved to the next frame by the camera's motion, against the next frame's.

    The motion is that of the trajectory file; without one, of the footage's own poses; without these, a run's
    own odometry. One factor on its translations brings it to the unit of depth, found by how well the images
    agree.

    Args:
        predictor: predicts depth.
        sequences: footage, with cameras.
        trajectory: file in KITTI, TUM or EuRoC format, for one sequence.
        scaled: whether to find the factor; otherwise depth and poses are taken to be in the same unit.

    Raises:
        EgodepthError: no motion, no camera, or nothing that can be compared.
    """
    if trajectory is not None and len(sequences) > 1:
        names = ", ".join(sequence.name for sequence in sequences[:6])
        raise EgodepthError(
            f"--trajectory is for one sequence, and there are {len(sequences)}: choose one by --sequence "
            f"({names})"
        )
    pairs: list[PairStillness] = []
    summaries, origins = {}, []
    for sequence in sequences:
        if sequence.camera is None:
            raise EgodepthError(
                f"{sequence.name} has no camera, which its motion needs: put a camera.yaml beside it"
            )
        numbers = predictor.numbers(sequence)
        predictor.check(sequence, numbers, scaled=True)
        poses, origin = _poses(predictor, sequence, trajectory)
        if scaled and not origin.startswith("the run"):
            depth_of = partial(predictor.predict, sequence)
            factor = scale_of_poses(sequence, poses, depth_of, numbers)
            origin += f", lengths times {factor:.4g}"
            poses = poses.copy()
            poses[:, :3, 3] *= factor
        found = list(_pairs(predictor, sequence, poses, numbers))
        pairs += found
        origins.append(origin)
        if found:
            summaries[sequence.name] = summarize_stillness(found)
    caption = "depth of each frame moved to the next by " + "; ".join(dict.fromkeys(origins[:3]))
    return Stillness(summarize_stillness(pairs), summaries, caption)


def _poses(
    predictor: Predictor, sequence: Sequence, trajectory: Path | None
) -> tuple[np.ndarray, str]:
    """Poses by position, and where they are from, in words."""
    if trajectory is not None:
        return _poses_of_file(trajectory, sequence), f"the motion in {trajectory.name}"
    if sequence.world_from_camera is not None:
        return sequence.world_from_camera, "the footage's poses"
    if not isinstance(predictor, RunPredictor):
        raise EgodepthError(
            f"{sequence.name} has no poses: give --trajectory FILE, for example the trajectory_kitti.txt of "
            "`egodepth odometry`"
        )
    try:
        tracked = track_sequence(predictor.run, sequence)
    except TrackingInterrupted as stop:
        raise KeyboardInterrupt from stop  # a part is not scored
    poses = np.full((len(sequence.frames), 4, 4), np.nan)
    places = place_of_number(sequence.frames)
    poses[[places[number] for number in tracked.numbers]] = tracked.poses
    return poses, "the run's own odometry"


def _poses_of_file(path: Path, sequence: Sequence) -> np.ndarray:
    recorded, times = read_trajectory(path), sequence.frames.times
    count = len(sequence.frames)
    if len(recorded.poses) == count:
        return recorded.poses
    if recorded.times is None or times is None:
        raise EgodepthError(
            f"{path} has {len(recorded.poses)} poses, {sequence.name} {count} frames: give a pose per frame, "
            "or times on both sides"
        )
    known = np.isfinite(recorded.poses).all((1, 2))
    poses = poses_at(times, recorded.times[known], recorded.poses[known], MAX_APART)
    found = int(np.isfinite(poses).all((1, 2)).sum())
    if found < 2:
        raise EgodepthError(
            f"only {found} of {count} frames of {sequence.name} have a pose in {path} within {MAX_APART:g} s"
        )
    if found < count:
        text = f"{path} has a pose for {found} of {count} frames of {sequence.name}"
        warnings.warn(text, EgodepthWarning, stacklevel=3)
    return poses


def _pairs(
    predictor: Predictor, sequence: Sequence, poses: np.ndarray, numbers: list[int]
) -> list[PairStillness]:
    assert sequence.camera is not None
    size = working_size(sequence, MAX_WIDTH)
    camera = sequence.camera.resize(*size)
    places = place_of_number(sequence.frames)
    wanted = [places[n] for n in numbers if np.isfinite(poses[places[n]]).all()]
    before: tuple[int, np.ndarray] | None = None
    found = []
    frames = prefetch(sequence.frames.at(sorted(wanted)))
    for frame in progress.track(frames, f"scoring stillness of {sequence.name}", len(wanted)):
        depth = predictor.predict(sequence, frame, size)
        if before is not None and frame.number - before[0] == 1:
            last, this = poses[places[before[0]]], poses[places[frame.number]]
            pair = score_pair(before[1], depth, np.linalg.inv(this) @ last, camera)
            found += [pair] if pair is not None else []
        before = frame.number, depth
    return found
