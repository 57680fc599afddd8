"""Frames that are rendered when they are asked for: what all synthetic footage has in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import numpy as np

from egodepth.data.sequence import Frame

RATE = 10.0
"""Frames per second."""


class RenderedFrames(ABC):
    """Frames as :class:`~egodepth.data.sequence.Sequence` takes them; subclasses say how one is rendered."""

    seekable = False

    def __init__(self, seed: int, frames: int, height: int, width: int):
        """Args:
        seed: chooses everything that is drawn at random.
        frames: number of frames.
        height, width: image size in pixels.
        """
        self.seed, self.height, self.width, self._count = seed, height, width, frames

    @abstractmethod
    def render(self, index: int) -> tuple[np.ndarray, ...]:
        """Image (H, W, 3) uint8 and depth (H, W) float32 in metres, 0 for sky; perhaps more."""

    @property
    def numbers(self) -> list[int]:
        """Numbers of the frames."""
        return list(range(self._count))

    @property
    def times(self) -> np.ndarray:
        """(N,) seconds."""
        return np.arange(self._count) / RATE

    def __len__(self) -> int:
        return self._count

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        """Frames at these positions, by default all."""
        for index in range(self._count) if indices is None else indices:
            yield Frame(index, index / RATE, self.render(index)[0])

    def depth(self, index: int) -> np.ndarray:
        """Exact depth (H, W) float32 in metres at the pixel centres, 0 for sky."""
        return self.render(index)[1]
