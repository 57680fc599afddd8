"""Backends for DepthNet: ONNX export, and faster runtimes for CPUs."""

import io
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, require
from egodepth.core.files import atomic_path
from egodepth.core.quiet import quiet_loggers
from egodepth.core.temporary import temporary_folder
from egodepth.models.confidence import ConfidenceHead, depth_and_features
from egodepth.models.networks import DepthNet
from egodepth.models.transformers_depth import TransformersDepth
from egodepth.runs.onnx_graph import fold_sizes, free_batch
from egodepth.runs.unit import Unit
from egodepth.settings.model import ModelSettings

Backend = Literal[
    "torch", "torch-bf16", "onnxruntime", "openvino", "openvino-bf16", "openvino-int8"
]
BACKENDS: dict[Backend, str] = {
    "torch": "PyTorch in float32",
    "torch-bf16": "PyTorch in bfloat16",
    "onnxruntime": "ONNX Runtime in float32",
    "openvino": "OpenVINO in float32",
    "openvino-bf16": "OpenVINO in bfloat16, fast where the CPU has it",
    "openvino-int8": "OpenVINO with 8-bit integers, calibrated on frames of the footage",
}
OPSET, OPSETS = 17, range(11, 21)
"""Default and possible versions of ONNX's operators."""
CALIBRATION_FRAMES = 32

Compute = Callable[[Tensor], Tensor]
"""Frames (B, 3, h, w) in [0, 1] to inverse depth (B, 1, H, W), and with a confidence head the deviation of its
log as a second channel."""


class _Finest(nn.Module):
    """DepthNet reduced to its finest output, and the deviation if there is a confidence head."""

    def __init__(
        self, depth: DepthNet | TransformersDepth, confidence: ConfidenceHead | None = None
    ):
        super().__init__()
        self.depth, self.confidence = depth, confidence

    def forward(self, image: Tensor) -> Tensor:
        if self.confidence is None:
            return self.depth(image, scales=1)[0]
        inverse, features = depth_and_features(self.depth, image)
        deviation = self.confidence(image, inverse, features)
        size = (int(inverse.shape[-2]), int(inverse.shape[-1]))
        resized = F.interpolate(deviation, size, mode="bilinear", align_corners=False)
        return torch.cat([inverse, resized], 1)


def export_onnx(
    depth: DepthNet | TransformersDepth,
    height: int,
    width: int,
    path: str | Path,
    *,
    opset: int = OPSET,
    batch: int | None = 1,
    metadata: Mapping[str, str] | None = None,
    confidence: ConfidenceHead | None = None,
) -> int | None:
    """Export DepthNet as ONNX, from ``image`` (batch, 3, height, width) in [0, 1], RGB, to ``inverse_depth``
    (batch, 1, h, w), both float32.

    Args:
        depth: the network, in evaluation mode.
        height, width: size of its input.
        path: file to write.
        opset: version of ONNX's operators, one of OPSETS.
        batch: number of images; None for any.
        metadata: names and values recorded with the model.
        confidence: head whose deviation becomes a second channel.

    Returns:
        The number of images; None if it is free, which it cannot be for depth models of transformers.

    Raises:
        EgodepthError: onnx is not installed, another opset, or the file can't be written.
    """
    require(path, (str, Path), "path", "the file to write")
    if opset not in OPSETS:
        raise EgodepthError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, got {opset!r}")
    onnx = _package("onnx")
    device = next(depth.parameters()).device
    image = torch.zeros(batch or 1, 3, height, width, device=device)
    model = _Finest(depth, confidence).eval()
    with atomic_path(path) as partial, warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with torch.no_grad():
            torch.onnx.export(
                model, (image,), str(partial), dynamo=False, opset_version=opset,
                input_names=["image"], output_names=["inverse_depth"],
            )  # fmt: skip
        graph = fold_sizes(onnx.load(str(partial)))
        images: int | None = batch or 1
        if batch is None and free_batch(graph):
            images = None
        onnx.helper.set_model_props(graph, dict(metadata or {}))
        onnx.checker.check_model(graph)
        onnx.save(graph, str(partial))
    return images


