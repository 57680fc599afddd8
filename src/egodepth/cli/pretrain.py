"""``egodepth pretrain``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from egodepth.cli.command import Command, Metavar, OptionsOf, Positive
from egodepth.cli.output import BEFORE_FIRST_STEP, say
from egodepth.core.config import list_settings, override
from egodepth.core.errors import EgodepthError
from egodepth.settings.recipes import worlds

if TYPE_CHECKING:
    from egodepth.settings.training import TrainSettings
    from egodepth.training.run import TrainResult

SETTINGS = (
    "method", "init", "batch_size", "learning_rate", "decoder_rate", "weight_decay", "gradient_clip", "seed",
    "device", "precision", "log_every", "sample_every", "checkpoint_every", "loss.photometric",
)  # fmt: skip
"""Training settings that apply here, besides those of the networks."""
WITHOUT = tuple(
    setting.name
    for setting in list_settings(worlds())
    if setting.name not in SETTINGS and not setting.name.startswith("model.")
)


class Pretrain(Command):
    """Train on rendered worlds with exact depth and motion, without footage."""

    out: Annotated[Path, Metavar("FOLDER")]
    """run folder to make"""
    hours: Annotated[Positive, Metavar("H")] = 4
    """training time in hours, breaks before --resume not counted; the learning rate schedule ends with it"""
    draws: Annotated[Positive, Metavar("N")] = 4
    """how often each rendered pair of frames is used, on average; less often if cores are free to render"""
    workers: Annotated[Annotated[int, Field(ge=0)] | None, Metavar("N")] = None
    """number of rendering processes; default: one, or all cores but one if there is a GPU"""
    resume: bool = False
    """continue the run in --out"""
    changes: Annotated[dict[str, Any], OptionsOf(worlds, {}, without=WITHOUT)] = {}
    """settings by their dotted names"""

    def run(self) -> int:
        """See the class."""
        from egodepth.training.pretraining import pretrain
        from egodepth.training.run import TrainingInterrupted

        try:
            result = pretrain(
                self._settings(),
                self.out,
                resume=self.resume,
                draws=self.draws,
                workers=self.workers,
            )
        except TrainingInterrupted as stop:
            self._print_result(stop.result)
            again = shlex.join(["--out", str(self.out), "--resume"])
            raise KeyboardInterrupt(f"{stop}; go on with: egodepth pretrain {again}") from stop
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(BEFORE_FIRST_STEP) from stop
        self._print_result(result)
        return 0

    def _print_result(self, result: "TrainResult") -> None:
        say(
            f"{result.steps} of {result.total_steps} steps in {result.seconds:.0f} s; the run is in {self.out}"
        )

    def _settings(self) -> "TrainSettings":
        from egodepth.runs.folder import RunFolder
        from egodepth.settings.model import ModelSettings

        if self.resume:
            if self.changes or "hours" in self.model_fields_set:
                raise EgodepthError("--resume takes the settings of the run; leave the others out")
            return RunFolder.to_make(self.out).settings()
        settings, init = worlds(), self.changes.get("init")
        if init is not None and str(init).lower() not in ("none", "null"):
            model = RunFolder.at(init).section(ModelSettings, "model")
            settings = settings.changed(model=model)
        return override(settings, self.changes).changed(minutes=60 * self.hours)
