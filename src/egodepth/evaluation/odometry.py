"""Scores of a trajectory against ground truth."""

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from egodepth.core.errors import EgodepthError
from egodepth.geometry import se3
from egodepth.geometry.trajectory import align_similarity

PROTOCOL = (
    "ate: root mean square of positions after one similarity alignment (Umeyama) over all frames; "
    "relative errors between consecutive frames, translation after the same scaling"
)


def score_trajectory(
    estimate: Float64[ndarray, "n 4 4"], truth: Float64[ndarray, "m 4 4"]
) -> dict[str, float]:
    """Compare camera poses ``world_from_camera``, frame by frame.

    Returns:
        ``ate_m``: see :data:`PROTOCOL`; ``ate_percent``: of the path; ``path_m``: length of the true
        path; ``rpe_rotation_deg`` and ``rpe_translation_m``: means over consecutive frames;
        ``scale``: metres per unit of the estimate; ``frames``.

    Raises:
        EgodepthError: different lengths, fewer than three poses, or a camera that never moves.
    """
    if estimate.shape != truth.shape:
        raise EgodepthError(
            f"{len(estimate)} poses were estimated, the ground truth has {len(truth)}"
        )
    if len(truth) < 3:
        raise EgodepthError(f"a trajectory needs at least 3 poses to be scored, got {len(truth)}")
    path = float(np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum())
    if path == 0:
        raise EgodepthError("the true camera never moves: there is no trajectory to score")
    scale, rotation, translation = align_similarity(estimate[:, :3, 3], truth[:, :3, 3])
    aligned = scale * estimate[:, :3, 3] @ rotation.T + translation
    ate = float(np.sqrt(((aligned - truth[:, :3, 3]) ** 2).sum(1).mean()))
    relative_estimate, relative_truth = relative_motions(estimate), relative_motions(truth)
    relative_estimate[:, :3, 3] *= scale
    error = np.linalg.inv(relative_truth) @ relative_estimate
    angles = se3.rotation_angle(torch.from_numpy(error[:, :3, :3])).numpy()
    return {
        "ate_m": ate,
        "ate_percent": 100 * ate / path,
        "path_m": path,
        "rpe_rotation_deg": float(np.degrees(angles).mean()),
        "rpe_translation_m": float(np.linalg.norm(error[:, :3, 3], axis=1).mean()),
        "scale": scale,
        "frames": len(truth),
    }


def relative_motions(world_from_camera: Float64[ndarray, "n 4 4"]) -> Float64[ndarray, "m 4 4"]:
    """``previous_from_next`` (N - 1, 4, 4) of consecutive poses."""
    return np.linalg.inv(world_from_camera[:-1]) @ world_from_camera[1:]
