"""Pose graph over Sim(3): poses, with a scale each, that agree best with measured relative poses.

With scales, since monocular scale drifts: Strasdat et al., "Scale drift-aware large scale monocular SLAM", RSS
2010. Loops that may be wrong are selected by pairwise consistency: Mangelson et al., "Pairwise consistent
measurement set maximization for robust multi-robot map merging", ICRA 2018.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from torch import Tensor

from egodepth.geometry import se3, sim3

DOF = 7
"""Unknowns per pose: axis-angle, translation, log scale."""
MAX_STEPS, TOLERANCE, MAX_DAMPING = 50, 1e-6, 1e6
"""Maximum number of Gauss-Newton steps; relative decrease of the cost that ends them, and damping that does."""
MAX_DEVIATIONS = 5.0
"""Norm of an error, in standard deviations, above which two loops contradict each other; seven normal errors
exceed it once in 1,500 times."""
DRIFT_FACTOR = 3.0
"""A loop contradicts the path itself at this many times more, since drift in one direction exceeds a random
walk."""
SEEDS, PAIRS_AT_ONCE = 10, 20_000
"""Loops with the most others that agree, from each of which a group is grown; pairs compared at once, which
bounds memory."""


@dataclass(frozen=True)
class Edges:
    """Measured relative poses of pairs of nodes.

    Attributes:
        first, second: (E,) indices of the nodes.
        first_from_second: (E, 4, 4) similarities.
        deviation: (E, 7) standard deviations: axis-angle in radians, translation in the unit of the second
            node, log scale.
    """

    first: Int[Tensor, " e"]
    second: Int[Tensor, " e"]
    first_from_second: Float[Tensor, "e 4 4"]
    deviation: Float[Tensor, "e 7"]

    def errors(self, world_from_node: Float[Tensor, "n 4 4"]) -> Float[Tensor, "e 7"]:
        """Differences from the measurements, in standard deviations."""
        return sim3.difference(self._remaining(world_from_node)[0]) / self.deviation

    def derivatives(self, world_from_node: Float[Tensor, "n 4 4"]) -> Float[Tensor, "e 7 14"]:
        """Derivatives of :meth:`errors` with respect to steps on the first and the second nodes' side."""
        remaining, relative = self._remaining(world_from_node)
        scale = sim3.scale_of(relative)[:, None, None]
        turn = _inverse_right_jacobian(sim3.difference(remaining)[:, :3])
        back = sim3.inverse(self.first_from_second)[:, :3, :3]
        shift = relative[:, :3, 3]
        rows = remaining.new_zeros(len(relative), DOF, 2 * DOF)
        rows[:, :3, :3] = -turn @ relative[:, :3, :3].mT / scale
        rows[:, 3:6, :3] = back @ se3.hat(shift)
        rows[:, 3:6, 3:6] = -back
        rows[:, 3:6, 6] = -(back @ shift[..., None])[..., 0]
        rows[:, 6, 6] = -1
        rows[:, :3, DOF : DOF + 3] = turn
        rows[:, 3:6, DOF + 3 : DOF + 6] = remaining[:, :3, :3]
        rows[:, 6, 2 * DOF - 1] = 1
        return rows / self.deviation[..., None]

    def _remaining(self, world_from_node: Tensor) -> tuple[Tensor, Tensor]:
        """What is left of the estimated ``first_from_second`` without the measured one, and the former."""
        relative = sim3.inverse(world_from_node[self.first]) @ world_from_node[self.second]
        return sim3.inverse(self.first_from_second) @ relative, relative


def _inverse_right_jacobian(axis_angle: Tensor) -> Tensor:
    """Derivative (..., 3, 3) of the logarithm of a rotation with respect to a small one on its right."""
    skew = se3.hat(axis_angle)
    angle = axis_angle.norm(dim=-1)[..., None, None].clamp(min=1e-4)
    square = 1 / angle**2 - (1 + angle.cos()) / (2 * angle * angle.sin())
    eye = torch.eye(3, dtype=axis_angle.dtype)
    return eye + skew / 2 + torch.where(angle > 1e-3, square, 1 / 12) * (skew @ skew)


