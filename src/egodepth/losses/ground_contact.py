"""Ground contact loss for vehicles ahead that move at the camera's speed. They show no parallax: warping puts
them at infinity, and the automask leaves them without supervision. But they stand on the ground, whose depth
is known where they touch it."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

MAX_STILL_DIFFERENCE = 0.08
"""Photometric difference of two frames below which a pixel counts as still."""
MIN_CONTRAST = 0.05
"""Minimum standard deviation in a 3x3 window; with less texture, moving pixels look still, too."""
MAX_GAP, MIN_SIZE = 5, 7
"""In pixels: smaller gaps between still pixels are closed, and smaller regions removed, such as lane markings,
which stay in place while the camera moves along them."""
SHADOW_MARGIN = 0.15
"""Relative depth by which an object may lie beyond the ground below it: its shadow moves with it and looks
still, too, so that the first moving pixel below lies in front of the object."""
MAX_STILL_SHARE = 0.5
"""Share of still pixels among the textured ones above which the camera itself is considered static."""


def still_pixels(
    identity: Float[Tensor, "s b h w"], contrast: Float[Tensor, "b h w"]
) -> Bool[Tensor, "b h w"]:
    """Mask of textured objects that stay in place from frame to frame while the rest of the image moves.

    Args:
        identity: photometric loss of each unwarped source.
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
    """Log depth difference by which a still pixel lies beyond the first moving pixel below it.

    It is reduced by log(1 + SHADOW_MARGIN), and 0 where the pixel is nearer, moves, or has no such pixel below.
    The pixel below gets no gradient: the ground determines the depth of the object, not vice versa.

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
