"""Frames and depth maps stored as image files."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import natural_order, reading, visible
from egodepth.data.pixels import (
    OWN_RANGE,
    NotFiniteError,
    ValueRange,
    is_deep,
    open_image,
    read_values,
    upright_size,
)
from egodepth.data.sequence import Frame, stem_of
from egodepth.geometry.plausible import depth_problem

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
RANGE_FRAMES = 64
"""Number of evenly spaced frames from which the value range of a sequence is estimated."""


class ImageFiles:
    """Frames from image files, rotated upright according to EXIF; grey images are repeated to three channels.

    Images of more than 8 bits per channel are scaled to 8 bits by one value range for the whole sequence,
    which a warning states.
    """

    seekable = True

    def __init__(
        self, paths: list[Path], numbers: list[int] | None = None, times: np.ndarray | None = None
    ):
        """Read the size from the first image.

        Args:
            paths: at least one image file, in temporal order.
            numbers: frame numbers; by default 0, 1, 2 and so on.
            times: in seconds; None if unknown.

        Raises:
            EgodepthError: no paths, or a first image that can't be read.
        """
        if not paths:
            raise EgodepthError("a sequence needs at least one image, got none")
        self.paths = paths
        self.numbers = numbers if numbers is not None else list(range(len(paths)))
        self.times = times
        names = [path.stem for path in paths]
        apart = len({stem_of(name) for name in names}) == len(names)
        self.names = names if apart else [""] * len(names)
        with open_image(paths[0]) as image, reading(paths[0], "the image"):
            self._deep = is_deep(image)
            self.height, self.width = upright_size(image)
        self._range: ValueRange | None = None
        self._lock = Lock()

    @property
    def fingerprint(self) -> str:
        with reading(self.paths[0].parent, "the image"):
            states = [(path, path.stat()) for path in self.paths]
        text = "\n".join(f"{p.resolve()} {s.st_size} {s.st_mtime_ns}" for p, s in states)
        levels = self.value_range if self._deep else ""
        return hashlib.sha256(f"{text} upright {levels}".encode()).hexdigest()

    @property
    def value_range(self) -> ValueRange:
        """Values of images of more than 8 bits that map to black and white, from up to 64 frames.

        Raises:
            EgodepthError: a broken image, or values that are not finite.
        """
        with self._lock:
            if self._range is None:
                alone = len(self) == 1
                where = self.paths[0] if alone else self.paths[0].parent
                self._range = sampled_range(self._values, len(self), where, alone=alone)
            return self._range

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        for index in range(len(self)) if indices is None else indices:
            time = None if self.times is None else float(self.times[index])
            yield Frame(self.numbers[index], time, self._read(index), self.names[index])

    def _read(self, index: int) -> np.ndarray:
        values = self._values(index)
        return self.value_range(values) if self._deep else values

    def _values(self, index: int) -> np.ndarray:
        path, first = self.paths[index], self.paths[0]
        with open_image(path) as image, reading(path, "the image"):
            deep, values = is_deep(image), read_values(image)
        height, width = values.shape[:2]
        if (height, width) != (self.height, self.width):
            raise EgodepthError(
                f"frames of different sizes: {path} is {width}x{height}, "
                f"{first} is {self.width}x{self.height}; make them one size"
            )
        if deep != self._deep:
            kinds = [f"{p} has {'more than' if d else ''} 8 bits per channel".replace("  ", " ")
                     for p, d in ((path, deep), (first, self._deep))]  # fmt: skip
            raise EgodepthError(
                f"frames of different kinds: {', '.join(kinds)}; save them all alike"
            )
        return values


def require_depth(depth: np.ndarray) -> np.ndarray:
    """Check depth in metres that was read, 0 where unknown, and return it.

    Raises:
        ValueError: negative values, or ones that are not finite or impossibly large.
    """
    problem = depth_problem(depth)
    if problem:
        raise ValueError(f"it {problem}")
    return depth


def read_depth_png(
    path: Path, units_per_metre: float, unknown: tuple[int, ...] = (0,)
) -> np.ndarray:
    """Read a 16-bit depth image as (H, W) float32 in metres, 0 where unknown.

    Raises:
        EgodepthError: a missing or broken file, or one with several channels.
    """
    with open_image(path) as image, reading(path, "the depth map"):
        values = np.asarray(image)
        if values.ndim != 2:
            raise ValueError(f"it has {values.shape[2]} channels, not one")
        if values.dtype.kind not in "iuf":
            raise ValueError(f"it holds {values.dtype}, not numbers")
        depth = np.where(np.isin(values, unknown), 0, values / units_per_metre).astype(np.float32)
        require_depth(depth)
    return depth


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder in natural order, without hidden files; empty if there is no such folder."""
    return natural_order(p for p in visible(folder) if p.suffix.lower() in IMAGE_SUFFIXES)


def sampled_range(
    values: Callable[[int], np.ndarray], count: int, where: object, *, alone: bool = False
) -> ValueRange:
    """Value range of images of more than 8 bits, from up to RANGE_FRAMES of them, and a warning that says so.

    Args:
        values: reads the values of the image of an index.
        count: number of images.
        where: name of the footage.
        alone: whether it is a single image rather than a frame of footage.

    Raises:
        EgodepthError: a broken image, or values that are not finite.
    """
    places = np.linspace(0, count - 1, min(count, RANGE_FRAMES)).astype(int)
    try:
        found = ValueRange.of(values(int(place)) for place in np.unique(places))
    except NotFiniteError as error:
        raise EgodepthError(f"{where} {error}") from error
    warnings.warn(
        f"{where}: values of more than 8 bits, of which {found} become black to white"
        + (f", the range {OWN_RANGE}" if alone else " in all frames"),
        EgodepthWarning,
        stacklevel=3,
    )
    return found
