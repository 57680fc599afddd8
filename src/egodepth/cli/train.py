"""``egodepth train``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from egodepth.cli.command import Command, Metavar, OptionsOf, Positional
from egodepth.cli.output import BEFORE_FIRST_STEP, complain, say
from egodepth.core.errors import EgodepthError
from egodepth.settings.recipes import footage

if TYPE_CHECKING:
    from egodepth.settings.training import TrainSettings
    from egodepth.training.run import TrainResult

SHORTHANDS = {"fov": "data.fov", "camera": "data.camera"}
"""Short names of settings, as used by the commands that take a run."""

MIN_WAITING = 0.01
"""Share of the training time from which waiting for data is mentioned."""


class Train(Command):
    """Train on a video, a folder of images, or a data set.

    The defaults of the settings are those of the recipe footage; other recipes change some of them.
    """

    what: Annotated[tuple[str, ...], Positional("RECIPE|FOOTAGE")]
    """name of a recipe; or footage: videos, folders, patterns such as 'drive/*.mp4', URLs, KIND:ROOT"""
    out: Annotated[Path, Metavar("FOLDER")]
    """run folder to make"""
    config: Annotated[Path | None, Metavar("FILE")] = None
    """YAML file of settings; options on the command line take precedence"""
    estimate: bool = False
    """time a few steps, print the estimated training time, and exit"""
    resume: bool = False
    """continue the run in --out"""
    changes: Annotated[dict[str, Any], OptionsOf(footage, SHORTHANDS, without=("recipe",))] = {}
    """settings by their dotted names"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.world import World
        from egodepth.training.run import TrainingInterrupted, train

        settings = self._settings()
        if self.estimate:
            return self._print_estimate(settings)
        try:
            result = train(settings, self.out, resume=self.resume)
        except TrainingInterrupted as stop:
            if World.of_environment().is_main:
                self._print_result(settings, stop.result)
            again = shlex.join([*self.what, "--out", str(self.out), "--resume"])
            raise KeyboardInterrupt(f"{stop}; go on with: egodepth train {again}") from stop
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(BEFORE_FIRST_STEP) from stop
        if World.of_environment().is_main:
            self._print_result(settings, result)
        return 0

    def _settings(self) -> "TrainSettings":
        from egodepth.runs.folder import RunFolder
        from egodepth.training.requested import requested_settings

        if not self.resume:
            return requested_settings(*self.what, config_file=self.config, changes=self.changes)
        if self.changes or self.config:
            raise EgodepthError("--resume takes the settings of the run; leave the others out")
        return RunFolder.to_make(self.out).settings()

    def _print_estimate(self, settings: "TrainSettings") -> int:
        from egodepth.training.estimate import estimate

        found = estimate(settings)
        say(
            f"{found.seconds_per_step:.2f} s per step; {found.steps} steps, "
            f"{found.steps / found.steps_per_epoch:.1f} epochs of {found.snippets} snippets: "
            f"{found.hours():.2f} hours after {found.prepare_seconds:.0f} s of preparation; "
            f"at this rate 20 epochs of KITTI's 39,810 snippets would take "
            f"{found.hours(39810, 20):.0f} hours"
        )
        return 0

    def _print_result(self, settings: "TrainSettings", result: "TrainResult") -> None:
        from egodepth.report.html_report import ReportContent, write_report

        subtitle = f"recipe {settings.recipe}, method {settings.method}, {result.steps} steps"
        page = write_report(self.out, ReportContent(title=self.out.name, subtitle=subtitle))
        say(
            f"{result.steps} of {result.total_steps} steps in {result.seconds:.0f} s{_waiting(result)} after "
            f"{result.prepare_seconds:.0f} s of preparation; see {page}"
        )
        if result.collapse:
            complain(f"this training may have learned nothing: {result.collapse}")
        if result.comparison is not None and result.comparison.worse:
            complain(
                f"this training is not better than its start, {settings.init}: {result.comparison.worse}; both "
                f"are kept, and {self.out} stands for its start (to use the trained networks, delete "
                f"{self.out / 'start'})"
            )


def _waiting(result: "TrainResult") -> str:
    """Waiting for data, where it is worth mentioning, and what was fetched from stores."""
    share = result.data_wait
    waited = f", {100 * share:.1f} % of it waiting for data" if share >= MIN_WAITING else ""
    return waited + (f" ({result.fetched})" if result.fetched else "")
