"""The files of a trajectory."""

import warnings
from collections.abc import Sequence

import numpy as np

from egodepth.core.errors import EgodepthWarning
from egodepth.core.outputs import OutputFolder
from egodepth.geometry.pose_writing import write_kitti, write_tum

KITTI_FILE, TUM_FILE = "trajectory_kitti.txt", "trajectory_tum.txt"


def write_poses(
    out: OutputFolder,
    first_from_frame: np.ndarray,
    times: Sequence[float | None],
    numbers: Sequence[int],
) -> None:
    """Write ``trajectory_kitti.txt`` and ``trajectory_tum.txt``; frame numbers stand for times where footage
    has none, which a warning tells.

    Args:
        out: folder.
        first_from_frame: (N, 4, 4).
        times: N seconds, or None.
        numbers: N frame numbers.

    Raises:
        EgodepthError: a file that can't be written.
    """
    write_kitti(out.file(KITTI_FILE), first_from_frame)
    write_tum(out.file(TUM_FILE), first_from_frame, shown_times(times, numbers))


def shown_times(times: Sequence[float | None], numbers: Sequence[int]) -> np.ndarray:
    """Times for TUM's format, or frame numbers in their place, which a warning tells."""
    if None not in times:
        return np.array(times, np.float64)
    warnings.warn(
        f"the footage has no times, so {TUM_FILE} counts frames in place of seconds; give its frames "
        "per second with --fps",
        EgodepthWarning,
        stacklevel=3,
    )
    return np.array(numbers, np.float64)
