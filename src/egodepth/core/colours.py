"""Colour maps for depth."""

from functools import cache

import cv2
import numpy as np


def colourize_depth(depth: np.ndarray, nearest: float | None = None) -> np.ndarray:
    """Colour depth by its inverse with the magma colour map: near is bright, far is dark, unknown is black.

    Args:
        depth: (H, W), any unit; values <= 0 or not finite are unknown.
        nearest: depth shown brightest; by default the 2nd percentile.

    Returns:
        (H, W, 3) uint8.
    """
    unknown = ~(np.isfinite(depth) & (depth > 0))
    if nearest is None:
        nearest = 1.0 if unknown.all() else float(np.percentile(depth[~unknown], 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = np.float32(nearest * 256) / depth.astype(np.float32)
    levels[unknown] = 0
    coloured = cv2.applyColorMap(np.minimum(levels, 255).astype(np.uint8), _magma())
    coloured[unknown] = 0
    return coloured


@cache
def _magma() -> np.ndarray:
    """The magma colour map, (256, 1, 3) uint8."""
    from matplotlib import colormaps

    colours = (colormaps["magma"](np.arange(256))[:, None, :3] * 255).round()
    return np.ascontiguousarray(colours, np.uint8)
