"""Callbacks: progress, checkpoints, stopping, collapse detection, sample pictures."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from PIL import Image

from egodepth.core import progress
from egodepth.core.colours import colourize_depth
from egodepth.core.errors import EgodepthError, NonFiniteError
from egodepth.core.files import atomic_path
from egodepth.core.signals import call_on_signal
from egodepth.models.torch_file import not_finite
from egodepth.runs.folder import RunFolder
from egodepth.training.collapse import find_collapse
from egodepth.training.module import EgodepthModule
from egodepth.training.start import Start
from egodepth.training.step_callback import StepCallback

FIRST_CHECK, FIRST_CHECK_SHARE, CHECK_EVERY, IN_A_ROW = 100, 0.1, 20, 4
"""Schedule of collapse checks: earliest step, earliest share of the training, steps between checks, and
consecutive positive checks required."""
COMPARED_AFTER = 250
"""A training is compared with its start halfway if half of it has at least so many steps: a comparison takes
as long as about 12."""
SHOWN = {
    "total": "loss", "photometric": "ph", "feature_metric": "fm", "reconstruction": "rec",
    "exact_depth": "depth", "exact_motion": "motion",
}  # fmt: skip
"""Terms shown in the progress line, with their short names; all terms are logged."""
SECONDS_BETWEEN_LOOKS = 1.0
"""Seconds between updates of the loss terms in the progress line."""


class TrainingProgress(StepCallback):
    """Shows the training as a progress phase: steps, loss terms, frames per second, time left."""

    def __init__(self, frames_per_step: int):
        self.frames_per_step = frames_per_step
        self._stack = ExitStack()
        self._looked = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._phase = self._stack.enter_context(
            progress.phase("training", trainer.max_steps, "steps", trainer.global_step)
        )

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        step, total, now = trainer.global_step, trainer.max_steps, time.monotonic()
        # Reading values makes the host wait for the GPU.
        if step < total and now - self._looked < SECONDS_BETWEEN_LOOKS:
            self._phase.update(step, total)
            return
        self._looked = now
        values = trainer.logged_metrics
        terms = [f"{s} {float(values[n]):.3f}" for n, s in SHOWN.items() if n in values]
        if self._phase.rate is not None:
            terms.append(f"{self._phase.rate * self.frames_per_step:.1f} frames/s")
        self._phase.update(step, total, "  ".join(terms))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._stack.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._stack.close()


class Checkpoints(StepCallback):
    """Keeps one checkpoint, replaced atomically at regular intervals and when training ends."""

    def __init__(self, path: Path, every: int, beside: Callable[[], None]):
        """Args:
        path: checkpoint file.
        every: steps between checkpoints.
        beside: called in the main process after each checkpoint, to write files that belong to it.
        """
        self.path, self.every, self.beside = path, every, beside
        self._saved: int | None = None

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        if trainer.global_step % self.every == 0 and trainer.global_step < trainer.max_steps:
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # An earlier callback may have replaced the last weights by the best ones.
        self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write the checkpoint, and the files that belong to it.

        Raises:
            NonFiniteError: weights, or depth that they predict, that are not finite, and would replace the last
                good ones. Losses may not have told: on a GPU, most are not looked at.
        """
        module = trainer.lightning_module
        assert isinstance(module, EgodepthModule)
        wrong = not_finite(module.state_dict())
        if wrong:
            raise NonFiniteError(
                f"the weights are not finite at step {trainer.global_step} ({wrong[0]})"
            )
        _require_prediction(module)
        if trainer.is_global_zero:
            try:
                with atomic_path(self.path, durable=True) as partial:
                    trainer.save_checkpoint(partial)
                self._saved = trainer.global_step
                self.beside()
            except EgodepthError as error:
                if self._saved is None:
                    raise
                raise EgodepthError(
                    f"{error}; the checkpoint of step {self._saved} is kept: --resume goes on from it"
                ) from error
        else:
            trainer.save_checkpoint(self.path)  # all ranks must call it; this one writes nothing


