"""Depth protocols and metrics.

Metrics follow Eigen et al., "Depth map prediction from a single image", NeurIPS 2014, and KITTI's depth
benchmark.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from egodepth.core.errors import EgodepthError
from egodepth.core.suggestions import did_you_mean
from egodepth.evaluation.shape import edge_scores, f_score

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
LABELS = ("Abs Rel", "Sq Rel", "RMSE", "RMSE log", "d<1.25", "d<1.25^2", "d<1.25^3")
MORE = ("silog", "log10", "f_score", "edge_accuracy", "edge_completeness", "ground_too_far")
MORE_LABELS = (
    "SILog", "log10", "F-score", "edge acc. (px)", "edge compl. (px)", "ground too far",
)  # fmt: skip
CONFIDENCE = (
    "ause_abs_rel", "aurg_abs_rel", "ause_rmse", "aurg_rmse", "sure_abs_rel", "coverage_1", "coverage_2",
)  # fmt: skip
"""Metrics of predicted deviations, see :mod:`egodepth.evaluation.confidence`."""
CONFIDENCE_LABELS = (
    "AUSE Abs Rel", "AURG Abs Rel", "AUSE RMSE", "AURG RMSE", "Abs Rel of surest 80 %", "within 1 dev.",
    "within 2 dev.",
)  # fmt: skip
TOO_FAR = 1.5
"""Ratio of predicted to true depth at which a ground pixel counts as a hole in the ground."""
LOW = "low_"
"""Prefix of metrics of the pixels with the least texture."""

Crop = Literal["none", "garg", "eigen", "nyu", "cityscapes"]
CROPS: dict[Crop, tuple[float, float, float, float]] = {
    "none": (0, 1, 0, 1),
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
    "cityscapes": (256 / 768, 1, 192 / 2048, 1856 / 2048),
}
"""Top, bottom, left, right as fractions of the height and width. garg: Garg et al., ECCV 2016; eigen: Eigen
et al.; nyu: the toolbox's, without the white frame; cityscapes: for images without their lowest quarter."""

Scaling = Literal["median", "set_median", "affine", "affine_inverse", "none", "baseline"]
SCALINGS: dict[Scaling, str] = {
    "median": "each image scaled by the ratio of medians",
    "set_median": "all images scaled by one factor, the median of the images' ratios of medians",
    "affine": "least-squares scale and shift of depth for each image",
    "affine_inverse": "least-squares scale and shift of inverse depth for each image",
    "none": "no scaling",
    "baseline": "scaled by 5.4, from the unit of networks trained with a stereo baseline of 0.1 to metres",
}
KITTI_BASELINE = 5.4


Truth = Literal["depth", "improved", "lidar_forward"]
TRUTHS: dict[Truth, str] = {
    "depth": "the data set's depth",
    "improved": "improved depth maps",
    "lidar_forward": "LiDAR by its own forward distance, as published (vel_depth)",
}


@dataclass(frozen=True)
class DepthProtocol:
    """A protocol for comparing predictions with ground truth.

    Attributes:
        name: name of the protocol.
        max_depth: ground truth from ``min_depth`` to below ``max_depth`` is scored; predictions are clamped
            to this range.
        beyond: whether ground truth beyond ``max_depth`` is scored too.
        crop: part of the image that is scored.
        scaling: how predictions of unknown scale are scaled.
        truth: which ground truth is used, see :data:`TRUTHS`.
        split: name of the frames that are scored; None for all with ground truth.
        images: number of frames of the split with this ground truth, if known.
        min_depth: see ``max_depth``.
        cameras: sides of a stereo rig that are scored.
        near: distance threshold of the F-score in metres.
        flip: whether the prediction is averaged with that of the mirrored image.
    """

    name: str
    max_depth: float
    crop: Crop = "none"
    scaling: Scaling = "median"
    truth: Truth = "depth"
    split: str | None = None
    images: int | None = None
    min_depth: float = 1e-3
    cameras: tuple[str, ...] = ("left",)
    near: float = 0.5
    flip: bool = False
    beyond: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_depth < self.max_depth:
            raise EgodepthError(
                f"protocol {self.name}: max_depth must be above its min_depth, {self.min_depth:g} m, got "
                f"{self.max_depth:g}"
            )

    def __str__(self) -> str:
        low, high = f"{self.min_depth:g}", f"{self.max_depth:g} m"
        scored = (
            f"from {low} m on, predictions clamped to {high}" if self.beyond else f"{low} to {high}"
        )
        frames = f"split {self.split}" if self.split else "all frames with depth"
        parts = [
            f"{self.name}: {TRUTHS[self.truth]}",
            f"{frames} ({' and '.join(self.cameras)} camera)",
            "no crop" if self.crop == "none" else f"{self.crop} crop",
            scored,
            SCALINGS[self.scaling],
            "prediction resized to the ground truth, bilinear in inverse depth",
            *(["averaged with the mirrored image's"] if self.flip else []),
            "mean over images",
        ]
        return ", ".join(parts)


