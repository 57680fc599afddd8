"""What long work tells of itself: phases with their progress, and notes. Nobody hears of it unless they ask.

>>> with egodepth.reporting():              # bars in a terminal, plain lines elsewhere
...     egodepth.train(settings, "runs/x")
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from egodepth.core.world import World

Item = TypeVar("Item")
RECENT = 30
"""Steps of a phase whose pace tells the time left."""


class Phase:
    """A stretch of work that may take long.

    Attributes:
        name: what is done, in words.
        done, total: how far it is, and will be; no total where that is not known.
        unit: what is counted, in the plural.
        values: what else matters by now, in words; by default the pace.
        ended: whether it is over.
    """

    def __init__(
        self, name: str, total: int | None, unit: str, reporter: "Reporter", done: int = 0
    ):
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self.values, self.ended = "", False
        self._reporter = reporter
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), done)], maxlen=RECENT)

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.update(self.done + count)

    def update(self, done: int, total: int | None = None, values: str = "") -> None:
        """So many are done, of so many if that has changed."""
        self.done = done
        self.total = self.total if total is None else total
        self.values = values or self.values
        self._recent.append((time.monotonic(), done))
        self._reporter.show(self)

    @property
    def rate(self) -> float | None:
        """How many are done per second, of late; None until that is known."""
        (start, first), (now, last) = self._recent[0], self._recent[-1]
        return (last - first) / (now - start) if last > first and now > start else None

    @property
    def status(self) -> list[str]:
        """What matters by now, or else the pace, and the time left; each where it is known."""
        rate = self.rate
        if rate is None:
            return [self.values] if self.values else []
        pace = f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
        found = [self.values or f"{pace} {self.unit}/s"]
        if self.total is not None and self.total > self.done:
            found.append(f"{describe_seconds((self.total - self.done) / rate)} left")
        return found

    def __str__(self) -> str:
        """In one line: name, count and status."""
        of = "" if self.total is None else f" of {self.total}"
        count = [f"{self.done}{of} {self.unit}"] if self.done or of else []
        return f"{self.name}: {', '.join([*count, *self.status])}".removesuffix(": ")


class Reporter(Protocol):
    """Hears what long work tells. Phases may lie within each other and may come from several threads."""

    def show(self, phase: Phase) -> None:
        """A phase began, moved on or ended."""
        ...

    def note(self, text: str) -> None:
        """Something was found or decided."""
        ...


class Silence:
    """A reporter that tells nobody."""

    def show(self, phase: Phase) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


SILENCE = Silence()
_current: ContextVar[Reporter] = ContextVar("reporter", default=SILENCE)


@contextmanager
def reporting(reporter: Reporter | None = None) -> Iterator[None]:
    """Everything within tells its progress; outside it, nothing does.

    Args:
        reporter: hears it; by default bars on standard error, or lines where that is no terminal. Of several
            processes that train together, the main one alone has these.
    """
    if reporter is None and World.of_environment().is_main:
        from egodepth.core.terminal import TerminalReporter

        reporter = TerminalReporter()
    reporter = reporter or SILENCE
    token = _current.set(reporter)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def phase(
    name: str, total: int | None = None, unit: str = "frames", done: int = 0
) -> Iterator[Phase]:
    """A phase of the work within, told to the reporter."""
    reporter = _current.get()
    found = Phase(name, total, unit, reporter, done)
    reporter.show(found)
    try:
        yield found
    finally:
        found.ended = True
        reporter.show(found)


def track(
    items: Iterable[Item], name: str, total: int | None = None, unit: str = "frames"
) -> Iterator[Item]:
    """Items as they come, each of them a step of a phase."""
    with phase(name, total, unit) as found:
        for item in items:
            yield item
            found.advance()


def note(text: str) -> None:
    """Tell the reporter what was found or decided."""
    _current.get().note(text)


def describe_seconds(seconds: float) -> str:
    """A length of time, in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
