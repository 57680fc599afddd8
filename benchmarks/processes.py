"""Settings of PyTorch's DistributedDataParallel, compared by the processor's time of two CPU processes.

Run: .venv/bin/python -m benchmarks.processes [--steps 20] [--rounds 3] [--out FILE]

Each variant trains the default networks at 64x32, where gradients weigh most beside the rest of a step, in two
processes with one thread each. Variants take turns, and the smallest time of the rounds counts. Other processes
on the machine do not change the processor's time of a training, as far as caches and clock allow.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.strategies import DDPStrategy
from PIL import Image
from rich.console import Console
from rich.table import Table

from egodepth.core.config import override
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.settings.recipes import get_recipe
from egodepth.training import engine
from egodepth.training.run import train

VARIANTS: dict[str, dict[str, bool]] = {
    "find_unused_parameters": {"find_unused_parameters": True},
    "without": {},
    "without, gradient_as_bucket_view": {"gradient_as_bucket_view": True},
    "without, both": {"gradient_as_bucket_view": True, "static_graph": True},
}


def main() -> None:
    """Compare the variants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/processes.json"))
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = write_frames(folder / "frames", 40)
        for number in range(options.rounds):
            for variant in VARIANTS:
                out = folder / f"{number}-{variant}"
                found[variant].append(run(variant, frames, out, options.steps))
                print(variant, found[variant][-1], flush=True)
    table = Table("DDP", "processor's seconds per step of a process", "largest memory, MB")
    for variant, runs in found.items():
        seconds, memory = (min(run[key] for run in runs) for key in ("seconds", "memory"))
        table.add_row(variant, f"{seconds:.3f}", f"{memory:.0f}")
    Console().print(table)
    write_json(options.out, {"results": found, "steps": options.steps, **provenance()})


def write_frames(folder: Path, count: int) -> Path:
    """Images that pan over noise."""
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 255, (24, 200, 3), dtype=np.uint8)
    wall = np.asarray(Image.fromarray(coarse).resize((1600, 192)))
    for index in range(count):
        place = 4 * index
        Image.fromarray(wall[:96, place : place + 320]).save(folder / f"{index:04d}.png")
    return folder


def run(variant: str, frames: Path, out: Path, steps: int) -> dict[str, float]:
    """Mean over two processes that train together: seconds of the processor per step, and memory."""
    out.mkdir()
    script = out / "train.py"
    words = f"{variant!r}, {str(frames)!r}, {str(out)!r}, {steps}"
    script.write_text(f"from benchmarks.processes import work\nwork({words})\n")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    paths = {"PYTHONPATH": os.pathsep.join([".", "src"]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launch], check=True, env=os.environ | paths)
    each = [json.loads(path.read_text()) for path in out.glob("rank-*.json")]
    return {key: sum(one[key] for one in each) / len(each) for key in ("seconds", "memory")}


def work(variant: str, frames: str, out: str, steps: int) -> None:
    """Train in one of the processes; the time of the first steps is left out by a second training."""
    engine.make_strategy = lambda world, unused: DDPStrategy(**VARIANTS[variant])  # type: ignore
    used = []
    for count in (3, 3 + steps):
        settings = override(
            get_recipe("footage"),
            {
                "data.sources": [frames], "data.fov": 60.0, "data.poses": "network", "data.stride": 1,
                "data.mask": "none", "data.dense_labels": False, "data.fit_size": False, "init": "none",
                "model.height": 32, "model.width": 64, "steps": count, "batch_size": 2, "device": "cpu",
                "data.cache": f"{out}/cache", "precision": "float32", "checkpoint_every": 1000,
                "sample_every": 1000,
            },
        )  # fmt: skip
        started = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        train(settings, Path(out) / f"run-{count}")
        used.append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - started)
    facts: dict[str, Any] = {
        "seconds": (used[1] - used[0]) / steps,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    Path(out, f"rank-{os.environ['RANK']}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
