"""Direct bundle adjustment of a window of frames: poses and depth together.

Some frames are hosts: their points have an inverse depth from DepthNet, corrected by one scale per host and
one factor per point. Every observer is compared with every host at the projections of the host's points.
Brightness is not solved for, since one gain per frame drifts down from frame to frame; maps should be
invariant to it (:func:`~.bundle_points.normalized_brightness`). Engel et al., "Direct sparse odometry", PAMI
2018; a depth network as the prior as in Yang et al., "Deep virtual stereo odometry", ECCV 2018.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.bundle_points import BundlePoints
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import MIN_SOURCE_DEPTH, sample_with_slopes_at

FRAME_DOF = 7
"""Unknowns per frame: twist (6) and log scale of its depth."""
LOG_SCALE = 6
MIN_NOISE = 1e-4
"""Smallest scale of the robust cost, for maps that are equal."""


@dataclass(frozen=True)
class BundleState:
    """Unknowns of bundle adjustment: K frames, the first H of them hosts.

    Attributes:
        camera_from_world: (K, 4, 4).
        log_scale: (K,), log scale of the inverse depth of a host's points; unused for other frames.
        factor: (H, M), log of each point's factor of inverse depth.
    """

    camera_from_world: Float[Tensor, "k 4 4"]
    log_scale: Float[Tensor, " k"]
    factor: Float[Tensor, "h m"]

    def moved(self, step: Float[Tensor, "k 7"], factors: Float[Tensor, "h m"]) -> "BundleState":
        """Return the state after a step; twists are applied on the cameras' side."""
        return BundleState(
            se3.exp(step[:, :6]) @ self.camera_from_world,
            self.log_scale + step[:, LOG_SCALE],
            self.factor + factors,
        )


@dataclass(frozen=True)
class BundleSettings:
    """Settings of bundle adjustment.

    Attributes:
        iterations: maximum number.
        scale_deviation: prior standard deviation of the log scale of a host's depth.
        factor_deviation: prior standard deviation of a point's log factor.
        damping: initial damping.
        tolerance: relative decrease of the cost below which a step is the last.
    """

    iterations: int = 3
    scale_deviation: float = 0.3
    factor_deviation: float = 1.0
    damping: float = 1e-4
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Window:
    """Observations of bundle adjustment.

    Attributes:
        points: of H hosts.
        maps: (O, C, h, w) of the observers.
        observers: (O,) their indices among the frames of the state.
        camera: for the maps' size, unbatched.
    """

    points: BundlePoints
    maps: Float[Tensor, "o c h w"]
    observers: Int[Tensor, " o"]
    camera: Camera


@dataclass(frozen=True)
class _System:
    """Normal equations at a state: blocks of frames, of points, and between both.

    Attributes:
        hessian, gradient: (7 K, 7 K) and (7 K,), of the frames.
        coupling: (H, M, 7 K), between points and frames.
        point_hessian, point_gradient: (H, M), of the log factors.
    """

    hessian: Tensor
    gradient: Tensor
    coupling: Tensor
    point_hessian: Tensor
    point_gradient: Tensor


def adjust(
    window: Window,
    state: BundleState,
    free: Bool[Tensor, " k"],
    settings: BundleSettings,
) -> tuple[BundleState, Float[Tensor, "o h m"]]:
    """Minimise the robust error of all observations by damped Gauss-Newton.

    The cost of an observation is Cauchy's, log(1 + e^2 / s^2) / 2, with e the root mean square over pattern
    and channels and s the median of e at the start. An observer ignores points whose pattern does not lie
    wholly inside its image at the start.

    Args:
        window: points and maps.
        state: initial state.
        free: frames to adjust; at least one host must be fixed.
        settings: priors and stopping criteria.

    Returns:
        The solution, and the weight of each observation, between 0 (outlier or not visible) and 1.
    """
    look = _look(window, state)
    seen, noise = look.valid, _noise(look, window)
    columns = _columns(state, free)
    damping = settings.damping
    cost, weight = _robust_cost(look, window, state, seen, noise, settings)
    system: _System | None = None
    for _ in range(settings.iterations):
        if system is None:
            system = _normal_equations(look, window, state, weight, noise, settings)
        step, factors = _solve(system, columns, damping, state)
        proposed = state.moved(step, factors)
        tried = _look(window, proposed)
        tried_cost, tried_weight = _robust_cost(tried, window, proposed, seen, noise, settings)
        if tried_cost < cost:
            small = tried_cost > (1 - settings.tolerance) * cost
            state, look, cost, weight, system = proposed, tried, tried_cost, tried_weight, None
            damping = max(damping / 5, 1e-7)
            if small:
                break
        else:
            damping = max(10 * damping, 1e-3)
            if damping > 1e3:
                break
    return state, weight