PROTOCOLS = {
    p.name: p
    for p in (
        DepthProtocol("eigen", 80.0, "garg", "median", "lidar_forward", "eigen_test", 697),
        DepthProtocol("eigen-50", 50.0, "garg", "median", "lidar_forward", "eigen_test", 697),
        DepthProtocol("eigen-stereo", 80.0, "garg", "none", "lidar_forward", "eigen_test", 697),
        DepthProtocol("eigen-camera-z", 80.0, "garg", split="eigen_test", images=697),
        DepthProtocol(
            "eigen-improved", 80.0, truth="improved", split="eigen_test", images=652, beyond=True
        ),
        DepthProtocol("kitti", 80.0, "garg"),
        DepthProtocol(
            "kitti-benchmark", 80.0, scaling="none", cameras=("left", "right"), images=1000
        ),
        DepthProtocol("cityscapes", 80.0, "cityscapes", split="cityscapes_test", images=1525),
        DepthProtocol("nyu", 10.0, "nyu", split="nyu_test", images=654, near=0.1),
        DepthProtocol("7scenes", 10.0, min_depth=0.1, split="seven_scenes_test", near=0.1),
        DepthProtocol("indoor", 10.0, min_depth=0.1, near=0.1),
        DepthProtocol("eth3d", 80.0, scaling="none", near=0.1),
        DepthProtocol("make3d-c1", 70.0),
        DepthProtocol("make3d-c2", math.inf),
        DepthProtocol("synthetic", 80.0),
    )
}


