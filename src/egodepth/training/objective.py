"""The training objective: where losses get their weights and means, once."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from egodepth.geometry.alignment import (
    FEWEST,
    LEAST_AGREEMENT,
    AlignSettings,
    State,
    align,
)
from egodepth.geometry.camera import Camera
from egodepth.geometry.pyramid import image_pyramid, make_levels
from egodepth.geometry.warp import Sampling, reproject, sample, warp
from egodepth.losses.consistency import depth_consistency_loss
from egodepth.losses.feature_metric import feature_metric_loss, structural_feature_loss
from egodepth.losses.feature_regularizers import (
    convergent_loss,
    discriminative_loss,
    reconstruction_loss,
)
from egodepth.losses.ground_contact import ground_contact_loss, still_pixels
from egodepth.losses.known_depth import dense_depth_loss, sparse_depth_loss
from egodepth.losses.masking import automask, minimum_over_sources
from egodepth.losses.photometric import TargetStatistics, photometric_loss, target_statistics
from egodepth.losses.smoothness import (
    first_order_smoothness,
    mean_normalized,
    second_order_smoothness,
)
from egodepth.models.networks import FeatureNet, Networks
from egodepth.settings.training import LossWeights, TrainSettings
from egodepth.training.compilation import PLAIN, Comparisons
from egodepth.training.snippets import SnippetBatch

FARTHEST_TYPICAL_DEPTH = 10.0
"""Geometric mean of a batch over the depth that DepthNet starts with."""

COARSE_REDUCTIONS = (4, 8)
ALIGNED_REDUCTIONS = (8, 4, 2)
ALIGNMENT = AlignSettings(iterations=5, brightness=True, tolerance=0.05)


@dataclass(frozen=True)
class ObjectiveResult:
    """The objective of one batch.

    Attributes:
        total: weighted sum of the terms, a scalar.
        terms: each term's mean, unweighted, by the name of its weight.
        inverse_depth: (B, 1, h, w), the finest of DepthNet, where there is one.
        motions: (S, B, 4, 4) ``source_from_target`` that it was judged by.
        reconstruction: (B, 3, H, W) at full size, where FeatureNet learns.
    """

    total: Tensor
    terms: dict[str, Tensor]
    inverse_depth: Tensor | None
    motions: Tensor | None
    reconstruction: Tensor | None


def compute_objective(
    networks: Networks,
    batch: SnippetBatch,
    settings: TrainSettings,
    progress: float = 0.0,
    compare: Comparisons = PLAIN,
    known_terms: dict[str, Tensor] | None = None,
) -> ObjectiveResult:
    """All terms of the paper's objective that the networks at hand allow (eq. 10).

    Target statistics, features and identity terms are computed once a step; all sources and scales
    are warped in one call. Features enter L_fm without gradient, so that FeatureNet cannot lower it
    by flattening them.

    Args:
        networks: those that the method needs.
        batch: snippets.
        settings: of the run.
        progress: share of the training that is done; the coarse term fades with it.
        compare: warped images and features with the targets; see :mod:`egodepth.training.compilation`.
        known_terms: of what is neither in the networks nor in the batch, by their weights' names.

    Raises:
        FloatingPointError: depth or motion that is not finite, on the CPU.
    """
    terms = dict(known_terms or {})
    target_features: list[Tensor] | None = None
    reconstruction = None
    if networks.features is not None and settings.method != "frozen":
        target_features, reconstructions = networks.features(batch.target)
        reconstruction = reconstructions[0]
        terms |= _feature_terms(target_features, reconstructions, batch.target, settings.loss)
    inverse_depth = motions = None
    if networks.depth is not None:
        inverse_depths = networks.depth(batch.target_input)
        inverse_depth = inverse_depths[0]
        _require_finite(inverse_depth, "depth")
        motions, pose_terms = _motions(networks, batch, inverse_depth, settings)
        terms |= pose_terms
        if batch.points.shape[1]:
            full = _at_size(inverse_depth, batch.target)
            terms["points"] = sparse_depth_loss(full, batch.points).mean()
        dense = batch.dense if settings.loss.dense > 0 else None
        if dense is not None:
            terms["dense"] = _dense_term(inverse_depths, dense)
        alone = not settings.labels_in_rounds and progress < settings.labels_first
        if dense is not None and alone:
            terms |= _smoothness_terms(inverse_depths, batch.target)
        else:
            weight = _pixel_weight(networks, inverse_depth, motions, batch, settings)
            terms |= warping_terms(
                networks.features, target_features, inverse_depths, motions, batch, settings, progress,
                compare, weight,
            )  # fmt: skip
        if settings.data.poses == "aligned" and settings.loss.consistency > 0:
            terms["consistency"] = _consistency_term(networks, inverse_depth, motions, batch)
    total = weighted_sum(terms, settings.loss)
    return ObjectiveResult(total, terms, inverse_depth, motions, reconstruction)


@torch.no_grad()
def depth_loss(
    networks: Networks, batch: SnippetBatch, settings: TrainSettings, start: Tensor | None = None
) -> Tensor:
    """L_ph that depth alone is to blame for, a scalar: motions in time are those that suit the depth best,
    by direct alignment. It tells whether depth explains frames that nothing learned from.

    Args:
        networks: with a DepthNet.
        batch: snippets.
        settings: of the run.
        start: (S, B, 4, 4) where alignment starts; by default PoseNet's motions, or the known ones.

    Raises:
        FloatingPointError: depth or motion that is not finite, on the CPU.
    """
    assert networks.depth is not None
    inverse_depth = networks.depth(batch.target_input, scales=1)[0]
    _require_finite(inverse_depth, "depth")
    directions = settings.data.directions
    in_time = len(directions)
    if start is None and networks.pose is not None and in_time:
        start = networks.pose.sources_from_target(
            batch.target_input, batch.sources_input[:in_time], directions
        )
    motions = batch.motions
    if start is not None:
        _require_finite(start, "motion")
    if in_time:
        aligned, _ = align_motions(
            motions[:in_time] if start is None else start, batch, inverse_depth
        )
        motions = torch.cat([aligned, motions[in_time:]])
    statistics = target_statistics(batch.target)
    identity = photometric_loss(batch.sources, statistics) if settings.automask else None
    weight = (~batch.static[0]).float() if len(batch.static) else None
    terms = _photometric_terms(
        [inverse_depth], motions, batch, settings, PLAIN, statistics, identity, weight
    )
    return terms["photometric"]


def weighted_sum(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """Of all terms, a scalar."""
    by_name = weights.terms
    return torch.stack([by_name[name] * value for name, value in terms.items()]).sum()


def warping_terms(
    features: FeatureNet | None,
    target_features: list[Tensor] | None,
    inverse_depths: list[Tensor],
    motions: Tensor,
    batch: SnippetBatch,
    settings: TrainSettings,
    progress: float,
    compare: Comparisons = PLAIN,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """What depth and motions are judged by: L_ph, L_fm, smoothness and scale.

    Args:
        features: FeatureNet, where there is one.
        target_features: of the targets, where they are known already.
        inverse_depths: DepthNet's, finest first.
        motions: (S, B, 4, 4) ``source_from_target``.
        batch, settings, progress, compare: see :func:`compute_objective`.
        weight: (B, 1, H, W) of each pixel in L_ph and L_fm, where they do not all count alike.
    """
    inverse_depth = inverse_depths[0]
    statistics = target_statistics(batch.target)
    identity = None
    if settings.automask or settings.loss.ground_contact > 0:
        with torch.no_grad():
            identity = photometric_loss(batch.sources, statistics)
    terms = _photometric_terms(
        inverse_depths, motions, batch, settings, compare, statistics, identity, weight
    )
    if settings.loss.ground_contact > 0 and identity is not None:
        full = _at_size(inverse_depth, batch.target)[:, 0]
        still = still_pixels(identity, statistics.contrast.sqrt().mean(1))
        terms["ground_contact"] = ground_contact_loss(full, still).mean()
    if settings.loss.coarse > 0 and progress < 1:
        terms["coarse"] = (1 - progress) * _coarse_term(
            inverse_depth, motions, batch, settings.sampling, weight
        )
    terms |= _smoothness_terms(inverse_depths, batch.target)
    if settings.loss.scale > 0:
        # Aligned motions follow the depth at once, so that nothing but this holds the scale.
        tied = settings.data.poses == "aligned"
        terms["scale"] = _scale_term(inverse_depth, settings.model.start_depth, tied=tied)
    sources = batch.sources.flatten(0, 1)
    source_features = None
    if settings.method == "images":
        target_features, source_features = [_half_size(batch.target)], [_half_size(sources)]
    elif features is not None:
        levels = len(settings.loss.feature_levels)
        with torch.no_grad():
            if target_features is None:
                both = features.features(torch.cat([batch.target, sources]), levels)
                count = len(batch.target)
                target_features = [level[:count] for level in both]
                source_features = [level[count:] for level in both]
            else:
                source_features = features.features(sources, levels)
    if source_features is not None:
        assert target_features is not None
        terms["feature_metric"] = _feature_metric_term(
            inverse_depth, motions, target_features, source_features, batch, settings, compare,
            weight,
        )  # fmt: skip
    return terms


def _pixel_weight(
    networks: Networks,
    inverse_depth: Tensor,
    motions: Tensor,
    batch: SnippetBatch,
    settings: TrainSettings,
) -> Tensor | None:
    """(B, 1, H, W) how much each pixel counts: not at all where it belongs to the camera, and as far as
    both frames' depths agree where that is asked for; None where all count alike."""
    weight = (~batch.static[0]).float() if len(batch.static) else None
    if settings.moving_mask:
        agreement = _agreement(networks, inverse_depth, motions, batch)
        weight = agreement if weight is None else weight * agreement
    return weight


