"""Training steps and inference on a GPU against the straightforward formulation: time, memory, host waits.

    .venv/bin/python -m benchmarks.gpu --out docs/results/gpu.json
    .venv/bin/python -m benchmarks.gpu --device cpu --tiny        to see that it runs

The networks of `benchmarks.training_step` (ResNet-50) at 640x192 and 1024x320. Steps are timed together,
without looking at a value in between; a profiler then counts what makes the host wait within a step, and
PyTorch tells where. Inference is DepthNet's, batch 1 as it comes and batch 8.
"""

import argparse
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from benchmarks import training_step
from benchmarks.reference_step import reference_depth, reference_objective
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.geometry.camera import Camera
from egodepth.models.networks import DepthNet
from egodepth.runs.backends import make_compute
from egodepth.runs.devices import choose_precision
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import SnippetBatch
from egodepth.training.compilation import PLAIN, Comparisons
from egodepth.training.objective import compute_objective

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy",
         "aten::_local_scalar_dense", "aten::nonzero")  # fmt: skip
REFERENCE, OURS, OURS_BF16 = "straightforward", "egodepth", "egodepth, bf16"
INFERENCE_BATCHES = (1, 8)


@dataclass(frozen=True)
class Workload:
    """What is measured."""

    height: int
    width: int
    batch: int
    encoder: str = "resnet50"
    warm_up: int = 5
    timed: int = 20
    compiled: bool = True

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def settings(self) -> TrainSettings:
        """The published recipe at this size."""
        return training_step.make_settings(self.encoder, (self.height, self.width), self.batch)


WORKLOADS = (Workload(192, 640, 8), Workload(320, 1024, 4))
TINY = (Workload(64, 96, 2, "resnet18", warm_up=1, timed=2, compiled=False),)


class GpuWatch:
    """What nvidia-smi reads of the GPU while a block runs; nothing where there is none.

    Attributes:
        utilisation: mean share of the time in which a kernel ran, in percent; None without a GPU.
    """

    def __enter__(self) -> Self:
        self.utilisation: float | None = None
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits",
                   "-lms", "200"]  # fmt: skip
        self._process = None
        if torch.cuda.is_available():
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        words, _ = self._process.communicate()
        read = [float(word) for word in words.split() if word.isdigit()]
        self.utilisation = sum(read) / len(read) if read else None


def to_device(batch: SnippetBatch, device: torch.device) -> SnippetBatch:
    """All tensors of a batch."""
    moved = {
        f.name: value.to(device)
        for f in fields(batch)
        if isinstance(value := getattr(batch, f.name), (Tensor, Camera))
    }
    return replace(batch, **moved)


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes it natively."""
    return choose_precision("auto", device.type) == "bf16"


def wait_for(device: torch.device) -> None:
    """Until the GPU has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mb(device: torch.device) -> float | None:
    """Most memory that tensors took since the peak was reset; None on the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**20


def measure_step(variant: str, work: Workload, device: torch.device) -> dict[str, Any]:
    """Seconds of a step, peak memory, utilisation, and what makes the host wait, how often and where."""
    settings, ours = work.settings, variant == OURS
    networks = training_step.make_networks(settings).to(device)
    batch = to_device(training_step.make_batch(settings), device)
    if ours:
        networks.use_bf16(has_bf16(device)).to(memory_format=torch.channels_last)
    compare = Comparisons.compiled() if work.compiled else PLAIN
    optimizer = torch.optim.AdamW(
        [p for p in networks.parameters() if p.requires_grad], lr=1e-6, fused=ours
    )

    def step() -> None:
        if ours:
            total = compute_objective(networks, batch, settings, 1.0, compare).total
        else:
            with torch.device(device):
                total = reference_objective(networks, batch, settings)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(work.warm_up):
        step()
    wait_for(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with GpuWatch() as watch:
        started = time.perf_counter()
        for _ in range(work.timed):
            step()
        launched = time.perf_counter()
        wait_for(device)
        seconds = (time.perf_counter() - started) / work.timed
    return {
        "seconds": seconds, "host_seconds": (launched - started) / work.timed,
        "peak_mb": peak_mb(device), "utilisation": watch.utilisation,
        "waits": count_waits(step, device), "waits_at": find_waits(step, device),
    }  # fmt: skip


def count_waits(step: Callable[[], None], device: torch.device) -> dict[str, int]:
    """What makes the host wait within one step, by the profiler."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        step()
    return {e.key: e.count for e in profiled.key_averages() if e.key in WAITS}


