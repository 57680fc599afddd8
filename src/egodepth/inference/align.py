"""Direct alignment of frames: on the features of a run, or on the images themselves."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.alignment import Level
from egodepth.geometry.camera import Camera
from egodepth.models.networks import FeatureNet

IMAGE_REDUCTIONS = (8, 4, 2, 1)
FEATURE_LEVELS = 3
FEWEST_ROWS = 8
"""Maps with fewer rows or columns say little."""


@torch.no_grad()
def make_maps(images: Float[Tensor, "b 3 h w"], features: FeatureNet | None) -> list[Tensor]:
    """Maps to align, coarsest first: levels of a FeatureNet, or without one the images at four sizes.

    Args:
        images: in [0, 1].
        features: network; evaluated as it is.
    """
    height, width = images.shape[-2:]
    if features is None:
        maps = [
            F.interpolate(images, (height // r, width // r), mode="area") for r in IMAGE_REDUCTIONS
        ]
    else:
        maps = features.features(images, FEATURE_LEVELS)[::-1]
    return [m.float() for m in maps if min(m.shape[-2:]) >= FEWEST_ROWS]


def make_levels(
    target: Sequence[Tensor],
    source: Sequence[Tensor],
    inverse_depth: Float[Tensor, "b h w"],
    camera: Camera,
) -> list[Level]:
    """Levels for :func:`egodepth.geometry.alignment.align`; maps are scaled so that the target's
    channels vary by one in the mean.

    Args:
        target, source: maps of B pairs, see :func:`make_maps`.
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
