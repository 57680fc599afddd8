"""Running a training: run folder, data, trainer, stopping and resuming."""

import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from egodepth.core import config, progress
from egodepth.core.errors import EgodepthError, NonFiniteError, require
from egodepth.core.files import reading
from egodepth.core.locks import Hold
from egodepth.core.world import World
from egodepth.data.sequence import Sequence
from egodepth.runs.cameras import keep_cameras
from egodepth.runs.checkpoint import read_checkpoint
from egodepth.runs.destination import claim_folder
from egodepth.runs.folder import RunFolder
from egodepth.settings.training import TrainSettings
from egodepth.training.build import may_leave_out
from egodepth.training.callbacks import (
    Checkpoints,
    CollapseWatch,
    GracefulStop,
    Samples,
    TrainingProgress,
)
from egodepth.training.confidence import learn_from_footage
from egodepth.training.engine import Engine, divergence_error, fit
from egodepth.training.footage import read_training_sequences
from egodepth.training.held_out import HeldOutResult, KeepBest
from egodepth.training.module import EgodepthModule
from egodepth.training.plan import Plan
from egodepth.training.set_up import Training, set_up
from egodepth.training.snippets import SnippetStream
from egodepth.training.start import Start
from egodepth.training.start_comparison import Comparison
from egodepth.training.threads import threads_kept


@dataclass(frozen=True)
class TrainResult:
    """Result of a training.

    Attributes:
        run: run folder.
        steps, total_steps: optimizer steps done, and planned.
        seconds: duration of the training itself in this session, without preparation.
        wait_seconds: part of ``seconds`` spent waiting for batches.
        prepare_seconds: time before training for decoding uncached frames, surveying the footage, and
            structure from motion.
        collapse: signs of a collapse, in words; empty if there are none.
        held_out: result of a refinement on held-out frames; None for other trainings.
        comparison: comparison with the run it started from (``init``); None for other trainings.
        fetched: what was fetched from stores of shards, in words; empty without such stores.
    """

    run: Path
    steps: int
    total_steps: int
    seconds: float
    wait_seconds: float
    prepare_seconds: float
    collapse: str
    held_out: HeldOutResult | None = None
    comparison: Comparison | None = None
    fetched: str = ""

    @property
    def data_wait(self) -> float:
        """Share of the training time spent waiting for batches."""
        return self.wait_seconds / self.seconds


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted by a signal, after finishing the current step and saving a checkpoint.

    Attributes:
        result: result so far.
        stopped_by: name of the signal, or "another process" if another rank received it.
    """

    def __init__(self, result: TrainResult, stopped_by: str):
        super().__init__(f"stopped by {stopped_by}")
        self.result, self.stopped_by = result, stopped_by


@threads_kept()
def train(
    settings: TrainSettings,
    out: str | Path,
    *,
    resume: bool = False,
    sequences: list[Sequence] | None = None,
    refined: str = "",
) -> TrainResult:
    """Train into a run folder.

    Args:
        settings: training settings; must be those of the run if ``resume``.
        out: run folder; must not contain a run unless ``resume``.
        resume: resume from the checkpoint in ``out``.
        sequences: footage to use instead of ``settings.data.sources``.
        refined: marks a refinement of another run on test frames, and is stored with the run. One in
            HELD_OUT_EVERY snippets is held out, and the weights with the smallest held-out loss are kept,
            including the initial ones.

    Raises:
        EgodepthError: anything wrong with settings, footage, folder or device.
        TrainingInterrupted: a KeyboardInterrupt, by a signal, after the current step; the training
            can be resumed.
    """
    require(settings, TrainSettings, "settings", "TrainSettings (egodepth.get_recipe)")
    run = RunFolder.to_make(out)
    engine = Engine.of(settings)
    with claim_run(run, resume=resume) if engine.world.is_main else nullcontext():
        return _train(settings, run, engine, sequences, refined, resume=resume)


def _train(
    settings: TrainSettings,
    run: RunFolder,
    engine: Engine,
    sequences: list[Sequence] | None,
    refined: str,
    *,
    resume: bool,
) -> TrainResult:
    """Train into a claimed run folder, see :func:`train`. Long, since it puts together all that takes part,
    once."""
    began = time.perf_counter()
    world = engine.world
    saved = read_saved(run) if resume else None
    if saved:
        settings, refined = _with_own_camera(settings, run), run.facts().refined
    if sequences is None:
        sequences = read_training_sequences(settings.data)
    training = set_up(settings, sequences, engine, began, saved, refined)
    stream, pace = training.stream, training.pace
    before = run.facts().seconds if saved else 0.0
    if world.is_main:
        _begin_folder(run, training, resumed=resume)
    if saved:
        with reading(
            run.checkpoint, "the checkpoint"
        ):  # here, since Lightning's errors name no file
            training.module.load_state_dict(saved["state_dict"])
    stop, watch = GracefulStop(), CollapseWatch(training.start)
    best = [KeepBest(training.held_out)] if refined and training.held_out else []
    callbacks = [
        *pace.callbacks(), *_reports(settings, run, stream, world), *best,
        # Must come after the best weights are restored, so that it saves them.
        _checkpoints(settings, run, training.plan, training.module), watch, stop, *training.rounds,
    ]  # fmt: skip
    trainer = engine.trainer(
        stream.schedule.total, callbacks, logger=loggers(run, stream.first_step),
        log_every_n_steps=settings.log_every, unused=may_leave_out(settings, stream),
    )  # fmt: skip
    stream.prefetch = engine.accelerator != "cpu"
    started = time.perf_counter()
    batches = DataLoader(stream, batch_size=None, num_workers=0)
    fit(trainer, training.module, batches, run.checkpoint if resume else None)
    seconds = time.perf_counter() - started
    result = next((each.best.result for each in best), None)
    comparison = None
    if world.is_main:
        kept = None if stop.stopped_by else result
        if training.start is not None and not stop.stopped_by:
            comparison = _compare_with_start(training.start, training.module, run)
        if training.module.networks.depth is not None and not stop.stopped_by:
            learn_from_footage(
                training.module.networks, run, stream, training.held_out, training.settings,
                trainer.global_step,
            )  # fmt: skip
        waited = {"wait_seconds": stream.seconds}
        run.write_facts(
            training.last_facts(trainer.global_step, before + seconds, kept, comparison) | waited
        )
    done = TrainResult(
        run=run.path,
        steps=trainer.global_step,
        total_steps=stream.schedule.total,
        seconds=seconds,
        wait_seconds=stream.seconds,
        prepare_seconds=training.facts["prepare_seconds"],
        collapse=watch.found,
        held_out=result,
        comparison=comparison,
        fetched="" if stream.chunks is None else stream.chunks.fetched,
    )
    if stop.stopped_by is not None:
        raise TrainingInterrupted(done, stop.stopped_by)
    return done


RESUMED = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers")
"""What Lightning needs of a checkpoint to resume from it."""


def read_saved(run: RunFolder) -> dict[str, Any]:
    """Read the checkpoint to resume a training from.

    Raises:
        EgodepthError: it was imported, or written by an earlier version.
    """
    saved = read_checkpoint(run.checkpoint)
    if "egodepth_schedule" not in saved:
        raise EgodepthError(
            f"cannot resume: {run} was imported, or trained by an earlier version; start a new run with "
            f"--init {run}"
        )
    missing = [name for name in RESUMED if name not in saved]
    if missing:
        raise EgodepthError(
            f"cannot resume: {run.checkpoint} lacks {missing[0]}; start a new run with --init {run}"
        )
    return saved


def _compare_with_start(start: Start, module: EgodepthModule, run: RunFolder) -> Comparison:
    """Compare a finished training with its start, and keep the start as the run to use if it is better."""
    try:
        found = start.compare(module.networks)
    except NonFiniteError as error:
        raise divergence_error(error) from error
    if found.worse:
        start.keep(run)
    progress.note(str(found))
    return found


def _begin_folder(run: RunFolder, training: Training, *, resumed: bool) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    if run.has_kept_start:  # of an earlier end
        rmtree(run.start)
    config.save(training.settings, run.config)
    run.write_facts(training.facts)
    if not resumed:  # a resumed run keeps the cameras it has learned
        keep_cameras(training.plan.clips, run)


def _with_own_camera(settings: TrainSettings, run: RunFolder) -> TrainSettings:
    """Settings of a resumed run, with the camera file replaced by the run's stored camera."""
    if settings.data.camera is None or not run.camera.exists():
        return settings
    return settings.changed(data=settings.data.changed(camera=run.camera, focal=None, fov=None))


