"""How far the van is that drives ahead in KITTI odometry 04, against the LiDAR.

    .venv/bin/python -m benchmarks.van --data ../shared/data --out docs/results/van.json RUN [RUN ...]

For each of the frames with LiDAR: median predicted depth of the points inside of the van's box over their
median true depth, the prediction scaled by the median of the whole image, as KITTI's protocol does.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import egodepth
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance

BOX = (565, 155, 635, 215)
"""Left, top, right and bottom of what the van covers in all frames."""


def measure(folder: Path, data: Path) -> dict[str, float]:
    """Ratios by frame number."""
    run = egodepth.load(str(folder))
    sequences = egodepth.read_source(f"kitti_odometry:{data / 'kitti_odometry'}")
    sequence = next(s for s in sequences if s.name == "04/image_2")
    left, top, right, bottom = BOX
    ratios = {}
    for index in sorted(sequence.depth):
        frame = next(iter(sequence.frames.at([index])))
        truth, depth = sequence.depth[index](), run.depth(frame.image)
        known = truth > 0
        scale = np.median(truth[known]) / np.median(depth[known])
        box = np.zeros_like(known)
        box[top:bottom, left:right] = True
        inside = box & known
        # The LiDAR looks past the van's edges: what lies farther is not of it.
        inside &= truth < 1.25 * np.median(truth[inside])
        ratios[str(frame.number)] = float(
            scale * np.median(depth[inside]) / np.median(truth[inside])
        )
    return ratios


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="folder of the excerpts")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {str(run): measure(run, options.data) for run in options.runs}
    table = Table("run", *next(iter(results.values())))
    for run, ratios in results.items():
        table.add_row(run, *(f"{ratio:.2f}" for ratio in ratios.values()))
    Console().print(table)
    if options.out:
        write_json(options.out, {**provenance(), "results": results})


if __name__ == "__main__":
    main()
