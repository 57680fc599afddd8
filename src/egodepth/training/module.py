"""The LightningModule that trains the networks, and its optimizer."""

import hashlib
import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from egodepth.core.errors import NonFiniteError
from egodepth.core.schedule import Schedule
from egodepth.models.networks import DepthNet, Networks
from egodepth.settings.training import TrainSettings
from egodepth.training.augment import augment
from egodepth.training.batch import RawBatch, SnippetBatch
from egodepth.training.compilation import PLAIN
from egodepth.training.motion_refinement import MotionRefinement
from egodepth.training.objective import ObjectiveResult, compute_objective

WARM_UP = 0.1
"""Share of the steps used for learning rate warm-up."""
FIRST_RATE, LAST_RATE = 0.1, 0.01
"""Learning rate at the first and last step, relative to the peak."""
HALVED_WARM_UP_STEPS = 500
"""Warm-up steps of the ``halved`` schedule."""
ADAGRAD = (0.0, 1 - 1e-6)
"""Betas with which Adam, at a learning rate divided by the square root of the step, equals Adagrad (Duchi et
al., JMLR 2011): no momentum, and the mean of all squared gradients so far."""


class EgodepthModule(L.LightningModule):
    """Networks and objective as a LightningModule."""

    def __init__(
        self,
        settings: TrainSettings,
        networks: Networks,
        schedule: Schedule,
        motions: MotionRefinement | None = None,
    ):
        """Set up training.

        Args:
            settings: training settings.
            networks: networks to train.
            schedule: number of steps, which the learning rate and fading terms follow.
            motions: poses from structure from motion, refined during training.
        """
        super().__init__()
        self.settings, self.networks, self.schedule = settings, networks, schedule
        self.motions = motions
        self.compare = PLAIN
        self.ranks: tuple[tuple[int, int], ...] = ()
        self.shards = ""
        self.last: tuple[SnippetBatch, ObjectiveResult] | None = None
        if settings.method == "frozen" and networks.features is not None:
            networks.features.requires_grad_(False)

    def transfer_batch_to_device(
        self, batch: RawBatch, device: torch.device, dataloader_idx: int
    ) -> RawBatch:
        return batch.to(device)

    def forward(self, raw: RawBatch) -> tuple[SnippetBatch, ObjectiveResult]:
        """Return the augmented batch and its objective."""
        # All randomness in a step is derived from its index, so that a resumed run repeats it.
        seed = step_seed(self.settings.seed, raw.step)
        torch.manual_seed(seed)
        terms = {}
        if self.motions is not None:
            terms = {"pose_prior": self.motions.prior(raw)}
            raw = self.motions(raw)
        batch = augment(raw, seed, enabled=self.settings.data.augment)
        progress = self.schedule.progress(raw.step)
        return batch, compute_objective(
            self.networks, batch, self.settings, progress, self.compare, terms
        )

    def training_step(self, raw: RawBatch, batch_idx: int) -> Tensor:
        self.last = self(raw)
        result = self.last[1]
        if self._looks_at(result.total, raw.step) and not torch.isfinite(result.total.detach()):
            raise NonFiniteError(f"the loss is not finite at step {raw.step}")
        values = {"total": result.total.detach()}
        values |= {name: value.detach() for name, value in result.terms.items()}
        if "convergent" in result.terms:
            # Unlike both terms, it does not fall where features merely shrink; 3.1 for white noise.
            values["feature_roughness"] = values["convergent"] / (-values["discriminative"]).clamp(
                min=1e-12
            )
        self.log_dict(values, sync_dist=self.trainer.world_size > 1, batch_size=raw.frames.shape[1])
        return result.total * raw.weight if raw.weight != 1 else result.total

    def _looks_at(self, loss: Tensor, step: int) -> bool:
        """Whether a step's loss is checked. Reading a value from a GPU waits for it, so there it is not done in
        every step; weights are checked before they are saved."""
        return loss.device.type == "cpu" or step % self.settings.log_every == 0

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self)
        rate = self._one_cycle if self.settings.schedule == "one_cycle" else self._halved
        rates = [
            (lambda step: rate(step) / math.sqrt(step + 1)) if group["betas"] == ADAGRAD else rate
            for group in optimizer.param_groups
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning's own clipping refuses fused optimizers, although it is safe without loss scaling.
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.settings.gradient_clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["egodepth_schedule"] = self.schedule.state()
        checkpoint["egodepth_ranks"] = [list(each) for each in self.ranks]
        if self.shards:
            checkpoint["egodepth_shards"] = self.shards

    def _one_cycle(self, step: int) -> float:
        """Cosine warm-up to the peak, then cosine decay (Smith and Topin 2017)."""
        progress = self.schedule.progress(step)
        if progress < WARM_UP:
            low, share = FIRST_RATE, 1 - progress / WARM_UP
        else:
            low, share = LAST_RATE, (progress - WARM_UP) / (1 - WARM_UP)
        return low + (1 - low) * (1 + math.cos(math.pi * share)) / 2

    def _halved(self, step: int) -> float:
        """Linear warm-up from a third over the first steps, then halved at given shares."""
        rise = min(1.0, (1 + 2 * step / HALVED_WARM_UP_STEPS) / 3)
        progress = self.schedule.progress(step)
        passed = sum(progress >= share for share in self.settings.halve_at)
        return rise * 0.5**passed


def make_optimizer(module: EgodepthModule) -> torch.optim.Optimizer:
    """AdamW, with separate learning rates and no weight decay for pose corrections.

    Each step sees only a few frames. Adam would keep applying a frame's momentum in steps without it, and
    normalize its gradient by a mean over all steps: from noise alone, poses drifted by 35 learning rates in
    1500 steps. Adagrad moves a frame only when it is seen, and less each time.
    """
    settings, motions = module.settings, module.motions
    groups: list[dict[str, Any]] = [
        {"params": [p for p in module.networks.parameters() if p.requires_grad]}
    ]
    depth = module.networks.depth
    if settings.decoder_rate != 1 and isinstance(depth, DepthNet):
        decoder = list(depth.decoder.parameters())
        theirs = {id(parameter) for parameter in decoder}
        groups[0]["params"] = [p for p in groups[0]["params"] if id(p) not in theirs]
        groups.append({"params": decoder, "lr": settings.decoder_rate * settings.learning_rate})
    if motions is not None:
        slow = [motions.twist, motions.log_focal]
        groups.append({"params": slow, "lr": settings.pose_learning_rate, "weight_decay": 0.0,
                       "betas": ADAGRAD})  # fmt: skip
        scale = [motions.log_scale]
        groups.append({"params": scale, "lr": settings.scale_learning_rate, "weight_decay": 0.0})
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )


def step_seed(seed: int, step: int) -> int:
    """Seed for one step of a run, by hashing."""
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1