def _reports(
    settings: TrainSettings, run: RunFolder, stream: SnippetStream, world: World
) -> list[L.Callback]:
    """Callbacks for progress and sample pictures."""
    frames_per_step = world.size * settings.batch_size * stream.frames_per_snippet
    return [TrainingProgress(frames_per_step), Samples(run, settings.sample_every)]


def _checkpoints(
    settings: TrainSettings, run: RunFolder, plan: Plan, module: EgodepthModule
) -> Checkpoints:
    """Callback that writes the checkpoint, together with the cameras learned so far."""

    def keep() -> None:
        motions = module.motions
        keep_cameras(plan.clips, run, None if motions is None else motions.focal_factors.tolist())

    return Checkpoints(run.checkpoint, settings.checkpoint_every, keep)


def loggers(run: RunFolder, first_step: int) -> list[Logger]:
    """CSV and TensorBoard loggers of a session that starts at a step."""
    # Lightning clears an existing log, so every session writes its own.
    return [
        CSVLogger(run.path, run.logs.name, run.log_version(first_step)),
        TensorBoardLogger(run.path, run.logs.name, "tensorboard"),
    ]


def claim_run(run: RunFolder, *, resume: bool) -> Hold:
    """Keep other processes from writing to the folder of a training to start or to resume.

    Raises:
        EgodepthError: the folder already contains a run, has none to resume, cannot be written, or another
            process writes there.
    """
    held = claim_folder(run.path, for_run=True)
    with ExitStack() as on_error:
        on_error.callback(held.release)
        _check_run(run, resume=resume)
        on_error.pop_all()
    return held


def _check_run(run: RunFolder, *, resume: bool) -> None:
    if resume and not run.checkpoint.exists():
        instead = (
            f"it holds weights alone; start a new run from them with --init {run} and another --out"
            if run.weights.exists()
            else "its training ended before the first one; leave --resume out to start anew"
        )
        raise EgodepthError(f"cannot resume: {run} holds no {run.checkpoint.name}: {instead}")
    if not resume and run.checkpoint.exists():
        raise EgodepthError(
            f"{run} already holds a run: add --resume to go on, or name another folder"
        )
    if run.start.exists and not run.has_kept_start:
        raise EgodepthError(
            f"{run.start} is a run of its own, in whose place a start may have to be kept: name another folder"
        )
