"""The photometric loss L_ph: structural similarity and a robust L1 (paper, eq. 3)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SSIM_WEIGHT = 0.85
"""Share of the structural term; the rest is the robust L1."""
CHARBONNIER_EPSILON = 1e-3
_C1, _C2 = 0.01**2, 0.03**2


class TargetStatistics(NamedTuple):
    """The target image and the local moments that every comparison with it needs."""

    image: Float[Tensor, "b c h w"]
    mean: Float[Tensor, "b c h w"]
    variance: Float[Tensor, "b c h w"]


def target_statistics(image: Float[Tensor, "b c h w"]) -> TargetStatistics:
    """Local means and variances over 3x3 windows, to be computed once per target."""
    mean = _local_mean(image)
    return TargetStatistics(image, mean, _local_mean(image.square()) - mean.square())


def charbonnier(difference: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Robust L1, sqrt(x^2 + epsilon^2): close to |x|, but smooth at zero."""
    return (difference.square() + CHARBONNIER_EPSILON**2).sqrt()


def structural_dissimilarity(
    prediction: Float[Tensor, "n b c h w"], target: TargetStatistics
) -> Float[Tensor, "n b c h w"]:
    """(1 - SSIM) / 2 in [0, 1], over 3x3 windows with mirrored borders.

    Wang et al., "Image quality assessment", TIP 2004, with box windows as Godard et al. 2017.
    """
    count, batch = prediction.shape[:2]
    flat = prediction.flatten(0, 1)
    product = (prediction * target.image).flatten(0, 1)
    mean, second, cross = (
        _local_mean(moment).unflatten(0, (count, batch))
        for moment in (flat, flat.square(), product)
    )
    means = mean * target.mean
    squares = mean.square() + target.mean.square()
    variances = second - mean.square() + target.variance
    ssim = ((2 * means + _C1) * (2 * (cross - means) + _C2)) / ((squares + _C1) * (variances + _C2))
    return ((1 - ssim) / 2).clamp(0, 1)


def photometric_loss(
    prediction: Float[Tensor, "n b c h w"], target: TargetStatistics
) -> Float[Tensor, "n b h w"]:
    """Difference of N synthesised views from one target, averaged over channels.

    Args:
        prediction: N views of each target, colours in [0, 1].
        target: statistics of the target images, computed once.
    """
    structural = structural_dissimilarity(prediction, target)
    robust = charbonnier(prediction - target.image)
    return torch.lerp(robust, structural, SSIM_WEIGHT).mean(2)


def _local_mean(image: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
