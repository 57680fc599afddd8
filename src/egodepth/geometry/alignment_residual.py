"""Residuals of direct alignment between a warped source and the target, with their derivatives."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.camera import Camera, pixel_grid, vector_like
from egodepth.geometry.warp import MIN_SOURCE_DEPTH, sample_with_slopes

MOTION, SCALE, SHIFT, GAIN, BIAS = slice(0, 6), 6, 7, 8, 9
"""Indices of the unknowns: rotation and translation, log scale and shift of the inverse depth, log gain and
bias of the source."""
UNKNOWNS = 10
OCCLUSION_FACTOR = 1.1
"""A point this many times farther than another one at the same source pixel is occluded."""


@dataclass(frozen=True)
class Level:
    """Maps of B pairs at one level of the pyramid.

    Attributes:
        target, source: (B, C, h, w) intensities or features.
        inverse_depth: (B, h, w) of the target, > 0.
        target_camera, source_camera: batches of B, for the maps' sizes.
        mask: (B, h, w), valid pixels of the target; None for all.
        source_mask: (B, h2, w2), valid pixels of the source; None for all.
    """

    target: Float[Tensor, "b c h w"]
    source: Float[Tensor, "b c h2 w2"]
    inverse_depth: Float[Tensor, "b h w"]
    target_camera: Camera
    source_camera: Camera
    mask: Bool[Tensor, "b h w"] | None = None
    source_mask: Bool[Tensor, "b h2 w2"] | None = None


@dataclass(frozen=True)
class State:
    """Unknowns of direct alignment for B pairs.

    Attributes:
        source_from_target: (B, 4, 4).
        scale, shift: (B,), correct the target's inverse depth to ``scale * inverse_depth + shift``.
        gain, bias: (B,), map the source to the target: ``gain * source + bias``.
    """

    source_from_target: Float[Tensor, "b 4 4"]
    scale: Float[Tensor, " b"]
    shift: Float[Tensor, " b"]
    gain: Float[Tensor, " b"]
    bias: Float[Tensor, " b"]

    @classmethod
    def start(cls, source_from_target: Float[Tensor, "b 4 4"]) -> "State":
        """Start from a motion, with depth and brightness uncorrected."""
        one = torch.ones_like(source_from_target[:, 0, 0])
        return cls(source_from_target, one, 0 * one, one, 0 * one)

    def moved(self, step: Float[Tensor, "b 10"]) -> "State":
        """Return the state after a step; the motion's twist is applied on the source's side."""
        return State(
            se3.exp(step[:, MOTION]) @ self.source_from_target,
            self.scale * step[:, SCALE].exp(),
            self.shift + step[:, SHIFT],
            self.gain * step[:, GAIN].exp(),
            self.bias + step[:, BIAS],
        )

    def where(self, chosen: Bool[Tensor, " b"], other: "State") -> "State":
        """Return this state for the chosen pairs and the other one elsewhere."""
        return State(**choose_state(chosen, self, other))


@dataclass(frozen=True)
class Linearization:
    """Robust cost of B pairs, linearized at a state.

    Attributes:
        cost: (B,), mean over the valid pixels.
        gradient: (B, 10), of the cost.
        hessian: (B, 10, 10), Gauss-Newton approximation.
        seen: (B,), share of the target's pixels that are valid and visible in the source.
    """

    cost: Float[Tensor, " b"]
    gradient: Float[Tensor, "b 10"]
    hessian: Float[Tensor, "b 10 10"]
    seen: Float[Tensor, " b"]


def linearize(
    level: Level, state: State, scale: Float[Tensor, " b"], visible: Bool[Tensor, "b h w"] | None
) -> Linearization:
    """Compute cost, gradient and Gauss-Newton Hessian of the warped difference.

    The error e of a pixel is the norm over channels of gain * source(pi(T, depth)) + bias - target; its cost
    is Cauchy's, scale^2 / 2 * log(1 + e^2 / scale^2).

    Args:
        level: maps.
        state: of B pairs.
        scale: (B,), scale of the robust cost: larger errors lose weight.
        visible: (B, h, w), pixels that are not occluded in the source; None for all.
    """
    pixels, lifted, valid = _project(level, state)
    if visible is not None:
        valid = valid & visible.flatten(1)
    values, along_x, along_y = sample_with_slopes(level.source, pixels)
    gain = state.gain[:, None, None]
    scaled = gain * values
    error = scaled + state.bias[:, None, None] - level.target.flatten(2)
    # Per pixel: derivatives of the error with respect to u, v, log gain and bias, and the error itself.
    parts = torch.stack([gain * along_x, gain * along_y, scaled, torch.ones_like(values), error], 1)
    moments = torch.einsum("bicn,bjcn->bnij", parts, parts)
    squared = moments[..., 4, 4]
    relative = squared / scale[:, None].square()
    count = valid.sum(1).clamp(min=1)
    share = valid / count[:, None]
    weight = share / (1 + relative)
    cost = (share * torch.log1p(relative)).sum(1) * scale.square() / 2
    moments = moments * weight[..., None, None]
    # Motion and depth act through (u, v); gain and bias act directly.
    by_pixel, mixed, rest = moments[..., :2, :2], moments[..., :2, 2:4], moments[..., 2:4, 2:4]
    hessian = torch.zeros(len(scale), UNKNOWNS, UNKNOWNS, dtype=error.dtype, device=error.device)
    hessian[:, :8, :8] = torch.einsum("bnik,bnij,bnjl->bkl", lifted, by_pixel, lifted)
    hessian[:, :8, 8:] = torch.einsum("bnik,bnij->bkj", lifted, mixed)
    hessian[:, 8:, :8] = hessian[:, :8, 8:].mT
    hessian[:, 8:, 8:] = rest.sum(1)
    by_motion = torch.einsum("bnik,bni->bk", lifted, moments[..., :2, 4])
    gradient = torch.cat([by_motion, moments[..., 2:4, 4].sum(1)], dim=1)
    return Linearization(cost, gradient, hessian, valid.to(cost).mean(1))


def visible_points(level: Level, state: State) -> Bool[Tensor, "b h w"]:
    """Mark the target's points that no clearly nearer one occludes in the source."""
    pixels, _, valid = _project(level, state, derivatives=False)
    size = level.source.shape[-2:]
    depth = _source_depth(level, state)
    x, y = pixels.round().long().unbind(-1)
    place = y.clamp(0, size[0] - 1) * size[1] + x.clamp(0, size[1] - 1)
    far = torch.where(valid, depth, torch.inf)
    nearest = torch.full(
        (len(far), size[0] * size[1]), torch.inf, dtype=far.dtype, device=far.device
    )
    nearest.scatter_reduce_(1, place, far, "amin")
    return (depth <= OCCLUSION_FACTOR * nearest.gather(1, place)).view_as(level.inverse_depth)


