"""A training run: folder, data, trainer, stop and resume."""

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from egodepth.core import config, progress
from egodepth.core.errors import EgodepthError, EgodepthWarning, require
from egodepth.core.outputs import check_destination
from egodepth.core.provenance import provenance
from egodepth.core.schedule import Schedule
from egodepth.core.world import World
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.footage.own_footage import (
    CAMERA_FILE,
    POSES_UNIT,
)
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_sources
from egodepth.data.splits import get_split
from egodepth.models.encoder import share_batch_statistics
from egodepth.runs.cameras import brings_camera, keep_cameras, with_camera
from egodepth.runs.checkpoint import read_checkpoint
from egodepth.runs.folder import RunFolder
from egodepth.settings.training import DataSettings, TrainSettings
from egodepth.training.build import build_module, label_seconds, prepare
from egodepth.training.callbacks import (
    Checkpoints,
    CollapseWatch,
    GracefulStop,
    Samples,
    TrainingProgress,
)
from egodepth.training.clock import PLANNED_SHARE
from egodepth.training.compilation import PLAIN, WORTH_STEPS, Comparisons
from egodepth.training.engine import Engine, fit
from egodepth.training.held_out import HELD_OUT_EVERY, HeldOutResult, KeepBest
from egodepth.training.label_rounds import LabelRounds
from egodepth.training.module import EgodepthModule
from egodepth.training.motion_refinement import MotionRefinement
from egodepth.training.pace import Pace
from egodepth.training.plan import motion_gap
from egodepth.training.snippets import SnippetStream
from egodepth.training.threads import thread_options, threads_kept
from egodepth.training.timing import time_steps, wanted_steps

ESTIMATE_STEPS = 5
"""Steps of each kind that an estimate times."""


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
    require(out, (str, Path), "out", "the folder to make")
    run = RunFolder.at(Path(out))
    began = time.perf_counter()
    engine = Engine.of(settings)
    world = engine.world
    if world.is_main:
        _check_folder(run, resume=resume)
    saved = _read_saved(run) if resume else None
    if saved:
        refined = run.facts().refined
        if settings.data.camera is not None and run.camera.exists():
            settings = settings.changed(data=settings.data.changed(camera=run.camera))
    if sequences is None:
        sequences = read_training_sequences(settings.data)
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
    stream.labels_first = settings.labels_first if stream.has_labels else 0.0
    L.seed_everything(settings.seed, verbose=False)
    module = _make_module(settings, stream, engine, compare)
    settings = settings.changed(model=module.networks.settings)
    before = run.facts().seconds if saved else 0.0
    facts = {
        **provenance(), "steps": stream.schedule.total, "schedule": stream.schedule.state(),
        "precision": engine.precision, "poses": plan.poses, "plan": plan.lines,
        "prepare_seconds": prepare_seconds, **_unit_facts(settings, sequences),
    }  # fmt: skip
    facts |= motion_gap(plan.clips).facts() if module.networks.pose is not None else {}
    facts |= {"refined": refined} if refined else {}
    facts |= {"processes": world.size} if world.size > 1 else {}
    if world.is_main:
        run.path.mkdir(parents=True, exist_ok=True)
        config.save(settings, run.config)
        run.write_facts(facts)
        if not saved:  # a resumed run keeps what it had learned of them
            keep_cameras(plan.clips, run)
    stop, watch = GracefulStop(), CollapseWatch()
    # Before the checkpoint is written: it holds the weights that are kept.
    best = [] if held_out is None else [KeepBest(held_out)]
    trainer = engine.trainer(
        stream.schedule.total,
        callbacks=[
            *pace.callbacks(),
            TrainingProgress(world.size * settings.batch_size * stream.frames_per_snippet),
            Samples(run, settings.sample_every),
            *best,
            Checkpoints(
                run.checkpoint,
                settings.checkpoint_every,
                lambda: keep_cameras(plan.clips, run, _focal_factors(module.motions)),
            ),
            watch,
            stop,
            *rounds,
        ],
        logger=[
            # Lightning empties an existing log, so every session writes its own.
            CSVLogger(run.path, run.logs.name, run.log_version(stream.first_step)),
            TensorBoardLogger(run.path, run.logs.name, "tensorboard"),
        ],
        log_every_n_steps=settings.log_every,
    )
    stream.prefetch = engine.accelerator != "cpu"
    started = time.perf_counter()
    batches = DataLoader(stream, batch_size=None, num_workers=0)
    fit(trainer, module, batches, run.checkpoint if resume else None)
    facts["seconds"] = before + time.perf_counter() - started
    facts |= pace.facts(trainer.global_step)
    facts["plan"] = plan.lines + [line for each in rounds for line in each.lines]
    result = next((each.best.result for each in best), None)
    if result is not None and stop.stopped_by is None:
        facts["held_out"] = str(result)
    if world.is_main:
        run.write_facts(facts)
    done = TrainResult(
        run=run.path,
        steps=trainer.global_step,
        total_steps=stream.schedule.total,
        seconds=time.perf_counter() - started,
        wait_seconds=stream.seconds,
        prepare_seconds=prepare_seconds,
        collapse=watch.found,
        held_out=result,
    )
    if stop.stopped_by is not None:
        raise TrainingInterrupted(done, stop.stopped_by)
    return done


