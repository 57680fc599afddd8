"""Backends for DepthNet: ONNX export, and faster runtimes for CPUs."""

import io
import warnings
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, require
from egodepth.core.files import atomic_path
from egodepth.core.quiet import quiet_loggers
from egodepth.core.temporary import temporary_folder
from egodepth.models.networks import DepthNet
from egodepth.models.transformers_depth import TransformersDepth

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
OPSET = 17
CALIBRATION_FRAMES = 32

Compute = Callable[[Tensor], Tensor]
"""Frames (B, 3, h, w) in [0, 1] to inverse depth (B, 1, H, W)."""


class _Finest(nn.Module):
    """DepthNet reduced to its finest output."""

    def __init__(self, depth: DepthNet | TransformersDepth):
        super().__init__()
        self.depth = depth

    def forward(self, image: Tensor) -> Tensor:
        return self.depth(image, scales=1)[0]


def export_onnx(
    depth: DepthNet | TransformersDepth, height: int, width: int, path: str | Path
) -> None:
    """Export DepthNet as ONNX, from ``image`` (1, 3, height, width) in [0, 1], RGB, to ``inverse_depth``
    (1, 1, h, w), both float32.

    Raises:
        EgodepthError: onnx is not installed, or the file can't be written.
    """
    require(path, (str, Path), "path", "the file to write")
    onnx = _package("onnx")
    device = next(depth.parameters()).device
    image = torch.zeros(1, 3, height, width, device=device)
    model = _Finest(depth).eval()
    with atomic_path(path) as partial, warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with torch.no_grad():
            torch.onnx.export(
                model, (image,), str(partial), dynamo=False, opset_version=OPSET,
                input_names=["image"], output_names=["inverse_depth"],
            )  # fmt: skip
        onnx.checker.check_model(str(partial))


def make_compute(
    backend: Backend,
    depth: DepthNet | TransformersDepth,
    height: int,
    width: int,
    frames: Iterable[Tensor] = (),
) -> Compute:
    """Make the function that computes DepthNet's finest inverse depth with a backend.

    Args:
        backend: one of BACKENDS.
        depth: the network, in evaluation mode.
        height, width: size of its input.
        frames: frames (3, h, w) of the footage to calibrate ``openvino-int8`` on.

    Raises:
        EgodepthError: a runtime that is not installed, or no frames to calibrate on.
    """
    if backend == "torch":
        return lambda images: depth(images, scales=1)[0]
    if backend == "torch-bf16":
        kind = next(depth.parameters()).device.type

        def in_bf16(images: Tensor) -> Tensor:
            with torch.autocast(kind, torch.bfloat16):
                return depth(images, scales=1)[0]

        return in_bf16
    with temporary_folder("backend") as folder, progress.phase(f"preparing {backend}"):
        path = folder / "depth.onnx"
        export_onnx(depth, height, width, path)
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