def choose_state(
    chosen: Tensor, first: State | Linearization, second: State | Linearization
) -> dict[str, Tensor]:
    """Fields of the first argument for the chosen pairs (B,), of the second for the others."""
    others = vars(second)
    return {
        name: torch.where(chosen.view(-1, *(1 for _ in value.shape[1:])), value, others[name])
        for name, value in vars(first).items()
    }


def robust_scale(level: Level, state: State, visible: Tensor) -> Tensor:
    """Median error (B,) over visible pixels, the scale of the robust cost."""
    pixels, _, valid = _project(level, state, derivatives=False)
    values, _, _ = sample_with_slopes(level.source, pixels)
    error = state.gain[:, None, None] * values + state.bias[:, None, None] - level.target.flatten(2)
    norm = error.norm(dim=1)
    kept = torch.where(valid & visible.flatten(1), norm, torch.nan)
    return kept.nanmedian(dim=1).values.nan_to_num(1.0).clamp(min=1e-4)


def agreement_of(level: Level, state: State) -> Tensor:
    """Correlation (B,) of target and warped source, see :class:`~.alignment.Alignment`."""
    pixels, _, valid = _project(level, state, derivatives=False)
    share = (valid / valid.sum(1, keepdim=True).clamp(min=1))[:, None].to(level.source)
    first, second = sample_with_slopes(level.source, pixels)[0], level.target.flatten(2)
    first = first - (share * first).sum(2, keepdim=True)
    second = second - (share * second).sum(2, keepdim=True)
    together = (share * first * second).sum((1, 2))
    own = (share * first.square()).sum((1, 2)) * (share * second.square()).sum((1, 2))
    return together / own.sqrt().clamp(min=1e-12)


def _inverse_depth(level: Level, state: State) -> Tensor:
    raw = level.inverse_depth.flatten(1)
    return (state.scale[:, None] * raw + state.shift[:, None]).clamp(min=1e-6)


def _source_depth(level: Level, state: State) -> Tensor:
    rays = _rays(level)
    motion = state.source_from_target
    turned = rays @ motion[:, 2, :3, None]
    return turned[..., 0] / _inverse_depth(level, state) + motion[:, 2, 3, None]


def _rays(level: Level) -> Tensor:
    """Rays (B, N, 3) of all target pixels, with z = 1."""
    height, width = level.inverse_depth.shape[-2:]
    grid = pixel_grid(height, width, level.inverse_depth)
    ones = torch.ones(
        len(level.inverse_depth), height * width, dtype=grid.dtype, device=grid.device
    )
    return level.target_camera.unproject(grid.expand(len(ones), -1, -1), ones)


