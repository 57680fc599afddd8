"""A training step on a GPU against the straightforward formulation: steps a second, utilisation, memory.

    .venv/bin/python -m benchmarks.gpu --out docs/results/gpu.json

The setting of `benchmarks.training_step` (ResNet-50) at batch 8; says so where there is no GPU. A
profiler counts what makes the host wait within a step.
"""

import argparse
import subprocess
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from benchmarks import reference_step, training_step
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.snippets import SnippetBatch
from egodepth.geometry.camera import Camera
from egodepth.training.compilation import Comparisons
from egodepth.training.objective import compute_objective

WARM_UP, TIMED = 5, 20
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "aten::item")


def to_device(batch: SnippetBatch, device: torch.device) -> SnippetBatch:
    """All tensors of a batch."""
    moved = {
        f.name: value.to(device)
        for f in fields(batch)
        if isinstance(value := getattr(batch, f.name), (Tensor, Camera))
    }
    return replace(batch, **moved)


def measure(variant: str, device: torch.device) -> dict[str, Any]:
    """Steps a second, peak memory, utilisation, and how often a step makes the host wait."""
    training_step.BATCH = 8
    settings = training_step.make_settings("resnet50")
    ours = variant == "egodepth"
    networks = training_step.make_networks(settings).to(device).use_bf16(ours)
    batch = to_device(training_step.make_batch(), device)
    if ours:
        networks.to(memory_format=torch.channels_last)
    compare = Comparisons.compiled()
    optimizer = torch.optim.AdamW(
        [p for p in networks.parameters() if p.requires_grad], lr=1e-6, fused=ours
    )

    def forward() -> Tensor:
        if ours:
            return compute_objective(networks, batch, settings, 1.0, compare).total
        with torch.device(device):
            return reference_step.reference_objective(networks, batch, settings)

    def step(forward: Callable[[], Tensor] = forward) -> None:
        forward().backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for _ in range(TIMED):
        step()
    busy = subprocess.run(
        ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"],
        capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / TIMED
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        step()
    waits = {e.key: e.count for e in profiled.key_averages() if e.key in WAITS}
    return {
        "steps_per_second": 1 / seconds, "peak_mb": torch.cuda.max_memory_allocated() / 2**20,
        "utilisation": busy[:1], "waits": waits,
    }  # fmt: skip


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no CUDA GPU on this machine: nothing measured")
        return
    device = torch.device("cuda:0")
    table = Table("variant", "steps/s", "peak", "utilisation", "waits in a step")
    results = {}
    for variant in ("reference", "egodepth"):
        found = results[variant] = measure(variant, device)
        table.add_row(variant, f"{found['steps_per_second']:.2f}", f"{found['peak_mb']:.0f} MB",
                      " ".join(found["utilisation"]), str(found["waits"]))  # fmt: skip
    Console(width=110).print(table)
    if options.out:
        gpu = torch.cuda.get_device_name(device)
        write_json(options.out, {"results": results, "gpu": gpu, **provenance()})


if __name__ == "__main__":
    main()
