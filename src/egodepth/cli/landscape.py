"""``egodepth landscape``."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from egodepth.cli.command import (
    CameraOptions,
    Metavar,
    Positive,
    SeedOption,
    SequenceOption,
    TakesRun,
    TakesSource,
)
from egodepth.cli.output import print_table, say


class DrawLandscape(TakesRun, TakesSource, SequenceOption, CameraOptions, SeedOption):
    """Plot image, photometric and feature-metric losses around true matches, and score the loss surfaces."""

    out: Annotated[Path, Metavar("FOLDER")]
    """folder to write to"""
    frame: Annotated[int, Metavar("N")]
    """number of the target frame"""
    pixel: Annotated[tuple[float, float] | None, Metavar("U V")] = None
    """pixel of the original frame; default: random pixels"""
    count: Annotated[int, Field(ge=1), Metavar("N")] = 200
    """number of random pixels"""
    offset: Annotated[int, Metavar("N")] = 1
    """offset from target to source in frames; negative for an earlier source"""
    radius: Annotated[Positive, Metavar("PIXELS")] = 12
    """maximum displacement, in pixels of the run's images"""
    step: Annotated[Positive, Metavar("PIXELS")] = 0.5
    """grid spacing of the displacements, in pixels"""
    level: Annotated[Annotated[int, Field(ge=0)] | None, Metavar("N")] = None
    """level of the features, 0 is the finest; default: the finest that L_fm compared in training"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.files import write_json
        from egodepth.inference.scoring.landscape import draw_landscape
        from egodepth.report.plots import plot_landscape
        from egodepth.report.tables import landscape_table
        from egodepth.runs.destination import check_output_folder, output_folder
        from egodepth.runs.footage import open_footage

        check_output_folder(self.out)
        sequence = open_footage(
            self.run_folder, self.source, name=self.sequence, fov=self.fov, camera=self.camera
        )[0]
        result = draw_landscape(
            self.run_folder, sequence, self.frame, pixel=self.pixel, count=self.count,
            offset=self.offset, radius=self.radius, step=self.step, level=self.level, seed=self.seed,
        )  # fmt: skip
        # Only now: it replaces an earlier landscape, which a mistyped command must not remove.
        folder = output_folder(self.out, "landscape")
        write_json(folder.file("landscape.json"), result.to_json())
        what = f"{sequence.name}, frame {self.frame}, {result.describe()}"
        plot_landscape(folder.file("landscape.png"), result.mean_surfaces(), self.step, what)
        print_table(landscape_table(result.groups, result.protocol))
        say(f"landscape.png and landscape.json are in {self.out}")
        return 0
