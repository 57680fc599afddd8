"""The scale between predicted depth and known poses, by how well the images agree."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import warp

SPREAD = 1000.0
"""The scale is searched from that at which the motions are this many times shorter than depth, to that at
which they are as long."""
COARSE_STEPS, FINE_STEPS, FINE_ROUNDS = 48, 9, 2
MAX_DIFFERENCE = 0.15
"""Largest difference of colours in [0, 1] that counts, so that what moves or is hidden does not decide."""
MIN_SEEN_SHARE = 0.3
"""Smallest share of pixels that must be in the other picture for a pair to count at a scale."""


def find_pose_scale(
    depths: Float[Tensor, "b h w"],
    images: Float[Tensor, "b 3 h w"],
    others: Float[Tensor, "b 3 h w"],
    other_from_frame: Float[Tensor, "b 4 4"],
    camera: Camera,
) -> float:
    """The factor on translations that brings them to the unit of depth: the one at which the other images,
    warped by depth and motion, are most like the frames. One for all pairs; 1 if nothing moves.

    Args:
        depths: of the frames, in their own unit.
        images, others: in [0, 1], of the frames and of the other ends of the motions.
        other_from_frame: motions in the poses' unit.
        camera: of all images, unbatched.
    """
    length = other_from_frame[:, :3, 3].norm(dim=1)
    if not float(length.max()) > 0:
        return 1.0
    cameras = Camera(camera.matrix.expand(len(depths), 3, 3), camera.height, camera.width)

    def cost(log_scale: float) -> float:
        moved = other_from_frame.clone()
        moved[:, :3, 3] *= float(np.exp(log_scale))
        seen, valid = warp(others, depths, moved, cameras, cameras)
        difference = (seen - images).abs().mean(1).clamp(max=MAX_DIFFERENCE)
        mean = (difference * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
        enough = valid.float().mean((1, 2)) >= MIN_SEEN_SHARE
        return float(torch.where(enough, mean, MAX_DIFFERENCE).mean())

    middle = float(np.log(float(depths.median()) / float(length.median().clamp(min=1e-9))))
    places = np.linspace(middle - np.log(SPREAD), middle, COARSE_STEPS)
    for _ in range(FINE_ROUNDS + 1):
        costs = [cost(place) for place in places]
        best, step = places[int(np.argmin(costs))], places[1] - places[0]
        places = np.linspace(best - step, best + step, FINE_STEPS)
    return float(np.exp(best))
