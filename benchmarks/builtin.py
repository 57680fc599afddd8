"""What the run builtin brings, without training and as a start of one.

    .venv/bin/python -m benchmarks.builtin depth --data DIR --out docs/results/builtin.json
    .venv/bin/python -m benchmarks.builtin start --data DIR --out docs/results/builtin_start.json

depth: scores of its depth and of odometry by direct alignment with it, on footage that it never saw.
start: trainings of so many minutes on each footage from ImageNet and from builtin; poses and labels, which are
the same for all, are made before. Stopped, it goes on where it was.
"""

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from egodepth.core.files import write_json
from egodepth.core.progress import reporting
from egodepth.core.provenance import provenance
from egodepth.data.sources import read_source
from egodepth.evaluation.depth import get_protocol
from egodepth.inference.scoring.depth_scores import evaluate_depth
from egodepth.inference.scoring.trajectory_scores import evaluate_odometry
from egodepth.runs.folder import RunLike
from egodepth.runs.run import Run
from egodepth.settings.recipes import BUILTIN
from egodepth.training.requested import requested_settings
from egodepth.training.run import train

FOOTAGE = {
    "KITTI 0009": ("kitti_raw:{}/kitti_raw", "kitti"),
    "KITTI 04": ("kitti_odometry:{}/kitti_odometry", "kitti"),
    "RedKitchen": ("seven_scenes:{}/seven_scenes", "indoor"),
    "street 100": ("synthetic:100", "synthetic"),
}
"""Source and protocol of what is scored."""
TRACKED = ("KITTI 04", "RedKitchen")


def score(run: RunLike, name: str, root: Path) -> dict[str, float]:
    """Depth scores of a run on one piece of footage."""
    source, protocol = FOOTAGE[name]
    sequences = [s for s in read_source(source.format(root)) if s.depth]
    scores = evaluate_depth(Run.load(run), sequences, get_protocol(protocol))
    names = ("abs_rel", "a1", "rmse", "low_abs_rel")
    constant = {} if scores.constant is None else {"constant": scores.constant["abs_rel"]}
    return {each: scores.summary[each] for each in names if each in scores.summary} | constant


def track(name: str, root: Path) -> dict[str, float]:
    """Trajectory error of builtin's odometry."""
    sequences = read_source(FOOTAGE[name][0].format(root))
    sequence = next(s for s in sequences if name != "KITTI 04" or "04" in s.name)
    summary = evaluate_odometry(Run.load(BUILTIN), sequence, by="alignment").summary
    return {each: summary[each] for each in ("ate_m", "ate_percent", "frames")}


STARTED = ("KITTI 0009", "RedKitchen")


def adapt(name: str, init: str, seed: int, minutes: float | None, root: Path) -> dict[str, float]:
    """Scores after a training of its own from a start, and its steps; a single step if ``minutes`` is None."""
    source = FOOTAGE[name][0].format(root)
    changes: dict[str, Any] = {"init": init, "seed": seed, "minutes": minutes}
    if minutes is None:
        changes["steps"] = 1
    if name == "KITTI 0009":
        settings = requested_settings("kitti_small", changes=changes | {"data.root": str(root)})
    else:
        settings = requested_settings(source, changes=changes)
    with tempfile.TemporaryDirectory() as folder:
        steps = train(settings, Path(folder) / "run").steps
        return score(Path(folder) / "run", name, root) | {"steps": steps}


def compare_starts(options: argparse.Namespace) -> None:
    """Scores of each footage by start and minutes, one per seed; written after each training."""
    results: dict[str, Any] = {}
    if options.out.exists():  # goes on where it was stopped
        results = json.loads(options.out.read_text())["results"]
    for name in options.only:
        if name not in results:
            for init in (
                BUILTIN,
                "none",
            ):  # of other sizes: makes poses and labels, for which no time counts
                adapt(name, init, 0, None, options.data)
            results[name] = {BUILTIN: {"0": [score(BUILTIN, name, options.data)]}, "none": {}}
    for seed in options.seeds:
        for length, name, init in product(options.minutes, options.only, (BUILTIN, "none")):
            done = results[name][init].setdefault(f"{length:g}", [])
            if all(one["seed"] != seed for one in done):
                done.append({"seed": seed, **adapt(name, init, seed, length, options.data)})
                print(name, init, length, done[-1], flush=True)
                write_json(options.out, {**provenance(), "results": results})


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("depth", "start"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=STARTED, default=list(STARTED))
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 4, 12])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    with reporting():
        if options.what == "start":
            compare_starts(options)
            return
        results = {name: score(BUILTIN, name, options.data) for name in FOOTAGE}
        for name in TRACKED:
            results[name] |= track(name, options.data)
    write_json(options.out, {**provenance(), "results": results})
    print(results)


if __name__ == "__main__":
    main()
