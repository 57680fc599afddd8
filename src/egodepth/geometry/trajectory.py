"""Camera trajectories: chaining, alignment, association in time, and the KITTI, TUM and EuRoC formats."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64
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


def associate(
    times: Float64[ndarray, "n"], others: Float64[ndarray, "m"], apart: float
) -> Int64[ndarray, "p 2"]:
    """Positions (P, 2) of moments and of the other moments nearest to them, at most ``apart`` seconds
    away; moments without such a one are left out."""
    order = np.argsort(others, kind="stable")
    ordered = others[order]
    after = np.searchsorted(ordered, times).clip(0, len(others) - 1)
    before = (after - 1).clip(0)
    nearer = np.abs(ordered[before] - times) <= np.abs(ordered[after] - times)
    nearest = np.where(nearer, before, after)
    near = np.abs(ordered[nearest] - times) <= apart
    return np.stack([np.flatnonzero(near), order[nearest[near]]], axis=1)


def poses_at(
    times: Float64[ndarray, "n"],
    pose_times: Float64[ndarray, "m"],
    poses: Float64[ndarray, "m 4 4"],
    apart: float,
) -> Float64[ndarray, "n 4 4"]:
    """The poses nearest in time (N, 4, 4), NaN where none is within ``apart`` seconds."""
    found = np.full((len(times), 4, 4), np.nan)
    pairs = associate(times, pose_times, apart)
    found[pairs[:, 0]] = poses[pairs[:, 1]]
    return found


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


def write_euroc(
    path: str | Path, poses: Float64[ndarray, "n 4 4"], timestamps: Float64[ndarray, "n"]
) -> None:
    """EuRoC format: comma-separated lines of time in nanoseconds, position, and quaternion w x y z."""
    quaternions = se3.quaternion_from_matrix(torch.from_numpy(poses[:, :3, :3])).numpy()
    rows = (
        ",".join(
            [str(round(time * 1e9)), *(f"{v:.9f}" for v in (*pose[:3, 3], q[3], q[0], q[1], q[2]))]
        )
        for time, pose, q in zip(timestamps, poses, quaternions, strict=True)
    )
    head = "#timestamp [ns], p_x [m], p_y [m], p_z [m], q_w [], q_x [], q_y [], q_z []"
    write_text(path, "\n".join([head, *rows]) + "\n")


def read_tum(path: str | Path) -> tuple[Float64[ndarray, "n"], Float64[ndarray, "n 4 4"]]:
    """Times (N,) in seconds and poses (N, 4, 4) of a file in TUM format, in order of time.

    Raises:
        EgodepthError: a missing file, or a line without eight numbers.
    """
    rows = _read_rows(path, None, 8, "time, position and quaternion x y z w")
    return _posed(rows[:, 0], rows[:, 1:4], rows[:, 4:8])


def read_euroc(path: str | Path) -> tuple[Float64[ndarray, "n"], Float64[ndarray, "n 4 4"]]:
    """Times (N,) in seconds and poses (N, 4, 4) of a file in EuRoC format, in order of time.

    Raises:
        EgodepthError: a missing file, or a line that does not begin with eight numbers.
    """
    rows = _read_rows(path, ",", 8, "nanoseconds, position and quaternion w x y z")
    return _posed(rows[:, 0] / 1e9, rows[:, 1:4], rows[:, [5, 6, 7, 4]])


def read_trajectory(
    path: str | Path,
) -> tuple[Float64[ndarray, "n"] | None, Float64[ndarray, "n 4 4"]]:
    """Times (or None) and poses of a file in KITTI, TUM or EuRoC format, which its first line tells.

    Raises:
        EgodepthError: a missing file, or one in none of these formats.
    """
    lines = (line.strip() for line in read_text(path, "the trajectory").splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if "," in first:
        return read_euroc(path)
    count = len(first.split())
    if count == 8:
        return read_tum(path)
    if count == 12:
        return None, read_kitti(path)
    raise EgodepthError(
        f"{path} is no trajectory: a line has 12 numbers (KITTI), 8 (TUM: time x y z qx qy qz qw) or 8 "
        f"and more with commas (EuRoC), got {first[:60]!r}"
    )


def _read_rows(path: str | Path, separator: str | None, count: int, what: str) -> ndarray:
    rows = []
    for number, line in enumerate(read_text(path, "the trajectory").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            row = [float(word) for word in line.split(separator)[:count]]
        except ValueError:
            row = []
        if len(row) != count or not np.isfinite(row).all():
            raise EgodepthError(f"{path} line {number}: expected {what}, got {line.strip()[:60]!r}")
        rows.append(row)
    if not rows:
        raise EgodepthError(f"{path} holds no poses")
    table = np.array(rows)
    return table[np.argsort(table[:, 0], kind="stable")]


def _posed(times: ndarray, positions: ndarray, quaternions: ndarray) -> tuple[ndarray, ndarray]:
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    poses[:, :3, :3] = se3.matrix_from_quaternion(torch.from_numpy(quaternions)).numpy()
    poses[:, :3, 3] = positions
    return times, poses


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
