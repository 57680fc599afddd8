"""Lists of images with their times, as data sets from robots have them."""

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
    """Times (N,) in seconds, ascending, and N files of a list with an image a line, as far as they exist.

    Args:
        path: the list; empty lines and those that begin with # are left out.
        parse: from a line to time and file; raises ValueError or IndexError for a line that is none.
        form: of a line, in words.
        unit: of the times; empty for the one that they can only be in.
        missing: is told the files that do not exist.

    Raises:
        EgodepthError: a line that is none, times in no unit or in one of several, or no file that exists.
    """
    times, paths = [], []
    for number, line in enumerate(read_text(path, "the list of images").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            time, file = parse(line)
            if not math.isfinite(time):
                raise ValueError(time)
        except (ValueError, IndexError) as error:
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