def select_loops(
    loops: Edges,
    path: Float[Tensor, "n 4 4"],
    deviation: Float[Tensor, "s 7"],
    segments: Int[Tensor, " n"] | None = None,
) -> Bool[Tensor, " e"]:
    """The largest set found of loops that agree with each other and with the path; a loop that no other one
    between the same segments supports is left out.

    Two loops agree if going by one, along the path, and back by the other ends near the start, within what both
    loops and the parts of the path between their ends are uncertain by. Of motion between segments nothing is
    known, so loops whose ends lie in different ones cannot contradict each other.

    Args:
        loops: measured relative poses of nodes of the path, float64.
        path: (N, 4, 4) ``world_from_node`` before correction.
        deviation: (N - 1, 7) standard deviations of its steps, as those of :class:`Edges`.
        segments: (N,) of the path that each node belongs to, ascending; by default there is only one.
    """
    segments = torch.zeros(len(path), dtype=torch.int64) if segments is None else segments
    count = len(loops.first)
    step = sim3.adjoint(path[1:]) * deviation[:, None]
    covariance = torch.cat([path.new_zeros(1, DOF, DOF), (step @ step.mT).cumsum(0)])
    own = torch.diag_embed(loops.deviation.square())
    back = sim3.adjoint(sim3.inverse(path))

    def between(start: Tensor, end: Tensor) -> Tensor:
        """Covariance of the path between nodes, on the end's side."""
        world = covariance[end] - covariance[start]
        world = torch.where((end < start)[..., None, None], -world, world)
        return back[end] @ world @ back[end].mT

    along = between(loops.first, loops.second)
    drift = own + along * DRIFT_FACTOR**2
    plausible = _distance(loops.errors(path) * loops.deviation, drift) < MAX_DEVIATIONS
    ends = torch.stack([segments[loops.first], segments[loops.second]], 1)
    plausible |= ends[:, 0] != ends[:, 1]
    agree = torch.zeros(count, count, dtype=torch.bool)
    for rows in torch.arange(count).split(max(1, PAIRS_AT_ONCE // count)):
        a, b = rows.repeat_interleave(count), torch.arange(count).repeat(len(rows))
        there = sim3.inverse(path[loops.first[a]]) @ path[loops.first[b]]
        rest = (
            loops.first_from_second[b] @ sim3.inverse(path[loops.second[b]]) @ path[loops.second[a]]
        )
        circle = sim3.inverse(loops.first_from_second[a]) @ there @ rest
        moved = sim3.adjoint(sim3.inverse(rest))
        last = sim3.adjoint(sim3.inverse(path[loops.second[a]]) @ path[loops.second[b]])
        total = (
            own[a]
            + between(loops.second[b], loops.second[a])
            + last @ own[b] @ last.mT
            + moved @ between(loops.first[a], loops.first[b]) @ moved.mT
        )
        near = _distance(sim3.difference(circle), total) < MAX_DEVIATIONS
        near |= (ends[a] != ends[b]).any(1)
        agree[rows] = near.view(len(rows), count)
    group = _largest_group(agree & agree.mT & plausible[:, None] & plausible, loops.second)
    supported = torch.zeros_like(group)
    for pair in ends[group].unique(dim=0):
        between_both = group & (ends == pair).all(1)
        if len(loops.second[between_both].unique()) > 1:
            supported |= between_both
    return supported


def _distance(error: Tensor, covariance: Tensor) -> Tensor:
    """Norm (E,) of errors (E, 7) in standard deviations."""
    solved = torch.linalg.solve(covariance, error[..., None])[..., 0]
    return (error * solved).sum(-1).clamp(min=0).sqrt()


def _largest_group(agree: Tensor, second: Tensor) -> Tensor:
    """Mark a large set of loops that all agree, found greedily; empty if all end in one node."""
    best = torch.zeros(len(agree), dtype=torch.bool)
    for seed in agree.sum(1).argsort(descending=True)[:SEEDS].tolist():
        open_, group = agree[seed].clone(), torch.zeros_like(best)
        for place in (agree & open_).sum(1).argsort(descending=True).tolist():
            if open_[place]:
                group[place] = True
                open_ &= agree[place]
        if group.sum() > best.sum() and len(second[group].unique()) > 1:
            best = group
    return best


def join_segments(
    loops: Edges, path: Float[Tensor, "n 4 4"], segments: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n 4 4"], Int[Tensor, " n"]]:
    """Move segments that loops connect into one world, by the first loop between each two.

    Args:
        loops: that are right.
        path: (N, 4, 4) ``world_from_node``, in a world of each segment's own.
        segments: (N,) of the nodes.

    Returns:
        The nodes (N, 4, 4) in the world of the earliest segment that theirs is joined with; its number (N,).
    """
    moved, part = path.clone(), segments.clone()
    for first, second, motion in zip(
        loops.first, loops.second, loops.first_from_second, strict=True
    ):
        if part[first] == part[second]:
            continue
        early, late = (first, second) if part[first] < part[second] else (second, first)
        early_from_late = motion if early is first else sim3.inverse(motion)
        change = moved[early] @ early_from_late @ sim3.inverse(moved[late])
        own = part == part[late]
        moved[own] = change @ moved[own]
        part[own] = part[early].clone()
    return moved, part


def optimize(
    edges: Edges, start: Float[Tensor, "n 4 4"], fixed: Bool[Tensor, " n"]
) -> Float[Tensor, "n 4 4"]:
    """Find the poses with the smallest sum of squared errors, by damped Gauss-Newton on the sparse normal
    equations.

    Args:
        edges: float64.
        start: (N, 4, 4) float64, initial ``world_from_node``.
        fixed: (N,) nodes to keep, at least one in each connected part.
    """
    poses, damping = start, 1e-6
    cost = float(edges.errors(poses).square().sum())
    for _ in range(MAX_STEPS):
        proposed = poses @ sim3.retract(_step(edges, poses, fixed, damping))
        new = float(edges.errors(proposed).square().sum())
        if new <= cost:
            small = cost - new <= TOLERANCE * cost
            poses, cost, damping = proposed, new, max(damping / 10, 1e-9)
            if small:
                break
        else:
            damping *= 10
            if damping > MAX_DAMPING:
                break
    return poses


def _step(edges: Edges, poses: Tensor, fixed: Tensor, damping: float) -> Tensor:
    """Step (N, 7), applied on the nodes' side."""
    count = len(poses)
    rows, error = edges.derivatives(poses).numpy(), edges.errors(poses).numpy()
    unknown = torch.stack([edges.first, edges.second], 1)[..., None] * DOF + torch.arange(DOF)
    at = np.broadcast_to(np.arange(error.size).reshape(-1, DOF)[:, :, None], rows.shape)
    to = np.broadcast_to(unknown.flatten(1).numpy()[:, None], rows.shape)
    shape = (error.size, count * DOF)
    jacobian = coo_matrix((rows.ravel(), (at.ravel(), to.ravel())), shape).tocsc()
    free = np.flatnonzero(np.repeat(~fixed.numpy(), DOF))
    jacobian = jacobian[:, free]
    hessian = jacobian.T @ jacobian
    hessian = hessian + diags(hessian.diagonal() * damping + 1e-12)
    step = np.zeros(count * DOF)
    factors = splu(hessian.tocsc(), "MMD_AT_PLUS_A", options={"SymmetricMode": True})
    step[free] = -factors.solve(jacobian.T @ error.ravel())
    return torch.from_numpy(step).view(count, DOF)
