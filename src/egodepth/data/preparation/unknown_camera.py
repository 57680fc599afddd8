"""Self-calibration of unknown cameras from pairs of frames."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from egodepth.core import progress
from egodepth.data.footage.cache import cache_file, content, read_or_make
from egodepth.data.footage.own_footage import with_lens
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens
from egodepth.geometry.self_calibration import CameraEstimate, CornerMatches, estimate_camera
from egodepth.geometry.two_views import fine_corners, track_both_ways

PAIRS = 60
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Frames from the first to the second view of a pair; the smallest one with enough flow is used."""
WANTED_FLOW = 0.03
"""Wanted median motion of corners between the views of a pair, as a share of the image width."""
MIN_TRACKED_CORNERS = 60
MAX_WIDTH = 1280
METHOD = 2
"""Version of the method, part of the cache key: raise it when estimates change."""


@dataclass
class _Open:
    """The first view of a pair whose second view is not found yet."""

    place: int
    image: np.ndarray
    corners: np.ndarray
    best: CornerMatches | None = None
    flow: float = 0.0


@dataclass
class _Pairs:
    """Collects pairs of views with enough motion in a single pass over the frames."""

    starts: frozenset[int]
    found: list[CornerMatches] = field(default_factory=list)
    _open: list[_Open] = field(default_factory=list)

    def see(self, place: int, image: np.ndarray) -> None:
        """Process the next frame, a grey image."""
        for start in list(self._open):
            step = place - start.place
            if step not in STEPS:
                continue
            first, second = track_both_ways(start.image, image, start.corners)
            if len(first) >= MIN_TRACKED_CORNERS:
                start.best = first, second
                start.flow = float(np.median(np.linalg.norm(second - first, axis=1)))
            lost = len(first) < MIN_TRACKED_CORNERS
            if lost or start.flow > WANTED_FLOW * image.shape[1] or step == STEPS[-1]:
                self._close(start)
        if place in self.starts:
            self._open.append(_Open(place, image, fine_corners(image)))

    def end(self) -> list[CornerMatches]:
        """Finish and return all pairs."""
        for start in list(self._open):
            self._close(start)
        return self.found

    def _close(self, start: _Open) -> None:
        self._open.remove(start)
        if start.best is not None:
            self.found.append(start.best)


def estimate_unknown_camera(sequence: Sequence, folder: Path) -> CameraEstimate | None:
    """Estimate focal length, principal point and k1 of a sequence's camera by self-calibration.

    Args:
        sequence: the footage; its camera, if any, is ignored.
        folder: cache folder for the result.

    Returns:
        The estimate in pixels of the frames; None if there is too little evidence.

    Raises:
        EgodepthError: broken frames.
    """
    key = f"{sequence.frames.fingerprint} {PAIRS} {WANTED_FLOW} {METHOD}"
    path = cache_file(folder, key, "-camera.json")

    def make(partial: Path) -> None:
        found = _estimate(sequence)
        values = found._asdict() | {"centre": found.centre.tolist()} if found else {}
        partial.write_text(json.dumps(values), encoding="utf-8")

    def read() -> CameraEstimate | None:
        stored = json.loads(content(path))
        if not stored:
            return None
        return CameraEstimate(**stored | {"centre": np.array(stored["centre"])})

    return read_or_make(path, make, read)


def _estimate(sequence: Sequence) -> CameraEstimate | None:
    height, width = sequence.frames.height, sequence.frames.width
    shrink = min(1.0, MAX_WIDTH / width)
    size = (round(width * shrink), round(height * shrink))
    starts = np.unique(np.linspace(0, max(len(sequence.frames) - 2, 0), PAIRS).astype(int))
    pairs = _Pairs(frozenset(int(start) for start in starts))
    name = f"looking for the camera of {sequence.name}"
    images = progress.track(_grey(sequence, size), name, len(sequence.frames))
    for place, image in enumerate(images):
        pairs.see(place, image)
    with progress.phase(f"self-calibration of {sequence.name}"):
        found = estimate_camera(pairs.end(), size[1], size[0])
    if found is not None:
        centre = (found.centre + 0.5) / shrink - 0.5
        found = found._replace(focal=found.focal / shrink, centre=centre)
    return found


def with_estimate(sequence: Sequence, found: CameraEstimate) -> Sequence:
    """A copy with the estimated camera, its frames and depth undistorted."""
    height, width = sequence.frames.height, sequence.frames.width
    cx, cy = found.centre.tolist()
    camera = Camera.from_parameters(found.focal, found.focal, cx, cy, height, width)
    lens = Lens("brown", (found.k1, 0.0, 0.0, 0.0)) if found.k1 else None
    return with_lens(sequence, camera, lens, "estimate")


def _grey(sequence: Sequence, size: tuple[int, int]) -> Iterator[np.ndarray]:
    for frame in sequence.frames.at():
        image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        yield (
            image
            if size == image.shape[::-1]
            else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        )
