"""``egodepth confidence``."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from egodepth.cli.command import (
    CameraOptions,
    DeviceOption,
    Metavar,
    SequenceOption,
    TakesRun,
    TakesSource,
)
from egodepth.cli.output import START_OVER, say


class LearnConfidence(TakesRun, TakesSource, SequenceOption, CameraOptions, DeviceOption):
    """Give a run confidence, or calibrate what it has, by the depth on which many views of footage agree."""

    out: Annotated[Path | None, Metavar("FOLDER")] = None
    """folder for a copy of the run with the new confidence; default: the run itself is changed"""
    steps: Annotated[int, Field(ge=1), Metavar("N")] = 240
    """steps of learning, of 8 frames each"""

    def run(self) -> int:
        """See the class."""
        from egodepth.inference.confidence import add_confidence
        from egodepth.runs.destination import check_output_folder
        from egodepth.runs.run import Run

        run = Run.load(self.run_folder, self.device)
        if self.out is not None:
            check_output_folder(self.out, for_run=True)
            run.save_pretrained(self.out)
            run = Run.load(self.out, self.device)
        sequences = run.open(self.source, name=self.sequence, fov=self.fov, camera=self.camera)
        try:
            add_confidence(run, sequences, self.steps)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"interrupted; the confidence of {run.folder} is as before; {START_OVER}"
            ) from stop
        say(f"{run.folder} has confidence, learned from {self.source}")
        return 0
