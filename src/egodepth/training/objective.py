"""The training objective: weighted sum of all loss terms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from egodepth.losses.ground_contact import ground_contact_loss, still_pixels
from egodepth.losses.known_depth import sparse_depth_loss
from egodepth.losses.masking import minimum_over_sources
from egodepth.losses.photometric import photometric_loss, target_statistics
from egodepth.models.networks import FeatureNet, Networks
from egodepth.settings.training import LossWeights, TrainSettings
from egodepth.training.batch import SnippetBatch
from egodepth.training.compilation import PLAIN, Comparisons
from egodepth.training.motion_alignment import align_motions, motions_of_batch, require_finite
from egodepth.training.terms import (
    at_size,
    coarse_term,
    consistency_term,
    dense_term,
    depth_differences,
    enlarged,
    feature_metric_term,
    feature_terms,
    half_size,
    photometric_term,
    scale_term,
    smoothness_terms,
)


@dataclass(frozen=True)
class ObjectiveResult:
    """The objective of one batch.

    Attributes:
        total: weighted sum of the terms, a scalar.
        terms: unweighted mean of each term, by the name of its weight.
        inverse_depth: (B, 1, h, w), DepthNet's finest scale; None without DepthNet.
        motions: (S, B, 4, 4) ``source_from_target`` used for warping; None without DepthNet.
        reconstruction: (B, 3, H, W) of the target; None unless FeatureNet is trained.
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
    """Compute the paper's objective (eq. 10), as far as the given networks allow.

    Target statistics, features and identity losses are computed once per step; all sources and scales
    are warped in one call. Features enter L_fm without gradient, so that FeatureNet cannot lower it
    by flattening them.

    Args:
        networks: networks of the method.
        batch: snippets.
        settings: training settings.
        progress: share of the training done so far; the coarse term and coarse levels of L_fm fade out with it.
        compare: comparison of warped images and features with the target; see
            :mod:`egodepth.training.compilation`.
        known_terms: terms computed elsewhere, by the name of their weight.

    Raises:
        NonFiniteError: depth or motion is not finite (checked on the CPU only).
    """
    terms = dict(known_terms or {})
    target_features: list[Tensor] | None = None
    reconstruction = None
    dense = batch.dense if settings.loss.dense > 0 else None
    labels_alone = (
        dense is not None and not settings.labels_in_rounds and progress < settings.labels_first
    )
    if networks.features is not None and settings.method != "frozen" and not labels_alone:
        target_features, reconstructions = networks.features(batch.target)
        reconstruction = reconstructions[0]
        terms |= feature_terms(target_features, reconstructions, batch.target, settings.loss)
    inverse_depth = motions = None
    if networks.depth is not None:
        inverse_depths = networks.depth(batch.target_input)
        inverse_depth = inverse_depths[0]
        require_finite(inverse_depth, "depth")
        motions, pose_terms = motions_of_batch(networks, batch, inverse_depth, settings)
        require_finite(motions, "motion")
        terms |= pose_terms
        if batch.points is not None:
            full = at_size(inverse_depth, batch.target)
            terms["points"] = sparse_depth_loss(full, batch.points).mean()
        if dense is not None:
            terms["dense"] = dense_term(inverse_depths, dense)
        if labels_alone:
            terms |= smoothness_terms(inverse_depths, batch.target)
        else:
            weight = _pixel_weight(networks, inverse_depth, motions, batch, settings)
            features = features_to_compare(networks.features, target_features, batch, settings)
            terms |= warping_terms(
                features, inverse_depths, motions, batch, settings, progress, compare, weight
            )
        if settings.data.poses == "aligned" and settings.loss.consistency > 0:
            terms["consistency"] = consistency_term(networks, inverse_depth, motions, batch)
    total = weighted_sum(terms, settings.loss)
    return ObjectiveResult(total, terms, inverse_depth, motions, reconstruction)


@torch.no_grad()
def depth_loss(
    networks: Networks, batch: SnippetBatch, settings: TrainSettings, start: Tensor | None = None
) -> Tensor:
    """L_ph with the motions that fit the depth best, by direct alignment; a scalar. It measures how well the
    depth alone explains held-out frames.

    Args:
        networks: networks with a DepthNet.
        batch: snippets.
        settings: training settings.
        start: (T, B, 4, 4) initial motions for alignment; by default PoseNet's, or the known ones.

    Raises:
        NonFiniteError: depth or motion is not finite (checked on the CPU only).
    """
    assert networks.depth is not None
    inverse_depth = networks.depth(batch.target_input, scales=1)[0]
    require_finite(inverse_depth, "depth")
    directions = settings.data.directions
    if start is None and networks.pose is not None:
        start = networks.pose.sources_from_target(
            batch.target_input, batch.sources_input[: len(directions)], directions
        )
    in_time = batch.motions if start is None else start
    if in_time is not None:
        require_finite(in_time, "motion")
        in_time, _ = align_motions(in_time, batch, inverse_depth)
    motions = batch.with_partner(in_time)
    statistics = target_statistics(batch.target)
    identity = photometric_loss(batch.sources, statistics) if settings.automask else None
    weight = None if batch.static is None else (~batch.static).float()
    return photometric_term(
        [inverse_depth], motions, batch, settings, PLAIN, statistics, identity, weight
    )[0]


