"""How near the truth a camera's focal length comes out from its frames alone, from guesses that are far off.

    .venv/bin/python -m benchmarks.unknown_camera --data ../shared/data --out docs/results/unknown_camera.json

KITTI odometry 00 (turns), 04 (drives straight on) and RedKitchen, each from a guess 40 % too short and 40 % too
long; prints what was found, the deviation that it states of itself, and whether a training would take it. With
--bend K1 the frames are bent first as by a lens with that coefficient.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.sequence import ChangedFrames, Sequence
from egodepth.data.sources import read_source
from egodepth.data.unknown_camera import estimate_unknown_camera, is_determined
from egodepth.geometry.camera import Camera

SOURCES = {
    "00": "kitti_odometry:kitti_odometry",
    "04": "kitti_odometry:kitti_odometry",
    "redkitchen": "seven_scenes:seven_scenes",
}
GUESSES = (0.6, 1.4)


class Bending:
    """Images as a lens with k1 would have made them."""

    def __init__(self, camera: Camera, bend: float):
        self.camera, self.key = camera, f"bent {bend}"
        fx, fy, cx, cy = camera.focal_and_centre.double().numpy()
        x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        bent = np.stack([(x - cx) / fx, (y - cy) / fy], axis=-1)
        straight = bent
        for _ in range(12):
            straight = bent / (1 + bend * (straight**2).sum(-1, keepdims=True))
        self._x = (straight[..., 0] * fx + cx).astype(np.float32)
        self._y = (straight[..., 1] * fy + cy).astype(np.float32)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return cv2.remap(image, self._x, self._y, cv2.INTER_LINEAR)


def measure(sequence: Sequence, factor: float, bend: float) -> dict[str, Any]:
    """Ratios to the true focal length; nothing is found in a cache."""
    assert sequence.camera is not None
    if bend:
        frames = ChangedFrames(sequence.frames, Bending(sequence.camera, bend))
        sequence = replace(sequence, frames=frames)
    true = float(sequence.camera.matrix[0, 0])
    unknown = replace(sequence, camera=None).with_focal(factor * true, "guess")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = estimate_unknown_camera(unknown, Path(folder))
    result: dict[str, Any] = {"guess": factor, "seconds": time.perf_counter() - started}
    if found is not None:
        result |= {
            "found": found.focal / true, "deviation": found.deviation, "pairs": found.pairs,
            "bend": found.bend,
            "taken": is_determined(found, sequence.frames.width),
        }  # fmt: skip
    return result


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the excerpts")
    parser.add_argument("--sequences", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--guesses", nargs="+", type=float, default=GUESSES)
    parser.add_argument("--bend", type=float, default=0.0, help="k1 of the lens to put before it")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = Table("sequence", "guess", "found", "states", "k1", "pairs", "taken", "seconds")
    results: dict[str, list[dict[str, Any]]] = {}
    for name in options.sequences:
        read = read_source(SOURCES[name], options.data)
        sequence = next(s for s in read if s.name.split("/")[0] == name)
        for factor in options.guesses:
            row = measure(sequence, factor, options.bend)
            results.setdefault(name, []).append(row)
            found = ["-"] * 5
            if "found" in row:
                found = [
                    f"{row['found']:.3f}", f"{100 * row['deviation']:.1f} %",
                    f"{row['bend']:.3f}", str(row["pairs"]),
                    "yes" if row["taken"] else "no",
                ]  # fmt: skip
            table.add_row(name, f"{factor:g}", *found, f"{row['seconds']:.0f}")
    Console().print(table)
    if options.out:
        write_json(options.out, {**provenance(), "results": results})


if __name__ == "__main__":
    main()
