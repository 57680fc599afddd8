"""Direct bundle adjustment of a window of frames: poses, depth and brightness together.

Some frames are hosts: points on them have an inverse depth from DepthNet, which is corrected by one
scale a host and one factor a point. Every observing frame sees every host's points; what it shows where
a point falls must be what the host shows. Engel et al., "Direct sparse odometry", PAMI 2018; depth of a
network as the prior as in Yang et al., "Deep virtual stereo odometry", ECCV 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.alignment import project_points
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import sample_with_slopes

PATTERN = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))
"""Pixels (x, y) around a point that are compared with it."""
FRAME = 9
"""Unknowns of a frame: twist (6), log scale of its depth, log gain, bias."""
LOG_SCALE, LOG_GAIN, BIAS = 6, 7, 8
LOCAL = 11
"""What one observation depends on: relative twist (6), log inverse depth, log gain and bias of the
observer, log gain and bias of the host."""


@dataclass(frozen=True)
class Points:
    """Points of H hosts, M each.

    Attributes:
        rays: (H, M, P, 3) of the pixels of each point's pattern, z = 1.
        values: (H, C, M, P) what the host shows there.
        inverse_depth: (H, M) before any correction.
        valid: (H, M).
    """

    rays: Float[Tensor, "h m p 3"]
    values: Float[Tensor, "h c m p"]
    inverse_depth: Float[Tensor, "h m"]
    valid: Bool[Tensor, "h m"]

    @classmethod
    def stack(cls, several: Sequence["Points"]) -> "Points":
        """The points of all hosts."""
        return cls(**{n: torch.cat([vars(p)[n] for p in several]) for n in vars(several[0])})


@dataclass(frozen=True)
class BundleState:
    """What is solved for, of K frames, the first H of them hosts.

    Attributes:
        camera_from_world: (K, 4, 4).
        log_scale: (K,), of the inverse depth of a host's points; without meaning for the others.
        log_gain, bias: (K,), a frame's values times its gain plus its bias agree with the others'.
        factor: (H, M), logarithm of a point's own factor of inverse depth.
    """

    camera_from_world: Float[Tensor, "k 4 4"]
    log_scale: Float[Tensor, " k"]
    log_gain: Float[Tensor, " k"]
    bias: Float[Tensor, " k"]
    factor: Float[Tensor, "h m"]

    def moved(self, step: Float[Tensor, "k 9"], factors: Float[Tensor, "h m"]) -> "BundleState":
        """After a step; twists apply on the cameras' side."""
        return BundleState(
            se3.exp(step[:, :6]) @ self.camera_from_world,
            self.log_scale + step[:, LOG_SCALE],
            self.log_gain + step[:, LOG_GAIN],
            self.bias + step[:, BIAS],
            self.factor + factors,
        )


@dataclass(frozen=True)
class BundleSettings:
    """How a window is solved.

    Attributes:
        iterations: at most.
        scale_deviation: of the log scale of a host's depth.
        factor_deviation: of a point's log factor.
        gain_deviation: of log gains and biases.
        brightness: solve for gains and biases.
        damping: of the first step.
        tolerance: a step is the last if it lowers the cost by a smaller share.
    """

    iterations: int = 5
    scale_deviation: float = 0.1
    factor_deviation: float = 0.3
    gain_deviation: float = 0.1
    brightness: bool = True
    damping: float = 1e-4
    tolerance: float = 1e-3


