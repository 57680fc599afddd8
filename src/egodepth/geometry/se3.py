"""Rigid motions as 4x4 matrices named ``target_from_source``, with any leading dimensions."""

import torch
from jaxtyping import Float
from torch import Tensor

_SMALL = 1e-4
"""Below this squared angle the Taylor series are exact to float64 (the next term is 1e-16)."""


def hat(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The skew-symmetric matrix of a vector: ``hat(a) @ b`` is the cross product a x b."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def so3_exp(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of an axis-angle vector in radians (Rodrigues); smooth at zero."""
    sine, cosine, _ = _coefficients(axis_angle)
    skew = hat(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + sine * skew + cosine * (skew @ skew)


def so3_log(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle vector of a rotation matrix, in radians, with a length in [0, pi].

    Computed from the quaternion, so that it is accurate at and near pi.
    """
    quaternion = quaternion_from_matrix(rotation)
    vector, real = quaternion[..., :3], quaternion[..., 3:]
    vector, real = torch.where(real < 0, -vector, vector), real.abs()
    norm = vector.norm(dim=-1, keepdim=True)
    small = norm < 1e-7
    safe = torch.where(small, torch.ones_like(norm), norm)
    factor = torch.where(small, 2 / real, 2 * torch.atan2(safe, real) / safe)
    return factor * vector


def exp(twist: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 4 4"]:
    """SE(3) exponential map of a twist (..., 6): axis-angle in radians, then the linear part, which the
    left Jacobian maps to the translation."""
    axis_angle, linear = twist[..., :3], twist[..., 3:]
    first, second, third = _coefficients(axis_angle)
    skew = hat(axis_angle)
    square = skew @ skew
    eye = torch.eye(3, dtype=twist.dtype, device=twist.device)
    jacobian = eye + second * skew + third * square
    return from_rotation_translation(
        eye + first * skew + second * square, (jacobian @ linear.unsqueeze(-1)).squeeze(-1)
    )


def log(motion: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 6"]:
    """SE(3) logarithm: the twist whose :func:`exp` is ``motion``, with a rotation angle in [0, pi]."""
    axis_angle = so3_log(motion[..., :3, :3])
    # The Jacobian is invertible below a full turn; checking that would make the host wait for a GPU.
    linear, _ = torch.linalg.solve_ex(_left_jacobian(axis_angle), motion[..., :3, 3:])
    return torch.cat([axis_angle, linear.squeeze(-1)], dim=-1)


def part_of(
    motion: Float[Tensor, "*batch 4 4"], share: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 4 4"]:
    """Interpolate a motion along its geodesic, at constant linear and angular velocity: a share of 0 is the
    identity, 1 the whole motion."""
    return exp(share.unsqueeze(-1) * log(motion))


def from_rotation_translation(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Assemble 4x4 motions from rotations and translations."""
    top = torch.cat([rotation, translation.unsqueeze(-1)], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat([top, bottom], dim=-2)


def inverse(motion: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Invert ``target_from_source`` to ``source_from_target``, assuming an orthonormal rotation."""
    transposed = motion[..., :3, :3].mT
    return from_rotation_translation(transposed, -(transposed @ motion[..., :3, 3:]).squeeze(-1))


def adjoint(motion: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 6 6"]:
    """Adjoint of a motion, which moves a twist to its other side: ``exp(adjoint(m) @ x) @ m`` is
    ``m @ exp(x)``."""
    rotation = motion[..., :3, :3]
    mixed = hat(motion[..., :3, 3]) @ rotation
    top = torch.cat([rotation, torch.zeros_like(rotation)], dim=-1)
    return torch.cat([top, torch.cat([mixed, rotation], dim=-1)], dim=-2)


def rigid(motion: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The nearest rigid motion. :func:`inverse` assumes orthonormal rotations, so rounding errors double at
    every step of a long chain of products and inverses."""
    u, _, vt = torch.linalg.svd(motion[..., :3, :3])
    return from_rotation_translation(u @ vt, motion[..., :3, 3])


def transform(
    motion: Float[Tensor, "*batch 4 4"], points: Float[Tensor, "*batch n 3"]
) -> Float[Tensor, "*batch n 3"]:
    """Transform points (..., N, 3) from the source to the target frame of ``target_from_source``."""
    return points @ motion[..., :3, :3].mT + motion[..., None, :3, 3]


def rotation_angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Rotation angle in radians, in [0, pi]."""
    return so3_log(rotation).norm(dim=-1)


def matrix_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a quaternion (x, y, z, w) of any non-zero length."""
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], dim=-1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], dim=-1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def quaternion_from_matrix(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion (x, y, z, w) of a rotation matrix, with w >= 0 up to rounding.

    Of the four expressions for it, uses the one that divides by the largest component.
    """
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = (
        r[..., 2, 1] - r[..., 1, 2],
        r[..., 0, 2] - r[..., 2, 0],
        r[..., 1, 0] - r[..., 0, 1],
    )
    xy, xz, yz = (
        r[..., 0, 1] + r[..., 1, 0],
        r[..., 0, 2] + r[..., 2, 0],
        r[..., 1, 2] + r[..., 2, 1],
    )
    # Row i is the quaternion times four times its component i (x, y, z, w).
    rows = torch.stack(
        [
            torch.stack([1 + xx - yy - zz, xy, xz, wx], dim=-1),
            torch.stack([xy, 1 - xx + yy - zz, yz, wy], dim=-1),
            torch.stack([xz, yz, 1 - xx - yy + zz, wz], dim=-1),
            torch.stack([wx, wy, wz, 1 + xx + yy + zz], dim=-1),
        ],
        dim=-2,
    )
    largest = rows.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    quaternion = torch.nn.functional.normalize(rows.gather(-2, index).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def _coefficients(axis_angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(a)/a, (1 - cos(a))/a^2 and (a - sin(a))/a^3, shaped (..., 1, 1), finite at zero."""
    squared = axis_angle.square().sum(-1)[..., None, None]
    small = squared < _SMALL
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(
        small, 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42)), angle.sin() / angle
    )
    second = torch.where(
        small,
        0.5 - squared / 24 * (1 - squared / 30 * (1 - squared / 56)),
        (1 - angle.cos()) / safe,
    )
    third = torch.where(
        small,
        1 / 6 - squared / 120 * (1 - squared / 42 * (1 - squared / 72)),
        (angle - angle.sin()) / (safe * angle),
    )
    return first, second, third


def _left_jacobian(axis_angle: Tensor) -> Tensor:
    _, second, third = _coefficients(axis_angle)
    skew = hat(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + second * skew + third * (skew @ skew)
