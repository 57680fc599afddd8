"""Validation of a refinement on held-out frames, keeping the best weights."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, NonFiniteError
from egodepth.training.augment import augment
from egodepth.training.module import EgodepthModule
from egodepth.training.objective import depth_loss
from egodepth.training.snippets import SnippetStream
from egodepth.training.step_callback import StepCallback

HELD_OUT_EVERY = 5
"""One in this many snippets is held out."""
LOOKS = 6
"""Number of evaluations of the held-out loss, including start and end."""


@dataclass(frozen=True)
class HeldOutResult:
    """Result of a refinement on held-out frames.

    Attributes:
        before, after: held-out loss of the initial weights, and of the best ones.
        step: optimizer step of the best weights; 0 for the initial ones.
    """

    before: float
    after: float
    step: int

    @property
    def improved(self) -> bool:
        """Whether the refined weights are kept."""
        return self.step > 0

    def __str__(self) -> str:
        change = f"loss of held-out frames {self.before:.4f} before, {self.after:.4f} after"
        if self.improved:
            return f"{change} step {self.step}, whose weights are kept"
        return f"{change}: not better, the weights before are kept"


@torch.no_grad()
def held_out_loss(module: EgodepthModule, stream: SnippetStream) -> float:
    """Mean of :func:`depth_loss` over all snippets of a stream, without augmentation; infinite if depth or
    motion is not finite."""
    total, count = 0.0, 0
    batches = stream.in_order(module.settings.batch_size)
    for raw in progress.track(batches, "loss of held-out frames", unit="batches"):
        raw = raw.to(next(module.networks.parameters()).device)
        if module.motions is not None:
            raw = module.motions(raw)
        batch = augment(raw, 0, enabled=False)
        try:
            loss = depth_loss(module.networks, batch, module.settings)
        except NonFiniteError:
            return math.inf
        size = raw.frames.shape[1]
        total, count = total + float(loss) * size, count + size
    return total / count


class BestWeights:
    """The weights with the smallest held-out loss so far.

    Attributes:
        result: held-out losses so far.
        weights: state dictionary; empty before the first evaluation.
    """

    def __init__(self) -> None:
        self.result = HeldOutResult(math.inf, math.inf, 0)
        self.weights: dict[str, Tensor] = {}

    def look(self, step: int, loss: float, module: nn.Module) -> None:
        """Keep a module's weights if their loss is the smallest so far. The first call is for the initial
        weights; later losses that are not finite are ignored.

        Raises:
            EgodepthError: the initial loss is not finite.
        """
        if not self.weights and not math.isfinite(loss):
            raise EgodepthError("the run to refine does not predict finite depth on this footage")
        if not self.weights:
            self.result = HeldOutResult(loss, loss, 0)
        elif loss < self.result.after:
            self.result = replace(self.result, after=loss, step=step)
        else:
            return
        self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}


class KeepBest(StepCallback):
    """Evaluates the held-out loss before, during and after training, and restores the best weights."""

    def __init__(self, stream: SnippetStream):
        """Args:
        stream: held-out snippets.
        """
        self.stream = stream
        self.best = BestWeights()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        return {"weights": self.best.weights, **asdict(self.best.result)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.best.weights = state_dict.pop("weights")
        self.best.result = HeldOutResult(**state_dict)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.best.weights:
            self._look(trainer, pl_module)

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        step, total = trainer.global_step, trainer.max_steps
        if step == total or step % math.ceil(total / (LOOKS - 1)) == 0:
            self._look(trainer, module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # An interrupted training keeps its last weights, to be resumed.
        if trainer.global_step >= trainer.max_steps:
            pl_module.load_state_dict(self.best.weights)

    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EgodepthModule)
        pl_module.eval()
        loss = held_out_loss(pl_module, self.stream)
        pl_module.train()
        progress.note(f"step {trainer.global_step}: loss of held-out frames {loss:.4f}")
        self.best.look(trainer.global_step, loss, pl_module)
