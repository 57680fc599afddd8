"""Scores of loss surfaces: how easily descent finds the true match.

A surface holds a loss over displacements (x, y) from the true match, on a square grid with the truth
in its middle: (..., G, G), rows along y.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

FOUND_WITHIN = 1.5
"""Pixels: descent that ends this near the true match has found it."""
NEAR = 3.0
"""Pixels."""
FLAT_SLOPE = 0.01
"""A slope below this share of the scale, a pixel, is flat."""
TEXTURE_WINDOW = 7


@dataclass(frozen=True)
class SurfaceScores:
    """Scores of N surfaces, one value each.

    Attributes:
        basin: radius in pixels of the largest disc around the true match from all of whose points
            descent finds it; 0 where the truth itself is left.
        reach: share of all displacements from which descent finds it.
        minima: local minima inside the grid.
        plateau: share of displacements where the surface is flat.
        miss: distance in pixels from the true match to the lowest point of the grid.
        near_miss: the same to the lowest point within ``NEAR`` pixels: how far off the loss is for
            who is nearly there.
    """

    basin: Float[ndarray, " n"]
    reach: Float[ndarray, " n"]
    minima: Int[ndarray, " n"]
    plateau: Float[ndarray, " n"]
    miss: Float[ndarray, " n"]
    near_miss: Float[ndarray, " n"]

    def mean(self, chosen: Bool[ndarray, " n"] | None = None) -> dict[str, float]:
        """Mean of each score over all surfaces, or over the chosen ones."""
        rows = slice(None) if chosen is None else chosen
        return {name: float(values[rows].mean()) for name, values in vars(self).items()}


def texture_groups(texture: Float[ndarray, " n"]) -> dict[str, Bool[ndarray, " n"]]:
    """Group pixels into ``all`` and, from three pixels on, the thirds with the least and the most texture."""
    groups = {"all": np.ones(len(texture), bool)}
    if len(texture) >= 3:
        low, high = np.percentile(texture, [100 / 3, 200 / 3])
        groups |= {"least texture": texture <= low, "most texture": texture > high}
    return groups


def score_surfaces(
    surfaces: Float[ndarray, "n g g"], step: float, scale: float | None = None
) -> SurfaceScores:
    """Score surfaces of one loss.

    Args:
        surfaces: losses, G odd.
        step: pixels between neighbours of the grid.
        scale: what slopes are compared with for the plateaus; by default the median over the
            surfaces of the range of each, so that bland surroundings count as flat.
    """
    surfaces = surfaces.astype(np.float64)
    count, size = surfaces.shape[:2]
    middle = size // 2
    distance = step * np.hypot(*(np.indices((size, size)) - middle))
    ends = descend(surfaces)
    found = distance.ravel()[ends] <= FOUND_WITHIN
    lost = np.where(found, np.inf, distance.ravel())
    # The disc must lie in the grid, whose corners are further away than its sides.
    basin = np.minimum(lost.min(1) - step, step * middle).clip(min=0)
    own = ends == np.arange(size * size)
    inner = np.zeros((size, size), bool)
    inner[1:-1, 1:-1] = True
    if scale is None:
        scale = float(np.median(np.ptp(surfaces.reshape(count, -1), axis=1)))
    along_y, along_x = np.gradient(surfaces, step, axis=(1, 2))
    flat = np.hypot(along_x, along_y) < FLAT_SLOPE * scale
    return SurfaceScores(
        basin=basin,
        reach=found.mean(1),
        minima=(own & inner.ravel()).sum(1),
        plateau=flat.mean((1, 2)),
        miss=distance.ravel()[surfaces.reshape(count, -1).argmin(1)],
        near_miss=distance.ravel()[
            np.where(distance <= NEAR, surfaces, np.inf).reshape(count, -1).argmin(1)
        ],
    )


def descend(surfaces: Float[ndarray, "n g g"]) -> Int[ndarray, "n g2"]:
    """Follow steepest descent from every point to its end: flat indices (N, G * G) into the grid.

    Each step goes to the neighbour among eight with the steepest fall, until there is none.
    """
    count, size, _ = surfaces.shape
    padded = np.pad(surfaces, ((0, 0), (1, 1), (1, 1)), constant_values=np.inf)
    best = np.zeros(surfaces.shape)
    target = np.broadcast_to(np.arange(size * size).reshape(size, size), surfaces.shape).copy()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dx == dy == 0:
                continue
            neighbour = padded[:, 1 + dy : 1 + dy + size, 1 + dx : 1 + dx + size]
            fall = (surfaces - neighbour) / np.hypot(dx, dy)
            steeper = fall > best
            best = np.where(steeper, fall, best)
            here = np.arange(size * size).reshape(size, size) + dy * size + dx
            target = np.where(steeper, here, target)
    ends = target.reshape(count, -1)
    while True:
        further = np.take_along_axis(ends, ends, axis=1)
        if (further == ends).all():
            return ends
        ends = further


def texture(image: Float[ndarray, "h w 3"]) -> Float[ndarray, "h w"]:
    """Mean size of the colour gradient in a window of 7x7 pixels, for colours in [0, 1]."""
    along_y, along_x = np.gradient(image, axis=(0, 1))
    strength = np.hypot(along_x, along_y).mean(2)
    half = TEXTURE_WINDOW // 2
    padded = np.pad(strength, half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (TEXTURE_WINDOW, TEXTURE_WINDOW))
    return windows.mean((2, 3))
