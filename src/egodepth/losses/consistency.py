"""Consistency of the depths that a network predicts for two frames of one scene."""

from jaxtyping import Bool, Float
from torch import Tensor


def depth_consistency_loss(
    projected: Float[Tensor, "b h w"], sampled: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """|a - b| / (a + b), between 0 and 1, whatever the unit; 0 where not valid.

    Bian et al., "Unsupervised scale-consistent depth and ego-motion learning from monocular video",
    NeurIPS 2019, eq. 4.

    Args:
        projected: depth of the target's points in the source camera.
        sampled: the source's own depth where they fall.
        valid: whether they fall into the source's image.
    """
    return (projected - sampled).abs() / (projected + sampled) * valid
