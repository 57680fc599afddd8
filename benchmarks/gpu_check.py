"""Everything that a machine with a GPU can tell of egodepth, in parts, each with its own time limit; see
`benchmarks/gpu_check.sh`, which runs this.

One part's failure does not stop the others. What is known is written to `gpu_check.json` after each part, so
that it is there whenever the machine is taken away; each part's output is in a log of its own beside it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance

TIME_LIMIT = 460.0
"""Seconds for all parts on a GPU; with the installation of the wheels that makes eight minutes."""
CPU_PATIENCE = 10.0
"""Without a GPU everything is tiny, and may be as slow as the machine is."""
LAST_LINES = 30


@dataclass(frozen=True)
class Part:
    """One command of the check.

    Attributes:
        name: of its log and its entry in the results.
        words: of ``python -m``; ``{results}`` is the file that it writes.
        tiny: more words, where there is no GPU.
        seconds: it may take on a GPU.
    """

    name: str
    words: str
    tiny: str
    seconds: float


PARTS = (
    Part("tests", "pytest -m gpu tests/test_gpu.py -q --durations=5 --junitxml={results}", "", 140),
    Part("benchmark", "benchmarks.gpu --out {results}", "--device cpu --tiny", 130),
    Part("training", "benchmarks.gpu_training --out {results}", "--device cpu --tiny", 190),
)


def run_part(part: Part, out: Path, seconds: float, *, gpu: bool) -> dict[str, Any]:
    """Run a part to its end or to its time limit; what came of it."""
    started, stopped = time.perf_counter(), ""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        words = f"{part.words} {'' if gpu else part.tiny}".format(results=results).split()
        with (out / f"{part.name}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words], stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                process.wait(max(1.0, seconds))
            except subprocess.TimeoutExpired:
                stopped = f"after its {seconds:.0f} s"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        found: dict[str, Any] = {
            "passed": status == 0, "device": "cuda" if gpu else "cpu",
            "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip
        if stopped:
            found["stopped"] = stopped
        if results.exists():
            found["results"] = read_results(part, results)
    if not found["passed"]:
        lines = (out / f"{part.name}.log").read_text(errors="replace").splitlines()
        found["last_lines"] = lines[-LAST_LINES:]
    return found


def read_results(part: Part, path: Path) -> Any:
    """What a part wrote; of tests their number by device and outcome, and which failed."""
    if part.name != "tests":
        return json.loads(path.read_text())
    counts: dict[str, Counter[str]] = {}
    failed = []
    for case in ElementTree.parse(path).iter("testcase"):
        name = case.get("name", "")
        outcome = next(
            (o for o in ("failure", "error", "skipped") if case.find(o) is not None), "passed"
        )
        counts.setdefault("cuda" if "cuda" in name else "cpu", Counter())[outcome] += 1
        if outcome in ("failure", "error"):
            failed.append(name)
    return {**counts, "failed": failed}


def describe_gpu() -> str:
    """Name, memory and driver, as nvidia-smi has them; empty without a GPU."""
    if not torch.cuda.is_available():
        return ""
    command = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def summarize(name: str, found: dict[str, Any]) -> str:
    """The most important numbers of a part, in a line."""
    results = found.get("results")
    if not results:
        return found.get("stopped", "no results")
    if name == "tests":
        counts = [f"{device}: " + ", ".join(f"{n} {o}" for o, n in results[device].items())
                  for device in ("cuda", "cpu") if device in results]  # fmt: skip
        return "; ".join(counts + [f"failed: {test}" for test in results["failed"]])
    if name == "training":
        return (
            f"{results['snippets_per_second']:.0f} snippets/s of {results['loader_snippets_per_second']:.0f} "
            f"that the loader makes, {100 * results['data_wait']:.0f} % of the time waiting for data, Abs Rel "
            f"{results['abs_rel']:.3f} (a constant {results['constant_abs_rel']:.3f})"
        )
    steps = {size: row["step"] for size, row in results["results"].items()}
    return "; ".join(
        f"{size}: " + ", ".join(
            f"{variant} {1000 * row['seconds']:.0f} ms" if "seconds" in row else f"{variant} {row['failed']}"
            for variant, row in variants.items()
        )
        for size, variants in steps.items()
    )  # fmt: skip


def main() -> int:
    """Run all parts; 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for results and logs")
    parser.add_argument("--parts", nargs="+", choices=[p.name for p in PARTS],
                        default=[p.name for p in PARTS], help="(default: all)")  # fmt: skip
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.is_available()
    patience = 1.0 if gpu else CPU_PATIENCE
    deadline = time.perf_counter() + patience * TIME_LIMIT
    facts = {"gpu": describe_gpu(), "torch_cuda": torch.version.cuda, **provenance()}
    console = Console(width=140)
    console.print(f"GPU: {facts['gpu']}" if gpu else "no GPU: what a CPU can run, at tiny sizes")
    parts: dict[str, Any] = {}
    table = Table("part", "device", "passed", "seconds", "results")
    for part in PARTS:
        if part.name not in options.parts:
            continue
        left = deadline - time.perf_counter()
        found = run_part(part, options.out, min(patience * part.seconds, left), gpu=gpu)
        parts[part.name] = found
        write_json(options.out / "gpu_check.json", {**facts, "parts": parts})
        table.add_row(part.name, found["device"], "yes" if found["passed"] else "NO",
                      f"{found['seconds']:.0f}", summarize(part.name, found))  # fmt: skip
        for line in found.get("last_lines", []):
            console.print(f"{part.name}: {line}", markup=False, highlight=False)
    console.print(table)
    return 0 if all(found["passed"] for found in parts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
