"""Device, precision and processes of a training, and its Lightning trainer."""

import signal
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy, Strategy

from egodepth.core.errors import EgodepthError, EgodepthWarning, NonFiniteError
from egodepth.core.files import write_error
from egodepth.core.memory import keep_large_allocations
from egodepth.core.quiet import quiet_loggers, quiet_writers
from egodepth.core.world import World
from egodepth.runs.devices import choose_device, choose_precision, torch_device
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import RawBatch
from egodepth.training.module import EgodepthModule


class PlainFiles(TorchCheckpointIO):
    """Writes checkpoints straight to their path. Lightning writes them among the system's temporary files
    first, where a killed training leaves them."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)


@dataclass(frozen=True)
class Engine:
    """Device, precision and processes of a training.

    Attributes:
        accelerator, devices: device in Lightning's terms.
        device: device in PyTorch's terms.
        precision: precision of the networks, ``bf16`` or ``float32``.
        world: ranks of the training.
    """

    accelerator: str
    devices: list[int]
    device: torch.device
    precision: str
    world: World

    @classmethod
    def of(cls, settings: TrainSettings) -> Self:
        """Choose the engine according to settings.

        Raises:
            EgodepthError: no such device, or a time budget with several processes.
        """
        world = World.of_environment()
        if world.size > 1 and settings.minutes is not None:
            raise EgodepthError(
                "several processes can't fit a training into a time, since each would find another number "
                "of steps: give --minutes null with --steps or --epochs"
            )
        accelerator, devices = choose_device(settings.device)
        if accelerator == "cpu":
            keep_large_allocations()
        precision = choose_precision(settings.precision, accelerator)
        return cls(accelerator, devices, torch_device(settings.device), precision, world)

    def trainer(
        self, steps: int, callbacks: list[L.Callback], *, unused: bool = True, **options: Any
    ) -> L.Trainer:
        """Make a trainer.

        Args:
            steps: number of steps.
            callbacks: its callbacks.
            unused: whether steps may leave parameters out; only matters for several processes.
            options: passed to Lightning.
        """
        quiet_loggers()
        alone = 1 if self.accelerator == "cpu" else self.devices
        return L.Trainer(
            accelerator=self.accelerator,
            devices=self.world.local_size if self.world.size > 1 else alone,
            num_nodes=self.world.nodes,
            strategy=make_strategy(self.world, unused),
            max_steps=steps,
            max_epochs=-1,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            plugins=[PlainFiles()],
            **options,
        )


def make_strategy(world: World, unused: bool) -> Strategy | str:
    """How processes train together. Looking for unused parameters walks through the graph in every step."""
    if world.size == 1:
        return "auto"
    return DDPStrategy(find_unused_parameters=unused, gradient_as_bucket_view=True)


def fit(
    trainer: L.Trainer,
    module: EgodepthModule,
    batches: Iterable[RawBatch],
    checkpoint: Path | None = None,
) -> None:
    """Run the training, from a checkpoint if one is given.

    Raises:
        EgodepthError: loss, depth or motion is not finite, or the logs cannot be written.
        KeyboardInterrupt: on Ctrl-C.
    """
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings(), quiet_writers():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", EgodepthWarning)
            trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        # On Ctrl-C, Lightning exits the process and ignores the signal from then on.
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    except OSError as error:
        raise write_error(error.filename or trainer.log_dir or "the logs", error) from error
    except NonFiniteError as error:
        raise divergence_error(error) from error


def divergence_error(error: NonFiniteError) -> EgodepthError:
    """The error of a training whose numbers are not finite, with advice."""
    return EgodepthError(
        f"{error}: lower --learning_rate or try --precision float32; the last checkpoint, if "
        "any, is in the run folder"
    )
