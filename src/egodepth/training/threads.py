"""Choice of the number of CPU threads by timing: fewer may be faster if other processes use the cores."""

import os
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from egodepth.core import progress
from egodepth.core.schedule import Schedule
from egodepth.training.module import EgodepthModule
from egodepth.training.step_callback import StepCallback

CLEARLY_FASTER = 0.9
"""Maximum relative step time for which another number of threads is chosen."""
PROBE_STEPS = 2
"""Number of trial steps per number of threads; the fastest one counts."""
RECENT_STEPS = 8
"""Number of recent steps whose median is the typical step time."""
SLOWED_DOWN = 2.0
"""Slowdown of the typical step, as a factor, above which other numbers of threads are tried."""
RETRY_SECONDS = 300.0
"""Seconds between trials while fewer than the maximum number of threads are used: cores may be free again."""


def thread_options(accelerator: str) -> list[int]:
    """Numbers of threads worth trying, the current one first; only that one for a GPU or if OMP_NUM_THREADS is
    set."""
    most = torch.get_num_threads()
    if accelerator != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return [most]
    return sorted({most, max(1, most - 1), max(1, most // 2)}, reverse=True)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Context manager that restores PyTorch's number of threads at the end."""
    count = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(count)


def fastest(seconds: dict[int, float]) -> int:
    """Return the number of threads with the smallest step time; the first one unless another is clearly
    faster."""
    first, best = next(iter(seconds)), min(seconds, key=lambda count: seconds[count])
    return best if seconds[best] < CLEARLY_FASTER * seconds[first] else first


def describe_threads(seconds: dict[int, float], chosen: int) -> str:
    """Describe the measured step times and the choice in one line."""
    each = ", ".join(
        f"{s:.2f} s with {n} thread{'s' * (n > 1)}" for n, s in sorted(seconds.items())
    )
    return f"a step takes {each}: {chosen} {'is' if chosen == 1 else 'are'} used"


class ThreadChoice:
    """Tries other numbers of threads when steps slow down.

    Attributes:
        chosen: fastest number of threads so far.
        count: number of threads to use now: ``chosen``, or one that is being tried.
        seconds: step times by number of threads, from the last trial.
    """

    def __init__(self, options: list[int], chosen: int):
        """Args:
        options: numbers of threads to try, the largest first.
        chosen: initial number of threads.
        """
        self.options, self.chosen, self.count = options, chosen, chosen
        self.seconds: dict[int, float] = {}
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._usual: float | None = None
        self._to_try: list[int] = []
        self._kind = False
        self._since_look = 0.0

    def step_done(self, seconds: float, kind: bool) -> bool:
        """Update the choice after each step; return whether another number of threads was chosen.

        Args:
            seconds: duration of the step.
            kind: kind of step; only steps of the same kind are compared.
        """
        self._since_look += seconds
        if kind != self._kind:
            self._kind, self._usual = kind, None
            self._recent.clear()
            self._to_try, self.count = [], self.chosen
        if self._to_try:
            return self._tried(seconds)
        self._recent.append(seconds)
        if len(self._recent) < RECENT_STEPS:
            return False
        typical = statistics.median(self._recent)
        self._usual = min(typical, self._usual or typical)
        retry = self.chosen < self.options[0] and self._since_look > RETRY_SECONDS
        if typical > SLOWED_DOWN * self._usual or retry:
            self.seconds, self._since_look, self._usual = {self.chosen: typical}, 0.0, None
            self._recent.clear()
            others = [n for n in self.options if n != self.chosen]
            self._to_try = [n for n in others for _ in range(PROBE_STEPS)]
            self.count = next(iter(self._to_try), self.chosen)
        return False

    def _tried(self, seconds: float) -> bool:
        tried, before = self._to_try.pop(0), self.chosen
        self.seconds[tried] = min(seconds, self.seconds.get(tried, seconds))
        if self._to_try:
            self.count = self._to_try[0]
            return False
        self.chosen = self.count = fastest(self.seconds)
        return self.chosen != before


class ThreadWatch(StepCallback):
    """Adapts the number of CPU threads during training."""

    def __init__(self, choice: ThreadChoice, schedule: Schedule, labels_first: float):
        """Args:
        choice: choice of the number of threads.
        schedule, labels_first: determine which steps learn from labels only, and take less time.
        """
        self.choice, self.schedule, self.labels_first = choice, schedule, labels_first

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        return {"threads": self.choice.chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        if state_dict["threads"] in self.choice.options:
            self.choice.chosen = self.choice.count = state_dict["threads"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.set_num_threads(self.choice.count)
        self._last = time.perf_counter()

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        now, before = time.perf_counter(), self.choice.count
        on_labels = self.schedule.progress(trainer.global_step - 1) < self.labels_first
        chosen = self.choice.step_done(now - self._last, on_labels)
        self._last = now
        if self.choice.count != before:
            torch.set_num_threads(self.choice.count)
        if chosen:
            text = describe_threads(self.choice.seconds, self.choice.count)
            progress.note(f"step {trainer.global_step}: {text}")
