"""Points of bundle adjustment, and the maps that they are compared on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from egodepth.geometry.camera import Camera

PATTERN = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))
"""Pixels (x, y), relative to a point, at which it is compared."""


@dataclass(frozen=True)
class BundlePoints:
    """M points on each of H host frames.

    Attributes:
        rays: (H, M, P, 3) through the pixels of each point's pattern, with z = 1.
        values: (H, C, M, P) of the host's map there.
        inverse_depth: (H, M) before any correction.
        valid: (H, M).
    """

    rays: Float[Tensor, "h m p 3"]
    values: Float[Tensor, "h c m p"]
    inverse_depth: Float[Tensor, "h m"]
    valid: Bool[Tensor, "h m"]

    @classmethod
    def stack(cls, several: Sequence["BundlePoints"]) -> "BundlePoints":
        """Concatenate the points of several hosts."""
        return cls(**{n: torch.cat([vars(p)[n] for p in several]) for n in vars(several[0])})


def select_points(
    image: Float[Tensor, "c h w"],
    inverse_depth: Float[Tensor, "h w"],
    camera: Camera,
    cell: int,
    static: Bool[Tensor, "h w"] | None = None,
) -> BundlePoints:
    """Select the pixel with the largest gradient in each cell of a grid, as points of one host.

    Args:
        image: map to compare.
        inverse_depth: of the same size, > 0.
        camera: for that size, unbatched.
        cell: side length of the cells in pixels.
        static: static mask, which gets no points.
    """
    height, width = inverse_depth.shape
    margin = max(max(abs(x), abs(y)) for x, y in PATTERN) + 1
    change = image.new_zeros(height, width)
    along = (image[:, 1:-1, 2:] - image[:, 1:-1, :-2]).square().sum(0)
    down = (image[:, 2:, 1:-1] - image[:, :-2, 1:-1]).square().sum(0)
    change[1:-1, 1:-1] = (along + down).sqrt()
    inner = torch.zeros_like(change)
    inner[margin:-margin, margin:-margin] = change[margin:-margin, margin:-margin]
    if static is not None:
        inner[static] = 0
    strongest, place = F.max_pool2d(inner[None], cell, ceil_mode=True, return_indices=True)
    flat = place.flatten()
    y, x = flat // width, flat % width
    return make_points(image, inverse_depth[y, x], x, y, (strongest > 0).flatten(), camera)


def make_points(
    image: Float[Tensor, "c h w"],
    inverse_depth: Float[Tensor, " m"],
    x: Int[Tensor, " m"],
    y: Int[Tensor, " m"],
    valid: Bool[Tensor, " m"],
    camera: Camera,
) -> BundlePoints:
    """Points of one host at given pixels.

    Args:
        image: map to compare.
        inverse_depth: of the points, > 0.
        x, y: their pixels.
        valid: which of them to use.
        camera: for the image's size, unbatched.
    """
    height, width = image.shape[-2:]
    offsets = torch.tensor(PATTERN, device=image.device)
    px = (x[:, None] + offsets[:, 0]).clamp(0, width - 1)
    py = (y[:, None] + offsets[:, 1]).clamp(0, height - 1)
    fx, fy, cx, cy = camera.focal_and_centre.to(image).unbind(-1)
    rays = torch.stack([(px - cx) / fx, (py - cy) / fy, torch.ones_like(px, dtype=fx.dtype)], -1)
    return BundlePoints(rays[None], image[:, py, px][None], inverse_depth[None], valid[None])


def normalized_brightness(
    image: Float[Tensor, "b 3 h w"], radius: int = 7, floor: float = 0.03
) -> Float[Tensor, "b 1 h w"]:
    """Normalise brightness by its local mean and standard deviation, which removes exposure and vignetting.
    The window is larger than that of :func:`egodepth.geometry.plane_sweep.local_contrast`.

    Args:
        image: in [0, 1].
        radius: of the square window, in pixels.
        floor: standard deviation added in quadrature, so that noise is not amplified.
    """
    size = 2 * radius + 1
    grey = image.mean(1, keepdim=True)
    padded = F.pad(grey, [radius] * 4, mode="reflect")
    # Rows, then columns: a square window at once takes seven times as long.
    both = torch.cat([padded, padded.square()], 1)
    mean, square = F.avg_pool2d(F.avg_pool2d(both, (size, 1), 1), (1, size), 1).chunk(2, 1)
    variance = (square - mean.square()).clamp(min=0)
    return (grey - mean) / (variance + floor**2).sqrt()
