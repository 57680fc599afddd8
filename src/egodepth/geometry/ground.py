"""The ground below a camera: in inverse depth a plane is linear, so that fitting it is regression."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.camera import Camera, pixel_grid

LOWEST_ROWS, MIDDLE_COLUMNS = 0.35, 0.5
"""Share of the image, at its bottom and across its middle, where the ground is looked for."""
MIN_UPRIGHT_COSINE = 0.9
"""Cosine between the plane's normal and the camera's vertical axis, at least."""
MAX_RELATIVE_ERROR = 0.05
"""A pixel agrees with the plane if its inverse depth is off by less than this share."""
MIN_AGREEING_SHARE = 0.5
"""Share of the pixels that must agree."""
ITERATIONS = 10


def ground_height(inverse_depth: Float[Tensor, "h w"], camera: Camera) -> float | None:
    """Height of the camera above the ground, in the unit of the depth.

    A plane n . X = height has the inverse depth n . ray / height, linear in the ray. It is fitted by
    reweighted least squares (Cauchy) to the lower middle of the image.

    Args:
        inverse_depth: > 0.
        camera: of that size, without batch, looking about level.

    Returns:
        None where most pixels lie on no plane, or on one that is not below the camera.
    """
    height, width = inverse_depth.shape
    pixels = pixel_grid(height, width, inverse_depth)
    x, y = pixels.unbind(-1)
    low = y >= (1 - LOWEST_ROWS) * height
    middle = (x - (width - 1) / 2).abs() <= MIDDLE_COLUMNS * width / 2
    chosen = low & middle
    inverse = inverse_depth.flatten()[chosen].double()
    rays = camera.unproject(
        pixels[chosen].to(camera.matrix), torch.ones_like(x[chosen]).to(camera.matrix)
    )
    rays = rays.double()
    weight = torch.ones_like(inverse)
    for _ in range(ITERATIONS):
        weighted = rays * weight[:, None]
        plane = torch.linalg.lstsq(weighted.mT @ rays, weighted.mT @ inverse[:, None]).solution[
            :, 0
        ]
        error = (rays @ plane - inverse).abs() / inverse
        weight = 1 / (1 + (error / MAX_RELATIVE_ERROR).square()) / inverse.square()
    agree = float((error < MAX_RELATIVE_ERROR).double().mean())
    norm = float(plane.norm())
    if agree < MIN_AGREEING_SHARE or norm == 0 or float(plane[1]) / norm < MIN_UPRIGHT_COSINE:
        return None
    return 1 / norm
