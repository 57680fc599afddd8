"""The photometric loss L_ph: structural similarity and a robust L1 (paper, eq. 3)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SSIM_WEIGHT = 0.85
"""Weight of the SSIM term; the rest is robust L1."""
CHARBONNIER_EPSILON = 1e-3
_C1, _C2 = 0.01**2, 0.03**2


class TargetStatistics(NamedTuple):
    """A target image with the local moments used by every comparison with it.

    Attributes:
        image: the target.
        padded: the target with one pixel of reflection padding.
        mean: over 3x3 windows.
        luminance: mean^2 + C1, of SSIM's denominator.
        contrast: variance + C2, of SSIM's denominator.
    """

    image: Float[Tensor, "b c h w"]
    padded: Float[Tensor, "b c h2 w2"]
    mean: Float[Tensor, "b c h w"]
    luminance: Float[Tensor, "b c h w"]
    contrast: Float[Tensor, "b c h w"]


def target_statistics(image: Float[Tensor, "b c h w"]) -> TargetStatistics:
    """Compute local moments over 3x3 windows, once per target."""
    padded = _mirror_border(image)
    mean = _window_mean(padded)
    squared = mean.square()
    variance = _window_mean(padded.square()) - squared
    return TargetStatistics(image, padded, mean, squared + _C1, variance + _C2)


def charbonnier(difference: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Robust L1, sqrt(x^2 + epsilon^2): close to |x|, but smooth at zero."""
    return (difference.square() + CHARBONNIER_EPSILON**2).sqrt()


def structural_dissimilarity(
    prediction: Float[Tensor, "n b c h w"], target: TargetStatistics
) -> Float[Tensor, "n b c h w"]:
    """(1 - SSIM) / 2 in [0, 1], over 3x3 windows with reflection padding.

    Wang et al., "Image quality assessment", TIP 2004, with box windows as in Godard et al. 2017.
    """
    count, batch = prediction.shape[:2]
    padded = _mirror_border(prediction.flatten(0, 1))
    product = (padded.unflatten(0, (count, batch)) * target.padded).flatten(0, 1)
    mean, second, cross = (
        _window_mean(moment).unflatten(0, (count, batch))
        for moment in (padded, padded.square(), product)
    )
    means, squared = mean * target.mean, mean.square()
    numerator = (2 * means + _C1) * (2 * (cross - means) + _C2)
    denominator = (squared + target.luminance) * (second - squared + target.contrast)
    return (0.5 - 0.5 * (numerator / denominator)).clamp(0, 1)


def photometric_loss(
    prediction: Float[Tensor, "n b c h w"], target: TargetStatistics
) -> Float[Tensor, "n b h w"]:
    """L_ph between N synthesised views and the target, averaged over channels.

    Args:
        prediction: N views of each target, colours in [0, 1].
        target: target images with their statistics.
    """
    structural = structural_dissimilarity(prediction, target).mean(2)
    robust = charbonnier(prediction - target.image).mean(2)
    return torch.lerp(robust, structural, SSIM_WEIGHT)


def _mirror_border(image: Tensor) -> Tensor:
    return F.pad(image, (1, 1, 1, 1), mode="reflect")


def _window_mean(padded: Tensor) -> Tensor:
    return F.avg_pool2d(padded, 3, stride=1)