def weighted_sum(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """Weighted sum of all terms, a scalar."""
    by_name = weights.terms
    return torch.stack([by_name[name] * value for name, value in terms.items()]).sum()


def features_to_compare(
    net: FeatureNet | None,
    target_features: list[Tensor] | None,
    batch: SnippetBatch,
    settings: TrainSettings,
) -> tuple[list[Tensor], list[Tensor]] | None:
    """Features of the targets and of all sources that L_fm compares, without gradient, finest level first; None
    if the method has no L_fm.

    Args:
        net: FeatureNet, if there is one.
        target_features: features of the targets, if they are already computed.
        batch, settings: see :func:`compute_objective`.
    """
    sources = batch.sources.flatten(0, 1)
    if settings.method == "images":
        return [half_size(batch.target)], [half_size(sources)]
    if net is None:
        return None
    levels, scale = len(settings.loss.feature_levels), settings.loss.feature_scale
    with torch.no_grad():
        if target_features is not None and scale == 1:
            return target_features, net.features(sources, levels)
        both = net.features(enlarged(torch.cat([batch.target, sources]), scale), levels)
    count = len(batch.target)
    return [level[:count] for level in both], [level[count:] for level in both]


def warping_terms(
    features: tuple[list[Tensor], list[Tensor]] | None,
    inverse_depths: list[Tensor],
    motions: Tensor,
    batch: SnippetBatch,
    settings: TrainSettings,
    progress: float,
    compare: Comparisons = PLAIN,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """Terms on depth and motions: L_ph, L_fm, smoothness, ground contact and scale.

    Args:
        features: features of targets and sources, see :func:`features_to_compare`.
        inverse_depths: DepthNet's scales, finest first.
        motions: (S, B, 4, 4) ``source_from_target``.
        batch, settings, progress, compare: see :func:`compute_objective`.
        weight: (B, 1, H, W) pixel weights in L_ph and L_fm; None for uniform weights.
    """
    inverse_depth = inverse_depths[0]
    statistics = target_statistics(batch.target)
    identity = None
    if settings.automask or settings.loss.ground_contact > 0:
        with torch.no_grad():
            identity = photometric_loss(batch.sources, statistics)
    photometric, kept = photometric_term(
        inverse_depths, motions, batch, settings, compare, statistics, identity, weight
    )
    terms = {"photometric": photometric}
    if settings.loss.ground_contact > 0 and identity is not None:
        full = at_size(inverse_depth, batch.target)[:, 0]
        still = still_pixels(identity, statistics.contrast.sqrt().mean(1))
        terms["ground_contact"] = ground_contact_loss(full, still).mean()
    if settings.loss.coarse > 0 and progress < 1:
        terms["coarse"] = (1 - progress) * coarse_term(
            inverse_depth, motions, batch, settings.sampling, weight
        )
    terms |= smoothness_terms(inverse_depths, batch.target)
    if settings.loss.scale > 0:
        # Aligned motions follow the depth immediately, so only this term fixes the scale.
        tied = settings.data.poses == "aligned"
        terms["scale"] = scale_term(inverse_depth, settings.model.start_depth, tied=tied)
    if features is not None:
        if settings.loss.feature_mask == "photometric" and kept is not None:
            weight = kept if weight is None else kept * weight
        terms["feature_metric"] = feature_metric_term(
            inverse_depth, motions, *features, batch, settings, progress, compare, weight
        )
    return terms


def _pixel_weight(
    networks: Networks,
    inverse_depth: Tensor,
    motions: Tensor,
    batch: SnippetBatch,
    settings: TrainSettings,
) -> Tensor | None:
    """Pixel weights (B, 1, H, W): zero in the static mask, multiplied by the depth agreement if
    ``moving_mask`` is set; None for uniform weights."""
    weight = None if batch.static is None else (~batch.static).float()
    if settings.moving_mask:
        agreement = _agreement(networks, inverse_depth, motions, batch)
        weight = agreement if weight is None else weight * agreement
    return weight


@torch.no_grad()
def _agreement(
    networks: Networks, inverse_depth: Tensor, motions: Tensor, batch: SnippetBatch
) -> Tensor:
    """Agreement (B, 1, H, W), between 0 and 1, of the target's depth, projected into a source, with the depth
    of that source; maximum over sources. This is the self-discovered mask of Bian et al., NeurIPS 2019. Pixels
    that project outside of a source count as agreement."""
    differs = depth_differences(networks, inverse_depth, motions, batch.sources_input, batch.camera)
    return at_size(1 - minimum_over_sources(differs)[:, None], batch.target)
