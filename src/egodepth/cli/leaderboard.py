"""``egodepth leaderboard``."""

from pathlib import Path
from typing import Annotated

from egodepth.cli.command import Command, Metavar, Positional
from egodepth.cli.output import say


class Leaderboard(Command):
    """Collect evaluations into one table, next to published results."""

    folder: Annotated[Path, Positional("FOLDER")]
    """folder with JSON files of `egodepth evaluate ... --json`"""
    out: Annotated[Path | None, Metavar("FILE")] = None
    """also write the table to this file, .md or .html"""
    own_only: bool = False
    """leave out published results"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.files import write_text
        from egodepth.core.outputs import check_destination
        from egodepth.report.leaderboard import as_html, as_markdown, collect

        if self.out:
            check_destination(self.out, (".md", ".html"))
        boards = collect(self.folder, with_published=not self.own_only)
        if self.out:
            write_text(self.out, (as_html if self.out.suffix == ".html" else as_markdown)(boards))
        for line in as_markdown(boards).split("\n"):
            say(line)
        return 0
