"""The depth decoder of the authors' implementation: a cascade with chained residual pooling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egodepth.core.errors import EgodepthError
from egodepth.models.decoder import MirroredConvolution, mirrored

STAGES = 4


def convolve_doubled(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Nearest-neighbour upsampling by 2 and a 3x3 convolution with mirrored borders, fused into one
    transposed convolution: it never stores the upsampled map, and needs 16 products per four pixels, not 36.

    Args:
        x: (B, inputs, H, W).
        weight, bias: parameters of the 3x3 convolution, (outputs, inputs, 3, 3) and (outputs,).

    Returns:
        (B, outputs, 2 H, 2 W).
    """
    kernel = _double_taps(_double_taps(weight, 2), 3).transpose(0, 1)
    # Mirroring the border of the upsampled map repeats the border pixel.
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.conv_transpose2d(padded, kernel, bias, stride=2, padding=3)


def _double_taps(weight: Tensor, side: int) -> Tensor:
    """Taps along one axis of the transposed 4x4 kernel, as sums of taps of the 3x3 kernel."""
    first, middle, last = weight.unbind(side)
    return torch.stack([last, middle + last, first + middle, first], dim=side)


class ChainedPooling(nn.Module):
    """Chained residual pooling: 5x5 max pooling and 1x1 convolutions, so that every pixel gathers context
    from increasingly large windows (Lin et al., "RefineNet", CVPR 2017)."""

    def __init__(self, channels: int, links: int = 4):
        super().__init__()
        self.pointwise = nn.ModuleList(
            nn.Conv2d(channels, channels, 1, bias=False) for _ in range(links)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        link = x
        for convolution in self.pointwise:
            link = convolution(F.max_pool2d(link, 5, stride=1, padding=2))
            x = x + link
        return x


class CascadedDecoder(nn.Module):
    """Four stages at 1/32 to 1/4 of the image; each doubles the resolution and passes its features and its
    disparity on to the next finer stage.

    Lists over stages are ordered like the encoder's levels, finest first.
    """

    def __init__(self, encoder_channels: list[int], reductions: list[int], width: int = 256):
        """Make the stages.

        Args:
            encoder_channels, reductions: channels and reductions of the encoder's levels, finest first.
            width: channels of every stage.

        Raises:
            EgodepthError: an encoder without levels at 1/4, 1/8, 1/16 and 1/32.
        """
        super().__init__()
        if reductions[-STAGES:] != [4, 8, 16, 32]:
            raise EgodepthError(
                "the cascaded decoder needs an encoder with levels at 1/4, 1/8, 1/16 and 1/32, got "
                + ", ".join(f"1/{reduction}" for reduction in reductions)
                + "; use --model.depth_decoder unet"
            )
        coarser = [2 * width + 1] * (STAGES - 1) + [2 * width]
        reduced = [width] * (STAGES - 1) + [2 * width]
        self.dropout = nn.Dropout(0.5)
        self.reduce = nn.ModuleList(
            nn.Conv2d(channels, outputs, 1, bias=False)
            for channels, outputs in zip(encoder_channels[-STAGES:], reduced, strict=True)
        )
        self.join = nn.ModuleList(MirroredConvolution(inputs, width) for inputs in coarser)
        self.pool = nn.ModuleList(ChainedPooling(width) for _ in range(STAGES))
        self.merge = nn.ModuleList(MirroredConvolution(width, width) for _ in range(STAGES))
        self.heads = nn.ModuleList(MirroredConvolution(width, 1) for _ in range(STAGES))

    def forward(self, features: list[Tensor], height: int, width: int, scales: int) -> list[Tensor]:
        """Return the finest ``scales`` of the disparity logits at 1/2, 1/4, 1/8 and 1/16 of height x width,
        (B, 1, h, w), float32."""
        levels = features[-STAGES:]
        logits: list[Tensor] = []
        x: Tensor | None = None
        for stage in reversed(range(STAGES)):
            level = levels[stage]
            # As in the published code, dropout applies only to the two deepest levels.
            reduced = self.reduce[stage](self.dropout(level) if stage >= STAGES - 2 else level)
            joined = (
                self.join[stage](reduced) if x is None else self._join(stage, reduced, x, logits[0])
            )
            x = F.leaky_relu(
                self.merge[stage](self.pool[stage](F.leaky_relu(joined, inplace=True))),
                inplace=True,
            )
            size = (height >> (stage + 2), width >> (stage + 2))
            if x.shape[-2:] != size:  # encoders without padding give smaller maps
                x = F.interpolate(x, size, mode="nearest")
            # In bfloat16 the last convolution would quantize depth in steps of one percent.
            with torch.autocast(x.device.type, enabled=False):
                head = self.heads[stage]
                assert isinstance(head, MirroredConvolution)
                logits.insert(0, convolve_doubled(x.float(), head.weight, head.bias))
        return logits[:scales]

    def _join(self, stage: int, level: Tensor, coarser: Tensor, logits: Tensor) -> Tensor:
        """Convolve the encoder's level with the upsampled features and the disparity of the coarser
        stage."""
        join, width = self.join[stage], coarser.shape[1]
        assert isinstance(join, MirroredConvolution)
        own, doubled, last = join.weight.split([width, width, 1], dim=1)
        disparity = logits.sigmoid().to(level.dtype)
        here = F.conv2d(
            mirrored(torch.cat([level, disparity], dim=1)), torch.cat([own, last], dim=1)
        )
        return here.add_(convolve_doubled(coarser, doubled, join.bias))
