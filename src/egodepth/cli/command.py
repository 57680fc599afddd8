"""Base classes of commands: typed fields are the arguments and options, ``run()`` does the work.

Fields shared by several commands are declared once, below, so that an option has the same name, default and
help text everywhere.
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


@dataclass(frozen=True)
class Metavar:
    """How an option appears in help texts.

    Attributes:
        text: placeholder for its value.
        option: name of the option, if pydantic reserves it so that the field must be called differently.
    """

    text: str
    option: str = ""


@dataclass(frozen=True)
class Positional(Metavar):
    """A positional argument; the text is its placeholder."""


@dataclass(frozen=True)
class OptionsOf:
    """A field that collects changed settings by their dotted names: each setting is an option.

    Attributes:
        default: makes the settings whose values help shows as defaults.
        shorthands: short option names, as used by other commands, and the settings they stand for.
        without: names of settings that are not offered as options.
    """

    default: Callable[[], Settings]
    shorthands: Mapping[str, str]
    without: tuple[str, ...] = ()

    def settings(self) -> list[Setting]:
        """The settings that are offered as options."""
        return [s for s in list_settings(self.default()) if s.name not in self.without]


class Command(Settings):
    """Base of all commands. The docstring of a field is its help text; the first line of the class docstring
    is the help text of the command."""

    def run(self) -> int:
        """Run the command and return the exit status."""
        raise NotImplementedError


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above zero."""
FieldOfView = Annotated[float, Field(gt=0, le=WIDEST_FOV)]
"""A horizontal field of view in degrees."""

CommandT = TypeVar("CommandT", bound=Command)


class TakesRun(Command):
    """A command that takes a trained run."""

    run_folder: Annotated[Path, Positional("RUN")]
    """folder of a trained run, builtin (the run that comes with egodepth), or hf:OWNER/NAME on the Hugging Face
    hub"""


class TakesSource(Command):
    """A command that takes footage."""

    source: Annotated[str, Positional("SOURCE")]
    """footage: path of a video, a folder, an MCAP file or ROS bag (drive.mcap#/camera/image chooses a topic), a
    nerfstudio transforms.json, a pattern such as 'drive/*.mp4', KIND:ROOT of a data set
    (`egodepth data sets` lists them), synthetic:SEED or synthetic:KIND:SEED[:FRAMES]"""


class SequenceOption(Command):
    """Choice of a single sequence."""

    sequence: Annotated[str | None, Metavar("NAME")] = None
    """only the sequence with this name"""


class CameraOptions(Command):
    """Camera for footage without one."""

    fov: Annotated[FieldOfView | None, Metavar("DEGREES")] = None
    """horizontal field of view in degrees, for footage without a camera; default: the run's camera"""
    camera: Annotated[Path | None, Metavar("FILE")] = None
    """camera file for footage without a camera (egodepth's, OpenCV's, ROS's, kalibr's, COLMAP's or
    nerfstudio's); default: the run's camera"""

    @model_validator(mode="after")
    def _one_camera(self) -> Self:
        return only_one(self, "fov", "camera")


class UnitOptions(Command):
    """A known length or speed, which makes lengths metric."""

    camera_height: Annotated[Positive | None, Metavar("M")] = None
    """height of the camera above the ground in metres; makes lengths metric"""
    speed: Annotated[Positive | None, Metavar("M/S")] = None
    """mean speed over the footage, stops included, in metres per second; makes lengths metric"""
    gps: Annotated[Path | None, Metavar("FILE")] = None
    """GPS track recorded with the footage, starting at the first frame (GPX, or CSV with the columns
    time,latitude,longitude), or the recording with its NavSatFix messages; makes lengths metric"""
    distance: Annotated[tuple[int, float, float, float] | None, Metavar("FRAME X Y M")] = None
    """measured distance in metres from the camera to the point seen at pixel X, Y of a frame; makes lengths
    metric"""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        return only_one(self, "camera_height", "speed", "gps", "distance")

    def known_length(self) -> "KnownLength | None":
        """The known length that was given, if any."""
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
    """Frame rate for footage without times."""

    fps: Annotated[Positive | None, Metavar("N")] = None
    """frames per second of footage without times (a folder of images); required there by --speed and --gps"""

    def at_rate(self, sequences: "list[Sequence]") -> "list[Sequence]":
        """The sequences at the given frame rate; unchanged if none was given."""
        return [s.with_fps(self.fps) for s in sequences] if self.fps else sequences


class DeviceOption(Command):
    """Choice of device."""

    device: Annotated[str, Metavar("DEVICE")] = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:N"""


class SeedOption(Command):
    """Seed of the random numbers."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    """seed of all random numbers"""


class OnFootage(
    TakesRun, TakesSource, SequenceOption, CameraOptions, UnitOptions, RateOption, DeviceOption
):
    """A command that applies a run to footage."""

    def load(self) -> "tuple[Run, list[Sequence]]":
        """Load the run, and open the footage for it."""
        from egodepth.runs.run import Run

        run = Run.load(self.run_folder, self.device)
        sequences = run.open(self.source, name=self.sequence, fov=self.fov, camera=self.camera)
        return run, self.at_rate(sequences)

    def track(
        self, run: "Run", sequence: "Sequence", settings: "OdometrySettings | None" = None
    ) -> "tuple[TrackedTrajectory, NoUnitError | None]":
        """Track the camera. Returns the trajectory, up to Ctrl-C if interrupted, and the error, if any, that no
        unit could be found from the known length; raising it would lose minutes of tracking."""
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
    """A page served to the browser."""

    port: Annotated[int | None, Field(gt=0, le=65535), Metavar("N")] = None
    """port to serve on; default: the first free port from 8765"""
    open: bool = False
    """open the page in the browser"""

    def announce(self, address: str) -> None:
        """Print the address of the page, and open it with ``--open``."""
        from egodepth.core.progress import note

        note(f"look at {address} (on this machine alone); Ctrl-C ends it")
        if self.open:
            import webbrowser

            webbrowser.open(address)


def only_one(command: CommandT, *names: str) -> CommandT:
    """Return the command, or raise ValueError if more than one of these options is given."""
    given = [f"--{name}" for name in names if getattr(command, name) is not None]
    if len(given) > 1:
        raise ValueError(f"give only one of {' and '.join(given)}")
    return command
