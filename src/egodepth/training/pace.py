"""Number of steps, time budget and CPU threads of a training: planned before it, and adapted while it runs."""

import warnings
from collections.abc import Callable
from typing import Any

import lightning as L

from egodepth.core import progress
from egodepth.core.errors import EgodepthWarning
from egodepth.core.schedule import Schedule
from egodepth.settings.training import TrainSettings
from egodepth.training.clock import Budget, FollowClock, StepTimes
from egodepth.training.compilation import Comparisons
from egodepth.training.engine import Engine
from egodepth.training.plan import describe_plan
from egodepth.training.snippets import SnippetStream
from egodepth.training.threads import ThreadChoice, ThreadWatch, describe_threads, thread_options
from egodepth.training.timing import time_steps, wanted_steps

MIN_PLANNED_STEPS = 30
"""Minimum number of steps planned at first, even if fewer seem to fit: enough for the clock to correct it."""
TOLD_STEPS = 200
"""Minimum number of steps for which steps are timed before training, to estimate its duration and choose
threads."""


class Pace:
    """Number of steps, time budget and threads of a training.

    Attributes:
        budget: time budget, if any.
        reserved: returns the seconds of the budget reserved for other work during training.
    """

    def __init__(
        self,
        settings: TrainSettings,
        stream: SnippetStream,
        engine: Engine,
        began: float,
    ):
        """Args:
        settings, stream, engine: those of the training.
        began: start of the time budget, by ``time.perf_counter``.
        """
        self._settings, self._stream, self._engine = settings, stream, engine
        self._wanted = wanted_steps(settings, stream)
        self._options = thread_options(engine.accelerator)
        self._threads = ThreadChoice(self._options, self._options[0])
        self.budget: Budget | None = None
        self.reserved: Callable[[], float] = lambda: 0.0
        if settings.minutes is not None:
            times = StepTimes(
                1.0, 1.0, stream.labels_first
            )  # until steps are timed, or a run goes on
            self.budget = Budget(60 * settings.minutes, self._wanted, times, began)

    @property
    def _is_long(self) -> bool:
        """Whether to time steps before training; not with several processes, which would all do so at once."""
        long = self.budget is not None or self._wanted >= TOLD_STEPS
        return long and self._engine.world.size == 1

    @property
    def step_seconds(self) -> float:
        """Seconds per step; 0 without a time budget."""
        return self.budget.step_seconds if self.budget is not None else 0.0

    def plan(self, compare: Comparisons) -> None:
        """Decide on the number of steps of a new training, and print the plan.

        Args:
            compare: comparisons of the training; not compiled if its length decides on compiling.
        """
        steps, per_step = self._wanted, None
        if self._is_long:
            timing = time_steps(self._settings, self._stream, self._engine, self._options, compare)
            self._threads = ThreadChoice(self._options, timing.threads)
            per_step = timing.times.mean()
            if self.budget is not None:
                self.budget.times = timing.times
                steps = self._first_fit(self.budget)
            if timing.threads != self._options[0]:
                progress.note(describe_threads(timing.by_threads, timing.threads))
        self._stream.schedule = Schedule(steps)
        for heading, text in describe_plan(self._settings, self._stream, steps, per_step):
            progress.note(f"{heading:<9} {text}")

    def _first_fit(self, budget: Budget) -> int:
        if budget.left <= 0:
            warnings.warn(
                f"preparing took {budget.used:.0f} s of the {budget.seconds:.0f} that --minutes allows: one "
                "step is trained; what was prepared of the footage is kept for the next training",
                EgodepthWarning,
                stacklevel=4,
            )
            return 1
        return max(budget.first_fit(self.reserved()), min(MIN_PLANNED_STEPS, self._wanted))

    def callbacks(self) -> list[L.Callback]:
        """Callbacks that adapt steps and threads; must come before those that read the number of steps."""
        schedule, found = self._stream.schedule, list[L.Callback]()
        if self.budget is not None:
            found.append(FollowClock(self.budget, schedule, lambda: self.reserved()))
        if self._is_long and len(self._options) > 1:
            found.append(ThreadWatch(self._threads, schedule, self._stream.labels_first))
        return found

    def facts(self, done: int) -> dict[str, Any]:
        """Content of ``run.json`` after training; also prints how much of the budget was used.

        Args:
            done: steps done.
        """
        schedule = self._stream.schedule
        facts: dict[str, Any] = {"steps": schedule.total, "schedule": schedule.state()}
        if self._engine.accelerator == "cpu":
            facts["threads"] = self._threads.chosen
        if self.budget is not None:
            text = self.budget.describe(schedule, done)
            progress.note(text)
            facts |= {"minutes_used": self.budget.used / 60, "budget": text}
        return facts
