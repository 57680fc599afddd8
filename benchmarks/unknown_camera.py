"""How near the truth a camera's focal length comes out from its frames alone, and whether it says so where not.

    .venv/bin/python -m benchmarks.unknown_camera --data ../shared/data --out docs/results/unknown_camera.json
    .venv/bin/python -m benchmarks.unknown_camera --seeds 20 --out docs/results/unknown_camera_simulated.json

With --data KITTI odometry 00 (turns), 04 and raw 0009 (straight on) and RedKitchen (hand-held): what was
found, the deviation that it states of itself, and whether a training would take it. With --k1 the frames are
distorted first by a lens with that coefficient. With --seeds simulated drives on a motorway, three fields of
view each, and others that can be decided: how many were taken, and how many of them were off by more than
10 %. With --rendered drives in the synthetic street go the whole way. One drive that is taken and off by
more than 10 % ends the command with an error.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmarks.simulated_drives import DECIDABLE, MOTORWAY, RENDERED, RenderedDrive, simulate
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.preparation.unknown_camera import estimate_unknown_camera
from egodepth.data.sequence import ChangedFrames, Sequence
from egodepth.data.sources import read_source
from egodepth.geometry.camera import Camera
from egodepth.geometry.self_calibration import CameraEstimate, estimate_camera

SOURCES = {
    "00": "kitti_odometry:kitti_odometry",
    "04": "kitti_odometry:kitti_odometry",
    "0009": "kitti_raw:kitti_raw",
    "redkitchen": "seven_scenes:seven_scenes",
}
DRIVES = (*MOTORWAY, *DECIDABLE)
FIELDS_OF_VIEW = (45, 60, 90)
WIDE = 118
"""Degrees of an action camera, which is tried by hand alone."""
LARGEST_ERROR = 0.1
"""Relative, of a focal length that is taken."""


class Distorting:
    """Images as a lens with k1 would have made them."""

    def __init__(self, camera: Camera, k1: float):
        self.camera, self.key = camera, f"distorted {k1}"
        fx, fy, cx, cy = camera.focal_and_centre.double().numpy()
        x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        distorted = np.stack([(x - cx) / fx, (y - cy) / fy], axis=-1)
        straight = distorted
        for _ in range(12):
            straight = distorted / (1 + k1 * (straight**2).sum(-1, keepdims=True))
        self._x = (straight[..., 0] * fx + cx).astype(np.float32)
        self._y = (straight[..., 1] * fy + cy).astype(np.float32)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return cv2.remap(image, self._x, self._y, cv2.INTER_LINEAR)


def measure(sequence: Sequence, k1: float) -> dict[str, Any]:
    """What is found of a sequence's camera; nothing comes from a cache."""
    assert sequence.camera is not None
    if k1:
        frames = ChangedFrames(sequence.frames, Distorting(sequence.camera, k1))
        sequence = replace(sequence, frames=frames)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = estimate_unknown_camera(sequence, Path(folder))
    row: dict[str, Any] = {"seconds": time.perf_counter() - started}
    if found is not None:
        true = float(sequence.camera.matrix[0, 0])
        row |= {
            "found": found.focal / true, "deviation": found.deviation, "pairs": found.pairs,
            "k1": found.k1, "taken": not found.doubt, "doubt": found.doubt,
        }  # fmt: skip
    return row


def excerpts(data: Path, names: list[str]) -> list[Sequence]:
    """The real sequences, called by their short names."""
    found = [next(s for s in read_source(SOURCES[name], data) if name in s.name) for name in names]
    return [replace(s, name=name) for s, name in zip(found, names, strict=True)]


def rendered(seeds: range) -> list[Sequence]:
    """Drives that are rendered, of two fields of view."""
    return [
        Sequence(f"{kind} {fov} {seed}", drive, drive.camera)
        for kind in RENDERED
        for fov in (60, 90)
        for seed in seeds
        for drive in [RenderedDrive(kind, fov, seed)]
    ]