def find_waits(step: Callable[[], None], device: torch.device) -> dict[str, int]:
    """Lines of the code at which PyTorch makes the host wait within one step; empty on the CPU."""
    if device.type != "cuda":
        return {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return dict(
        Counter(f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))
    )


@torch.inference_mode()
def measure_inference(variant: str, work: Workload, device: torch.device) -> dict[str, Any]:
    """Latency and frames per second of DepthNet, peak memory, and its largest relative difference from
    the straightforward formulation in float32."""
    torch.manual_seed(0)
    model = work.settings.model
    network = DepthNet(model).eval().to(device)
    images = training_step.make_images(max(INFERENCE_BATCHES), work.height, work.width).to(device)
    expected = reference_depth(network, images[:1])[0]
    if variant == REFERENCE:

        def compute(frames: Tensor) -> Tensor:
            return reference_depth(network, frames)[0]
    else:
        network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
        backend = "torch-bf16" if variant == OURS_BF16 else "torch"
        compute = make_compute(backend, network, work.height, work.width)  # type: ignore[arg-type]
    found: dict[str, Any] = {"difference": float((compute(images[:1]) / expected - 1).abs().max())}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for count in INFERENCE_BATCHES:
        seconds = []
        for _ in range(work.warm_up + work.timed):
            started = time.perf_counter()
            compute(images[:count])
            wait_for(device)
            seconds.append(time.perf_counter() - started)
        middle = sorted(seconds[work.warm_up :])[work.timed // 2]
        found[f"batch_{count}"] = {"ms": 1000 * middle, "frames_per_second": count / middle}
    return found | {"peak_mb": peak_mb(device)}


def attempt(
    measure: Callable[[str, Workload, torch.device], dict[str, Any]],
    variant: str,
    work: Workload,
    device: torch.device,
) -> dict[str, Any]:
    """A measurement, or that it does not fit into the GPU's memory."""
    try:
        return measure(variant, work, device)
    except torch.cuda.OutOfMemoryError:
        return {"failed": "out of memory"}
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda", help="cuda (default) or cpu")
    parser.add_argument("--tiny", action="store_true", help="small networks and images")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA GPU on this machine: nothing measured; see --device cpu --tiny")
        return
    results: dict[str, Any] = {}
    predicts = (REFERENCE, OURS, OURS_BF16) if has_bf16(device) else (REFERENCE, OURS)
    for work in TINY if options.tiny else WORKLOADS:
        results[str(work)] = {
            "batch": work.batch,
            "step": {v: attempt(measure_step, v, work, device) for v in (REFERENCE, OURS)},
            "inference": {v: attempt(measure_inference, v, work, device) for v in predicts},
        }
    console = Console(width=130)
    for table in make_tables(results):
        console.print(table)
    if options.out:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        write_json(options.out, {"results": results, "device": name, **provenance()})


def make_tables(results: dict[str, Any]) -> tuple[Table, Table]:
    """Of the steps, and of inference."""
    steps = Table("size, batch", "variant", "step (ms)", "of it the host", "faster", "peak (MB)",
                  "GPU busy (%)", "host waits")  # fmt: skip
    inference = Table("size", "variant", "ms a frame, batch 1", "frames/s, batch 8", "faster", "peak (MB)",
                      "largest difference")  # fmt: skip
    for size, found in results.items():
        first = found["step"][REFERENCE].get("seconds")
        for variant, row in found["step"].items():
            name = (f"{size}, {found['batch']}", variant)
            if "failed" in row:
                steps.add_row(*name, row["failed"])
                continue
            steps.add_row(
                *name, f"{1000 * row['seconds']:.1f}", f"{1000 * row['host_seconds']:.1f}",
                f"{first / row['seconds']:.2f} times" if first else "", _number(row["peak_mb"]),
                _number(row["utilisation"]), str(sum(row["waits"].values())),
            )  # fmt: skip
        first = found["inference"][REFERENCE].get("batch_1", {}).get("ms")
        for variant, row in found["inference"].items():
            if "failed" in row:
                inference.add_row(size, variant, row["failed"])
                continue
            inference.add_row(
                size, variant, f"{row['batch_1']['ms']:.2f}",
                f"{row[f'batch_{INFERENCE_BATCHES[-1]}']['frames_per_second']:.1f}",
                f"{first / row['batch_1']['ms']:.2f} times" if first else "", _number(row["peak_mb"]),
                f"{100 * row['difference']:.3f} %",
            )  # fmt: skip
    return steps, inference


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    main()
