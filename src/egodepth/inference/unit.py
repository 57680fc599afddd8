"""Metres: monocular depth has a unit of its own, which one known length turns into metres."""

import csv
import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text
from egodepth.data.sequence import Sequence, read_numbered
from egodepth.geometry.ground import ground_height
from egodepth.inference.run import Run

EARTH_RADIUS = 6_378_137.0
GROUND_FRAMES = 32
"""Frames, evenly spread, in which the ground is looked for."""
FEWEST_GROUNDS = 0.1
"""Share of them in which it must be found."""
LEAST_TRAVEL = 10.0
"""Metres between two GPS positions that give a scale; their noise is metres itself."""


@dataclass(frozen=True)
class Unit:
    """What the lengths of a run are.

    Attributes:
        metres: of one unit; None where nobody knows.
        text: in words, with how it is known.
    """

    metres: float | None = None
    text: str = "the run's unit"

    @property
    def factor(self) -> float:
        """What lengths are multiplied by: 1 where the unit stays the run's."""
        return self.metres or 1.0


OWN_UNIT = Unit()


class KnownLength(NamedTuple):
    """Something measured, one of these, which turns the run's unit into metres.

    Attributes:
        camera_height: of the camera above the ground, metres.
        speed: mean speed, metres a second.
        gps: track recorded along: a GPX file, or CSV with columns time (seconds), latitude, longitude
            (degrees). It starts with the footage.
        distance: number of a frame, x and y of a pixel of it, and the metres from the camera to what is
            seen there.
    """

    camera_height: float | None = None
    speed: float | None = None
    gps: Path | None = None
    distance: tuple[int, float, float, float] | None = None

    @property
    def by_motion(self) -> bool:
        """Whether the trajectory is needed to tell the unit."""
        return self.speed is not None or self.gps is not None


NOTHING_KNOWN = KnownLength()


def require_times(sequence: Sequence, known: KnownLength) -> None:
    """Check that footage has times, where what is known needs them.

    Raises:
        EgodepthError: it has none.
    """
    if known.by_motion and sequence.frames.times is None:
        raise EgodepthError(
            f"{sequence.name} has no times, as no folder of images has, and speed and GPS need them: give "
            "its frames per second with --fps"
        )


def unit_of_run(run: Run) -> Unit:
    """Metres for a run that learned from a stereo rig or from poses in metres, else its own unit."""
    return Unit(1.0, f"metres, by {run.metric}") if run.metric else OWN_UNIT


def unit_by_view(run: Run, sequence: Sequence, known: KnownLength) -> Unit:
    """The unit by the height of the camera above the ground or by one distance, from DepthNet alone.

    Raises:
        EgodepthError: no ground to be seen, no such frame or pixel.
    """
    assert sequence.camera is not None
    if known.distance is not None:
        return _by_distance(run, sequence, *known.distance)
    assert known.camera_height is not None
    size = (run.settings.height, run.settings.width)
    camera = sequence.camera.resize(*size)
    count = len(sequence.frames)
    chosen = np.unique(np.linspace(0, count - 1, min(count, GROUND_FRAMES)).astype(int))
    heights = [
        ground_height(torch.from_numpy(1 / run.depth(frame.image, size)), camera)
        for frame in sequence.frames.at(chosen.tolist())
    ]
    return unit_by_heights(heights, known.camera_height)


def unit_by_heights(heights: list[float | None], camera_height: float) -> Unit:
    """The unit by heights of the camera in it, None where no ground was found.

    Raises:
        EgodepthError: too few.
    """
    found = [height for height in heights if height is not None]
    if len(found) < max(1, FEWEST_GROUNDS * len(heights)):
        raise EgodepthError(
            f"the ground was found in {len(found)} of {len(heights)} frames: --camera_height needs a "
            "camera that looks about level over a road or floor; use --speed, --gps or --distance"
        )
    metres = camera_height / float(np.median(found))
    return Unit(metres, f"metres, by a camera height of {camera_height:g} m")


def _by_distance(
    run: Run, sequence: Sequence, number: int, x: float, y: float, metres: float
) -> Unit:
    assert sequence.camera is not None
    numbers = sequence.frames.numbers
    if number not in numbers:
        raise EgodepthError(
            f"--distance: there is no frame {number}; {sequence.name} has {numbers[0]} to {numbers[-1]}"
        )
    height, width = sequence.frames.height, sequence.frames.width
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
        raise EgodepthError(
            f"--distance: pixel {x:g} {y:g} lies outside the frame, which is {width}x{height}"
        )
    frame = next(read_numbered(sequence.frames, [number]), None)
    if frame is None:
        raise EgodepthError(f"--distance: frame {number} is broken; take another")
    depth = run.depth(frame.image)[round(y), round(x)]
    pixel = torch.tensor([[x, y]], dtype=torch.float64)
    ray = sequence.camera.to(torch.float64).unproject(pixel, torch.ones(1, dtype=torch.float64))
    length = float(depth) * float(ray.norm())
    return Unit(metres / length, f"metres, by a distance of {metres:g} m in frame {number}")


