"""Trajectories with frame numbers, times and unit."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.outputs import OutputFolder
from egodepth.data.sequence import Sequence, place_of_number
from egodepth.geometry.pose_writing import write_kitti, write_tum
from egodepth.runs.unit import OWN_UNIT, Unit


@dataclass(frozen=True)
class Trajectory:
    """Poses of the frames of some footage, and their unit, which is applied once, by :attr:`first_from_frame`,
    to write, score or show them.

    Attributes:
        poses: (N, 4, 4) float64, in the frame of the first camera and the run's unit; NaN for frames without
            a pose.
        numbers: N frame numbers, ascending; broken frames of a video are missing.
        times: (N,) seconds; None if the footage has no times.
        unit: of the run.
    """

    poses: np.ndarray
    numbers: list[int]
    times: np.ndarray | None = None
    unit: Unit = OWN_UNIT

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def first_from_frame(self) -> np.ndarray:
        """Poses (N, 4, 4) in metres if the unit is known, otherwise in the run's own unit."""
        scaled = self.poses.copy()
        scaled[:, :3, 3] *= self.unit.factor
        return scaled

    def in_metres(self) -> np.ndarray:
        """Poses (N, 4, 4) in metres.

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
        """The trajectory of some frames only."""
        kept = np.isin(self.numbers, list(numbers))
        return replace(
            self, poses=self.poses[kept], numbers=np.array(self.numbers)[kept].tolist(),
            times=None if self.times is None else self.times[kept],
        )  # fmt: skip

    def by_number(self, every: int = 1) -> dict[int, np.ndarray]:
        """Known poses of every n-th frame by frame number, in the run's own unit."""
        pairs = zip(self.numbers[::every], self.poses[::every], strict=True)
        return {number: pose for number, pose in pairs if np.isfinite(pose).all()}

    def shown(self, every: int = 1) -> dict[int, np.ndarray]:
        """Known poses of every n-th frame by frame number, in the unit of :attr:`first_from_frame`."""
        return replace(self, poses=self.first_from_frame).by_number(every)

    def true_poses(self, sequence: Sequence) -> np.ndarray | None:
        """Ground-truth poses (N, 4, 4) of these frames, NaN where there is none; None if the sequence has
        none."""
        if sequence.world_from_camera is None:
            return None
        places = place_of_number(sequence.frames)
        return sequence.world_from_camera[[places[number] for number in self.numbers]]

    @property
    def known(self) -> np.ndarray:
        """Which frames (N,) have a pose."""
        found: np.ndarray = np.isfinite(self.poses).all((1, 2))
        return found

    @property
    def lost(self) -> str:
        """How many frames have no pose, in words; empty if all have one."""
        count = int((~self.known).sum())
        return f"{count} of {len(self)} frames have no pose" if count else ""

    def strips(self) -> list[np.ndarray]:
        """Positions (n, 3) of each run of frames with poses, in the unit of :attr:`first_from_frame`."""
        known = np.flatnonzero(self.known)
        runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
        return [self.first_from_frame[run, :3, 3] for run in runs]

    def save_kitti(self, path: str | Path) -> None:
        """Write :attr:`first_from_frame` in KITTI format: a line per frame with 12 numbers, "nan" for frames
        without a pose, since lines are counted.

        Raises:
            EgodepthError: the file cannot be written.
        """
        write_kitti(Path(path), self.first_from_frame)

    def save_tum(self, path: str | Path) -> None:
        """Write :attr:`first_from_frame` in TUM format: a line per frame with time, position and quaternion;
        frames without a pose are left out.
        Without times, frame numbers are written instead, with a warning.

        Raises:
            EgodepthError: the file cannot be written.
        """
        if self.times is None:
            warnings.warn(
                f"the footage has no times, so {Path(path).name} counts frames in place of seconds; give its "
                "frames per second with --fps",
                EgodepthWarning,
                stacklevel=2,
            )
        times = np.array(self.numbers, np.float64) if self.times is None else self.times
        write_tum(Path(path), self.first_from_frame[self.known], times[self.known])

    def write(self, out: OutputFolder, name: str = "trajectory") -> None:
        """Write ``trajectory_kitti.txt`` and ``trajectory_tum.txt``, or others of another name.

        Raises:
            EgodepthError: a file that cannot be written.
        """
        self.save_kitti(out.file(f"{name}_kitti.txt"))
        self.save_tum(out.file(f"{name}_tum.txt"))
