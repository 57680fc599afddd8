"""Output of commands: tables to standard output, error messages to standard error."""

import re
import sys
from typing import Any

from egodepth.core.errors import one_line

LONGEST_WORD = 500
"""Number of characters from which a word is cut in error messages."""
TABLE_WIDTH = 110
"""Width in characters of tables written to a file or a pipe."""
BEFORE_FIRST_STEP = "interrupted before the first step; the same command starts again"
START_OVER = "the same command starts over"
"""How to go on after an interruption that left no checkpoint."""


def say(text: object) -> None:
    """Print one line to standard output, line ends and control characters escaped, as names of files may hold
    them."""
    print(one_line(str(text)))


def print_table(table: Any) -> None:
    """Print a table to standard output, TABLE_WIDTH wide if that is not a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else TABLE_WIDTH
    Console(width=width, markup=False, emoji=False).print(table)  # names may look like either


def complain(text: str) -> None:
    """Print one line to standard error, without the rest of words that are longer than any path."""
    short = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda found: f"{found[0][:100]}...", one_line(text))
    print(f"egodepth: {short}", file=sys.stderr)
