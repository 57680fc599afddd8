"""Maps that direct alignment compares: the features of a run, or the images themselves."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.pyramid import FEWEST_ROWS, image_pyramid
from egodepth.models.networks import FeatureNet

IMAGE_REDUCTIONS = (8, 4, 2, 1)
FEATURE_LEVELS = 3


@torch.no_grad()
def make_maps(images: Float[Tensor, "b 3 h w"], features: FeatureNet | None) -> list[Tensor]:
    """Maps to align, coarsest first: levels of a FeatureNet, or without one the images at four sizes.

    Args:
        images: in [0, 1].
        features: network; evaluated as it is.
    """
    if features is None:
        return image_pyramid(images.float(), IMAGE_REDUCTIONS)
    maps = features.features(images, FEATURE_LEVELS)[::-1]
    return [m.float() for m in maps if min(m.shape[-2:]) >= FEWEST_ROWS]
