"""A camera's focal length and centre from matches of its own pictures alone.

Matches of two views tell the essential matrix, and only for the right focal length does a rigid motion explain
them: this minimises the distances to epipolar lines of all pairs at once, over one camera and a motion a pair.
A camera that moves without turning leaves the focal length open, which shows in its deviation. A lens that
bends lines is found in the same way, by one coefficient more, and taken where it is beyond doubt.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.spatial.transform import Rotation

NOISE = 0.3
"""Pixels by which a tracked corner is off; beyond it a match loses its weight (Cauchy)."""
CENTRE_DEVIATION = 0.01
"""How far the centre is expected from the middle of the image, as a share of its width."""
FOCAL_DEVIATION = 0.4
"""Of the logarithm of the focal length that is guessed at the start."""
STARTS = (0.6, 0.8, 1.0, 1.25, 1.6)
NEAR = (0.95, 1.0, 1.05)
RESTARTS = 4
"""Times the guess: descent from a focal length that is far off may end beside the best one."""
FEWEST_MATCHES, FEWEST_PAIRS = 50, 5
ROUNDS = 60
BEND_DEVIATION, NO_BEND = 0.2, 1e-6
"""How far k1 is expected from 0: with a lens that may bend lines, and without."""
BEND_ROUNDS = 2
"""Times that matches are chosen anew with the lens undone: with it, good ones at the border look wrong."""
SURE, LEAST_BEND = 4.0, 2.0
"""Deviations, and pixels at the corner of the image, that k1 must be off 0 to be taken."""
LARGEST_BEND = 0.4
"""Beyond it, k1 makes up for something else: a drive straight on, whose focal length is open, came to 0.45."""
LEAST_FACTOR = 0.3
"""Of a ray's length by the lens; beyond, the polynomial folds back."""
_SHARED, _OWN = 4, 6


class CameraEstimate(NamedTuple):
    """What the matches tell.

    Attributes:
        focal: in pixels; pixels are square.
        centre: (2,) in pixels.
        deviation: standard deviation of the focal length, relative, by how the pairs differ.
        pairs: of views that it rests on.
        bend: k1 of a lens that bends lines (Brown and Conrady), 0 where none is seen.
    """

    focal: float
    centre: Float64[ndarray, "2"]
    deviation: float
    pairs: int
    bend: float = 0.0


Matches = tuple[Float64[ndarray, "_ 2"], Float64[ndarray, "_ 2"]]
"""Pixels (x, y) in two views; pairs differ in how many they have."""


def estimate_camera(
    matches: list[Matches], height: int, width: int, guess: float
) -> CameraEstimate | None:
    """Focal length and centre of a pinhole camera with square pixels.

    Minimises Sampson's distances under Cauchy's loss, with weak priors at the guess and the middle of the
    image (Levenberg-Marquardt on all pairs together, from several starts). The deviation is that of the
    sandwich estimator over pairs, so that what a whole pair has wrong counts once.

    Args:
        matches: pixels (x, y) in both views, of each pair of views.
        height, width: of the images.
        guess: focal length in pixels that the prior holds to.

    Returns:
        None where fewer than five pairs have enough matches that agree on a fundamental matrix.
    """
    sound = [agreeing for pair in matches if (agreeing := _agreeing(*pair)) is not None]
    if len(sound) < FEWEST_PAIRS:
        return None
    problem = _Problem(sound, height, width, guess)
    focals = [factor * guess for factor in STARTS]
    best, x = np.inf, None
    # Pairs that start from a wrong motion stay there; close to the right focal length they start anew.
    for _ in range(RESTARTS):
        before = best
        for focal in focals:
            found = problem.descend(focal)
            if found is not None and found[0] < best:
                best, x = found
        if x is None or best > (1 - 1e-3) * before:
            break
        focals = [factor * problem.camera(x)[0] for factor in NEAR]
    if x is None:
        return None
    focal, centre = problem.camera(x)
    straight = CameraEstimate(focal, centre, float(problem.deviations(x)[0]), problem.pairs)
    return _with_bend(matches, height, width, guess, straight) or straight


