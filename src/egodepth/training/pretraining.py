"""Pretraining on rendered worlds with exact depth and motion."""

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from egodepth.core import config, progress
from egodepth.core.errors import EgodepthError, require
from egodepth.core.provenance import provenance
from egodepth.core.schedule import Schedule
from egodepth.data.synthetic.rendered import RATE
from egodepth.data.synthetic.worlds import pairs
from egodepth.runs.confidence_fit import learn_confidence
from egodepth.runs.folder import RunFolder
from egodepth.runs.motion_gap import MotionGap
from egodepth.settings.training import TrainSettings
from egodepth.training.build import build_networks
from egodepth.training.callbacks import Checkpoints, GracefulStop, Samples, TrainingProgress
from egodepth.training.clock import Budget, FollowClock, StepTimes
from egodepth.training.confidence import confidence_steps
from egodepth.training.engine import Engine, fit
from egodepth.training.held_out_worlds import HeldOutWorlds, ScoreWorlds
from egodepth.training.pretraining_module import WORLDS, PretrainingModule
from egodepth.training.run import (
    TrainingInterrupted,
    TrainResult,
    claim_run,
    loggers,
    read_saved,
)
from egodepth.training.threads import threads_kept
from egodepth.training.world_stream import WorldStream, frames_of_pairs

DRAWS = 4.0
"""Average number of uses of each frame pair, at which rendering takes a sixth of the time on one core."""
METHODS = ("photometric", "features", "joint")
"""Methods whose networks can be pretrained."""
FIRST_GUESS = 1.0
"""Assumed seconds per step, until steps are timed."""


@threads_kept()
def pretrain(
    settings: TrainSettings,
    out: str | Path,
    *,
    resume: bool = False,
    draws: float = DRAWS,
    workers: int | None = None,
    held_out: HeldOutWorlds | None = None,
) -> TrainResult:
    """Train on rendered worlds into a run folder: DepthNet and PoseNet by exact depth and motion (method
    photometric), FeatureNet by its own losses (features), or all three (joint).

    Args:
        settings: training settings, as in the recipe ``worlds``; those for footage and for losses on it have
            no effect. With ``minutes``, the number of steps adapts to the time budget.
        out: run folder; must not contain a run unless ``resume``.
        resume: resume from the checkpoint in ``out``.
        draws: average number of times that each frame pair is used; fewer if there are spare cores to render.
        workers: number of rendering processes; by default all cores but one with a GPU, else one.
        held_out: worlds for evaluation; by default two of each kind.

    Raises:
        EgodepthError: anything wrong with settings, folder or device.
        TrainingInterrupted: a KeyboardInterrupt, by a signal, after the current step; the training
            can be resumed.
    """
    require(settings, TrainSettings, "settings", "TrainSettings (egodepth.get_recipe)")
    if settings.method not in METHODS:
        raise EgodepthError(f"pretraining takes method {', '.join(METHODS)}, not {settings.method}")
    run, engine = RunFolder.to_make(out), Engine.of(settings)
    stream = _make_stream(settings, engine, draws, workers)
    with claim_run(run, resume=resume):
        return _pretrain(settings, run, engine, stream, held_out, resume=resume)


def _pretrain(
    settings: TrainSettings,
    run: RunFolder,
    engine: Engine,
    stream: WorldStream,
    held_out: HeldOutWorlds | None,
    *,
    resume: bool,
) -> TrainResult:
    """Train into a claimed run folder, see :func:`pretrain`. Long, since it puts together all that takes part,
    once."""
    began = time.perf_counter()
    budget = _make_budget(settings, began)
    stream.schedule = Schedule(max(1, budget.first_fit()) if budget else settings.steps)
    facts = _first_facts(engine)
    if settings.init is not None:
        facts |= _go_on_from(RunFolder.at(settings.init), stream)
    record = _Record(run, stream, facts, began)
    if resume:
        record.go_on(read_saved(run))
    L.seed_everything(settings.seed, verbose=False)
    networks = build_networks(settings).use_bf16(engine.precision == "bf16")
    module = PretrainingModule(settings, networks, stream)
    module.to(memory_format=torch.channels_last)
    run.path.mkdir(parents=True, exist_ok=True)
    config.save(settings.changed(model=networks.settings), run.config)
    record.keep()
    scores: list[L.Callback] = []
    held_out = held_out or HeldOutWorlds()
    if networks.depth is not None:
        scores = [ScoreWorlds(held_out, record.keep)]
    follow = [FollowClock(budget, stream.schedule, lambda: 0.0)] if budget else []
    shown, stop = TrainingProgress(settings.batch_size * stream.frames_per_snippet), GracefulStop()
    callbacks: list[L.Callback] = [
        *follow, shown, Samples(run, settings.sample_every), *scores,
        Checkpoints(run.checkpoint, settings.checkpoint_every, record.keep), stop,
    ]  # fmt: skip
    trainer = engine.trainer(
        stream.schedule.total, callbacks, logger=loggers(run, stream.first_step),
        log_every_n_steps=settings.log_every,
    )  # fmt: skip
    started = time.perf_counter()
    batches = DataLoader(stream, batch_size=None, num_workers=0)
    fit(trainer, module, batches, run.checkpoint if resume else None)
    seconds = time.perf_counter() - started
    if budget is not None:
        progress.note(budget.describe(stream.schedule, trainer.global_step))
    record.keep()
    done = TrainResult(
        run=run.path, steps=trainer.global_step, total_steps=stream.schedule.total, seconds=seconds,
        wait_seconds=stream.seconds, prepare_seconds=started - began, collapse="",
    )  # fmt: skip
    if stop.stopped_by is not None:
        raise TrainingInterrupted(done, stop.stopped_by)
    if networks.depth is not None:
        assert module.average.depth is not None
        learn_confidence(
            run, module.average.depth, frames_of_pairs(stream.pairs), held_out.known_frames(),
            confidence_steps(trainer.global_step),
            None if settings.init is None else RunFolder.at(settings.init), settings.seed,
        )  # fmt: skip
    return done


