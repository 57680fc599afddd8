"""Score a run's trajectory against the poses of a data set."""

from typing import Literal

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Sequence
from egodepth.evaluation.odometry import TrajectoryAlignment
from egodepth.inference.arguments import check_run, footage_of
from egodepth.inference.odometry.track import TrackingInterrupted, track_sequence
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.inference.predict import predict_trajectory
from egodepth.inference.scoring.trajectory_files import (
    OdometryScores,
    compare_trajectories,
    unit_of_truth,
)
from egodepth.runs.run import Run


def evaluate_odometry(
    run: Run,
    sequence: Sequence,
    alignment: TrajectoryAlignment = "sim3",
    *,
    by: Literal["network", "alignment"] = "network",
) -> OdometryScores:
    """Estimate the trajectory of a sequence and score it against the ground-truth poses.

    Args:
        run: trained networks.
        sequence: footage with poses.
        alignment: of the estimate to the ground truth.
        by: ``network`` chains PoseNet's motions, ``alignment`` is direct alignment (``egodepth odometry``).

    Raises:
        EgodepthError: a sequence without poses, or broken frames.
    """
    check_run(run)
    sequence = footage_of(run, sequence)
    if sequence.world_from_camera is None:
        raise EgodepthError(f"{sequence.name} has no ground-truth poses")
    unit = unit_of_truth(sequence)
    if by == "alignment":
        try:
            found = track_sequence(run, sequence)
        except TrackingInterrupted as stop:
            raise KeyboardInterrupt from stop  # a part is not scored
        return score_found(found, sequence, alignment, f"direct alignment{unit}")
    chained = predict_trajectory(run, sequence)
    return score_found(chained, sequence, alignment, f"PoseNet's motions, chained{unit}")


def score_found(
    found: Trajectory, sequence: Sequence, alignment: TrajectoryAlignment, by: str
) -> OdometryScores:
    """Score a trajectory against the ground-truth poses of its footage, which must have some."""
    truth = found.true_poses(sequence)
    assert truth is not None
    return compare_trajectories(found.first_from_frame, truth, sequence.name, alignment, by)
