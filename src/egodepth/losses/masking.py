"""Minimum reprojection over sources, and the automask of static pixels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def minimum_over_sources(
    per_source: Float[Tensor, "s *shape"], hidden: Bool[Tensor, "s *shape"] | None = None
) -> Float[Tensor, "*shape"]:
    """Minimum reprojection: a pixel hidden in one source is judged by another that sees it
    (Godard et al., "Digging into self-supervised monocular depth estimation", ICCV 2019).

    Args:
        per_source: loss of each source.
        hidden: where a source is known to show something else, such as the camera's own bonnet; a pixel
            that is hidden in all of them has no loss.
    """
    if hidden is None:
        return per_source.amin(0)
    return per_source.masked_fill(hidden, torch.inf).amin(0).masked_fill(hidden.all(0), 0)


def automask(
    reprojection: Float[Tensor, "b h w"], identity: Float[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """The loss where warping explains the target better than the unwarped source does; elsewhere
    the constant identity loss, which has no gradient.

    There the camera stood still, the object moves with it, or there is no texture.

    Args:
        reprojection: loss of the warped sources, minimum over sources.
        identity: loss of the sources as they are, minimum over sources, without gradient.
    """
    return torch.minimum(reprojection, identity)
