"""Units of times in text files: named by the column, or the only unit that fits the numbers."""

import re
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError

TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Number of each unit per second."""
UNIT_WORDS = {
    word: unit
    for unit, words in {
        "s": "s sec secs second seconds",
        "ms": "ms msec msecs millis millisec millisecs millisecond milliseconds",
        "us": "us usec usecs µs μs micros microsec microsecs microsecond microseconds",
        "ns": "ns nsec nsecs nanos nanosec nanosecs nanosecond nanoseconds",
    }.items()
    for word in words.split()
}
OTHER_TIMES = ("min", "minute", "minutes", "h", "hour", "hours", "day", "days")
LENGTHS = {"m": 1.0, "metres": 1.0, "meters": 1.0, "cm": 1e-2, "mm": 1e-3, "km": 1e3}
"""Length of each unit in metres."""
LONGEST_NAME = 100
"""Characters of a column's name that are looked at; patterns would take minutes for a thousandfold."""
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
STEPS = {"s": (0.0, 60.0), "ms": (0.01, 5.0), "us": (0.001, 5.0), "ns": (0.001, 5.0)}
"""Range of the median time step, in seconds, for which an unnamed unit is plausible."""
SHORTEST_NAMED = 1e-4
"""Minimum median time step, in seconds, for times in the unit named by their column."""
EARLIEST, LATEST = 1e8, 1e10
"""Range of recording dates, in seconds since 1970: 1973 to 2286."""


def split_unit(name: str) -> tuple[str, str]:
    """Split the name of a column into the name in lower case and its unit of time or length, or an empty
    string: ``time[ms]``, ``t (s)``, ``timestamp_ns``, ``timestampMs``. A number in brackets stays part of the
    name (``q[0]``)."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()[:LONGEST_NAME]).lower()
    match = re.fullmatch(r"(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]", words)
    if match and not match[2].isdigit():
        rest, unit = split_unit(match[1])
        return rest, UNIT_WORDS.get(match[2], match[2]) or unit
    match = re.fullmatch(r"(.+?)(?:[_ /.-]|\s+in\s+)([a-zµμ]+)", words)
    if match and match[2] in (*UNIT_WORDS, *OTHER_TIMES, *LENGTHS):
        return match[1], UNIT_WORDS.get(match[2], match[2])
    if len(words) > 1 and words in UNIT_WORDS:
        return "", UNIT_WORDS[words]
    return words, ""


def time_unit(times: np.ndarray, named: str, path: str | Path, example: str) -> str:
    """Find the unit of times: ``s``, ``ms``, ``us`` or ``ns``.

    Args:
        times: (N,), as in the file.
        named: the unit named in the file, or empty.
        path: path of the file.
        example: example of a header with the unit ``ms``, for messages.

    Raises:
        EgodepthError: times that fit no unit or several, or that contradict the named unit.
    """
    steps = np.diff(np.unique(times))
    step = float(np.median(steps)) if len(steps) else 0.0
    latest = float(np.abs(times).max())
    told = f"the times of {path}, {times[0]:.12g} to {times[-1]:.12g} in steps of {step:.6g},"
    dates = [
        unit
        for unit, size in TIME_UNITS.items()
        if EARLIEST < latest / size < LATEST and step / size <= STEPS["s"][1]
    ]
    if named:
        if named not in TIME_UNITS:
            raise EgodepthError(
                f"{path}: its header gives times in {named!r}, which is none of {', '.join(TIME_UNITS)}"
            )
        size = TIME_UNITS[named]
        longest = STEPS["s" if named in dates else named][1]
        shortest = SHORTEST_NAMED if len(steps) else 0.0
        if latest / size >= LATEST or not shortest <= step / size <= longest:
            raise EgodepthError(
                f"{told} are no {NAMES[named]}, though its header or format says {named}: give the unit "
                "that they are in"
            )
        return named
    if dates:
        return dates[0]
    units = [
        unit
        for unit, (low, high) in STEPS.items()
        if low <= step / TIME_UNITS[unit] <= high and latest / TIME_UNITS[unit] < LATEST
    ]
    if len(units) == 1:
        return units[0]
    if not units:
        raise EgodepthError(
            f"{told} are neither seconds nor milliseconds, microseconds or nanoseconds"
        )
    choices = ", ".join(NAMES[unit] for unit in units)
    raise EgodepthError(
        f"{told} may be {choices} or frame numbers: name their unit in a header, like {example} (or "
        "[s], [us], [ns])"
    )