@torch.no_grad()
def _agreement(
    networks: Networks, inverse_depth: Tensor, motions: Tensor, batch: SnippetBatch
) -> Tensor:
    """(B, 1, H, W) between 0 and 1: how well the depth of the target, moved into a source, agrees with that
    source's own, in the source where it does best; the self-discovered mask of Bian et al., NeurIPS 2019.
    A source that has no image of a pixel says nothing against it."""
    differs = _depth_differences(
        networks, inverse_depth, motions, batch.sources_input, batch.camera
    )
    return _at_size(1 - minimum_over_sources(differs)[:, None], batch.target)


def _depth_differences(
    networks: Networks,
    inverse_depth: Tensor,
    motions: Tensor,
    sources: Tensor,
    camera: Camera,
    static: Tensor | None = None,
) -> Tensor:
    """(S, B, h, w) how much the depth of the target, moved into each of the sources (S, B, 3, H, W), differs
    from that one's own, which gets no gradient."""
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
    """(S, B, *layers, h, w) where a pixel's warp reads what belongs to the camera in the source, with the
    window around it; None where nothing does.

    Args:
        static: (1, B, 1, H, W); None or (0, ...) where nothing does.
        depth: (S B, *layers, h, w).
        motions: (S, B, 4, 4).
        cameras: S B of them, at the size of the depth.
    """
    if static is None or len(static) == 0:
        return None
    count, size = len(motions), depth.shape[-2:]
    mask = F.interpolate(static[0].float(), size, mode="area").repeat(count, 1, 1, 1)
    read = warp(mask, depth, motions.flatten(0, 1), cameras, cameras)[0]
    near = F.max_pool2d(read.flatten(1, -3), 3, stride=1, padding=1).view(read.shape) > 0
    return near[:, 0].unflatten(0, (count, -1))


