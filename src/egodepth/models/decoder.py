"""Decoder from the deepest features to image resolution, with or without skip connections."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egodepth.core.errors import EgodepthError


def mirrored(x: Tensor) -> Tensor:
    """Pad with a mirrored border of one pixel; an axis of one pixel, which can't be mirrored, is
    replicated."""
    return F.pad(x, (1, 1, 1, 1), mode="reflect" if min(x.shape[-2:]) > 1 else "replicate")


class MirroredConvolution(nn.Conv2d):
    """3x3 convolution with mirrored borders."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return super().forward(mirrored(x))


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution with mirrored borders, followed by ELU."""
    return nn.Sequential(MirroredConvolution(inputs, outputs), nn.ELU(inplace=True))


class Decoder(nn.Module):
    """Decoder that doubles the resolution stage by stage up to that of the image.

    Stage i works at 1 / 2^i of the image; with skip connections it also takes the encoder's level of that
    resolution, if there is one.
    """

    def __init__(
        self,
        encoder_channels: list[int],
        reductions: list[int],
        channels: tuple[int, ...],
        *,
        skips: bool,
    ):
        """Make the stages.

        Args:
            encoder_channels, reductions: channels and reductions of the encoder's levels, finest first.
            channels: output channels of the stages at 1/1, 1/2, 1/4 and so on.
            skips: whether to use skip connections from the encoder's finer levels.

        Raises:
            EgodepthError: fewer channels than stages.
        """
        super().__init__()
        self.stages = reductions[-1].bit_length() - 1
        if len(channels) < self.stages:
            raise EgodepthError(
                f"an encoder that reduces {reductions[-1]} times needs {self.stages} decoder "
                f"channels, got {list(channels)}"
            )
        self.skips = {r.bit_length() - 1: i for i, r in enumerate(reductions[:-1])} if skips else {}
        self.before, self.after = nn.ModuleList(), nn.ModuleList()
        for stage in range(self.stages):
            below = channels[stage + 1] if stage + 1 < self.stages else encoder_channels[-1]
            level = self.skips.get(stage)
            skipped = 0 if level is None else encoder_channels[level]
            self.before.append(convolution(below, channels[stage]))
            self.after.append(convolution(channels[stage] + skipped, channels[stage]))

    def forward(self, features: list[Tensor], height: int, width: int) -> list[Tensor]:
        """Outputs of the stages, finest (height x width) first."""
        outputs: list[Tensor] = []
        x = features[-1]
        for stage in reversed(range(self.stages)):
            size = (height >> stage, width >> stage)
            x = F.interpolate(self.before[stage](x), size, mode="nearest")
            if stage in self.skips:
                skip = features[self.skips[stage]]
                if skip.shape[-2:] != size:  # encoders without padding give smaller maps
                    skip = F.interpolate(skip, size, mode="bilinear", align_corners=False)
                x = torch.cat([x, skip], dim=1)
            x = self.after[stage](x)
            outputs.insert(0, x)
        return outputs
