"""Depth protocols and metrics (Eigen et al., NeurIPS 2014)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from egodepth.core.errors import EgodepthError

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
LOW = "low_"
"""What metrics of the pixels with the least texture are marked with."""
LABELS = ("Abs Rel", "Sq Rel", "RMSE", "RMSE log", "d<1.25", "d<1.25^2", "d<1.25^3")


@dataclass(frozen=True)
class DepthProtocol:
    """How a prediction is compared with ground truth.

    Attributes:
        name: how it is called for.
        crop: ``garg``, or ``none`` for all pixels.
        min_depth, max_depth: ground truth outside is left out, predictions are clamped to it.
        median_scaling: scale each prediction by the ratio of medians, for monocular training.
        cameras: sides of a stereo rig that are scored.
    """

    name: str
    crop: str
    min_depth: float
    max_depth: float
    median_scaling: bool = True
    cameras: tuple[str, ...] = ("left",)

    def __str__(self) -> str:
        scale = "median scaling per image" if self.median_scaling else "no scaling"
        return (
            f"{self.name}: {self.crop} crop, {self.min_depth:g}-{self.max_depth:g} m, {scale}, "
            "prediction resized to the image, mean over images"
        )


PROTOCOLS = {
    "eigen": DepthProtocol("eigen", "garg", 1e-3, 80.0),
    "synthetic": DepthProtocol("synthetic", "none", 1e-3, 80.0),
    "indoor": DepthProtocol("indoor", "none", 0.1, 10.0),
}


def get_protocol(name: str) -> DepthProtocol:
    """A protocol by name.

    Raises:
        EgodepthError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise EgodepthError(f"unknown protocol {name!r}; use {' or '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def depth_metrics(prediction: Float[ndarray, "n"], truth: Float[ndarray, "n"]) -> dict[str, float]:
    """The seven usual metrics of N pixels: errors (lower is better) and shares of pixels whose
    ratio to the truth is within 1.25, 1.25^2, 1.25^3 (higher is better). Metres, all > 0."""
    ratio = np.maximum(prediction / truth, truth / prediction)
    error = prediction - truth
    return {
        "abs_rel": float(np.mean(np.abs(error) / truth)),
        "sq_rel": float(np.mean(error**2 / truth)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_log": float(np.sqrt(np.mean((np.log(prediction) - np.log(truth)) ** 2))),
        **{f"a{k}": float(np.mean(ratio < 1.25**k)) for k in (1, 2, 3)},
    }


def score_depth(
    prediction: Float[ndarray, "h w"],
    truth: Float[ndarray, "h2 w2"],
    protocol: DepthProtocol,
    texture: Float[ndarray, "h2 w2"] | None = None,
) -> dict[str, float]:
    """Metrics of one image, and ``scale``, the factor that the prediction was multiplied by.

    With texture also the metrics, named ``low_abs_rel`` and so on, of the third of the scored pixels
    that have the least of it; they share the scale of all.

    Args:
        prediction: depth > 0 at the size of the truth.
        truth: metres, 0 where unknown.
        protocol: crop, range, scaling.
        texture: of the image, see :func:`egodepth.evaluation.landscape.texture`.

    Raises:
        EgodepthError: different sizes, predictions that are no depths, or no truth in range.
    """
    if prediction.shape != truth.shape:
        raise EgodepthError(f"the prediction is {prediction.shape}, the ground truth {truth.shape}")
    mask = (truth > protocol.min_depth) & (truth < protocol.max_depth)
    if protocol.crop == "garg":
        mask &= garg_crop(*truth.shape)
    if not mask.any():
        raise EgodepthError("the ground truth has no pixel inside the crop and the range of depth")
    predicted = prediction[mask].astype(np.float64)
    true = truth[mask].astype(np.float64)
    if not (np.isfinite(predicted).all() and (predicted > 0).all()):
        raise EgodepthError("the prediction holds values that are no depths (zero, negative, nan)")
    scale = float(np.median(true) / np.median(predicted)) if protocol.median_scaling else 1.0
    clamped = np.clip(predicted * scale, protocol.min_depth, protocol.max_depth)
    scores = {**depth_metrics(clamped, true), "scale": scale}
    if texture is not None:
        low = texture[mask] <= np.percentile(texture[mask], 100 / 3)
        scores |= {LOW + n: v for n, v in depth_metrics(clamped[low], true[low]).items()}
    return scores


def summarize_depth(per_image: list[dict[str, float]]) -> dict[str, float]:
    """Means over images, also of the pixels with little texture where they were scored; the number of
    images; and the spread of the scales (standard deviation over median), 0 for one consistent scale.

    Raises:
        EgodepthError: no images.
    """
    if not per_image:
        raise EgodepthError("no frame has ground truth: there is nothing to score")
    names = [name for name in per_image[0] if name.removeprefix(LOW) in METRICS]
    summary = {name: float(np.mean([scores[name] for scores in per_image])) for name in names}
    scales = np.array([scores["scale"] for scores in per_image])
    return {
        **summary,
        "images": len(per_image),
        "scale_median": float(np.median(scales)),
        "scale_spread": float(np.std(scales / np.median(scales))),
    }


def garg_crop(height: int, width: int) -> Bool[ndarray, "h w"]:
    """The part of KITTI images that Garg et al. (ECCV 2016) score, without sky and bonnet."""
    mask = np.zeros((height, width), bool)
    rows = slice(int(0.40810811 * height), int(0.99189189 * height))
    mask[rows, int(0.03594771 * width) : int(0.96405229 * width)] = True
    return mask
