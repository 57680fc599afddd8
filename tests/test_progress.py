import io

import pytest
from rich.console import Console

from egodepth.core import progress
from egodepth.core.progress import WorkProgress


def test_without_a_terminal_long_work_prints_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    out = io.StringIO()
    with WorkProgress(Console(file=out)) as bar:
        task = bar.add_task("placing frames", total=6)
        for _ in range(6):
            bar.advance(task)
    # A line every 15 seconds, of steps that take ten.
    assert out.getvalue().splitlines() == [f"placing frames: {n}/6" for n in (2, 4, 6)]


def test_short_work_says_nothing() -> None:
    out = io.StringIO()
    with WorkProgress(Console(file=out)) as bar:
        for _ in bar.track(range(3), description="looking"):
            pass
    assert out.getvalue() == ""