def agreement(window: Window, state: BundleState) -> Float[Tensor, "o h"]:
    """Correlation of each observer with each host at the host's visible points: 1 for equal maps, about 0 for
    unrelated ones, and 0 where nothing is visible."""
    look = _look(window, state)
    first, seen = look.values, look.valid[:, None, ..., None].to(look.values)
    second = window.points.values.transpose(0, 1).expand_as(first)
    count = seen.expand_as(first).sum((1, 3, 4), keepdim=True).clamp(min=1)
    first = (first - (seen * first).sum((1, 3, 4), keepdim=True) / count) * seen
    second = (second - (seen * second).sum((1, 3, 4), keepdim=True) / count) * seen
    own = first.square().sum((1, 3, 4)) * second.square().sum((1, 3, 4))
    return (first * second).sum((1, 3, 4)) / own.sqrt().clamp(min=1e-12)


@dataclass(frozen=True)
class _Look:
    """What the observers see of the points at a state.

    Attributes:
        x, y: (O, H, N) normalised image coordinates of the N = M P pixels of all patterns.
        per_depth: (O, H, N) inverse depth in the host over depth in the observer times it: 1 over the latter.
        motions: (O, H, 4, 4) ``observer_from_host``.
        valid: (O, H, M), whether a point's whole pattern lies in the observer.
        values, by_x, by_y: (O, C, H, M, P) of the observers' maps, and their slopes.
    """

    x: Tensor
    y: Tensor
    per_depth: Tensor
    motions: Tensor
    valid: Tensor
    values: Tensor
    by_x: Tensor
    by_y: Tensor


def _look(window: Window, state: BundleState) -> _Look:
    points = window.points
    hosts, count, size = points.rays.shape[:3]
    world_from_host = se3.inverse(state.camera_from_world[:hosts])
    motions = state.camera_from_world[window.observers][:, None] @ world_from_host
    inverse = points.inverse_depth * (state.log_scale[:hosts, None] + state.factor).exp()
    inverse = inverse[:, :, None].expand(-1, -1, size).flatten(1)
    # Points times inverse depth, so that far ones stay finite. Coordinates come first, since slices of them are
    # then contiguous, which halves the time.
    turned = motions[..., :3, :3] @ points.rays.flatten(1, 2).mT
    near = torch.addcmul(turned, motions[..., :3, 3:], inverse[:, None])
    front = near[:, :, 2] > MIN_SOURCE_DEPTH * inverse
    z = torch.where(front, near[:, :, 2], 1)
    x, y = near[:, :, 0] / z, near[:, :, 1] / z
    fx, fy, cx, cy = window.camera.focal_and_centre.to(x).unbind(-1)
    u, v = fx * x + cx, fy * y + cy
    inside = front & (u >= 0) & (u <= window.camera.width - 1)
    inside &= (v >= 0) & (v <= window.camera.height - 1)
    other = window.observers[:, None] != torch.arange(hosts, device=u.device)
    valid = inside.unflatten(2, (count, size)).all(-1) & points.valid & other[..., None]
    shape = (hosts, count, size)
    values, by_x, by_y = (
        found.unflatten(2, shape)
        for found in sample_with_slopes_at(window.maps, u.flatten(1), v.flatten(1))
    )
    return _Look(x, y, inverse / z, motions, valid, values, by_x, by_y)


def _noise(look: _Look, window: Window) -> Tensor:
    """Median error of the visible points."""
    kept = _error(look, window).square().mean((1, 4)).sqrt()[look.valid]
    return kept.median().clamp(min=MIN_NOISE) if len(kept) else kept.new_tensor(1.0)


def _error(look: _Look, window: Window) -> Tensor:
    """Differences (O, C, H, M, P) of what is seen from what is known."""
    return look.values - window.points.values.transpose(0, 1)


