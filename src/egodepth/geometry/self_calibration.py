"""Self-calibration: focal length, principal point and radial distortion from matches between images.

Matches of two views give a fundamental matrix, which is that of a rigid motion only for the right focal length.
One camera and one motion per pair of views are fitted to all pairs at once. Given the camera, a pair's cost
depends almost only on its fundamental matrix, so each pair is compressed to a quadratic form of it, which makes
scans over focal lengths fast.

Many errors of matches look like another focal length. Forward motion of a car is nearly degenerate: hardly
anything but rotation times focal length is observable, and other cars and a rolling shutter have larger effects
on the image, which consistently favour short focal lengths. An estimate therefore says whether the data
determine it, and if not, why.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from egodepth.geometry.epipolar import (
    FOCAL,
    K1,
    OWN,
    ROWS,
    SHARED,
    CameraAndMotions,
    cross_matrices,
    essential_matrices,
    fundamental_matrices,
    in_pixels,
    move_by,
    sampson_distances,
    tangents,
    undistorted,
)

NOISE = 0.3
"""Error of a tracked corner in pixels; matches with larger errors lose weight (Cauchy)."""
ROW_DEVIATION = 1e-3
"""Prior standard deviation of the shear and stretch of a pair's second view along its rows, as of a rolling
shutter of 20 ms in a car whose pitch and yaw rates change by 3 degrees per second. Keeps small rotations from
determining the focal length."""
FOCAL_PRIOR, FOCAL_DEVIATION = 0.75, 0.4
"""Prior: focal length over the longer side of the image, and standard deviation of its logarithm: fields of
view of 48 to 90 degrees for 68 % of cameras, 33 to 112 for 95 %. Phone cameras (24 to 28 mm equivalent,
cropped by stabilisation) have 60 to 70 degrees, webcams 55 to 70, KITTI 81, dash and action cameras 80 to 120,
zoom lenses 30 to 65. A weak prior: data that determine the focal length outweigh it."""
CENTRE_DEVIATION = 0.01
"""Prior standard deviation of the principal point from the image centre, over the longer side."""
K1_DEVIATION = 0.1
"""Prior standard deviation of k1, for coordinates in units of the longer side."""
SCAN = tuple(0.5 / np.tan(np.radians(np.array([30, 37, 45, 55, 67, 80, 95, 112, 130])) / 2))
"""Focal lengths over the longer side from which minimisation starts."""
MIN_MATCHES, MIN_PAIRS = 50, 5
CHOICES = 2
"""Rounds of inlier selection: the second undoes the distortion, which makes good matches near the border look
like outliers."""
REWEIGHTINGS, ROUNDS = 3, 40
MIN_K1_SIGNIFICANCE, MIN_K1_PIXELS, MAX_K1 = 4.0, 2.0, 0.4
"""k1 in standard deviations, and its displacement of an image corner in pixels, from which k1 is used; above
MAX_K1 it compensates for something else."""
MAX_DEVIATION, MAX_DEVIATION_OF_PAIRS = 0.035, 0.02
"""Largest relative standard deviations of a focal length that counts as determined: from the shape of the
minimum, and from the differences between pairs."""
MIN_COMMON_FOCAL, MAX_COMMON_FOCAL, UNCOMMON_FACTOR = 0.458, 1.374, 0.5
"""Focal lengths over the longer side (95 and 40 degrees) beyond which cameras are rare, but most false minima
caused by traffic are found: there the deviations must be smaller by this factor."""
MAX_DISAGREEMENT = 0.1
"""Largest relative difference of focal lengths from halves of the pairs."""
MIN_FOCAL, MAX_FOCAL = 0.24, 1.9
"""Focal lengths over the longer side (129 and 30 degrees) outside which an estimate counts as undetermined."""
_STEP, _K1_STEP = 1e-6, 1e-4
_TURNS = cross_matrices(np.eye(3))


class CameraEstimate(NamedTuple):
    """Estimated camera, and whether the matches determine it.

    Attributes:
        focal: in pixels; pixels are square.
        centre: (2,) principal point in pixels.
        deviation: relative standard deviation of the focal length, the larger of the one from the shape of the
            minimum and the one from the differences between pairs.
        pairs: number of pairs of views used.
        k1: radial distortion (Brown and Conrady), 0 if none is significant.
        doubt: why the data do not determine the focal length; empty if they do.
    """

    focal: float
    centre: Float64[ndarray, "2"]
    deviation: float
    pairs: int
    k1: float = 0.0
    doubt: str = ""


CornerMatches = tuple[Float64[ndarray, "_ 2"], Float64[ndarray, "_ 2"]]
"""Pixels (x, y) in two views; their number differs between pairs."""


def estimate_camera(matches: list[CornerMatches], height: int, width: int) -> CameraEstimate | None:
    """Estimate focal length, principal point and k1 of a camera with square pixels, and whether the data
    determine them.

    Minimises robust distances to epipolar lines (Sampson, Cauchy) over all pairs, with weak priors, starting
    from the best of a scan over focal lengths. The focal length counts as determined if

    - the minimum is narrow, although each pair may be slightly deformed along its rows;
    - the pairs agree on it (sandwich estimator), and halves of them lead to the same focal length;
    - it is in the range of real cameras, and the minimum is narrower still where cameras are rare.

    Args:
        matches: pixels (x, y) in both views, for each pair of views.
        height, width: of the images.

    Returns:
        The estimate; None if fewer than MIN_PAIRS pairs have enough matches that fit a fundamental matrix.
    """
    side = max(height, width)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    scaled = [((first - middle) / side, (second - middle) / side) for first, second in matches]
    k1, problem, x = 0.0, None, None
    for _ in range(CHOICES):
        chosen = [pair for match in scaled if (pair := _agreeing(*match, side, k1)) is not None]
        if len(chosen) < MIN_PAIRS:
            return None
        problem = _Problem(
            [pair[:2] for pair in chosen], np.array([f for *_, f in chosen]), side, k1
        )
        x = problem.descend()
        k1 = float(x.shared[K1])
    assert problem is not None and x is not None
    focal = float(np.exp(x.shared[FOCAL]))
    shape, between = problem.deviations(x)
    doubt = _doubt(problem, x, shape[FOCAL], between[FOCAL])
    corner = np.hypot(height, width) / 2 / side
    significant = abs(k1) > MIN_K1_SIGNIFICANCE * max(shape[K1], between[K1])
    if not significant or abs(k1) * corner**3 * side < MIN_K1_PIXELS or doubt:
        k1 = 0.0
    elif abs(k1) * focal**2 > MAX_K1:
        k1, doubt = 0.0, "only a distortion that no lens has would explain the matches"
    return CameraEstimate(
        focal * side, middle + x.shared[1:3] * side, float(max(shape[0], between[0])),
        problem.pairs, k1 * focal**2, doubt,
    )  # fmt: skip


def _doubt(problem: "_Problem", x: CameraAndMotions, shape: float, between: float) -> str:
    """Why the focal length is not determined; empty if it is."""
    focal = np.exp(x.shared[FOCAL])
    if not MIN_FOCAL < focal < MAX_FOCAL:
        return "the best one is beyond what cameras have"
    limit = 1.0 if MIN_COMMON_FOCAL < focal < MAX_COMMON_FOCAL else UNCOMMON_FACTOR
    if shape > limit * MAX_DEVIATION:
        return "the camera turns too little"
    if between > limit * MAX_DEVIATION_OF_PAIRS:
        return "pairs of frames disagree"
    order = np.arange(problem.pairs)
    for half in (order % 2 == 0, order % 2 == 1, order * 2 < len(order), order * 2 >= len(order)):
        part = problem.of(half)
        if part.pairs < MIN_PAIRS:
            return "too few pairs"
        y = part.descend(x.of(half))
        apart = abs(y.shared[FOCAL] - x.shared[FOCAL])
        if apart > max(MAX_DISAGREEMENT, 3 * part.deviations(y)[0][FOCAL]):
            return "halves of the frames disagree"
    return ""


class _Problem:
    """Least squares over one camera and the motions of all pairs, in units of the longer side."""

    def __init__(self, matches: list[CornerMatches], fundamental: ndarray, side: int, k1: float):
        self.matches, self.fundamental, self.side = matches, fundamental, side
        self.pairs = len(matches)
        self.mean = np.array([np.log(FOCAL_PRIOR), 0.0, 0.0, 0.0])
        self.spread = np.array([FOCAL_DEVIATION, CENTRE_DEVIATION, CENTRE_DEVIATION, K1_DEVIATION])
        self._compress(fundamental, k1)

    def of(self, chosen: ndarray) -> "_Problem":
        """The problem for some of the pairs."""
        matches = [self.matches[i] for i in np.flatnonzero(chosen)]
        return _Problem(matches, self.fundamental[chosen], self.side, self.k1)

    def descend(self, start: CameraAndMotions | None = None) -> CameraAndMotions:
        """The lowest minimum found from a scan over focal lengths and from ``start``."""
        scan = self._scan()
        found = [scan[place] for place in np.argsort([self.cost(x) for x in scan])[:2]]
        minima = [self.minimise(x) for x in (found if start is None else [*found, start])]
        x = min(minima, key=self.cost)
        for _ in range(REWEIGHTINGS):
            self._compress(fundamental_matrices(x), float(x.shared[K1]))
            x = self.minimise(x)
        return x

    def _scan(self) -> list[CameraAndMotions]:
        """Minima at fixed focal lengths. Each pair starts from its fundamental matrix or from its motion at a
        neighbouring focal length, whichever costs less."""
        logs = np.log(SCAN)
        scan: dict[int, CameraAndMotions] = {}
        middle = len(logs) // 2
        for place in [*range(middle, len(logs)), *range(middle - 1, -1, -1)]:
            fresh = self._from_fundamental(float(logs[place]))
            beside = [scan[k].at(float(logs[place])) for k in (place - 1, place + 1) if k in scan]
            start = self._best([*(fresh._replace(shared=b.shared) for b in beside[:1]), *beside]
                               if beside else [fresh])  # fmt: skip
            scan[place] = self.minimise(start, free=[1, 2, 3], rounds=15, tolerance=1e-4)
        return [scan[place] for place in range(len(logs))]

    def _best(self, states: list[CameraAndMotions]) -> CameraAndMotions:
        """Choose the motion of least cost for each pair."""
        which = np.argmin([self._pair_costs(x) for x in states], axis=0)
        every = np.arange(self.pairs)
        motions = [
            np.stack(values)[which, every] for values in zip(*(x[1:] for x in states), strict=True)
        ]
        return CameraAndMotions(states[0].shared, *motions)

    def _from_fundamental(self, log_focal: float) -> CameraAndMotions:
        """Motions from the essential matrices nearest to the pairs' fundamental matrices."""
        scale = np.diag([np.exp(log_focal), np.exp(log_focal), 1.0])
        u, _, v = np.linalg.svd(scale @ self.fundamental @ scale)
        quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        both = np.stack([u @ quarter @ v, u @ quarter.T @ v])
        both *= np.sign(np.linalg.det(both))[..., None, None]
        # An essential matrix has two rotations, half a turn apart; take the smaller.
        near = np.argmax(np.trace(both, axis1=2, axis2=3), axis=0)
        shared = np.array([log_focal, 0.0, 0.0, self.k1])
        rotation = both[near, np.arange(self.pairs)]
        return CameraAndMotions(shared, rotation, u[:, :, 2], np.zeros((self.pairs, 2)))

    def _compress(self, fundamental: ndarray, k1: float) -> None:
        """Compute the quadratic forms of all pairs, with matches weighted by their distances under fundamental
        matrices (P, 3, 3).

        Except for its denominator, a match's distance is linear in the fundamental matrix. It is expanded to
        first order in k1 with a fixed denominator; the mean denominator of a pair is kept as a quadratic form
        of its own, by which :meth:`_vectors` normalises.
        """
        self.k1 = k1
        forms, norms = [], []
        for (first, second), f in zip(self.matches, fundamental, strict=True):
            rows, slopes, a, b = sampson_distances(first, second, f, k1)
            ahead = sampson_distances(first, second, f, k1 + _K1_STEP)[0]
            rows = np.column_stack([rows, (ahead - rows) / _K1_STEP]) * self.side / NOISE
            weights = 1 / (1 + (rows[:, :9] @ f.reshape(9)) ** 2)
            forms.append((rows * weights[:, None]).T @ rows)
            share = weights / weights.sum()
            norm = np.zeros((3, 3, 3, 3))
            for k in range(2):
                norm[k, :, k, :] += (a * (share * slopes[0])[:, None]).T @ a
                norm[:, k, :, k] += (b * (share * slopes[1])[:, None]).T @ b
            norms.append(norm.reshape(9, 9))
        self.forms, self.norms = np.array(forms), np.array(norms)

    def _vectors(self, shared: ndarray, essential: ndarray, rows: ndarray) -> ndarray:
        """Vectors (..., P, 18) of cameras (..., 4) and motions (..., P, 3, 3) and (..., P, 2): fundamental
        matrices, scaled so that distances are in pixels, and their products with the change of k1."""
        matrix = in_pixels(shared, essential)
        stretched = matrix[..., 0] * rows[..., :1] + matrix[..., 1] * (1 + rows[..., 1:])
        vector = np.stack([matrix[..., 0], stretched, matrix[..., 2]], axis=-1)
        vector = vector.reshape(*vector.shape[:-2], 9)
        squares = ((vector[..., None, :] @ self.norms)[..., 0, :] * vector).sum(-1)
        vector /= np.sqrt(squares)[..., None]
        return np.concatenate([vector, (shared[..., None, K1:] - self.k1) * vector], axis=-1)

    def _pair_costs(self, x: CameraAndMotions) -> ndarray:
        vector = self._vectors(x.shared, essential_matrices(x), x.rows)
        distances = np.einsum("pi,pij,pj->p", vector, self.forms, vector)
        return 0.5 * (distances + (x.rows**2).sum(1) / ROW_DEVIATION**2)

    def cost(self, x: CameraAndMotions) -> float:
        """Half the sum of squared residuals, priors included."""
        prior = (x.shared - self.mean) / self.spread
        return float(self._pair_costs(x).sum() + 0.5 * (prior**2).sum())

    def _normal(self, x: CameraAndMotions, free: list[int]) -> tuple[ndarray, ...]:
        """Normal equations of each pair: Hessian blocks of shared parameters, shared and own, and own ones; and
        the gradients of both."""
        essential = essential_matrices(x)
        turned = cross_matrices(x.direction)[:, None] @ (_TURNS @ x.rotation[:, None])
        aside = cross_matrices(tangents(x.direction)) @ x.rotation[:, None]
        # In one call: x itself, then x with each of its parameters moved a little.
        count = 1 + len(free) + OWN
        cameras = np.tile(x.shared, (count, 1))
        cameras[range(1, 1 + len(free)), free] += _STEP
        motions, rows = (np.tile(v, (count, *[1] * v.ndim)) for v in (essential, x.rows))
        first = 1 + len(free)
        moves = np.concatenate([turned, aside], axis=1).swapaxes(0, 1)
        motions[first : first + ROWS.start] += _STEP * moves
        rows[first + ROWS.start :] += _STEP * np.eye(2)[:, None]
        vector, *moved = self._vectors(cameras, motions, rows)
        change = (np.stack(moved, axis=-1) - vector[..., None]) / _STEP
        by_shared, by_own = change[..., : len(free)], change[..., len(free) :]
        weighted, residual = self.forms @ by_own, (self.forms @ vector[..., None])
        own_own = by_own.transpose(0, 2, 1) @ weighted
        own_gradient = (by_own.transpose(0, 2, 1) @ residual)[..., 0]
        places = np.arange(OWN)[ROWS]
        own_own[:, places, places] += 1 / ROW_DEVIATION**2
        own_gradient[:, ROWS] += x.rows / ROW_DEVIATION**2
        # The direction of a pair without translation is undetermined.
        own_own += 1e-6 * np.eye(OWN)
        transposed = by_shared.transpose(0, 2, 1)
        return (
            transposed @ self.forms @ by_shared, transposed @ weighted, own_own,
            (transposed @ residual)[..., 0], own_gradient,
        )  # fmt: skip

    def minimise(
        self,
        x: CameraAndMotions,
        free: list[int] | None = None,
        rounds: int = ROUNDS,
        tolerance: float = 1e-6,
    ) -> CameraAndMotions:
        """Descend to the minimum near ``x`` (Levenberg-Marquardt; the pairs' own parameters are eliminated).

        Args:
            x: start.
            free: indices of the shared parameters to change; all by default.
            rounds: maximum number of steps.
            tolerance: relative decrease of the cost below which a step is the last.
        """
        free = list(range(SHARED)) if free is None else free
        spread, damping, cost = self.spread[free], 1e-3, self.cost(x)
        for _ in range(rounds):
            shared, mixed, own, shared_gradient, own_gradient = self._normal(x, free)
            prior = (x.shared - self.mean)[free] / spread**2
            total, gradient = shared.sum(0) + np.diag(1 / spread**2), shared_gradient.sum(0) + prior
            while True:
                right = np.concatenate([mixed.transpose(0, 2, 1), own_gradient[..., None]], axis=-1)
                solved = np.linalg.solve(own * (1 + damping * np.eye(OWN)), right)
                reduced = (mixed @ solved).sum(0)
                step = -np.linalg.solve(
                    total * (1 + damping * np.eye(len(free))) - reduced[:, :-1],
                    gradient - reduced[:, -1],
                )
                moved = move_by(x, free, step, -solved[..., -1] - solved[..., :-1] @ step)
                moved_cost = self.cost(moved)
                if moved_cost < cost:
                    break
                damping *= 10
                if damping > 1e6:
                    return x
            gain = (cost - moved_cost) / cost
            x, cost, damping = moved, moved_cost, max(damping / 10, 1e-9)
            if gain < tolerance:
                break
        return x

    def deviations(self, x: CameraAndMotions) -> tuple[ndarray, ndarray]:
        """Standard deviations of the shared parameters: from the shape of the minimum, and from the differences
        between pairs (sandwich estimator)."""
        shared, mixed, own, gradient, own_gradient = self._normal(x, list(range(SHARED)))
        right = np.concatenate([mixed.transpose(0, 2, 1), own_gradient[..., None]], axis=-1)
        reduced = mixed @ np.linalg.solve(own, right)
        inverse = np.linalg.inv(
            shared.sum(0) + np.diag(1 / self.spread**2) - reduced[..., :-1].sum(0)
        )
        scores = gradient - reduced[..., -1]
        between = inverse @ scores.T @ scores @ inverse
        return np.sqrt(np.diag(inverse)), np.sqrt(np.diag(between))


def _agreeing(
    first: ndarray, second: ndarray, side: int, k1: float
) -> tuple[ndarray, ndarray, ndarray] | None:
    """Matches that fit one fundamental matrix (inliers), and the matrix; None if they are too few."""
    if len(first) < MIN_MATCHES:
        return None
    a, b = (undistorted(points, k1) * side for points in (first, second))
    found, inliers = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 1.0, 0.999, 2000)
    if found is None or found.shape != (3, 3) or inliers is None or inliers.sum() < MIN_MATCHES:
        return None
    kept = inliers[:, 0] > 0
    scaled = found * np.outer([side, side, 1], [side, side, 1])
    return first[kept], second[kept], scaled / np.linalg.norm(scaled)
