"""Keeping a training within a time, on a machine whose speed changes."""

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
"""Share of a time budget that is planned for; the last checkpoint and what it takes to end get the rest."""
LOOK_EVERY = 0.05
"""Share of a time budget after which the number of steps is planned anew, by however little it changes."""
LARGE_CHANGE, SMALL_CHANGE = 0.15, 0.01
"""Share of the steps left by which a new plan must differ, to be followed at once, and after LOOK_EVERY."""
RECENT_STEPS, MIN_TIMED_STEPS = 8, 3
"""Steps that tell how long a step takes, at most and at least."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a training step.

    Attributes:
        labels: of one that learns from dense labels alone.
        full: of any other.
        labels_first: share of the training whose steps are of the first kind.
    """

    labels: float
    full: float
    labels_first: float = 0.0

    def at(self, progress: float) -> float:
        """Of the step at which so much of the training is done."""
        return self.labels if progress < self.labels_first else self.full

    def mean(self, progress: float = 0.0) -> float:
        """Of the steps from there to the end."""
        labels = max(0.0, self.labels_first - progress) / max(1e-9, 1 - progress)
        return labels * self.labels + (1 - labels) * self.full

    def with_step(self, progress: float, seconds: float) -> "StepTimes":
        """Where the step at some progress takes so long; the other kind of step takes as many times that as
        before."""
        factor = seconds / self.at(progress)
        return replace(self, labels=self.labels * factor, full=self.full * factor)


class Budget:
    """The time of a training, and the number of steps that fits into it.

    Attributes:
        seconds: that the training may take, its preparation included.
        times: of a step, as measured before the training.
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
        seconds: see above.
        most_steps: that are made, however much time there is.
        times: see above.
        started: when the training began, by the clock.
        clock: tells seconds.
        """
        self.seconds, self.times = seconds, times
        self._most_steps, self._started, self._clock = most_steps, started, clock
        self._before = self._looked = 0.0
        self._last: float | None = None
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._on_labels = False

    @property
    def used(self) -> float:
        """Seconds so far, those before a training was resumed included."""
        return self._before + self._clock() - self._started

    @property
    def left(self) -> float:
        """Seconds that may still be planned for steps; below 0 where there are none."""
        return PLANNED_SHARE * self.seconds - self.used

    def first_fit(self, reserved: float = 0.0) -> int:
        """Steps of a training that has not begun; may be none. ``reserved``: see :meth:`revise`."""
        return max(0, min(self._most_steps, int((self.left - reserved) / self.times.mean())))

    def begin(self) -> None:
        """The first step, or the first after a resume, begins now."""
        self._last = self._clock()

    def revise(self, schedule: Schedule, done: int, reserved: float = 0.0) -> bool:
        """After each step: change the number of steps where the time asks for it; whether that was done.

        Args:
            schedule: of the training. It does not change for the batches that may have been made already.
            done: steps so far.
            reserved: seconds that other work will take.
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
        """Steps of the whole training that fit into the time."""
        left = max(0.0, self.left - reserved)
        step = times.at(schedule.progress(done))
        fixed = done + BATCHES_AHEAD
        if fixed >= schedule.total or left <= BATCHES_AHEAD * step:
            # What comes after the last batch can't be made up any more.
            return min(schedule.total, done + int(left / step))
        left -= BATCHES_AHEAD * step
        more = int(left / times.mean(schedule.progress(fixed)))
        return min(self._most_steps, fixed + more)

    def describe(self, schedule: Schedule, done: int) -> str:
        """How much of the time was used, in one line."""
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
        if done >= self._most_steps:
            text += "; these are all steps that were asked for"
        return text

    def state(self) -> dict[str, float]:
        """What a resumed training needs."""
        return {"used": self.used, "labels": self.times.labels, "full": self.times.full}

    def restore(self, state: dict[str, float]) -> None:
        """Go on where :meth:`state` was written."""
        self._before = self._looked = state["used"]
        self.times = replace(self.times, labels=state["labels"], full=state["full"])


def _typical(seconds: deque[float]) -> float:
    """Mean without the largest, which may be that of a pause: a checkpoint, a compilation, labels."""
    ordered = sorted(seconds)[:-1]
    return sum(ordered) / len(ordered)


class FollowClock(StepCallback):
    """Lets the number of steps follow the time used; comes before the callbacks that ask for that number."""

    def __init__(self, budget: Budget, schedule: Schedule, reserved: Callable[[], float]):
        """Args:
        budget: of the training.
        schedule: of the training.
        reserved: seconds that other work will take, as far as is known.
        """
        self.budget, self.schedule, self.reserved = budget, schedule, reserved

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return dict(self.budget.state())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.budget.restore(state_dict)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.budget.begin()

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        if self.budget.revise(self.schedule, trainer.global_step, self.reserved()):
            trainer.fit_loop.epoch_loop.max_steps = self.schedule.total
