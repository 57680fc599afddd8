"""What all commands share."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from egodepth.core.errors import EgodepthError

if TYPE_CHECKING:
    from egodepth.data.sequence import Sequence
    from egodepth.inference.odometry.known_length import KnownLength
    from egodepth.runs.folder import RunFolder

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
    return _number(word, lambda value: 0 < value < math.inf, "a number above zero")


def run_folder(word: str) -> "Path | RunFolder":
    """An argument that names a run: a folder, or ``hf:OWNER/NAME`` on the Hugging Face hub."""
    if not word.startswith("hf:"):
        return Path(word)
    from egodepth.runs.folder import RunFolder

    try:
        return RunFolder.at(word)
    except EgodepthError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive_or_zero(word: str) -> float:
    """An argument that must be a number, zero or above."""
    return _number(word, lambda value: 0 <= value < math.inf, "a number, zero or above")


def field_of_view(word: str) -> float:
    """An argument in degrees."""
    return _number(word, lambda value: 0 < value <= 170, "between 0 and 170 degrees")


def _number(word: str, is_sound: Callable[[float], bool], wanted: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not is_sound(value):
        raise argparse.ArgumentTypeError(f"must be {wanted}, got {word!r}")
    return value


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of commands that read sequences and compute."""
    parser.add_argument("--sequence", metavar="NAME", help="the sequence of this name alone")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")


def add_metres(parser: argparse.ArgumentParser) -> None:
    """Options that make lengths metric; the words for the library are those of :func:`known_length`."""
    metres = parser.add_mutually_exclusive_group()
    metres.add_argument("--camera_height", type=positive, metavar="M",
                        help="of the camera above the ground, in metres; makes lengths metric")  # fmt: skip
    metres.add_argument("--speed", type=positive, metavar="M/S",
                        help="mean speed over the footage, standing included, in metres per second; makes "
                        "lengths metric")  # fmt: skip
    metres.add_argument("--gps", type=Path, metavar="FILE",
                        help="track recorded along, from the first frame on (GPX, or CSV with the columns "
                        "time,latitude,longitude); makes lengths metric")  # fmt: skip
    metres.add_argument("--distance", type=positive_or_zero, nargs=4, metavar=("FRAME", "X", "Y", "M"),
                        help="metres from the camera to what is seen at a pixel of a frame; makes lengths "
                        "metric")  # fmt: skip


def add_rate(parser: argparse.ArgumentParser) -> None:
    """The option that gives footage times."""
    parser.add_argument("--fps", type=positive, metavar="N",
                        help="frames per second, for footage without times (a folder of images); needed by "
                        "--speed and --gps there")  # fmt: skip


def at_rate(sequences: "list[Sequence]", options: argparse.Namespace) -> "list[Sequence]":
    """Sequences at the rate that was typed, if one was."""
    return [s.with_fps(options.fps) for s in sequences] if options.fps else sequences


def known_length(options: argparse.Namespace) -> "KnownLength | None":
    """What was typed of :func:`add_metres`, if anything was."""
    from egodepth.inference.odometry.known_length import (
        CameraHeight,
        GpsTrack,
        MeanSpeed,
        MeasuredDistance,
    )

    if options.camera_height is not None:
        return CameraHeight(options.camera_height)
    if options.speed is not None:
        return MeanSpeed(options.speed)
    if options.gps is not None:
        return GpsTrack(options.gps)
    return None if options.distance is None else MeasuredDistance(*options.distance)


def print_table(table: Any) -> None:
    """A table to standard output, wide enough where that is a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 110).print(table)


def add_camera(parser: argparse.ArgumentParser) -> None:
    """Options that tell the camera of footage that brings none."""
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--fov", type=field_of_view, metavar="DEGREES",
                        help="horizontal field of view of footage without a camera; by default the run's "
                        "camera")  # fmt: skip
    camera.add_argument("--camera", type=Path, metavar="FILE",
                        help="camera file for footage without a camera (egodepth's, OpenCV's, ROS's, kalibr's, "
                        "COLMAP's or nerfstudio's); by default the run's camera")  # fmt: skip
