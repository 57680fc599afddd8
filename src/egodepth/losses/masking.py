"""Minimum reprojection loss over sources, and the automask of static pixels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def minimum_over_sources(
    per_source: Float[Tensor, "s *shape"], hidden: Bool[Tensor, "s *shape"] | None = None
) -> Float[Tensor, "*shape"]:
    """Minimum reprojection loss over sources, for pixels occluded in some of them
    (Godard et al., "Digging into self-supervised monocular depth estimation", ICCV 2019).

    Args:
        per_source: loss of each source.
        hidden: where a source is known to show something else, such as the ego vehicle's bonnet; the loss
            is zero where all sources are hidden.
    """
    if hidden is None:
        return per_source.amin(0)
    return per_source.masked_fill(hidden, torch.inf).amin(0).masked_fill(hidden.all(0), 0)


def mean_over_sources(
    per_source: Float[Tensor, "s *shape"], hidden: Bool[Tensor, "s *shape"] | None = None
) -> Float[Tensor, "*shape"]:
    """Mean loss over the sources that are not hidden; arguments as of :func:`minimum_over_sources`."""
    if hidden is None:
        return per_source.mean(0)
    return per_source.masked_fill(hidden, 0).sum(0) / (~hidden).sum(0).clamp(min=1)


OVER_SOURCES = {"minimum": minimum_over_sources, "mean": mean_over_sources}
"""Ways to combine the losses of several sources, by the value of the setting ``loss.over_sources``."""


def automask(
    reprojection: Float[Tensor, "b h w"], identity: Float[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """The reprojection loss where warped sources match the target better than unwarped ones; elsewhere
    the constant identity loss, which has no gradient.

    The latter is the case where the camera stands still, an object moves with it, or there is no texture.

    Args:
        reprojection: loss of the warped sources, minimum over sources.
        identity: loss of the unwarped sources, minimum over sources, without gradient.
    """
    return torch.minimum(reprojection, identity)
