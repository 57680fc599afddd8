"""The ground plane below a camera. The inverse depth of a plane is linear in the ray, so it is fitted by
regression."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.camera import Camera, camera_rays, pixel_grid

LOWEST_ROWS, MIDDLE_COLUMNS = 0.35, 0.5
"""Shares of the image's height (at the bottom) and width (in the middle) that the ground is fitted to."""
MIN_UPRIGHT_COSINE = 0.9
"""Smallest cosine between the plane's normal and the camera's vertical axis."""
MAX_RELATIVE_ERROR = 0.05
"""Relative error of inverse depth below which a pixel agrees with the plane."""
MIN_AGREEING_SHARE = 0.5
"""Smallest share of pixels that must be known, and of these that must agree."""
ITERATIONS = 10


def fit_ground(inverse_depth: Float[Tensor, "h w"], camera: Camera) -> Float[Tensor, "3"] | None:
    """Fit the ground plane p (float64): a pixel with ray r (z = 1) has the inverse depth p . r, positive below
    the horizon.

    A plane n . X = height has the inverse depth n . r / height, which is linear in the ray. It is fitted to the
    lower middle of the image by iteratively reweighted least squares (Cauchy).

    Args:
        inverse_depth: > 0; NaN where unknown.
        camera: for that size, unbatched, roughly level.

    Returns:
        The plane; None if most pixels are unknown or do not lie on it, or if it is not below the camera.
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
    """Height of the camera above the ground, in the unit of the depth; None if :func:`fit_ground` finds no
    ground."""
    plane = fit_ground(inverse_depth, camera)
    return None if plane is None else 1 / float(plane.norm())
