"""How exact the points of a cloud are against the LiDAR, with depth that frames agree on and with DepthNet's.

    .venv/bin/python -m benchmarks.clouds RUN --data ../shared/data --out docs/results/clouds.json

tracks KITTI 0009 and 04 with the run's own odometry, and compares the pixels that `export points` would take,
also with --max_deviation if the run has confidence.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

import egodepth
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.sequence import place_of_number
from egodepth.inference.export.cloud import DepthView, consistent_views
from egodepth.inference.multi_view import DepthFrom
from egodepth.inference.odometry.track import track_sequence
from egodepth.runs.run import Run
from egodepth.runs.unit import OWN_UNIT

FOOTAGE = {"0009": ("kitti_raw:{}/kitti_raw", 4), "04": ("kitti_odometry:{}/kitti_odometry", 5)}
"""Source, and frames from one to the next that the cloud takes."""
MAX_DEVIATIONS = (None, 0.2, 0.15)
"""Values of --max_deviation."""
RANGE = (1.0, 80.0)
"""Metres of the LiDAR's points that are compared."""


def measure(run: Run, data: Path, name: str) -> dict[str, dict[str, float]]:
    """Points and their errors by the options of the export. All depth is scaled by one median, but for
    ``own_scale_error``, the median error when each frame is scaled by its own. ``covered``: share of the
    LiDAR's points where there is depth."""
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
        counts = dict.fromkeys(MAX_DEVIATIONS, 0)
        taken: dict[float | None, list[np.ndarray]] = {limit: [] for limit in MAX_DEVIATIONS}
        lidar = 0
        for view in consistent_views(run, sequence, trajectory, every, depth=depth):
            compared = _compared(view, truths.get(place[view.number]))
            lidar += len(compared.ratio)
            for limit in MAX_DEVIATIONS:
                sure = np.ones_like(view.valid)
                if limit is not None and view.deviation is not None:
                    sure = view.deviation <= limit
                counts[limit] += int((view.valid & sure).sum())
                taken[limit].append(compared.ratio[(view.valid & sure)[compared.y, compared.x]])
        for limit in MAX_DEVIATIONS if run.has_confidence else (None,):
            options = f"--depth {depth}" + (f" --max_deviation {limit:g}" if limit else "")
            results[options] = {"points": counts[limit], **_errors(taken[limit], lidar)}
    return results


class Compared(NamedTuple):
    """Depth over the LiDAR's at pixels (y, x) of a view."""

    ratio: np.ndarray
    y: np.ndarray
    x: np.ndarray


def _compared(view: DepthView, read: Callable[[], np.ndarray] | None) -> Compared:
    truth = np.zeros(view.depth.shape) if read is None else read()
    rows, columns = np.nonzero((truth > RANGE[0]) & (truth < RANGE[1]))
    y = ((rows + 0.5) * view.depth.shape[0] / truth.shape[0]).astype(int)
    x = ((columns + 0.5) * view.depth.shape[1] / truth.shape[1]).astype(int)
    return Compared(view.depth[y, x] / truth[rows, columns], y, x)


def _errors(ratios: list[np.ndarray], lidar: int) -> dict[str, float]:
    every = np.concatenate(ratios)
    error = np.abs(every / np.median(every) - 1)
    own = [np.abs(ratio / np.median(ratio) - 1) for ratio in ratios if len(ratio)]
    return {
        "covered": len(every) / lidar, "median_error": float(np.median(error)),
        "own_scale_error": float(np.median(np.concatenate(own))),
        "far_off": float(np.mean(error > 0.25)),
    }  # fmt: skip


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the excerpts")
    parser.add_argument("--footage", nargs="+", choices=FOOTAGE, default=list(FOOTAGE))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    run = egodepth.load(str(options.run))
    table = Table("footage", "options", "points", "covered (%)", "median error (%)",
                  "frame by frame (%)", "more than 25 % off (%)")  # fmt: skip
    results: dict[str, Any] = {}
    for name in options.footage:
        results[name] = measure(run, options.data, name)
        for words, found in results[name].items():
            shares = ("covered", "median_error", "own_scale_error", "far_off")
            table.add_row(
                name, words, f"{found['points']:.0f}", *(f"{100 * found[k]:.1f}" for k in shares)
            )
    Console().print(table)
    if options.out:
        write_json(options.out, {**provenance(), "results": results})


if __name__ == "__main__":
    main()
