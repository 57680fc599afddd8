"""Compilation of the comparison of warped images and features."""

import warnings
from collections.abc import Callable
from typing import Concatenate, Generic, NamedTuple, ParamSpec

import torch
from torch import Tensor

from egodepth.core.errors import EgodepthWarning
from egodepth.losses.masking import OVER_SOURCES
from egodepth.losses.photometric import TargetStatistics, photometric_loss

Arguments = ParamSpec("Arguments")
FeatureComparison = Callable[[Tensor, Tensor], Tensor]
Hidden = Tensor | None
"""Mask (S, B, H, W) of pixels where a source shows the ego vehicle; None if there are none."""

WORTH_STEPS = 500
"""Minimum number of steps for which compiling pays off: it takes about half a minute on two cores, and saves a
tenth to a fifth of every step."""


def match_views(
    views: Tensor,
    statistics: TargetStatistics,
    sources: int,
    hidden: Hidden = None,
    over_sources: str = "minimum",
) -> Tensor:
    """L_ph of views (scales S, B, 3, H, W), scales outermost: the minimum or mean over sources,
    (scales B, H, W). ``hidden`` is (S, scales B, H, W)."""
    per_source = photometric_loss(views, statistics).unflatten(0, (-1, sources))
    return OVER_SOURCES[over_sources](per_source.transpose(0, 1).flatten(1, 2), hidden)


def match_features(
    warped: Tensor,
    target: Tensor,
    compare: FeatureComparison,
    hidden: Hidden = None,
    over_sources: str = "minimum",
) -> Tensor:
    """L_fm of warped features (S, B, C, H, W): the minimum or mean over sources, (B, H, W)."""
    return OVER_SOURCES[over_sources](compare(warped, target), hidden)


class Compiled(Generic[Arguments]):
    """A comparison compiled by torch.compile; falls back to the plain one if compiling fails.

    Batches of another size than the first, such as the last of an epoch, are not compiled.
    """

    def __init__(self, compare: Callable[Concatenate[Tensor, Arguments], Tensor]) -> None:
        """Args:
        compare: comparison of a tensor (views, B, ...) with further arguments.
        """
        self._plain = compare
        self._compiled: Callable[Concatenate[Tensor, Arguments], Tensor] | None
        self._compiled = torch.compile(compare, dynamic=False)
        self._batch: int | None = None

    def __call__(
        self, warped: Tensor, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Tensor:
        """Return the result of the comparison."""
        self._batch = self._batch or warped.shape[1]
        if self._compiled is None or warped.shape[1] != self._batch:
            return self._plain(warped, *args, **kwargs)
        try:
            return self._compiled(warped, *args, **kwargs)
        except Exception as error:  # a compiler may raise anything, and compiling is optional
            self._compiled = None
            reason = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(
                f"compiling did not work ({reason[0][:200]}); training goes on without, a little slower",
                EgodepthWarning,
                stacklevel=2,
            )
            return self._plain(warped, *args, **kwargs)


class Comparisons(NamedTuple):
    """Functions that compare warped images and features with the target.

    Attributes:
        views: :func:`match_views`, or a compiled version.
        features: :func:`match_features`, or a compiled version.
    """

    views: Callable[[Tensor, TargetStatistics, int, Hidden, str], Tensor] = match_views
    features: Callable[[Tensor, Tensor, FeatureComparison, Hidden, str], Tensor] = match_features

    @classmethod
    def compiled(cls) -> "Comparisons":
        """Return compiled versions of both."""
        return cls(Compiled(match_views), Compiled(match_features))


PLAIN = Comparisons()
"""Comparisons without compilation."""
