"""Compiling the comparison of warped images, where that pays."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from egodepth.core.errors import EgodepthWarning
from egodepth.losses.masking import minimum_over_sources
from egodepth.losses.photometric import TargetStatistics, photometric_loss

WORTH_STEPS = 500
"""Compiling takes about half a minute on two cores, and saves a tenth to a fifth of every step."""

Match = Callable[[Tensor, TargetStatistics, int], Tensor]


def match_views(views: Tensor, statistics: TargetStatistics, sources: int) -> Tensor:
    """L_ph of views (scales S, B, 3, H, W) of all scales and sources, scales outermost: the minimum over
    sources, (scales B, H, W)."""
    per_source = photometric_loss(views, statistics).unflatten(0, (-1, sources))
    return minimum_over_sources(per_source.transpose(0, 1).flatten(1, 2))


class CompiledMatch:
    """:func:`match_views` in one pass over memory, by torch.compile; where that does not work, as it is.

    Views of another shape than the first ones (the partial last batch of an epoch) are not worth
    compiling again.
    """

    def __init__(self) -> None:
        self._compiled: Match | None = torch.compile(match_views, dynamic=False)
        self._shape: torch.Size | None = None

    def __call__(self, views: Tensor, statistics: TargetStatistics, sources: int) -> Tensor:
        """See :func:`match_views`."""
        self._shape = self._shape or views.shape
        if self._compiled is None or views.shape != self._shape:
            return match_views(views, statistics, sources)
        try:
            # Casts inside of an autocast region would be compiled in, and none is wanted here.
            with torch.autocast(views.device.type, enabled=False):
                return self._compiled(views, statistics, sources)
        except Exception as error:  # whatever a compiler may raise: nothing depends on it
            self._compiled = None
            reason = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(
                f"compiling did not work ({reason[0][:200]}); training goes on without, a little slower",
                EgodepthWarning,
                stacklevel=2,
            )
            return match_views(views, statistics, sources)
