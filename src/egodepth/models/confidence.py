"""ConfidenceHead: how sure DepthNet is of each pixel, from features that it already computes."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from egodepth.models.decoder import MirroredConvolution, convolution
from egodepth.models.networks import DepthNet
from egodepth.models.transformers_depth import TransformersDepth

START_DEVIATION = 0.15
"""Deviation predicted by an untrained head."""
KNOTS = 9
"""Number of points of the calibration's curve."""
MIN_DEVIATION, MAX_DEVIATION = 1e-3, 3.0
"""Limits of predicted deviations of log depth."""


def depth_and_features(
    depth: DepthNet | TransformersDepth, image: Float[Tensor, "b 3 h w"]
) -> tuple[Float[Tensor, "b 1 _ _"], list[Tensor]]:
    """Finest inverse depth, as DepthNet computes it alone, and the features that a head reads: those of the
    decoder at 1/2, 1/4 and 1/8 and the encoder's last, with the cascaded decoder the encoder's four last; none
    of a depth model of transformers."""
    if not isinstance(depth, DepthNet):
        return depth(image, scales=1)[0], []
    return depth.with_features(image)


class ConfidenceHead(nn.Module):
    """Predicts the standard deviation of log depth per pixel, at half the size of the image.

    It reads features without gradient, so that depth is the same with and without it. What it learns is the
    scale of a Laplace distribution of the error; a monotone curve, fitted to footage, turns that into a
    deviation that means what it says: see :meth:`calibrate`.
    """

    raw_knots: Tensor
    knots: Tensor

    def __init__(self, channels: tuple[int, ...], width: int = 24):
        """Make the head.

        Args:
            channels: of the features, see :func:`depth_and_features`.
            width: channels of its own features.
        """
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.first = MirroredConvolution(5, width)
        self.middle = nn.Sequential(convolution(width, width), convolution(width, width))
        self.last = MirroredConvolution(width, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, math.log(START_DEVIATION))
        straight = torch.linspace(math.log(MIN_DEVIATION), math.log(MAX_DEVIATION), KNOTS)
        self.register_buffer("raw_knots", straight)
        self.register_buffer("knots", straight.clone())

    @classmethod
    def of(cls, depth: DepthNet | TransformersDepth) -> "ConfidenceHead":
        """A new head for a depth network."""
        if not isinstance(depth, DepthNet):
            return cls(())
        return cls(tuple(depth.feature_channels))

    def log_scale(
        self,
        image: Float[Tensor, "b 3 h w"],
        inverse_depth: Float[Tensor, "b 1 _ _"],
        features: list[Tensor],
    ) -> Float[Tensor, "b 1 _ _"]:
        """Log of the scale of the errors of log depth before calibration, at half the size of the image."""
        size = (int(image.shape[-2]) // 2, int(image.shape[-1]) // 2)
        small = F.interpolate(image, size, mode="area")
        log_depth = -F.interpolate(inverse_depth.log(), size, mode="bilinear", align_corners=False)
        centred = log_depth - log_depth.mean((2, 3), keepdim=True)
        x = self.first(torch.cat([centred, log_depth, small - 0.5], 1))
        for layer, level in zip(self.reduce, features, strict=True):
            reduced = layer(level.float())
            x = x + F.interpolate(reduced, size, mode="bilinear", align_corners=False)
        x = F.elu(x)
        return self.last(x + self.middle(x))

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        inverse_depth: Float[Tensor, "b 1 _ _"],
        features: list[Tensor],
    ) -> Float[Tensor, "b 1 _ _"]:
        """Standard deviation of log depth, at half the size of the image, float32."""
        return self.calibrated(self.log_scale(image, inverse_depth, features)).exp()

    def calibrated(self, log_scale: Tensor) -> Tensor:
        """Log deviation from the log scale, by the calibration's curve, which continues at its ends with
        slope one."""
        # As a sum of ramps, which every runtime knows.
        widths = (self.raw_knots[1:] - self.raw_knots[:-1]).clamp(min=1e-4)
        slopes = (self.knots[1:] - self.knots[:-1]) / widths
        below = (log_scale - self.raw_knots[0]).clamp(max=0)
        above = (log_scale - self.raw_knots[-1]).clamp(min=0)
        total = self.knots[0] + below + above
        for left, wide, slope in zip(self.raw_knots[:-1], widths, slopes, strict=True):
            total = total + slope * torch.minimum((log_scale - left).clamp(min=0), wide)
        return total.clamp(math.log(MIN_DEVIATION), math.log(MAX_DEVIATION))

    @torch.no_grad()
    def calibrate(self, log_scale: Float[Tensor, "n"], error: Float[Tensor, "n"]) -> None:
        """Fit the curve to errors |log depth - log truth| of N pixels: in each of KNOTS groups of pixels of
        similar log scale, the deviation that comes closest to having 68 % of the errors below it and 95 % below
        twice it. A larger scale never gets a smaller deviation."""
        ranked, order = log_scale.sort()
        groups = [g for g in error[order].tensor_split(KNOTS) if len(g)]
        centres = [g.median() for g in ranked.tensor_split(KNOTS) if len(g)]
        found = [_deviation_of(group).log() for group in groups]
        self.raw_knots.copy_(_rising(torch.stack(centres), 1e-3))
        self.knots.copy_(_rising(torch.stack(found), 0.0))


def _deviation_of(errors: Float[Tensor, "n"]) -> Tensor:
    """The deviation for which the worse of both coverages is closest to 68 and 95 %."""
    low, high = errors.quantile(0.60).item(), errors.quantile(0.95).item()
    tried = torch.linspace(max(low, MIN_DEVIATION), max(high, 2 * MIN_DEVIATION), 200)
    ranked = errors.sort().values
    one, two = (
        torch.searchsorted(ranked, k * tried, right=True).float() / len(ranked) for k in (1, 2)
    )
    return tried[torch.maximum((one - 0.68).abs(), (two - 0.95).abs()).argmin()]


def _rising(values: Tensor, least: float) -> Tensor:
    """The closest values that rise by at least ``least`` from each to the next (pool adjacent violators)."""
    ramp = least * torch.arange(len(values))
    pools: list[tuple[float, int]] = []
    for value in (values - ramp).tolist():
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    return torch.tensor([value for value, count in pools for _ in range(count)]) + ramp
