"""Multi-view labels without known poses: made twice during training, with the poses and depths that the
networks predict at that time."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from egodepth.core import progress
from egodepth.core.errors import one_line
from egodepth.data.preparation.clips import Clip, KnownMotion, SparsePoints
from egodepth.data.preparation.dense_depth import key_positions
from egodepth.models.networks import Networks
from egodepth.training.learned_motion import POINTS_EVERY, find_motion, images_of, inverse_depth_of
from egodepth.training.module import EgodepthModule
from egodepth.training.plan import LabelsStoppedError, Plan, label_plan
from egodepth.training.snippet_parts import LabelRound
from egodepth.training.snippets import BATCHES_AHEAD, SnippetStream
from egodepth.training.step_callback import StepCallback

ROUNDS = (1 / 3, 2 / 3)
"""Shares of training after which labels are made."""
MAX_RATIO, MAX_SPREAD = 2.0, 0.3
"""Labels of a clip are rejected if their median ratio to DepthNet's depth, or its inverse, exceeds MAX_RATIO,
or the median absolute deviation of the log ratio exceeds MAX_SPREAD."""


@dataclass
class _Round:
    """State needed to finish or repeat a round of labels.

    Attributes:
        step: step after which the round began.
        motions: motion of each clip; None for an unused clip.
        factors: see :class:`LabelRound`; 0 for missing or rejected labels; None until the round is finished.
        line: result of the round, in words.
    """

    step: int
    motions: list[KnownMotion | None]
    factors: list[float] | None = None
    line: str = ""


class LabelRounds(StepCallback):
    """Makes labels after a third of the training, and again after two thirds.

    Poses are stored in the checkpoint and labels in the cache, so that a resumed training uses the same ones,
    or finishes an interrupted round.

    Attributes:
        lines: results of the rounds, in words.
    """

    def __init__(self, stream: SnippetStream, folder: Path, seconds: float | None = None):
        """Args:
        stream: training snippets, which get the labels.
        folder: cache folder.
        seconds: time limit for all rounds together; None for no limit.
        """
        self._stream, self._folder = stream, folder
        self._seconds = None if seconds is None else seconds / len(ROUNDS)
        self._rounds: list[_Round] = []

    @property
    def lines(self) -> list[str]:
        """Results of the rounds, in words."""
        return [made.line for made in self._rounds if made.line]

    def seconds_left(self) -> float:
        """Time limit of the remaining rounds in seconds; 0 without a limit."""
        to_come = len(ROUNDS) - sum(made.factors is not None for made in self._rounds)
        return to_come * (self._seconds or 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        rounds = [vars(r) | {"motions": [_pack(m) for m in r.motions]} for r in self._rounds]
        return {"rounds": rounds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self._rounds = [
            _Round(**{**r, "motions": [_unpack(m) for m in r["motions"]]})
            for r in state_dict["rounds"]
        ]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Must happen before the stream makes its first batch.
        for made in self._rounds:
            if made.factors is not None:
                self._give(made, self._label(made, trainer).clips)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EgodepthModule)
        self.after_step(trainer, pl_module)

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        """Begin a round that is due, or continue an unfinished one, unless training is about to stop."""
        step, schedule = trainer.global_step, module.schedule
        unfinished = bool(self._rounds) and self._rounds[-1].factors is None
        passed = sum(schedule.progress(step) >= share for share in ROUNDS)
        due = passed > len(self._rounds) and step + BATCHES_AHEAD < schedule.total
        if trainer.should_stop or not (unfinished or due):
            return
        networks = module.networks.eval()
        if not unfinished:
            clips = self._stream.clips
            watched = progress.track(clips, "finding the motion of the clips", len(clips), "clips")
            motions = [find_motion(networks, c) if c.is_used else None for c in watched]
            self._rounds.append(_Round(step, motions))
        with suppress(LabelsStoppedError):
            self._finish(self._rounds[-1], trainer, networks)
        module.networks.train()

    def _finish(self, made: _Round, trainer: L.Trainer, networks: Networks) -> None:
        plan = self._label(made, trainer)
        made.factors, lines = [], []
        for clip in plan.clips:
            factor, complaint = _factor(networks, clip)
            made.factors.append(factor)
            if complaint:
                lines.append(f"{clip.sequence.name}: {complaint}, and are left out")
        made.line = f"step {made.step}: " + "; ".join([*plan.lines, *lines])
        progress.note(one_line(made.line))
        self._give(made, plan.clips)

    def _label(self, made: _Round, trainer: L.Trainer) -> Plan:
        clips = [
            replace(clip, motion=motion)
            for clip, motion in zip(self._stream.clips, made.motions, strict=True)
        ]
        device = trainer.strategy.root_device
        return label_plan(
            Plan(clips, "network", []), self._folder, device, self._seconds,
            lambda: trainer.should_stop,
        )  # fmt: skip

    def _give(self, made: _Round, clips: list[Clip]) -> None:
        assert made.factors is not None
        dense = [c.dense if factor else None for c, factor in zip(clips, made.factors, strict=True)]
        self._stream.label_rounds.append(LabelRound(made.step + BATCHES_AHEAD, dense, made.factors))


@torch.no_grad()
def _factor(networks: Networks, clip: Clip) -> tuple[float, str]:
    """Factor that converts a clip's labels to DepthNet's unit: the median ratio of inverse depths. It is 0
    without labels, and, with a message, if labels and DepthNet disagree."""
    if clip.dense is None or clip.motion is None:
        return 0.0, ""
    ratios = []
    for position in key_positions(clip):
        label = np.asarray(clip.dense[position, 0], np.float32)
        if (label > 0).any():
            predicted = (
                inverse_depth_of(networks, images_of(networks, clip, [position]))[0, 0]
                .cpu()
                .numpy()
            )
            ratios.append(np.log(predicted[label > 0] / label[label > 0])[::POINTS_EVERY])
    if not ratios:
        return 0.0, ""
    logs = np.concatenate(ratios)
    median = float(np.median(logs))
    spread = float(np.median(np.abs(logs - median)))
    if abs(median) > np.log(MAX_RATIO) or spread > MAX_SPREAD:
        return 0.0, (
            f"labels of {np.exp(median):.2g} times DepthNet's depth, half of them {100 * spread:.0f} % off and "
            "more, do not agree with it"
        )
    return float(np.exp(median)), ""


def _pack(motion: KnownMotion | None) -> dict[str, Any] | None:
    """Convert to tensors, for the checkpoint."""
    if motion is None:
        return None
    return {
        "world_from_camera": torch.from_numpy(motion.world_from_camera),
        "part": torch.from_numpy(motion.part),
        "points": {p: [torch.from_numpy(v) for v in vars(f).values()] for p, f in motion.points.items()},
    }  # fmt: skip


def _unpack(state: dict[str, Any] | None) -> KnownMotion | None:
    if state is None:
        return None
    points = {
        p: SparsePoints(*(v.numpy() for v in values)) for p, values in state["points"].items()
    }
    return KnownMotion(state["world_from_camera"].numpy(), state["part"].numpy(), points)
