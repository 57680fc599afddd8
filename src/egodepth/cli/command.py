"""What a command is: typed fields, which are its arguments and options, and ``run()``.

The fields that several commands have are declared once, below, so that an option has one name, one default and
one help text everywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self, TypeVar

from pydantic import Field, model_validator

from egodepth.core.config import Setting, Settings, list_settings
from egodepth.geometry.limits import MAX_SEED, WIDEST_FOV

if TYPE_CHECKING:
    from egodepth.data.sequence import Sequence
    from egodepth.inference.odometry.known_length import KnownLength
    from egodepth.inference.odometry.track import NoUnitError, TrackedTrajectory
    from egodepth.inference.odometry.tracker import OdometrySettings
    from egodepth.runs.run import Run

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


@dataclass(frozen=True)
class Metavar:
    """How an option looks.

    Attributes:
        text: placeholder of its value in help texts.
        option: its name, where pydantic keeps the name of the field for itself.
    """

    text: str
    option: str = ""


@dataclass(frozen=True)
class Positional(Metavar):
    """A field that is typed without its name; the text is its placeholder."""


@dataclass(frozen=True)
class OptionsOf:
    """A field that gathers changes of settings by their dotted names: each setting is an option.

    Attributes:
        default: makes the settings with the defaults that help shows.
        shorthands: what other commands call the same thing, each with its setting.
        without: settings that are no options.
    """

    default: Callable[[], Settings]
    shorthands: Mapping[str, str]
    without: tuple[str, ...] = ()

    def settings(self) -> list[Setting]:
        """What can be set."""
        return [s for s in list_settings(self.default()) if s.name not in self.without]


class Command(Settings):
    """Base of every command. The text below a field is its help, the first line of the class the command's."""

    def run(self) -> int:
        """Do the work; the exit status."""
        raise NotImplementedError


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above zero."""

CommandT = TypeVar("CommandT", bound=Command)


class TakesRun(Command):
    """A command on a trained run."""

    run_folder: Annotated[Path, Positional("RUN")]
    """folder of a trained run, builtin, which comes with egodepth, or hf:OWNER/NAME on the Hugging Face hub"""


class TakesSource(Command):
    """A command on footage."""

    source: Annotated[str, Positional("SOURCE")]
    """footage: path of a video or a folder, pattern such as 'drive/*.mp4', KIND:ROOT of a data set
    (`egodepth data sets` lists them), synthetic:SEED or synthetic:KIND:SEED"""


class SequenceOption(Command):
    """Which sequence."""

    sequence: Annotated[str | None, Metavar("NAME")] = None
    """only the sequence with this name"""


class CameraOptions(Command):
    """Camera of footage that brings none."""

    fov: Annotated[Annotated[float, Field(gt=0, le=WIDEST_FOV)] | None, Metavar("DEGREES")] = None
    """horizontal field of view in degrees, for footage without a camera; default: the run's camera"""
    camera: Annotated[Path | None, Metavar("FILE")] = None
    """camera file for footage without a camera (egodepth's, OpenCV's, ROS's, kalibr's, COLMAP's or
    nerfstudio's); default: the run's camera"""

    @model_validator(mode="after")
    def _one_camera(self) -> Self:
        return only_one(self, "fov", "camera")


class UnitOptions(Command):
    """One known length, which makes lengths metric."""

    camera_height: Annotated[Positive | None, Metavar("M")] = None
    """height of the camera above the ground in metres; makes lengths metric"""
    speed: Annotated[Positive | None, Metavar("M/S")] = None
    """mean speed over the footage, standing included, in metres per second; makes lengths metric"""
    gps: Annotated[Path | None, Metavar("FILE")] = None
    """track recorded along, from the first frame on (GPX, or CSV with the columns
    time,latitude,longitude); makes lengths metric"""
    distance: Annotated[tuple[int, float, float, float] | None, Metavar("FRAME X Y M")] = None
    """metres from the camera to what is seen at a pixel of a frame; makes lengths metric"""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        return only_one(self, "camera_height", "speed", "gps", "distance")

    def known_length(self) -> "KnownLength | None":
        """What was given of these, if anything was."""
        from egodepth.inference.odometry.known_length import (
            CameraHeight,
            GpsTrack,
            MeanSpeed,
            MeasuredDistance,
        )

        if self.camera_height is not None:
            return CameraHeight(self.camera_height)
        if self.speed is not None:
            return MeanSpeed(self.speed)
        if self.gps is not None:
            return GpsTrack(self.gps)
        return None if self.distance is None else MeasuredDistance(*self.distance)


class RateOption(Command):
    """Times of footage that has none."""

    fps: Annotated[Positive | None, Metavar("N")] = None
    """frames per second of footage without times (a folder of images); needed there by --speed and --gps"""

    def at_rate(self, sequences: "list[Sequence]") -> "list[Sequence]":
        """Sequences at the frame rate that was given, if one was."""
        return [s.with_fps(self.fps) for s in sequences] if self.fps else sequences


class DeviceOption(Command):
    """Where to compute."""

    device: Annotated[str, Metavar("DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N"""


class SeedOption(Command):
    """What random numbers start from."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    """seed of all random numbers"""


class OnFootage(
    TakesRun, TakesSource, SequenceOption, CameraOptions, UnitOptions, RateOption, DeviceOption
):
    """A command that makes something of footage by a run."""

    def load(self) -> "tuple[Run, list[Sequence]]":
        """The run, and the footage opened for it."""
        from egodepth.runs.run import Run

        run = Run.load(self.run_folder, self.device)
        sequences = run.open(self.source, name=self.sequence, fov=self.fov, camera=self.camera)
        return run, self.at_rate(sequences)

    def track(
        self, run: "Run", sequence: "Sequence", settings: "OdometrySettings | None" = None
    ) -> "tuple[TrackedTrajectory, NoUnitError | None]":
        """The trajectory, as far as it was found before Ctrl-C; and why, where what was measured tells no unit:
        minutes of tracking are not lost over that."""
        from egodepth.inference.odometry.track import (
            NoUnitError,
            TrackingInterrupted,
            track_sequence,
        )

        try:
            return track_sequence(run, sequence, settings, known=self.known_length()), None
        except TrackingInterrupted as interrupt:
            return interrupt.trajectory, None
        except NoUnitError as error:
            return error.trajectory, error


class PageOptions(Command):
    """A page in the browser."""

    port: Annotated[int | None, Field(gt=0, le=65535), Metavar("N")] = None
    """port to serve on; default: the first free one from 8765 on"""
    open: bool = False
    """open the page in the browser"""

    def announce(self, address: str) -> None:
        """Say where the page is, and open it where that was asked for."""
        from egodepth.core.progress import note

        note(f"look at {address} (on this machine alone); Ctrl-C ends it")
        if self.open:
            import webbrowser

            webbrowser.open(address)


def only_one(command: CommandT, *names: str) -> CommandT:
    """Refuse several of these options at once."""
    given = [f"--{name}" for name in names if getattr(command, name) is not None]
    if len(given) > 1:
        raise ValueError(f"give only one of {' and '.join(given)}")
    return command
