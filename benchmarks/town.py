"""Odometry in rendered towns: drives in loops around blocks of houses, with loops closed and as it was live.

    .venv/bin/python -m benchmarks.town --seeds 1 2 3 4 5 --frames 3000 --out docs/results/town.json

runs `egodepth odometry` with the run `builtin` on `synthetic:blocks:SEED:FRAMES`, and prints the error of the
positions after similarity alignment (ATE) as a share of the path. The live trajectory has each pose as it was
told while driving: it jumps where a loop is closed, unlike that of `--loops no`. Stopped, it goes on where it
was.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.sources import read_source
from egodepth.evaluation.odometry import score_trajectory
from egodepth.inference.odometry.track import track_sequence
from egodepth.runs.run import Run

GOAL = {"loops": 0.5, "live": 1.5}
"""Percent of the path."""


def drive(run: Run, seed: int, frames: int) -> dict[str, Any]:
    """Scores of one town."""
    sequence = read_source(f"synthetic:blocks:{seed}:{frames}")[0]
    truth = sequence.world_from_camera
    assert truth is not None
    started = time.process_time()
    found = track_sequence(run, sequence)
    used = time.process_time() - started
    live = found.poses if found.live is None else found.live
    both = {
        "loops": score_trajectory(found.poses, truth),
        "live": score_trajectory(live, truth),
    }
    path = float(np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum())
    return {
        "seed": seed, "frames": frames, "path_m": path, "posed": int(found.known.sum()),
        "key_frames": found.key_frames, "closed": len(found.loops), "rejected": found.rejected_loops,
        "cpu_seconds": used,
        **{f"ate_m_{name}": scores["ate_m"] for name, scores in both.items()},
        **{f"ate_percent_{name}": 100 * scores["ate_m"] / path for name, scores in both.items()},
    }  # fmt: skip


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text())["results"] if options.out.exists() else []
    done = {(row["seed"], row["frames"]) for row in rows}
    run = Run.load("builtin")
    for seed in options.seeds:
        if (seed, options.frames) not in done:
            rows.append(drive(run, seed, options.frames))
            write_json(options.out, {**provenance(), "goal_percent": GOAL, "results": rows})
    table = Table("town", "frames", "path (m)", "loops closed", "ATE with loops", "live")
    for row in rows:
        errors = (f"{row[f'ate_m_{n}']:.2f} m, {row[f'ate_percent_{n}']:.2f} %" for n in GOAL)
        facts = row["seed"], row["frames"], round(row["path_m"]), row["closed"]
        table.add_row(*map(str, facts), *errors)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
