"""Points that several frames see, each with its observations: the tracks of COLMAP models."""

from collections import deque
from typing import NamedTuple

import numpy as np
import torch

from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import sample
from egodepth.inference.export.cloud import AGREEMENT, DepthView, unproject_view

MAX_POINTS = 100_000
"""Largest number of points of a scene. Methods that start from points add their own."""
MAX_ROUND_TRIP = 1.0
"""Largest distance in pixels, at the size of the networks, between a point's pixel and where it returns to:
into another frame by its depth, and back by the depth there."""
NEIGHBOURS = 10
"""Number of frames before, and after, in which a point is looked for."""


class Tracks(NamedTuple):
    """Points and their observations.

    Attributes:
        points: (P, 3) float64, in the frame of the first camera.
        colours: (P, 3) uint8.
        errors: (P,) float64, mean distance in pixels between a point's pixel and where it returns to from
            the other frames that see it; see MAX_ROUND_TRIP.
        frames: (O,) numbers of the frames of the observations.
        indices: (O,) index of their points; ascending.
        pixels: (O, 2) float64, x and y where the frames see them.
    """

    points: np.ndarray
    colours: np.ndarray
    errors: np.ndarray
    frames: np.ndarray
    indices: np.ndarray
    pixels: np.ndarray


class _Seeds(NamedTuple):
    """Points of a view: its valid pixels, or some of them.

    Attributes:
        view: the view.
        first: index of its first point.
        points: (n, 3) float64, in the frame of its camera.
        pixels: (n, 2) float64.
    """

    view: DepthView
    first: int
    points: np.ndarray
    pixels: np.ndarray


class TrackBuilder:
    """Collects points and their observations from the views of a scene, in temporal order."""

    def __init__(self, count: int):
        """Start without views.

        Args:
            count: number of views that will come.
        """
        self._most = max(1, MAX_POINTS // max(1, count))
        self._recent: deque[_Seeds] = deque(maxlen=NEIGHBOURS)
        self._points: list[np.ndarray] = []
        self._colours: list[np.ndarray] = []
        self._frames: list[np.ndarray] = []
        self._indices: list[np.ndarray] = []
        self._pixels: list[np.ndarray] = []
        self._distances: list[np.ndarray] = []
        self._size = (1, 1)
        self._total = 0

    def add(self, view: DepthView) -> None:
        """Add the next view."""
        self._size = view.depth.shape
        rng = np.random.default_rng(view.number)
        chosen = np.flatnonzero(view.valid)
        if len(chosen) > self._most:
            chosen = np.sort(rng.choice(chosen, self._most, replace=False))
        y, x = np.divmod(chosen, view.depth.shape[1])
        pixels = np.stack([x, y], axis=1).astype(np.float64)
        seeds = _Seeds(view, self._total, unproject_view(view)[chosen], pixels)
        pose = view.first_from_frame
        self._total += len(chosen)
        self._points.append(seeds.points @ pose[:3, :3].T + pose[:3, 3])
        self._colours.append(view.image.reshape(-1, 3)[chosen])
        self._observe(view, np.arange(len(chosen)) + seeds.first, pixels, np.zeros(len(chosen)))
        for other in self._recent:
            self._look(other, view)
            self._look(seeds, other.view)
        self._recent.append(seeds)

    def _look(self, seeds: _Seeds, view: DepthView) -> None:
        """Look for points of one view in another."""
        view_from_seeds = np.linalg.inv(view.first_from_frame) @ seeds.view.first_from_frame
        seen, pixels, distances = _seen(seeds, view, view_from_seeds)
        self._observe(view, seeds.first + np.flatnonzero(seen), pixels[seen], distances[seen])

    def _observe(
        self, view: DepthView, indices: np.ndarray, pixels: np.ndarray, distances: np.ndarray
    ) -> None:
        self._frames.append(np.full(len(indices), view.number))
        self._indices.append(indices)
        self._pixels.append(pixels)
        self._distances.append(distances)

    def build(self, camera: Camera, factor: float) -> Tracks:
        """The points that at least two views see, and their observations.

        Args:
            camera: of the images; pixels are given at its size.
            factor: from the unit of the views to that of the result.
        """
        if not self._points:
            nothing = np.zeros((0, 3))
            return Tracks(nothing, nothing.astype(np.uint8), nothing[:, 0], *_NO_OBSERVATIONS)
        indices = np.concatenate(self._indices)
        order = np.argsort(indices, kind="stable")
        indices = indices[order]
        frames = np.concatenate(self._frames)[order]
        pixels = np.concatenate(self._pixels)[order]
        distances = np.concatenate(self._distances)[order]
        seen_by = np.bincount(indices, minlength=self._total)
        kept = seen_by >= 2
        scale = np.array([camera.width / self._size[1], camera.height / self._size[0]])
        # The first observation of a point is its own pixel, which is exact.
        sums = np.bincount(indices, distances, minlength=self._total)
        errors = sums[kept] / (seen_by[kept] - 1) * scale.mean()
        of_kept = kept[indices]
        return Tracks(
            np.concatenate(self._points)[kept] * factor,
            np.concatenate(self._colours)[kept],
            errors,
            frames[of_kept],
            (np.cumsum(kept) - 1)[indices[of_kept]],
            (pixels[of_kept] + 0.5) * scale - 0.5,
        )


_NO_OBSERVATIONS = (np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)))


def _seen(
    seeds: _Seeds, view: DepthView, view_from_seeds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which points of one view another sees, at which pixels (n, 2), and how far they return to from their own.

    A point is seen where the depths agree and it returns to its pixel.
    """
    moved = seeds.points @ view_from_seeds[:3, :3].T + view_from_seeds[:3, 3]
    ahead = moved[:, 2] > 0
    pixels = view.camera.project(torch.from_numpy(np.where(ahead[:, None], moved, 1.0))).numpy()
    height, width = view.depth.shape
    inside = ahead & (pixels >= 0).all(1) & (pixels <= (width - 1, height - 1)).all(1)
    places = np.where(inside[:, None], pixels, 0)
    maps = torch.from_numpy(np.stack([1 / view.depth, view.valid.astype(np.float64)]))
    inverse, valid = sample(maps[None], torch.from_numpy(places)[None, None])[0, :, 0].numpy()
    agrees = inside & (valid > 0.999) & (np.abs(moved[:, 2] * inverse - 1) < AGREEMENT)
    there = view.camera.unproject(torch.from_numpy(places), torch.from_numpy(1 / inverse)).numpy()
    back = (there - view_from_seeds[:3, 3]) @ view_from_seeds[:3, :3]
    ahead = back[:, 2] > 0
    home = view.camera.project(torch.from_numpy(np.where(ahead[:, None], back, 1.0))).numpy()
    distances = np.linalg.norm(home - seeds.pixels, axis=1)
    return agrees & ahead & (distances < MAX_ROUND_TRIP), pixels, distances
