"""Known lengths, which turn a run's unit into metres."""

import math
from dataclasses import dataclass
from pathlib import Path

from egodepth.core.errors import EgodepthError, require, require_positive

KNOWN_LENGTHS = "a CameraHeight, MeanSpeed, GpsTrack or MeasuredDistance"


class KnownLength:
    """Base class of known lengths: :class:`CameraHeight`, :class:`MeanSpeed`, :class:`GpsTrack` and
    :class:`MeasuredDistance`."""

    def __init__(self, *_: object, **__: object):
        raise EgodepthError(
            "a known length is one of egodepth.CameraHeight(METRES), MeanSpeed(METRES_PER_SECOND), "
            "GpsTrack(PATH) and MeasuredDistance(FRAME, X, Y, METRES)"
        )


class LengthInView(KnownLength):
    """A known length that determines the unit from depth."""


class LengthOfMotion(KnownLength):
    """A known length that determines the unit from the trajectory."""


@dataclass(frozen=True)
class CameraHeight(LengthInView):
    """The height of the camera above the ground, in metres.

    Raises EgodepthError for a height that is not positive.
    """

    metres: float

    def __post_init__(self) -> None:
        require_positive(self.metres, "camera height")


@dataclass(frozen=True)
class MeanSpeed(LengthOfMotion):
    """The mean speed of the camera over all of the footage, stops included, in metres per second.

    Raises EgodepthError for a speed that is not positive.
    """

    metres_per_second: float

    def __post_init__(self) -> None:
        require_positive(self.metres_per_second, "speed")


@dataclass(frozen=True)
class GpsTrack(LengthOfMotion):
    """A GPS track that was recorded with the footage and starts with it.

    Raises EgodepthError for anything but a path.

    Attributes:
        path: a GPX file, or CSV with columns time (seconds), latitude, longitude (degrees).
    """

    path: Path

    def __post_init__(self) -> None:
        require(self.path, (str, Path), "gps", "the path of a GPX or CSV file")
        object.__setattr__(self, "path", Path(self.path))


@dataclass(frozen=True)
class MeasuredDistance(LengthInView):
    """The distance in metres from the camera to the point at a pixel.

    Raises EgodepthError for a frame that is not an integer, a pixel that is not finite, or a distance that is
    not positive.

    Attributes:
        frame: number of the frame.
        x, y: the pixel.
        metres: the distance, along the ray of the pixel.
    """

    frame: int
    x: float
    y: float
    metres: float

    def __post_init__(self) -> None:
        given = (self.frame, self.x, self.y, self.metres)
        try:
            frame, x, y, metres = (float(value) for value in given)
        except (TypeError, ValueError) as error:
            raise EgodepthError(
                f"distance must be a frame's number, x, y and metres, four numbers, got {given!r}"
            ) from error
        if not frame.is_integer() or not math.isfinite(x + y):
            raise EgodepthError(f"distance needs a frame's whole number and a pixel, got {given!r}")
        require_positive(metres, "distance")
        for name, value in (("frame", int(frame)), ("x", x), ("y", y), ("metres", metres)):
            object.__setattr__(self, name, value)
