"""Detection of training collapse, which may happen even while the loss falls."""

import torch
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.warp import warp
from egodepth.losses.masking import minimum_over_sources
from egodepth.losses.photometric import photometric_loss, target_statistics
from egodepth.settings.model import ModelSettings
from egodepth.training.batch import SnippetBatch
from egodepth.training.objective import ObjectiveResult

NEAR_BOUND = 1.05
"""Depth within this factor of a bound counts as at the bound."""
MAX_SHARE_AT_BOUNDS = 0.8
MIN_LOG_DEPTH_DEVIATION = 0.02
"""Minimum standard deviation of log depth within an image."""
MIN_MOTION = 1e-3
"""Minimum rotation in radians, and minimum translation relative to the median depth."""


@torch.no_grad()
def find_collapse(batch: SnippetBatch, result: ObjectiveResult, model: ModelSettings) -> str:
    """Describe a sign of collapse in a batch, and what to try; empty if there is none.

    Args:
        batch: snippets.
        result: objective of the batch, with depth and motions.
        model: model settings, for the depth bounds.
    """
    assert result.inverse_depth is not None and result.motions is not None
    depth = 1 / result.inverse_depth.float()
    at_bounds = (depth < NEAR_BOUND * model.min_depth) | (depth > model.max_depth / NEAR_BOUND)
    if float(at_bounds.float().mean()) > MAX_SHARE_AT_BOUNDS:
        return (
            "nearly all depth is at its bounds: lower --learning_rate, raise --loss.scale, or use "
            "--data.poses aligned or sfm"
        )
    if float(depth.log().flatten(1).std(1).mean()) < MIN_LOG_DEPTH_DEVIATION:
        return (
            "depth is the same everywhere: use footage with parallax, a larger --data.stride (or "
            "auto), or --data.poses aligned or sfm"
        )
    motions = result.motions.float()
    turn = se3.rotation_angle(motions[..., :3, :3])
    shift = motions[..., :3, 3].norm(dim=-1) / depth.flatten(1).median(1).values
    if float(turn.median()) < MIN_MOTION and float(shift.median()) < MIN_MOTION:
        return (
            "the camera is found to stand still: use a larger --data.stride (or auto), or "
            "--data.poses aligned or sfm"
        )
    warped, unmoved = _losses(batch, depth, motions)
    if warped > unmoved:
        return (
            f"warped neighbours fit worse ({warped:.3f}) than unmoved ones ({unmoved:.3f}): the motion "
            "is wrong; use --data.poses aligned or sfm, or lower --learning_rate"
        )
    return ""


def _losses(batch: SnippetBatch, depth: Tensor, motions: Tensor) -> tuple[float, float]:
    """L_ph of warped and of unwarped sources, at the size of the depth."""
    size = depth.shape[-2:]
    count = len(batch.sources)

    def resized(images: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(images, size, mode="area")

    sources = resized(batch.sources.flatten(0, 1))
    camera = batch.camera.resize(*size).repeat(count)
    warped, _ = warp(
        sources, depth[:, 0].repeat(count, 1, 1), motions.flatten(0, 1), camera, camera
    )
    statistics = target_statistics(resized(batch.target))
    losses = [
        float(
            minimum_over_sources(photometric_loss(v.unflatten(0, (count, -1)), statistics)).mean()
        )
        for v in (warped, sources)
    ]
    return losses[0], losses[1]
