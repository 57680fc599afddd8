"""Render points into a depth map."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def z_buffer(
    pixels: Int[ndarray, "n 2"], depth: Float[ndarray, "n"], height: int, width: int
) -> Float[ndarray, "h w"]:
    """Depth map (H, W) float32 of points at integer pixels (x, y): the nearest point of a pixel wins, points
    outside of the image are ignored, and pixels without a point are 0."""
    inside = ((pixels >= 0) & (pixels < (width, height))).all(1)
    x, y = pixels[inside].T
    nearest = np.full((height, width), np.inf, np.float32)
    np.minimum.at(nearest, (y, x), depth[inside].astype(np.float32))
    return np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)
