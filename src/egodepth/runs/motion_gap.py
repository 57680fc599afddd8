"""The gap between the frames of the pairs that a PoseNet was trained on."""

import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from egodepth.core.errors import EgodepthWarning

FACT = "motion_gap"
"""Its name in a run's run.json."""


@dataclass(frozen=True)
class MotionGap:
    """Gap between the two frames of a training pair, the median over all pairs.

    What PoseNet says of a pair does not shrink with the gap as the motion does, so that it is asked at this
    gap alone.

    Attributes:
        frames: of the training footage.
        seconds: None where the training footage had no times.
    """

    frames: int = 1
    seconds: float | None = None

    @classmethod
    def of_stride(cls, stride: int | Literal["auto"], run: str) -> "MotionGap":
        """That of a run of an older version, which kept but the stride of its settings; where that was chosen
        per video 1, with a warning."""
        if stride != "auto":
            return cls(stride)
        warnings.warn(
            f"{run} does not say how far apart its training's frames were (data.stride auto): PoseNet is asked "
            "for the motion between neighbours, and its path may be several times too long; train again",
            EgodepthWarning,
            stacklevel=3,
        )
        return cls()

    def facts(self) -> dict[str, Any]:
        """Entry for run.json."""
        return {FACT: asdict(self)}

    def in_frames(self, seconds_per_frame: float | None) -> int:
        """The gap in frames of some footage: as long in seconds, or where either has no times as many frames.

        Args:
            seconds_per_frame: of the footage; None where its times are unknown.
        """
        if self.seconds is None or not seconds_per_frame:
            return self.frames
        return max(1, round(self.seconds / seconds_per_frame))


def typical_gap(gaps: list[MotionGap], weights: list[int]) -> MotionGap:
    """Compute the weighted median of several clips' gaps; in seconds only where all of them have times.

    Args:
        gaps: at least one.
        weights: pairs of each clip.
    """
    frames = _median([gap.frames for gap in gaps], weights)
    seconds = [gap.seconds for gap in gaps if gap.seconds is not None]
    return MotionGap(
        round(frames), _median(seconds, weights) if len(seconds) == len(gaps) else None
    )


def _median(values: list[float] | list[int], weights: list[int]) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(np.maximum(np.array(weights)[order], 0))
    return float(np.array(values)[order][np.searchsorted(total, total[-1] / 2)])
