"""Depth maps of two runs beside each other, as a picture.

    .venv/bin/python -m benchmarks.before_after SOURCE --frames 10 60 --runs BEFORE AFTER --out docs/both.png

A row for each frame: the image, then each run's depth, scaled to the median of the last one's and coloured
alike. With truth, the row ends with it.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from egodepth.core import progress
from egodepth.core.colours import colourize_depth
from egodepth.core.files import atomic_path
from egodepth.core.progress import reporting
from egodepth.data.sequence import Sequence
from egodepth.runs.run import Run

GAP = 4
"""White pixels between pictures."""


def row(runs: list[Run], sequence: Sequence, frame: int) -> np.ndarray:
    """(h, w, 3) image and depth maps of a frame."""
    image = next(iter(sequence.frames.at([frame]))).image
    depths = [run.depth(image) for run in runs]
    median = float(np.median(depths[-1]))
    depths = [depth * median / np.median(depth) for depth in depths]
    truth = sequence.depth.get(int(sequence.frames.numbers[frame]))
    if truth is not None and (true := truth()).shape == image.shape[:2] and (true > 0).mean() > 0.5:
        depths.append(np.where(true > 0, true * median / np.median(true[true > 0]), np.inf))
    nearest = float(np.percentile(depths[-1], 2))
    pictures = [image, *(colourize_depth(depth, nearest) for depth in depths)]
    gap = np.full((image.shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="footage, as for `egodepth predict`")
    parser.add_argument("--sequence", default="", help="part of its name, where there are several")
    parser.add_argument("--frames", type=int, nargs="+", required=True)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--width", type=int, default=420, help="of each picture, in pixels")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    runs = [Run.load(folder) for folder in options.runs]
    sequence = next(s for s in runs[-1].open(options.source) if options.sequence in s.name)
    with reporting():
        frames = progress.track(options.frames, f"drawing {sequence.name}", len(options.frames))
        rows = [row(runs, sequence, frame) for frame in frames]
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    whole = np.concatenate([part for one in rows for part in (one, gap)][:-1])
    scale = options.width / sequence.frames.width
    small = cv2.resize(whole, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    with atomic_path(options.out) as partial:
        _, data = cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        partial.write_bytes(data.tobytes())


if __name__ == "__main__":
    main()
