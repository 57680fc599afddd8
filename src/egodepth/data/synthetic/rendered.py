"""Base of all synthetic footage: frames rendered on demand."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import numpy as np

from egodepth.data.sequence import Frame

RATE = 10.0
"""Frames per second."""


class RenderedFrames(ABC):
    """Frames of a :class:`~egodepth.data.sequence.Sequence`, rendered on demand by subclasses."""

    seekable = False

    def __init__(self, seed: int, frames: int, height: int, width: int):
        """Set seed and size.

        Args:
            seed: seed of everything random.
            frames: number of frames.
            height, width: image size in pixels.
        """
        self.seed, self.height, self.width, self._count = seed, height, width, frames

    @abstractmethod
    def render(self, index: int) -> tuple[np.ndarray, ...]:
        """Render an image (H, W, 3) uint8 and its depth (H, W) float32 in metres, 0 for sky; subclasses may
        return more."""

    @property
    def numbers(self) -> list[int]:
        """Frame numbers."""
        return list(range(self._count))

    @property
    def times(self) -> np.ndarray:
        """Times of the frames (N,) in seconds."""
        return np.arange(self._count) / RATE

    def __len__(self) -> int:
        return self._count

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        """Yield the frames at these positions, by default all."""
        for index in range(self._count) if indices is None else indices:
            yield Frame(index, index / RATE, self.render(index)[0])

    def depth(self, index: int) -> np.ndarray:
        """Exact depth (H, W) float32 in metres at the pixel centres, 0 for sky."""
        return self.render(index)[1]
