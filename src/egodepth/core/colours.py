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
    coloured = cv2.applyColorMap(np.minimum(levels, 255).astype(np.uint8), _colour_map("magma"))
    coloured[unknown] = 0
    return coloured


SUREST, LEAST_SURE = 0.02, 1.0
"""Deviations of log depth shown brightest and darkest."""


def colourize_deviation(deviation: np.ndarray) -> np.ndarray:
    """Colour deviations of log depth by their logarithm with the viridis colour map: sure is bright yellow,
    unsure dark blue.

    Args:
        deviation: (H, W), above 0.

    Returns:
        (H, W, 3) uint8.
    """
    share = np.log(np.maximum(deviation, 1e-6) / SUREST) / np.log(LEAST_SURE / SUREST)
    levels = (255 * (1 - np.clip(share, 0, 1))).astype(np.uint8)
    return cv2.applyColorMap(levels, _colour_map("viridis"))


@cache
def _colour_map(name: str) -> np.ndarray:
    """A colour map of Matplotlib, (256, 1, 3) uint8."""
    from matplotlib import colormaps

    colours = (colormaps[name](np.arange(256))[:, None, :3] * 255).round()
    return np.ascontiguousarray(colours, np.uint8)
