from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egodepth.core.errors import EgodepthError
from egodepth.geometry import se3
from egodepth.geometry.pose_writing import write_kitti, write_tum
from egodepth.geometry.trajectory import align_similarity, chain, read_kitti


def random_poses(count: int) -> np.ndarray:
    return se3.exp(torch.randn(count, 6, dtype=torch.float64)).numpy()


def test_chain() -> None:
    poses = random_poses(6)
    relative = np.linalg.inv(poses[:-1]) @ poses[1:]
    np.testing.assert_allclose(chain(relative), np.linalg.inv(poses[0]) @ poses, atol=1e-12)


@pytest.mark.parametrize("mirrored", [False, True])
def test_alignment_recovers_a_similarity(mirrored: bool) -> None:
    rng = np.random.default_rng(1)
    points = rng.standard_normal((20, 3))
    rotation = Rotation.random(rng=rng).as_matrix()
    truth = 2.5 * points @ rotation.T + [1, 2, 3]
    if mirrored:  # a reflection must not be used to fit better
        truth = truth * [-1, 1, 1]
    scale, found, translation = align_similarity(points, truth)
    assert np.linalg.det(found) == pytest.approx(1)
    if not mirrored:
        assert scale == pytest.approx(2.5)
        np.testing.assert_allclose(found, rotation, atol=1e-12)
        np.testing.assert_allclose(translation, [1, 2, 3], atol=1e-12)


def test_kitti_round_trip(tmp_path: Path) -> None:
    poses = random_poses(5)
    write_kitti(tmp_path / "a.txt", poses)
    np.testing.assert_allclose(read_kitti(tmp_path / "a.txt"), poses, atol=1e-8)


def test_tum_lines(tmp_path: Path) -> None:
    poses = random_poses(3)
    write_tum(tmp_path / "a.txt", poses, np.array([0.0, 0.1, 0.2]))
    rows = np.loadtxt(tmp_path / "a.txt")
    np.testing.assert_allclose(rows[:, 0], [0, 0.1, 0.2])
    np.testing.assert_allclose(rows[:, 1:4], poses[:, :3, 3], atol=1e-8)
    np.testing.assert_allclose(
        Rotation.from_quat(rows[:, 4:]).as_matrix(), poses[:, :3, :3], atol=1e-7
    )


def test_a_broken_pose_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 2 3\n")
    with pytest.raises(EgodepthError, match=r"a\.txt line 2: expected 12 numbers"):
        read_kitti(tmp_path / "a.txt")
