"""Conventions and readers on the real excerpts in ../shared/data."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from egodepth.data.sequence import Sequence
from egodepth.data.sets.kitti import read_kitti_odometry, read_kitti_raw
from egodepth.data.sets.kitti_files import read_calibration
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


def as_it_is(motion: np.ndarray) -> np.ndarray:
    return motion


def transposed_rotation(motion: np.ndarray) -> np.ndarray:
    changed = motion.copy()
    changed[:3, :3] = motion[:3, :3].T
    return changed


def without_baseline(motion: np.ndarray) -> np.ndarray:
    changed = motion.copy()
    changed[:3, 3] = 0
    return changed


def mirrored_baseline(motion: np.ndarray) -> np.ndarray:
    changed = motion.copy()
    changed[:3, 3] *= -1
    return changed


SHIFTS = {f"{shift:+g}": (as_it_is, shift) for shift in (0.5, -0.5, 1.0, -1.0)}
"""Ways to be wrong: a change of the motion, and of the source's cx."""
IN_TIME = SHIFTS | {
    "still": (lambda motion: np.eye(4), 0.0),
    "inverse": (np.linalg.inv, 0.0),
    "transposed": (transposed_rotation, 0.0),
}
IN_RIG = SHIFTS | {"still": (without_baseline, 0.0), "inverse": (mirrored_baseline, 0.0)}
Wrong = dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]]


class Pair(NamedTuple):
    """Two images of one size, ground truth of the first, and the true motion."""

    camera: Camera
    depth: np.ndarray
    first: np.ndarray
    second: np.ndarray
    second_from_first: np.ndarray


def pairs_in_time(sequence: Sequence) -> Iterator[Pair]:
    """Frames with ground truth, each with both of its neighbours."""
    poses = sequence.world_from_camera
    assert poses is not None and sequence.camera is not None
    for index in sorted(sequence.depth):
        near = [i for i in (index - 1, index, index + 1) if 0 <= i < len(sequence.frames)]
        images = dict(zip(near, (f.image for f in sequence.frames.at(near)), strict=True))
        depth = sequence.depth[index]()
        for other in set(near) - {index}:
            motion = np.linalg.inv(poses[other]) @ poses[index]
            yield Pair(sequence.camera, depth, images[index], images[other], motion)


def pairs_in_rig(left: Sequence, right: Sequence) -> Iterator[Pair]:
    """Frames with ground truth, each with the other camera's of the same moment."""
    assert left.camera is not None
    motion = np.linalg.inv(right.rig_from_camera) @ left.rig_from_camera
    for index in sorted(left.depth):
        first, second = (next(s.frames.at([index])).image for s in (left, right))
        yield Pair(left.camera, left.depth[index](), first, second, motion)


def errors(pairs: Iterable[Pair], wrong: Wrong) -> tuple[float, dict[str, float]]:
    """Mean photometric error at LiDAR points between 3 and 40 m: of the truth, and of each way to be wrong."""
    ways = [(as_it_is, 0.0), *wrong.values()]
    true, *others = np.mean([pair_errors(pair, ways) for pair in pairs], axis=0).tolist()
    return true, dict(zip(wrong, others, strict=True))


def pair_errors(
    pair: Pair, ways: list[tuple[Callable[[np.ndarray], np.ndarray], float]]
) -> list[float]:
    camera = pair.camera.to(torch.float64)
    rows, columns = np.nonzero((pair.depth > 3) & (pair.depth < 40))
    # The field's ground truth puts points one pixel to the left and above (see project_lidar).
    pixels = torch.from_numpy(np.stack([columns, rows], -1)).double() + 1
    points = camera.unproject(pixels, torch.from_numpy(pair.depth[rows, columns]).double())
    first, second = (
        torch.from_numpy(image.copy()).permute(2, 0, 1)[None].double() / 255
        for image in (pair.first, pair.second)
    )
    seen = sample(first, pixels[None, None])[0, :, 0]
    size = torch.tensor([camera.width - 1, camera.height - 1])
    found = []
    for change, shift in ways:
        matrix = camera.matrix.clone()
        matrix[0, 2] += shift
        moved = se3.transform(torch.from_numpy(change(pair.second_from_first)), points)
        there = Camera(matrix, camera.height, camera.width).project(moved)
        inside = ((there > 0) & (there < size)).all(-1) & (moved[:, 2] > 0.1)
        apart = (seen - sample(second, there[None, None])[0, :, 0]).abs().mean(0)
        found.append(float(apart[inside].mean()))
    return found


def check_neighbours(sequence: Sequence) -> None:
    """Depth and poses explain the frames before and after, and nothing that is wrong does so well."""
    true, wrong = errors(pairs_in_time(sequence), IN_TIME)
    for name, most in (("still", 0.55), ("inverse", 0.7), ("transposed", 0.8)):
        assert true < most * wrong[name], name
    for sign in "+-":
        assert true < 0.997 * wrong[f"{sign}0.5"] and true < 0.985 * wrong[f"{sign}1"]


def check_rig(left: Sequence, right: Sequence) -> None:
    """Depth and the baseline explain the other camera, and nothing that is wrong does so well."""
    true, wrong = errors(pairs_in_rig(left, right), IN_RIG)
    assert true < 0.5 * wrong["still"] and true < 0.4 * wrong["inverse"]
    for sign in "+-":
        assert true < 0.997 * wrong[f"{sign}0.5"] and true < 0.95 * wrong[f"{sign}1"]


@pytest.mark.parametrize("name", KITTI)
def test_true_depth_and_pose_explain_the_neighbours(name: str, data: Path) -> None:
    check_neighbours(read(data, name))


@pytest.mark.parametrize(("left", "right"), [KITTI[:2], KITTI[2:]])
def test_true_depth_and_the_baseline_explain_the_other_camera(
    left: str, right: str, data: Path
) -> None:
    check_rig(read(data, left), read(data, right))


def test_lidar_projection_is_that_of_the_development_kit(data: Path) -> None:
    """Point by point, by its definition: rounded and lowered by one, the nearest point of a pixel wins."""
    root = data / "kitti_raw"
    left = read_kitti_raw(root)[0]
    index, read = next(iter(left.depth.items()))
    date = root / "2011_09_26"
    calibration = read_calibration(
        date / "calib_cam_to_cam.txt", P_rect_02=(3, 4), R_rect_00=(3, 3)
    )
    rigid = read_calibration(date / "calib_velo_to_cam.txt", R=(3, 3), T=(3,))
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
        check = check_data(f"{name}:{data / name}", tmp_path / f"{name}.png")
        assert check.lines[0] == totals
        assert (tmp_path / f"{name}.png").stat().st_size > 100_000
        if name == "kitti_raw":
            assert any("eigen_test: 4 of 697" in line for line in check.lines)
