"""Metrics of predicted deviations of depth: sparsification and coverage.

Sparsification follows Poggi et al., "On the uncertainty of self-supervised monocular depth estimation", CVPR
2020: the least sure pixels are left out step by step, and the error of the others should fall. The oracle
leaves out the pixels with the largest errors first.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from egodepth.core.errors import EgodepthError
from egodepth.evaluation.depth import DepthProtocol, scaled_depth, scored_pixels

STEPS = 50
"""Number of steps in which all pixels are left out."""
SURE_SHARE = 0.8
"""Share of the pixels, the surest ones, of ``sure_abs_rel``."""
LEFT_OUT = np.linspace(0, 1, STEPS + 1)
"""Shares of pixels left out at the points of a sparsification curve."""


@dataclass(frozen=True)
class Sparsification:
    """Error of the remaining pixels while the least sure ones are left out.

    Attributes:
        curve: error at each of :data:`LEFT_OUT`; 0 where all pixels are left out.
        oracle: the same when the pixels with the largest errors are left out first.
    """

    curve: Float[ndarray, "k"]
    oracle: Float[ndarray, "k"]

    @property
    def ause(self) -> float:
        """Area between the curve and the oracle's; 0 is perfect."""
        return float(np.trapezoid(self.curve - self.oracle, LEFT_OUT))

    @property
    def aurg(self) -> float:
        """Area between the error of all pixels, which random order would keep, and the curve; 0 or less: no
        better than chance. Like both curves, random order ends at 0; in the paper's code it does not, which
        adds half a step times the error of all pixels."""
        by_chance = np.append(np.full(len(self.curve) - 1, self.curve[0]), 0.0)
        return float(np.trapezoid(by_chance - self.curve, LEFT_OUT))


def sparsify(
    cost: Float[ndarray, "n"], uncertainty: Float[ndarray, "n"], *, root: bool = False
) -> Sparsification:
    """Compute the sparsification curve of N pixels. Pixels that tie are left out together.

    Args:
        cost: error of each pixel; squared if ``root``.
        uncertainty: of each pixel, in any unit: only its order counts.
        root: whether the error of several pixels is the root of their mean cost.
    """
    return Sparsification(*(_curve(cost, order, root=root) for order in (uncertainty, cost)))


def _curve(
    cost: Float[ndarray, "n"], order: Float[ndarray, "n"], *, root: bool
) -> Float[ndarray, "k"]:
    by_order = np.argsort(order, kind="stable")
    ranked, sums = order[by_order], np.cumsum(cost[by_order], dtype=np.float64)
    thresholds = np.percentile(ranked, 100 * (1 - LEFT_OUT[:-1]))
    kept = np.maximum(np.searchsorted(ranked, thresholds, side="right"), 1)
    means = np.append(sums[kept - 1] / kept, 0.0)
    return np.sqrt(means) if root else means


def sparsify_depth(
    prediction: Float[ndarray, "n"], truth: Float[ndarray, "n"], uncertainty: Float[ndarray, "n"]
) -> dict[str, Sparsification]:
    """Sparsification of Abs Rel and RMSE of N pixels with depths > 0, in the same unit."""
    error = np.abs(prediction - truth)
    return {
        "abs_rel": sparsify(error / truth, uncertainty),
        "rmse": sparsify(error**2, uncertainty, root=True),
    }


@dataclass(frozen=True)
class ConfidenceScores:
    """Scores of the predicted standard deviations of log depth of one image, or means over images.

    Attributes:
        curves: sparsification of ``abs_rel`` and ``rmse``.
        metrics: ``ause_abs_rel``, ``aurg_abs_rel``, ``ause_rmse`` and ``aurg_rmse``, see
            :class:`Sparsification`; ``sure_abs_rel``: Abs Rel without the least sure fifth of the pixels;
            ``coverage_1`` and ``coverage_2``: shares of the pixels whose log depth is within one and two
            deviations of the truth, 0.68 and 0.95 if the deviation means what it says.
    """

    curves: dict[str, Sparsification]
    metrics: dict[str, float]


def score_confidence(
    prediction: Float[ndarray, "n"], truth: Float[ndarray, "n"], deviation: Float[ndarray, "n"]
) -> ConfidenceScores:
    """Score the predicted standard deviation of log depth of N pixels.

    Args:
        prediction, truth: depths > 0 in the same unit.
        deviation: of the log of the prediction.

    Raises:
        EgodepthError: deviations that are negative or not finite.
    """
    if not (np.isfinite(deviation) & (deviation >= 0)).all():
        raise EgodepthError("the confidence holds values that are no deviations (negative, nan)")
    metrics: dict[str, float] = {}
    curves = sparsify_depth(prediction, truth, deviation)
    for name, found in curves.items():
        metrics |= {f"ause_{name}": found.ause, f"aurg_{name}": found.aurg}
    left_out = int(np.argmin(np.abs(LEFT_OUT - (1 - SURE_SHARE))))
    metrics["sure_abs_rel"] = float(curves["abs_rel"].curve[left_out])
    error = np.abs(np.log(prediction) - np.log(truth))
    metrics |= {f"coverage_{k}": float(np.mean(error <= k * deviation)) for k in (1, 2)}
    return ConfidenceScores(curves, metrics)


def score_deviation(
    deviation: Float[ndarray, "h w"],
    prediction: Float[ndarray, "h w"],
    truth: Float[ndarray, "h w"],
    protocol: DepthProtocol,
    scale: float,
    shift: float = 0.0,
) -> ConfidenceScores:
    """Score the deviation of an image over the pixels that a protocol scores.

    Args:
        deviation: predicted standard deviation of log depth.
        prediction, truth, protocol: as in :func:`egodepth.evaluation.depth.score_depth`.
        scale, shift: which that found for the prediction.

    Raises:
        EgodepthError: deviations of another size, or that are negative or not finite.
    """
    if deviation.shape != truth.shape:
        raise EgodepthError(f"the confidence is {deviation.shape}, the ground truth {truth.shape}")
    truth = np.where(np.isfinite(truth), truth, 0)
    mask = scored_pixels(prediction, truth, protocol)
    scaled = scaled_depth(prediction.astype(np.float64), scale, shift, protocol)
    return score_confidence(
        scaled[mask], truth[mask].astype(np.float64), deviation[mask].astype(np.float64)
    )


def mean_curves(scores: list[ConfidenceScores]) -> dict[str, Sparsification]:
    """Mean of the sparsification curves of images."""
    return {
        name: Sparsification(
            np.mean([each.curves[name].curve for each in scores], axis=0),
            np.mean([each.curves[name].oracle for each in scores], axis=0),
        )
        for name in (scores[0].curves if scores else {})
    }
