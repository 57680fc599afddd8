"""Background work on the items of an iterator: before they are needed, or after they are yielded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


def prefetch(items: Iterable[T], count: int = 1) -> Iterator[T]:
    """Yield the items, while a background worker prefetches up to ``count`` of them."""
    source = iter(items)
    done = object()
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(next, source, done) for _ in range(count))
        try:
            while (item := coming.popleft().result()) is not done:
                coming.append(pool.submit(next, source, done))
                yield item  # type: ignore[misc]
        finally:
            for future in coming:
                future.cancel()


def in_background(items: Iterable[T], work: Callable[[T], S], count: int = 8) -> Iterator[T]:
    """Yield the items at once, while a background worker does ``work`` on each, in order.

    At most ``count`` items wait for the worker. Errors of the worker are raised here.
    """
    pending: deque[Future[S]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            pending.append(pool.submit(work, item))
            while len(pending) > count or (pending and pending[0].done()):
                pending.popleft().result()
            yield item
        while pending:
            pending.popleft().result()
