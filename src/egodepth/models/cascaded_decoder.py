"""The depth decoder of the authors' implementation: cascaded, with chained residual pooling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egodepth.core.errors import EgodepthError
from egodepth.models.decoder import MirroredConvolution

STAGES = 4


class ChainedPooling(nn.Module):
    """Residual chain of 5x5 max pooling and 1x1 convolutions, so that every pixel gathers context
    from ever larger windows (Lin et al., "RefineNet", CVPR 2017)."""

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
    """Four stages at 1/32 to 1/4 of the image, each of which doubles the resolution and hands its
    features and its disparity on to the next, finer one.

    Lists over stages are ordered like the encoder's levels: the finest first.
    """

    def __init__(self, encoder_channels: list[int], reductions: list[int], width: int = 256):
        """Make the stages.

        Args:
            encoder_channels, reductions: what the encoder returns, finest first.
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
        """Logits of disparity at 1/2, 1/4, 1/8 and 1/16 of height x width, the finest ``scales`` of
        them, (B, 1, h, w), float32."""
        levels = features[-STAGES:]
        logits: list[Tensor] = []
        x: Tensor | None = None
        for stage in reversed(range(STAGES)):
            level = levels[stage]
            # As published: the two deepest levels alone are thinned out.
            reduced = self.reduce[stage](self.dropout(level) if stage >= STAGES - 2 else level)
            if x is not None:
                reduced = torch.cat([reduced, x, logits[0].sigmoid().to(x.dtype)], dim=1)
            x = self.pool[stage](F.leaky_relu(self.join[stage](reduced)))
            x = F.leaky_relu(self.merge[stage](x))
            x = F.interpolate(x, (height >> (stage + 1), width >> (stage + 1)), mode="nearest")
            # In bfloat16 the last convolution would give depth in steps of one percent.
            with torch.autocast(x.device.type, enabled=False):
                logits.insert(0, self.heads[stage](x.float()))
        return logits[:scales]
