"""Whether a refinement explains frames better that it does not learn from; where not, it is undone."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.training.augment import augment
from egodepth.training.module import EgodepthModule
from egodepth.training.objective import depth_loss
from egodepth.training.snippets import SnippetStream
from egodepth.training.step_callback import StepCallback

HELD_OUT_EVERY = 5
"""Of so many snippets one is held out."""
LOOKS = 6
"""How often a refinement is looked at, its start and end included."""


@dataclass(frozen=True)
class HeldOutResult:
    """What a refinement brought on frames that were held out.

    Attributes:
        before, after: held-out loss of the weights that it started from, and of the best ones seen.
        step: the optimizer step of the best weights; 0 for those at the start.
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
    """Mean of :func:`depth_loss` over all snippets of a stream, without augmentation; infinite where depth or
    motion are not finite."""
    total, count = 0.0, 0
    batches = stream.in_order(module.settings.batch_size)
    for raw in progress.track(batches, "loss of held-out frames", unit="batches"):
        raw = raw.to(next(module.networks.parameters()).device)
        if module.motions is not None:
            raw = module.motions(raw)
        batch = augment(raw, 0, enabled=False)
        try:
            loss = depth_loss(module.networks, batch, module.settings)
        except FloatingPointError:
            return math.inf
        size = raw.frames.shape[1]
        total, count = total + float(loss) * size, count + size
    return total / count


class BestWeights:
    """The weights with the smallest held-out loss so far, and what is known of them.

    Attributes:
        result: so far.
        weights: a state dictionary; empty before the first look.
    """

    def __init__(self) -> None:
        self.result = HeldOutResult(math.inf, math.inf, 0)
        self.weights: dict[str, Tensor] = {}

    def look(self, step: int, loss: float, module: nn.Module) -> None:
        """Take a module's weights if their loss is the smallest; the first look is that of the start. A
        loss that is not finite is that of a refinement gone astray, and never the smallest.

        Raises:
            EgodepthError: the loss at the start is not finite.
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
    """Looks at the held-out loss before, during and after a training, and ends it with the best weights."""

    def __init__(self, stream: SnippetStream):
        """Args:
        stream: of the snippets that were held out.
        """
        self.stream = stream
        self.best = BestWeights()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"weights": self.best.weights, **asdict(self.best.result)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
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
        # A training that was stopped goes on from where it was.
        if trainer.global_step >= trainer.max_steps:
            pl_module.load_state_dict(self.best.weights)

    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EgodepthModule)
        pl_module.eval()
        loss = held_out_loss(pl_module, self.stream)
        pl_module.train()
        progress.note(f"step {trainer.global_step}: loss of held-out frames {loss:.4f}")
        self.best.look(trainer.global_step, loss, pl_module)
