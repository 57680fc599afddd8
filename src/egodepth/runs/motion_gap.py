"""The gap between the two frames of a PoseNet's training pairs."""

import warnings
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from egodepth.core.errors import EgodepthWarning

FACT = "motion_gap"
"""Name of the gap in run.json."""


@dataclass(frozen=True)
class MotionGap:
    """Gap between the two frames of a training pair, the median over all pairs.

    PoseNet's predictions do not shrink with the gap as the true motion does, so it is used at this gap only.

    Attributes:
        frames: gap in frames of the training footage.
        seconds: gap in seconds; None if the training footage had no times.
    """

    frames: Annotated[int, Field(ge=1)] = 1
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @classmethod
    def of_stride(cls, stride: int | Literal["auto"], run: str) -> "MotionGap":
        """The gap of a run of an older version, which stored only the stride of its settings; 1, with a
        warning, if the stride was chosen per video."""
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
        """The gap in frames of other footage: the same number of seconds, or, if either has no times, the same
        number of frames.

        Args:
            seconds_per_frame: frame interval of the footage; None if its times are unknown.
        """
        if self.seconds is None or not seconds_per_frame:
            return self.frames
        return max(1, round(self.seconds / seconds_per_frame))


def typical_gap(gaps: list[MotionGap], weights: list[int]) -> MotionGap:
    """Compute the weighted median of several clips' gaps; in seconds only if all of them have times.

    Args:
        gaps: gap of each clip, at least one.
        weights: number of pairs of each clip.
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
