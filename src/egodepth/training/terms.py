"""Terms of the training objective: per-pixel losses, masked and averaged over scales and pixels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from egodepth.geometry.camera import Camera
from egodepth.geometry.limits import Sampling
from egodepth.geometry.warp import reproject, sample, warp
from egodepth.losses.consistency import depth_consistency_loss
from egodepth.losses.feature_metric import feature_metric_loss, structural_feature_loss
from egodepth.losses.feature_regularizers import (
    convergent_loss,
    discriminative_loss,
    normalized,
    reconstruction_loss,
)
from egodepth.losses.known_depth import dense_depth_loss, dense_gradient_loss
from egodepth.losses.masking import OVER_SOURCES, automask, minimum_over_sources
from egodepth.losses.photometric import TargetStatistics, photometric_loss, target_statistics
from egodepth.losses.smoothness import (
    first_order_smoothness,
    mean_normalized,
    second_order_smoothness,
)
from egodepth.models.networks import Networks
from egodepth.settings.training import LossWeights, TrainSettings
from egodepth.training.batch import SnippetBatch
from egodepth.training.compilation import Comparisons

FARTHEST_TYPICAL_DEPTH = 10.0
"""Upper bound of a batch's geometric mean depth, in multiples of DepthNet's start depth."""
COARSE_REDUCTIONS = (4, 8)


def depth_differences(
    networks: Networks,
    inverse_depth: Tensor,
    motions: Tensor,
    sources: Tensor,
    camera: Camera,
    static: Tensor | None = None,
) -> Tensor:
    """Difference (S, B, h, w) between the target's depth, projected into each source (S, B, 3, H, W), and the
    depth of that source, which gets no gradient."""
    assert networks.depth is not None
    count = len(sources)
    with torch.no_grad():
        own = 1 / networks.depth(sources.flatten(0, 1), scales=1)[0]
    cameras = camera.resize(*inverse_depth.shape[-2:]).repeat(count)
    depth = (1 / inverse_depth[:, 0]).repeat(count, 1, 1)
    pixels, projected, valid = reproject(depth, motions.flatten(0, 1), cameras, cameras)
    sampled = sample(own, pixels)[:, 0]
    hidden = _hidden(static, depth, motions, cameras)
    if hidden is not None:
        valid &= ~hidden.flatten(0, 1)
    return depth_consistency_loss(projected, sampled, valid).unflatten(0, (count, -1))


@torch.no_grad()
def _hidden(
    static: Tensor | None, depth: Tensor, motions: Tensor, cameras: Camera
) -> Tensor | None:
    """Mask (S, B, *layers, h, w) of pixels whose 3x3 window reads the static mask of the source when warped;
    None without a static mask.

    Args:
        static: (B, 1, H, W) static mask.
        depth: (S B, *layers, h, w).
        motions: (S, B, 4, 4).
        cameras: batch size S B, at the size of the depth.
    """
    if static is None:
        return None
    count, size = len(motions), depth.shape[-2:]
    mask = F.interpolate(static.float(), size, mode="area").repeat(count, 1, 1, 1)
    read = warp(mask, depth, motions.flatten(0, 1), cameras, cameras)[0]
    near = F.max_pool2d(read.flatten(1, -3), 3, stride=1, padding=1).view(read.shape) > 0
    return near[:, 0].unflatten(0, (count, -1))


def _mean(loss: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of losses (N B, h, w) of N views, times the pixel weights (B, 1, H, W) if there are any."""
    if weight is None:
        return loss.mean()
    resized = F.interpolate(weight, loss.shape[-2:], mode="area")[:, 0]
    return (loss * resized.repeat(len(loss) // len(resized), 1, 1)).mean()


def at_size(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Resize inverse depth (B, 1, h, w) to the size of an image."""
    size = image.shape[-2:]
    if inverse_depth.shape[-2:] == size:
        return inverse_depth
    return F.interpolate(inverse_depth, size, mode="bilinear", align_corners=False)


def enlarged(image: Tensor, scale: float) -> Tensor:
    """Resize an image (N, 3, H, W) by a factor, bilinearly."""
    if scale == 1:
        return image
    height, width = (round(scale * side) for side in image.shape[-2:])
    return F.interpolate(
        image, (height, width), mode="bilinear", align_corners=False, antialias=scale < 1
    )


def half_size(image: Tensor) -> Tensor:
    """Downsample an image to (..., H // 2, W // 2) by area."""
    height, width = image.shape[-2:]
    return F.interpolate(image, (height // 2, width // 2), mode="area")


def dense_term(inverse_depths: list[Tensor], labels: Tensor) -> Tensor:
    """Dense label loss on depth and its gradients, with all scales at full size."""
    scales = torch.cat([at_size(inverse, labels) for inverse in inverse_depths], dim=1)
    return dense_depth_loss(scales, labels) + dense_gradient_loss(scales, labels)


def photometric_term(
    inverse_depths: list[Tensor],
    motions: Tensor,
    batch: SnippetBatch,
    settings: TrainSettings,
    compare: Comparisons,
    statistics: TargetStatistics,
    identity: Tensor | None,
    weight: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """L_ph, averaged over scales and pixels, with all scales at full size; and which pixels the automask leaves
    in at the finest scale (B, 1, H, W), None without an automask."""
    count = len(batch.sources)
    depth = 1 / torch.cat([at_size(inverse, batch.target) for inverse in inverse_depths], dim=1)
    cameras = batch.camera.repeat(count)
    depths = depth.repeat(count, 1, 1, 1)
    warped, _ = warp(
        batch.sources.flatten(0, 1),
        depths,
        motions.flatten(0, 1),
        cameras,
        cameras,
        settings.sampling,
    )
    scales = depth.shape[1]
    views = warped.unflatten(0, (count, -1)).permute(3, 0, 1, 2, 4, 5).flatten(0, 1)
    hidden = _hidden(batch.static, depths, motions, cameras)
    if hidden is not None:
        hidden = hidden.transpose(1, 2).flatten(1, 2)
    how = settings.loss.over_sources
    loss, kept = compare.views(views, statistics, count, hidden, how), None
    if settings.automask:
        assert identity is not None
        unwarped = OVER_SOURCES[how](identity)
        kept = (loss[: len(unwarped)] <= unwarped)[:, None].float()
        loss = automask(loss, unwarped.repeat(scales, 1, 1))
    return _mean(loss, weight), kept


def coarse_term(
    inverse_depth: Tensor,
    motions: Tensor,
    batch: SnippetBatch,
    sampling: Sampling,
    weight: Tensor | None,
) -> Tensor:
    """L_ph of the finest depth on images at 1/4 and 1/8 resolution, averaged.

    There, motions of many pixels, beyond the basin of convergence at full resolution, shrink to a pixel or two.
    """
    count, (height, width) = motions.shape[0], batch.target.shape[-2:]
    losses = []
    for reduction in COARSE_REDUCTIONS:
        size = (height // reduction, width // reduction)
        target = F.interpolate(batch.target, size, mode="area")
        sources = F.interpolate(batch.sources.flatten(0, 1), size, mode="area")
        depth = 1 / F.interpolate(inverse_depth, size, mode="area").squeeze(1)
        cameras = batch.camera.resize(*size).repeat(count)
        depths = depth.repeat(count, 1, 1)
        warped, _ = warp(sources, depths, motions.flatten(0, 1), cameras, cameras, sampling)
        per_source = photometric_loss(warped.unflatten(0, (count, -1)), target_statistics(target))
        hidden = _hidden(batch.static, depths, motions, cameras)
        losses.append(_mean(minimum_over_sources(per_source, hidden), weight))
    return torch.stack(losses).mean()


def feature_metric_term(
    inverse_depth: Tensor,
    motions: Tensor,
    target: list[Tensor],
    sources: list[Tensor],
    batch: SnippetBatch,
    settings: TrainSettings,
    progress: float,
    compare: Comparisons,
    weight: Tensor | None,
) -> Tensor:
    """L_fm of the finest depth: sum over the feature levels, each at its own size, weighted by share."""
    count, how = motions.shape[0], settings.loss.over_sources
    if settings.loss.feature_gradient == "motion":
        inverse_depth = inverse_depth.detach()
    elif settings.loss.feature_gradient == "depth":
        motions = motions.detach()
    shares: tuple[float, ...] = settings.loss.feature_levels
    if settings.loss.feature_fading:
        shares = faded(shares, progress)
    per_source = (
        feature_metric_loss
        if settings.loss.feature_comparison == "robust"
        else structural_feature_loss
    )
    losses = []
    for share, ours, theirs in zip(shares, target, sources, strict=False):
        if not share:
            continue
        size = ours.shape[-2:]
        depth = 1 / F.interpolate(inverse_depth, size, mode="area").squeeze(1)
        cameras = batch.camera.resize(*size).repeat(count)
        depths = depth.repeat(count, 1, 1)
        warped, _ = warp(theirs, depths, motions.flatten(0, 1), cameras, cameras, settings.sampling)
        hidden = _hidden(batch.static, depths, motions, cameras)
        ours, theirs = ours.detach(), theirs.unflatten(0, (count, -1))
        loss = compare.features(warped.unflatten(0, (count, -1)), ours, per_source, hidden, how)
        if settings.automask and settings.loss.feature_mask == "own":
            with torch.no_grad():
                identity = compare.features(theirs, ours, per_source, None, how)
            loss = automask(loss, identity)
        losses.append(share * _mean(loss, weight))
    return torch.stack(losses).sum()


def faded(shares: tuple[float, ...], progress: float) -> tuple[float, ...]:
    """Shares of feature levels, finest first, as training goes on: the coarsest one alone at its begin, the
    finest one alone at its end, two neighbours between; their sum stays.

    Args:
        shares: of the levels; those of 0 stay out.
        progress: share of the training done.
    """
    used = [level for level, share in enumerate(shares) if share]
    place = (1 - min(max(progress, 0.0), 1.0)) * (len(used) - 1)
    near = {level: max(0.0, 1 - abs(rank - place)) for rank, level in enumerate(used)}
    now = [share * near.get(level, 0.0) for level, share in enumerate(shares)]
    return tuple(sum(shares) / sum(now) * share for share in now)


def smoothness_terms(inverse_depths: list[Tensor], image: Tensor) -> dict[str, Tensor]:
    """First- and second-order smoothness, averaged over scales, with the weight halved at each coarser one."""
    first, second = [], []
    for scale, inverse in enumerate(inverse_depths):
        resized = F.interpolate(image, inverse.shape[-2:], mode="area")
        normalized = mean_normalized(inverse)
        first.append(first_order_smoothness(normalized, resized).mean() / 2**scale)
        second.append(second_order_smoothness(normalized, resized).mean() / 2**scale)
    return {"smooth_first": torch.stack(first).mean(), "smooth_second": torch.stack(second).mean()}


def consistency_term(
    networks: Networks, inverse_depth: Tensor, motions: Tensor, batch: SnippetBatch
) -> Tensor:
    """Depth consistency of the target with one random source, which gets no gradient. Nothing else ties the
    scales of different pairs together."""
    chosen = int(torch.randint(len(batch.sources), ()))
    one = slice(chosen, chosen + 1)
    return depth_differences(
        networks, inverse_depth, motions[one], batch.sources_input[one], batch.camera, batch.static
    ).mean()


def scale_term(inverse_depth: Tensor, unit: float, *, tied: bool) -> Tensor:
    """Squared excess of mean log depth over FARTHEST_TYPICAL_DEPTH; if tied, its squared distance to the unit.

    Monocular video leaves the scale free. While PoseNet's motions are still wrong, depth drifts to the
    farthest bound, where the sigmoid of DepthNet has no gradient to recover; this term pulls it back.

    It uses the mean log depth: tying the arithmetic mean to a value pulled sky and bare walls, which
    nothing else constrains, as near as possible. With aligned motions, which follow the depth
    immediately, the mean is tied to the unit; otherwise it drifted to the nearest bound within some
    hundred steps.
    """
    if tied:
        return (inverse_depth.log().mean() + math.log(unit)).square()
    beyond = -inverse_depth.log().mean() - math.log(FARTHEST_TYPICAL_DEPTH * unit)
    return beyond.clamp(min=0).square()


def feature_terms(
    levels: list[Tensor], reconstructions: list[Tensor], image: Tensor, loss: LossWeights
) -> dict[str, Tensor]:
    """L_rec, L_dis and L_cvt, averaged over the levels of FeatureNet.

    Args:
        levels: features, finest first.
        reconstructions: reconstructed images, finest first.
        image: (B, 3, H, W).
        loss: determines the levels and their weights.
    """

    def resized(like: Tensor) -> Tensor:
        return F.interpolate(image, like.shape[-2:], mode="area")

    reconstruction = [reconstruction_loss(r, resized(r)).mean() for r in reconstructions]
    if loss.regularize == "all":
        chosen = [(features, 0.5**i) for i, features in enumerate(levels)]
    else:
        shares = zip(levels, loss.feature_levels, strict=False)
        chosen = [(features, 1.0) for features, share in shares if share]
    if loss.regularizer_norm == "spread":
        chosen = [(normalized(features), w) for features, w in chosen]
    discriminative = [w * discriminative_loss(f, resized(f)).mean() for f, w in chosen]
    convergent = [w * convergent_loss(f).mean() for f, w in chosen]
    return {
        "reconstruction": torch.stack(reconstruction).mean(),
        "discriminative": torch.stack(discriminative).mean(),
        "convergent": torch.stack(convergent).mean(),
    }
