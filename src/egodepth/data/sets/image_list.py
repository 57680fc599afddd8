"""Lists of images with time stamps, as in robotics data sets."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text
from egodepth.core.times import TIME_UNITS, time_unit
from egodepth.data.sets.missing_items import MissingItems


def read_image_list(
    path: Path,
    parse: Callable[[str], tuple[float, Path]],
    form: str,
    missing: MissingItems,
    unit: str,
) -> tuple[np.ndarray, list[Path]]:
    """Read a list with one image per line: ascending times (N,) in seconds, and the N files that exist.

    Args:
        path: the list; empty lines and lines that begin with # are skipped.
        parse: maps a line to time and file; raises ValueError or IndexError for an invalid line.
        form: expected form of a line, for messages.
        unit: unit of the times; empty to infer it from their values.
        missing: collects the files that do not exist.

    Raises:
        EgodepthError: an invalid line, times of unknown or ambiguous unit, or no existing file.
    """
    times, paths = [], []
    for number, line in enumerate(read_text(path, "the list of images").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            time, file = parse(line)
            if not math.isfinite(time):
                raise ValueError(time)
        except (ValueError, IndexError, OverflowError) as error:
            raise EgodepthError(
                f"{path} line {number}: expected `{form}`, got {line[:60]!r}"
            ) from error
        if file.exists():
            times.append(time)
            paths.append(file)
        else:
            missing.add(f"images of {path.name} that are not there", file)
    if not paths:
        raise EgodepthError(f"{path} names no image that is there")
    order = np.argsort(times, kind="stable")
    unit = time_unit(np.array(times), unit, path, "# time[ms] file")
    return np.array(times)[order] / TIME_UNITS[unit], [paths[i] for i in order]