def select_points(
    image: Float[Tensor, "c h w"],
    inverse_depth: Float[Tensor, "h w"],
    camera: Camera,
    cell: int,
    pattern: Sequence[tuple[int, int]] = PATTERN,
) -> Points:
    """The pixel of each cell of a grid where the image changes most, as points of one host.

    Args:
        image: map that is compared.
        inverse_depth: of its size, > 0.
        camera: of that size, without batch.
        cell: side of the cells in pixels.
        pattern: offsets (x, y) of the pixels that are compared; the border they need is left out.
    """
    height, width = inverse_depth.shape
    margin = max(max(abs(x), abs(y)) for x, y in pattern) + 1
    change = image.new_zeros(height, width)
    along = (image[:, 1:-1, 2:] - image[:, 1:-1, :-2]).square().sum(0)
    down = (image[:, 2:, 1:-1] - image[:, :-2, 1:-1]).square().sum(0)
    change[1:-1, 1:-1] = (along + down).sqrt()
    inner = torch.zeros_like(change)
    inner[margin:-margin, margin:-margin] = change[margin:-margin, margin:-margin]
    strongest, place = F.max_pool2d(inner[None], cell, ceil_mode=True, return_indices=True)
    flat = place.flatten()
    y, x = flat // width, flat % width
    offsets = torch.tensor(pattern, device=image.device)
    px = (x[:, None] + offsets[:, 0]).clamp(0, width - 1)
    py = (y[:, None] + offsets[:, 1]).clamp(0, height - 1)
    fx, fy, cx, cy = camera.focal_and_centre.to(image).unbind(-1)
    rays = torch.stack([(px - cx) / fx, (py - cy) / fy, torch.ones_like(px, dtype=fx.dtype)], -1)
    return Points(
        rays[None], image[:, py, px][None], inverse_depth[y, x][None], (strongest > 0).flatten()[None]
    )


@dataclass(frozen=True)
class _System:
    """Normal equations about a state: reduced to the frames (Schur complement), and what gives the
    points back."""

    cost: Tensor
    hessian: Tensor
    gradient: Tensor
    coupling: Tensor
    point_hessian: Tensor
    point_gradient: Tensor


@dataclass(frozen=True)
class Window:
    """What is looked at.

    Attributes:
        points: of H hosts.
        maps: (O, C, h, w) of the observers.
        observers: (O,) their places among the frames of the state.
        camera: of the maps' size, without batch.
    """

    points: Points
    maps: Float[Tensor, "o c h w"]
    observers: Int[Tensor, " o"]
    camera: Camera


def adjust(
    window: Window,
    state: BundleState,
    free: Bool[Tensor, " k"],
    settings: BundleSettings,
    *,
    solve_points: bool = True,
) -> tuple[BundleState, Float[Tensor, "o h m"]]:
    """Minimise the robust error of all observations by damped Gauss-Newton.

    Args:
        window: points and maps.
        state: where to begin.
        free: frames that move; at least one host must not.
        settings: priors and limits.
        solve_points: whether depth (scales and factors) is solved for, or poses and brightness alone.

    Returns:
        The solution, and the weight of each observation, between 0 (does not fit, or not seen) and 1.
    """
    seen = _observe(window, state, slopes=False)[2]
    noise = _noise(window, state, seen)
    columns = _columns(state, free, settings, solve_points)
    damping = settings.damping
    system = _linearize(window, state, seen, noise, settings, solve_points)
    for _ in range(settings.iterations):
        step, factors = _solve(system, columns, damping, state, solve_points)
        proposed = state.moved(step, factors)
        cost = _cost(window, proposed, seen, noise, settings)
        if cost < system.cost:
            small = cost > (1 - settings.tolerance) * system.cost
            state, damping = proposed, max(damping / 5, 1e-7)
            if small:
                break
            system = _linearize(window, state, seen, noise, settings, solve_points)
        else:
            damping *= 10
            if damping > 1e3:
                break
    values, _, valid, _ = _observe(window, state, slopes=False)
    relative = _error(window, state, values).square().mean((1, 4)) / noise**2
    return state, torch.where(valid, 1 / (1 + relative), 0)