def project_points(
    turned: Float[Tensor, "*batch n 3"],
    inverse_depth: Float[Tensor, "*batch n"],
    translation: Float[Tensor, "*batch 3"],
    focal_and_centre: Float[Tensor, "*batch 4"],
    *,
    derivatives: bool = True,
) -> tuple[Float[Tensor, "*batch n 2"], Float[Tensor, "*derivatives"], Bool[Tensor, "*batch n"]]:
    """Project points on rays of a target into a source camera.

    Args:
        turned: rays (z = 1 in the target) rotated into the source.
        inverse_depth: of the points, > 0, in the target.
        translation: of ``source_from_target``.
        focal_and_centre: of the source, see :attr:`Camera.focal_and_centre`.
        derivatives: whether to compute them.

    Returns:
        Pixels; their derivatives (..., N, 2, 7) with respect to a twist on the source's side (6) and the log
        inverse depth, empty if not requested; whether the points lie in front of the source.
    """
    # Points times inverse depth, so that far ones stay finite.
    near = turned + inverse_depth[..., None] * translation[..., None, :]
    front = near[..., 2] > MIN_SOURCE_DEPTH * inverse_depth
    z = torch.where(front, near[..., 2], torch.ones_like(inverse_depth))
    fx, fy, cx, cy = focal_and_centre[..., None, :].unbind(-1)
    x, y = near[..., 0] / z, near[..., 1] / z
    pixels = torch.stack([fx * x + cx, fy * y + cy], dim=-1)
    if not derivatives:
        return pixels, pixels.new_zeros(0), front
    per_z = inverse_depth / z
    moved = translation[..., None, :]
    shift_x = per_z * (moved[..., 0] - x * moved[..., 2])
    shift_y = per_z * (moved[..., 1] - y * moved[..., 2])
    zero = torch.zeros_like(x)
    columns = [
        [fx * c for c in (-x * y, 1 + x * x, -y, per_z, zero, -x * per_z, shift_x)],
        [fy * c for c in (-1 - y * y, x * y, x, zero, per_z, -y * per_z, shift_y)],
    ]
    # One pass over memory: stacking rows and then columns took as long as everything else.
    along = torch.stack([*columns[0], *columns[1]], dim=-1).unflatten(-1, (2, 7))
    return pixels, along, front


def _project(
    level: Level, state: State, *, derivatives: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Project target pixels into the source.

    Returns:
        Pixels (B, N, 2); their derivatives (B, N, 2, 8) with respect to motion, log scale and shift of the
        inverse depth, empty if not requested; whether they are valid and lie in the source (B, N).
    """
    inverse = _inverse_depth(level, state)
    motion = state.source_from_target
    camera = level.source_camera
    pixels, along, front = project_points(
        _rays(level) @ motion[:, :3, :3].mT, inverse, motion[:, :3, 3], camera.focal_and_centre,
        derivatives=derivatives,
    )  # fmt: skip
    last = vector_like(pixels, camera.width - 1, camera.height - 1)
    valid = front & ((pixels >= 0) & (pixels <= last)).all(-1)
    if level.mask is not None:
        valid = valid & level.mask.flatten(1)
    if level.source_mask is not None:
        valid = valid & _reads_mask(level.source_mask, pixels)
    if not derivatives:
        return pixels, along, valid
    by_shift = along[..., 6:] / inverse[..., None, None]
    by_scale = by_shift * (level.inverse_depth.flatten(1) * state.scale[:, None])[..., None, None]
    return pixels, torch.cat([along[..., :6], by_scale, by_shift], dim=-1), valid


def _reads_mask(mask: Tensor, pixels: Tensor) -> Tensor:
    """Whether all four pixels used to interpolate values and slopes at (B, N, 2) are valid."""
    height, width = mask.shape[-2:]
    x, y = pixels.floor().nan_to_num(0).long().unbind(-1)
    first = y.clamp(0, height - 2) * width + x.clamp(0, width - 2)
    flat = mask.flatten(1)
    corners = [flat.gather(1, first + step) for step in (0, 1, width, width + 1)]
    return torch.stack(corners).all(0)


def largest_move(level: Level, before: State, after: State) -> Tensor:
    """Mean displacement (B,) in pixels between two states, over the valid pixels."""
    first, _, valid = _project(level, before, derivatives=False)
    second, _, _ = _project(level, after, derivatives=False)
    move = (second - first).norm(dim=-1) * valid
    return move.sum(1) / valid.sum(1).clamp(min=1)
