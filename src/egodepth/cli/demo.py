"""``egodepth demo``."""

from pathlib import Path
from typing import Annotated

from egodepth.cli.command import Command, Metavar, Positive, SeedOption
from egodepth.cli.output import START_OVER, complain, print_table, say


class Demo(SeedOption, Command):
    """Render streets, train, predict, score and write a report: the whole pipeline."""

    out: Annotated[Path, Metavar("FOLDER")] = Path("runs/demo")
    """run folder to make; an earlier demo there is replaced"""
    minutes: Annotated[Positive, Metavar("M")] = 10
    """time budget for everything, in minutes"""

    init: Annotated[str, Metavar("RUN")] = "builtin"
    """run to start from; none for ImageNet weights"""

    def run(self) -> int:
        """See the class."""
        from egodepth.demo import KEPT_START, run_demo
        from egodepth.report.tables import depth_table, more_depth_table, odometry_table
        from egodepth.runs.folder import RunFolder
        from egodepth.training.run import TrainingInterrupted

        try:
            result = run_demo(
                self.out, minutes=self.minutes, seed=self.seed,
                init=None if self.init == "none" else self.init,
            )  # fmt: skip
        except TrainingInterrupted as stop:
            raise KeyboardInterrupt(f"{stop}; {START_OVER}") from stop
        depth, odometry = result.depth, result.odometry
        before = None if result.before is None else result.before.summary
        print_table(depth_table(depth.summary, depth.constant, depth.caption, before))
        print_table(more_depth_table(depth.summary))
        print_table(odometry_table(odometry.summary, odometry.sequence, odometry.caption))
        if result.kept_start:
            complain(f"{KEPT_START}: {result.kept_start}")
        run = RunFolder.at(self.out)
        say(f"open {run.report} in a browser; the numbers are in {run.metrics}")
        return 0
