"""Progress of long work: a bar in a terminal, elsewhere a plain line every few seconds."""

import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 15.0
"""Where there is no terminal; work that ends sooner says nothing."""


class WorkProgress(Progress):
    """Rich's progress, which prints plain lines where there is no terminal to draw bars on."""

    def __init__(self, console: Console):
        super().__init__(console=console, transient=True, disable=not console.is_terminal)
        self._last_line = time.monotonic()

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """See rich."""
        super().update(task_id, **fields)
        self._print_line(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """See rich."""
        super().advance(task_id, advance)
        self._print_line(task_id)

    def _print_line(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if self.console.is_terminal or now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        task = self.tasks[self.task_ids.index(task_id)]
        total = "" if task.total is None else f"/{task.total:.0f}"
        self.console.print(f"{task.description}: {task.completed:.0f}{total}")
