"""The feature-metric loss L_fm: the photometric idea on learned features (paper, eq. 4)."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.losses.photometric import charbonnier, photometric_loss, target_statistics

SPREAD = 0.2
"""Standard deviation that a feature channel is brought to, that of the colours of common images, for
which the constants of SSIM were made."""


def feature_metric_loss(
    prediction: Float[Tensor, "n b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, "n b h w"]:
    """Robust L1 between N warped feature maps and those of the target, averaged over channels."""
    return charbonnier(prediction - target).mean(2)


def structural_feature_loss(
    prediction: Float[Tensor, "n b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, "n b h w"]:
    """L_ph's comparison on features: SSIM over 3x3 of their pixels, and robust L1; not in the paper.

    Each channel is first brought to one mean and spread, those of the target's batch, so that the
    value does not depend on how large the features are. Local means drop out of SSIM's second
    factor: a change of brightness, which moves features as it moves colours, costs less than in
    :func:`feature_metric_loss`.
    """
    scale, shift = common_scale(target)
    return photometric_loss(prediction * scale + shift, target_statistics(target * scale + shift))


def common_scale(
    features: Float[Tensor, "b c h w"],
) -> tuple[Float[Tensor, "c 1 1"], Float[Tensor, "c 1 1"]]:
    """Factor and offset by which each channel gets mean 0.5 and standard deviation ``SPREAD``."""
    flat = features.detach().transpose(0, 1).flatten(1)
    spread, mean = (value.view(-1, 1, 1) for value in torch.std_mean(flat, dim=1, correction=0))
    scale = SPREAD / spread.clamp(min=1e-6)
    return scale, 0.5 - scale * mean
