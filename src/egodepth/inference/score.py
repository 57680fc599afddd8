"""A run scored against the ground truth of a data set."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Sequence
from egodepth.evaluation.depth import DepthProtocol, score_depth, summarize_depth
from egodepth.evaluation.odometry import PROTOCOL, score_trajectory
from egodepth.inference.predict import predict_sequence
from egodepth.inference.run import Run


@dataclass(frozen=True)
class DepthScores:
    """Depth scores of a set of images.

    Attributes:
        summary: means over images, see :func:`summarize_depth`.
        constant: the same for a constant depth, scaled like the prediction.
        protocol: in words.
    """

    summary: dict[str, float]
    constant: dict[str, float]
    protocol: str

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` writes: metrics at the top level, the constant guess below ``constant``."""
        return {**self.summary, "constant": self.constant, "protocol": self.protocol}


def evaluate_depth(
    run: Run,
    sequences: list[Sequence],
    protocol: DepthProtocol,
    on_image: Callable[[], None] = lambda: None,
) -> DepthScores:
    """Score every frame that has ground-truth depth, of the cameras that the protocol names.

    Raises:
        EgodepthError: no ground truth, or broken frames.
    """

    def pairs() -> Iterator[Pair]:
        for sequence in sequences:
            if sequence.camera_name not in protocol.cameras:
                continue
            indices = sorted(sequence.depth)
            for index, frame in zip(indices, sequence.frames.at(indices), strict=False):
                yield run.depth(frame.image), sequence.depth[index](), run.texture(frame.image)
                on_image()

    note = f"; {run.refined}" if run.refined else ""
    try:
        return score_pairs(pairs(), protocol, note)
    except NoTruthError as error:
        names = ", ".join(f"{s.name} ({s.camera_name})" for s in sequences[:6])
        raise EgodepthError(f"no ground-truth depth in these sequences: {names}") from error


class NoTruthError(EgodepthError):
    """There is nothing to compare with."""


Pair = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Depth, ground truth, and texture of the frame, (H, W) each."""


def score_pairs(pairs: Iterable[Pair], protocol: DepthProtocol, note: str = "") -> DepthScores:
    """Score predictions against ground truth; ``note`` is added to the protocol.

    Raises:
        NoTruthError: no pairs.
    """
    scores, constant = [], []
    for prediction, truth, local in pairs:
        scores.append(score_depth(prediction, truth, protocol, local))
        guess = np.full_like(truth, np.median(truth[truth > 0]))
        constant.append(score_depth(guess, truth, protocol, local))
    if not scores:
        raise NoTruthError("no frame has ground truth: there is nothing to score")
    return DepthScores(summarize_depth(scores), summarize_depth(constant), str(protocol) + note)


@dataclass(frozen=True)
class OdometryScores:
    """Scores of one trajectory.

    Attributes:
        summary: see :func:`score_trajectory`.
        estimate, truth: (N, 4, 4) poses ``world_from_camera``, the estimate in the run's unit.
        sequence: its name.
    """

    summary: dict[str, float]
    estimate: np.ndarray
    truth: np.ndarray
    sequence: str

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {**self.summary, "sequence": self.sequence, "protocol": PROTOCOL}


def evaluate_odometry(
    run: Run, sequence: Sequence, on_image: Callable[[], None] = lambda: None
) -> OdometryScores:
    """Chain PoseNet's motions over a sequence and compare with its poses.

    Raises:
        EgodepthError: a sequence without poses, or broken frames.
    """
    if sequence.world_from_camera is None:
        raise EgodepthError(f"{sequence.name} has no ground-truth poses")
    poses = []
    for prediction in predict_sequence(run, sequence, with_depth=False):
        poses.append(prediction.first_from_frame)
        on_image()
    estimate = np.stack(poses)
    truth = sequence.world_from_camera
    return OdometryScores(score_trajectory(estimate, truth), estimate, truth, sequence.name)