def unit_by_motion(positions: np.ndarray, times: np.ndarray, known: KnownLength) -> Unit:
    """The unit by a mean speed, or by a GPS track.

    A track gives the median, over pairs of moments that are a tenth of the way and at least LEAST_TRAVEL
    apart, of the ratio of both displacements, so that neither drift nor a bad fix counts for much.

    Args:
        positions: (N, 3) of the camera, in the run's unit.
        times: (N,) seconds.
        known: speed or track.

    Raises:
        EgodepthError: a camera that stands still, frames without times, or a track that does not fit.
    """
    if known.gps is not None:
        return _by_gps(positions, times, known.gps)
    assert known.speed is not None
    path = float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())
    duration = float(times[-1] - times[0])
    if not path > 0 or duration <= 0:
        raise EgodepthError("a speed gives no scale: the camera or the time stands still")
    return Unit(known.speed * duration / path, f"metres, by a mean speed of {known.speed:g} m/s")


def _by_gps(positions: np.ndarray, times: np.ndarray, path: Path) -> Unit:
    moments, track = read_gps(path)
    since = times - times[0]
    covered = since <= moments[-1]
    if covered.sum() < 2:
        raise EgodepthError(f"{path} covers {moments[-1]:g} s, too little of the footage")
    positions, since = positions[covered], since[covered]
    places = np.column_stack([np.interp(since, moments, column) for column in track.T])
    travelled = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
    wanted = max(LEAST_TRAVEL, travelled / 10)
    ratios = []
    for i in range(len(places)):
        apart = np.linalg.norm(places[i:] - places[i], axis=1)
        if (apart >= wanted).any():
            j = int(np.argmax(apart >= wanted))
            own = float(np.linalg.norm(positions[i + j] - positions[i]))
            if own > 0:
                ratios.append(apart[j] / own)
    if not ratios:
        raise EgodepthError(
            f"{path} gives no scale: it needs positions {wanted:.0f} m apart while the camera moves"
        )
    return Unit(float(np.median(ratios)), f"metres, by the GPS track {path.name}")


def read_gps(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A track: (N,) seconds since its start, ascending, and (N, 2) metres east and north of it.

    Args:
        path: GPX, or CSV with the columns time (seconds), latitude and longitude (degrees).

    Raises:
        EgodepthError: a missing or broken file, or fewer than two positions.
    """
    text = read_text(path, "the GPS track")
    try:
        rows = _read_gpx(text) if text.lstrip().startswith("<") else _read_csv(text)
    except (ET.ParseError, KeyError, TypeError, ValueError) as error:
        raise EgodepthError(
            f"cannot read the GPS track {path} ({type(error).__name__}: {error}); it must be GPX with "
            "times, or CSV with the columns time,latitude,longitude"
        ) from error
    rows = rows[np.isfinite(rows).all(1)]
    rows = rows[np.unique(rows[:, 0], return_index=True)[1]] if len(rows) else rows
    if len(rows) < 2:
        raise EgodepthError(
            f"the GPS track {path} holds {len(rows)} positions; it needs two or more"
        )
    latitude, longitude = np.radians(rows[:, 1]), np.radians(rows[:, 2])
    east = (longitude - longitude[0]) * math.cos(latitude[0]) * EARTH_RADIUS
    north = (latitude - latitude[0]) * EARTH_RADIUS
    return rows[:, 0] - rows[0, 0], np.column_stack([east, north])


def _read_gpx(text: str) -> np.ndarray:
    """(N, 3): seconds, latitude and longitude of all track points."""
    rows = []
    for point in ET.fromstring(text).iter():
        if point.tag.rpartition("}")[2] != "trkpt":
            continue
        time = next(child.text for child in point if child.tag.rpartition("}")[2] == "time")
        moment = datetime.fromisoformat(str(time).strip()).timestamp()
        rows.append((moment, float(point.attrib["lat"]), float(point.attrib["lon"])))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _read_csv(text: str) -> np.ndarray:
    names = ("time", "latitude", "longitude")
    rows = [[float(row[name]) for name in names] for row in csv.DictReader(text.splitlines())]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
