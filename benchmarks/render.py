"""Frames per second of the synthetic street on one core, with and without building it.

Run: taskset -c 0 .venv/bin/python benchmarks/render.py [--out benchmarks/results/render.json]
"""

import argparse
import time
from pathlib import Path

import numpy as np

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.synthetic.street import FRAMES, StreetDrive


def main() -> None:
    """Render five drives and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/render.json"))
    options = parser.parse_args()
    whole, frames_only = [], []
    for seed in range(5):
        drive = StreetDrive(seed)
        started = time.process_time()
        drive.render(0)
        built = time.process_time()
        for index in range(1, FRAMES):
            drive.render(index)
        ended = time.process_time()
        whole.append(FRAMES / (ended - started))
        frames_only.append((FRAMES - 1) / (ended - built))
    results = {"with_building": float(np.median(whole)), "rendering": float(np.median(frames_only))}
    print(f"{results['rendering']:.1f} frames/s of CPU time, {results['with_building']:.1f} with "
          f"building the street ({FRAMES} frames of 320x96, median of 5 streets)")  # fmt: skip
    write_json(options.out, {"frames_per_second": results, **provenance()})


if __name__ == "__main__":
    main()
