"""Consistency of the predicted depths of two frames of the same scene."""

from jaxtyping import Bool, Float
from torch import Tensor


def depth_consistency_loss(
    projected: Float[Tensor, "b h w"], sampled: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """Scale-invariant depth difference |a - b| / (a + b), between 0 and 1; 0 where not valid.

    Bian et al., "Unsupervised scale-consistent depth and ego-motion learning from monocular video",
    NeurIPS 2019, eq. 4.

    Args:
        projected: depth of the target's pixels in the source camera.
        sampled: predicted depth of the source at their projections.
        valid: whether they project into the source image.
    """
    return (projected - sampled).abs() / (projected + sampled) * valid
