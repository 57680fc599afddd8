"""What a training step costs: time and memory over image size, batch, sources and encoder, and a fit.

    .venv/bin/python -m benchmarks.cost --out docs/results/cost.json

Photometric training with PoseNet on smooth random images, each setting in a process of its own, the
median of 5 steps after 2. The fit is seconds = a + b x megapixels of all frames of a step for each
encoder, from which the hours of 20 epochs of KITTI's 39,810 snippets follow for any size and batch.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.training_step import median
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.memory import keep_large_allocations
from egodepth.core.provenance import provenance
from egodepth.geometry.camera import Camera
from egodepth.models.networks import Networks
from egodepth.runs.devices import choose_precision
from egodepth.settings.recipes import get_recipe
from egodepth.training.batch import SnippetBatch
from egodepth.training.objective import compute_objective

WARM_UP, TIMED = 2, 5
ENCODERS = ("tf_efficientnet_lite0", "resnet18", "resnet50")
BASE = {"height": 96, "width": 320, "batch": 4, "sources": 2}
CHANGES: tuple[dict[str, int], ...] = (
    {}, {"batch": 2}, {"batch": 8}, {"sources": 1}, {"height": 192, "width": 640, "batch": 2},
    {"height": 192, "width": 640},
)  # fmt: skip
KITTI_SNIPPETS, EPOCHS = 39_810, 20


def measure(encoder: str, height: int, width: int, batch: int, sources: int) -> dict[str, float]:
    """Seconds of a step and megabytes above what there was before."""
    keep_large_allocations()
    recipe = get_recipe("kitti_small")
    settings = recipe.changed(model={
        "height": height, "width": width, "depth_encoder": encoder, "pose_encoder": encoder,
        "pretrained": False,
    })  # fmt: skip
    torch.manual_seed(0)
    networks = Networks(settings.model, depth=True, pose=True, features=False)
    networks.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(networks.parameters(), lr=1e-5, fused=True)
    coarse = torch.rand((1 + sources) * batch, 3, height // 8, width // 8)
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    frames = large.unflatten(0, (1 + sources, batch))
    camera = Camera.from_parameters(0.6 * width, 0.6 * width, width / 2, height / 2, height, width)
    matrix = camera.matrix.expand(batch, 3, 3)
    snippet = SnippetBatch(
        frames[0], frames[1:], frames[0], frames[1:], Camera(matrix, height, width)
    )
    if sources == 1:
        # One source in time, the camera's partner in a rig, has a known motion.
        settings = settings.changed(data=settings.data.changed(views="stereo"))  # fmt: skip
        networks.pose = None
        motion = torch.eye(4).repeat(1, batch, 1, 1)
        motion[..., 0, 3] = -0.5
        snippet = replace(snippet, partner_motion=motion)
    networks.use_bf16(choose_precision("auto", "cpu") == "bf16")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        total = compute_objective(networks, snippet, settings, 0.5).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": median(seconds[WARM_UP:]), "peak_mb": peak / 1024}


def megapixels(case: dict[str, Any]) -> float:
    """That a step sees, of all its frames."""
    return case["height"] * case["width"] * case["batch"] * (1 + case["sources"]) / 1e6


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(**json.loads(options.one))))
        return
    table = Table("encoder", "size", "batch", "sources", "step", "fit", "peak", "KITTI, 20 epochs")
    cases: list[dict[str, Any]] = []
    fits = {}
    for encoder in options.encoders:
        measured = []
        for change in CHANGES:
            case: dict[str, Any] = {"encoder": encoder, **BASE, **change}
            words = [sys.executable, "-m", "benchmarks.cost", "--one", json.dumps(case)]
            done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ))
            if done.returncode:
                raise SystemExit(done.stderr)
            measured.append(case | json.loads(done.stdout.splitlines()[-1]))
        columns = np.array([[1, megapixels(case)] for case in measured])
        fixed, slope = np.linalg.lstsq(columns, [case["seconds"] for case in measured], rcond=None)[
            0
        ]
        fits[encoder] = {"seconds": float(fixed), "seconds_per_megapixel": float(slope)}
        for case in measured:
            fit = fixed + slope * megapixels(case)
            hours = case["seconds"] * KITTI_SNIPPETS / case["batch"] * EPOCHS / 3600
            table.add_row(
                encoder, f"{case['width']}x{case['height']}", str(case["batch"]),
                str(case["sources"]), f"{case['seconds']:.3f} s", f"{fit:.3f} s",
                f"{case['peak_mb']:.0f} MB", f"{hours:.0f} h",
            )  # fmt: skip
        cases += measured
    Console(width=110).print(table)
    if options.out:
        write_json(options.out, {"cases": cases, "fits": fits, **provenance()})


if __name__ == "__main__":
    main()
