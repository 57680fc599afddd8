"""Progress display: bars in a terminal, elsewhere a plain line every few seconds."""

import threading
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from egodepth.core.progress import Phase

SECONDS_BETWEEN_LINES = 15.0
"""Seconds between lines without a terminal; work that takes less time prints nothing."""


class _Status(ProgressColumn):
    """Status of a phase: its current values or rate, and the time left."""

    def render(self, task: Task) -> Text:
        phase: Phase = task.fields["phase"]
        return Text("  ".join(phase.status))


class TerminalReporter:
    """A reporter that shows phases and notes on a console.

    Without a terminal, the innermost phase is printed every SECONDS_BETWEEN_LINES, by a thread, since the phase
    may be waiting for work that does not report.
    """

    def __init__(self, console: Console | None = None, seconds: float = SECONDS_BETWEEN_LINES):
        """Prepare the display.

        Args:
            console: console to write to; by default standard error.
            seconds: seconds between plain lines.
        """
        self.console = console or Console(stderr=True)
        if console is None and not self.console.is_terminal:
            self.console.soft_wrap = True
        self._seconds = seconds
        self._lock = threading.RLock()
        self._phases: list[Phase] = []
        self._tasks: dict[int, TaskID] = {}
        self._bars: Progress | None = None
        self._ended: threading.Event | None = None
        self._last_line = time.monotonic()

    def note(self, text: str) -> None:
        """Print a note as a line of its own."""
        self._last_line = time.monotonic()
        self.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def show(self, phase: Phase) -> None:
        """Start, update or remove the bar of a phase."""
        with self._lock:
            if phase.ended:
                self._end(phase)
            elif not any(known is phase for known in self._phases):
                self._begin(phase)
                self._print_if_due()  # many short phases add up to long work
            elif self._bars is not None:
                self._bars.update(
                    self._tasks[id(phase)], completed=phase.done, total=phase.total,
                    description=phase.name,
                )  # fmt: skip

    def _begin(self, phase: Phase) -> None:
        self._phases.append(phase)
        if self.console.is_terminal:
            if self._bars is None:
                self._bars = Progress(
                    TextColumn("{task.description}", markup=False), BarColumn(24),
                    MofNCompleteColumn(), _Status(), console=self.console, transient=True,
                )  # fmt: skip
                self._bars.start()
            self._tasks[id(phase)] = self._bars.add_task(
                phase.name, total=phase.total, completed=phase.done, phase=phase
            )
        elif self._ended is None:
            self._ended = threading.Event()
            threading.Thread(target=self._beat, args=(self._ended,), daemon=True).start()

    def _end(self, phase: Phase) -> None:
        self._phases = [known for known in self._phases if known is not phase]
        if self._bars is not None and id(phase) in self._tasks:
            self._bars.remove_task(self._tasks.pop(id(phase)))
        if self._phases:
            return
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        if self._ended is not None:
            self._ended.set()
            self._ended = None

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(max(0.0, self._last_line + self._seconds - time.monotonic())):
            self._print_if_due()

    def _print_if_due(self) -> None:
        with self._lock:
            due = time.monotonic() - self._last_line >= self._seconds
            if due and self._phases and not self.console.is_terminal:
                self.note(str(self._phases[-1]))