def _read_saved(run: RunFolder) -> dict[str, Any]:
    """The checkpoint that a training goes on from.

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


def _focal_factors(motions: MotionRefinement | None) -> list[float] | None:
    return None if motions is None else motions.focal_factors.tolist()


def _unit_facts(settings: TrainSettings, sequences: list[Sequence]) -> dict[str, str]:
    """What the run's lengths are."""
    by_poses = settings.data.poses == "given" and settings.data.views == "mono"
    if by_poses and not all(sequence.metric_poses for sequence in sequences):
        return {"metric": "", "unit": POSES_UNIT}
    return {"metric": settings.data.metric}


def read_training_sequences(data: DataSettings) -> list[Sequence]:
    """All sequences of the sources, with a camera given where the footage has none.

    Raises:
        EgodepthError: no sources, or whatever their readers find wrong.
    """
    if not data.sources:
        raise EgodepthError("nothing to train on: name a video or folder, or set --data.sources")
    if data.root is not None and not data.root.is_dir():
        raise EgodepthError(f"--data.root: there is no folder {data.root}")
    found = read_sources(data.sources, data.root)
    if data.split is not None:
        split = get_split(data.split)
        chosen = [split.numbers(s) != set() for s in found]
        rigs = {s.rig for s, is_in in zip(found, chosen, strict=True) if is_in and data.partner}
        if not any(chosen):
            names = ", ".join(s.name for s in found[:6])
            raise EgodepthError(f"--data.split {data.split} names no frame of {names}")
        found = [
            s for s, is_in in zip(found, chosen, strict=True) if is_in or (s.rig and s.rig in rigs)
        ]
    _check_typed_camera(found, data)
    return [with_camera(sequence, data) for sequence in found]


def _check_typed_camera(sequences: list[Sequence], data: DataSettings) -> None:
    """What is typed of the camera must hold for all footage that it is for.

    Raises:
        EgodepthError: a focal length in pixels for frames of several sizes, or a horizontal field of view for
            both upright and wide ones.
    """
    typed = [name for name in ("camera", "focal", "fov") if getattr(data, name) is not None]
    if not typed:
        return
    name, value = typed[0], getattr(data, typed[0])
    own = [s for s in sequences if brings_camera(s)]
    if own:
        warnings.warn(
            f"{own[0].name} brings its own camera ({own[0].camera_note or own[0].camera_from}), which --data."
            f"{name} does not replace",
            EgodepthWarning,
            stacklevel=3,
        )
    sizes = {(s.frames.width, s.frames.height): s.name for s in sequences if not brings_camera(s)}
    upright = {width > height for width, height in sizes if width != height}
    if (name == "focal" and len(sizes) > 1) or (name == "fov" and len(upright) > 1):
        some = ", ".join(f"{s} is {w}x{h}" for (w, h), s in list(sizes.items())[:3])
        meant = "in pixels of one size" if name == "focal" else "from the left to the right edge"
        raise EgodepthError(
            f"--data.{name} {value:g} is {meant}, but {some}: give --data.camera FILE, or put a {CAMERA_FILE} "
            "beside each"
        )


def _check_folder(run: RunFolder, *, resume: bool) -> None:
    if resume and not run.checkpoint.exists():
        raise EgodepthError(f"cannot resume: {run} holds no {run.checkpoint.name}")
    if not resume and run.checkpoint.exists():
        raise EgodepthError(
            f"{run} already holds a run: add --resume to go on, or name another folder"
        )
    check_destination(run.path, folder=True)


@dataclass(frozen=True)
class Estimate:
    """What a training would take.

    Attributes:
        snippets: in an epoch.
        steps, steps_per_epoch: of the training and of an epoch.
        seconds_per_step: measured here, median.
        prepare_seconds: spent on decoding, looking at the footage, and structure from motion, which the
            training then finds done.
    """

    snippets: int
    steps: int
    steps_per_epoch: int
    seconds_per_step: float
    prepare_seconds: float

    def hours(self, snippets: int | None = None, epochs: float | None = None) -> float:
        """Of the whole training; or of so many epochs over so many snippets at the rate measured."""
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
    compare = Comparisons.compiled() if settings.compile == "always" else PLAIN
    options = thread_options(engine.accelerator)
    timing = time_steps(settings, stream, engine, options, compare, ESTIMATE_STEPS)
    steps, per_step = wanted_steps(settings, stream), timing.times.mean()
    if settings.minutes is not None:
        steps = min(steps, max(1, int(PLANNED_SHARE * 60 * settings.minutes / per_step)))
    return Estimate(stream.snippet_count, steps, stream.steps_per_epoch, per_step, prepared)
