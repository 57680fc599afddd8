"""Something measured, which turns a run's unit into metres."""

import math
from dataclasses import dataclass
from pathlib import Path

from egodepth.core.errors import EgodepthError, require, require_positive

KNOWN_LENGTHS = "a CameraHeight, MeanSpeed, GpsTrack or MeasuredDistance"


class KnownLength:
    """Something measured: a :class:`CameraHeight`, :class:`MeanSpeed`, :class:`GpsTrack` or
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

    Raises an EgodepthError for a height that is not above zero.
    """

    metres: float

    def __post_init__(self) -> None:
        require_positive(self.metres, "camera height")


@dataclass(frozen=True)
class MeanSpeed(LengthOfMotion):
    """The mean speed of the camera over all of the footage, standing included.

    Raises an EgodepthError for a speed that is not above zero.
    """

    metres_per_second: float

    def __post_init__(self) -> None:
        require_positive(self.metres_per_second, "speed")


@dataclass(frozen=True)
class GpsTrack(LengthOfMotion):
    """A track that was recorded along and starts with the footage.

    Raises an EgodepthError for what is no path.

    Attributes:
        path: a GPX file, or CSV with columns time (seconds), latitude, longitude (degrees).
    """

    path: Path

    def __post_init__(self) -> None:
        require(self.path, (str, Path), "gps", "the path of a GPX or CSV file")
        object.__setattr__(self, "path", Path(self.path))


@dataclass(frozen=True)
class MeasuredDistance(LengthInView):
    """Metres from the camera to the point seen at a pixel.

    Raises an EgodepthError for a frame that is no whole number, no pixel, or a distance that is not above zero.

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