def export_run_onnx(
    depth: DepthNet | TransformersDepth,
    settings: ModelSettings,
    unit: Unit,
    path: str | Path,
    *,
    opset: int = OPSET,
    batch: int | None = None,
) -> int | None:
    """Like :func:`export_onnx`, for the DepthNet of a run, and with metadata that say what its input and output
    are: range, layout, colours, size, unit and limits of depth. The number of images is free by default."""
    size, about = (settings.height, settings.width), describe_onnx(settings, unit)
    return export_onnx(depth, *size, path, opset=opset, batch=batch, metadata=about)


def describe_onnx(settings: ModelSettings, unit: Unit) -> dict[str, str]:
    """Metadata of an exported model: what goes in, what comes out, and in which unit."""
    return {
        "producer": f"egodepth {version('egodepth')}",
        "input": "image: float32, batch x 3 x height x width (NCHW), RGB, 0 to 1",
        "resize": "the whole image to height x width, with an anti-aliasing filter",
        "output": "inverse_depth: float32, batch x 1 x height x width; depth = 1 / inverse_depth",
        "height": str(settings.height), "width": str(settings.width),
        "unit": unit.text, "metres_per_unit": f"{unit.metres:.9g}" if unit.metres else "unknown",
        "min_depth": f"{settings.min_depth:g}", "max_depth": f"{settings.max_depth:g}",
    }  # fmt: skip


def make_compute(
    backend: Backend,
    depth: DepthNet | TransformersDepth,
    height: int,
    width: int,
    frames: Iterable[Tensor] = (),
    confidence: ConfidenceHead | None = None,
) -> Compute:
    """Make the function that computes DepthNet's finest inverse depth, and its deviation, with a backend.

    Args:
        backend: one of BACKENDS.
        depth: the network, in evaluation mode.
        height, width: size of its input.
        frames: frames (3, h, w) of the footage to calibrate ``openvino-int8`` on.
        confidence: head that gives the deviation; None for inverse depth alone.

    Raises:
        EgodepthError: a runtime that is not installed, or no frames to calibrate on.
    """
    finest = _Finest(depth, confidence)
    if backend == "torch":
        return finest
    if backend == "torch-bf16":
        kind = next(depth.parameters()).device.type

        def in_bf16(images: Tensor) -> Tensor:
            with torch.autocast(kind, torch.bfloat16):
                return finest(images).float()

        return in_bf16
    with temporary_folder("backend") as folder, progress.phase(f"preparing {backend}"):
        path = folder / "depth.onnx"
        export_onnx(depth, height, width, path, confidence=confidence)
        run_one = (
            _onnxruntime(path) if backend == "onnxruntime" else _openvino(path, backend, frames)
        )

    def one_by_one(images: Tensor) -> Tensor:
        arrays = images.contiguous().cpu().numpy()
        return torch.from_numpy(np.concatenate([run_one(a[None]) for a in arrays]))

    return one_by_one


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise EgodepthError(
            f"this needs the package {name}; install it by: pip install 'egodepth[fast]'"
        ) from error


def _onnxruntime(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    onnxruntime = _package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    return lambda image: np.asarray(session.run(None, {"image": image})[0])


def _openvino(
    path: Path, backend: Backend, frames: Iterable[Tensor]
) -> Callable[[np.ndarray], np.ndarray]:
    openvino = _package("openvino")
    model = openvino.Core().read_model(path)
    if backend == "openvino-int8":
        model = _quantize(model, frames)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32" if backend == "openvino" else "bf16",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda image: np.array(compiled(image)[0])


def _quantize(model: Any, frames: Iterable[Tensor]) -> Any:
    quiet_loggers()  # again below: importing nncf resets its loggers
    nncf = _package("nncf")
    images = [frame[None].cpu().numpy() for frame in islice(frames, CALIBRATION_FRAMES)]
    if not images:
        raise EgodepthError("backend openvino-int8 is calibrated on frames, and there are none")
    quiet_loggers()
    return nncf.quantize(model, nncf.Dataset(images), subset_size=len(images))
