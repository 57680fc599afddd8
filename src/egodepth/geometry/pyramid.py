"""Maps of a pair of images at several sizes, ready for direct alignment."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.alignment import Level
from egodepth.geometry.camera import Camera

FEWEST_ROWS = 8
"""Maps with fewer rows or columns say little."""


def image_pyramid(
    images: Float[Tensor, "b c h w"], reductions: Sequence[int]
) -> list[Float[Tensor, "b c _ _"]]:
    """Images at fractions of their size, averaged over squares; sizes that say little are left out."""
    height, width = images.shape[-2:]
    sizes = [(height // r, width // r) for r in reductions]
    return [F.interpolate(images, size, mode="area") for size in sizes if min(size) >= FEWEST_ROWS]


def make_levels(
    target: Sequence[Tensor],
    source: Sequence[Tensor],
    inverse_depth: Float[Tensor, "b h w"],
    camera: Camera,
) -> list[Level]:
    """Levels for :func:`egodepth.geometry.alignment.align`; maps are scaled so that the target's
    channels vary by one in the mean.

    Args:
        target, source: maps of B pairs, coarsest first.
        inverse_depth: of the targets at the size of the images; 0 where unknown.
        camera: of all images at that size, a batch of B.
    """
    known = (inverse_depth > 0).to(inverse_depth)
    levels = []
    for ours, theirs in zip(target, source, strict=True):
        size = ours.shape[-2:]
        share = F.interpolate(known[:, None], size, mode="area")[:, 0]
        mean = F.interpolate(inverse_depth[:, None], size, mode="area")[:, 0]
        smaller = camera.resize(*size)
        deviation = ours.std((0, 2, 3), keepdim=True).square().mean().sqrt()
        levels.append(Level(
            ours / deviation, theirs / deviation, mean / share.clamp(min=1e-6) + (share == 0),
            smaller, smaller, share > 0,
        ))  # fmt: skip
    return levels
