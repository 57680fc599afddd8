"""A trajectory keeps its unit with it, which is applied once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.sources import read_source
from egodepth.geometry.trajectory import read_trajectory
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.unit import Unit


def path(unit: Unit) -> Trajectory:
    """Frames 2, 3 and 5, two units from each other."""
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 2, 3] = [0, 2, 4]
    return Trajectory(poses, [2, 3, 5], np.array([0.2, 0.3, 0.5]), unit)


def test_lengths_are_scaled_where_they_are_written(tmp_path: Path) -> None:
    found = path(Unit(3.0, "metres, by a ruler"))
    assert found.first_from_frame[:, 2, 3].tolist() == [0, 6, 12]
    assert found.poses[:, 2, 3].tolist() == [0, 2, 4] and len(found) == 3
    np.testing.assert_array_equal(found.in_metres(), found.first_from_frame)
    found.save_kitti(tmp_path / "kitti.txt")
    found.save_tum(tmp_path / "tum.txt")
    for name in ("kitti.txt", "tum.txt"):
        read = read_trajectory(tmp_path / name)
        np.testing.assert_allclose(read.poses, found.first_from_frame, atol=1e-6)
    assert read.times is not None and read.times.tolist() == [0.2, 0.3, 0.5]
    with pytest.warns(EgodepthWarning, match="no times"):
        replace(found, times=None).save_tum(tmp_path / "tum.txt")


def test_nobody_knows_the_metres() -> None:
    found = path(Unit())
    np.testing.assert_array_equal(found.first_from_frame, found.poses)
    with pytest.raises(EgodepthError, match="the run's unit, whose length in metres is unknown"):
        found.in_metres()


def test_frames_are_known_by_number(tmp_path: Path) -> None:
    found = path(Unit(3.0, "metres"))
    some = found.only([5, 2, 9])
    assert some.numbers == [2, 5] and some.poses[:, 2, 3].tolist() == [0, 4]
    assert some.times is not None and some.times.tolist() == [0.2, 0.5]
    lost = replace(found, poses=found.poses * np.array([1, np.nan, 1])[:, None, None])
    assert {n: pose[2, 3] for n, pose in lost.by_number().items()} == {2: 0, 5: 4}
    assert {n: pose[2, 3] for n, pose in found.shown(2).items()} == {2: 0, 5: 12}
    write_images(tmp_path / "frames", 7)
    (sequence,) = read_source(tmp_path / "frames")
    assert found.true_poses(sequence) is None
    true = np.tile(np.eye(4), (7, 1, 1))
    true[:, 0, 3] = np.arange(7)
    known = found.true_poses(replace(sequence, world_from_camera=true))
    assert known is not None and known[:, 0, 3].tolist() == [2, 3, 5]