def get_protocol(name: str) -> DepthProtocol:
    """Return a protocol by name.

    Raises:
        EgodepthError: there is no protocol with this name.
    """
    if name not in PROTOCOLS:
        raise EgodepthError(f"unknown protocol {name!r}; {did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def depth_metrics(prediction: Float[ndarray, "n"], truth: Float[ndarray, "n"]) -> dict[str, float]:
    """Compute metrics of N pixels with depths > 0 in metres.

    The seven usual ones: ``abs_rel``, ``sq_rel``, ``rmse``, ``rmse_log`` (lower is better), and ``a1`` to
    ``a3``, the shares of pixels whose ratio to the truth is within 1.25, 1.25^2, 1.25^3 (higher is better).
    ``silog``: 100 times the standard deviation of the log ratio; ``log10``: mean absolute difference of
    decimal logarithms.
    """
    ratio = np.maximum(prediction / truth, truth / prediction)
    error = prediction - truth
    log_error = np.log(prediction) - np.log(truth)
    return {
        "abs_rel": float(np.mean(np.abs(error) / truth)),
        "sq_rel": float(np.mean(error**2 / truth)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_log": float(np.sqrt(np.mean(log_error**2))),
        **{f"a{k}": float(np.mean(ratio < 1.25**k)) for k in (1, 2, 3)},
        "silog": 100 * float(np.std(log_error)),
        "log10": float(np.mean(np.abs(log_error))) / math.log(10),
    }


def score_depth(
    prediction: Float[ndarray, "h w"],
    truth: Float[ndarray, "h2 w2"],
    protocol: DepthProtocol,
    texture: Float[ndarray, "h2 w2"] | None = None,
    *,
    rays: Float[ndarray, "h2 w2 3"] | None = None,
    ground: Bool[ndarray, "h2 w2"] | None = None,
    set_scale: float | None = None,
) -> dict[str, float]:
    """Compute the metrics of one image, with ``scale``, the factor applied to the prediction (to its inverse
    depth with ``affine_inverse``), and ``pixels``, the number of scored pixels.

    With texture, also the metrics ``low_abs_rel`` and so on of the third of the scored pixels with the least
    texture, with the scale fitted to all pixels. With rays, also ``f_score``. With ground, also
    ``ground_too_far``, the share of the scored ground pixels predicted :data:`TOO_FAR` times too far or more,
    if there are any. With dense ground truth, also ``edge_accuracy`` and ``edge_completeness``, see
    :mod:`egodepth.evaluation.shape`.

    Args:
        prediction: depth > 0 at the size of the truth; infinity (a disparity of 0) counts as the
            protocol's maximum depth.
        truth: metres, 0 or not finite where unknown.
        protocol: crop, range and scaling.
        texture: texture of the image, see :func:`egodepth.evaluation.landscape.texture`.
        rays: rays of the pixels with z = 1.
        ground: mask of the pixels on level ground.
        set_scale: the factor for the scaling ``set_median``.

    Raises:
        EgodepthError: different sizes, invalid predicted depths, or no ground truth in range.
    """
    truth = np.where(np.isfinite(truth), truth, 0)
    mask = scored_pixels(prediction, truth, protocol)
    predicted = prediction[mask].astype(np.float64)
    true = truth[mask].astype(np.float64)
    scale, shift = _fit(predicted, true, protocol, set_scale)
    scaled = scaled_depth(prediction.astype(np.float64), scale, shift, protocol)
    clamped = scaled[mask]
    scores = {**depth_metrics(clamped, true), "scale": scale, "pixels": float(mask.sum())}
    if protocol.scaling.startswith("affine"):
        scores["shift"] = shift
    if texture is not None:
        low = has_least_texture(texture[mask])
        scores |= {LOW + n: v for n, v in depth_metrics(clamped[low], true[low]).items()}
    if rays is not None:
        scores["f_score"] = f_score(
            rays[mask] * clamped[:, None], rays[mask] * true[:, None], protocol.near
        )
    if ground is not None and ground[mask].any():
        holes = clamped >= TOO_FAR * true
        scores["ground_too_far"] = float(holes[ground[mask]].mean())
    return scores | edge_scores(scaled, truth, mask)


def has_least_texture(texture: Float[ndarray, "n"]) -> Bool[ndarray, "n"]:
    """Which of the scored pixels of an image are among the third with the least texture."""
    return texture <= np.percentile(texture, 100 / 3)


def scored_pixels(
    prediction: Float[ndarray, "h w"], truth: Float[ndarray, "h2 w2"], protocol: DepthProtocol
) -> Bool[ndarray, "h2 w2"]:
    """Mask of the pixels that a protocol scores.

    Raises:
        EgodepthError: different sizes, invalid predicted depths, or no ground truth in range.
    """
    if prediction.shape != truth.shape:
        raise EgodepthError(f"the prediction is {prediction.shape}, the ground truth {truth.shape}")
    farthest = math.inf if protocol.beyond else protocol.max_depth
    mask = (truth > protocol.min_depth) & (truth < farthest)
    mask &= crop_mask(protocol.crop, *truth.shape)
    if not mask.any():
        known = truth[(truth > 0) & np.isfinite(truth)]
        beyond = len(known) and known.min() >= farthest
        hint = f": it starts at {known.min():g}; is it in millimetres?" if beyond else ""
        raise EgodepthError(
            f"the ground truth has no pixel inside the crop and the range of depth{hint}"
        )
    values = prediction[mask]
    if not (values > 0).all():
        raise EgodepthError("the prediction holds values that are no depths (zero, negative, nan)")
    infinite = np.isinf(values).mean()
    if infinite >= 0.5:
        raise EgodepthError(f"{100 * infinite:.0f} % of the prediction is infinitely far")
    if infinite and protocol.max_depth == math.inf:
        raise EgodepthError("the prediction is infinitely far somewhere, the protocol has no limit")
    return mask


def median_ratio(
    prediction: Float[ndarray, "h w"], truth: Float[ndarray, "h2 w2"], protocol: DepthProtocol
) -> float:
    """Ratio of the medians of truth and prediction over the scored pixels."""
    mask = scored_pixels(prediction, truth, protocol)
    return float(np.median(truth[mask]) / np.median(prediction[mask]))


def _fit(
    prediction: Float[ndarray, "n"],
    truth: Float[ndarray, "n"],
    protocol: DepthProtocol,
    set_scale: float | None,
) -> tuple[float, float]:
    """Fit the scale and shift that the protocol allows."""
    if protocol.scaling == "median":
        return float(np.median(truth) / np.median(prediction)), 0.0
    if protocol.scaling == "set_median":
        if set_scale is None:
            raise ValueError("scaling set_median needs the factor of the set")
        return set_scale, 0.0
    if protocol.scaling == "baseline":
        return KITTI_BASELINE, 0.0
    if protocol.scaling == "none":
        return 1.0, 0.0
    if protocol.scaling == "affine":
        finite = np.isfinite(prediction)
        x, y = prediction[finite], truth[finite]
    else:
        x, y = 1 / prediction, 1 / truth
    columns = np.column_stack([x, np.ones_like(x)])
    scale, shift = np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(scale), float(shift)


def scaled_depth(
    prediction: Float[ndarray, "h w"], scale: float, shift: float, protocol: DepthProtocol
) -> Float[ndarray, "h w"]:
    """Apply scale and shift to depth, and clamp it to the protocol's range."""
    low, high = protocol.min_depth, protocol.max_depth
    with np.errstate(divide="ignore", invalid="ignore"):
        if protocol.scaling == "affine_inverse":
            inverse = np.maximum(scale / prediction + shift, 1 / high if high < math.inf else 1e-9)
            return np.clip(1 / inverse, low, high)
        return np.clip(scale * prediction + shift, low, high)


def summarize_depth(per_image: list[dict[str, float]]) -> dict[str, float]:
    """Summarize the metrics of images: means over images, including those of low-texture pixels if scored;
    means over all pixels, named ``pixel_abs_rel`` and so on; the number of images; and the spread of the
    scales (standard deviation over median), 0 for a consistent scale.

    Raises:
        EgodepthError: no images.
    """
    if not per_image:
        raise EgodepthError("no frame has ground truth: there is nothing to score")
    summary: dict[str, float] = {}
    for name in {n: None for scores in per_image for n in scores}:
        if name.removeprefix(LOW) in METRICS + MORE + CONFIDENCE:
            values = [scores[name] for scores in per_image if name in scores]
            known = [value for value in values if not math.isnan(value)]
            if known:
                summary[name] = float(np.mean(known))
    pixels = np.array([scores["pixels"] for scores in per_image])
    for name in (*METRICS, "log10"):
        of_images = np.array([scores[name] for scores in per_image])
        squared = name.startswith("rmse")
        mean = np.average(of_images**2 if squared else of_images, weights=pixels)
        summary[f"pixel_{name}"] = float(np.sqrt(mean) if squared else mean)
    scales = np.array([scores["scale"] for scores in per_image])
    return {
        **summary,
        "images": len(per_image),
        "scale_median": float(np.median(scales)),
        "scale_spread": float(np.std(scales / np.median(scales))),
    }


def crop_mask(crop: Crop, height: int, width: int) -> Bool[ndarray, "h w"]:
    """Mask of the part of an image that is scored, see :data:`CROPS`."""
    top, bottom, left, right = CROPS[crop]
    mask = np.zeros((height, width), bool)
    # Rounding may make fractions like 471 / 480 a hair too small; the published ones are truncated as is.
    hair = 1e-9
    rows = slice(int(top * height + hair), int(bottom * height + hair))
    mask[rows, int(left * width + hair) : int(right * width + hair)] = True
    return mask
