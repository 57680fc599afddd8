"""Depth as colours."""

from functools import cache

import numpy as np


def colourize_depth(depth: np.ndarray, nearest: float | None = None) -> np.ndarray:
    """Inverse depth through the magma colour map: near is bright, far is dark, unknown is black.

    Args:
        depth: (H, W), any unit; values <= 0 or not finite are unknown.
        nearest: depth that is shown brightest; by default the 2nd percentile.

    Returns:
        (H, W, 3) uint8.
    """
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0)
    if nearest is None:
        nearest = float(np.percentile(depth[known], 2)) if known.any() else 1.0
    levels = np.clip(inverse * (nearest * 256), 0, 255).astype(np.uint8)
    return np.asarray(_magma()[levels] * known[..., None], np.uint8)


@cache
def _magma() -> np.ndarray:
    """(256, 3) uint8."""
    from matplotlib import colormaps

    return np.asarray((colormaps["magma"](np.arange(256))[:, :3] * 255).round(), np.uint8)
