"""Settings of the networks."""

from typing import Any, Literal

from pydantic import Field

from egodepth.core.config import Settings

EMBEDDED = "tf_efficientnet_lite0"
"""The encoder whose pretrained weights need no download."""


class ModelSettings(Settings):
    """Architecture and size of the networks."""

    height: int = Field(96, multiple_of=32, ge=32)
    """height in pixels of the images that the networks see, a multiple of 32"""
    width: int = Field(320, multiple_of=32, ge=32)
    """width in pixels of the images that the networks see, a multiple of 32"""
    depth_encoder: str = EMBEDDED
    """encoder of DepthNet, any name that timm knows"""
    pose_encoder: str = EMBEDDED
    """encoder of PoseNet, any name that timm knows"""
    feature_encoder: str = EMBEDDED
    """encoder of FeatureNet, any name that timm knows"""
    depth_decoder: Literal["unet", "cascaded"] = "unet"
    """decoder of DepthNet; unet: skip connections, finest depth at full size; cascaded: as published with
    FeatDepth, chained residual pooling, finest depth at half size"""
    depth_model: str = ""
    """depth model of Hugging Face's transformers (name on the hub, or folder) to start DepthNet from, in place
    of depth_encoder and depth_decoder, for example depth-anything/Depth-Anything-V2-Small-hf"""
    depth_model_config: dict[str, Any] = {}
    """configuration of depth_model, filled in by the training"""
    pretrained: bool = True
    """start the encoders from ImageNet weights"""
    decoder_channels: tuple[int, ...] = (16, 32, 64, 96, 128)
    """channels of the decoders at 1/1, 1/2, 1/4, 1/8 and 1/16 of the image"""
    min_depth: float = Field(0.1, gt=0)
    """smallest depth that DepthNet can predict, in its own unit"""
    max_depth: float = Field(100.0, gt=0)
    """largest depth that DepthNet can predict, in its own unit"""
    start_depth: float = Field(1.0, gt=0)
    """depth that an untrained DepthNet predicts, and the unit of PoseNet's translations; about 10 where depth
    is metric"""
    pose_decoder: Literal["short", "published"] = "short"
    """layers of PoseNet after its encoder; published: as with FeatDepth, one more convolution and ReLU, which
    can go dead at high learning rates"""
    pose_size: tuple[int, int] | None = None
    """height and width in pixels at which PoseNet sees the frames; by default half of theirs, so that large
    motions are within reach"""
