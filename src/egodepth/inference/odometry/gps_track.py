"""Read GPS tracks that were recorded with footage."""

import csv
import math
import re
import warnings
import xml.etree.ElementTree as ET
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import read_text, reading
from egodepth.core.times import NAMES, TIME_UNITS, split_unit, time_unit
from egodepth.data.footage.robot_logs.fixes import read_fixes
from egodepth.data.footage.robot_logs.recording import is_recording, split_topics

EARTH_RADIUS = 6_378_137.0
LONGEST_FIX_STEP = 60.0
"""Largest median time in seconds between the positions of a track recorded with footage."""
FASTEST, FASTER = 100.0, 10.0
"""Speed in metres per second, and its ratio to the track's median, above both of which a step is a jump."""
MAX_LEFT_OUT, MAX_JUMPS = 0.2, 20
"""Largest share of positions that may be left out as jumps, and of rounds that look for them."""
FORM = "GPX with times, or CSV with the columns time,latitude,longitude"
PREAMBLE = 20
"""Number of lines among which the header is searched for; others, such as ``sep=,``, may precede it."""
LONGEST_HEADER = 10_000
"""Maximum number of characters of the line that names the columns."""
EXAMPLE = "time[ms],latitude,longitude"
LATITUDES, LONGITUDES = {"lat", "latitude"}, {"lon", "lng", "long", "longitude"}
NO_POSITION = {
    "home", "takeoff", "target", "rad", "std", "sigma", "accuracy", "acc", "error", "err",
    "ns", "ew", "hemisphere", "ref",
}  # fmt: skip
"""Words in column names which show that a latitude or longitude is not the camera's position in degrees."""
TIME_NAMES = (
    r"time|timestamp|time_stamp", r"(.*_)?header_stamp", r"gps_?time|(.*_)?utc(_.*)?|(.*_)?date_?time.*",
    r"date", r"t|ts|(.*_)?(elapsed|(fly|gps)?_?time(_?stamp)?)|cts|",
)  # fmt: skip
"""Patterns of names of time columns, without their unit, best first."""


