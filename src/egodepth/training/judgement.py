"""Losses judged by ground truth, without training: how often each is lower at the true depth than beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from egodepth.core import config, progress
from egodepth.core.errors import EgodepthError, require
from egodepth.core.suggestions import did_you_mean
from egodepth.data.sequence import Sequence
from egodepth.evaluation.depth import DepthProtocol, get_protocol, has_least_texture
from egodepth.models.networks import FeatureNet
from egodepth.runs.folder import RunFolder
from egodepth.settings.recipes import RECIPES, get_recipe
from egodepth.settings.training import TrainSettings
from egodepth.training.build import build_feature_net
from egodepth.training.known_snippets import KnownSnippet, find_known_snippets
from egodepth.training.objective import features_to_compare, warping_terms

Features = tuple[list[Tensor], list[Tensor]]
"""Features of the target and of its sources."""
OFFSETS = (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
"""Relative errors of inverse depth that the truth is compared with."""
TERMS = ("photometric", "coarse", "feature_metric")
"""Terms of the objective that compare the target with warped sources."""
MASKED = ("photometric", "feature_metric")
"""Those of them that have an automask."""
SETTINGS = (
    "method", "feature_run", "init", "automask", "sampling", "data.stride", "data.views",
    "model.height", "model.width", "model.feature_encoder", "model.feature_depth", "model.pretrained",
    "loss.photometric",
    "loss.coarse", "loss.feature_metric", "loss.feature_levels", "loss.feature_comparison",
    "loss.feature_scale", "loss.feature_mask", "loss.feature_fading", "loss.over_sources",
)  # fmt: skip
"""Settings that change these terms."""
_STRUCTURAL = (
    "method=joint loss.feature_metric=0.3 loss.feature_comparison=structural "
    "loss.feature_levels=[0,1]"
)
DEFAULT_LOSSES = (
    "method=photometric", "method=joint loss.photometric=0", _STRUCTURAL,
    f"{_STRUCTURAL} loss.feature_scale=2",
)  # fmt: skip
"""L_ph; L_fm as in the paper; L_ph with a structural L_fm; and the same with finer features."""


@dataclass(frozen=True)
class LossJudgement:
    """How one loss judges the ground truth.

    Attributes:
        better: for each group of pixels (``all``, and ``least texture``: the third of each frame with the
            least) and each of OFFSETS, the share of the pixels at which the loss is lower at the true inverse
            depth than at one that is off by as much; a tie counts as half, so that an indifferent loss has 0.5.
        dropped: for each group and each term with an automask, the share of the pixels that it leaves out at
            the truth.
        pixels: number of pixels with ground truth.
        frames: names of the frames.
        offsets: relative errors of inverse depth that the truth is compared with.
    """

    better: dict[str, list[float]]
    dropped: dict[str, dict[str, float]]
    pixels: int
    frames: list[str]
    offsets: tuple[float, ...] = OFFSETS

    def mean(self, group: str = "all") -> float:
        """Mean share over all offsets."""
        return float(np.mean(self.better[group]))

    def to_json(self) -> dict[str, Any]:
        """All values, with the mean of each group."""
        means = {group: self.mean(group) for group in self.better}
        return {**vars(self), "mean": means}


def judge_losses(
    sequences: list[Sequence],
    losses: Mapping[str, TrainSettings],
    protocol: DepthProtocol | str,
    *,
    frames: tuple[int, ...] = (),
    count: int = 12,
    progress_at: float = 1.0,
) -> dict[str, LossJudgement]:
    """Judge losses by the ground truth of some frames, each at the size, sources and features of its settings.

    The losses are those of the training objective (:func:`egodepth.training.objective.warping_terms`) with the
    true motions, at the true inverse depth and at ones that are off everywhere by each of :data:`OFFSETS`.

    Args:
        sequences: footage with camera, depth and poses; for the views stereo and mono_stereo with both cameras.
        losses: settings by the name of the loss, see :func:`loss_settings`.
        protocol: of the depth, or its name: which cameras, crop and range of depth count.
        frames: numbers of the target frames; by default ``count`` frames of each sequence, evenly spread.
        count: see ``frames``.
        progress_at: share of the training done; the coarse term and coarse levels of L_fm fade out with it.

    Raises:
        EgodepthError: no frame with ground truth and sources, an unknown frame, or a loss without any term.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    require(protocol, DepthProtocol, "protocol", "a DepthProtocol or the name of one")
    if count < 1 or not 0 <= progress_at <= 1:
        raise EgodepthError(
            f"judging needs count >= 1 and progress between 0 and 1, got {count} and {progress_at:g}"
        )
    nets: dict[tuple[Any, ...], FeatureNet | None] = {}
    snippets: dict[tuple[Any, ...], list[KnownSnippet]] = {}
    results = {}
    for name, settings in progress.track(losses.items(), "judging", len(losses), "losses"):
        _require_terms(name, settings, progress_at)
        model, data = settings.model, settings.data
        key = (
            settings.method,
            settings.feature_run,
            settings.init,
            model.feature_encoder,
            model.feature_depth,
            model.pretrained,
        )
        if key not in nets:
            torch.manual_seed(settings.seed)
            nets[key] = build_feature_net(settings)
        place = (model.height, model.width, data.stride, data.views)
        if place not in snippets:
            snippets[place] = find_known_snippets(sequences, settings, protocol, frames, count)
        results[name] = _judge(nets[key], snippets[place], settings, progress_at)
    return results