def _mean(loss: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of losses (N B, h, w) of N views each, weighted where there are weights (B, 1, H, W)."""
    if weight is None:
        return loss.mean()
    resized = F.interpolate(weight, loss.shape[-2:], mode="area")[:, 0]
    return (loss * resized.repeat(len(loss) // len(resized), 1, 1)).mean()


def _at_size(inverse_depth: Tensor, image: Tensor) -> Tensor:
    size = image.shape[-2:]
    if inverse_depth.shape[-2:] == size:
        return inverse_depth
    return F.interpolate(inverse_depth, size, mode="bilinear", align_corners=False)


def _half_size(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    return F.interpolate(image, (height // 2, width // 2), mode="area")


def _require_finite(values: Tensor, what: str) -> None:
    """On the CPU ``grid_sample`` reads anywhere in memory at coordinates that are not a number. A GPU would
    have to be waited for, and is not asked."""
    if values.device.type == "cpu" and not bool(torch.isfinite(values.detach()).all()):
        raise FloatingPointError(f"the networks' {what} is not finite")


def _motions(
    networks: Networks, batch: SnippetBatch, inverse_depth: Tensor, settings: TrainSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """``source_from_target`` of all sources, and what PoseNet has to learn of them.

    The camera's partner in a rig is known; motions in time come from ``settings.data.poses``.
    """
    if networks.pose is None:
        return batch.motions, {}
    directions = settings.data.directions
    in_time = len(directions)
    learned = networks.pose.sources_from_target(
        batch.target_input, batch.sources_input[:in_time], directions
    )
    _require_finite(learned, "motion")
    known, terms = learned, {}
    if settings.data.poses == "aligned":
        known, trusted = align_motions(learned, batch, inverse_depth)
        # A mean over those that are trusted; selecting them would make the host wait for a GPU.
        share = trusted / trusted.sum().clamp(min=1)
        terms = {"pose": (share * networks.pose.difference(learned, known)).sum()}
    elif settings.data.poses == "sfm":
        known = batch.motions[:in_time]
        terms = {"pose": networks.pose.difference(learned, known.detach()).mean()}
    return torch.cat([known, batch.motions[in_time:]]), terms


def align_motions(
    start: Tensor, batch: SnippetBatch, inverse_depth: Tensor
) -> tuple[Tensor, Tensor]:
    """Motions (S, B, 4, 4) refined by direct alignment with the depth of the moment, without what belongs to
    the camera, and whether to trust them (S, B). Those that are not trusted stay PoseNet's, with their
    gradient."""
    count = start.shape[0]
    with torch.no_grad():
        full = _at_size(inverse_depth.detach(), batch.target)
        levels = make_levels(
            image_pyramid(batch.target.repeat(count, 1, 1, 1), ALIGNED_REDUCTIONS),
            image_pyramid(batch.sources[:count].flatten(0, 1), ALIGNED_REDUCTIONS),
            full[:, 0].repeat(count, 1, 1),
            batch.camera.repeat(count),
            batch.static[0].repeat(count, 1, 1, 1) if len(batch.static) else None,
        )
        # A step on a GPU is not to wait for it; on the CPU, iterations that change nothing cost time.
        how = replace(ALIGNMENT, stop_early=start.device.type == "cpu")
        found = align(levels, State.start(start.detach().flatten(0, 1)), how)
        # Within a step a motion may still be on its way: it need not have converged.
        fits = (found.seen >= FEWEST) & (found.agreement >= LEAST_AGREEMENT)
        motions = found.state.source_from_target.unflatten(0, start.shape[:2])
        trusted = fits.unflatten(0, start.shape[:2])
    return torch.where(trusted[..., None, None], motions, start), trusted


def _dense_term(inverse_depths: list[Tensor], labels: Tensor) -> Tensor:
    """Mean over scales, each at full size, and over the labelled pixels by confidence."""
    scales = torch.cat([_at_size(inverse, labels) for inverse in inverse_depths], dim=1)
    loss = dense_depth_loss(scales, labels)
    return loss.mean(1).sum() / labels[:, 1].sum().clamp(min=1)


def _photometric_terms(
    inverse_depths: list[Tensor],
    motions: Tensor,
    batch: SnippetBatch,
    settings: TrainSettings,
    compare: Comparisons,
    statistics: TargetStatistics,
    identity: Tensor | None,
    weight: Tensor | None,
) -> dict[str, Tensor]:
    """L_ph, mean over scales and pixels; every scale is judged at full size."""
    count = len(batch.sources)
    depth = 1 / torch.cat([_at_size(inverse, batch.target) for inverse in inverse_depths], dim=1)
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
    loss = compare.views(views, statistics, count, hidden)
    if settings.automask:
        assert identity is not None
        loss = automask(loss, minimum_over_sources(identity).repeat(scales, 1, 1))
    return {"photometric": _mean(loss, weight)}


def _coarse_term(
    inverse_depth: Tensor,
    motions: Tensor,
    batch: SnippetBatch,
    sampling: Sampling,
    weight: Tensor | None,
) -> Tensor:
    """L_ph of the finest depth on images at a quarter and an eighth of the size, mean of both.

    There a motion of many pixels, beyond the slopes of L_ph at full size, is one of a pixel or two.
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


def _feature_metric_term(
    inverse_depth: Tensor,
    motions: Tensor,
    target: list[Tensor],
    sources: list[Tensor],
    batch: SnippetBatch,
    settings: TrainSettings,
    compare: Comparisons,
    weight: Tensor | None,
) -> Tensor:
    """L_fm from the finest depth, once a step: sum over the levels, each at its own size, by share."""
    count = motions.shape[0]
    per_source = (
        feature_metric_loss
        if settings.loss.feature_comparison == "robust"
        else structural_feature_loss
    )
    losses = []
    for share, ours, theirs in zip(settings.loss.feature_levels, target, sources, strict=False):
        if not share:
            continue
        size = ours.shape[-2:]
        depth = 1 / F.interpolate(inverse_depth, size, mode="area").squeeze(1)
        cameras = batch.camera.resize(*size).repeat(count)
        depths = depth.repeat(count, 1, 1)
        warped, _ = warp(theirs, depths, motions.flatten(0, 1), cameras, cameras, settings.sampling)
        hidden = _hidden(batch.static, depths, motions, cameras)
        ours, theirs = ours.detach(), theirs.unflatten(0, (count, -1))
        loss = compare.features(warped.unflatten(0, (count, -1)), ours, per_source, hidden)
        if settings.automask:
            with torch.no_grad():
                identity = compare.features(theirs, ours, per_source, None)
            loss = automask(loss, identity)
        losses.append(share * _mean(loss, weight))
    return torch.stack(losses).sum()


def _smoothness_terms(inverse_depths: list[Tensor], image: Tensor) -> dict[str, Tensor]:
    """Both orders, mean over scales, halved from each scale to the next coarser one."""
    first, second = [], []
    for scale, inverse in enumerate(inverse_depths):
        resized = F.interpolate(image, inverse.shape[-2:], mode="area")
        normalized = mean_normalized(inverse)
        first.append(first_order_smoothness(normalized, resized).mean() / 2**scale)
        second.append(second_order_smoothness(normalized, resized).mean() / 2**scale)
    return {"smooth_first": torch.stack(first).mean(), "smooth_second": torch.stack(second).mean()}


def _consistency_term(
    networks: Networks, inverse_depth: Tensor, motions: Tensor, batch: SnippetBatch
) -> Tensor:
    """Depth of the target against that of one source, chosen at random, which gets no gradient: the
    motion of each pair has a scale of its own, and nothing else ties them."""
    chosen = int(torch.randint(len(batch.sources), ()))
    one = slice(chosen, chosen + 1)
    return _depth_differences(
        networks, inverse_depth, motions[one], batch.sources_input[one], batch.camera, batch.static
    ).mean()


def _scale_term(inverse_depth: Tensor, unit: float, *, tied: bool) -> Tensor:
    """Monocular video leaves the scale free. While PoseNet's motions are still wrong, the farthest
    depth is the least wrong one, where the sigmoid of DepthNet has no gradient to come back by. So
    a batch whose typical depth is beyond FARTHEST_TYPICAL_DEPTH is pulled back.

    On this side the term is zero, and it sees the mean of logarithms: tying the plain mean to a value
    made sky and bare walls, whose depth nothing else holds, as near as possible. Where motions follow
    the depth at once, all of it moves together, and the mean is tied to the unit itself; without that
    it crept to the nearest bound within some hundred steps.
    """
    if tied:
        return (inverse_depth.log().mean() + math.log(unit)).square()
    beyond = -inverse_depth.log().mean() - math.log(FARTHEST_TYPICAL_DEPTH * unit)
    return beyond.clamp(min=0).square()


def _feature_terms(
    levels: list[Tensor], reconstructions: list[Tensor], image: Tensor, loss: LossWeights
) -> dict[str, Tensor]:
    def resized(like: Tensor) -> Tensor:
        return F.interpolate(image, like.shape[-2:], mode="area")

    reconstruction = [reconstruction_loss(r, resized(r)).mean() for r in reconstructions]
    if loss.regularize == "all":
        chosen = [(features, 0.5**i) for i, features in enumerate(levels)]
    else:
        shares = zip(levels, loss.feature_levels, strict=False)
        chosen = [(features, 1.0) for features, share in shares if share]
    discriminative = [w * discriminative_loss(f, resized(f)).mean() for f, w in chosen]
    convergent = [w * convergent_loss(f).mean() for f, w in chosen]
    return {
        "reconstruction": torch.stack(reconstruction).mean(),
        "discriminative": torch.stack(discriminative).mean(),
        "convergent": torch.stack(convergent).mean(),
    }
