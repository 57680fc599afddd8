"""Conventions and readers on the real excerpts in ../shared/data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from egodepth.data.sequence import Sequence
from egodepth.data.sets.kitti import read_calibration, read_kitti_odometry, read_kitti_raw
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import sample
from egodepth.report.data_check import check_data

pytestmark = pytest.mark.real_data
KITTI = [
    "2011_09_26_drive_0009_sync/image_02",
    "2011_09_26_drive_0009_sync/image_03",
    "04/image_2",
    "04/image_3",
]


def read(data: Path, name: str) -> Sequence:
    read_all = read_kitti_raw(data / "kitti_raw") + read_kitti_odometry(data / "kitti_odometry")
    return next(s for s in read_all if s.name == name)


def test_the_readers_find_what_the_readme_says(data: Path) -> None:
    raw, odometry = read_kitti_raw(data / "kitti_raw"), read_kitti_odometry(data / "kitti_odometry")
    assert [(s.name, len(s.frames), len(s.depth)) for s in raw + odometry] == [
        ("2011_09_26_drive_0009_sync/image_02", 51, 13),
        ("2011_09_26_drive_0009_sync/image_03", 51, 13),
        ("00/image_0", 200, 0),
        ("04/image_2", 51, 6),
        ("04/image_3", 51, 6),
    ]
    for sequence in raw + odometry:
        poses = sequence.world_from_camera
        assert poses is not None
        step = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        forward = np.einsum("ni,ni->n", np.diff(poses[:, :3, 3], axis=0), poses[:-1, :3, 2])
        assert (forward > 0.95 * step).all(), "the camera's z axis must point along the drive"


@pytest.mark.parametrize("name", KITTI)
def test_true_depth_and_pose_explain_the_neighbours(name: str, data: Path) -> None:
    check_neighbours(read(data, name))


def check_neighbours(sequence: Sequence) -> None:
    """Depth and poses explain the neighbours better than wrong ones do."""
    true = errors(sequence)
    assert true < 0.55 * errors(sequence, lambda m: np.eye(4))
    assert true < 0.7 * errors(sequence, np.linalg.inv)
    assert true < 0.8 * errors(sequence, transposed_rotation)
    for shift in (0.5, -0.5):
        assert true < 0.997 * errors(sequence, shift=shift)
        assert true < 0.985 * errors(sequence, shift=2 * shift)


def transposed_rotation(motion: np.ndarray) -> np.ndarray:
    changed = motion.copy()
    changed[:3, :3] = motion[:3, :3].T
    return changed


def errors(sequence: Sequence, change: object = lambda m: m, shift: float = 0.0) -> float:
    """Mean photometric error at LiDAR points between 3 and 40 m, over both neighbours in time."""
    poses = sequence.world_from_camera
    assert poses is not None
    results = []
    for index in sorted(sequence.depth):
        for other in (index - 1, index + 1):
            if 0 <= other < len(sequence.frames):
                motion = change(np.linalg.inv(poses[other]) @ poses[index])  # type: ignore[operator]
                images = {f.number: f.image for f in sequence.frames.at(sorted((index, other)))}
                pair = (images[numbers(sequence)[index]], images[numbers(sequence)[other]])
                results.append(pair_error(sequence, index, *pair, motion, shift))
    return float(np.mean(results))


def stereo_errors(data: Path, name: str, scale: float = 1.0, shift: float = 0.0) -> float:
    """The same between the cameras of a rig, whose baseline is multiplied by ``scale``."""
    left = read(data, name)
    right = next(
        s
        for s in read_kitti_raw(data / "kitti_raw") + read_kitti_odometry(data / "kitti_odometry")
        if s.rig == left.rig and s.camera_name == "right"
    )
    motion = np.linalg.inv(right.rig_from_camera) @ left.rig_from_camera
    motion[:3, 3] *= scale
    results = []
    for index in sorted(left.depth):
        pair = (next(left.frames.at([index])).image, next(right.frames.at([index])).image)
        results.append(pair_error(left, index, *pair, motion, shift))
    return float(np.mean(results))


@pytest.mark.parametrize("name", ["2011_09_26_drive_0009_sync/image_02", "04/image_2"])
def test_true_depth_and_the_baseline_explain_the_other_camera(name: str, data: Path) -> None:
    check_partner(data, name)


def check_partner(data: Path, name: str) -> None:
    """Depth and the baseline explain the other camera better than wrong ones do."""
    true = stereo_errors(data, name)
    assert true < 0.5 * stereo_errors(data, name, scale=0)
    assert true < 0.4 * stereo_errors(data, name, scale=-1)
    for shift in (0.5, -0.5):
        assert true < 0.997 * stereo_errors(data, name, shift=shift)
        assert true < 0.95 * stereo_errors(data, name, shift=2 * shift)


def pair_error(
    sequence: Sequence, index: int, first: np.ndarray, second: np.ndarray, motion: np.ndarray,
    shift: float,
) -> float:  # fmt: skip
    assert sequence.camera is not None
    camera = sequence.camera.to(torch.float64)
    matrix = camera.matrix.clone()
    matrix[0, 2] += shift
    source_camera = Camera(matrix, camera.height, camera.width)
    depth = sequence.depth[index]()
    rows, columns = np.nonzero((depth > 3) & (depth < 40))
    # The field's ground truth puts points one pixel to the left and above (see project_lidar).
    pixels = torch.from_numpy(np.stack([columns, rows], -1)).double() + 1
    points = camera.unproject(pixels, torch.from_numpy(depth[rows, columns]).double())
    moved = se3.transform(torch.from_numpy(motion), points)
    there = source_camera.project(moved)
    size = torch.tensor([camera.width - 1, camera.height - 1])
    inside = ((there > 0) & (there < size)).all(-1) & (moved[:, 2] > 0.1)
    images = [
        torch.from_numpy(image.copy()).permute(2, 0, 1)[None].double() / 255
        for image in (first, second)
    ]
    a, b = (
        sample(image, at[None, None])[0, :, 0]
        for image, at in zip(images, (pixels, there), strict=True)
    )
    return float((a - b).abs().mean(0)[inside].mean())


def numbers(sequence: Sequence) -> list[int]:
    return sequence.frames.numbers  # type: ignore[attr-defined]


def test_lidar_projection_is_that_of_the_development_kit(data: Path) -> None:
    """Point by point, by its definition: rounded and lowered by one, the nearest point of a pixel wins."""
    root = data / "kitti_raw"
    left = read_kitti_raw(root)[0]
    index, read = next(iter(left.depth.items()))
    date = root / "2011_09_26"
    calibration = read_calibration(date / "calib_cam_to_cam.txt", "P_rect_02", "R_rect_00")
    rigid = read_calibration(date / "calib_velo_to_cam.txt", "R", "T")
    velodyne = np.eye(4)
    velodyne[:3, :3], velodyne[:3, 3] = rigid["R"], rigid["T"].ravel()
    rectify = np.eye(4)
    rectify[:3, :3] = calibration["R_rect_00"]
    image_from_velodyne = calibration["P_rect_02"] @ rectify @ velodyne
    drive = date / "2011_09_26_drive_0009_sync" / "velodyne_points" / "data"
    scan = np.fromfile(drive / f"{left.frames.numbers[index]:010d}.bin", np.float32).reshape(-1, 4)
    expected: dict[tuple[int, int], float] = {}
    for x, y, z, _ in scan.astype(np.float64):
        if x < 0:
            continue
        u, v, depth = image_from_velodyne @ [x, y, z, 1]
        if depth <= 0:
            continue
        column, row = round(u / depth) - 1, round(v / depth) - 1
        if 0 <= column < 1242 and 0 <= row < 375:
            expected[row, column] = min(depth, expected.get((row, column), np.inf))
    got = read()
    assert (got > 0).sum() == len(expected)
    rows, columns = np.array(list(expected)).T
    # The projection adds the camera's own offset along z, 2.7 mm in KITTI, to the depth.
    np.testing.assert_allclose(got[rows, columns], list(expected.values()), atol=1e-4)


def test_the_excerpts_are_what_they_are_said_to_be(data: Path, tmp_path: Path) -> None:
    found = {
        "kitti_raw": "2 sequences, 102 frames, 26 with depth, 2 sequences with poses, 1 stereo rigs",
        "kitti_odometry": "3 sequences, 302 frames, 12 with depth, 3 sequences with poses, 1 stereo rigs",
        "seven_scenes": "1 sequences, 600 frames, 120 with depth, 1 sequences with poses, 0 stereo rigs",
    }
    for name, totals in found.items():
        check = check_data(name, data / name, tmp_path / f"{name}.png")
        assert check.lines[0] == totals
        assert (tmp_path / f"{name}.png").stat().st_size > 100_000
    assert any("eigen_test: 4 of 697" in line for line in check_data(
        "kitti_raw", data / "kitti_raw", tmp_path / "x.png").lines)  # fmt: skip