def _require_terms(name: str, settings: TrainSettings, progress_at: float) -> None:
    weights = settings.loss
    coarse = weights.coarse * (1 - progress_at)
    features = 0.0 if settings.method == "photometric" else weights.feature_metric
    if settings.method == "features" or not weights.photometric + coarse + features:
        raise EgodepthError(
            f"the loss {name!r} has no term that depends on depth: its method is {settings.method}, and its "
            f"weights loss.photometric {weights.photometric:g}, loss.feature_metric {weights.feature_metric:g}"
        )


def _judge(
    net: FeatureNet | None,
    snippets: list[KnownSnippet],
    settings: TrainSettings,
    progress_at: float,
) -> LossJudgement:
    free = settings.changed(automask=False)
    masked = [name for name in MASKED if settings.automask and settings.loss.terms[name] > 0]
    wins: list[ndarray] = []
    low: list[ndarray] = []
    dropped: dict[str, list[ndarray]] = {name: [] for name in masked}
    for snippet in snippets:
        judged = torch.from_numpy(snippet.judged)
        compared = features_to_compare(net, None, snippet.batch, settings)
        losses = partial(_losses_at, judged, compared, snippet, progress_at)
        at_truth = losses(0.0, free)
        truth = _total(at_truth)
        others = torch.stack([_total(losses(offset, free)) for offset in OFFSETS], dim=1)
        wins.append(((truth[:, None] < others) + 0.5 * (truth[:, None] == others)).numpy())
        low.append(has_least_texture(snippet.texture[snippet.judged]))
        kept = losses(0.0, settings) if masked else {}
        for name, parts in dropped.items():
            if name in kept:
                parts.append((kept[name] < at_truth[name]).numpy())
    all_wins, all_low = np.concatenate(wins), np.concatenate(low)
    groups = {"all": np.ones(len(all_low), bool), "least texture": all_low}
    found = {name: np.concatenate(parts) for name, parts in dropped.items() if parts}
    return LossJudgement(
        {group: all_wins[rows].mean(0).tolist() for group, rows in groups.items()},
        {
            group: {name: float(values[rows].mean()) for name, values in found.items()}
            for group, rows in groups.items()
        },
        len(all_wins),
        [snippet.name for snippet in snippets],
    )


def _losses_at(
    judged: Tensor,
    features: Features | None,
    snippet: KnownSnippet,
    progress_at: float,
    offset: float,
    settings: TrainSettings,
) -> dict[str, Tensor]:
    """Losses (N,) of the judged pixels by term, see :func:`pixel_losses`."""
    maps = pixel_losses(features, snippet, offset, settings, progress_at)
    return {name: values[judged] for name, values in maps.items()}


def _total(maps: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(maps.values())).sum(0)


def pixel_losses(
    features: Features | None,
    snippet: KnownSnippet,
    offset: float,
    settings: TrainSettings,
    progress_at: float = 1.0,
) -> dict[str, Tensor]:
    """Weighted loss (H, W) of each pixel by term, at the true inverse depth times ``1 + offset``.

    The objective averages the losses of all pixels, each times a pixel weight. So the loss of a pixel is the
    derivative with respect to its weight, whatever scales, levels and masks it went through.
    """
    batch, inverse_depth = snippet.batch, (1 + offset) * snippet.inverse_depth
    weight = torch.ones_like(inverse_depth, requires_grad=True)
    terms = warping_terms(
        features, [inverse_depth], snippet.motions, batch, settings, progress_at,
        weight=weight,
    )  # fmt: skip
    of_term = settings.loss.terms
    maps = {}
    for name in TERMS:
        if name in terms and of_term[name] > 0:
            (slope,) = torch.autograd.grad(terms[name], weight, retain_graph=True)
            maps[name] = of_term[name] * weight.numel() * slope[0, 0]
    return maps


def base_settings(name: str | None) -> TrainSettings:
    """Settings that losses start from: those of a recipe, of a run (with its FeatureNet), or by default the
    defaults of all settings.

    Raises:
        EgodepthError: neither a recipe nor a run.
    """
    if name is None:
        return TrainSettings()
    if name in RECIPES:
        return get_recipe(name)
    folder = RunFolder.at(name)
    if not folder.exists:
        raise EgodepthError(
            f"{name!r} is neither a run nor a recipe; {did_you_mean(name, RECIPES, 'name a run folder')}"
        )
    return folder.settings().changed(init=name, feature_run=None)


def loss_settings(base: TrainSettings, text: str) -> TrainSettings:
    """Settings of a loss written as ``NAME=VALUE`` words, such as ``method=photometric`` or
    ``loss.feature_metric=0.3 loss.feature_levels=[0,1]``.

    Args:
        base: settings that they change.
        text: settings among :data:`SETTINGS`, named as in ``egodepth train``, without spaces within a value.

    Raises:
        EgodepthError: a word without =, an unknown setting, one that changes no loss, or a wrong value.
    """
    changes: dict[str, str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        name = name.removeprefix("--")
        if not equals or not value:
            raise EgodepthError(
                f"{word!r} in the loss {text!r} is no setting; write NAME=VALUE without spaces, such as "
                "loss.feature_metric=0.3 or loss.feature_levels=[0,1]"
            )
        if name not in SETTINGS:
            raise EgodepthError(
                f"{name!r} in the loss {text!r} changes no loss; "
                + did_you_mean(name, SETTINGS, f"these do: {', '.join(SETTINGS)}")
            )
        if name in changes:
            raise EgodepthError(f"{name} is given twice in the loss {text!r}; leave one out")
        changes[name] = value
    return config.override(base, changes)
