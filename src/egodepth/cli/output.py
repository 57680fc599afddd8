"""What commands print: tables to standard output, complaints to standard error."""

import sys
from typing import Any

TABLE_WIDTH = 110
"""Of tables in a file or a pipe."""


def print_table(table: Any) -> None:
    """A table to standard output, wide enough where that is a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else TABLE_WIDTH).print(table)


def complain(text: str) -> None:
    """One line to standard error."""
    print(f"egodepth: {text}", file=sys.stderr)
