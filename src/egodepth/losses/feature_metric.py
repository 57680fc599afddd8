"""The feature-metric loss L_fm: the photometric idea on learned features (paper, eq. 4)."""

from jaxtyping import Float
from torch import Tensor

from egodepth.losses.photometric import charbonnier


def feature_metric_loss(
    prediction: Float[Tensor, "n b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, "n b h w"]:
    """Robust L1 between N warped feature maps and those of the target, averaged over channels."""
    return charbonnier(prediction - target).mean(2)
