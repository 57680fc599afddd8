"""``egodepth data``."""

from pathlib import Path
from typing import Annotated

from egodepth.cli.command import Command, Metavar, Positional, SequenceOption
from egodepth.cli.output import print_table


class CheckData(SequenceOption):
    """Say what a data set on disk holds and lacks."""

    name: Annotated[str, Positional("NAME")]
    """kind of data set (`egodepth data sets`), or footage"""
    root: Annotated[Path, Positional("ROOT")]
    """root of the data set; path of the footage"""
    out: Annotated[Path, Metavar("FILE.png")] = Path("data_check.png")
    """picture of a snippet with its depth"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.outputs import check_destination
        from egodepth.report.data_check import check_data

        check_destination(self.out, (".png",))
        result = check_data(self.name, self.root, self.out, self.sequence)
        print_table(result.table)
        for line in result.lines:
            print(line)
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
            print(protocol)
        return 0
