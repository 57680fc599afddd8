"""Direct alignment: the motion that makes a source image, or its features, agree with the target.

Damped Gauss-Newton (Levenberg-Marquardt) on the robust difference of warped maps, batched over pairs.
The approach follows Engel et al., "Direct sparse odometry", PAMI 2018, and, for features instead of
intensities, von Stumberg et al., "GN-Net", RA-L 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.alignment_residual import (
    BIAS,
    GAIN,
    SCALE,
    SHIFT,
    Level,
    Linearization,
    State,
    agreement_of,
    choose_state,
    largest_move,
    linearize,
    robust_scale,
    visible_points,
)

MIN_AGREEMENT = 0.5
"""Smallest agreement of a trusted alignment."""
MIN_VISIBLE_SHARE = 0.1
"""Smallest share of the target's pixels that must be visible in the source."""


@dataclass(frozen=True)
class AlignSettings:
    """Settings of direct alignment.

    Attributes:
        iterations: maximum number per level.
        depth: correction of the target's inverse depth to solve for: ``fixed`` (none), ``scale``, or
            ``affine`` (scale and shift). A scale needs a prior on the motion, since depth and translation
            share one scale.
        turn_only: solve for the rotation and keep the translation; at a distant background, a translation has
            the same effect as a rotation.
        brightness: also solve for gain and bias, for intensities.
        damping: initial damping.
        tolerance: mean displacement in pixels below which a step is the last.
        stop_early: check after every iteration whether all pairs are done, which makes the host wait for a
            GPU; the result is the same.
    """

    iterations: int = 20
    depth: str = "fixed"
    turn_only: bool = False
    brightness: bool = False
    damping: float = 1e-3
    tolerance: float = 0.01
    stop_early: bool = True

    def free(self, device: torch.device) -> Int64[Tensor, " p"]:
        """Indices of the unknowns that are solved for."""
        free = list(range(3)) if self.turn_only else list(range(6))
        if self.depth in ("scale", "affine"):
            free.append(SCALE)
        if self.depth == "affine":
            free.append(SHIFT)
        if self.brightness:
            free += [GAIN, BIAS]
        return torch.tensor(free).to(device, non_blocking=True)


@dataclass(frozen=True)
class Alignment:
    """Result of aligning B pairs.

    Attributes:
        state: the solution.
        covariance: (B, P, P) of the unknowns that were solved for, in the order of their indices; motion as
            a twist on the source's side, in radians and the unit of depth. Errors of neighbouring pixels are
            assumed independent, so it is a lower bound.
        cost: (B,), robust cost at the finest level.
        seen: (B,), see :class:`Linearization`.
        agreement: (B,), correlation of the warped source with the target over valid pixels, channels weighted
            by their variance: 1 for equal maps, about 0 for unrelated ones.
        converged: (B,), whether the last step at the finest level was within the tolerance.
    """

    state: State
    covariance: Float[Tensor, "b p p"]
    cost: Float[Tensor, " b"]
    seen: Float[Tensor, " b"]
    agreement: Float[Tensor, " b"]
    converged: Bool[Tensor, " b"]

    @property
    def trusted(self) -> Bool[Tensor, " b"]:
        """Whether a pair converged with enough visible pixels and enough agreement."""
        return self.converged & (self.seen >= MIN_VISIBLE_SHARE) & (self.agreement >= MIN_AGREEMENT)


@dataclass(frozen=True)
class Prior:
    """Gaussian prior on the unknowns around the starting state.

    Attributes:
        information: (B, 10, 10), inverse covariance, on the scale of the mean cost per pixel.
    """

    information: Float[Tensor, "b 10 10"]


def align(
    levels: Sequence[Level], start: State, settings: AlignSettings, prior: Prior | None = None
) -> Alignment:
    """Align pairs from coarse to fine by damped Gauss-Newton.

    Args:
        levels: coarsest first.
        start: initial state.
        settings: unknowns to solve for, and stopping criteria.
        prior: centred on ``start``.
    """
    state = start
    free = settings.free(start.scale.device)
    for level in levels:
        state, done, last = _solve(level, state, start, settings, prior)
    information = last.hessian[:, free][:, :, free]
    pixels = last.seen * levels[-1].inverse_depth[0].numel()
    noise = 2 * last.cost / (pixels - len(free)).clamp(min=1)
    eye = torch.eye(len(free), dtype=information.dtype, device=information.device)
    tiny = 1e-9 * information.diagonal(dim1=1, dim2=2).amax(1)[:, None, None] + 1e-30
    covariance = noise[:, None, None] * torch.linalg.inv_ex(information + tiny * eye).inverse
    agreement = agreement_of(levels[-1], state)
    return Alignment(state, covariance, last.cost, last.seen, agreement, done)


def _solve(
    level: Level, state: State, start: State, settings: AlignSettings, prior: Prior | None
) -> tuple[State, Tensor, Linearization]:
    """Run Levenberg-Marquardt at one level; steps that raise the cost are rejected."""
    free = settings.free(state.scale.device)
    visible = visible_points(level, state)
    scale = robust_scale(level, state, visible)
    best = linearize(level, state, scale, visible)
    cost = best.cost + _prior_cost(prior, state, start)
    damping = torch.full_like(cost, settings.damping)
    done = torch.zeros_like(cost, dtype=torch.bool)
    for _ in range(settings.iterations):
        hessian, gradient = best.hessian, best.gradient
        if prior is not None:
            difference = _difference(state, start)
            hessian = hessian + prior.information
            gradient = gradient + (prior.information @ difference[..., None])[..., 0]
        step = _damped_step(hessian[:, free][:, :, free], gradient[:, free], damping)
        whole = torch.zeros_like(gradient)
        whole[:, free] = step
        whole = torch.where(done[:, None], 0, whole)
        proposed = state.moved(whole)
        tried = linearize(level, proposed, scale, visible)
        tried_cost = tried.cost + _prior_cost(prior, proposed, start)
        better = (tried_cost <= cost) & (tried.seen >= MIN_VISIBLE_SHARE) & ~done
        small = largest_move(level, state, proposed) < settings.tolerance
        state = proposed.where(better, state)
        best = Linearization(**choose_state(better, tried, best))
        cost = torch.where(better, tried_cost, cost)
        damping = torch.where(better, damping / 5, damping * 5).clamp(1e-7, 1e7)
        done = done | small
        if settings.stop_early and done.all():
            break
    return state, done, best


def _damped_step(hessian: Tensor, gradient: Tensor, damping: Tensor) -> Tensor:
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    raised = diagonal * damping[:, None] + 1e-9 * diagonal.amax(1, keepdim=True) + 1e-30
    factor, _ = torch.linalg.cholesky_ex(hessian + torch.diag_embed(raised))
    step = -torch.cholesky_solve(gradient[..., None], factor)[..., 0]
    return torch.nan_to_num(step, nan=0.0, posinf=0.0, neginf=0.0).clamp(-1, 1)


def _difference(state: State, start: State) -> Tensor:
    """Return the step (B, 10) from ``start`` to ``state``."""
    motion = se3.log(state.source_from_target @ se3.inverse(start.source_from_target))
    rest = [
        (state.scale / start.scale).log(), state.shift - start.shift,
        (state.gain / start.gain).log(), state.bias - start.bias,
    ]  # fmt: skip
    return torch.cat([motion, torch.stack(rest, dim=1)], dim=1)


def _prior_cost(prior: Prior | None, state: State, start: State) -> Tensor:
    if prior is None:
        return torch.zeros_like(state.scale)
    difference = _difference(state, start)
    return torch.einsum("bi,bij,bj->b", difference, prior.information, difference) / 2
