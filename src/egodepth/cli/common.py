"""What all commands share."""

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

    from egodepth.training.settings import DataSettings

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """Errors in one line, and no guessing at shortened options."""

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Print the message in one line and exit."""
        print(f"egodepth: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(MISUSED)


def positive(word: str) -> float:
    """An argument that must be a number above zero."""
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above zero, got {word!r}")
    return value


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of commands that read sequences and compute."""
    parser.add_argument("--sequence", metavar="NAME", help="the sequence of this name alone")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")


def make_console() -> "Console":
    """For progress and what is said along the way."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=not sys.stderr.isatty())


def print_table(table: Any) -> None:
    """A table to standard output, wide enough where that is a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 110).print(table)


def camera_settings(options: argparse.Namespace) -> "DataSettings":
    """What tells the camera of footage that brings none: what was typed, or the run's settings."""
    from egodepth.training.run import settings_of_footage
    from egodepth.training.settings import DataSettings

    if options.fov:
        return DataSettings(fov=options.fov)
    return settings_of_footage(options.run)
