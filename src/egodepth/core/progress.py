"""Progress of long work: phases and notes, sent to a reporter. Without a reporter nothing is shown.

>>> with egodepth.reporting():              # bars in a terminal, plain lines elsewhere
...     egodepth.train(settings, "runs/x")
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from egodepth.core.errors import one_line, printable
from egodepth.core.world import World

Item = TypeVar("Item")
RECENT = 30
"""Number of recent updates from which the rate and the time left are computed."""


class Phase:
    """A phase of long work, with its progress.

    Attributes:
        name: description of the work, escaped, as it may hold names of files.
        done, total: current and final count; the total is None if unknown.
        unit: what is counted, in the plural.
        values: current values to show instead of the rate, in words; empty for the rate.
        ended: whether the phase is over.
    """

    def __init__(
        self, name: str, total: int | None, unit: str, reporter: "Reporter", done: int = 0
    ):
        self.name, self.total, self.unit, self.done = one_line(name), total, unit, done
        self.values, self.ended = "", False
        self._reporter = reporter
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), done)], maxlen=RECENT)

    def advance(self, count: int = 1) -> None:
        """Add to the number done."""
        self.update(self.done + count)

    def update(self, done: int, total: int | None = None, values: str = "") -> None:
        """Set the number done and, if given, the total and the values to show."""
        self.done = done
        self.total = self.total if total is None else total
        self.values = values or self.values
        self._recent.append((time.monotonic(), done))
        self._reporter.show(self)

    @property
    def rate(self) -> float | None:
        """Recent rate in units per second; None until it is known."""
        (start, first), (now, last) = self._recent[0], self._recent[-1]
        return (last - first) / (now - start) if last > first and now > start else None

    @property
    def status(self) -> list[str]:
        """The values, or else the rate, and the time left, as far as they are known."""
        rate = self.rate
        if rate is None:
            return [self.values] if self.values else []
        pace = f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
        found = [self.values or f"{pace} {self.unit}/s"]
        if self.total is not None and self.total > self.done:
            found.append(f"{describe_seconds((self.total - self.done) / rate)} left")
        return found

    def __str__(self) -> str:
        """One line with name, count and status."""
        of = "" if self.total is None else f" of {self.total}"
        count = [f"{self.done}{of} {self.unit}"] if self.done or of else []
        return f"{self.name}: {', '.join([*count, *self.status])}".removesuffix(": ")


class Reporter(Protocol):
    """Receives the progress of long work. Phases may be nested and may come from several threads."""

    def show(self, phase: Phase) -> None:
        """Called when a phase begins, advances or ends."""
        ...

    def note(self, text: str) -> None:
        """Called with a message about something found or decided."""
        ...


class Silence:
    """A reporter that shows nothing."""

    def show(self, phase: Phase) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


SILENCE = Silence()
_current: ContextVar[Reporter] = ContextVar("reporter", default=SILENCE)


@contextmanager
def reporting(reporter: Reporter | None = None) -> Iterator[None]:
    """Report the progress of everything inside the ``with`` block.

    Args:
        reporter: receives the progress; by default it is shown on standard error, as bars in a terminal and
            lines elsewhere, and only in the main process if several train together.
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
    """Report the work inside the ``with`` block as a phase."""
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
    """Yield the items and report them as a phase."""
    with phase(name, total, unit) as found:
        for item in items:
            yield item
            found.advance()


def note(text: str) -> None:
    """Send the reporter a message about something found or decided."""
    _current.get().note(printable(text))


def describe_seconds(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
