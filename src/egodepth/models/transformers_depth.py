"""Depth models from Hugging Face's transformers in place of DepthNet."""

import json
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from egodepth.core.errors import EgodepthError
from egodepth.models.mixed_precision import Network, mixed_precision

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FALLBACK_MULTIPLE = 32


class TransformersDepth(Network):
    """Network that predicts inverse depth with any ``AutoModelForDepthEstimation`` (Depth Anything, DPT, ...).

    Relative depth models give inverse depth up to scale and shift, metric models give depth. Scale and shift
    are learned parameters; the first training batch sets the scale so that its median depth is ``start_depth``.

    Attributes:
        configuration: configuration of the model, as plain values; it suffices to rebuild the network.
    """

    mean: Tensor
    std: Tensor
    calibrated: Tensor

    def __init__(
        self, source: str, configuration: dict[str, Any], min_depth: float, max_depth: float,
        start_depth: float,
    ):  # fmt: skip
        """Load the model, or make it from its configuration.

        Args:
            source: name on the hub, or folder.
            configuration: configuration of the model if already known; then no weights are loaded.
            min_depth, max_depth, start_depth: see :class:`egodepth.settings.model.ModelSettings`.

        Raises:
            EgodepthError: transformers is not installed, or there is no such model.
        """
        super().__init__()
        try:
            import transformers
        except ImportError as error:
            raise EgodepthError(
                "model.depth_model needs the package transformers; install it by: "
                "pip install 'egodepth[transformers]'"
            ) from error
        mean: tuple[float, ...] = IMAGENET_MEAN
        std: tuple[float, ...] = IMAGENET_STD
        try:
            if configuration:
                config = transformers.AutoConfig.for_model(**configuration)
                self.net = transformers.AutoModelForDepthEstimation.from_config(config)
            else:
                self.net = transformers.AutoModelForDepthEstimation.from_pretrained(source)
                mean, std = _normalization(transformers, source)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EgodepthError(
                f"model.depth_model {source!r} can't be loaded: {reason}; give the name of a depth model on "
                "the Hugging Face hub, or a folder with one"
            ) from error
        config = self.net.config
        # Through JSON, to convert tuples and other number types to values that YAML can store.
        self.configuration: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=str))
        self.metric = getattr(config, "depth_estimation_type", "relative") == "metric"
        inner = getattr(config, "backbone_config", None)
        multiple = getattr(config, "patch_size", None) or getattr(inner, "patch_size", None)
        self.multiple = int(multiple or FALLBACK_MULTIPLE)
        self.nearest, self.farthest = 1 / min_depth, 1 / max_depth
        self.start = 1 / start_depth
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(()))
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool))
        self._looked = (
            False  # reading a value from a GPU blocks, so it is done in the first step only
        )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    @mixed_precision
    def forward(
        self, image: Float[Tensor, "b 3 h w"], scales: int = 4
    ) -> list[Float[Tensor, "b 1 _ _"]]:
        """Inverse depth, between 1 / max_depth and 1 / min_depth, float32, at the finest ``scales`` of 1, 1/2,
        1/4 and 1/8 of the image size; the coarser ones are means of the finest."""
        height, width = int(image.shape[-2]), int(image.shape[-1])
        rows, columns = (
            max(1, round(side / self.multiple)) * self.multiple for side in (height, width)
        )
        fitted = F.interpolate(image, (rows, columns), mode="bilinear", align_corners=False)
        raw = self.net(pixel_values=(fitted - self.mean) / self.std).predicted_depth.float()
        if self.metric:
            raw = 1 / raw.clamp(min=1e-3)
        if self.training and not self._looked:
            self._looked = True
            if not self.calibrated:
                self._calibrate(raw)
        scaled = (raw * self.log_scale.exp() + self.shift)[:, None]
        full = F.interpolate(scaled, (height, width), mode="bilinear", align_corners=False)
        finest = self.farthest + full.clamp(0, self.nearest - self.farthest)
        return [finest, *(F.avg_pool2d(finest, 2**k) for k in range(1, scales))]

    @torch.no_grad()
    def _calibrate(self, raw: Tensor) -> None:
        middle = float(raw.median().clamp(min=1e-6))
        self.log_scale.fill_(math.log(self.start / middle))
        self.calibrated.fill_(True)


def _normalization(transformers: Any, source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of colours that the model was trained with; ImageNet's if not specified."""
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(source)
        return tuple(processor.image_mean), tuple(processor.image_std)
    except (OSError, ValueError, AttributeError, TypeError, ImportError):
        return IMAGENET_MEAN, IMAGENET_STD
