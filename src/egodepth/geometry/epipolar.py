"""Epipolar geometry of pairs of views of one unknown camera."""

from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.spatial.transform import Rotation

MIN_STRETCH = 0.3
"""Smallest factor by which the distortion scales a ray; below it, the polynomial folds back."""
FOCAL, K1 = 0, 3
SHARED, OWN = 4, 7
"""Indices of the log focal length and of k1; numbers of shared parameters and of each pair's own ones."""
ROTATION, DIRECTION, ROWS = slice(0, 3), slice(3, 5), slice(5, 7)
"""Slices of a pair's own parameters."""


class CameraAndMotions(NamedTuple):
    """Parameters: shared log focal length, principal point (2) and k1, in units of the longer side; and, for
    each pair, rotation (P, 3, 3), unit direction (P, 3), and shear and stretch along the rows (P, 2)."""

    shared: ndarray
    rotation: ndarray
    direction: ndarray
    rows: ndarray

    def of(self, pairs: ndarray) -> "CameraAndMotions":
        """Parameters of some of the pairs."""
        return CameraAndMotions(
            self.shared, self.rotation[pairs], self.direction[pairs], self.rows[pairs]
        )

    def at(self, log_focal: float) -> "CameraAndMotions":
        """Motions that move pixels approximately the same way at another focal length."""
        ratio = np.exp(log_focal - self.shared[FOCAL])
        turn = Rotation.from_matrix(self.rotation).as_rotvec() / [ratio, ratio, 1]
        direction = self.direction * [1, 1, ratio]
        shared = np.array([log_focal, *self.shared[1:]])
        return CameraAndMotions(shared, _rotations(turn), _normalised(direction), self.rows)


def sampson_distances(
    first: ndarray, second: ndarray, fundamental: ndarray, k1: float
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Sampson distances measured in the distorted images. In undistorted images, distances would shrink where
    points are pulled inwards, which would favour a wrong k1.

    Returns:
        (N, 9) rows whose product with the fundamental matrix is the distance; (2, N) weights of the squared
        slopes in the second and the first view; (N, 3) and (N, 3), the undistorted points of both views.
    """
    a, b = (np.column_stack([undistorted(p, k1), np.ones(len(p))]) for p in (first, second))
    stretch = [1 / (1 + 2 * k1 * (points[:, :2] ** 2).sum(1)) ** 2 for points in (b, a)]
    line_b, line_a = a @ fundamental.T, b @ fundamental
    squares = (line_b[:, :2] ** 2).sum(1) * stretch[0] + (line_a[:, :2] ** 2).sum(1) * stretch[1]
    rows = (b[:, :, None] * a[:, None, :]).reshape(-1, 9) / np.sqrt(squares)[:, None]
    return rows, np.array(stretch) / squares, a, b


def undistorted(points: ndarray, k1: float) -> ndarray:
    """Points (N, 2), relative to the image centre, without the distortion x (1 + k1 |x|^2)."""
    if k1 == 0:
        return points
    squares = k1 * (points**2).sum(-1, keepdims=True)
    scale = np.ones_like(squares)
    for _ in range(8):
        scale = 1 / np.maximum(1 + squares * scale**2, MIN_STRETCH)
    return points * scale


def essential_matrices(x: CameraAndMotions) -> ndarray:
    """Essential matrices (P, 3, 3) of the motions."""
    return np.asarray(cross_matrices(x.direction) @ x.rotation)


def fundamental_matrices(x: CameraAndMotions) -> ndarray:
    """Fundamental matrices (P, 3, 3), in units of the longer side."""
    return in_pixels(x.shared, essential_matrices(x))


def in_pixels(shared: ndarray, essential: ndarray) -> ndarray:
    """Fundamental matrices (..., P, 3, 3) of essential ones, given parameters (..., 4) of cameras."""
    focal, cx, cy = np.exp(shared[..., FOCAL]), shared[..., 1], shared[..., 2]
    inverse = np.zeros((*shared.shape[:-1], 1, 3, 3))
    inverse[..., 0, 0, 0] = inverse[..., 0, 1, 1] = 1 / focal
    inverse[..., 0, 0, 2], inverse[..., 0, 1, 2] = -cx / focal, -cy / focal
    inverse[..., 0, 2, 2] = 1
    return np.asarray(inverse.swapaxes(-1, -2) @ essential @ inverse)


def move_by(
    x: CameraAndMotions, free: list[int], shared: ndarray, own: ndarray
) -> CameraAndMotions:
    """Parameters after a step of the ``free`` shared ones and of each pair's own (P, 7)."""
    camera = x.shared.copy()
    camera[free] += shared
    direction = x.direction + (own[:, DIRECTION, None] * tangents(x.direction)).sum(1)
    return CameraAndMotions(
        camera, _rotations(own[:, ROTATION]) @ x.rotation, _normalised(direction),
        x.rows + own[:, ROWS],
    )  # fmt: skip


def _rotations(vectors: ndarray) -> ndarray:
    return np.asarray(Rotation.from_rotvec(vectors).as_matrix())


def _normalised(vectors: ndarray) -> ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def cross_matrices(vectors: ndarray) -> ndarray:
    """Matrices (..., 3, 3) of the cross product with vectors (..., 3)."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    matrices = np.zeros((*vectors.shape, 3))
    matrices[..., 0, 1], matrices[..., 0, 2] = -z, y
    matrices[..., 1, 0], matrices[..., 1, 2] = z, -x
    matrices[..., 2, 0], matrices[..., 2, 1] = -y, x
    return matrices


def tangents(directions: ndarray) -> ndarray:
    """Two orthogonal unit vectors (P, 2, 3) perpendicular to each direction."""
    cross = cross_matrices(directions)
    smallest = np.abs(directions).argmin(-1)
    beside = _normalised(cross[np.arange(len(directions)), :, smallest])
    return np.stack([beside, (cross @ beside[..., None])[..., 0]], axis=1)
