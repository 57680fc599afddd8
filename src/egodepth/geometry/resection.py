"""Direct resection: the pose of a frame from points whose positions are known.

The cost is that of :func:`.bundle.adjust` where all other frames and all depths are fixed. As the points stay
where they are, they are moved into the world once, not for each host and step.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.bundle import MIN_NOISE, BundleState
from egodepth.geometry.bundle_points import BundlePoints
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import MIN_SOURCE_DEPTH, sample_with_slopes_at

START_DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-4, 1e-7, 1e3


@dataclass(frozen=True)
class KnownPoints:
    """M points on each of H hosts, in the world.

    Attributes:
        position: (4, P, H M), homogeneous, of the P pixels of each point's pattern: coordinates times inverse
            depth in the host, and that; so far points stay finite.
        values: (P, H M) of the hosts' maps there.
        valid: (H, M).
    """

    position: Float[Tensor, "4 p n"]
    values: Float[Tensor, "p n"]
    valid: Bool[Tensor, "hosts m"]

    @classmethod
    def of(cls, points: BundlePoints, state: BundleState) -> "KnownPoints":
        """Points of hosts with maps of one channel, at the poses and depths of a state."""
        hosts, count, size = points.rays.shape[:3]
        world_from_host = se3.inverse(state.camera_from_world[:hosts])
        inverse = points.inverse_depth * (state.log_scale[:hosts, None] + state.factor).exp()
        inverse = inverse[..., None, None].expand(-1, -1, size, 1)
        homogeneous = torch.cat([points.rays, inverse], -1).flatten(1, 2)
        position = (homogeneous @ world_from_host.mT).view(hosts, count, size, 4)
        values = points.values[:, 0].permute(2, 0, 1)
        return cls(
            position.permute(3, 2, 0, 1).flatten(2).contiguous(), values.flatten(1), points.valid
        )


@dataclass(frozen=True)
class _Look:
    """What a frame sees of N points with patterns of P pixels.

    Attributes:
        x, y: (P, N) normalised image coordinates.
        per_depth: (P, N), 1 over the depth in the frame.
        error: (P, N), what is seen less what is known.
        by_x, by_y: (P, N) slopes of the frame's map.
        valid: (N,), whether a point's whole pattern lies in the image.
    """

    x: Tensor
    y: Tensor
    per_depth: Tensor
    error: Tensor
    by_x: Tensor
    by_y: Tensor
    valid: Tensor


def resect(
    points: KnownPoints,
    image: Float[Tensor, "1 h w"],
    camera: Camera,
    start: Float[Tensor, "4 4"],
    *,
    iterations: int,
    tolerance: float = 1e-3,
) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "hosts m"]]:
    """Find the pose of a frame by damped Gauss-Newton, with the robust cost of :func:`.bundle.adjust`.

    Args:
        points: what is known.
        image: map of the frame.
        camera: for the map's size, unbatched.
        start: initial ``camera_from_world``.
        iterations: maximum number.
        tolerance: relative decrease of the cost below which a step is the last.

    Returns:
        ``camera_from_world``, and the weight of each point, between 0 (outlier or not visible) and 1.
    """
    pose, damping = start, START_DAMPING
    look = _look(points, image, camera, pose)
    seen = look.valid
    noise = look.error.square().mean(0).sqrt()[seen]
    variance = noise.median().clamp(min=MIN_NOISE).square() if len(noise) else image.new_ones(())
    cost, weight = _robust_cost(look, seen, variance)
    system: Tensor | None = None
    for _ in range(iterations):
        if system is None:
            system = _normal_equations(look, weight, variance, camera)
        proposed = se3.exp(_solve(system, damping).to(pose)) @ pose
        tried = _look(points, image, camera, proposed)
        tried_cost, tried_weight = _robust_cost(tried, seen, variance)
        if tried_cost < cost:
            small = tried_cost > (1 - tolerance) * cost
            pose, look, cost, weight, system = proposed, tried, tried_cost, tried_weight, None
            damping = max(damping / 5, MIN_DAMPING)
            if small:
                break
        else:
            damping = max(10 * damping, 1e-3)
            if damping > MAX_DAMPING:
                break
    return se3.rigid(pose), weight.view_as(points.valid)


def _look(points: KnownPoints, image: Tensor, camera: Camera, pose: Tensor) -> _Look:
    near = (pose[:3] @ points.position.flatten(1)).view_as(points.position[:3])
    inverse = points.position[3]
    front = near[2] > MIN_SOURCE_DEPTH * inverse
    z = torch.where(front, near[2], 1)
    x, y = near[0] / z, near[1] / z
    fx, fy, cx, cy = camera.focal_and_centre.to(x).unbind(-1)
    u, v = torch.addcmul(cx, x, fx), torch.addcmul(cy, y, fy)
    inside = front & (u >= 0) & (u <= camera.width - 1) & (v >= 0) & (v <= camera.height - 1)
    seen = sample_with_slopes_at(image[None], u.view(1, -1), v.view(1, -1))
    values, by_x, by_y = (found.view_as(x) for found in seen)
    valid = inside.all(0) & points.valid.flatten()
    return _Look(x, y, inverse / z, values - points.values, by_x, by_y, valid)


def _robust_cost(look: _Look, seen: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Robust cost, and weights (N,)."""
    relative = look.error.square().mean(0) / variance
    return (relative.log1p() * seen).sum() / 2, seen / (1 + relative)


def _normal_equations(look: _Look, weight: Tensor, variance: Tensor, camera: Camera) -> Tensor:
    """Hessian of the twist, and in the last row and column its gradient, (7, 7) float64."""
    fx, fy = camera.focal_and_centre.to(look.x)[:2]
    x, y, along, down = look.x, look.y, look.by_x * fx, look.by_y * fy
    inward = torch.addcmul(x * along, y, down)
    rows = torch.stack([
        -torch.addcmul(down, y, inward), torch.addcmul(along, x, inward), x * down - y * along,
        along * look.per_depth, down * look.per_depth, -inward * look.per_depth, look.error,
    ])  # fmt: skip
    rows *= (weight / (variance * len(x))).sqrt()
    flat = rows.flatten(1)
    return (flat @ flat.mT).double()


def _solve(system: Tensor, damping: float) -> Tensor:
    """Step (6,) of the twist."""
    hessian, gradient = system[:6, :6], system[:6, 6:]
    factor, failed = torch.linalg.cholesky_ex(
        hessian + torch.diag(hessian.diagonal() * damping + 1e-9)
    )
    step = -torch.cholesky_solve(gradient, factor)[:, 0]
    return torch.zeros_like(step) if failed else step.clamp(-1, 1)