def read_gps(path: Path, clock: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a track: (N,) seconds since its start, ascending, and (N, 2) metres east and north of the start.
    Positions without time or coordinates are left out with a warning.

    Args:
        path: GPX, CSV with a header that names time (number or date), latitude and longitude (degrees), or a
            recording of a robot with NavSatFix messages.
        clock: time of the footage's first frame. A recording's seconds count from it, since its frames and
            positions have one clock; others are taken to start with the footage.

    Raises:
        EgodepthError: a missing or broken file, no times, times of ambiguous unit, positions too far apart in
            time, or fewer than two positions.
    """
    recorded = is_recording(Path(split_topics(str(path))[0]))
    if recorded:
        rows = read_fixes(path)
    else:
        text = read_text(path, "the GPS track")
        with reading(path, "the GPS track", f"it must be {FORM}"):
            rows = _read_gpx(text) if text.lstrip().startswith("<") else _read_csv(text, path)
    times, places = rows[:, 0], rows[:, 1:]
    if len(rows) and np.isnan(times).all():
        raise EgodepthError(
            f"the GPS track {path} has no times: none of its {len(rows)} positions has one, as in planned "
            "routes; record a track along with the footage"
        )
    far = (np.abs(places) > (90, 180)).any(1)
    if far.any():
        raise EgodepthError(
            f"the GPS track {path}: position {far.argmax() + 1} has latitude {places[far][0, 0]:g} and "
            f"longitude {places[far][0, 1]:g}, which must be degrees within 90 and 180"
        )
    # Receivers write 0 degrees north and east while they have no fix.
    lost = ~np.isfinite(rows).all(1) | (places == 0).all(1)
    if (~lost).sum() < 2:
        raise EgodepthError(
            f"the GPS track {path} holds {(~lost).sum()} positions; it needs two or more"
        )
    if lost.any():
        warnings.warn(
            f"{path}: {lost.sum()} of {len(rows)} positions have no time or no coordinates and are left out",
            EgodepthWarning,
            stacklevel=2,
        )
    _require_order(times[~lost], path)
    start = clock if recorded and clock is not None else times[np.isfinite(times)].min()
    times, first = np.unique(times[~lost], return_index=True)
    if len(times) < 2:
        raise EgodepthError(
            f"the {(~lost).sum()} positions of the GPS track {path} all have one time; write times with all "
            "their digits"
        )
    step = float(np.median(np.diff(times)))
    if step > LONGEST_FIX_STEP:
        raise EgodepthError(
            f"the positions of the GPS track {path} are {step:g} s apart, too far for a track along footage"
        )
    latitude, longitude = np.radians(places[~lost][first]).T
    # Modulo a turn, since a track may cross 180 degrees.
    turned = (longitude - longitude[0] + math.pi) % math.tau - math.pi
    east = turned * math.cos(float(np.median(latitude))) * EARTH_RADIUS
    track = np.column_stack([east, (latitude - latitude[0]) * EARTH_RADIUS])
    kept = _without_jumps(times, track, path)
    return times[kept] - start, track[kept] - track[kept][0]


def _require_order(times: np.ndarray, path: Path) -> None:
    """Refuse times that jump back, as a clock does at midnight or at the end of a week: sorted, the second half
    of the drive would come first.

    Raises:
        EgodepthError: they jump back by more than LONGEST_FIX_STEP.
    """
    steps = np.diff(times)
    if len(steps) and steps.min() < -LONGEST_FIX_STEP:
        place = int(steps.argmin())
        raise EgodepthError(
            f"the times of the GPS track {path} go back by {-steps.min():g} s after its position {place + 1}: "
            "write times that rise, with their date, a drive per file"
        )


def _without_jumps(times: np.ndarray, places: np.ndarray, path: Path) -> np.ndarray:
    """Which positions (N,) to keep: those that were reached, or left, at a possible speed. Others are left out
    with a warning.

    Raises:
        EgodepthError: too many others, or jumps between what remains.
    """
    kept = np.ones(len(times), bool)
    for _ in range(MAX_JUMPS):
        where = np.flatnonzero(kept)
        if len(where) < 2:
            break
        speed = np.linalg.norm(np.diff(places[where], axis=0), axis=1) / np.diff(times[where])
        limit = max(FASTEST, FASTER * float(np.median(speed)))
        jumps = np.concatenate([[True], speed > limit, [True]])
        wrong = jumps[:-1] & jumps[1:]
        if not wrong.any():
            break
        kept[where[wrong]] = False
    out = int((~kept).sum())
    if len(where) < 2 or (speed > limit).any() or out > MAX_LEFT_OUT * len(kept):
        raise EgodepthError(
            f"the positions of the GPS track {path} jump: no vehicle moves at the "
            f"{speed.max() if len(where) > 1 else 0:.3g} m/s between two of them"
        )
    if out:
        warnings.warn(
            f"{path}: {out} of {len(kept)} positions are left out, since no vehicle gets there in that time "
            f"(position {int(np.argmin(kept)) + 1} for one)",
            EgodepthWarning,
            stacklevel=3,
        )
    return kept


def _read_gpx(text: str) -> np.ndarray:
    """Seconds, latitude and longitude (N, 3) of all points of tracks and routes; NaN where missing."""
    rows = []
    root = ET.fromstring(text)
    form = root.tag.rpartition("}")[2]
    if form != "gpx":
        raise ValueError(f"it is {form}, not gpx")
    for point in root.iter():
        if point.tag.rpartition("}")[2] not in ("trkpt", "rtept"):
            continue
        times = [child.text for child in point if child.tag.rpartition("}")[2] == "time"]
        where = [point.attrib.get(name, "nan") for name in ("lat", "lon")]
        rows.append((_moment(times[0] if times else None), float(where[0]), float(where[1])))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _read_csv(text: str, path: Path) -> np.ndarray:
    """Seconds, latitude and longitude (N, 3); NaN where a field is empty."""
    lines = [(i, line) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    heads = [_Head.of(line) for _, line in lines[:PREAMBLE]] or [_Head.of("")]
    place = next((i for i, head in enumerate(heads) if not head.missing), 0)
    head = heads[place]
    if head.missing:
        raise ValueError(f"no column {head.missing[0]} in its first line {head.line[:60]!r}")
    rows = []
    for number, line in lines[place + 1 :]:
        words = _split(line, head.mark)
        if len(words) != len(head.names):
            raise ValueError(
                f"line {number} has {len(words)} columns, the first line {len(head.names)}"
            )
        if head.mark == ";":
            words = [re.sub(r"^([-+0-9]+),(?=[0-9]+$)", r"\1.", word) for word in words]
        rows.append((number, words))
    where = np.array(
        [
            [_degrees(words[c], number) for c in (head.latitudes[0], head.longitudes[0])]
            for number, words in rows
        ]
    )
    return np.column_stack([_moments(rows, head, path), where.reshape(-1, 2)])


class _Head(NamedTuple):
    """A line that may be the header: its separator, and the columns of latitude, longitude and time, best
    first."""

    line: str
    mark: str
    names: list[str]
    latitudes: list[int]
    longitudes: list[int]
    times: list[int]

    @classmethod
    def of(cls, line: str) -> Self:
        """Parse a line as a header."""
        line = line.lstrip("#% ")[:LONGEST_HEADER]
        mark = next((mark for mark in ";\t," if mark in line), " ")
        names = _split(line, mark)
        return cls(
            line, mark, names, _places(names, LATITUDES), _places(names, LONGITUDES), _times(names)
        )

    @property
    def missing(self) -> list[str]:
        """Quantities for which no column is named."""
        found = {"time": self.times, "latitude": self.latitudes, "longitude": self.longitudes}
        return [name for name, columns in found.items() if not columns]


def _split(line: str, mark: str) -> list[str]:
    if mark == " ":
        return line.split()
    (words,) = csv.reader([line], delimiter=mark, skipinitialspace=True)
    return [word.strip() for word in words]


def _places(names: list[str], wanted: set[str]) -> list[int]:
    """Columns whose names mean a latitude or longitude in degrees."""
    found = []
    for column, name in enumerate(names):
        words = set(re.findall(r"[a-z]+", name.lower()))
        if words & wanted and not words & NO_POSITION:
            found.append(column)
    return found


def _times(names: list[str]) -> list[int]:
    """Columns whose names mean times, best first."""
    found = []
    for pattern in TIME_NAMES:
        for column, name in enumerate(names):
            plain, unit = split_unit(name)
            plain = re.sub(r"[./ -]+", "_", plain)
            if re.fullmatch(pattern, plain) and (plain or unit in TIME_UNITS):
                found.append(column)
    return list(dict.fromkeys(found))


def _moments(rows: list[tuple[int, list[str]]], head: _Head, path: Path) -> np.ndarray:
    """Seconds from the first time column that can be read; NaN where a field is empty.

    Raises:
        ValueError: no column can be read (the error of the first one).
        EgodepthError: times of ambiguous unit.
    """
    problems: list[Exception] = []
    names = head.names
    dates = [c for c in head.times if split_unit(names[c])[0].rpartition(".")[2] == "date"]
    for column in head.times:
        try:
            words = [words[column] for _, words in rows]
            if (
                dates
                and column != dates[0]
                and any(re.fullmatch(r"[\d:.]+", w) and ":" in w for w in words)
            ):
                words = [f"{row[dates[0]]}T{row[column]}" for _, row in rows]
            fraction = _fraction(names, column)
            if fraction is not None:
                words = [
                    f"{float(row[column]) + float(row[fraction]) / 1e9:.9f}" for _, row in rows
                ]
            return _seconds([n for n, _ in rows], words, split_unit(names[column])[1], path)
        except (ValueError, EgodepthError) as error:
            problems.append(error)
    raise problems[0]


def _fraction(names: list[str], column: int) -> int | None:
    """Column of the nanoseconds that belong to a column of whole seconds, as in ROS time stamps."""
    name, unit = split_unit(names[column])
    return next(
        (i for i, n in enumerate(names) if unit == "s" and split_unit(n) == (name, "ns")), None
    )


def _seconds(numbers: list[int], words: list[str], named: str, path: Path) -> np.ndarray:
    times = []
    for number, word in zip(numbers, words, strict=True):
        try:
            times.append(_moment(word))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    found = np.array(times, np.float64)
    known = found[np.isfinite(found)]
    if any(_is_number(word) for word in words) and len(known):
        named = named if named in TIME_UNITS else ""
        unit = time_unit(known, named, path, EXAMPLE)
        if unit not in ("s", named):
            warnings.warn(
                f"{path}: its times, {known[0]:.12g} to {known[-1]:.12g}, are taken for {NAMES[unit]}",
                EgodepthWarning, stacklevel=6,
            )  # fmt: skip
        found /= TIME_UNITS[unit]
    return found


def _degrees(word: str, number: int) -> float:
    try:
        return float(word or "nan")
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _moment(word: str | None) -> float:
    """A number as it is, a date in seconds; NaN for an empty field."""
    word = (word or "nan").strip() or "nan"
    if _is_number(word):
        return float(word)
    word = re.sub(r"^(\d{4})[/:](\d\d)[/:](\d\d)", r"\1-\2-\3", word.removesuffix(" UTC"))
    return datetime.fromisoformat(word).timestamp()
