"""KITTI readers on tiny instances of the official layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.layouts import make_odometry, make_raw

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.sets.kitti import project_lidar, read_kitti_odometry, read_kitti_raw
from egodepth.geometry.camera import Camera


def test_raw_reads_frames_poses_and_depth(tmp_path: Path) -> None:
    make_raw(tmp_path)
    (sequence,) = read_kitti_raw(tmp_path)
    assert sequence.name == "2011_09_26_drive_0001_sync/image_02"
    assert [f.number for f in sequence.frames.at()] == [5, 6, 7, 8]
    assert sequence.camera is not None and sequence.camera.matrix[0, 2] == 39.5
    assert sequence.world_from_camera is not None
    motion = np.linalg.inv(sequence.world_from_camera[0]) @ sequence.world_from_camera[1]
    step = 6378137 * np.radians(1e-5)
    np.testing.assert_allclose(motion[:3, 3], [0, 0, step], atol=1e-6)
    assert list(sequence.depth) == [1]
    depth = sequence.depth[1]()
    # x = 50 * (0 + 5 / 50) / 10 + 39.5 = 40, y = 19.5, both rounded to even and lowered by one
    assert depth[19, 39] == 10 and (depth > 0).sum() == 1


def test_the_nearest_lidar_point_wins() -> None:
    camera = Camera.from_parameters(50.0, 50.0, 39.5, 19.5, 40, 80)
    forward = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    points = np.array([[20, 0, 0], [8, 0, 0], [12, 0, 0], [-5, 0, 0]], np.float32)
    assert project_lidar(points, forward, camera).max() == 8


def test_grey_cameras_and_jpeg(tmp_path: Path) -> None:
    drive = make_raw(tmp_path, "image_00")
    for path in (drive / "image_00" / "data").iterdir():
        Image.open(path).convert("L").save(path.with_suffix(".jpg"))
        path.unlink()
    (sequence,) = read_kitti_raw(tmp_path)
    image = next(sequence.frames.at([0])).image
    assert image.shape == (40, 80, 3) and (image[..., 0] == image[..., 2]).all()


def test_odometry_reads_both_sides_and_poses(tmp_path: Path) -> None:
    make_odometry(tmp_path)
    left, right = read_kitti_odometry(tmp_path)
    assert (left.camera_name, right.camera_name) == ("left", "right")
    assert left.world_from_camera is not None and right.world_from_camera is not None
    np.testing.assert_allclose(left.world_from_camera[2, :3, 3], [0, 0, 2])
    # fx times the baseline is -25: the right camera lies 0.5 m to the right.
    np.testing.assert_allclose(right.world_from_camera[2, :3, 3], [0.5, 0, 2], atol=1e-12)
    assert [f.time for f in left.frames.at()] == [0, 0.1, 0.2]


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(EgodepthError, match="no KITTI raw drives under"):
        read_kitti_raw(tmp_path)
    with pytest.raises(EgodepthError, match="no KITTI odometry sequences under"):
        read_kitti_odometry(tmp_path)
    folder = make_odometry(tmp_path)
    (folder / "calib.txt").write_text(
        "P2: 1 2 3 4 5 6 7 8 9 10 11 12\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n"
    )
    with pytest.raises(EgodepthError, match=r"calib\.txt has no line 'P3'"):
        read_kitti_odometry(tmp_path)
    (folder / "calib.txt").write_text("P2: 1 2 three\nP3: 1\n")
    with pytest.raises(EgodepthError, match="line 'P2' is broken"):
        read_kitti_odometry(tmp_path)


@pytest.mark.parametrize("times", ["0\nnan\n0.2\n", "0\n0.2\n0.1\n", "0\n0.1 0.2\n0.3\n"])
def test_times_that_do_not_grow_are_refused(times: str, tmp_path: Path) -> None:
    (make_odometry(tmp_path) / "times.txt").write_text(times)
    with pytest.raises(EgodepthError, match=r"times\.txt"):
        read_kitti_odometry(tmp_path)


def test_too_few_times_are_told(tmp_path: Path) -> None:
    (make_odometry(tmp_path) / "times.txt").write_text("0\n0.3\n")
    with pytest.warns(EgodepthWarning, match="has a frame 2, but there are 2 times"):
        sequence = read_kitti_odometry(tmp_path)[0]
    np.testing.assert_allclose(sequence.frames.times, [0, 0.1, 0.2])


def test_a_truncated_scan_is_named(tmp_path: Path) -> None:
    make_raw(tmp_path, scan=np.zeros(7, np.float32))
    (sequence,) = read_kitti_raw(tmp_path)
    with pytest.raises(EgodepthError, match=r"LiDAR scan .*0000000006\.bin is broken"):
        sequence.depth[1]()
