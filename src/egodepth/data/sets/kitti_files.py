"""Readers of the files of KITTI: calibrations, times, and LiDAR scans."""

import math
import re
from datetime import datetime
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text, reading
from egodepth.geometry.plausible import FARTHEST_DEPTH


def read_velodyne(path: Path) -> np.ndarray:
    """Read a ``.bin`` scan as (N, 4) float32: x forward, y left, z up in metres, and reflectance.

    Raises:
        EgodepthError: a missing or truncated file, or numbers that are not finite.
    """
    with reading(path, "the LiDAR scan"):
        content = path.read_bytes()
        if not content or len(content) % 16:
            raise ValueError(f"it holds {len(content)} bytes, not a multiple of 16")
        points = np.frombuffer(content, "<f4").reshape(-1, 4)
        if not (np.abs(points) <= FARTHEST_DEPTH).all():
            raise ValueError("it holds numbers that are not finite, or impossibly large")
        if not points.any():
            raise ValueError("all of its numbers are 0")
        return points


def read_calibration(path: Path, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Read lines (``NAME: numbers``) of a KITTI calibration file.

    Args:
        path: the file.
        shapes: shape of the numbers of each wanted line, by its name.

    Raises:
        EgodepthError: the file or a line is missing, or a line does not hold as many finite numbers.
    """
    lines = dict(
        line.split(":", 1)
        for line in read_text(path, "the calibration file").splitlines()
        if ":" in line
    )
    values = {}
    for name, shape in shapes.items():
        if name not in lines:
            raise EgodepthError(f"{path} has no line {name!r}; download the calibration again")
        try:
            values[name] = np.array([float(word) for word in lines[name].split()]).reshape(shape)
            if not np.isfinite(values[name]).all():
                raise ValueError("not finite")
        except ValueError as error:
            raise EgodepthError(
                f"{path}: line {name!r} is broken, it needs {math.prod(shape)} numbers: "
                f"{lines[name].strip()[:60]!r}"
            ) from error
    return values


def read_rectified_size(path: Path, name: str) -> tuple[int, int] | None:
    """Image width and height of a calibration; None for older copies of the file, which lack the line."""
    if not re.search(rf"^{name}:", read_text(path, "the calibration file"), re.M):
        return None
    with reading(path, "the calibration file"):
        width, height = (int(value) for value in read_calibration(path, **{name: (2,)})[name])
        if min(width, height) < 1:
            raise ValueError(f"line {name!r} is {width} {height}, no image size")
    return width, height


def read_times(path: Path) -> np.ndarray | None:
    """Read KITTI odometry's ``times.txt``: (N,) seconds, one a line; None if there is no such file.

    Raises:
        EgodepthError: a line that is no number, or times that do not grow.
    """
    if not path.exists():
        return None
    times: list[float] = []
    for number, line in enumerate(read_text(path, "the times").splitlines(), start=1):
        if not line.strip():
            continue
        with reading(f"{path} line {number}", "the time in"):
            times.append(float(line))
        if not math.isfinite(times[-1]) or times[-1] <= max(times[:-1], default=-math.inf):
            raise EgodepthError(f"{path} line {number}: the times must grow, got {line[:60]!r}")
    return np.array(times)


def read_timestamps(path: Path) -> np.ndarray | None:
    """Seconds since the first line of a raw ``timestamps.txt``, truncated to microseconds; None without it."""
    if not path.exists():
        return None
    times = []
    first: datetime | None = None
    for number, line in enumerate(read_text(path, "the time stamps").split("\n"), start=1):
        if not line.strip():
            continue
        with reading(f"{path} line {number}", "the time stamp in"):
            stamp = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", line.strip()))
            first = first or stamp
            times.append((stamp - first).total_seconds())
        if times[-1] < times[max(len(times) - 2, 0)]:
            raise EgodepthError(
                f"{path} line {number}: the time stamps must grow, got {line[:60]!r}"
            )
    return np.array(times)
