"""Depth as colours."""

import numpy as np


def colourize_depth(depth: np.ndarray, nearest: float | None = None) -> np.ndarray:
    """Inverse depth through the magma colour map: near is bright, far is dark, unknown is black.

    Args:
        depth: (H, W), any unit; values <= 0 or not finite are unknown.
        nearest: depth that is shown brightest; by default the 2nd percentile.

    Returns:
        (H, W, 3) uint8.
    """
    from matplotlib import colormaps

    known = np.isfinite(depth) & (depth > 0)
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0)
    if nearest is None:
        nearest = float(np.percentile(depth[known], 2)) if known.any() else 1.0
    colours = colormaps["magma"](np.clip(inverse * nearest, 0, 1))[..., :3]
    return np.asarray((colours * known[..., None] * 255).round(), np.uint8)
