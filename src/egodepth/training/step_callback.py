"""What happens after every step of a training: one base for all callbacks."""

from typing import Any

import lightning as L

from egodepth.training.module import EgodepthModule


class StepCallback(L.Callback):
    """A callback that is asked after each optimizer step, with what it needs of Lightning's arguments."""

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        """After each optimizer step; ``trainer.global_step`` counts it already."""
        raise NotImplementedError

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, EgodepthModule)
        self.after_step(trainer, pl_module)
