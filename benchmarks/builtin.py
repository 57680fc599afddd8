"""What the run builtin brings, without training and as a start of one.

    .venv/bin/python -m benchmarks.builtin depth --data DIR --out docs/results/builtin.json
    .venv/bin/python -m benchmarks.builtin start --data DIR --out docs/results/builtin_start.json --steps 30 100

depth: scores of its depth and of odometry by direct alignment with it, on footage that it never saw.
start: kitti_small on the excerpts, from ImageNet and from builtin, scored on drive 0009 after equal steps.
"""

import argparse
import tempfile
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


def compare_starts(root: Path, steps: list[int]) -> dict[str, Any]:
    """Scores on 0009 after trainings of so many steps from each start."""
    rows: dict[str, Any] = {BUILTIN: {"0": score(BUILTIN, "KITTI 0009", root)}, "none": {}}
    with tempfile.TemporaryDirectory() as folder:
        for count in steps:
            for init in (BUILTIN, "none"):
                out = Path(folder) / f"{init}_{count}"
                changes = {"init": init, "data.root": str(root), "minutes": None, "steps": count}
                train(requested_settings("kitti_small", changes=changes), out)
                rows[init][str(count)] = score(out, "KITTI 0009", root)
                print(init, count, rows[init][str(count)], flush=True)
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("depth", "start"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[30, 100])
    options = parser.parse_args()
    results: dict[str, Any]
    with reporting():
        if options.what == "start":
            results = compare_starts(options.data, options.steps)
        else:
            results = {name: score(BUILTIN, name, options.data) for name in FOOTAGE}
            for name in TRACKED:
                results[name] |= track(name, options.data)
    write_json(options.out, {**provenance(), "results": results})
    print(results)


if __name__ == "__main__":
    main()