def _observe(
    window: Window, state: BundleState, *, slopes: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What observers show of the points.

    Returns:
        Values (O, C, H, M, P), times gain plus bias; derivatives (O, C, H, M, P, 7) by relative
        twist and log inverse depth, empty without ``slopes``; whether a point is seen whole (O, H,
        M); relative motions ``observer_from_host`` (O, H, 4, 4).
    """
    points = window.points
    hosts, count, size = points.rays.shape[:3]
    world_from_host = se3.inverse(state.camera_from_world[:hosts])
    motions = state.camera_from_world[window.observers][:, None] @ world_from_host
    inverse = points.inverse_depth * (state.log_scale[:hosts, None] + state.factor).exp()
    spread = inverse[:, :, None].expand(-1, -1, size).flatten(1).expand(len(motions), -1, -1)
    turned = points.rays.flatten(1, 2) @ motions[..., :3, :3].mT
    focal = window.camera.focal_and_centre.to(turned).expand(*motions.shape[:2], -1)
    pixels, along, front = project_points(turned, spread, motions[..., :3, 3], focal)
    last = pixels.new_tensor([window.camera.width - 1, window.camera.height - 1])
    inside = front & ((pixels >= 0) & (pixels <= last)).all(-1)
    valid = inside.unflatten(2, (count, size)).all(-1) & points.valid
    other = window.observers[:, None] != torch.arange(hosts, device=pixels.device)
    valid = valid & other[..., None]
    values, by_x, by_y = sample_with_slopes(window.maps, pixels.flatten(1, 2))
    shape = (hosts, count, size)
    gain = state.log_gain[window.observers].exp()[:, None, None]
    seen = (gain * values + state.bias[window.observers][:, None, None]).unflatten(2, shape)
    derivatives = seen.new_zeros(0)
    if slopes:
        # (O, C, N, 2) by (O, N, 2, 7)
        slope = torch.stack([gain * by_x, gain * by_y], -1)
        lifted = along.flatten(1, 2)[:, None]
        derivatives = (slope[..., :1] * lifted[..., 0, :] + slope[..., 1:] * lifted[..., 1, :]).unflatten(
            2, shape
        )
    return seen, derivatives, valid, motions


def _error(window: Window, state: BundleState, seen: Tensor) -> Tensor:
    """(O, C, H, M, P)."""
    hosts = len(window.points.rays)
    gain = state.log_gain[:hosts].exp()[:, None, None, None]
    shown = gain * window.points.values + state.bias[:hosts][:, None, None, None]
    return seen - shown.transpose(0, 1)


def _noise(window: Window, state: BundleState, seen: Tensor) -> Tensor:
    """The median error of what is seen."""
    values, _, _, _ = _observe(window, state, slopes=False)
    error = _error(window, state, values).square().mean((1, 4)).sqrt()
    kept = error[seen]
    return kept.median().clamp(min=1e-4) if len(kept) else error.new_tensor(1.0)


def _cost(
    window: Window, state: BundleState, seen: Tensor, noise: Tensor, settings: BundleSettings
) -> Tensor:
    values, _, _, _ = _observe(window, state, slopes=False)
    relative = _error(window, state, values).square().mean((1, 4)) / noise**2
    return (torch.log1p(relative) * seen).sum() / 2 + _prior_cost(state, settings)


def _prior_cost(state: BundleState, settings: BundleSettings) -> Tensor:
    return (
        (state.log_scale / settings.scale_deviation).square().sum()
        + (state.factor / settings.factor_deviation).square().sum()
        + (torch.stack([state.log_gain, state.bias]) / settings.gain_deviation).square().sum()
    ) / 2


def _linearize(
    window: Window,
    state: BundleState,
    seen: Tensor,
    noise: Tensor,
    settings: BundleSettings,
    solve_points: bool,
) -> _System:
    frames, hosts = len(state.camera_from_world), len(window.points.rays)
    values, along, _, motions = _observe(window, state, slopes=True)
    error = _error(window, state, values)
    relative = error.square().mean((1, 4)) / noise**2
    cost = (torch.log1p(relative) * seen).sum() / 2 + _prior_cost(state, settings)
    weight = seen / (1 + relative) / (noise**2 * error.shape[1] * error.shape[4])
    shown = error - values
    one = torch.ones_like(error)
    bias = state.bias[window.observers].view(-1, 1, 1, 1, 1)
    own_bias = state.bias[:hosts].view(-1, 1, 1)
    rows = torch.cat(
        [along, torch.stack([values - bias, one, shown + own_bias, -one, error], -1)], dim=-1
    )
    # (O, H, M, C P, 12): the last column is the error itself.
    rows = rows.permute(0, 2, 3, 1, 4, 5).flatten(3, 4)
    products = (rows * weight[..., None, None]).mT @ rows
    local = products.sum(2)
    lift = _lift(motions, window.observers, frames)
    hessian = torch.einsum("ohag,ohab,ohbk->gk", lift, local[..., :LOCAL, :LOCAL], lift)
    gradient = torch.einsum("ohag,oha->g", lift, local[..., :LOCAL, LOCAL])
    precision = torch.full((frames, FRAME), 0.0, dtype=hessian.dtype, device=hessian.device)
    precision[:, LOG_SCALE] = settings.scale_deviation**-2
    precision[:, LOG_GAIN:] = settings.gain_deviation**-2
    values_now = torch.zeros_like(precision)
    values_now[:, LOG_SCALE:] = torch.stack([state.log_scale, state.log_gain, state.bias], 1)
    hessian = hessian + torch.diag(precision.flatten())
    gradient = gradient + (precision * values_now).flatten()
    coupling = torch.einsum("ohma,ohag->hmg", products[..., 6, :LOCAL], lift)
    own = settings.factor_deviation**-2
    point_hessian = products[..., 6, 6].sum(0) + own
    point_gradient = products[..., 6, LOCAL].sum(0) + own * state.factor
    return _System(cost, hessian, gradient, coupling, point_hessian, point_gradient)


def _lift(motions: Tensor, observers: Tensor, frames: int) -> Tensor:
    """(O, H, 11, 9 K): how what an observation depends on follows from the frames' unknowns."""
    count, hosts = motions.shape[:2]
    lift = motions.new_zeros(count, hosts, LOCAL, frames, FRAME)
    rows = torch.arange(count, device=motions.device)[:, None].expand(-1, hosts)
    host = torch.arange(hosts, device=motions.device).expand(count, -1)
    own = torch.arange(hosts, device=motions.device)
    observer = observers[:, None].expand(-1, hosts)
    eye = torch.eye(6, dtype=motions.dtype, device=motions.device)
    lift[rows, host, :6, observer, :6] = eye
    lift[rows, own, :6, host, :6] -= se3.adjoint(motions)
    lift[rows, own, 6, host, LOG_SCALE] = 1
    lift[rows, own, 7, observer, LOG_GAIN] = 1
    lift[rows, own, 8, observer, BIAS] = 1
    lift[rows, own, 9, host, LOG_GAIN] = 1
    lift[rows, own, 10, host, BIAS] = 1
    return lift.flatten(3)


def _columns(
    state: BundleState, free: Tensor, settings: BundleSettings, solve_points: bool
) -> Tensor:
    """Places of the frames' unknowns that are solved for. Scales of fixed hosts are fixed too."""
    wanted = torch.ones(len(free), FRAME, dtype=torch.bool, device=free.device) & free[:, None]
    hosts = len(state.factor)
    wanted[hosts:, LOG_SCALE] = False
    wanted[:, LOG_SCALE] &= solve_points
    wanted[:, LOG_GAIN:] &= settings.brightness
    return wanted.flatten().nonzero()[:, 0]


def _solve(
    system: _System, columns: Tensor, damping: float, state: BundleState, solve_points: bool
) -> tuple[Tensor, Tensor]:
    """Steps of frames (K, 9) and points (H, M)."""
    hessian = system.hessian[columns][:, columns].double()
    gradient = system.gradient[columns].double()
    hessian = hessian + torch.diag(hessian.diagonal() * damping + 1e-9)
    coupling = system.coupling[..., columns].flatten(0, 1).double()
    own = (system.point_hessian * (1 + damping)).flatten().double()
    if solve_points:
        scaled = coupling / own[:, None]
        hessian = hessian - coupling.mT @ scaled
        gradient = gradient - scaled.mT @ system.point_gradient.flatten().double()
    factor, failed = torch.linalg.cholesky_ex(hessian)
    step = -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
    step = torch.zeros_like(step) if failed else step.clamp(-1, 1)
    factors = torch.zeros_like(state.factor)
    if solve_points:
        back = -(system.point_gradient.flatten().double() + coupling @ step) / own
        factors = back.view_as(factors).to(factors).clamp(-1, 1)
    whole = torch.zeros(len(state.camera_from_world) * FRAME, dtype=factors.dtype, device=factors.device)
    whole[columns] = step.to(whole)
    return whole.view(-1, FRAME), factors
