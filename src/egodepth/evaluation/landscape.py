"""Scores of loss surfaces: how easily descent finds the true match.

A surface is a loss over displacements (x, y) from the true match, on a square grid centred on the true
match: (..., G, G), rows along y.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

FOUND_WITHIN = 1.5
"""Maximum distance in pixels at which descent has found the true match."""
NEAR = 3.0
"""Radius in pixels of ``near_miss``."""
FLAT_SLOPE = 0.01
"""Slope per pixel, as a fraction of the scale, below which a surface is flat."""
TEXTURE_WINDOW = 7


@dataclass(frozen=True)
class SurfaceScores:
    """Scores of N surfaces, one value each.

    Attributes:
        basin: radius in pixels of the largest disc around the true match in which descent finds it from
            every point; 0 if descent leaves the true match itself.
        reach: share of all displacements from which descent finds the true match.
        minima: number of local minima inside the grid.
        plateau: share of displacements where the surface is flat.
        miss: distance in pixels from the true match to the lowest point of the grid.
        near_miss: distance in pixels to the lowest point within ``NEAR`` pixels: the bias of the loss for
            a nearly correct match.
    """

    basin: Float[ndarray, " n"]
    reach: Float[ndarray, " n"]
    minima: Int[ndarray, " n"]
    plateau: Float[ndarray, " n"]
    miss: Float[ndarray, " n"]
    near_miss: Float[ndarray, " n"]

    def mean(self, chosen: Bool[ndarray, " n"] | None = None) -> dict[str, float]:
        """Mean of each score over all surfaces or the chosen ones."""
        rows = slice(None) if chosen is None else chosen
        return {name: float(values[rows].mean()) for name, values in vars(self).items()}


def texture_groups(texture: Float[ndarray, " n"]) -> dict[str, Bool[ndarray, " n"]]:
    """Group pixels into ``all`` and, given at least three, the thirds with the least and the most texture."""
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
        step: grid spacing in pixels.
        scale: reference for the slopes of plateaus; by default the median of the surfaces' ranges, so that
            surfaces of textureless regions count as flat.
    """
    surfaces = surfaces.astype(np.float64)
    count, size = surfaces.shape[:2]
    middle = size // 2
    distance = step * np.hypot(*(np.indices((size, size)) - middle))
    ends = descend(surfaces)
    found = distance.ravel()[ends] <= FOUND_WITHIN
    lost = np.where(found, np.inf, distance.ravel())
    # The disc must lie inside the grid, whose corners are farther away than its sides.
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
    """Follow steepest descent from every point; returns end points as flat indices (N, G * G) into the grid.

    Each step goes to whichever of the eight neighbours has the steepest descent, until none is lower.
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
    """Mean magnitude of the colour gradient in a window of 7x7 pixels, for colours in [0, 1]."""
    along_y, along_x = np.gradient(image, axis=(0, 1))
    strength = np.hypot(along_x, along_y).mean(2)
    half = TEXTURE_WINDOW // 2
    padded = np.pad(strength, half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (TEXTURE_WINDOW, TEXTURE_WINDOW))
    return windows.mean((2, 3))
