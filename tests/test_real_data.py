"""Conventions and readers on the real excerpts in ../shared/data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from egodepth.data.kitti import read_kitti_odometry, read_kitti_raw
from egodepth.data.sequence import Sequence
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import sample

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
    sequence = read(data, name)
    true = errors(sequence)
    assert true < 0.55 * errors(sequence, lambda m: np.eye(4))
    assert true < 0.7 * errors(sequence, np.linalg.inv)
    assert true < 0.8 * errors(sequence, transposed_rotation)
    # The yaw of the given poses is off by up to half a pixel, with opposite sign for the frame
    # before and after, so that both together have their minimum at the true cx.
    assert true < 0.998 * errors(sequence, shift=0.5)
    assert true < 0.998 * errors(sequence, shift=-0.5)


def transposed_rotation(motion: np.ndarray) -> np.ndarray:
    changed = motion.copy()
    changed[:3, :3] = motion[:3, :3].T
    return changed


def errors(sequence: Sequence, change: object = lambda m: m, shift: float = 0.0) -> float:
    """Mean photometric error at LiDAR points between 3 and 40 m, over both neighbours."""
    assert sequence.camera is not None and sequence.world_from_camera is not None
    camera = sequence.camera.to(torch.float64)
    matrix = camera.matrix.clone()
    matrix[0, 2] += shift
    source_camera = Camera(matrix, camera.height, camera.width)
    results = []
    for index in sorted(sequence.depth):
        depth = sequence.depth[index]()
        rows, columns = np.nonzero((depth > 3) & (depth < 40))
        pixels = torch.from_numpy(np.stack([columns, rows], -1)).double()
        points = camera.unproject(pixels, torch.from_numpy(depth[rows, columns]).double())
        for other in (index - 1, index + 1):
            if not 0 <= other < len(sequence.frames):
                continue
            poses = sequence.world_from_camera
            motion = change(np.linalg.inv(poses[other]) @ poses[index])  # type: ignore[operator]
            moved = se3.transform(torch.from_numpy(motion), points)
            there = source_camera.project(moved)
            size = torch.tensor([camera.width - 1, camera.height - 1])
            inside = ((there > 0) & (there < size)).all(-1) & (moved[:, 2] > 0.1)
            images = {f.number: f.image for f in sequence.frames.at(sorted((index, other)))}
            first, second = (
                torch.from_numpy(image.copy()).permute(2, 0, 1)[None].double() / 255
                for image in (images[numbers(sequence)[index]], images[numbers(sequence)[other]])
            )
            a = sample(first, pixels[None, None])[0, :, 0]
            b = sample(second, there[None, None])[0, :, 0]
            results.append(float((a - b).abs().mean(0)[inside].mean()))
    return float(np.mean(results))


def numbers(sequence: Sequence) -> list[int]:
    return sequence.frames.numbers  # type: ignore[attr-defined]
