"""``egodepth data``."""

from pathlib import Path
from typing import Annotated

from egodepth.cli.command import Command, Metavar, Positional, SequenceOption
from egodepth.cli.output import print_table, say


class CheckData(SequenceOption):
    """Report what a data set or other footage contains and what is missing."""

    source: Annotated[str, Positional("SOURCE")]
    """KIND:ROOT of a data set (`egodepth data sets` lists the kinds), path of a video or folder,
    synthetic:SEED or synthetic:KIND:SEED[:FRAMES]"""
    root: Annotated[Path | None, Positional("ROOT")] = None
    """root of the data set, if SOURCE is only its kind"""
    out: Annotated[Path, Metavar("FILE.png")] = Path("data_check.png")
    """image to write: a snippet with its depth"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.outputs import check_destination
        from egodepth.report.data_check import check_data

        check_destination(self.out, (".png",))
        source = self.source
        if self.root is not None:
            source = str(self.root) if source == "footage" else f"{source}:{self.root}"
        result = check_data(source, self.out, self.sequence)
        print_table(result.table)
        for line in result.lines:
            say(line)
        return 0


class ListSets(Command):
    """List the known data sets."""

    def run(self) -> int:
        """See the class."""
        from rich.table import Table

        from egodepth.data.sources import DATA_SETS

        table = Table("kind", "data set", "needs", "protocol", "where to get it", show_lines=True)
        for name, data in DATA_SETS.items():
            table.add_row(name, data.title, data.parts, data.protocol, data.address)
        print_table(table)
        return 0


class ListSplits(Command):
    """List the known splits."""

    def run(self) -> int:
        """See the class."""
        from rich.table import Table

        from egodepth.data.splits import SPLITS

        table = Table("split", "frames", "what")
        for name, split in SPLITS.items():
            all_of = "all but its folders" if split.inverted else "all of its folders"
            table.add_row(name, str(split.size or all_of), split.what)
        print_table(table)
        return 0


class ListProtocols(Command):
    """List the known depth protocols."""

    def run(self) -> int:
        """See the class."""
        from egodepth.evaluation.depth import PROTOCOLS

        for protocol in PROTOCOLS.values():
            say(protocol)
        return 0
