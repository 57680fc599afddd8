"""Write poses as text in the formats of KITTI, TUM and EuRoC."""

from pathlib import Path

from jaxtyping import Float64
from numpy import ndarray

from egodepth.core.files import write_text


def write_kitti(path: str | Path, poses: Float64[ndarray, "n 4 4"]) -> None:
    """Write poses in KITTI format: a line per frame with the 12 numbers of the top 3x4 of
    ``first_from_frame``."""
    rows = (" ".join(f"{value:.9e}" for value in pose[:3].ravel()) for pose in poses)
    write_text(path, "\n".join(rows) + "\n")


def _quaternions(poses: Float64[ndarray, "n 4 4"]) -> Float64[ndarray, "n 4"]:
    """Unit quaternions x y z w of the poses' rotations."""
    import torch  # imported late, since scoring files needs no PyTorch

    from egodepth.geometry import se3

    return se3.quaternion_from_matrix(torch.from_numpy(poses[:, :3, :3])).numpy()


def write_tum(
    path: str | Path, poses: Float64[ndarray, "n 4 4"], timestamps: Float64[ndarray, "n"]
) -> None:
    """Write poses in TUM format: a line per frame with time in seconds, position, and quaternion x y z w."""
    quaternions = _quaternions(poses)
    rows = (
        f"{time:.6f} " + " ".join(f"{value:.9f}" for value in (*pose[:3, 3], *quaternion))
        for time, pose, quaternion in zip(timestamps, poses, quaternions, strict=True)
    )
    write_text(path, "\n".join(rows) + "\n")


def write_euroc(
    path: str | Path, poses: Float64[ndarray, "n 4 4"], timestamps: Float64[ndarray, "n"]
) -> None:
    """Write poses in EuRoC format: comma-separated time in nanoseconds, position, and quaternion w x y z."""
    quaternions = _quaternions(poses)
    rows = (
        ",".join(
            [str(round(time * 1e9)), *(f"{v:.9f}" for v in (*pose[:3, 3], q[3], q[0], q[1], q[2]))]
        )
        for time, pose, q in zip(timestamps, poses, quaternions, strict=True)
    )
    head = "#timestamp [ns], p_x [m], p_y [m], p_z [m], q_w [], q_x [], q_y [], q_z []"
    write_text(path, "\n".join([head, *rows]) + "\n")
