"""Notices videos that hang."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

from egodepth.cluster.stopwatch import Stopwatch

LONGEST_WAIT = 3600.0
"""Seconds after which the watch looks again, however long it may take."""


@contextmanager
def watched(watch: Stopwatch, seconds: float, hangs: Callable[[], None]) -> Iterator[None]:
    """Call a function, in a thread, once no stage of the block has ended for so many seconds.

    Work in the block cannot be interrupted; the function has to end the process.
    """
    over = Event()
    watch.step()

    def look() -> None:
        while not over.wait(min(LONGEST_WAIT, seconds, _left(watch, seconds))):
            if not _left(watch, seconds):
                hangs()
                return

    Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _left(watch: Stopwatch, seconds: float) -> float:
    return max(0.0, watch.stepped + seconds - time.monotonic())


@contextmanager
def turn(lock: Lock, watch: Stopwatch) -> Iterator[None]:
    """Hold a lock in the block. Waiting for it, while another video is worked on, may take any time."""
    watch.stepped = math.inf
    with lock:
        watch.step()
        yield