def measure_sequences(sequences: list[Sequence], k1: float) -> dict[str, Any]:
    """A row per sequence, printed."""
    table = Table("sequence", "found", "states", "k1", "pairs", "taken", "seconds")
    results = {}
    for sequence in sequences:
        name = sequence.name
        row = results[name] = measure(sequence, k1)
        found = ["-"] * 5
        if "found" in row:
            found = [
                f"{row['found']:.3f}", f"{100 * row['deviation']:.1f} %", f"{row['k1']:.3f}",
                str(row["pairs"]), "yes" if row["taken"] else row["doubt"],
            ]  # fmt: skip
        table.add_row(name, *found, f"{row['seconds']:.0f}")
    Console().print(table)
    return results


def describe(found: CameraEstimate | None, error: float) -> str:
    """A line of progress."""
    if found is None:
        return "refused, too few corners"
    verdict = f"refused, {found.doubt}" if found.doubt else "taken"
    return f"{verdict}; off by {100 * error:.1f} %, states {100 * found.deviation:.1f} %"


def measure_simulated(kinds: list[str], seeds: range) -> tuple[dict[str, Any], int]:
    """A row per kind of drive and field of view, printed; and how many drives were taken and are wrong."""
    cases = [(kind, fov) for kind in kinds for fov in FIELDS_OF_VIEW]
    cases += [("hand-held", WIDE)] if "hand-held" in kinds else []
    progress = Console(stderr=True)
    table = Table("drive", "degrees", "drives", "taken", "worst error", "wrong", "refused: error")
    results: dict[str, Any] = {}
    wrong = 0
    for kind, fov in cases:
        errors: dict[bool, list[float]] = defaultdict(list)
        for seed in seeds:
            drive = simulate(kind, fov, seed)
            found = estimate_camera(drive.matches, drive.height, drive.width)
            error = float("nan") if found is None else found.focal / drive.focal - 1
            errors[found is not None and not found.doubt].append(error)
            progress.print(f"{kind}, {fov} degrees, seed {seed}: {describe(found, error)}")
        worst = max(map(abs, errors[True]), default=0.0)
        bad = sum(abs(error) > LARGEST_ERROR for error in errors[True])
        wrong += bad
        results[f"{kind} {fov}"] = {
            "taken": errors[True],
            "refused": [None if np.isnan(error) else error for error in errors[False]],
        }
        row = [str(len(seeds)), str(len(errors[True])), f"{100 * worst:.1f} %", str(bad)]
        typical = f"{100 * np.nanmedian(np.abs(errors[False])):.0f} %" if errors[False] else "-"
        table.add_row(kind, str(fov), *row, typical)
    Console().print(table)
    return results, wrong


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the excerpts")
    parser.add_argument("--sequences", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--k1", type=float, default=0.0, help="radial distortion to put before it")
    parser.add_argument("--seeds", type=int, default=0, help="simulated drives of each kind")
    parser.add_argument("--drives", nargs="+", choices=DRIVES, default=list(DRIVES))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rendered", type=int, default=0, help="rendered drives of each kind")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    started, wrong = time.perf_counter(), 0
    results: dict[str, Any] = {}
    if options.data:
        results |= measure_sequences(excerpts(options.data, options.sequences), options.k1)
    if options.rendered:
        drives = measure_sequences(rendered(range(options.rendered)), options.k1)
        wrong += sum(
            row.get("taken", False) and abs(row["found"] - 1) > LARGEST_ERROR
            for row in drives.values()
        )
        results |= drives
    if options.seeds:
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        simulated, bad = measure_simulated(options.drives, seeds)
        results, wrong = results | simulated, wrong + bad
    if options.out:
        seconds = time.perf_counter() - started
        write_json(options.out, {**provenance(), "seconds": seconds, "results": results})
    if wrong:
        raise SystemExit(f"{wrong} drives were taken with a focal length off by more than 10 %")


if __name__ == "__main__":
    main()
