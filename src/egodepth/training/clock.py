"""Time budget of a training, which adapts the number of steps to the speed of the machine."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import lightning as L

from egodepth.core.schedule import Schedule
from egodepth.training.module import EgodepthModule
from egodepth.training.snippets import BATCHES_AHEAD
from egodepth.training.step_callback import StepCallback

PLANNED_SHARE = 0.97
"""Share of the time budget that is planned; the rest is for the last checkpoint and shutting down."""
LOOK_EVERY = 0.05
"""Share of the time budget after which even small changes of the number of steps are applied."""
LARGE_CHANGE, SMALL_CHANGE = 0.15, 0.01
"""Minimum change of the number of steps, as a share of the steps left, to be applied immediately, and after
LOOK_EVERY."""
RECENT_STEPS, MIN_TIMED_STEPS = 8, 3
"""Maximum and minimum number of recent steps for estimating the time per step."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds per training step.

    Attributes:
        labels: seconds of a step that learns from dense labels only.
        full: seconds of any other step.
        labels_first: share of training that learns from dense labels only, at the start.
    """

    labels: float
    full: float
    labels_first: float = 0.0

    def at(self, progress: float) -> float:
        """Seconds of a step at some progress, between 0 and 1."""
        return self.labels if progress < self.labels_first else self.full

    def mean(self, progress: float = 0.0) -> float:
        """Mean seconds per step from some progress to the end."""
        labels = max(0.0, self.labels_first - progress) / max(1e-9, 1 - progress)
        return labels * self.labels + (1 - labels) * self.full

    def with_step(self, progress: float, seconds: float) -> "StepTimes":
        """Rescale both kinds of steps so that the one at some progress takes ``seconds``."""
        factor = seconds / self.at(progress)
        return replace(self, labels=self.labels * factor, full=self.full * factor)


class Budget:
    """Time budget of a training, and the number of steps that fits into it.

    Attributes:
        seconds: total time, including preparation.
        times: seconds per step, as measured before training.
    """

    def __init__(
        self,
        seconds: float,
        most_steps: int,
        times: StepTimes,
        started: float,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Args:
        seconds: see the class.
        most_steps: maximum number of steps, however much time there is.
        times: see the class.
        started: start of the training, by ``clock``.
        clock: returns the time in seconds.
        """
        self.seconds, self.times = seconds, times
        self._max_steps, self._started, self._clock = most_steps, started, clock
        self._before = self._looked = 0.0
        self._last: float | None = None
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._on_labels = False

    @property
    def used(self) -> float:
        """Seconds used so far, including previous sessions of a resumed training."""
        return self._before + self._clock() - self._started

    @property
    def left(self) -> float:
        """Seconds left for steps; negative if the planned time is exceeded."""
        return PLANNED_SHARE * self.seconds - self.used

    @property
    def step_seconds(self) -> float:
        """Seconds of a usual step: of the latest ones, or as measured before training."""
        known = len(self._recent) >= MIN_TIMED_STEPS
        return _typical(self._recent) if known else self.times.mean()

    def first_fit(self, reserved: float = 0.0) -> int:
        """Number of steps that fit before the first one; may be 0. ``reserved``: see :meth:`revise`."""
        return max(0, min(self._max_steps, int((self.left - reserved) / self.times.mean())))

    def begin(self) -> None:
        """Start timing, at the first step of a session."""
        self._last = self._clock()

    def revise(self, schedule: Schedule, done: int, reserved: float = 0.0) -> bool:
        """Adapt the number of steps after each step; return whether it was changed.

        Args:
            schedule: schedule of the training. It stays the same for batches that may already exist.
            done: steps done so far.
            reserved: seconds reserved for other work.
        """
        now = self._clock()
        progress = schedule.progress(done - 1)
        on_labels = progress < self.times.labels_first
        if on_labels != self._on_labels:
            self._on_labels = on_labels
            self._recent.clear()
        if self._last is not None:
            self._recent.append(now - self._last)
        self._last = now
        if done >= schedule.total:
            return False
        known = len(self._recent) >= MIN_TIMED_STEPS
        step = _typical(self._recent) if known else self.times.at(progress)
        if self.used + step > self.seconds:
            schedule.revise(done, done)
            return True
        if not known:
            return False
        total = self._fitting(schedule, done, self.times.with_step(progress, step), reserved)
        change = abs(total - schedule.total) / (schedule.total - done)
        due = self.used - self._looked >= LOOK_EVERY * self.seconds
        self._looked = self.used if due else self._looked
        if change <= (SMALL_CHANGE if due else LARGE_CHANGE):
            return False
        schedule.revise(min(done + BATCHES_AHEAD, total), total)
        return True

    def _fitting(self, schedule: Schedule, done: int, times: StepTimes, reserved: float) -> int:
        """Total number of steps of the training that fits into the budget."""
        left = max(0.0, self.left - reserved)
        step = times.at(schedule.progress(done))
        fixed = done + BATCHES_AHEAD
        if fixed >= schedule.total or left <= BATCHES_AHEAD * step:
            # Too late to plan more steps; the training can only end earlier.
            return min(schedule.total, done + int(left / step))
        left -= BATCHES_AHEAD * step
        more = int(left / times.mean(schedule.progress(fixed)))
        return min(self._max_steps, fixed + more)

    def describe(self, schedule: Schedule, done: int) -> str:
        """Describe the use of the budget in one line."""
        changes = len(schedule.revisions) - 1
        text = (
            f"{self.used / 60:.1f} of {self.seconds / 60:g} minutes used "
            f"({100 * self.used / self.seconds:.0f} %) for {done} steps"
        )
        if changes:
            text += (
                f"; {schedule.revisions[0].total} were planned at first, and the plan changed "
                f"{changes} time{'s' * (changes > 1)} with the machine's speed"
            )
        if done >= self._max_steps:
            text += "; these are all steps that were asked for"
        return text

    def state(self) -> dict[str, float]:
        """State for resuming a training."""
        return {"used": self.used, "labels": self.times.labels, "full": self.times.full}

    def restore(self, state: dict[str, float]) -> None:
        """Restore from :meth:`state`."""
        self._before = self._looked = state["used"]
        self.times = replace(self.times, labels=state["labels"], full=state["full"])


def _typical(seconds: deque[float]) -> float:
    """Mean without the largest value, which may include a checkpoint, a compilation or label making."""
    ordered = sorted(seconds)[:-1]
    return sum(ordered) / len(ordered)


class FollowClock(StepCallback):
    """Adapts the number of steps to the time budget; must come before callbacks that read that number."""

    def __init__(self, budget: Budget, schedule: Schedule, reserved: Callable[[], float]):
        """Args:
        budget: time budget of the training.
        schedule: schedule of the training.
        reserved: returns the seconds reserved for other work.
        """
        self.budget, self.schedule, self.reserved = budget, schedule, reserved

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        return dict(self.budget.state())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.budget.restore(state_dict)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.budget.begin()

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        if self.budget.revise(self.schedule, trainer.global_step, self.reserved()):
            trainer.fit_loop.epoch_loop.max_steps = self.schedule.total
