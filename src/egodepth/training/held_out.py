"""Whether a refinement explains frames better that it does not learn from; where not, it is undone."""

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from rich.console import Console
from torch import Tensor

from egodepth.data.snippets import SnippetStream, augment
from egodepth.training.module import EgodepthModule
from egodepth.training.objective import depth_loss

HELD_OUT_EVERY = 5
"""Of so many snippets one is held out."""
LEAST_GAIN = 0.01
"""Share of the held-out loss that a refinement must take away to be kept: L_ph falls a little with whatever
is fitted to a drive, whether or not depth gets better by it."""
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
    """Mean of :func:`depth_loss` over all snippets of a stream, without augmentation."""
    total, count = 0.0, 0
    for raw in stream.in_order(module.settings.batch_size):
        raw = raw.to(next(module.networks.parameters()).device)
        if module.motions is not None:
            raw = module.motions(raw)
        loss = depth_loss(module.networks, augment(raw, 0, enabled=False), module.settings)
        size = raw.frames.shape[1]
        total, count = total + float(loss) * size, count + size
    return total / count


class KeepBest(L.Callback):
    """Looks at the held-out loss before, during and after a training, and ends it with the best weights."""

    def __init__(self, stream: SnippetStream, console: Console):
        """Args:
        stream: of the snippets that were held out.
        console: where it says what came of it.
        """
        self.stream, self.console = stream, console
        self.before = self.after = float("inf")
        self.step = 0
        self.weights: dict[str, Tensor] = {}

    @property
    def result(self) -> HeldOutResult:
        """What came of it."""
        return HeldOutResult(self.before, self.after, self.step)

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before, "after": self.after, "step": self.step,
                "weights": self.weights}  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before, self.after = state_dict["before"], state_dict["after"]
        self.step, self.weights = state_dict["step"], state_dict["weights"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.weights:
            self._look(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step, total = trainer.global_step, trainer.max_steps
        if step == total or step % max(1, total // (LOOKS - 1)) == 0:
            self._look(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A training that was stopped goes on from where it was.
        if trainer.global_step >= trainer.max_steps:
            pl_module.load_state_dict(self.weights)
            self.console.print(str(self.result))

    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EgodepthModule)
        pl_module.eval()
        loss = held_out_loss(pl_module, self.stream)
        pl_module.train()
        self.console.print(f"step {trainer.global_step}: loss of held-out frames {loss:.4f}")
        if not self.weights:
            self.before = self.after = loss
        elif loss >= min(self.after, (1 - LEAST_GAIN) * self.before):
            return
        else:
            self.after, self.step = loss, trainer.global_step
        self.weights = {k: v.detach().clone() for k, v in pl_module.state_dict().items()}
