"""Evaluation of pretraining on held-out rendered worlds."""

from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import torch

from egodepth.core import progress
from egodepth.data.synthetic.worlds.pairs import (
    CANONICAL_FOCAL,
    HELD_OUT_SEEDS,
    KIND_SHARES,
    MAX_DEPTH,
)
from egodepth.data.synthetic.worlds.world import World
from egodepth.evaluation.depth import DepthProtocol, score_depth
from egodepth.models.networks import Networks
from egodepth.runs.confidence_fit import KnownFrame
from egodepth.training.module import EgodepthModule
from egodepth.training.pretraining_module import PretrainingModule
from egodepth.training.step_callback import StepCallback

SIZES = ((96, 320), (192, 256))
"""Height and width of the held-out worlds of each kind."""
FRAMES = (10, 40)
"""Indices of the frames used from each world."""
LOOK_EVERY = 0.05
"""Share of training between evaluations."""
PROTOCOL = DepthProtocol("held-out worlds", MAX_DEPTH)


class HeldOutWorlds:
    """Two frames of one held-out world per kind and size, with seeds that are never trained on."""

    def __init__(self, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
        self._sizes = sizes
        self._frames: list[tuple[str, np.ndarray, np.ndarray]] = []

    def _rendered(self, stopped: Callable[[], bool]) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Return kind, image, and depth in the canonical unit of each frame; rendered once."""
        if not self._frames:
            frames = []
            worlds = [
                World(kind, HELD_OUT_SEEDS + place, FRAMES[-1] + 1, *size)
                for kind in KIND_SHARES
                for place, size in enumerate(self._sizes)
            ]
            for world in progress.track(worlds, "rendering held-out worlds", unit="worlds"):
                if stopped():
                    return []
                unit = CANONICAL_FOCAL / float(world.camera.matrix[0, 0])
                for index in FRAMES:
                    image, depth, _ = world.render(index)
                    frames.append((world.kind, image, unit * depth))
            self._frames = frames
        return self._frames

    def known_frames(self) -> list[KnownFrame]:
        """The frames with their inverse depth; that of sky is not known."""
        return [
            KnownFrame(
                image, np.where((depth > 0) & (depth < MAX_DEPTH), 1 / np.maximum(depth, 1e-6), 0)
            )
            for _, image, depth in self._rendered(lambda: False)
        ]

    @torch.inference_mode()
    def score(
        self, networks: Networks, stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, dict[str, float]]:
        """Compute Abs Rel and delta 1 (``abs_rel``, ``a1``) with median scaling, averaged per kind and over
        kinds; empty if it was stopped.

        Args:
            networks: networks in evaluation mode.
            stopped: whether to stop; asked before every frame.
        """
        depth_net = networks.depth
        assert depth_net is not None
        device = next(depth_net.parameters()).device
        scores: dict[str, list[dict[str, float]]] = {}
        for kind, image, truth in self._rendered(stopped):
            if stopped():
                break
            levels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
            inverse = depth_net(levels.contiguous(memory_format=torch.channels_last), scales=1)[0]
            predicted = 1 / inverse[0, 0].cpu().numpy()
            scores.setdefault(kind, []).append(score_depth(predicted, truth, PROTOCOL))
        if stopped():
            return {}
        means = {kind: _mean(found) for kind, found in scores.items()}
        return {**means, "all": _mean(list(means.values()))}


def _mean(scores: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([s[name] for s in scores])) for name in ("abs_rel", "a1")}


class ScoreWorlds(StepCallback):
    """Scores the averaged weights on held-out worlds at regular intervals.

    Attributes:
        curve: step and scores of each evaluation, for run.json.
    """

    def __init__(self, worlds: HeldOutWorlds, keep: Callable[[list[dict[str, Any]]], None]):
        """Args:
        worlds: held-out worlds.
        keep: stores the curve.
        """
        self.curve: list[dict[str, Any]] = []
        self._worlds, self._keep = worlds, keep
        self._scored = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        return {"curve": self.curve, "scored": self._scored}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.curve, self._scored = state_dict["curve"], state_dict["scored"]

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        assert isinstance(module, PretrainingModule)
        step = trainer.global_step
        done = module.schedule.progress(step)
        if not trainer.is_global_zero or (done < 1 and done - self._scored < LOOK_EVERY):
            return
        scores = self._worlds.score(module.average, lambda: trainer.should_stop)
        if not scores:  # a resumed training scores first
            return
        self._scored = done
        self.curve.append({"step": step, **scores})
        each = ", ".join(
            f"{kind} {s['abs_rel']:.3f}" for kind, s in scores.items() if kind != "all"
        )
        total = scores["all"]
        progress.note(
            f"step {step}: held-out worlds Abs Rel {total['abs_rel']:.3f}, delta 1 {total['a1']:.3f} ({each})"
        )
        self._keep(self.curve)
