"""``egodepth report``."""

from pathlib import Path
from typing import Annotated

from egodepth.cli.command import Metavar, TakesRun
from egodepth.cli.output import say
from egodepth.core.errors import EgodepthError


class WriteReport(TakesRun):
    """Write the report.html of a run."""

    out: Annotated[Path | None, Metavar("FILE.html")] = None
    """file to write; default: report.html in the run folder"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.outputs import check_destination
        from egodepth.report.html_report import ReportContent, write_report
        from egodepth.runs.folder import RunFolder

        if self.out:
            check_destination(self.out, (".html",))
        run = RunFolder.at(self.run_folder)
        if run.is_builtin and not self.out:
            raise EgodepthError("nothing is written beside the run builtin; give --out FILE.html")
        say(write_report(run, ReportContent(title=run.name), self.out))
        return 0
