"""Iterating ahead of the one who takes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


def ahead(items: Iterable[T], count: int = 1) -> Iterator[T]:
    """The same items, up to ``count`` of them made in a thread while one is worked on."""
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


def beside(items: Iterable[T], work: Callable[[T], S], count: int = 8) -> Iterator[T]:
    """The same items, each passed on at once while ``work`` is done on it in a thread, in order; at most
    ``count`` wait for it. An error of the work is raised here."""
    pending: deque[Future[S]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            pending.append(pool.submit(work, item))
            while len(pending) > count or (pending and pending[0].done()):
                pending.popleft().result()
            yield item
        while pending:
            pending.popleft().result()
