"""Settings of PyTorch's DistributedDataParallel, compared by the processor's time of two CPU processes.

Run: .venv/bin/python -m benchmarks.processes [--steps 20] [--out benchmarks/results/processes.json]

Two processes with one thread each hold the default networks at 64x32, where gradients weigh most beside the
rest of a step, once per variant. The variants take turns step by step, so that other processes on the machine
slow all of them alike; the median counts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from egodepth.core.config import override
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.core.schedule import Schedule
from egodepth.settings.recipes import get_recipe
from egodepth.training.batch import RawBatch
from egodepth.training.build import build_module, make_stream
from egodepth.training.footage import read_training_sequences
from egodepth.training.module import EgodepthModule

COLUMNS = ["DDP", "processor's time per step and process", "relative"]
VARIANTS: dict[str, dict[str, bool]] = {
    "find_unused_parameters": {"find_unused_parameters": True},
    "without": {},
    "without, gradient_as_bucket_view": {"gradient_as_bucket_view": True},
    "without, gradient_as_bucket_view, static_graph": {
        "gradient_as_bucket_view": True,
        "static_graph": True,
    },
}


def main() -> None:
    """Compare the variants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/processes.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        words = f"{name!r}, {options.steps}"
        in_two_processes(f"from benchmarks.processes import work; work({words})", Path(name))
        each = [json.loads(path.read_text()) for path in Path(name).glob("rank-*.json")]
    found = {v: statistics.fmean(statistics.median(one[v]) for one in each) for v in VARIANTS}
    first = next(iter(found.values()))
    rows = [[v, f"{seconds:.4f} s", f"{seconds / first:.3f}"] for v, seconds in found.items()]
    for row in rows:
        print(*row, sep="  ")
    facts = {"columns": COLUMNS, "rows": rows, "results": each, "steps": options.steps}
    write_json(options.out, {**facts, **provenance()})


def in_two_processes(code: str, folder: Path) -> None:
    """Run Python code in two processes of torchrun, one thread each, from a script in a folder."""
    script = folder / "work.py"
    script.write_text(code)
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    paths = {"PYTHONPATH": os.pathsep.join([".", "src"]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", *launch], check=True, env=os.environ | paths)


class Loss(nn.Module):
    """The loss of a batch, as Lightning passes it to DDP."""

    def __init__(self, module: EgodepthModule):
        super().__init__()
        self.module = module

    def forward(self, raw: RawBatch) -> Tensor:
        """Return the loss."""
        return self.module(raw)[1].total


def work(folder: str, steps: int) -> None:
    """Measure in one of the processes."""
    torch.distributed.init_process_group("gloo")
    changes = {
        "data.sources": ["synthetic:room:1"], "data.poses": "network", "data.stride": 1, "data.mask": "none",
        "data.dense_labels": False, "data.fit_size": False, "init": "none", "model.height": 32,
        "model.width": 64, "batch_size": 2, "device": "cpu", "data.cache": f"{folder}/cache",
    }  # fmt: skip
    settings = override(get_recipe("footage"), changes)
    settings, stream, _ = make_stream(settings, read_training_sequences(settings.data))
    stream.schedule = Schedule(1000)
    wrapped = {
        name: DistributedDataParallel(Loss(build_module(settings, stream, "float32")), **options)
        for name, options in VARIANTS.items()
    }
    used: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for step in range(steps + 3):
        batch = stream.batch(step)
        for name, network in wrapped.items():
            for parameter in network.parameters():
                parameter.grad = None
            started = time.process_time()
            network(batch).backward()
            used[name].append(time.process_time() - started)
    kept = {
        name: times[3:] for name, times in used.items()
    }  # DDP sorts its buckets in the first steps
    Path(folder, f"rank-{os.environ['RANK']}.json").write_text(json.dumps(kept))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
