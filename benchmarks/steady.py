"""How still the depth of a run is, of single images and by `predict --steady`, and what that costs.

    .venv/bin/python -m benchmarks.steady --data ../shared/data --out docs/results/steady.json

scores flicker along the footage's poses, and beside it Abs Rel and edges against the ground truth, since
smeared depth is still too.
"""

import argparse
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

import egodepth
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.sequence import Frame, Sequence
from egodepth.evaluation.depth import get_protocol
from egodepth.inference.pose_scale import scale_of_poses
from egodepth.inference.predict import predict_sequence
from egodepth.inference.scoring.depth_scores import evaluate_predictor
from egodepth.inference.scoring.stillness import evaluate_stillness
from egodepth.runs.run import Run

FOOTAGE = {
    "KITTI 0009": ("kitti_raw:{}/kitti_raw", "0009", "kitti"),
    "KITTI 04": ("kitti_odometry:{}/kitti_odometry", "04", "kitti"),
    "RedKitchen": ("seven_scenes:{}/seven_scenes", "redkitchen", "indoor"),
    "street 100": ("synthetic:100", "street", "synthetic"),
}
"""Source, part of the sequence's name, and protocol of what is scored."""
WAYS = {
    "single images": (False, True),
    "--steady, the footage's poses": (True, True),
    "--steady, odometry": (True, False),
}
"""Whether depth is made steady, and whether the filter gets the footage's poses."""
SHOWN = {
    "flicker_median": "flicker, median (%)", "flicker_p95": "95 % (%)",
    "scale_step_spread": "scale (%)", "edge_step": "step at borders (%)", "abs_rel": "Abs Rel",
    "edge_accuracy": "edge acc. (px)", "edge_completeness": "edge compl. (px)",
}  # fmt: skip


class FirstFrames:
    """The first frames of some footage."""

    def __init__(self, original: Any, count: int):
        self.original, self.count = original, min(count, len(original))
        self.height, self.width = original.height, original.width
        self.seekable, self.fingerprint = original.seekable, original.fingerprint
        self.numbers = original.numbers[: self.count]
        self.names = getattr(original, "names", [""] * len(original))[: self.count]
        self.times = None if original.times is None else original.times[: self.count]

    def __len__(self) -> int:
        return self.count

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        """The frames at these positions."""
        yield from self.original.at(range(self.count) if indices is None else indices)


def first_frames(sequence: Sequence, count: int) -> Sequence:
    """The sequence cut to its first frames."""
    poses = sequence.world_from_camera
    return replace(
        sequence, frames=FirstFrames(sequence.frames, count),
        world_from_camera=None if poses is None else poses[:count],
        depth={place: read for place, read in sequence.depth.items() if place < count},
    )  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """Predicted depth by frame number, to be scored."""

    depths: dict[int, np.ndarray]
    texture_size: tuple[int, int]

    def numbers(self, sequence: Sequence) -> list[int]:
        """All that were predicted."""
        return sorted(self.depths)

    def check(self, sequence: Sequence, numbers: list[int], *, scaled: bool) -> None:
        """Accept all frames."""

    def predict(self, sequence: Sequence, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """Depth at a size, bilinear in inverse depth."""
        inverse = 1 / self.depths[frame.number]
        return 1 / cv2.resize(inverse, size[::-1], interpolation=cv2.INTER_LINEAR)

    def deviation(self, sequence: Sequence, frame: Frame, size: tuple[int, int]) -> None:
        """Not scored here."""


def measure(run: Run, data: Path, name: str, frames: int) -> dict[str, dict[str, float]]:
    """Scores of each way to predict depth, with its computing time per frame."""
    source, part, protocol = FOOTAGE[name]
    opened = run.open(source.format(data))
    whole = next(s for s in opened if part in s.name.lower() and s.camera_name == "left")
    sequence = first_frames(whole, frames)
    assert sequence.world_from_camera is not None
    poses_in_unit = sequence.world_from_camera.copy()
    poses_in_unit[:, :3, 3] *= scale_of_poses(
        sequence,
        poses_in_unit,
        lambda frame, size: run.depth(frame.image, size),
        sequence.frames.numbers,
    )
    along = replace(sequence, world_from_camera=poses_in_unit)
    results = {}
    for way, (steady, poses) in WAYS.items():
        footage = sequence if poses else replace(sequence, world_from_camera=None)
        before = sum(os.times()[:2])
        found = predict_sequence(run, footage, steady=steady)
        depths = {seen.frame.number: seen.depth for seen in found}
        seconds = (sum(os.times()[:2]) - before) / len(depths)
        kept = Kept(depths, (run.settings.height, run.settings.width))
        scores = evaluate_predictor(kept, [sequence], get_protocol(protocol))
        wanted = ("abs_rel", "rmse", "a1", "edge_accuracy", "edge_completeness")
        results[way] = {
            **evaluate_stillness(kept, [along], scaled=False).summary,
            **{key: scores.summary[key] for key in wanted if key in scores.summary},
            "cpu_seconds": seconds,
        }
    return results


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="builtin")
    parser.add_argument("--data", type=Path, required=True, help="folder of the excerpts")
    parser.add_argument("--footage", nargs="+", choices=FOOTAGE, default=list(FOOTAGE))
    parser.add_argument("--frames", type=int, default=150, help="at most so many of each footage")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    run = egodepth.load(options.run)
    table = Table("footage", "depth", *SHOWN.values(), "CPU s/frame")
    results: dict[str, Any] = {}
    for name in options.footage:
        results[name] = measure(run, options.data, name, options.frames)
        for way, found in results[name].items():
            cells = [
                "" if key not in found else f"{100 * found[key]:.2f}" if "%" in label
                else f"{found[key]:.3f}" for key, label in SHOWN.items()
            ]  # fmt: skip
            table.add_row(name, way, *cells, f"{found['cpu_seconds']:.2f}")
        if options.out:  # so far, in case that it ends early
            write_json(options.out, {**provenance(), "frames": options.frames, "results": results})
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
