"""How exact the points of a cloud are against the LiDAR, with depth that frames agree on and with DepthNet's.

    .venv/bin/python -m benchmarks.clouds RUN --data ../shared/data --out docs/results/clouds.json

tracks KITTI 0009 and 04 with the run's own odometry, and compares the pixels that `export points` would take.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

import egodepth
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.sequence import place_of_number
from egodepth.inference.export.cloud import consistent_views
from egodepth.inference.multi_view import DepthFrom
from egodepth.inference.odometry.track import track_sequence
from egodepth.runs.run import Run
from egodepth.runs.unit import OWN_UNIT

FOOTAGE = {"0009": ("kitti_raw:{}/kitti_raw", 4), "04": ("kitti_odometry:{}/kitti_odometry", 5)}
"""Source, and frames from one to the next that the cloud takes."""
RANGE = (1.0, 80.0)
"""Metres of the LiDAR's points that are compared."""


def measure(run: Run, data: Path, name: str) -> dict[str, dict[str, float]]:
    """Points and their errors by where depth comes from; all depth is scaled by one median."""
    source, every = FOOTAGE[name]
    sequence = next(
        s for s in run.open(source.format(data)) if name in s.name and s.camera_name == "left"
    )
    tracked = track_sequence(run, sequence)
    trajectory = replace(tracked, unit=OWN_UNIT)
    truths = sequence.ground_truth("depth")
    place = place_of_number(sequence.frames)
    results = {}
    for depth in get_args(DepthFrom):
        ratios, count = [], 0
        for view in consistent_views(run, sequence, trajectory, every, depth=depth):
            count += int(view.valid.sum())
            if place[view.number] not in truths:
                continue
            truth = truths[place[view.number]]()
            rows, columns = np.nonzero((truth > RANGE[0]) & (truth < RANGE[1]))
            y = ((rows + 0.5) * view.depth.shape[0] / truth.shape[0]).astype(int)
            x = ((columns + 0.5) * view.depth.shape[1] / truth.shape[1]).astype(int)
            taken = view.valid[y, x]
            ratios.append((view.depth[y, x] / truth[rows, columns])[taken])
        ratio = np.concatenate(ratios)
        error = np.abs(ratio / np.median(ratio) - 1)
        results[depth] = {
            "points": count,
            "median_error": float(np.median(error)),
            "far_off": float(np.mean(error > 0.25)),
        }
    return results


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the excerpts")
    parser.add_argument("--footage", nargs="+", choices=FOOTAGE, default=list(FOOTAGE))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    run = egodepth.load(str(options.run))
    table = Table("footage", "--depth", "points", "median error (%)", "more than 25 % off (%)")
    results: dict[str, Any] = {}
    for name in options.footage:
        results[name] = measure(run, options.data, name)
        for depth, found in results[name].items():
            table.add_row(
                name, depth, f"{found['points']:.0f}", f"{100 * found['median_error']:.1f}",
                f"{100 * found['far_off']:.1f}",
            )  # fmt: skip
    Console().print(table)
    if options.out:
        write_json(options.out, {**provenance(), "results": results})


if __name__ == "__main__":
    main()
