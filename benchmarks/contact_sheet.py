"""A contact sheet of rendered worlds: image and depth of one frame of each.

    .venv/bin/python -m benchmarks.contact_sheet --out docs/worlds.jpg --seeds 0 1 2 3

prints how long a world takes to build and a frame to render, per kind.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from egodepth.core.colours import colourize_depth
from egodepth.data.synthetic.worlds.pairs import KIND_SHARES
from egodepth.data.synthetic.worlds.world import KINDS, World

FRAME = 20
"""The frame that is shown."""
TIMED = 5
"""Frames that the rate is the mean of."""


def main() -> None:
    """Render, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KIND_SHARES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--size", type=int, nargs=2, default=[96, 176], metavar=("HEIGHT", "WIDTH"))
    options = parser.parse_args()
    table = Table("kind", "s to build", "frames per second")
    rows = []
    for kind in options.kinds:
        building, rendering, row = 0.0, 0.0, []
        for seed in options.seeds:
            world = World(kind, seed, 60, *options.size)
            started = time.process_time()
            image, depth, _ = world.render(FRAME)
            built = time.process_time()
            for index in range(TIMED):
                world.render(index)
            rendering += time.process_time() - built
            building += built - started
            row.append(np.concatenate([image, colourize_depth(depth)]))
        count = len(options.seeds)
        table.add_row(kind, f"{building / count:.2f}", f"{TIMED * count / rendering:.1f}")
        rows.append(np.concatenate(row, 1))
    Console().print(table)
    cv2.imwrite(str(options.out), np.concatenate(rows)[..., ::-1])


if __name__ == "__main__":
    main()
