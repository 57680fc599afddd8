"""The feature-metric loss L_fm: a photometric loss on learned features (paper, eq. 4)."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.losses.photometric import charbonnier, photometric_loss, target_statistics

SPREAD = 0.2
"""Standard deviation to which feature channels are normalized: that of colours in common images, for
which the constants of SSIM were chosen."""


def feature_metric_loss(
    prediction: Float[Tensor, "n b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, "n b h w"]:
    """Robust L1 between N warped feature maps and those of the target, averaged over channels."""
    return charbonnier(prediction - target).mean(2)


def structural_feature_loss(
    prediction: Float[Tensor, "n b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, "n b h w"]:
    """L_ph on features: SSIM over 3x3 windows and robust L1; not in the paper.

    Each channel is first normalized by its mean and standard deviation over the target batch, so that
    the loss does not depend on the magnitude of the features. Local means drop out of SSIM's second
    factor: a change of brightness, which shifts features as it shifts colours, costs less than in
    :func:`feature_metric_loss`.
    """
    scale, shift = common_scale(target)
    return photometric_loss(prediction * scale + shift, target_statistics(target * scale + shift))


def common_scale(
    features: Float[Tensor, "b c h w"],
) -> tuple[Float[Tensor, "c 1 1"], Float[Tensor, "c 1 1"]]:
    """Factor and offset that give each channel mean 0.5 and standard deviation ``SPREAD``."""
    flat = features.detach().transpose(0, 1).flatten(1)
    spread, mean = (value.view(-1, 1, 1) for value in torch.std_mean(flat, dim=1, correction=0))
    scale = SPREAD / spread.clamp(min=1e-6)
    return scale, 0.5 - scale * mean
