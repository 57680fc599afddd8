"""How long a training takes."""

import math
import time
import warnings

import torch

from egodepth.core.errors import EgodepthWarning
from egodepth.core.schedule import Schedule
from egodepth.data.snippets import SnippetStream
from egodepth.settings.training import TrainSettings
from egodepth.training.build import build_module, label_seconds
from egodepth.training.module import EgodepthModule, make_optimizer

WARM_UP_STEPS, TIMED_STEPS = 3, 5
"""Steps thrown away before, and timed for, fitting the number of steps to a time."""
TOLD_STEPS = 200
"""From so many steps on the plan says how long they take, which costs WARM_UP_STEPS + TIMED_STEPS."""
PLANNED_SHARE = 0.93
"""Share of a time budget that is planned for: logging, checkpoints and other users take the rest."""


def wanted_steps(settings: TrainSettings, stream: SnippetStream) -> int:
    """The steps or epochs asked for, in steps."""
    if settings.epochs is None:
        return settings.steps
    return math.ceil(settings.epochs * stream.steps_per_epoch)


def fit_steps(
    settings: TrainSettings,
    stream: SnippetStream,
    precision: str,
    device: torch.device,
    prepare_seconds: float,
    *,
    tell: bool,
) -> tuple[int, float | None]:
    """The steps or epochs asked for, at most as many as fit into ``settings.minutes``; and the seconds of
    one, where they had to be measured or the training is long enough to be asked about."""
    steps = wanted_steps(settings, stream)
    if settings.minutes is None and (steps < TOLD_STEPS or not tell):
        return steps, None
    started = time.perf_counter()
    per_step = time_a_step(settings, stream, precision, device)
    if settings.minutes is None:
        return steps, per_step
    used = time.perf_counter() - started + prepare_seconds
    if settings.labels_in_rounds:
        used += label_seconds(settings) or 0
    fitting = int(PLANNED_SHARE * (60 * settings.minutes - used) / per_step)
    if fitting < 1:
        warnings.warn(
            f"preparing the footage took {prepare_seconds:.0f} s of the {60 * settings.minutes:.0f} that "
            "--minutes allows: one step is trained; what was prepared is kept for the next training",
            EgodepthWarning,
            stacklevel=2,
        )
    return min(steps, max(1, fitting)), per_step


def time_a_step(
    settings: TrainSettings, stream: SnippetStream, precision: str, device: torch.device
) -> float:
    """Median seconds of a training step, measured on networks that are thrown away."""
    module = build_module(settings, stream, precision)
    module.to(device).to(memory_format=torch.channels_last).train()
    module.schedule = Schedule(1000 * (WARM_UP_STEPS + TIMED_STEPS))
    optimizer = make_optimizer(module)
    first = settings.labels_first if stream.has_labels else 0.0
    # Steps on labels alone take less time than the others.
    return sum(
        share * _time_steps(module, optimizer, stream, device, module.schedule.first_step_at(start))
        for start, share in ((0.0, first), (first, 1 - first))
        if share
    )


def _time_steps(
    module: EgodepthModule,
    optimizer: torch.optim.Optimizer,
    stream: SnippetStream,
    device: torch.device,
    first: int,
) -> float:
    """Median seconds of some steps from the ``first`` on."""
    times = []
    for step in range(first, first + WARM_UP_STEPS + TIMED_STEPS):
        started = time.perf_counter()
        _, result = module(module.transfer_batch_to_device(stream.batch(step), device, 0))
        result.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        float(result.total.detach())
        times.append(time.perf_counter() - started)
    return sorted(times[WARM_UP_STEPS:])[TIMED_STEPS // 2]
