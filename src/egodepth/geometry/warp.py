"""View synthesis: the source image as the target camera would see it. The only place that samples images."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from egodepth.core.errors import NonFiniteError
from egodepth.geometry.camera import Camera, pixel_grid, vector_like
from egodepth.geometry.limits import Sampling

MIN_SOURCE_DEPTH = 1e-3
"""Smallest depth in the source at which a point has an image, in the unit of the depth."""

MAX_SURFACE_RATIO = 1.1
"""Largest ratio of inverse depths of neighbouring pixels on one surface."""

MIN_DEPTH_RATIO = 1e-3
"""Smallest ratio of depth in the source to depth in the target at which a point has an image."""


def sample(
    image: Float[Tensor, "b c h w"],
    pixels: Float[Tensor, "b *layers h2 w2 2"],
    sampling: Sampling = "exact",
) -> Float[Tensor, "b c *layers h2 w2"]:
    """Sample ``image`` bilinearly at pixel coordinates (x, y); outside, take the nearest border value.

    Several layers of coordinates share one image without a copy of it.
    """
    height, width = image.shape[-2:]
    size = vector_like(pixels, width, height)
    unit = (pixels + 0.5) / size if sampling == "exact" else pixels / (size - 1)
    normalized = (2 * unit - 1).flatten(1, -3)
    return _grid_sample(image, normalized).unflatten(2, pixels.shape[1:-2])


def _grid_sample(image: Tensor, places: Tensor) -> Tensor:
    """Sample (B, C, H, W) bilinearly at normalised places (B, h, w, 2).

    Raises:
        NonFiniteError: on the CPU, a place that is not finite, at which grid_sample would read arbitrary
            memory and its backward pass crash. On a GPU, neither happens, and checking would wait for it.
    """
    if places.device.type == "cpu":
        known = places.detach()
        # The sum is checked first since it is ten times as fast.
        if not bool(known.sum().isfinite()) and not bool(known.isfinite().all()):
            raise NonFiniteError("the place of a pixel in another image is not finite")
    return F.grid_sample(image, places, mode="bilinear", padding_mode="border", align_corners=False)


def sample_with_slopes(
    image: Float[Tensor, "b c h w"], pixels: Float[Tensor, "b n 2"]
) -> tuple[Float[Tensor, "b c n"], Float[Tensor, "b c n"], Float[Tensor, "b c n"]]:
    """Bilinear values as from :func:`sample`, and their exact derivatives with respect to x and y; see
    :func:`sample_with_slopes_at`."""
    return sample_with_slopes_at(image, *pixels.unbind(-1))


def sample_with_slopes_at(
    image: Float[Tensor, "b c h w"], x: Float[Tensor, "b n"], y: Float[Tensor, "b n"]
) -> tuple[Float[Tensor, "b c n"], Float[Tensor, "b c n"], Float[Tensor, "b c n"]]:
    """:func:`sample_with_slopes`, of pixels given by their coordinates.

    Outside of the image, values are those of the nearest border pixel and slopes those of the nearest cell.
    NaN coordinates give NaN values and slopes.
    """
    height, width = image.shape[-2:]
    left = x.floor().clamp(0, max(width - 2, 0))
    top = y.floor().clamp(0, max(height - 2, 0))
    along, down = (x - left).clamp(0, 1)[:, None], (y - top).clamp(0, 1)[:, None]
    flat = image.flatten(2)
    # NaN coordinates have no cell; ``along`` makes their values NaN.
    cell = (top * width + left).nan_to_num(0).long()
    first = cell[:, None].expand(-1, image.shape[1], -1)
    to_right, to_below = min(width - 1, 1), width * min(height - 1, 1)
    a, b, c, d = (
        flat.gather(2, first + step) for step in (0, to_right, to_below, to_below + to_right)
    )
    upper, lower = a + along * (b - a), c + along * (d - c)
    return upper + down * (lower - upper), (b - a) + down * ((d - c) - (b - a)), lower - upper


def sample_on_surfaces(
    inverse_depth: Float[Tensor, "h w"],
    pixels: Float[Tensor, "h2 w2 2"],
    expected: Float[Tensor, "h2 w2"] | None = None,
) -> Float[Tensor, "h2 w2"]:
    """Sample inverse depth at pixel coordinates (x, y) without mixing surfaces.

    Where the four pixels around lie on one surface, the value is bilinear, which is exact on planes. Where they
    differ by more than MAX_SURFACE_RATIO, it is that of the one nearest to ``expected`` or, without it, of the
    nearest pixel. NaN pixels are no part of a surface.
    """
    height, width = inverse_depth.shape
    x, y = pixels.unbind(-1)
    left = x.floor().clamp(0, max(width - 2, 0))
    top = y.floor().clamp(0, max(height - 2, 0))
    along, down = (x - left).clamp(0, 1), (y - top).clamp(0, 1)
    flat, cell = inverse_depth.flatten(), (top * width + left).long()
    right, below = min(width - 1, 1), width * min(height - 1, 1)
    corners = torch.stack([flat[cell + step] for step in (0, right, below, below + right)])
    weights = torch.stack([
        (1 - along) * (1 - down), along * (1 - down), (1 - along) * down, along * down
    ])  # fmt: skip
    smooth = (weights * corners).sum(0)
    if expected is None:
        choice = weights.argmax(0, keepdim=True)
    else:
        gap = (corners / expected).log().abs().nan_to_num(torch.inf)
        choice = gap.argmin(0, keepdim=True)
    one_surface = corners.amax(0) <= MAX_SURFACE_RATIO * corners.amin(0)
    return torch.where(one_surface, smooth, corners.gather(0, choice)[0])


def reproject(
    depth: Float[Tensor, "b *layers h w"],
    source_from_target: Float[Tensor, "b 4 4"],
    target_camera: Camera,
    source_camera: Camera,
) -> tuple[
    Float[Tensor, "b *layers h w 2"], Float[Tensor, "b *layers h w"], Bool[Tensor, "b *layers h w"]
]:
    """Project every target pixel into the source image (paper, eq. 1).

    Args:
        depth: depth of the target along z, in the unit of the translation; between batch and height
            there may be several layers, for example the scales of a network.
        source_from_target: transform from the target to the source camera frame.
        target_camera, source_camera: batches of B; the target's size is that of ``depth``.

    Returns:
        Pixel coordinates (x, y) in the source image; depth along the source camera's z; and whether
        the points lie in front of the source camera and inside its image.
    """
    height, width = depth.shape[-2:]

    def spread(values: Tensor) -> Tensor:
        return values.view(-1, *(1 for _ in depth.shape[1:]))

    x, y = pixel_grid(height, width, depth).view(height, width, 2).unbind(-1)
    fx, fy, cx, cy = (spread(v) for v in target_camera.focal_and_centre.unbind(-1))
    ray_x, ray_y = (x - cx) / fx, (y - cy) / fy
    # One coordinate at a time: without a tensor of points, memory traffic is halved.
    moved = []
    for row in range(3):
        r0, r1, r2, t = (spread(v) for v in source_from_target[:, row].unbind(-1))
        moved.append(depth * (r0 * ray_x + r1 * ray_y + r2) + t)
    z = moved[2].clamp(min=MIN_SOURCE_DEPTH)
    fx, fy, cx, cy = (spread(v) for v in source_camera.focal_and_centre.unbind(-1))
    u, v = fx * moved[0] / z + cx, fy * moved[1] / z + cy
    inside = (u >= 0) & (u <= source_camera.width - 1) & (v >= 0) & (v <= source_camera.height - 1)
    return torch.stack([u, v], dim=-1), z, inside & (moved[2] > MIN_SOURCE_DEPTH)


def warp(
    source_image: Float[Tensor, "b c h2 w2"],
    depth: Float[Tensor, "b *layers h w"],
    source_from_target: Float[Tensor, "b 4 4"],
    target_camera: Camera,
    source_camera: Camera,
    sampling: Sampling = "exact",
) -> tuple[Float[Tensor, "b c *layers h w"], Bool[Tensor, "b *layers h w"]]:
    """The source image (or features) seen from the target camera, and where that is valid.

    Arguments as in :func:`reproject` and :func:`sample`.
    """
    pixels, _, valid = reproject(depth, source_from_target, target_camera, source_camera)
    return sample(source_image, pixels, sampling), valid


def sweep(
    source_image: Float[Tensor, "b c h w"],
    inverse_depths: Float[Tensor, "b d _ _"],
    source_from_target: Float[Tensor, "b 4 4"],
    camera: Camera,
) -> tuple[Float[Tensor, "b c d h w"], Bool[Tensor, "b d h w"]]:
    """The source image seen from the target camera at several candidate inverse depths per pixel, and where
    that is valid.

    A faster :func:`warp`: before the division, a pixel's position in the source is linear in inverse depth
    (Hartley and Zisserman 2004, eq. 13.2).

    Args:
        source_image: (B, C, H, W).
        inverse_depths: (B, D, H, W), or (B, D, 1, 1) for planes; 0 is infinitely far.
        source_from_target: transform from the target to the source camera frame.
        camera: of both images.
    """
    height, width = source_image.shape[-2:]
    intrinsics = camera.matrix
    # The projection includes the normalisation of grid_sample, 2 (u + 0.5) / W - 1.
    size = vector_like(intrinsics, width, height, 1)
    project = intrinsics * (2 / size)[:, None]
    project = project + (1 / size - 1)[:, None] * intrinsics[:, 2:]
    project[:, 2] = intrinsics[:, 2]
    at_infinity = project @ source_from_target[:, :3, :3] @ torch.linalg.inv(intrinsics)
    shift = (project @ source_from_target[:, :3, 3:])[..., None]
    grid = pixel_grid(height, width, source_image)
    rays = F.pad(grid, (0, 1), value=1.0) @ at_infinity.mT
    x, y, z = rays.view(-1, 1, height, width, 3).unbind(-1)
    z = torch.addcmul(z, inverse_depths, shift[:, 2:])
    scale = 1 / z.clamp(min=MIN_DEPTH_RATIO)
    places = torch.empty(*z.shape, 2, dtype=z.dtype, device=z.device)
    for axis, start in enumerate((x, y)):
        torch.mul(
            torch.addcmul(start, inverse_depths, shift[:, axis, None]), scale, out=places[..., axis]
        )
    valid = (places[..., 0].abs() <= 1 - 1 / width) & (places[..., 1].abs() <= 1 - 1 / height)
    values = _grid_sample(source_image, places.flatten(1, 2))
    return values.unflatten(2, places.shape[1:3]), valid & (z > MIN_DEPTH_RATIO)
