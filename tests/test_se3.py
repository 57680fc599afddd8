import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from egodepth.geometry import se3

AXIS = torch.tensor([0.36, -0.48, 0.8], dtype=torch.float64)
ANGLES = [0.0, 1e-12, 1e-7, 1e-3, 0.0099, 0.0101, 1.0, 3.0, math.pi - 1e-4, math.pi - 1e-9, math.pi]


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_and_log_are_inverse(angle: float) -> None:
    twist = torch.cat([AXIS * angle, torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)])
    again = se3.log(se3.exp(twist))
    if angle == math.pi:  # both axes mean the same rotation there
        torch.testing.assert_close(se3.exp(again), se3.exp(twist), atol=1e-9, rtol=0)
    else:
        torch.testing.assert_close(again, twist, atol=1e-7, rtol=0)


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_agrees_with_the_matrix_exponential(angle: float) -> None:
    twist = torch.cat([AXIS * angle, torch.tensor([0.3, 0.1, -0.7], dtype=torch.float64)])
    generator = np.zeros((4, 4))
    generator[:3, :3] = se3.hat(twist[:3]).numpy()
    generator[:3, 3] = twist[3:].numpy()
    np.testing.assert_allclose(se3.exp(twist).numpy(), expm(generator), atol=1e-12)


def test_rotations_agree_with_scipy() -> None:
    vectors = torch.randn(50, 3, dtype=torch.float64)
    matrices = se3.so3_exp(vectors)
    reference = Rotation.from_rotvec(vectors.numpy())
    np.testing.assert_allclose(matrices.numpy(), reference.as_matrix(), atol=1e-12)
    quaternions = reference.as_quat()
    quaternions *= np.where(quaternions[:, 3:] < 0, -1, 1)
    np.testing.assert_allclose(
        se3.quaternion_from_matrix(matrices).numpy(), quaternions, atol=1e-12
    )


@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.5, 2.5])
def test_gradients(angle: float) -> None:
    twist = torch.cat([AXIS * angle, torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)])
    assert torch.autograd.gradcheck(se3.exp, twist.requires_grad_())


def test_inverse_and_transform() -> None:
    motion = se3.exp(torch.randn(4, 6, dtype=torch.float64))
    points = torch.randn(4, 5, 3, dtype=torch.float64)
    eye = torch.eye(4, dtype=torch.float64).expand(4, 4, 4)
    torch.testing.assert_close(motion @ se3.inverse(motion), eye)
    torch.testing.assert_close(
        se3.transform(se3.inverse(motion), se3.transform(motion, points)), points
    )


def test_rotation_angle() -> None:
    assert se3.rotation_angle(se3.so3_exp(AXIS * 0.25)).item() == pytest.approx(0.25)


def test_adjoint_changes_the_side_of_a_twist() -> None:
    motion = se3.exp(torch.randn(5, 6, dtype=torch.float64))
    twist = torch.randn(5, 6, dtype=torch.float64)
    moved = (se3.adjoint(motion) @ twist[..., None])[..., 0]
    torch.testing.assert_close(se3.exp(moved) @ motion, motion @ se3.exp(twist))


def test_rigid_mends_a_rotation_that_has_grown() -> None:
    motion = se3.exp(torch.randn(6, dtype=torch.float64))
    grown = motion.clone()
    grown[:3, :3] *= 1.01
    torch.testing.assert_close(se3.rigid(grown), motion)
