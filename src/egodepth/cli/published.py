"""``egodepth import``."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from egodepth.cli.command import Command, Metavar, Positional
from egodepth.cli.output import say


class ImportFeatDepth(Command):
    """Make a run from a checkpoint of the authors' implementation."""

    file: Annotated[Path, Positional("FILE")]
    """checkpoint (.pth)"""
    out: Annotated[Path, Metavar("FOLDER")]
    """run folder to make"""
    height: Annotated[int, Field(gt=0), Metavar("PIXELS")] = 320
    """height of its training images"""
    width: Annotated[int, Field(gt=0), Metavar("PIXELS")] = 1024
    """width of its training images"""

    def run(self) -> int:
        """See the class."""
        from egodepth.training.published import import_featdepth

        result = import_featdepth(self.file, self.out, height=self.height, width=self.width)
        unused = f"{len(result.unused)} that no network uses: {', '.join(result.unused)}"
        say(f"{result.mapped} entries taken over, each once, into {', '.join(result.networks)}; "
              f"none missing; {unused}")  # fmt: skip
        say(f"the run is in {result.run}; go on training from it with --init {result.run}")
        return 0
