"""Pretraining: DepthNet and PoseNet from rendered worlds with exact depth and motion, before any footage."""

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
from egodepth.runs.folder import RunFolder
from egodepth.runs.motion_gap import MotionGap
from egodepth.settings.training import TrainSettings
from egodepth.training.build import build_networks
from egodepth.training.callbacks import Checkpoints, GracefulStop, Samples, TrainingProgress
from egodepth.training.clock import Budget, FollowClock, StepTimes
from egodepth.training.engine import Engine, fit
from egodepth.training.held_out_worlds import HeldOutWorlds, ScoreWorlds
from egodepth.training.pretraining_module import WORLDS, PretrainingModule
from egodepth.training.run import (
    TrainingInterrupted,
    TrainResult,
    check_folder,
    loggers,
    read_saved,
)
from egodepth.training.threads import threads_kept
from egodepth.training.world_stream import WorldStream

DRAWS = 4.0
"""Times that each pair of frames is drawn: on one core, rendering then takes a sixth of the time."""
FIRST_GUESS = 1.0
"""Seconds of a step, until steps are timed."""


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
    """Train DepthNet and PoseNet on rendered worlds into a run folder. Long, since it puts together all that
    takes part, once.

    Args:
        settings: of the run, as the recipe ``worlds`` has them; what concerns footage, FeatureNet and losses
            other than exact ones has no effect. With ``minutes`` the number of steps follows the clock.
        out: run folder; must not hold a run yet unless ``resume``.
        resume: go on from the checkpoint in ``out``, with the settings kept there.
        draws: times that each pair of frames is drawn, on average; fewer where cores are free to render.
        workers: processes that render; by default all cores but one for a GPU, else one.
        held_out: worlds to score by; by default two of each kind.

    Raises:
        EgodepthError: anything wrong with settings, folder or device.
        TrainingInterrupted: a KeyboardInterrupt, by Ctrl-C or SIGTERM, after the step under way; the folder
            holds what ``resume`` goes on from.
    """
    require(settings, TrainSettings, "settings", "TrainSettings (egodepth.get_recipe)")
    began = time.perf_counter()
    run, engine = RunFolder.to_make(out), Engine.of(settings)
    if engine.world.size > 1:
        raise EgodepthError("pretraining takes one process: start it without torchrun")
    if not draws > 0 or (workers is not None and workers < 0):
        raise EgodepthError(
            f"draws must be above 0 and workers 0 or more, got {draws:g} and {workers}"
        )
    check_folder(run, resume=resume)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if workers is None:
        workers = max(1, cores - 1) if engine.accelerator != "cpu" else 1
    if engine.accelerator == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores - workers))
    stream = WorldStream(
        batch_size=settings.batch_size, seed=settings.seed, draws=draws, workers=workers
    )
    budget = None
    if settings.minutes is not None:
        times = StepTimes(FIRST_GUESS, FIRST_GUESS)
        budget = Budget(60 * settings.minutes, settings.steps, times, began)
    stream.schedule = Schedule(max(1, budget.first_fit()) if budget else settings.steps)
    before, facts = 0.0, _first_facts(engine)
    if resume:
        saved = read_saved(run)
        if WORLDS not in saved:
            raise EgodepthError(f"{run} was trained on footage: resume it by egodepth train")
        stream.first_step, stream.worlds = saved["global_step"], saved[WORLDS]
        stream.schedule = Schedule.of_state(saved["egodepth_schedule"])
        before = run.facts().seconds
        facts |= run.facts().only(["worlds"])
    L.seed_everything(settings.seed, verbose=False)
    networks = build_networks(settings).use_bf16(engine.precision == "bf16")
    module = PretrainingModule(settings, networks, stream)
    module.to(memory_format=torch.channels_last)
    run.path.mkdir(parents=True, exist_ok=True)
    config.save(settings.changed(model=networks.settings), run.config)

    def keep(curve: list[dict[str, Any]]) -> None:
        nonlocal facts
        seconds = before + time.perf_counter() - began
        facts |= {"steps": stream.schedule.total, "schedule": stream.schedule.state(),
                  "rendered_worlds": stream.worlds, "seconds": seconds, "worlds": curve}  # fmt: skip
        run.write_facts(facts)

    scores, stop = ScoreWorlds(held_out or HeldOutWorlds(), keep), GracefulStop()
    keep(facts.get("worlds", []))
    follow = [FollowClock(budget, stream.schedule, lambda: 0.0)] if budget else []
    shown = TrainingProgress(settings.batch_size * stream.frames_per_snippet)
    callbacks: list[L.Callback] = [
        *follow, shown, Samples(run, settings.sample_every), scores,
        Checkpoints(run.checkpoint, settings.checkpoint_every, lambda: keep(scores.curve)), stop,
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
    keep(scores.curve)
    done = TrainResult(
        run=run.path, steps=trainer.global_step, total_steps=stream.schedule.total, seconds=seconds,
        wait_seconds=stream.seconds, prepare_seconds=started - began, collapse="",
    )  # fmt: skip
    if stop.stopped_by is not None:
        raise TrainingInterrupted(done, stop.stopped_by)
    return done


def _first_facts(engine: Engine) -> dict[str, Any]:
    """What is known of a run before its first step."""
    gap = (1 + pairs.MAX_GAP) // 2
    return {
        **provenance(), "precision": engine.precision, "poses": "exact", "sizes": list(pairs.SIZES),
        **MotionGap(gap, gap / RATE).facts(),
    }  # fmt: skip