@torch.no_grad()
def _require_prediction(module: EgodepthModule) -> None:
    """Check that the depth of the last batch is finite with the weights that are kept, which no step has seen.

    Raises:
        NonFiniteError: it is not.
    """
    networks = module.networks
    if networks.depth is None or module.last is None:
        return
    was_training = networks.depth.training
    networks.depth.eval()
    inverse = networks.depth(module.last[0].target_input, scales=1)[0]
    networks.depth.train(was_training)
    if not bool(inverse.isfinite().all()):
        raise NonFiniteError("the trained networks' depth is not finite")


class GracefulStop(StepCallback):
    """Stops training after the current step on Ctrl-C, SIGTERM or SIGHUP; before the first step, they raise
    KeyboardInterrupt, and so does a second signal. See :mod:`egodepth.core.signals`.

    Attributes:
        stopped_by: name of the signal, or "another process" if another rank received it; None so far.
    """

    def __init__(self) -> None:
        self.stopped_by: str | None = None
        self._stack = ExitStack()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx > 0:
            return

        def stop(name: str) -> None:
            self.stopped_by = name
            progress.note("stopping after this step; press Ctrl-C again to stop at once")
            trainer.should_stop = trainer.world_size == 1

        self._stack.enter_context(call_on_signal(stop))

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        if trainer.world_size > 1:
            # All processes stop after the same step, whichever received the signal.
            asked = trainer.strategy.reduce_boolean_decision(self.stopped_by is not None, all=False)
            trainer.should_stop = asked
            if asked and self.stopped_by is None:
                self.stopped_by = "another process"

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._stack.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._stack.close()


class CollapseWatch(StepCallback):
    """Warns once during training if it seems to have collapsed, and halfway if it is worse than its start.

    Attributes:
        found: sign of a collapse confirmed at the last check, in words; empty if there is none.
    """

    def __init__(self, start: Start | None = None) -> None:
        """Args:
        start: what to compare with halfway.
        """
        self.found = ""
        self._row = 0
        self._told = False
        self._start = start

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        self._compare(trainer, module)
        step = trainer.global_step
        late = step >= max(FIRST_CHECK, FIRST_CHECK_SHARE * trainer.max_steps)
        if step % CHECK_EVERY or not late or module.last is None:
            return
        snippet, result = module.last
        if result.inverse_depth is None:
            return
        sign = find_collapse(snippet, result, module.settings.model)
        self._row = self._row + 1 if sign else 0
        self.found = sign if self._row >= IN_A_ROW else ""
        if self.found and not self._told:
            self._told = True
            progress.note(f"step {step}: this training may learn nothing: {self.found}")

    def _compare(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        step, half = trainer.global_step, trainer.max_steps / 2
        halfway = COMPARED_AFTER <= half <= step < trainer.max_steps
        if self._start is None or not halfway or not trainer.is_global_zero:
            return
        worse = self._start.compare(module.networks).worse
        self._start = None
        if worse:
            progress.note(
                f"step {step}: so far this training is not better than its start: {worse}; it is compared "
                "again at its end, and the better networks are used"
            )


class Samples(StepCallback):
    """Saves pictures of the first snippet of a batch: image, depth, reconstruction."""

    def __init__(self, run: RunFolder, every: int):
        self.run, self.every = run, every

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        step = trainer.global_step
        if module.last is None or (step % self.every and step != trainer.max_steps):
            return
        if not trainer.is_global_zero:
            return
        snippet, result = module.last
        rows = [snippet.target[0]]
        if result.inverse_depth is not None:
            size = rows[0].shape[-2:]
            inverse = F.interpolate(result.inverse_depth[:1].detach().float(), size)
            depth = 1 / inverse[0, 0].cpu().numpy()
            rows.append(torch.from_numpy(colourize_depth(depth)).permute(2, 0, 1) / 255)
        if result.reconstruction is not None:
            rows.append(result.reconstruction[0].detach())
        picture = torch.cat([row.float().cpu() for row in rows], dim=1)
        pixels = (picture.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
        with atomic_path(self.run.sample(step)) as partial:
            Image.fromarray(pixels).save(partial)
        for logger in trainer.loggers:
            if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
                logger.experiment.add_image("sample", pixels, step, dataformats="HWC")
