"""Compiling the comparison of warped images, where that pays."""

import warnings
from collections.abc import Callable
from typing import Concatenate, Generic, NamedTuple, ParamSpec

import torch
from torch import Tensor

from egodepth.core.errors import EgodepthWarning
from egodepth.losses.masking import minimum_over_sources
from egodepth.losses.photometric import TargetStatistics, photometric_loss

Arguments = ParamSpec("Arguments")
FeatureComparison = Callable[[Tensor, Tensor], Tensor]
Hidden = Tensor | None
"""(S, B, H, W) bool, where a source shows the camera's own vehicle; None where nowhere."""

WORTH_STEPS = 500
"""Compiling takes about half a minute on two cores, and saves a tenth to a fifth of every step."""


def match_views(
    views: Tensor, statistics: TargetStatistics, sources: int, hidden: Hidden = None
) -> Tensor:
    """L_ph of views (scales S, B, 3, H, W) of all scales and sources, scales outermost: the minimum over
    sources, (scales B, H, W); ``hidden`` is (S, scales B, H, W)."""
    per_source = photometric_loss(views, statistics).unflatten(0, (-1, sources))
    return minimum_over_sources(per_source.transpose(0, 1).flatten(1, 2), hidden)


def match_features(
    warped: Tensor, target: Tensor, compare: FeatureComparison, hidden: Hidden = None
) -> Tensor:
    """L_fm of warped features (S, B, C, H, W): the minimum over sources, (B, H, W)."""
    return minimum_over_sources(compare(warped, target), hidden)


class Compiled(Generic[Arguments]):
    """A comparison in one pass over memory, by torch.compile; where that does not work, as it is.

    Another batch size than the first (the partial last batch of an epoch) is not worth compiling again.
    """

    def __init__(self, compare: Callable[Concatenate[Tensor, Arguments], Tensor]) -> None:
        """Args:
        compare: of a tensor (views, B, ...) and what else it needs.
        """
        self._plain = compare
        self._compiled: Callable[Concatenate[Tensor, Arguments], Tensor] | None
        self._compiled = torch.compile(compare, dynamic=False)
        self._batch: int | None = None

    def __call__(
        self, warped: Tensor, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Tensor:
        """What the comparison gives."""
        self._batch = self._batch or warped.shape[1]
        if self._compiled is None or warped.shape[1] != self._batch:
            return self._plain(warped, *args, **kwargs)
        try:
            return self._compiled(warped, *args, **kwargs)
        except Exception as error:  # whatever a compiler may raise: nothing depends on it
            self._compiled = None
            reason = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(
                f"compiling did not work ({reason[0][:200]}); training goes on without, a little slower",
                EgodepthWarning,
                stacklevel=2,
            )
            return self._plain(warped, *args, **kwargs)


class Comparisons(NamedTuple):
    """How warped images and features are compared with the target's.

    Attributes:
        views: as :func:`match_views`.
        features: as :func:`match_features`.
    """

    views: Callable[[Tensor, TargetStatistics, int, Hidden], Tensor] = match_views
    features: Callable[[Tensor, Tensor, FeatureComparison, Hidden], Tensor] = match_features

    @classmethod
    def compiled(cls) -> "Comparisons":
        """Both compiled."""
        return cls(Compiled(match_views), Compiled(match_features))


PLAIN = Comparisons()
"""Without compiling."""
