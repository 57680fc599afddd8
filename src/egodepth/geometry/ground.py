"""The ground below a camera: in inverse depth a plane is linear, so that fitting it is regression."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.camera import Camera, camera_rays, pixel_grid

LOWEST_ROWS, MIDDLE_COLUMNS = 0.35, 0.5
"""Share of the image, at its bottom and across its middle, where the ground is looked for."""
MIN_UPRIGHT_COSINE = 0.9
"""Cosine between the plane's normal and the camera's vertical axis, at least."""
MAX_RELATIVE_ERROR = 0.05
"""A pixel agrees with the plane if its inverse depth is off by less than this share."""
MIN_AGREEING_SHARE = 0.5
"""Share of the pixels that must agree."""
ITERATIONS = 10


def fit_ground(inverse_depth: Float[Tensor, "h w"], camera: Camera) -> Float[Tensor, "3"] | None:
    """The plane p of the ground, by which the pixel with ray r has the inverse depth p . r, positive below the
    horizon; float64.

    A plane n . X = height has the inverse depth n . ray / height, linear in the ray. It is fitted by
    reweighted least squares (Cauchy) to the lower middle of the image.

    Args:
        inverse_depth: > 0; NaN where unknown.
        camera: of that size, without batch, looking about level.

    Returns:
        None where most pixels lie on no plane, on one that is not below the camera, or are unknown.
    """
    height, width = inverse_depth.shape
    x, y = pixel_grid(height, width, inverse_depth).unbind(-1)
    low = y >= (1 - LOWEST_ROWS) * height
    middle = (x - (width - 1) / 2).abs() <= MIDDLE_COLUMNS * width / 2
    looked = low & middle
    chosen = looked & inverse_depth.flatten().isfinite()
    if int(chosen.sum()) < MIN_AGREEING_SHARE * int(looked.sum()):
        return None
    inverse = inverse_depth.flatten()[chosen].double()
    rays = camera_rays(camera).flatten(0, 1)[chosen].double()
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
    return plane


def ground_height(inverse_depth: Float[Tensor, "h w"], camera: Camera) -> float | None:
    """Height of the camera above the ground, in the unit of the depth; None where there is no ground, see
    :func:`fit_ground`."""
    plane = fit_ground(inverse_depth, camera)
    return None if plane is None else 1 / float(plane.norm())