def _with_bend(
    matches: list[Matches], height: int, width: int, guess: float, start: CameraEstimate
) -> CameraEstimate | None:
    """The estimate with a lens that bends lines, from one without; None where there is none to be seen."""
    found, x, problem = start, None, None
    for _ in range(BEND_ROUNDS):
        chosen = []
        for first, second in matches:
            kept = _agreeing_places(*(_unbend(p, found) for p in (first, second)))
            if kept is not None:
                chosen.append((first[kept], second[kept]))
        if len(chosen) < FEWEST_PAIRS:
            return None
        problem = _Problem(chosen, height, width, guess, BEND_DEVIATION)
        minimum = problem.descend(found.focal, found.bend)
        if minimum is None:
            return None
        x = minimum[1]
        focal, centre = problem.camera(x)
        found = CameraEstimate(focal, centre, 0.0, problem.pairs, float(x[3]))
    assert problem is not None and x is not None
    deviations = problem.deviations(x)
    corner = np.hypot(height, width) / 2
    moved = abs(found.bend) * corner * (corner / found.focal) ** 2
    sure = SURE * deviations[3] < abs(found.bend) < LARGEST_BEND
    if not sure or moved < LEAST_BEND:
        return None
    return found._replace(deviation=float(deviations[0]))


def _unbend(pixels: ndarray, camera: CameraEstimate) -> ndarray:
    """Pixels as a camera without the lens would have them."""
    rays = (pixels - camera.centre) / camera.focal
    return _straight(rays, camera.bend) * camera.focal + camera.centre


def _straight(rays: ndarray, bend: float) -> ndarray:
    """Rays (N, 2), z = 1, before the lens bent them: x_bent = x (1 + k1 |x|^2)."""
    straight = rays
    for _ in range(8):
        factor = 1 + bend * (straight**2).sum(-1, keepdims=True)
        straight = rays / np.maximum(factor, LEAST_FACTOR)
    return straight


def _agreeing(first: ndarray, second: ndarray) -> Matches | None:
    """The matches that one fundamental matrix explains."""
    kept = _agreeing_places(first, second)
    return None if kept is None else (first[kept], second[kept])


def _agreeing_places(first: ndarray, second: ndarray) -> ndarray | None:
    """Which matches one fundamental matrix explains; None where they are too few."""
    if len(first) < FEWEST_MATCHES:
        return None
    _, inliers = cv2.findFundamentalMat(first, second, cv2.USAC_MAGSAC, 1.0, 0.999, 2000)
    if inliers is None or inliers.sum() < FEWEST_MATCHES:
        return None
    return np.asarray(inliers[:, 0] > 0)