class _Record:
    """Content of ``run.json`` for a pretraining, updated while it runs."""

    def __init__(self, run: RunFolder, stream: WorldStream, facts: dict[str, Any], began: float):
        """Args:
        run: run folder.
        stream: stream of rendered worlds.
        facts: content known before the first step.
        began: start of the training, by ``time.perf_counter``.
        """
        self._run, self._stream, self._facts, self._began = run, stream, facts, began
        self._before = 0.0

    def go_on(self, saved: dict[str, Any]) -> None:
        """Restore this record and the stream from a checkpoint.

        Raises:
            EgodepthError: the checkpoint is from a training on footage.
        """
        if WORLDS not in saved:
            raise EgodepthError(f"{self._run} was trained on footage: resume it by egodepth train")
        self._stream.first_step, self._stream.worlds = saved["global_step"], saved[WORLDS]
        self._stream.schedule = Schedule.of_state(saved["egodepth_schedule"])
        self._before = self._run.facts().seconds
        self._facts |= self._run.facts().only(["worlds"])

    def keep(self, curve: list[dict[str, Any]] | None = None) -> None:
        """Write ``run.json``.

        Args:
            curve: scores on held-out worlds so far; None if unchanged.
        """
        seconds = self._before + time.perf_counter() - self._began
        schedule = self._stream.schedule
        self._facts |= {
            "steps": schedule.total, "schedule": schedule.state(), "seconds": seconds,
            "rendered_worlds": self._stream.worlds,
        }  # fmt: skip
        self._facts |= {} if curve is None else {"worlds": curve}
        self._run.write_facts(self._facts)


def _make_stream(
    settings: TrainSettings, engine: Engine, draws: float, workers: int | None
) -> WorldStream:
    """Make the stream of worlds; on the CPU, leave its workers their cores by limiting PyTorch's threads.

    Raises:
        EgodepthError: several processes, or invalid ``draws`` or ``workers``.
    """
    if engine.world.size > 1:
        raise EgodepthError("pretraining takes one process: start it without torchrun")
    if not draws > 0 or (workers is not None and workers < 0):
        raise EgodepthError(
            f"draws must be above 0 and workers 0 or more, got {draws:g} and {workers}"
        )
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if workers is None:
        workers = max(1, cores - 1) if engine.accelerator != "cpu" else 1
    if engine.accelerator == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores - workers))
    return WorldStream(
        batch_size=settings.batch_size, seed=settings.seed, draws=draws, workers=workers
    )


def _make_budget(settings: TrainSettings, began: float) -> Budget | None:
    if settings.minutes is None:
        return None
    times = StepTimes(FIRST_GUESS, FIRST_GUESS)
    return Budget(60 * settings.minutes, settings.steps, times, began)


def _go_on_from(init: RunFolder, stream: WorldStream) -> dict[str, Any]:
    """Begin with the worlds that come after those which ``init`` learned from; what it learned before, as
    facts."""
    earlier = init.facts()
    if not earlier.rendered_worlds:  # a training on footage
        return {}
    stream.worlds = earlier.rendered_worlds
    return {
        "earlier_steps": earlier.earlier_steps + (earlier.steps or 0),
        "earlier_seconds": earlier.earlier_seconds + earlier.seconds,
    }


def _first_facts(engine: Engine) -> dict[str, Any]:
    """Content of ``run.json`` known before the first step."""
    gap = (1 + pairs.MAX_GAP) // 2
    return {
        **provenance(), "precision": engine.precision, "poses": "exact", "sizes": list(pairs.SIZES),
        **MotionGap(gap, gap / RATE).facts(),
    }  # fmt: skip
