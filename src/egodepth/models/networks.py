"""DepthNet, PoseNet, FeatureNet, and the three of them together."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from egodepth.core.config import Settings
from egodepth.geometry import se3
from egodepth.models.decoder import Decoder, convolution
from egodepth.models.encoder import EMBEDDED, Encoder

SCALES = 4


class ModelSettings(Settings):
    """The networks."""

    height: int = Field(96, multiple_of=32, ge=32)
    """height of the images that the networks see, a multiple of 32"""
    width: int = Field(320, multiple_of=32, ge=32)
    """width of the images that the networks see, a multiple of 32"""
    depth_encoder: str = EMBEDDED
    """DepthNet's encoder, any name that timm knows"""
    pose_encoder: str = EMBEDDED
    """PoseNet's encoder, any name that timm knows"""
    feature_encoder: str = EMBEDDED
    """FeatureNet's encoder, any name that timm knows"""
    pretrained: bool = True
    """start the encoders from ImageNet weights"""
    decoder_channels: tuple[int, ...] = (16, 32, 64, 96, 128)
    """channels of the decoders at 1/1, 1/2, 1/4, 1/8, 1/16 of the image"""
    min_depth: float = Field(0.1, gt=0)
    """smallest depth that DepthNet can predict, in its own unit"""
    max_depth: float = Field(100.0, gt=0)
    """largest depth that DepthNet can predict, in its own unit"""
    pose_reduction: int = Field(2, ge=1)
    """PoseNet sees the frames this many times smaller: large motions come into its reach"""
    feature_level: int = Field(0, ge=0)
    """FeatureNet's encoder level that the feature-metric loss compares, 0 the finest"""


class DepthNet(nn.Module):
    """Inverse depth of one image at four scales: encoder and U-Net decoder with skip connections."""

    FIRST_INVERSE_DEPTH = 1.0
    """Where an untrained network starts. Much nearer, PoseNet's first random motions move the
    images so far that the objective flees to the farthest depth and stays there."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.encoder = Encoder(settings.depth_encoder, pretrained=settings.pretrained)
        self.decoder = Decoder(
            self.encoder.channels, self.encoder.reductions, settings.decoder_channels, skips=True
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(channels, 1, 3, padding=1, padding_mode="replicate")
            for channels in settings.decoder_channels[:SCALES]
        )
        self.nearest, self.farthest = 1 / settings.min_depth, 1 / settings.max_depth
        first = min(max(self.FIRST_INVERSE_DEPTH, 2 * self.farthest), self.nearest / 2)
        start = (first - self.farthest) / (self.nearest - self.farthest)
        for head in self.heads:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.constant_(head.bias, math.log(start / (1 - start)))

    def forward(
        self, image: Float[Tensor, "b 3 h w"], scales: int = SCALES
    ) -> list[Float[Tensor, "b 1 _ _"]]:
        """Inverse depth at 1, 1/2, 1/4 and 1/8 of the image, between 1 / max_depth and
        1 / min_depth, as float32; the finest ``scales`` of them.

        Sides of the image must be multiples of 32.
        """
        outputs = self.decoder(self.encoder(image), *image.shape[-2:])
        span = self.nearest - self.farthest
        # In bfloat16 the last convolution would give depth in steps of one percent.
        with torch.autocast(image.device.type, enabled=False):
            return [
                self.farthest + span * head(x.float()).sigmoid()
                for head, x in zip(list(self.heads)[:scales], outputs, strict=False)
            ]


class PoseNet(nn.Module):
    """Motion between two images, stacked along their channels, as axis-angle and translation."""

    ROTATION_SCALE, TRANSLATION_SCALE = 0.03, 0.1
    """What a head's output of one means. A driving camera moves by about a tenth of the depth that
    DepthNet starts with and turns by hundredths of a radian a frame; with 0.01 for the rotation the
    demo was slow to learn its turns."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.encoder = Encoder(settings.pose_encoder, pretrained=settings.pretrained, frames=2)
        self.reduction = settings.pose_reduction
        self.head = nn.Sequential(
            nn.Conv2d(self.encoder.channels[-1], 256, 1),
            nn.ReLU(inplace=True),
            convolution(256, 256),
            nn.Conv2d(256, 6, 1),
        )
        # Starting without motion, all snippets agree on where to go first; a random start sent the
        # demo's translation downwards, with a pitch that made up for it, for good.
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 6"]:
        """Axis-angle in radians and translation of ``second_from_first``, float32."""
        pair = torch.cat([first, second], dim=1)
        if self.reduction > 1:
            pair = F.avg_pool2d(pair, self.reduction)
        features = self.encoder(pair)[-1]
        vector = self.head(features).float().mean((2, 3))
        return torch.cat(
            [self.ROTATION_SCALE * vector[:, :3], self.TRANSLATION_SCALE * vector[:, 3:]], dim=1
        )

    def second_from_first(
        self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 4 4"]:
        """The motion that takes points of the first camera's frame into the second's."""
        vector = self(first, second)
        return se3.from_rotation_translation(se3.so3_exp(vector[:, :3]), vector[:, 3:])

    def sources_from_target(
        self,
        target: Float[Tensor, "b 3 h w"],
        sources: Float[Tensor, "s b 3 h w"],
        offsets: tuple[int, ...],
    ) -> Float[Tensor, "s b 4 4"]:
        """Motions to all sources in one pass. Every pair is shown in order of time, so that the
        network learns one direction; motions to earlier frames are inverted."""
        earlier = torch.tensor([offset < 0 for offset in offsets], device=target.device)
        swap = earlier.view(-1, 1, 1, 1, 1)
        first = torch.where(swap, sources, target).flatten(0, 1)
        second = torch.where(swap, target, sources).flatten(0, 1)
        motion = self.second_from_first(first, second).unflatten(0, sources.shape[:2])
        return torch.where(earlier.view(-1, 1, 1, 1), se3.inverse(motion), motion)


class FeatureNet(nn.Module):
    """Auto-encoder whose features the feature-metric loss compares: no skip connections.

    The encoder's batch normalisation keeps its statistics fixed, so that one image has one feature
    map, whatever else is in the batch: features of target and source must be comparable.
    """

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.encoder = Encoder(settings.feature_encoder, pretrained=settings.pretrained)
        self.level = min(settings.feature_level, len(self.encoder.channels) - 1)
        self.decoder = Decoder(
            self.encoder.channels, self.encoder.reductions, settings.decoder_channels, skips=False
        )
        self.head = nn.Conv2d(
            settings.decoder_channels[0], 3, 3, padding=1, padding_mode="replicate"
        )

    def train(self, mode: bool = True) -> "FeatureNet":
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def features(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c _ _"]:
        """The compared features alone, float32; the network runs no deeper than they lie."""
        return self.encoder(image, depth=self.level + 1)[-1].float()

    def forward(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c _ _"], Float[Tensor, "b 3 h w"]]:
        """The compared features and the reconstruction of the image in [0, 1], float32."""
        levels = self.encoder(image)
        finest = self.decoder(levels, *image.shape[-2:])[0]
        return levels[self.level].float(), self.head(finest).float().sigmoid()


class Networks(nn.Module):
    """The networks that a way of training needs.

    Attributes:
        depth, pose: None where FeatureNet is trained alone.
        features: None where the loss is photometric only.
    """

    def __init__(self, settings: ModelSettings, *, depth_and_pose: bool, features: bool):
        super().__init__()
        self.depth = DepthNet(settings) if depth_and_pose else None
        self.pose = PoseNet(settings) if depth_and_pose else None
        self.features = FeatureNet(settings) if features else None
