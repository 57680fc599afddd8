"""A trajectory as one object, from where it is found to where it is written, scored or shown."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.outputs import OutputFolder
from egodepth.data.sequence import Sequence
from egodepth.geometry.pose_writing import write_kitti, write_tum
from egodepth.runs.unit import OWN_UNIT, Unit

KITTI_FILE, TUM_FILE = "trajectory_kitti.txt", "trajectory_tum.txt"


@dataclass(frozen=True)
class Trajectory:
    """Poses of the frames of some footage, and what their lengths are. The unit is applied once, by
    :attr:`first_from_frame`, where they are written, scored or shown.

    Attributes:
        poses: (N, 4, 4) float64, in the frame of the first camera and the run's unit; NaN where a frame has
            none.
        numbers: N numbers of their frames, ascending; broken ones of a video have no pose.
        times: (N,) seconds; None where the footage has none.
        unit: the run's.
    """

    poses: np.ndarray
    numbers: list[int]
    times: np.ndarray | None = None
    unit: Unit = OWN_UNIT

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def first_from_frame(self) -> np.ndarray:
        """(N, 4, 4) poses in metres where the unit is known, else in the run's unit: what :attr:`unit` says."""
        scaled = self.poses.copy()
        scaled[:, :3, 3] *= self.unit.factor
        return scaled

    def in_metres(self) -> np.ndarray:
        """(N, 4, 4) poses in metres.

        Raises:
            EgodepthError: the run's unit is unknown.
        """
        if self.unit.metres is None:
            raise EgodepthError(
                f"the trajectory is in {self.unit}, whose length in metres is unknown; give a "
                "known length (--camera_height, --speed, --gps or --distance)"
            )
        return self.first_from_frame

    def only(self, numbers: Collection[int]) -> Self:
        """That of some frames alone."""
        kept = np.isin(self.numbers, list(numbers))
        return replace(
            self, poses=self.poses[kept], numbers=np.array(self.numbers)[kept].tolist(),
            times=None if self.times is None else self.times[kept],
        )  # fmt: skip

    def by_number(self, every: int = 1) -> dict[int, np.ndarray]:
        """Known poses of every n-th frame, in the run's unit, by frame number."""
        pairs = zip(self.numbers[::every], self.poses[::every], strict=True)
        return {number: pose for number, pose in pairs if np.isfinite(pose).all()}

    def shown(self, every: int = 1) -> dict[int, np.ndarray]:
        """Those of :attr:`first_from_frame`, as :meth:`by_number` gives them."""
        return replace(self, poses=self.first_from_frame).by_number(every)

    def true_poses(self, sequence: Sequence) -> np.ndarray | None:
        """(N, 4, 4) the sequence's own poses of these frames, NaN where it has none; None where it has none at
        all."""
        if sequence.world_from_camera is None:
            return None
        places = {number: place for place, number in enumerate(sequence.frames.numbers)}
        return sequence.world_from_camera[[places[number] for number in self.numbers]]

    def save_kitti(self, path: str | Path) -> None:
        """Write a line per frame with the 12 numbers of its pose.

        Raises:
            EgodepthError: the file can't be written.
        """
        write_kitti(Path(path), self.first_from_frame)

    def save_tum(self, path: str | Path) -> None:
        """Write a line per frame with time, position and quaternion; frame numbers stand for times where there
        are none, with a warning.

        Raises:
            EgodepthError: the file can't be written.
        """
        if self.times is None:
            warnings.warn(
                f"the footage has no times, so {TUM_FILE} counts frames in place of seconds; give its frames "
                "per second with --fps",
                EgodepthWarning,
                stacklevel=2,
            )
        times = np.array(self.numbers, np.float64) if self.times is None else self.times
        write_tum(Path(path), self.first_from_frame, times)

    def write(self, out: OutputFolder) -> None:
        """Write ``trajectory_kitti.txt`` and ``trajectory_tum.txt``.

        Raises:
            EgodepthError: a file that can't be written.
        """
        self.save_kitti(out.file(KITTI_FILE))
        self.save_tum(out.file(TUM_FILE))
