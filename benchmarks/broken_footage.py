"""Odometry of footage that breaks: black frames, missing frames, brightness jumps, a pause, a cut.

    .venv/bin/python -m benchmarks.broken_footage seven_scenes:../shared/data/seven_scenes \\
        --frames 100 --out runs/broken.json

breaks the first frames of footage with known poses in each of these ways, tracks it, and prints how many
frames have a pose, in how many separate parts, and the error of each part after similarity alignment.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.sequence import Frame, Sequence
from egodepth.evaluation.odometry import score_trajectory
from egodepth.inference.arguments import footage_of
from egodepth.inference.odometry.track import track_sequence
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.run import Run

BREAK = 30
"""Frames that are black, or covered."""
PAUSE = 100
"""Frames of a pause."""
MISSING = 50
"""Every so many frames one is missing."""
GAINS, JUMP = (0.5, 1.0, 1.6), 13
"""Brightness, which changes every so many frames."""


class Edited:
    """Frames that are others' frames, by index, each times a gain; missing numbers are broken frames."""

    def __init__(self, frames: list[Frame], order: list[tuple[int, float]], numbers: list[int]):
        self.height, self.width = frames[0].image.shape[:2]
        self.fingerprint, self.times, self.numbers = "edited", None, numbers
        self._frames, self._order = frames, order

    def __len__(self) -> int:
        return len(self._order)

    def at(self, indices: object = None) -> Iterator[Frame]:
        """All frames."""
        for number, (index, gain) in zip(self.numbers, self._order, strict=True):
            image = np.clip(self._frames[index].image * gain, 0, 255).astype(np.uint8)
            yield Frame(number, None, image)


def edits(count: int) -> dict[str, list[tuple[int, float]]]:
    """Order and gain of the frames of each case; a third more frames than these are of another place."""
    middle, plain = count // 2, [(index, 1.0) for index in range(count)]
    before, after = plain[:middle], plain[middle:]
    return {
        "as it is": plain,
        f"{BREAK} black frames": [*before, *[(i, 0.0) for i, _ in after[:BREAK]], *after[BREAK:]],
        f"a hand for {BREAK} frames, camera at rest": [*before, *[(middle, 0.0)] * BREAK, *after],
        f"every {MISSING}th frame missing": [p for p in plain if p[0] % MISSING != MISSING - 1],
        "brightness jumps": [(i, GAINS[i // JUMP % len(GAINS)]) for i in range(count)],
        f"a pause of {PAUSE} frames": [*before, *[(middle, 1.0)] * PAUSE, *after],
        "a cut to another place": [
            *plain[: count // 3],
            *[(count + i, 1.0) for i in range(count // 3)],
        ],
    }


def parts_of(
    run: Run, sequence: Sequence, frames: list[Frame], order: list[tuple[int, float]]
) -> dict[str, Any]:
    """Track edited footage, and score each part of it."""
    # A missing frame leaves a gap in the numbers.
    steps = {after[0] - before[0] for before, after in pairwise(order)}
    numbers = [index for index, _ in order] if steps == {1, 2} else list(range(len(order)))
    assert sequence.world_from_camera is not None
    true_poses = sequence.world_from_camera[[frame.number for frame in frames]]
    truth = true_poses[[index for index, _ in order]]
    edited = replace(
        sequence, frames=Edited(frames, order, numbers), world_from_camera=truth, depth={}
    )
    found = track_sequence(run, edited)
    place = {number: at for at, number in enumerate(numbers)}
    errors = []
    for part in (found, *found.segments):
        own: Trajectory = part
        where = [place[number] for number in own.numbers]
        errors.append(score_trajectory(own.first_from_frame, truth[where])["ate_m"])
    posed = int(found.known.sum()) + sum(len(part) for part in found.segments)
    return {"frames": len(order), "posed": posed, "parts": len(errors), "ate_m": errors,
            "loops": len(found.loops)}  # fmt: skip


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="footage with poses")
    parser.add_argument("--run", default="builtin")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--elsewhere", type=int, default=300, help="first frame of another place")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    run = Run.load(options.run)
    sequence = footage_of(run, run.open(options.source)[0])
    other = range(options.elsewhere, options.elsewhere + options.frames // 3)
    frames = list(sequence.frames.at([*range(options.frames), *other]))
    table = Table("footage", "frames", "with a pose", "parts", "ATE of each (m)", "loops")
    results = {}
    for name, order in edits(options.frames).items():
        row = results[name] = parts_of(run, sequence, frames, order)
        errors = ", ".join(f"{error:.3f}" for error in row["ate_m"])
        table.add_row(
            name,
            str(row["frames"]),
            str(row["posed"]),
            str(row["parts"]),
            errors,
            str(row["loops"]),
        )
    Console(width=110).print(table)
    write_json(options.out, {"results": results, **provenance()})


if __name__ == "__main__":
    main()
