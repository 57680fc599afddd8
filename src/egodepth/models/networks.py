"""DepthNet, PoseNet and FeatureNet, and a container for all three."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from egodepth.geometry import se3
from egodepth.models.cascaded_decoder import CascadedDecoder
from egodepth.models.decoder import Decoder, MirroredConvolution, convolution
from egodepth.models.encoder import Encoder
from egodepth.models.mixed_precision import Network, mixed_precision
from egodepth.models.transformers_depth import TransformersDepth
from egodepth.settings.model import ModelSettings

SCALES = 4


class UNetDecoder(nn.Module):
    """Decoder with skip connections and a head at each of its four finest scales."""

    def __init__(self, encoder: Encoder, channels: tuple[int, ...]):
        super().__init__()
        self.stages = Decoder(encoder.channels, encoder.reductions, channels, skips=True)
        self.channels = channels[:SCALES]
        self.heads = nn.ModuleList(MirroredConvolution(c, 1) for c in self.channels)

    def forward(self, features: list[Tensor], height: int, width: int, scales: int) -> list[Tensor]:
        """Logits of inverse depth at 1, 1/2, 1/4 and 1/8 of height x width, float32."""
        return self.logits(self.stages(features, height, width), scales)

    def logits(self, outputs: list[Tensor], scales: int) -> list[Tensor]:
        """Logits of inverse depth from the outputs of the stages, float32."""
        # In bfloat16 the last convolution would quantize depth in steps of one percent.
        with torch.autocast(outputs[0].device.type, enabled=False):
            return [
                head(x.float()) for head, x in zip(list(self.heads)[:scales], outputs, strict=False)
            ]


class DepthNet(Network):
    """Network that predicts the inverse depth of one image at four scales."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.encoder = Encoder(settings.depth_encoder, pretrained=settings.pretrained)
        self.decoder: UNetDecoder | CascadedDecoder
        if settings.depth_decoder == "unet":
            self.decoder = UNetDecoder(self.encoder, settings.decoder_channels)
        else:
            self.decoder = CascadedDecoder(self.encoder.channels, self.encoder.reductions)
        self.nearest, self.farthest = 1 / settings.min_depth, 1 / settings.max_depth
        first = min(max(1 / settings.start_depth, 2 * self.farthest), self.nearest / 2)
        start = (first - self.farthest) / (self.nearest - self.farthest)
        for head in self.decoder.heads:
            assert isinstance(head.bias, nn.Parameter)
            nn.init.constant_(head.bias, math.log(start / (1 - start)))

    @mixed_precision
    def forward(
        self, image: Float[Tensor, "b 3 h w"], scales: int = SCALES
    ) -> list[Float[Tensor, "b 1 _ _"]]:
        """Inverse depth, between 1 / max_depth and 1 / min_depth, float32, at the finest ``scales``
        of 1, 1/2, 1/4 and 1/8 of the image size, or of 1/2 to 1/16 with the cascaded decoder.

        Height and width of the image must be multiples of 32.
        """
        # While the network is traced for export, the sizes are tensors; the export has a fixed size.
        height, width = int(image.shape[-2]), int(image.shape[-1])
        logits = self.decoder(self.encoder(image), height, width, scales)
        return [self._inverse_depth(x) for x in logits]

    def _inverse_depth(self, logits: Tensor) -> Tensor:
        return self.farthest + (self.nearest - self.farthest) * logits.sigmoid()

    @property
    def feature_channels(self) -> list[int]:
        """Channels of the features of :meth:`with_features`."""
        if isinstance(self.decoder, UNetDecoder):
            return [*self.decoder.channels[1:], self.encoder.channels[-1]]
        return self.encoder.channels[-SCALES:]

    @mixed_precision
    def with_features(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 1 _ _"], list[Tensor]]:
        """The finest inverse depth of :meth:`forward`, and features: the decoder's at 1/2, 1/4 and 1/8 of the
        image and the encoder's last; with the cascaded decoder the encoder's four last."""
        height, width = int(image.shape[-2]), int(image.shape[-1])
        levels = self.encoder(image)
        if isinstance(self.decoder, UNetDecoder):
            outputs = self.decoder.stages(levels, height, width)
            features = [*outputs[1:SCALES], levels[-1]]
            return self._inverse_depth(self.decoder.logits(outputs, 1)[0]), features
        logits = self.decoder(levels, height, width, 1)
        return self._inverse_depth(logits[0]), levels[-SCALES:]

    @mixed_precision
    def with_summary(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 1 _ _"], Float[Tensor, "b d"]]:
        """The finest inverse depth of :meth:`forward`, and the means over the image of the encoder's last
        features but one, which are similar where places are."""
        height, width = int(image.shape[-2]), int(image.shape[-1])
        levels = self.encoder(image)
        logits = self.decoder(levels, height, width, 1)
        return self._inverse_depth(logits[0]), levels[-2].float().mean((2, 3))


def make_depth_net(settings: ModelSettings) -> DepthNet | TransformersDepth:
    """Make DepthNet, or the transformers model that replaces it."""
    if not settings.depth_model:
        return DepthNet(settings)
    return TransformersDepth(
        settings.depth_model, settings.depth_model_config, settings.min_depth, settings.max_depth,
        settings.start_depth,
    )  # fmt: skip


class PoseNet(Network):
    """Network that predicts the camera motion between two images, as axis-angle and translation."""

    ROTATION_SCALE, TRANSLATION_SCALE = 0.03, 0.1
    """Rotation in radians, and translation over the initial depth, for a head output of one. Per frame, a
    driving camera moves by about a tenth of DepthNet's initial depth and turns by hundredths of a radian; with
    0.01 for the rotation the demo was slow to learn its turns."""
    scale: Tensor

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.encoder = Encoder(settings.pose_encoder, pretrained=settings.pretrained, frames=2)
        self.size = settings.pose_size
        first, last = nn.Conv2d(self.encoder.channels[-1], 256, 1), nn.Conv2d(256, 6, 1)
        middle: list[nn.Module] = [convolution(256, 256)]
        if settings.pose_decoder == "published":
            middle = [
                nn.Conv2d(256, 256, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.ReLU(inplace=True),
            ]
        self.head = nn.Sequential(first, nn.ReLU(inplace=True), *middle, last)
        # Starting from zero motion, all snippets agree on the first direction; with a random start, the
        # demo got stuck in a downward translation with a pitch that compensated for it.
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        translation = self.TRANSLATION_SCALE * settings.start_depth
        scale = torch.tensor([self.ROTATION_SCALE] * 3 + [translation] * 3)
        self.register_buffer("scale", scale)

    @mixed_precision
    def forward(
        self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 6"]:
        """Axis-angle in radians and translation of ``second_from_first``, float32."""
        pair = torch.cat([first, second], dim=1)
        height, width = pair.shape[-2:]
        size = self.size or (max(height // 2, 1), max(width // 2, 1))
        pair = F.interpolate(pair, size, mode="bilinear", align_corners=False)
        features = self.encoder(pair)[-1]
        return self.scale * self.head(features).float().mean((2, 3))

    def second_from_first(
        self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 4 4"]:
        """The motion that maps points from the first camera's frame to the second's."""
        vector = self(first, second)
        return se3.from_rotation_translation(se3.so3_exp(vector[:, :3]), vector[:, 3:])

    def sources_from_target(
        self,
        target: Float[Tensor, "b 3 h w"],
        sources: Float[Tensor, "s b 3 h w"],
        directions: tuple[int, ...],
    ) -> Float[Tensor, "s b 4 4"]:
        """Motions to all sources in one pass. Every pair is passed in order of time, so that the network
        learns a single direction; motions to earlier frames (negative directions) are inverted."""
        pairs = [
            (source, target) if way < 0 else (target, source)
            for source, way in zip(sources, directions, strict=True)
        ]
        first, second = (torch.cat(images) for images in zip(*pairs, strict=True))
        motions = self.second_from_first(first, second).unflatten(0, sources.shape[:2])
        return torch.stack([
            se3.inverse(motion) if way < 0 else motion
            for motion, way in zip(motions, directions, strict=True)
        ])  # fmt: skip

    def difference(
        self, learned: Float[Tensor, "*batch 4 4"], known: Float[Tensor, "*batch 4 4"]
    ) -> Float[Tensor, "*batch"]:
        """Distance between a predicted and a known motion: mean absolute twist between them, in units of the
        head's outputs."""
        return (se3.log(se3.inverse(known) @ learned) / self.scale).abs().mean(-1)


class FeatureNet(Network):
    """Auto-encoder without skip connections, whose features the feature-metric loss compares.

    The encoder's batch normalization has fixed statistics, so that an image has the same features whatever
    else is in the batch: features of target and source must be comparable.
    """

    decoder: Decoder | None
    heads: nn.ModuleList | None

    def __init__(self, settings: ModelSettings, *, reconstructs: bool = True):
        """Make the network.

        Args:
            settings: settings of the networks.
            reconstructs: whether to make the decoder, which is needed for training.
        """
        super().__init__()
        self.encoder = Encoder(
            settings.feature_encoder, pretrained=settings.pretrained, levels=settings.feature_depth
        )
        self.decoder, self.heads = None, None
        self.train()  # Lightning keeps the mode that modules are in
        if not reconstructs:
            return
        self.decoder = Decoder(
            self.encoder.channels, self.encoder.reductions, settings.decoder_channels, skips=False
        )
        stages = min(SCALES, self.decoder.stages)
        self.heads = nn.ModuleList(
            MirroredConvolution(channels, 3) for channels in settings.decoder_channels[:stages]
        )

    def train(self, mode: bool = True) -> "FeatureNet":
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    @mixed_precision
    def features(
        self, image: Float[Tensor, "b 3 h w"], levels: int = 1
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """The finest ``levels`` of the encoder's features, float32; the encoder runs no deeper than they
        need."""
        return [level.float() for level in self.encoder(image, depth=levels)]

    @mixed_precision
    def forward(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[list[Float[Tensor, "b _ _ _"]], list[Float[Tensor, "b 3 _ _"]]]:
        """All levels of features, and reconstructions of the image in [0, 1] at 1, 1/2, 1/4 and 1/8
        of its size, as far as they are finer than the last level, all float32."""
        assert self.decoder is not None and self.heads is not None
        levels = self.encoder(image)
        outputs = self.decoder(levels, *image.shape[-2:])
        reconstructions = [
            head(x).float().sigmoid() for head, x in zip(self.heads, outputs, strict=False)
        ]
        return [level.float() for level in levels], reconstructions


class Networks(nn.Module):
    """The networks of a run.

    Attributes:
        settings: settings of the networks, including the configuration of a ``depth_model``.
        depth: None if only FeatureNet is trained.
        pose: None if only FeatureNet is trained, or if all motions are known.
        features: None if there is no feature-metric loss.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        depth: bool,
        pose: bool,
        features: bool,
        reconstructs: bool = True,
    ):
        """Make the networks.

        Args:
            settings: settings of the networks.
            depth, pose, features: which networks to make.
            reconstructs: whether FeatureNet has its decoder.
        """
        super().__init__()
        self.settings = settings
        self.depth = make_depth_net(settings) if depth else None
        if isinstance(self.depth, TransformersDepth):
            found = {"depth_model_config": self.depth.configuration}
            self.settings = settings.changed(**found)
        self.pose = PoseNet(settings) if pose else None
        self.features = FeatureNet(settings, reconstructs=reconstructs) if features else None

    def use_bf16(self, enabled: bool = True) -> "Networks":
        """Run the forward passes of all networks in bfloat16, or in float32 again."""
        for network in self.children():
            assert isinstance(network, Network)
            network.bf16 = enabled
        return self
