"""Estimate of the duration of a training, from a few steps."""

from dataclasses import dataclass

from egodepth.settings.training import TrainSettings
from egodepth.training.build import prepare
from egodepth.training.clock import PLANNED_SHARE
from egodepth.training.compilation import PLAIN, Comparisons
from egodepth.training.engine import Engine
from egodepth.training.footage import read_training_sequences
from egodepth.training.hold_out import hold_out
from egodepth.training.threads import thread_options, threads_kept
from egodepth.training.timing import time_steps, wanted_steps

ESTIMATE_STEPS = 5
"""Number of timed steps of each kind."""


@dataclass(frozen=True)
class Estimate:
    """Estimated duration of a training.

    Attributes:
        snippets: snippets per epoch.
        steps, steps_per_epoch: steps of the training, and per epoch.
        seconds_per_step: mean over the training, from the fastest timed step of each kind.
        prepare_seconds: time for decoding, surveying the footage, and structure from motion, whose results
            are cached for the training.
    """

    snippets: int
    steps: int
    steps_per_epoch: int
    seconds_per_step: float
    prepare_seconds: float

    def hours(self, snippets: int | None = None, epochs: float | None = None) -> float:
        """Hours of the whole training, or of ``epochs`` over ``snippets``, at the measured speed."""
        steps = float(self.steps)
        if snippets is not None:
            batch = self.snippets / self.steps_per_epoch
            steps = snippets / batch * (epochs or 1)
        return steps * self.seconds_per_step / 3600


@threads_kept()
def estimate(settings: TrainSettings) -> Estimate:
    """Time a few steps of a training, without training.

    Raises:
        EgodepthError: anything wrong with settings, footage or device.
    """
    engine = Engine.of(settings)
    sequences = read_training_sequences(settings.data)
    settings, stream, _, prepared = prepare(settings, sequences)
    stream, _ = hold_out(settings, stream)
    compare = Comparisons.compiled() if settings.compile == "always" else PLAIN
    options = thread_options(engine.accelerator)
    timing = time_steps(settings, stream, engine, options, compare, ESTIMATE_STEPS)
    steps, per_step = wanted_steps(settings, stream), timing.times.mean()
    if settings.minutes is not None:
        steps = min(steps, max(1, int(PLANNED_SHARE * 60 * settings.minutes / per_step)))
    return Estimate(stream.snippet_count, steps, stream.steps_per_epoch, per_step, prepared)
