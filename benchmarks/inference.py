"""DepthNet by every backend: latency, throughput, memory, and how far its depth is from PyTorch's.

    .venv/bin/python -m benchmarks.inference --out docs/results/inference.json [--run RUN --source SOURCE]
    .venv/bin/python -m benchmarks.inference --out docs/results/pipeline.json --pipeline SOURCE [--run RUN]

Without a run: the published network (ResNet-50, cascaded decoder) at 1024x320 with random weights, on
smooth random images. Each backend runs in a process of its own; latency is the median of 7 images after 2.
With --pipeline: 48 images predicted and written, against the networks alone; medians of 3 turns.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.reference_step import reference_depth
from benchmarks.training_step import median
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.image_files import ImageFiles
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.inference.predict import predict_sequence, write_predictions
from egodepth.models.networks import DepthNet, PoseNet
from egodepth.runs.backends import BACKENDS, make_compute
from egodepth.runs.checkpoint import read_run
from egodepth.runs.run import Run
from egodepth.settings.recipes import get_recipe

WARM_UP, TIMED = 2, 7
REPEATS = 3
PIPELINES = ("torch", "openvino-bf16")
EAGER = "eager, NCHW"
"""PyTorch as one would write it first: float32, without channels_last."""


def make_network(run: Path | None) -> tuple[DepthNet, int, int]:
    """DepthNet in evaluation mode, and the size of its images."""
    if run is not None:
        settings, networks = read_run(run)
        assert networks.depth is not None
        return networks.depth, settings.height, settings.width
    recipe = get_recipe("featdepth_kitti_mono").model
    torch.manual_seed(0)
    network = DepthNet(recipe.changed(pretrained=False)).eval()
    return network, recipe.height, recipe.width


def make_images(height: int, width: int, source: str | None) -> list[torch.Tensor]:
    """(1, 3, height, width): frames of the source, or smooth random ones."""
    count = WARM_UP + TIMED
    if source is not None:
        frames = read_source(source)[0].frames
        chosen = np.linspace(0, len(frames) - 1, count).astype(int).tolist()
        images = [
            torch.from_numpy(f.image.copy()).permute(2, 0, 1)[None] for f in frames.at(chosen)
        ]
        return [
            torch.nn.functional.interpolate(i.float() / 255, (height, width), mode="area")
            for i in images
        ]
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=generator)
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return list(large.split(1))


@torch.inference_mode()
def measure(backend: str, run: Path | None, source: str | None) -> dict[str, Any]:
    """Latency, memory and error of a backend."""
    network, height, width = make_network(run)
    images = make_images(height, width, source)
    expected = [reference_depth(network, image)[0] for image in images[-2:]]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if backend == EAGER:

        def compute(image: torch.Tensor) -> torch.Tensor:
            return reference_depth(network, image)[0]
    else:
        network.to(memory_format=torch.channels_last)
        images = [image.contiguous(memory_format=torch.channels_last) for image in images]
        frames = (image[0] for image in images)
        compute = make_compute(backend, network, height, width, frames)  # type: ignore[arg-type]
    prepare = time.perf_counter() - started
    seconds, depths = [], []
    for image in images:
        started = time.perf_counter()
        depths.append(compute(image))
        seconds.append(time.perf_counter() - started)
    pairs = zip(depths[-2:], expected, strict=True)
    errors = torch.cat([(got.float() / want - 1).abs().flatten() for got, want in pairs])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "latency_ms": 1000 * median(seconds[WARM_UP:]), "prepare_s": prepare,
        "error_max": float(errors.max()), "error_mean": float(errors.mean()),
        "peak_mb": peak / 1024,
    }  # fmt: skip


def load_run(folder: Path | None) -> Run:
    """A run; without a folder the published networks with random weights."""
    if folder is not None:
        return Run.load(folder)
    network, _, _ = make_network(None)
    settings = get_recipe("featdepth_kitti_mono").model.changed(pretrained=False)
    return Run(Path("published"), settings, network, PoseNet(settings).eval()).to("cpu")


def measure_pipeline(folder: Path | None, source: str, backend: str) -> dict[str, float]:
    """Frames a second of the networks alone, and of all that `egodepth predict` does, in turns."""
    frames = read_source(source)[0].frames
    indices = range(min(len(frames), 48))
    sequence = Sequence("part", ImageFiles([frames.paths[i] for i in indices]))
    run = load_run(folder)
    images = [frame.image for frame in frames.at(range(8))]
    run.use_backend(backend, images)  # type: ignore[arg-type]
    prepared = torch.stack([run.prepare(image) for image in images])
    size = images[0].shape[:2]

    def networks() -> float:
        started = time.perf_counter()
        for start in (0, 4):
            run.depth_of_frames(prepared[start : start + 4], *size)
            run.motions_of_frames(prepared[start : start + 4], prepared[start : start + 4])
        return 8 / (time.perf_counter() - started)

    def everything() -> float:
        with tempfile.TemporaryDirectory() as out:
            started = time.perf_counter()
            written = write_predictions(predict_sequence(run, sequence), Path(out))
            return sum(1 for _ in written) / (time.perf_counter() - started)

    networks()
    alone, whole = [], []
    for _ in range(REPEATS):
        alone.append(median([networks() for _ in range(3)]))
        whole.append(everything())
    shares = [w / a for w, a in zip(whole, alone, strict=True)]
    return {"network_fps": median(alone), "predict_fps": median(whole), "share": median(shares)}


def run_alone(backend: str, options: argparse.Namespace) -> dict[str, Any]:
    """One backend in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.inference", "--one", backend]
    if options.run:
        command += ["--run", str(options.run)]
    if options.source:
        command += ["--source", options.source]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--source")
    parser.add_argument(
        "--pipeline", metavar="SOURCE", help="time prediction of these images instead"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.run, options.source)))
        return
    table = Table(
        "backend", "latency", "frames/s", "faster", "error, largest", "mean", "peak", "to prepare"
    )
    results: dict[str, Any] = {}
    for backend in () if options.pipeline else (EAGER, *BACKENDS):
        found = results[backend] = run_alone(backend, options)
        if "failed" in found:
            table.add_row(backend, found["failed"][:60])
            continue
        faster = results[EAGER]["latency_ms"] / found["latency_ms"]
        table.add_row(
            backend, f"{found['latency_ms']:.0f} ms", f"{1000 / found['latency_ms']:.1f}",
            f"{faster:.2f} times", f"{100 * found['error_max']:.2f} %",
            f"{100 * found['error_mean']:.3f} %", f"{found['peak_mb']:.0f} MB",
            f"{found['prepare_s']:.1f} s",
        )  # fmt: skip
    if results:
        Console(width=110).print(table)
    if options.pipeline:
        results["pipeline"] = {}
        for backend in PIPELINES:
            found = measure_pipeline(options.run, options.pipeline, backend)
            results["pipeline"][backend] = found
            print(f"egodepth predict --backend {backend}: {found['predict_fps']:.2f} frames/s of "
                  f"{found['network_fps']:.2f} that the networks make alone: "
                  f"{100 * found['share']:.0f} %")  # fmt: skip
    if options.out:
        write_json(options.out, {"results": results, **provenance()})


if __name__ == "__main__":
    main()
