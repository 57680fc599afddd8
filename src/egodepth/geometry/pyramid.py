"""Maps of a pair of images at several sizes, ready for direct alignment."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from egodepth.geometry.alignment_residual import Level
from egodepth.geometry.camera import Camera

MIN_LEVEL_ROWS = 8
"""Fewest rows or columns of a useful map."""


def image_pyramid(
    images: Float[Tensor, "b c h w"], reductions: Sequence[int]
) -> list[Float[Tensor, "b c _ _"]]:
    """Downsample images by each reduction, averaging over areas; sizes below MIN_LEVEL_ROWS are left out."""
    height, width = images.shape[-2:]
    sizes = [(height // r, width // r) for r in reductions]
    return [
        F.interpolate(images, size, mode="area") for size in sizes if min(size) >= MIN_LEVEL_ROWS
    ]


def make_levels(
    target: Sequence[Tensor],
    source: Sequence[Tensor],
    inverse_depth: Float[Tensor, "b h w"],
    camera: Camera,
    static: Bool[Tensor, "b 1 h w"] | None = None,
) -> list[Level]:
    """Levels for :func:`egodepth.geometry.alignment.align`; maps are scaled so that the target's channels have
    a root-mean-square standard deviation of 1.

    Args:
        target, source: maps of B pairs, coarsest first.
        inverse_depth: of the targets at the size of the images; 0 where unknown.
        camera: of all images at that size, a batch of B.
        static: static mask at that size, to ignore in target and source.
    """
    known = (inverse_depth > 0).to(inverse_depth)
    levels = []
    for ours, theirs in zip(target, source, strict=True):
        size = ours.shape[-2:]
        share = F.interpolate(known[:, None], size, mode="area")[:, 0]
        mean = F.interpolate(inverse_depth[:, None], size, mode="area")[:, 0]
        smaller = camera.resize(*size)
        counts = None
        weight = torch.ones_like(ours[:, :1])
        if static is not None:
            weight = 1 - F.adaptive_max_pool2d(static.to(ours), size)
            counts = weight[:, 0] > 0
        deviation = _deviation(ours, weight)
        levels.append(Level(
            ours / deviation, theirs / deviation, mean / share.clamp(min=1e-6) + (share == 0),
            smaller, smaller, (share > 0) if counts is None else (share > 0) & counts, counts,
        ))  # fmt: skip
    return levels


def _deviation(maps: Tensor, weight: Tensor) -> Tensor:
    """Weighted standard deviation of a channel over all maps (B, C, h, w), root mean square over channels."""
    count = weight.sum().clamp(min=2)
    off = maps - (weight * maps).sum((0, 2, 3), keepdim=True) / count
    return ((weight * off.square()).sum((0, 2, 3)) / (count - 1)).mean().sqrt()
