"""``egodepth data``: what is known, and what is there."""

import argparse
from pathlib import Path
from typing import Any

from egodepth.cli.common import print_table
from egodepth.core.outputs import check_destination


def add_commands(commands: Any) -> None:
    """Add them to the parser."""
    data = commands.add_parser("data", help="data sets: what is known of them, and what is there")
    kinds = data.add_subparsers(metavar="check|sets|splits|protocols", required=True)
    check = kinds.add_parser("check", help="say what a data set on disk holds and lacks")
    check.add_argument(
        "name", metavar="NAME", help="kind of data set (`egodepth data sets`), or footage"
    )
    check.add_argument("root", metavar="ROOT", type=Path, help="its root; the path of footage")
    check.add_argument("--out", type=Path, default=Path("data_check.png"), metavar="FILE.png",
                       help="picture of a snippet with its depth (default: data_check.png)")  # fmt: skip
    check.add_argument("--sequence", metavar="NAME", help="draw the sequence of this name")
    check.set_defaults(command=_check)
    for name, text, command in (
        ("sets", "list the data sets that can be named", _sets),
        ("splits", "list the splits that can be named", _splits),
        ("protocols", "list the depth protocols that can be named", _protocols),
    ):
        kinds.add_parser(name, help=text).set_defaults(command=command)


def _check(options: argparse.Namespace) -> int:
    from egodepth.report.data_check import check_data

    check_destination(options.out, (".png",))
    result = check_data(options.name, options.root, options.out, options.sequence)
    print_table(result.table)
    for line in result.lines:
        print(line)
    return 0


def _sets(options: argparse.Namespace) -> int:
    from rich.table import Table

    from egodepth.data.sources import DATA_SETS

    table = Table("kind", "data set", "needs", "protocol", "where to get it", show_lines=True)
    for name, data in DATA_SETS.items():
        table.add_row(name, data.title, data.parts, data.protocol, data.address)
    print_table(table)
    return 0


def _splits(options: argparse.Namespace) -> int:
    from rich.table import Table

    from egodepth.data.splits import SPLITS

    table = Table("split", "frames", "what")
    for name, split in SPLITS.items():
        all_of = "all but its folders" if split.inverted else "all of its folders"
        table.add_row(name, str(split.size or all_of), split.what)
    print_table(table)
    return 0


def _protocols(options: argparse.Namespace) -> int:
    from egodepth.evaluation.depth import PROTOCOLS

    for protocol in PROTOCOLS.values():
        print(protocol)
    return 0
