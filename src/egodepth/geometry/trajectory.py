"""Camera trajectories: chaining, alignment, and the TUM and KITTI text formats."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text, write_text
from egodepth.geometry import se3


def chain(
    previous_from_next: Float64[ndarray, "n 4 4"],
) -> Float64[ndarray, "m 4 4"]:
    """Poses ``first_from_frame`` (N + 1, 4, 4) of N motions between consecutive frames."""
    poses = [np.eye(4)]
    for motion in previous_from_next:
        poses.append(poses[-1] @ motion)
    return np.stack(poses)


def align_similarity(
    estimate: Float64[ndarray, "n 3"], truth: Float64[ndarray, "n 3"], *, with_scale: bool = True
) -> tuple[float, Float64[ndarray, "3 3"], Float64[ndarray, "3"]]:
    """Scale s, rotation R and translation t that minimise sum |s R estimate + t - truth|^2.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991. Degenerate sets (all points on a line) leave a free rotation about the line; a
    proper one is returned.
    """
    mean_estimate, mean_truth = estimate.mean(0), truth.mean(0)
    a, b = estimate - mean_estimate, truth - mean_truth
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[2] = -1
    rotation = (u * sign) @ vt
    variance = (a**2).sum() / len(a)
    scale = float((d * sign).sum() / variance) if with_scale and variance > 0 else 1.0
    return scale, rotation, mean_truth - scale * rotation @ mean_estimate


def write_kitti(path: str | Path, poses: Float64[ndarray, "n 4 4"]) -> None:
    """KITTI format: a line per frame with the 12 numbers of the top 3x4 of ``first_from_frame``."""
    rows = (" ".join(f"{value:.9e}" for value in pose[:3].ravel()) for pose in poses)
    write_text(path, "\n".join(rows) + "\n")


def write_tum(
    path: str | Path, poses: Float64[ndarray, "n 4 4"], timestamps: Float64[ndarray, "n"]
) -> None:
    """TUM format: a line per frame with time in seconds, position, and quaternion x y z w."""
    quaternions = se3.quaternion_from_matrix(torch.from_numpy(poses[:, :3, :3])).numpy()
    rows = (
        f"{time:.6f} " + " ".join(f"{value:.9f}" for value in (*pose[:3, 3], *quaternion))
        for time, pose, quaternion in zip(timestamps, poses, quaternions, strict=True)
    )
    write_text(path, "\n".join(rows) + "\n")


def read_kitti(path: str | Path) -> Float64[ndarray, "n 4 4"]:
    """Read poses in KITTI format.

    Raises:
        EgodepthError: a missing file or a line without 12 numbers.
    """
    poses = []
    for number, line in enumerate(read_text(path, "the pose file").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = np.array([float(word) for word in line.split()])
            poses.append(np.vstack([values.reshape(3, 4), [0.0, 0.0, 0.0, 1.0]]))
        except ValueError as error:
            raise EgodepthError(
                f"{path} line {number}: expected 12 numbers, got {line.strip()[:60]!r}"
            ) from error
    if not poses:
        raise EgodepthError(f"{path} holds no poses")
    return np.stack(poses)
