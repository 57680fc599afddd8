"""Conversion of checkpoints of the authors' FeatDepth implementation to networks of this library."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from egodepth.core.errors import EgodepthError
from egodepth.models.networks import Networks
from egodepth.models.torch_file import read_torch_file, require_finite_weights
from egodepth.settings.model import ModelSettings

# Published name and our name; the number in braces is one less in ours.
_NAMES = (
    (r"DepthEncoder\.encoder\.(?!fc\.)(.+)", r"depth.encoder.net.model.\1"),
    (r"DepthDecoder\.reduce(\d)\.conv\.(.+)", r"depth.decoder.reduce.{\1}.\2"),
    (r"DepthDecoder\.iconv(\d)\.conv\.(.+)", r"depth.decoder.join.{\1}.\2"),
    (
        r"DepthDecoder\.crp(\d)\.0\.(\d)_pointwise\.conv\.(.+)",
        r"depth.decoder.pool.{\1}.pointwise.{\2}.\3",
    ),
    (r"DepthDecoder\.merge(\d)\.conv\.(.+)", r"depth.decoder.merge.{\1}.\2"),
    (r"DepthDecoder\.disp(\d)\.0\.conv\.(.+)", r"depth.decoder.heads.{\1}.\2"),
    (r"PoseEncoder\.encoder\.(?!fc\.)(.+)", r"pose.encoder.net.model.\1"),
    (r"PoseDecoder\.reduce\.(.+)", r"pose.head.0.\1"),
    (r"PoseDecoder\.conv1\.(.+)", r"pose.head.2.\1"),
    (r"PoseDecoder\.conv2\.(.+)", r"pose.head.4.\1"),
    (r"PoseDecoder\.conv3\.(.+)", r"pose.head.6.\1"),
    (r"(?:extractor|Encoder)\.encoder\.(?!fc\.)(.+)", r"features.encoder.net.model.\1"),
    (r"Decoder\.upconv(\d)\.conv\.conv\.(.+)", r"features.decoder.before.{\1}.0.\2"),
    (r"Decoder\.iconv(\d)\.conv\.conv\.(.+)", r"features.decoder.after.{\1}.0.\2"),
    (r"Decoder\.disp(\d)\.conv\.(.+)", r"features.heads.{\1}.\2"),
)
_RESNETS = {  # (bottleneck blocks, blocks in the third layer): name
    (False, 2): "resnet18",
    (False, 6): "resnet34",
    (True, 6): "resnet50",
    (True, 23): "resnet101",
    (True, 36): "resnet152",
}
_IMAGE_MEAN, _IMAGE_STD, _POSE_SCALE = 0.45, 0.225, 0.01


@dataclass(frozen=True)
class PublishedNetworks:
    """Networks converted from a published checkpoint, and the entries that were not used.

    Attributes:
        networks: the networks, in evaluation mode.
        settings: settings of the networks.
        mapped: number of converted entries of the checkpoint.
        unused: names of entries that the networks never use: the encoders' classifiers.
    """

    networks: Networks
    settings: ModelSettings
    mapped: int
    unused: list[str]


def read_published(path: Path, *, height: int = 320, width: int = 1024) -> PublishedNetworks:
    """Read a checkpoint of the authors' implementation; pickled code is never executed.

    Args:
        path: the file.
        height, width: size of the training images, which the checkpoint does not contain.

    Raises:
        EgodepthError: a missing or broken file, or missing or unknown entries.
    """
    content = read_torch_file(path, "a checkpoint of FeatDepth")
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise EgodepthError(f"{path} is not a checkpoint of FeatDepth: it holds no state_dict")
    try:
        require_finite_weights(state, "it")
        return convert_published(state, height=height, width=width)
    except EgodepthError as error:
        raise EgodepthError(f"{path}: {error}") from error


def convert_published(
    state: Mapping[str, Tensor], *, height: int = 320, width: int = 1024
) -> PublishedNetworks:
    """Make networks of this library from a published state dict.

    Args:
        state: state dict of DepthNet, PoseNet and feature extractor, or of the stand-alone auto-encoder.
        height, width: size of the training images.

    Raises:
        EgodepthError: not a published state dict, or missing, unknown or misshapen entries; the message names
            the first of each.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    converted: dict[str, Tensor] = {}
    unused: list[str] = []
    unknown: list[str] = []
    for name, value in state.items():
        own = _our_name(name)
        if own is not None:
            converted[own] = value
        else:
            (unused if ".encoder.fc." in name else unknown).append(name)
    parts = {name.split(".", 1)[0] for name in converted}
    if not parts:
        raise EgodepthError("it holds no networks of FeatDepth")
    settings = ModelSettings(
        height=height,
        width=width,
        depth_decoder="cascaded",
        pose_decoder="published",
        depth_encoder=_resnet(converted, "depth"),
        pose_encoder=_resnet(converted, "pose"),
        feature_encoder=_resnet(converted, "features"),
        decoder_channels=(16, 32, 64, 128, 256),
        pose_size=(192, 640),
        pretrained=False,
    )
    networks = Networks(
        settings,
        depth="depth" in parts,
        pose="pose" in parts,
        features="features" in parts,
        reconstructs=any(name.startswith("features.decoder.") for name in converted),
    )
    mapped = len(converted)
    converted |= _constants(networks)
    expected = networks.state_dict()
    wrong = {
        "missing": sorted(expected.keys() - converted.keys()),
        "left over": sorted(unknown) + sorted(converted.keys() - expected.keys()),
        "of another shape": sorted(
            name
            for name in expected.keys() & converted.keys()
            if expected[name].shape != converted[name].shape
        ),
    }
    if any(wrong.values()):
        raise EgodepthError(
            "; ".join(
                f"entries {kind} ({len(names)}): {', '.join(names[:5])}"
                + (" and so on" if len(names) > 5 else "")
                for kind, names in wrong.items()
                if names
            )
        )
    networks.load_state_dict(converted)
    return PublishedNetworks(networks.eval(), settings, mapped, unused)


def _our_name(name: str) -> str | None:
    for published, own in _NAMES:
        match = re.fullmatch(published, name)
        if match:
            return re.sub(r"\{(\d)\}", lambda m: str(int(m[1]) - 1), match.expand(own))
    return None


def _resnet(state: Mapping[str, Tensor], network: str) -> str:
    """Name of a network's encoder; resnet18 if the network is absent, for which none is made."""
    prefix = f"{network}.encoder.net.model."
    blocks = {
        match[1]
        for name in state
        if (match := re.match(re.escape(prefix) + r"layer3\.(\d+)\.", name))
    }
    if not blocks:
        return "resnet18"
    kind = (f"{prefix}layer1.0.conv3.weight" in state, len(blocks))
    if kind not in _RESNETS:
        raise EgodepthError(f"the encoder of its {network} network is no ResNet that is known here")
    return _RESNETS[kind]


def _constants(networks: Networks) -> dict[str, Tensor]:
    """Constants of the published code: one mean and standard deviation for all colours, none for
    FeatureNet, and one scale for all outputs of PoseNet."""
    constants = {}
    for name, buffer in networks.named_buffers():
        plain = name.startswith("features.")
        if name.endswith("encoder.mean"):
            constants[name] = torch.full_like(buffer, 0.0 if plain else _IMAGE_MEAN)
        elif name.endswith("encoder.std"):
            constants[name] = torch.full_like(buffer, 1.0 if plain else _IMAGE_STD)
        elif name == "pose.scale":
            constants[name] = torch.full_like(buffer, _POSE_SCALE)
    return constants
