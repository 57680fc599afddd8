"""A training run: folder, data, trainer, stop and resume."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from egodepth.core import config, progress
from egodepth.core.errors import EgodepthError, require
from egodepth.core.provenance import provenance
from egodepth.core.schedule import Schedule
from egodepth.core.world import World
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.footage.own_footage import (
    POSES_UNIT,
)
from egodepth.data.sequence import Sequence
from egodepth.models.encoder import share_batch_statistics
from egodepth.runs.cameras import keep_cameras
from egodepth.runs.checkpoint import read_checkpoint
from egodepth.runs.destination import check_output_folder
from egodepth.runs.folder import RunFolder
from egodepth.settings.training import TrainSettings
from egodepth.training.build import build_module, label_seconds, prepare
from egodepth.training.callbacks import (
    Checkpoints,
    CollapseWatch,
    GracefulStop,
    Samples,
    TrainingProgress,
)
from egodepth.training.compilation import PLAIN, WORTH_STEPS, Comparisons
from egodepth.training.engine import Engine, fit
from egodepth.training.footage import read_training_sequences
from egodepth.training.held_out import HELD_OUT_EVERY, HeldOutResult, KeepBest
from egodepth.training.label_rounds import LabelRounds
from egodepth.training.module import EgodepthModule
from egodepth.training.pace import Pace
from egodepth.training.plan import Plan, motion_gap
from egodepth.training.snippets import SnippetStream
from egodepth.training.threads import threads_kept


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Attributes:
        run: its folder.
        steps, total_steps: optimizer steps made, and aimed at.
        seconds: of the training itself, this session's.
        wait_seconds: of ``seconds``, those spent on waiting for batches.
        prepare_seconds: spent before it on decoding frames that were not cached yet, looking at
            them, and structure from motion.
        collapse: signs that nothing is learned, in words; empty where all is well.
        held_out: what a refinement brought on frames that were held out; None for other trainings.
    """

    run: Path
    steps: int
    total_steps: int
    seconds: float
    wait_seconds: float
    prepare_seconds: float
    collapse: str
    held_out: HeldOutResult | None = None

    @property
    def data_wait(self) -> float:
        """Share of the training spent on waiting for batches."""
        return self.wait_seconds / self.seconds


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a training; the step under way was finished, and its checkpoint is kept.

    Attributes:
        result: of the training so far.
        stopped_by: the signal, or that another process heard of one.
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
        settings: of the run.
        out: run folder; must not hold a run yet unless ``resume``.
        resume: go on from the checkpoint in ``out``, with the settings kept there.
        sequences: footage to use in place of ``settings.data.sources``.
        refined: kept with the run, where it goes on with another one on test frames. Then one snippet of
            HELD_OUT_EVERY is held out, and the weights that explain those best are kept, those at the
            start included.

    Raises:
        EgodepthError: anything wrong with settings, footage, folder or device.
        TrainingInterrupted: a KeyboardInterrupt, by Ctrl-C or SIGTERM, after the step under way; the folder
            holds what ``resume`` goes on from.
    """
    require(settings, TrainSettings, "settings", "TrainSettings (egodepth.get_recipe)")
    run = RunFolder.to_make(out)
    began = time.perf_counter()
    engine = Engine.of(settings)
    world = engine.world
    if world.is_main:
        check_folder(run, resume=resume)
    saved = read_saved(run) if resume else None
    if saved:
        settings, refined = _with_own_camera(settings, run), run.facts().refined
    if sequences is None:
        sequences = read_training_sequences(settings.data)
    training = _set_up(settings, sequences, engine, began, saved, refined)
    stream, pace = training.stream, training.pace
    before = run.facts().seconds if saved else 0.0
    if world.is_main:
        _begin_folder(run, training, resumed=resume)
    stop, watch = GracefulStop(), CollapseWatch()
    best = [] if training.held_out is None else [KeepBest(training.held_out)]
    callbacks = [
        *pace.callbacks(), *_reports(settings, run, stream, world), *best,
        # After the best weights, which it keeps, are in place.
        _checkpoints(settings, run, training.plan, training.module), watch, stop, *training.rounds,
    ]  # fmt: skip
    trainer = engine.trainer(
        stream.schedule.total, callbacks, logger=loggers(run, stream.first_step),
        log_every_n_steps=settings.log_every,
    )  # fmt: skip
    stream.prefetch = engine.accelerator != "cpu"
    started = time.perf_counter()
    batches = DataLoader(stream, batch_size=None, num_workers=0)
    fit(trainer, training.module, batches, run.checkpoint if resume else None)
    seconds = time.perf_counter() - started
    result = next((each.best.result for each in best), None)
    if world.is_main:
        kept = None if stop.stopped_by else result
        run.write_facts(training.last_facts(trainer.global_step, before + seconds, kept))
    done = TrainResult(
        run=run.path,
        steps=trainer.global_step,
        total_steps=stream.schedule.total,
        seconds=seconds,
        wait_seconds=stream.seconds,
        prepare_seconds=training.facts["prepare_seconds"],
        collapse=watch.found,
        held_out=result,
    )
    if stop.stopped_by is not None:
        raise TrainingInterrupted(done, stop.stopped_by)
    return done


def read_saved(run: RunFolder) -> dict[str, Any]:
    """The checkpoint that a training resumes from.

    Raises:
        EgodepthError: it is not one of a training, or of an earlier version.
    """
    saved = read_checkpoint(run.checkpoint)
    if "egodepth_schedule" not in saved:
        raise EgodepthError(
            f"cannot resume: {run} was imported, or trained by an earlier version; start a new run with "
            f"--init {run}"
        )
    return saved


@dataclass
class _Training:
    """What a training is made of, before its first step.

    Attributes:
        settings: with everything decided.
        stream: of the snippets to learn from.
        held_out: of those that a refinement is judged by; None for other trainings.
        plan: of the footage.
        pace: of the steps.
        rounds: what makes labels while it runs.
        module: what is trained.
        facts: what ``run.json`` says at first.
    """

    settings: TrainSettings
    stream: SnippetStream
    held_out: SnippetStream | None
    plan: Plan
    pace: Pace
    rounds: list[LabelRounds]
    module: EgodepthModule
    facts: dict[str, Any]

    def last_facts(
        self, steps: int, seconds: float, result: HeldOutResult | None
    ) -> dict[str, Any]:
        """Content of ``run.json`` after a number of steps and the total seconds of all sessions."""
        plan = self.plan.lines + [line for each in self.rounds for line in each.lines]
        facts = self.facts | {"seconds": seconds} | self.pace.facts(steps) | {"plan": plan}
        return facts | ({} if result is None else {"held_out": str(result)})


def _set_up(
    settings: TrainSettings,
    sequences: list[Sequence],
    engine: Engine,
    began: float,
    saved: dict[str, Any] | None,
    refined: str,
) -> _Training:
    """Prepare footage, steps and networks.

    Args:
        settings: of the run.
        sequences: footage.
        engine: what computes.
        began: when the training began, by ``time.perf_counter``.
        saved: the checkpoint that it goes on from.
        refined: see :func:`train`.
    """
    settings, stream, plan, prepare_seconds = prepare(settings, sequences)
    held_out = None
    if refined:
        stream, held_out = stream.hold_out(HELD_OUT_EVERY)
    compare = Comparisons.compiled() if settings.compile == "always" else PLAIN
    pace = Pace(settings, stream, engine, began)
    rounds = _label_rounds(settings, stream) if settings.labels_in_rounds else []
    pace.reserved = lambda: sum(each.seconds_left() for each in rounds)
    if saved:
        stream.first_step = saved["global_step"]
        stream.schedule = Schedule.of_state(saved["egodepth_schedule"])
    else:
        pace.plan(compare)
    L.seed_everything(settings.seed, verbose=False)
    module = _make_module(settings, stream, engine, compare)
    settings = settings.changed(model=module.networks.settings)
    facts = _first_facts(settings, sequences, stream, plan, engine)
    facts |= {"prepare_seconds": prepare_seconds} | ({"refined": refined} if refined else {})
    return _Training(settings, stream, held_out, plan, pace, rounds, module, facts)


def _begin_folder(run: RunFolder, training: _Training, *, resumed: bool) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    config.save(training.settings, run.config)
    run.write_facts(training.facts)
    if not resumed:  # which keeps what it had learned of them
        keep_cameras(training.plan.clips, run)


def _with_own_camera(settings: TrainSettings, run: RunFolder) -> TrainSettings:
    """Settings of a resumed run, whose stored camera replaces the camera file that was given."""
    if settings.data.camera is None or not run.camera.exists():
        return settings
    return settings.changed(data=settings.data.changed(camera=run.camera, focal=None, fov=None))


def _first_facts(
    settings: TrainSettings,
    sequences: list[Sequence],
    stream: SnippetStream,
    plan: Plan,
    engine: Engine,
) -> dict[str, Any]:
    """What is known of a run before its first step."""
    facts = {
        **provenance(), "steps": stream.schedule.total, "schedule": stream.schedule.state(),
        "precision": engine.precision, "poses": plan.poses, "plan": plan.lines,
        **_unit_facts(settings, sequences),
    }  # fmt: skip
    if settings.method != "features" and settings.data.needs_pose_net:
        facts |= motion_gap(plan.clips).facts()
    return facts | ({"processes": engine.world.size} if engine.world.size > 1 else {})


def _reports(
    settings: TrainSettings, run: RunFolder, stream: SnippetStream, world: World
) -> list[L.Callback]:
    """What people see of a training while it runs."""
    frames_per_step = world.size * settings.batch_size * stream.frames_per_snippet
    return [TrainingProgress(frames_per_step), Samples(run, settings.sample_every)]


def _checkpoints(
    settings: TrainSettings, run: RunFolder, plan: Plan, module: EgodepthModule
) -> Checkpoints:
    """What writes the checkpoint, and the cameras as learned by then."""

    def keep() -> None:
        motions = module.motions
        keep_cameras(plan.clips, run, None if motions is None else motions.focal_factors.tolist())

    return Checkpoints(run.checkpoint, settings.checkpoint_every, keep)


def loggers(run: RunFolder, first_step: int) -> list[Logger]:
    """The logs of a session that starts at a step."""
    # Lightning empties an existing log, so every session writes its own.
    return [
        CSVLogger(run.path, run.logs.name, run.log_version(first_step)),
        TensorBoardLogger(run.path, run.logs.name, "tensorboard"),
    ]


def _label_rounds(settings: TrainSettings, stream: SnippetStream) -> list[LabelRounds]:
    """What makes labels during the training; nothing where several processes take part, which is told."""
    if World.of_environment().size > 1:
        progress.note(
            "depth from many views: without poses before the training it takes one process"
        )
        return []
    folder = settings.data.cache or default_cache_folder()
    return [LabelRounds(stream, folder, label_seconds(settings))]


def _make_module(
    settings: TrainSettings, stream: SnippetStream, engine: Engine, compare: Comparisons
) -> EgodepthModule:
    """What is trained; images are compared by ``compare`` unless the training is long enough to compile."""
    module = build_module(settings, stream, engine.precision)
    if engine.world.size > 1 and engine.accelerator != "cpu":
        share_batch_statistics(module)
    module.to(memory_format=torch.channels_last)
    # By the whole training as first planned, so that a resumed one repeats its steps.
    long = settings.compile == "auto" and stream.schedule.revisions[0].total >= WORTH_STEPS
    module.compare = Comparisons.compiled() if long else compare
    return module


def _unit_facts(settings: TrainSettings, sequences: list[Sequence]) -> dict[str, str]:
    """What the run's lengths are."""
    by_poses = settings.data.poses == "given" and settings.data.views == "mono"
    if by_poses and not all(sequence.metric_poses for sequence in sequences):
        return {"metric": "", "unit": POSES_UNIT}
    return {"metric": settings.data.metric}


def check_folder(run: RunFolder, *, resume: bool) -> None:
    """Refuse a folder that a training can't be written to, or go on from.

    Raises:
        EgodepthError: it holds a run, or none to go on from.
    """
    if resume and not run.checkpoint.exists():
        raise EgodepthError(f"cannot resume: {run} holds no {run.checkpoint.name}")
    if not resume and run.checkpoint.exists():
        raise EgodepthError(
            f"{run} already holds a run: add --resume to go on, or name another folder"
        )
    check_output_folder(run.path, for_run=True)
