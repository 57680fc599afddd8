"""Depth of dynamic objects that move with the camera, such as a car ahead at the same speed.

Such an object shows no parallax, so several views agree that it is far away. But nothing can be seen through
the ground: where the object hides the ground, its lowest pixels give its depth.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.camera import Camera, camera_rays
from egodepth.geometry.ground import fit_ground
from egodepth.geometry.plane_sweep import parallax

MIN_EXPECTED = 2.0
"""Smallest parallax of the ground in pixels, in the source where it is largest, for detecting objects."""
MAX_EXPECTED_SHARE = 0.1
"""Largest parallax of the ground, as a share of the image's width: with more, the ground soon leaves the image,
and its depth is often wrong."""
MAX_PARALLAX_SHARE = 1 / 3
"""Largest parallax of an object that moves with the camera, as a share of the ground's parallax."""
MIN_SIZE = 1e-3
"""Smallest area of an object below the horizon, as a share of the image."""
FOOT_SHARE, MAX_GROUND_ERROR, MIN_ON_GROUND = 1 / 16, 0.2, 0.5
"""Share of the image's height below an object within which the known depth must be that of the ground; its
largest relative error; and the share of the object's columns for which that must be true."""
SHADOW_MARGIN = 0.075
"""How much farther away an object is than the first ground pixels below it, since its shadow moves with it."""


def depth_moving_ahead(
    inverse_depth: Float[Tensor, "1 h w"],
    known: Float[Tensor, "1 h w"],
    source_from_target: Float[Tensor, "n 1 4 4"],
    camera: Camera,
) -> Float[Tensor, "1 h w"]:
    """Inverse depth of objects that move with the camera, where they lie below the horizon. NaN elsewhere, and
    everywhere if no ground is found (:func:`egodepth.geometry.ground.fit_ground`).

    Args:
        inverse_depth: from a plane sweep, which assumes a static scene; near 0 where there is no parallax.
        known: inverse depth that several views agree on, NaN where they do not.
        source_from_target: motions to the source frames of the plane sweep.
        camera: of the images, a batch of 1.
    """
    found = torch.full_like(inverse_depth, torch.nan)
    view = Camera(camera.matrix[0], camera.height, camera.width)
    ground = fit_ground(known[0], view)
    if ground is None:
        return found
    below = (camera_rays(view) @ ground.to(inverse_depth))[None].clamp(min=0)
    expected = parallax(below, source_from_target, camera).amax(0)
    seen = parallax(inverse_depth, source_from_target, camera).amax(0)
    covers = (below > 0) & (seen < MAX_PARALLAX_SHARE * expected)
    covers &= (expected >= MIN_EXPECTED) & (expected <= MAX_EXPECTED_SHARE * camera.width)
    mask = cv2.morphologyEx(
        covers[0].cpu().numpy().astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask)
    height, width = mask.shape
    plane, inverse = below[0].cpu().numpy(), known[0].cpu().numpy()
    rows = np.arange(height)[:, None]
    reach = np.arange(1, max(2, round(FOOT_SHARE * height) + 1))[:, None]
    for number, size in enumerate(statistics[:, cv2.CC_STAT_AREA]):
        if number == 0 or size < MIN_SIZE * height * width:
            continue
        thing = labels == number
        columns = np.flatnonzero(thing.any(0))
        foot = np.full(width, -1)
        foot[columns] = height - 1 - thing[::-1, columns].argmax(0)
        at_foot = plane[np.minimum(foot[columns] + 1, height - 1), columns]
        just_below = np.minimum(foot[columns] + reach, height - 1)
        nearby = inverse[just_below, columns]
        on_ground = np.abs(nearby / plane[just_below, columns] - 1) < MAX_GROUND_ERROR
        if on_ground.any(0).mean() < MIN_ON_GROUND:
            continue
        # Add unknown pixels up to the horizon, where the ground's parallax is too small to detect the object.
        upper = np.isnan(inverse) & (rows <= foot) & (plane > 0)
        inside = torch.from_numpy(thing | upper).to(found.device)
        found[0, inside] = float(np.median(at_foot)) / (1 + SHADOW_MARGIN)
    return found
