"""Check of a data set on disk: what it contains, what is missing, and a sample image."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.table import Table

from egodepth.core.colours import colourize_depth
from egodepth.core.errors import EgodepthError, EgodepthWarning, one_line
from egodepth.core.files import atomic_path
from egodepth.data.sequence import Sequence
from egodepth.data.sources import DATA_SETS, read_source, select
from egodepth.data.splits import SPLITS

SHOWN = 12
WIDTH = 900


@dataclass(frozen=True)
class DataCheck:
    """Result of a data check.

    Attributes:
        table: a row for each of the first dozen sequences.
        lines: totals, missing items and where to get them, and the path of the sample image.
        sequences: all sequences.
    """

    table: Table
    lines: list[str]
    sequences: list[Sequence]


def check_data(source: str, picture: Path, sequence: str | None = None) -> DataCheck:
    """Read footage, describe it, and draw neighbouring frames with the depth of the middle one.

    Args:
        source: data set or other footage, see :func:`egodepth.data.sources.read_source`.
        picture: PNG file to write.
        sequence: name of the sequence to draw; by default the first with depth.

    Raises:
        EgodepthError: missing or broken footage.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EgodepthWarning)
        sequences = read_source(source)
    lines = [_totals(sequences)]
    lines += [str(w.message) for w in caught if issubclass(w.category, EgodepthWarning)]
    lines += _missing(sequences)
    data = DATA_SETS.get(source.partition(":")[0])
    if data is not None:
        lines.append(f"{data.title} is at {data.address}: {data.parts}")
        lines += _splits(sequences)
    shown = select(sequences, sequence)
    chosen = next((s for s in shown if s.depth), shown[0])
    _draw(chosen, picture)
    depth = "depth laid over the middle one" if chosen.depth else "it has no depth"
    lines.append(f"{picture} shows neighbouring frames of {chosen.name}; {depth}")
    return DataCheck(_table(sequences), lines, sequences)


def _table(sequences: list[Sequence]) -> Table:
    table = Table(
        "sequence", "camera", "frames", "size", "fov", "depth", "poses",
        caption=f"and {len(sequences) - SHOWN} more" if len(sequences) > SHOWN else None,
    )  # fmt: skip
    for s in sequences[:SHOWN]:
        fov = "unknown"
        if s.camera is not None:
            width, focal = s.camera.width, float(s.camera.matrix[0, 0])
            fov = f"{np.degrees(2 * np.arctan(width / 2 / focal)):.1f} deg"
            fov += " (guessed)" if s.camera_guessed else ""
        poses = (
            0 if s.world_from_camera is None else np.isfinite(s.world_from_camera[:, 0, 0]).sum()
        )
        depth = str(len(s.depth)) + (f" + {len(s.improved_depth)}" if s.improved_depth else "")
        table.add_row(one_line(s.name), one_line(s.camera_name), str(len(s.frames)),
                      f"{s.frames.width}x{s.frames.height}", fov, depth, str(poses))  # fmt: skip
    return table


def _totals(sequences: list[Sequence]) -> str:
    frames = sum(len(s.frames) for s in sequences)
    depth = sum(len(s.depth) for s in sequences)
    improved = sum(len(s.improved_depth) for s in sequences)
    poses = sum(s.world_from_camera is not None for s in sequences)
    rigs = {s.rig for s in sequences if s.rig and s.camera_name == "right"}
    text = (
        f"{len(sequences)} sequences, {frames} frames, {depth} with depth, {poses} sequences with poses, "
        f"{len(rigs)} stereo rigs"
    )
    return text + (f", {improved} frames with improved depth" if improved else "")


def _missing(sequences: list[Sequence]) -> list[str]:
    lines = []
    for what, lacking in (
        ("a camera", [s for s in sequences if s.camera is None]),
        ("depth", [s for s in sequences if not s.depth]),
        ("poses", [s for s in sequences if s.world_from_camera is None]),
    ):
        if lacking:
            names = ", ".join(s.name for s in lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            lines.append(f"without {what}: {len(lacking)} of {len(sequences)} sequences ({names})")
    gaps = []
    for s in sequences:
        numbers = np.array(s.frames.numbers)
        missing = int(np.clip(np.diff(numbers) - 1, 0, None).sum())
        if missing and missing < len(numbers):
            gaps.append(f"{s.name}: {missing}")
    if gaps:
        lines.append(f"gaps in the frame numbers: {'; '.join(gaps[:3])}")
    return lines


def _splits(sequences: list[Sequence]) -> list[str]:
    """How many frames are available of each split that lists frames."""
    lines = []
    for split in SPLITS.values():
        if split.size is None:
            continue
        found = with_depth = 0
        for s in sequences:
            numbers = split.numbers(s) or set()
            there = [i for i, n in enumerate(s.frames.numbers) if n in numbers]
            found += len(there)
            with_depth += sum(i in s.depth for i in there)
        if found:
            lines.append(
                f"split {split.name}: {found} of {split.size} frames are there, {with_depth} with depth"
            )
    return lines


def _draw(sequence: Sequence, path: Path) -> None:
    count = len(sequence.frames)
    with_depth = [i for i in sorted(sequence.depth) if 0 < i < count - 1] or sorted(sequence.depth)
    middle = with_depth[len(with_depth) // 2] if with_depth else count // 2
    indices = [i for i in (middle - 1, middle, middle + 1) if 0 <= i < count]
    pictures = []
    places = {sequence.frames.numbers[index]: index for index in indices}
    for frame in sequence.frames.at(indices):
        index = places[frame.number]
        height = round(WIDTH * frame.image.shape[0] / frame.image.shape[1])
        image = cv2.resize(frame.image, (WIDTH, height), interpolation=cv2.INTER_AREA)
        if index == middle and index in sequence.depth:
            image = _overlay(image, sequence.depth[index]())
        pictures.append(image)
    if not pictures:
        raise EgodepthError(
            f"none of the frames {', '.join(map(str, places))} of {sequence.name} can be decoded"
        )
    with atomic_path(path) as partial:
        Image.fromarray(np.vstack(pictures)).save(partial)


def _overlay(image: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Overlay the image with coloured depth where it is known, single points enlarged."""
    rows, columns = np.nonzero(depth)
    height, width = image.shape[:2]
    small = np.zeros((height, width), np.float32)
    far_first = np.argsort(-depth[rows, columns])
    y = (rows[far_first] + 0.5) * height / depth.shape[0]
    x = (columns[far_first] + 0.5) * width / depth.shape[1]
    small[y.astype(int), x.astype(int)] = depth[rows, columns][far_first]
    if (small > 0).mean() < 0.5:
        inverse = np.where(small > 0, 1 / np.maximum(small, 1e-6), 0)
        grown = cv2.dilate(inverse, np.ones((3, 3), np.uint8))
        small = np.where(grown > 0, 1 / np.maximum(grown, 1e-6), 0)
    colours = colourize_depth(small)
    return np.where((small > 0)[..., None], (0.3 * image + 0.7 * colours).astype(np.uint8), image)
