"""Base class of all training callbacks."""

from typing import Any

import lightning as L

from egodepth.training.module import EgodepthModule


class StepCallback(L.Callback):
    """A Lightning callback with a simpler hook after each optimizer step."""

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        """Called after each optimizer step, which ``trainer.global_step`` already includes."""
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
