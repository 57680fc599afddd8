"""Motions that training judges depth by: PoseNet's, known ones, and those that direct alignment refines."""

from dataclasses import replace

import torch
from torch import Tensor

from egodepth.geometry.alignment import MIN_AGREEMENT, MIN_VISIBLE_SHARE, AlignSettings, align
from egodepth.geometry.alignment_residual import State
from egodepth.geometry.pyramid import image_pyramid, make_levels
from egodepth.models.networks import Networks
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import SnippetBatch
from egodepth.training.terms import at_size

ALIGNED_REDUCTIONS = (8, 4, 2)
ALIGNMENT = AlignSettings(iterations=5, brightness=True, tolerance=0.05)


def require_finite(values: Tensor, what: str) -> None:
    """On the CPU ``grid_sample`` reads anywhere in memory at coordinates that are not a number. A GPU would
    have to be waited for, and is not asked."""
    if values.device.type == "cpu" and not bool(torch.isfinite(values.detach()).all()):
        raise FloatingPointError(f"the networks' {what} is not finite")


def motions_of_batch(
    networks: Networks, batch: SnippetBatch, inverse_depth: Tensor, settings: TrainSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """``source_from_target`` of all sources, and what PoseNet has to learn of them.

    The camera's partner in a rig is known; motions in time come from ``settings.data.poses``.
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
        # A mean over those that are trusted; selecting them would make the host wait for a GPU.
        share = trusted / trusted.sum().clamp(min=1)
        terms = {"pose": (share * networks.pose.difference(learned, known)).sum()}
    elif settings.data.poses == "sfm":
        assert batch.motions is not None
        known = batch.motions
        terms = {"pose": networks.pose.difference(learned, known.detach()).mean()}
    return batch.with_partner(known), terms


def align_motions(
    start: Tensor, batch: SnippetBatch, inverse_depth: Tensor
) -> tuple[Tensor, Tensor]:
    """Motions (S, B, 4, 4) refined by direct alignment with the depth of the moment, without what belongs to
    the camera, and whether to trust them (S, B). Those that are not trusted stay PoseNet's, with their
    gradient."""
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
        # A step on a GPU is not to wait for it; on the CPU, iterations that change nothing cost time.
        how = replace(ALIGNMENT, stop_early=start.device.type == "cpu")
        found = align(levels, State.start(start.detach().flatten(0, 1)), how)
        # Within a step a motion may still be on its way: it need not have converged.
        fits = (found.seen >= MIN_VISIBLE_SHARE) & (found.agreement >= MIN_AGREEMENT)
        motions = found.state.source_from_target.unflatten(0, start.shape[:2])
        trusted = fits.unflatten(0, start.shape[:2])
    return torch.where(trusted[..., None, None], motions, start), trusted
