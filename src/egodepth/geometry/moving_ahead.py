"""What drives ahead at the camera's own speed shows no parallax, so that several views agree that it lies far
away. But nothing is seen through the ground: where such a thing covers the ground, its foot tells its depth."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.camera import Camera, camera_rays
from egodepth.geometry.ground import fit_ground
from egodepth.geometry.plane_sweep import parallax

MIN_EXPECTED = 2.0
"""Pixels of parallax that the ground at that place has, at least, in one of the sources."""
MAX_EXPECTED_SHARE = 0.1
"""Of the image's width: where the ground has more parallax, it soon leaves the image, and the depth that is
found there is often wrong."""
MAX_PARALLAX_SHARE = 1 / 3
"""Of the ground's parallax, that a thing shows which is not part of the static scene."""
MIN_SIZE = 1e-3
"""Of the image, that a thing covers below the horizon."""
FOOT_SHARE, MAX_GROUND_ERROR, MIN_ON_GROUND = 1 / 16, 0.2, 0.5
"""Within such a share of the image's height below a thing, views must have found the ground's depth, up to such
a share of it, in such a share of the thing's columns."""
SHADOW_MARGIN = 0.075
"""How much farther a thing is than the first ground below it: its shadow moves with it."""


def moving_ahead(
    inverse_depth: Float[Tensor, "1 h w"],
    known: Float[Tensor, "1 h w"],
    source_from_target: Float[Tensor, "n 1 4 4"],
    camera: Camera,
) -> Float[Tensor, "1 h w"]:
    """Inverse depth of what moves with the camera, as far as it lies below the horizon; NaN elsewhere,
    and everywhere where no ground is seen (:func:`egodepth.geometry.ground.fit_ground`).

    Args:
        inverse_depth: by a plane sweep, as if everything were static; near 0 where there is no parallax.
        known: inverse depth that several views agree on, NaN where they do not.
        source_from_target: motions to the frames that depth was found by.
        camera: of the images, with a batch of 1.
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
        # Up to the horizon: parts that the ground's own little parallax does not tell from it.
        upper = np.isnan(inverse) & (rows <= foot) & (plane > 0)
        inside = torch.from_numpy(thing | upper).to(found.device)
        found[0, inside] = float(np.median(at_foot)) / (1 + SHADOW_MARGIN)
    return found
