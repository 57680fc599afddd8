"""Setting up a training: everything before its first step."""

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

from egodepth.core import progress
from egodepth.core.provenance import provenance
from egodepth.core.schedule import Schedule
from egodepth.core.world import World
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.footage.own_footage import POSES_UNIT
from egodepth.data.sequence import Sequence
from egodepth.models.encoder import share_batch_statistics
from egodepth.runs.folder import RunFolder
from egodepth.settings.training import TrainSettings
from egodepth.training.build import build_module, label_seconds, prepare
from egodepth.training.compilation import PLAIN, WORTH_STEPS, Comparisons
from egodepth.training.confidence import confidence_steps
from egodepth.training.engine import Engine
from egodepth.training.held_out import HELD_OUT_EVERY, HeldOutResult
from egodepth.training.hold_out import hold_out, hold_out_every
from egodepth.training.label_rounds import LabelRounds
from egodepth.training.module import EgodepthModule
from egodepth.training.pace import Pace
from egodepth.training.plan import Plan, motion_gap
from egodepth.training.shard_plan import check_same_shards
from egodepth.training.snippets import SnippetStream
from egodepth.training.start import Start, is_compared
from egodepth.training.start_comparison import MAX_TARGETS, Comparison, views_of


@dataclass
class Training:
    """A training that is set up, before its first step.

    Attributes:
        settings: resolved settings.
        stream: training snippets.
        held_out: snippets that depth does not learn from; None where the footage is too short.
        start: networks of ``init``, to compare with; None for other trainings.
        plan: plan of the footage.
        pace: number of steps, time budget and threads.
        rounds: callbacks that make labels during training.
        module: module to train.
        facts: initial content of ``run.json``.
    """

    settings: TrainSettings
    stream: SnippetStream
    held_out: SnippetStream | None
    start: Start | None
    plan: Plan
    pace: Pace
    rounds: list[LabelRounds]
    module: EgodepthModule
    facts: dict[str, Any]

    def last_facts(
        self,
        steps: int,
        seconds: float,
        result: HeldOutResult | None,
        comparison: Comparison | None,
    ) -> dict[str, Any]:
        """Content of ``run.json`` after a number of steps and the total seconds of all sessions."""
        plan = self.plan.lines + [line for each in self.rounds for line in each.lines]
        facts = self.facts | {"seconds": seconds} | self.pace.facts(steps) | {"plan": plan}
        facts |= {} if result is None else {"held_out": str(result)}
        return facts | ({} if comparison is None else {"start_comparison": comparison.facts()})


def set_up(
    settings: TrainSettings,
    sequences: list[Sequence],
    engine: Engine,
    began: float,
    saved: dict[str, Any] | None,
    refined: str,
) -> Training:
    """Prepare footage, steps and networks.

    Args:
        settings: training settings.
        sequences: footage.
        engine: device, precision and processes.
        began: start of the training, by ``time.perf_counter``.
        saved: checkpoint to resume from, if any.
        refined: see :func:`train`.
    """
    settings, stream, plan, prepare_seconds = prepare(settings, sequences)
    shards = check_same_shards(stream, saved)
    held_out = compared = None
    if refined:
        stream, held_out = hold_out_every(stream, HELD_OUT_EVERY)
    else:
        every = stream
        stream, held_out = hold_out(settings, every)
        compared = (held_out or every) if is_compared(settings) else None
        plan.lines.extend(_describe_held_out(every, held_out))
    compare = Comparisons.compiled() if settings.compile == "always" else PLAIN
    pace = Pace(settings, stream, engine, began)
    rounds = _label_rounds(settings, stream) if settings.labels_in_rounds else []
    # A frame of the comparison takes about as long as a step.
    frames = 0 if compared is None else MAX_TARGETS
    # A step for the confidence takes about half as long.
    pace.reserved = lambda: (
        sum(each.seconds_left() for each in rounds)
        + (frames + confidence_steps(stream.schedule.total) / 2) * pace.step_seconds
    )
    if saved:
        stream.first_step = saved["global_step"]
        stream.schedule = Schedule.of_state(saved["egodepth_schedule"])
        stream.resume(saved.get("egodepth_ranks"))
    else:
        pace.plan(compare)
    L.seed_everything(settings.seed, verbose=False)
    module = _make_module(settings, stream, engine, compare)
    module.ranks, module.shards = stream.history, shards
    start = None
    if compared is not None and settings.init is not None:
        start = Start(RunFolder.to_use(settings.init), module.networks, views_of(compared))
    settings = settings.changed(model=module.networks.settings)
    facts = _first_facts(settings, sequences, stream, plan, engine)
    facts |= {"prepare_seconds": prepare_seconds} | ({"refined": refined} if refined else {})
    return Training(settings, stream, held_out, start, plan, pace, rounds, module, facts)


def _describe_held_out(every: SnippetStream, held_out: SnippetStream | None) -> list[str]:
    """Describe what is held out in a line, and print it; none if nothing is."""
    if held_out is None:
        return []
    count = f"{held_out.snippet_count} of {every.snippet_count} snippets"
    line = f"{count} are held out: they show how sure depth is"
    progress.note(line)
    return [line]


def _first_facts(
    settings: TrainSettings,
    sequences: list[Sequence],
    stream: SnippetStream,
    plan: Plan,
    engine: Engine,
) -> dict[str, Any]:
    """Content of ``run.json`` known before the first step."""
    facts = {
        **provenance(), "steps": stream.schedule.total, "schedule": stream.schedule.state(),
        "precision": engine.precision, "poses": plan.poses, "plan": plan.lines,
        **_unit_facts(settings, sequences),
    }  # fmt: skip
    if settings.method != "features" and settings.data.needs_pose_net:
        facts |= motion_gap(plan.clips).facts()
    return facts | ({"processes": engine.world.size} if engine.world.size > 1 else {})


def _label_rounds(settings: TrainSettings, stream: SnippetStream) -> list[LabelRounds]:
    """Callbacks that make labels during training; none, with a note, from shards and for several processes."""
    if stream.chunks is not None:
        progress.note(
            "depth from many views: without poses before the training it takes the footage itself, not shards"
        )
        return []
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
    """Build the module, which compares images with ``compare`` unless training is long enough to compile."""
    module = build_module(settings, stream, engine.precision)
    if engine.world.size > 1 and engine.accelerator != "cpu":
        share_batch_statistics(module)
    module.to(memory_format=torch.channels_last)
    # Decided by the number of steps planned at first, so that a resumed training does the same.
    long = settings.compile == "auto" and stream.schedule.revisions[0].total >= WORTH_STEPS
    module.compare = Comparisons.compiled() if long else compare
    return module


def _unit_facts(settings: TrainSettings, sequences: list[Sequence]) -> dict[str, str]:
    """Facts on the unit of length of a run: what makes it metric, in words, or the unit of its poses."""
    if settings.data.views != "mono":
        return {"metric": "the baseline of the rig that the run was trained with"}
    if settings.data.poses != "given":
        return {"metric": ""}
    if not all(sequence.metric_poses for sequence in sequences):
        return {"metric": "", "unit": POSES_UNIT}
    return {"metric": "the poses that the run was trained with"}
