"""Score a trajectory file against another file or the poses of a data set; needs no PyTorch."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.evaluation.odometry import (
    MIN_POSES,
    TrajectoryAlignment,
    describe,
    rotations_look_transposed,
    score_trajectory,
)
from egodepth.geometry.trajectory import (
    RecordedTrajectory,
    associate,
    is_frame_count,
    read_trajectory,
)

if TYPE_CHECKING:
    from egodepth.data.sequence import Sequence


@dataclass(frozen=True)
class OdometryScores:
    """Scores of one trajectory.

    Attributes:
        summary: see :func:`score_trajectory`.
        estimate, truth: (N, 4, 4) poses ``world_from_camera``, the estimate in its own unit.
        sequence: name of the sequence.
        alignment: of the estimate to the ground truth.
        by: method of the estimate, in words.
    """

    summary: dict[str, float]
    estimate: np.ndarray
    truth: np.ndarray
    sequence: str
    alignment: TrajectoryAlignment = "sim3"
    by: str = "PoseNet's motions, chained"

    @property
    def complete(self) -> bool:
        """Whether every frame has a pose that is scored."""
        return self.summary["frames"] == self.summary["of_frames"]

    @property
    def caption(self) -> str:
        """The protocol in words."""
        return f"{self.by}; {describe(self.alignment, self.summary)}"

    def to_json(self) -> dict[str, Any]:
        """Content for ``--json``."""
        return {**self.summary, "sequence": self.sequence, "alignment": self.alignment,
                "protocol": self.caption, "complete": self.complete}  # fmt: skip


def unit_of_truth(truth: "Sequence") -> str:
    """Remark on the unit of ground-truth poses if it is not metres; otherwise empty."""
    from egodepth.data.footage.own_footage import POSES_UNIT

    return "" if truth.metric_poses else f", lengths in {POSES_UNIT}, not metres"


def compare_trajectories(
    estimate: np.ndarray, truth: np.ndarray, name: str, alignment: TrajectoryAlignment, by: str
) -> OdometryScores:
    """Score poses (N, 4, 4) against corresponding ones; frames without a pose (NaN) on either side are left
    out."""
    scores = score_trajectory(estimate, truth, alignment)
    known = np.isfinite(truth).all((1, 2)) & np.isfinite(estimate).all((1, 2))
    if rotations_look_transposed(estimate[known], truth[known]):
        warnings.warn(
            f"the estimated rotations fit those of {name} only when transposed: one of the two seems to hold "
            "poses from world to camera, or conjugate quaternions; positions are scored as they are",
            EgodepthWarning,
            stacklevel=2,
        )
    if not known.all():
        by += f", {known.sum()} of {len(known)} poses"
    return OdometryScores(scores, estimate[known], truth[known], name, alignment, by)


MIN_ASSOCIATED_SHARE = 0.25
"""Smallest share of the shorter trajectory's poses that must be associated; fewer may be chance."""
WHOLE = 0.95
"""Share of the truth's duration below which an estimate is said to cover a part of it."""
LONGER = 1.5
"""Ratio of durations above which consecutive integers as times are taken for frame numbers."""


def evaluate_trajectory_file(
    path: Path,
    truth: "Path | Sequence",
    alignment: TrajectoryAlignment = "sim3",
    apart: float = 0.02,
) -> OdometryScores:
    """Score a trajectory in KITTI, TUM or EuRoC format against another file or the poses of a sequence.

    If both have times, poses are associated with the nearest in time, each once and at most ``apart`` seconds
    apart; otherwise they are paired in order and their numbers must be equal.

    Raises:
        EgodepthError: broken files, or poses that do not belong together.
    """
    found = read_trajectory(path)
    if isinstance(truth, Path):
        true, name = read_trajectory(truth), truth.name
    elif truth.world_from_camera is None:
        raise EgodepthError(f"{truth.name} has no ground-truth poses")
    else:
        name = truth.name
        true = RecordedTrajectory(
            truth.frames.times, truth.world_from_camera, f"the data set's{unit_of_truth(truth)}"
        )
    by = f"{path} as {found.form}, truth {name} as {true.form}"
    if found.times is None or true.times is None:
        return compare_trajectories(
            found.poses, true.poses, name, alignment, f"{by}, paired in order"
        )
    estimate, times = _known_poses(found)
    poses, true_times = _known_poses(true)
    pairs = associate(times, true_times, apart)
    _check_association(path, times, name, true_times, pairs, apart)
    by += (
        f", {len(pairs)} of {len(found.times)} poses associated with one of {len(true.times)} true ones "
        f"within {apart:g} s"
    )
    covered = np.ptp(true_times[pairs[:, 1]]) / np.ptp(true_times)
    if covered < WHOLE:
        by += f", over {100 * covered:.0f} % of its time"
    scores = compare_trajectories(estimate[pairs[:, 0]], poses[pairs[:, 1]], name, alignment, by)
    # A data set has one true pose for each frame; a file may come from a faster instrument.
    per_frame = len(poses) if not isinstance(truth, Path) else 0
    wanted = max(min(len(found.times), len(poses)), per_frame)
    return replace(scores, summary=scores.summary | {"of_frames": wanted})


def _known_poses(trajectory: RecordedTrajectory) -> tuple[np.ndarray, np.ndarray]:
    """The poses that are not NaN, and their times."""
    assert trajectory.times is not None
    known = np.isfinite(trajectory.poses).all((1, 2))
    return trajectory.poses[known], trajectory.times[known]


def _check_association(
    path: Path,
    times: np.ndarray,
    name: str,
    true_times: np.ndarray,
    pairs: np.ndarray,
    apart: float,
) -> None:
    """Check that enough poses are associated, and name the likely reason if not.

    Raises:
        EgodepthError: too few pairs, or times on one side that are frame numbers.
    """
    span, true_span = np.ptp(times), np.ptp(true_times)
    ranges = (
        f"{path} has {times[0]:.3f} to {times[-1]:.3f} s, {name} {true_times[0]:.3f} to "
        f"{true_times[-1]:.3f} s"
    )
    for what, one, other in ((path, times, true_times), (name, true_times, times)):
        if is_frame_count(one) and np.ptp(one) > LONGER * np.ptp(other):
            raise EgodepthError(
                f"the times of {what} are frame numbers, not seconds: {ranges}; write times in seconds, "
                "or both files in KITTI format"
            )
    if len(pairs) >= max(MIN_POSES, MIN_ASSOCIATED_SHARE * min(len(times), len(true_times))):
        return
    ratio = max(span, true_span) / max(min(span, true_span), 1e-9)
    units = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
    unit = next((u for size, u in units.items() if size / 2 < ratio < size * 2), None)
    hint = f"one of them may be in {unit}; " if unit else ""
    raise EgodepthError(
        f"only {len(pairs)} of {len(times)} poses of {path} are within {apart:g} s of one of the "
        f"{len(true_times)} of {name}: {ranges}; {hint}use --max_apart, or files in KITTI format"
    )
