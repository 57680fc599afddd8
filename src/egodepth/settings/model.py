"""Settings of the networks."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from egodepth.core.config import Settings

Channels = Annotated[int, Field(ge=1, le=4096)]
"""Number of channels of a decoder's level."""
Pixels = Annotated[int, Field(ge=1)]
"""A size in pixels."""
Side = Annotated[int, Field(multiple_of=32, ge=32, le=8192)]
"""Height or width of the networks' input, in pixels."""
DEFINED_BY = {
    "depth": ("depth_model", "depth_encoder", "depth_decoder", "decoder_channels"),
    "pose": ("pose_encoder", "pose_decoder"),
    "features": ("feature_encoder", "feature_depth"),
}
"""Settings of the model that define the weights of each network."""
FOOTAGE_SIZES = ((96, 320), (192, 256), (128, 224), (224, 128))
"""Heights and widths of network inputs for footage of any aspect ratio; ``builtin`` knows them."""
EMBEDDED = "tf_efficientnet_lite0"
"""timm name of the encoder whose pretrained weights need no download."""


def closest_size(sizes: Iterable[tuple[int, int]], aspect: float) -> tuple[int, int]:
    """Choose the size (height, width) whose aspect ratio is closest to ``aspect``, width over height."""
    return min(sizes, key=lambda size: abs(math.log(size[1] / size[0] / aspect)))


class ModelSettings(Settings):
    """Architecture and size of the networks."""

    height: Side = 96
    """height of the network input in pixels, a multiple of 32"""
    width: Side = 320
    """width of the network input in pixels, a multiple of 32"""
    depth_encoder: str = EMBEDDED
    """encoder of DepthNet, any timm model name"""
    pose_encoder: str = EMBEDDED
    """encoder of PoseNet, any timm model name"""
    feature_encoder: str = EMBEDDED
    """encoder of FeatureNet, any timm model name"""
    feature_depth: int | None = Field(None, ge=1, le=8)
    """number of levels of FeatureNet's encoder, finest first; with 3, most encoders end at 1/8 of the image,
    which takes half the time; by default all, as in the paper"""
    depth_decoder: Literal["unet", "cascaded"] = "unet"
    """decoder of DepthNet; unet: skip connections, finest depth at full resolution; cascaded: as published with
    FeatDepth, chained residual pooling, finest depth at half resolution"""
    depth_model: str = ""
    """depth model of Hugging Face transformers (hub name or folder) to use as DepthNet instead of depth_encoder
    and depth_decoder, for example depth-anything/Depth-Anything-V2-Small-hf"""
    depth_model_config: dict[str, Any] = {}
    """configuration of depth_model, filled in during training"""
    pretrained: bool = True
    """start the encoders from ImageNet weights"""
    decoder_channels: tuple[Channels, Channels, Channels, Channels, Channels] = (
        16,
        32,
        64,
        96,
        128,
    )
    """decoder channels at 1/1, 1/2, 1/4, 1/8 and 1/16 of the input resolution"""
    min_depth: float = Field(0.1, gt=0)
    """smallest depth that DepthNet can predict, in its own unit"""
    max_depth: float = Field(100.0, gt=0)
    """largest depth that DepthNet can predict, in its own unit"""
    start_depth: float = Field(1.0, gt=0)
    """depth predicted by an untrained DepthNet, and the unit of PoseNet's translations; about 10 for metric
    depth"""
    pose_decoder: Literal["short", "published"] = "short"
    """layers of PoseNet after its encoder; published: as in FeatDepth, with one more convolution and ReLU,
    which can die at high learning rates"""
    pose_size: tuple[Pixels, Pixels] | None = None
    """height and width of PoseNet's input in pixels; by default half the network input, so that large motions
    are within reach"""

    @model_validator(mode="after")
    def _depths_ascend(self) -> Self:
        if not self.min_depth < self.max_depth:
            raise ValueError(
                f"model.min_depth must be below model.max_depth, got {self.min_depth:g} and {self.max_depth:g}"
            )
        return self
