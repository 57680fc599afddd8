"""Timing of training steps."""

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import lightning as L
import torch
from torch.utils.data import DataLoader, IterableDataset

from egodepth.core import progress
from egodepth.core.schedule import Schedule
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import RawBatch
from egodepth.training.build import build_module
from egodepth.training.clock import StepTimes
from egodepth.training.compilation import PLAIN, Comparisons
from egodepth.training.engine import Engine, fit
from egodepth.training.module import EgodepthModule
from egodepth.training.snippets import SnippetStream
from egodepth.training.step_callback import StepCallback
from egodepth.training.threads import fastest

TIMED_STEPS = 2
"""Number of timed steps of each kind and number of threads, after a warm-up step; the fastest counts. With a
time budget, the clock corrects errors of this estimate during training."""
WARM_UP = 0
"""Placeholder for a number of threads: a discarded step with the current number."""
FAR = 1_000_000
"""Length in steps of the schedule used for timing."""


@dataclass(frozen=True)
class Timing:
    """Result of timing a few steps.

    Attributes:
        times: seconds per step.
        threads: number of threads for these times, now in use.
        by_threads: seconds per step by number of threads.
    """

    times: StepTimes
    threads: int
    by_threads: dict[int, float]


def wanted_steps(settings: TrainSettings, stream: SnippetStream) -> int:
    """Number of steps requested by ``steps`` or ``epochs``."""
    if settings.epochs is None:
        return settings.steps
    return math.ceil(settings.epochs * stream.steps_per_epoch)


def time_steps(
    settings: TrainSettings,
    stream: SnippetStream,
    engine: Engine,
    options: list[int],
    compare: Comparisons = PLAIN,
    repeats: int = TIMED_STEPS,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time training steps on temporary networks, with different numbers of CPU threads; the fastest number
    stays in use.

    Args:
        settings, stream, engine: those of the training.
        options: numbers of threads to try, the current one first.
        compare: comparisons of the training, see :mod:`egodepth.training.compilation`.
        repeats: steps of each kind and number of threads.
        clock: returns the time in seconds.

    Raises:
        EgodepthError: loss, depth or motion is not finite.
    """
    module = build_module(settings, stream, engine.precision)
    module.to(memory_format=torch.channels_last)
    module.schedule, module.compare = Schedule(FAR), compare
    labels_first = stream.labels_first
    steps = list(range(1 + repeats * len(options)))
    if 0 < labels_first < 1:
        after = module.schedule.first_step_at(labels_first)
        steps += range(after, after + repeats)
    watch = _Stopwatch(options, repeats, clock)
    batches = DataLoader(_Batches(stream, steps), batch_size=None, num_workers=0)
    trainer = engine.trainer(len(steps), [watch], logger=False)
    with progress.phase("timing steps"):
        fit(trainer, module, batches)
    del trainer, module, batches
    gc.collect()  # trainer and networks reference each other
    first = watch.by_threads[watch.threads]
    times = StepTimes(first, min(watch.after, default=first), labels_first)
    return Timing(times, watch.threads, watch.by_threads)


class _Batches(IterableDataset[RawBatch]):
    """The batches of given steps."""

    def __init__(self, stream: SnippetStream, steps: list[int]):
        self.stream, self.steps = stream, steps

    def __iter__(self) -> Iterator[RawBatch]:
        return (self.stream.batch(step) for step in self.steps)


class _Stopwatch(StepCallback):
    """Times steps: a warm-up step, some with each number of threads, and the rest with the fastest number.

    Attributes:
        by_threads: seconds of the fastest step by number of threads.
        threads: fastest number of threads.
        after: seconds of the remaining steps.
    """

    def __init__(self, options: list[int], repeats: int, clock: Callable[[], float]):
        self._plan = [WARM_UP, *(count for count in options for _ in range(repeats))]
        self._clock = clock
        self.by_threads: dict[int, float] = {}
        self.threads = options[0]
        self.after: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = self._clock()

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        seconds = self._clock() - self._last
        if not self._plan:
            self.after.append(seconds)
        elif (count := self._plan.pop(0)) != WARM_UP:
            self.by_threads[count] = min(seconds, self.by_threads.get(count, seconds))
            self.threads = fastest(self.by_threads)
        following = self._plan[0] if self._plan else self.threads
        if following != torch.get_num_threads():
            torch.set_num_threads(following)
        self._last = self._clock()
