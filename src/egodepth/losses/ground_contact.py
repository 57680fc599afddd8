"""What drives ahead at the camera's own speed stays in place in the image and shows no parallax: to warping it
lies infinitely far away, and the automask leaves it to the network's imagination. But things stand on the
ground: where such a region meets it, the depth is known."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

MAX_STILL_DIFFERENCE = 0.08
"""Photometric difference of two frames below which a pixel stayed in place."""
MIN_CONTRAST = 0.05
"""Standard deviation in a 3x3 window; where there is less, a pixel that moves looks the same too."""
MAX_GAP, MIN_SIZE = 5, 7
"""Pixels: smaller gaps between still ones are of the same thing; smaller things are lines of the road, which
stay in place as long as the camera moves along them."""
SHADOW_MARGIN = 0.15
"""How much farther a thing may be than the ground below it, as a share: its shadow goes with it and stays in
place too, so that the first pixel that does not lies before the thing."""
MAX_STILL_SHARE = 0.5
"""Share of an image's textured pixels that stay in place beyond which the camera stands still."""


def still_pixels(
    identity: Float[Tensor, "s b h w"], contrast: Float[Tensor, "b h w"]
) -> Bool[Tensor, "b h w"]:
    """Mask of textured objects that stay in place from frame to frame while others move.

    Args:
        identity: photometric loss of each source as it is.
        contrast: standard deviation of the target in 3x3 windows, mean over channels.
    """
    textured = contrast > MIN_CONTRAST
    still = textured & (identity.amax(0) < MAX_STILL_DIFFERENCE)
    share = still.sum((1, 2)) / textured.sum((1, 2)).clamp(min=1)
    still = still & (share < MAX_STILL_SHARE)[:, None, None]
    closed = -_widen(-_widen(still.float()[:, None], MAX_GAP), MAX_GAP)
    return _widen(-_widen(-closed, MIN_SIZE), MIN_SIZE)[:, 0] > 0.5


def _widen(mask: Tensor, size: int) -> Tensor:
    return F.max_pool2d(mask, size, stride=1, padding=size // 2)


def ground_contact_loss(
    inverse_depth: Float[Tensor, "b h w"], still: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """Difference of log depth by which a still pixel lies beyond the first pixel below it that is not still.

    It is reduced by SHADOW_MARGIN, and 0 where the pixel is nearer, moves, or has no such pixel below it.
    The pixel below gets no gradient: the ground tells the depth of the object, not the other way round.

    Args:
        inverse_depth: > 0.
        still: see :func:`still_pixels`; the image's y axis points to the ground.
    """
    height = inverse_depth.shape[-2]
    rows = torch.arange(height, device=still.device).view(-1, 1).expand_as(still)
    contact = torch.where(still, height, rows).flip(-2).cummin(-2).values.flip(-2)
    ground = inverse_depth.detach().gather(-2, contact.clamp(max=height - 1))
    farther = (ground.log() - inverse_depth.log() - math.log1p(SHADOW_MARGIN)).clamp(min=0)
    return torch.where(still & (contact < height), farther, 0.0)