def _robust_cost(
    look: _Look, window: Window, state: BundleState, seen: Tensor, noise: Tensor,
    settings: BundleSettings,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Robust cost, priors included, and weights (O, H, M)."""
    relative = _error(look, window).square().mean((1, 4)) / noise**2
    prior = (state.log_scale / settings.scale_deviation).square().sum()
    prior = prior + (state.factor / settings.factor_deviation).square().sum()
    cost = ((torch.log1p(relative) * seen).sum() + prior) / 2
    return cost, seen / (1 + relative)


def _normal_equations(
    look: _Look, window: Window, state: BundleState, weight: Tensor, noise: Tensor,
    settings: BundleSettings,
) -> _System:  # fmt: skip
    frames = len(state.camera_from_world)
    rows = _derivatives(look, window)
    rows = torch.cat([rows, _by_point(_error(look, window))[:, :, None]], 2)
    share = (weight / (noise**2 * rows.shape[-1])).sqrt()
    rows = rows * share[:, :, None, :, None]  # (O, H, 8, M, C P)
    flat = rows.flatten(3)
    local = flat @ flat.mT
    lift = _lift(look.motions, window.observers, frames)
    own, tall = settings.scale_deviation**-2, lift.flatten(0, 2)
    hessian = tall.mT @ (local[..., :7, :7] @ lift).flatten(0, 2)
    gradient = local[..., :7, 7].flatten() @ tall
    diagonal = hessian.diagonal().view(frames, FRAME_DOF)
    diagonal[:, LOG_SCALE] += own
    gradient.view(frames, FRAME_DOF)[:, LOG_SCALE] += own * state.log_scale
    by_depth = (rows * rows[:, :, LOG_SCALE : LOG_SCALE + 1]).sum(-1)  # (O, H, 8, M)
    coupling = by_depth[:, :, :7].permute(1, 3, 0, 2).flatten(2) @ lift.transpose(0, 1).flatten(
        1, 2
    )
    own = settings.factor_deviation**-2
    point_hessian = by_depth[:, :, 6].sum(0) + own
    point_gradient = by_depth[:, :, 7].sum(0) + own * state.factor
    return _System(hessian, gradient, coupling, point_hessian, point_gradient)


def _by_point(values: Tensor) -> Tensor:
    """(O, H, M, C P) from (O, C, H, M, P)."""
    return values.permute(0, 2, 3, 1, 4).flatten(3)


def _derivatives(look: _Look, window: Window) -> Tensor:
    """Derivatives (O, H, 7, M, C P) of the errors with respect to relative twist and log inverse depth."""
    fx, fy = window.camera.focal_and_centre.to(look.x)[:2]
    along, down = _by_point(look.by_x) * fx, _by_point(look.by_y) * fy
    channels = look.values.shape[1]

    def spread(values: Tensor) -> Tensor:
        return values.view(*look.valid.shape, -1).repeat(1, 1, 1, channels)

    x, y, per_depth = spread(look.x), spread(look.y), spread(look.per_depth)
    shift_x, shift_y, shift_z = look.motions[..., :3, 3, None, None].unbind(2)
    inward = x * along + y * down
    near_x, near_y, near_z = along * per_depth, down * per_depth, -inward * per_depth
    return torch.stack([
        -(down + y * inward), along + x * inward, x * down - y * along, near_x, near_y, near_z,
        near_x * shift_x + near_y * shift_y + near_z * shift_z,
    ], 2)  # fmt: skip


def _lift(motions: Tensor, observers: Tensor, frames: int) -> Tensor:
    """Derivatives (O, H, 7, 7 K) of relative twist and log inverse depth with respect to the unknowns of all
    frames."""
    count, hosts = motions.shape[:2]
    lift = motions.new_zeros(count, hosts, FRAME_DOF, frames, FRAME_DOF)
    row = torch.arange(count, device=motions.device)[:, None].expand(-1, hosts)
    host = torch.arange(hosts, device=motions.device).expand(count, -1)
    lift[row, host, :6, observers[:, None], :6] = torch.eye(6).to(motions)
    lift[row, host, :6, host, :6] -= se3.adjoint(motions)
    lift[row, host, LOG_SCALE, host, LOG_SCALE] = 1
    return lift.flatten(3)


def _columns(state: BundleState, free: Tensor) -> Tensor:
    """Indices of the frames' unknowns to solve for; the scales of fixed hosts are fixed too."""
    wanted = free[:, None].repeat(1, FRAME_DOF)
    wanted[len(state.factor) :, LOG_SCALE] = False
    return wanted.flatten().nonzero()[:, 0]


def _solve(
    system: _System, columns: Tensor, damping: float, state: BundleState
) -> tuple[Tensor, Tensor]:
    """Solve for the steps of frames (K, 7) and points (H, M)."""
    hessian = system.hessian[columns][:, columns].double()
    gradient = system.gradient[columns].double()
    hessian = hessian + torch.diag(hessian.diagonal() * damping + 1e-9)
    coupling = system.coupling[..., columns].flatten(0, 1).double()
    own = (system.point_hessian * (1 + damping)).flatten().double()
    scaled = coupling / own[:, None]
    hessian = hessian - coupling.mT @ scaled
    gradient = gradient - scaled.mT @ system.point_gradient.flatten().double()
    factor, failed = torch.linalg.cholesky_ex(hessian)
    step = -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
    step = torch.zeros_like(step) if failed else step.clamp(-1, 1)
    back = -(system.point_gradient.flatten().double() + coupling @ step) / own
    factors = back.view_as(state.factor).to(state.factor).clamp(-1, 1)
    whole = torch.zeros(
        len(state.camera_from_world) * FRAME_DOF, dtype=factors.dtype, device=factors.device
    )
    whole[columns] = step.to(whole)
    return whole.view(-1, FRAME_DOF), factors
