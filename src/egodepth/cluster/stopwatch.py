"""Measures how long each stage of the work on a video takes."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from egodepth.data.sequence import Frame, Frames

FETCHING, DECODING, NETWORK, TRACKING, WRITING, UPLOADING = STAGES = (
    "fetching", "decoding", "network", "tracking", "writing", "uploading",
)  # fmt: skip
"""What is done with a video, in order; only odometry tracks, and tracking contains the networks."""


class Stopwatch:
    """Seconds spent on each stage; stages of several threads may overlap.

    Attributes:
        seconds: by stage.
        stepped: time (monotonic) at which anything was last finished, be it a frame.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.stepped = time.monotonic()
        self._lock = Lock()

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Measure the block as a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        with self._lock:
            self.seconds[stage] += seconds
        self.step()

    def step(self) -> None:
        """Note that something is finished."""
        self.stepped = time.monotonic()

    @contextmanager
    def methods(self, owner: Any, names: Iterable[str], stage: str) -> Iterator[None]:
        """Measure the calls of some methods of an object inside the block."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name), stage))
        try:
            yield
        finally:
            for name in names:
                delattr(owner, name)

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def timed(*values: Any, **named: Any) -> Any:
            with self.of(stage):
                return function(*values, **named)

        return timed


class TimedFrames:
    """Frames whose decoding is measured."""

    def __init__(self, frames: Frames, watch: Stopwatch):
        self._frames, self._watch = frames, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frames, name)

    def __len__(self) -> int:
        return len(self._frames)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        """As :meth:`egodepth.data.sequence.Frames.at`."""
        frames = self._frames.at(indices)
        while True:
            with self._watch.of(DECODING):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame
