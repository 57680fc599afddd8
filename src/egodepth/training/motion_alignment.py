"""Motions used for warping in training: from PoseNet, known, or refined by direct alignment."""

from dataclasses import replace

import torch
from torch import Tensor

from egodepth.core.errors import NonFiniteError
from egodepth.geometry.alignment import MIN_AGREEMENT, MIN_VISIBLE_SHARE, AlignSettings, align
from egodepth.geometry.alignment_residual import State
from egodepth.geometry.pyramid import image_pyramid, make_levels
from egodepth.models.networks import Networks
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import SnippetBatch
from egodepth.training.terms import at_size

ALIGNED_REDUCTIONS = (8, 4, 2)
ALIGNMENT = AlignSettings(iterations=5, brightness=True, tolerance=0.05)


def require_finite(values: Tensor, what: str, *, on_gpu: bool = False) -> None:
    """Check that values on the CPU are finite, since ``grid_sample`` there reads arbitrary memory at NaN
    coordinates. Values on a GPU are checked only ``on_gpu``, because that waits for it.

    Raises:
        NonFiniteError: some value is not finite.
    """
    looks = on_gpu or values.device.type == "cpu"
    if looks and not bool(torch.isfinite(values.detach()).all()):
        raise NonFiniteError(f"the networks' {what} is not finite")


def motions_of_batch(
    networks: Networks, batch: SnippetBatch, inverse_depth: Tensor, settings: TrainSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return ``source_from_target`` of all sources (S, B, 4, 4), and PoseNet's loss term, if any.

    Temporal motions come from the source given by ``settings.data.poses``; that of the rig's partner is known.
    """
    if networks.pose is None:
        return batch.with_partner(batch.motions), {}
    directions = settings.data.directions
    in_time = len(directions)
    learned = networks.pose.sources_from_target(
        batch.target_input, batch.sources_input[:in_time], directions
    )
    require_finite(learned, "motion")
    known, terms = learned, {}
    if settings.data.poses == "aligned":
        known, trusted = align_motions(learned, batch, inverse_depth)
        # Mean over accepted motions; selecting them would make the host wait for the GPU.
        share = trusted / trusted.sum().clamp(min=1)
        terms = {"pose": (share * networks.pose.difference(learned, known)).sum()}
    elif settings.data.refines_poses:
        assert batch.motions is not None
        known = batch.motions
        terms = {"pose": networks.pose.difference(learned, known.detach()).mean()}
    return batch.with_partner(known), terms


def align_motions(
    start: Tensor, batch: SnippetBatch, inverse_depth: Tensor
) -> tuple[Tensor, Tensor]:
    """Refine motions (S, B, 4, 4) by direct alignment with the given depth, outside of the static mask. Also
    return whether each was accepted (S, B); the others keep the start values, with their gradient."""
    count = start.shape[0]
    with torch.no_grad():
        full = at_size(inverse_depth.detach(), batch.target)
        levels = make_levels(
            image_pyramid(batch.target.repeat(count, 1, 1, 1), ALIGNED_REDUCTIONS),
            image_pyramid(batch.sources[:count].flatten(0, 1), ALIGNED_REDUCTIONS),
            full[:, 0].repeat(count, 1, 1),
            batch.camera.repeat(count),
            None if batch.static is None else batch.static.repeat(count, 1, 1, 1),
        )
        # Stopping early would wait for a GPU; on the CPU, it saves useless iterations.
        how = replace(ALIGNMENT, stop_early=start.device.type == "cpu")
        found = align(levels, State.start(start.detach().flatten(0, 1)), how)
        # Convergence is not required: alignment goes on in later steps.
        fits = (found.seen >= MIN_VISIBLE_SHARE) & (found.agreement >= MIN_AGREEMENT)
        motions = found.state.source_from_target.unflatten(0, start.shape[:2])
        trusted = fits.unflatten(0, start.shape[:2])
    return torch.where(trusted[..., None, None], motions, start), trusted