class _Problem:
    """Least squares over log(focal / width), the centre's shift as a share of the width, k1, and rotation
    vector and direction of each pair."""

    def __init__(
        self, matches: list[Matches], height: int, width: int, guess: float, bend: float = NO_BEND
    ):
        self.matches, self.width, self.bend_deviation = matches, width, bend
        self.middle = np.array([(width - 1) / 2, (height - 1) / 2])
        self.guess = np.log(guess / width)
        self._stack()

    def descend(self, focal: float, bend: float = 0.0) -> tuple[float, ndarray] | None:
        """Cost and parameters at the minimum next to a focal length and k1; None where the pairs have no
        motion."""
        motions = [self._motion(first, second, focal, bend) for first, second in self.matches]
        known = [motion for motion in motions if motion is not None]
        if len(known) < len(motions):
            self.matches = [
                pair for pair, m in zip(self.matches, motions, strict=True) if m is not None
            ]
            self._stack()
        if len(known) < FEWEST_PAIRS:
            return None
        return self.minimise(np.concatenate([[np.log(focal / self.width), 0.0, 0.0, bend], *known]))

    def _stack(self) -> None:
        self.pairs = len(self.matches)
        self.first = np.concatenate([first for first, _ in self.matches])
        self.second = np.concatenate([second for _, second in self.matches])
        self.pair = np.repeat(np.arange(self.pairs), [len(first) for first, _ in self.matches])

    def _motion(self, first: ndarray, second: ndarray, focal: float, bend: float) -> ndarray | None:
        """Rotation vector and direction by the essential matrix."""
        a, b = (_straight((pixels - self.middle) / focal, bend) for pixels in (first, second))
        essential, _ = cv2.findEssentialMat(
            a, b, np.eye(3), method=cv2.RANSAC, prob=0.999, threshold=1 / focal
        )
        if essential is None or essential.shape != (3, 3):
            return None
        _, rotation, translation, _ = cv2.recoverPose(essential, a, b, np.eye(3))
        return np.concatenate([Rotation.from_matrix(rotation).as_rotvec(), translation[:, 0]])

    def camera(self, x: ndarray) -> tuple[float, ndarray]:
        """Focal length and centre in pixels."""
        return float(np.exp(x[0]) * self.width), self.middle + x[1:3] * self.width

    def residuals(self, x: ndarray) -> ndarray:
        """Of all matches, then those of the priors: focal length, centre, k1, lengths of directions."""
        focal, centre = self.camera(x)
        motions = x[_SHARED:].reshape(-1, _OWN)
        lengths = np.linalg.norm(motions[:, 3:], axis=1)
        tx, ty, tz = (motions[:, 3:] / lengths[:, None]).T
        zero = np.zeros_like(tx)
        cross = np.array([[zero, -tz, ty], [tz, zero, -tx], [-ty, tx, zero]]).transpose(2, 0, 1)
        essential = (cross @ Rotation.from_rotvec(motions[:, :3]).as_matrix())[self.pair]
        a, b = (
            np.column_stack([_straight((pixels - centre) / focal, x[3]), np.ones(len(pixels))])
            for pixels in (self.first, self.second)
        )
        line_b = np.einsum("nij,nj->ni", essential, a)
        line_a = np.einsum("nij,ni->nj", essential, b)
        slope = np.sqrt((line_b[:, :2] ** 2).sum(1) + (line_a[:, :2] ** 2).sum(1))
        distance = focal / NOISE * (b * line_b).sum(1) / slope
        prior = [(x[0] - self.guess) / FOCAL_DEVIATION, *(x[1:3] / CENTRE_DEVIATION),
                 x[3] / self.bend_deviation]  # fmt: skip
        return np.concatenate([distance, prior, lengths - 1])

    def jacobian(self, x: ndarray, residuals: ndarray) -> ndarray:
        """By differences; the motions of all pairs at once, since no match sees two of them."""
        step, count = 1e-6, len(self.pair)
        jacobian = np.zeros((len(residuals), len(x)))
        for k in range(_SHARED):
            moved = x.copy()
            moved[k] += step
            jacobian[:, k] = (self.residuals(moved) - residuals) / step
        lengths = count + _SHARED + np.arange(self.pairs)
        for k in range(_OWN):
            moved = x.copy()
            moved[_SHARED + k :: _OWN] += step
            change = (self.residuals(moved) - residuals) / step
            columns = _SHARED + k + _OWN * np.arange(self.pairs)
            jacobian[np.arange(count), columns[self.pair]] = change[:count]
            jacobian[lengths, columns] = change[lengths]
        return jacobian

    def _weigh(self, residuals: ndarray) -> tuple[ndarray, float]:
        """Weights of the residuals under the robust loss, and the cost."""
        count = len(self.pair)
        squares = residuals**2
        weights = np.ones_like(residuals)
        weights[:count] = 1 / (1 + squares[:count])
        return weights, 0.5 * float(np.log1p(squares[:count]).sum() + squares[count:].sum())

    def minimise(self, x: ndarray) -> tuple[float, ndarray]:
        """Cost and parameters at the minimum next to x."""
        damping, residuals = 1e-3, self.residuals(x)
        weights, cost = self._weigh(residuals)
        for _ in range(ROUNDS):
            jacobian = self.jacobian(x, residuals)
            hessian = jacobian.T @ (jacobian * weights[:, None])
            gradient = jacobian.T @ (weights * residuals)
            while True:
                scaled = hessian + damping * np.diag(np.diag(hessian) + 1e-9)
                moved = x - np.linalg.solve(scaled, gradient)
                moved_residuals = self.residuals(moved)
                moved_weights, moved_cost = self._weigh(moved_residuals)
                if moved_cost < cost:
                    break
                damping *= 10
                if damping > 1e8:
                    return cost, x
            gain = (cost - moved_cost) / cost
            x, residuals, weights, cost = moved, moved_residuals, moved_weights, moved_cost
            damping = max(damping / 10, 1e-9)
            if gain < 1e-6:
                break
        return cost, x

    def deviations(self, x: ndarray) -> ndarray:
        """Of the shared parameters: the larger of what the matches and what the pairs tell."""
        residuals = self.residuals(x)
        weights, _ = self._weigh(residuals)
        jacobian = self.jacobian(x, residuals)
        inverse = np.linalg.inv(jacobian.T @ (jacobian * weights[:, None]))
        scores = np.zeros((self.pairs, len(x)))
        np.add.at(scores, self.pair, (jacobian * (weights * residuals)[:, None])[: len(self.pair)])
        between = inverse @ scores.T @ scores @ inverse
        shared = np.arange(_SHARED)
        return np.sqrt(np.maximum(inverse[shared, shared], between[shared, shared]))
