"""Loading of training snippets: decoding every time, as loaders do, against egodepth's cache.

    .venv/bin/python -m benchmarks.loading --source kitti_raw:DIR --out docs/results/loading.json

Three frames at 640x192 with augmentation, milliseconds a frame, JPEG and PNG: Pillow with Lanczos
and torchvision's colour jitter; the first epoch (decoding into the cache) against decoding and resizing alone;
and every epoch after it.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.training_step import median
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.transforms import ColorJitter

from egodepth.core.files import write_json
from egodepth.core.memory import keep_large_allocations
from egodepth.core.provenance import provenance
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.image_files import ImageFiles
from egodepth.data.preparation.clips import read_clips
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.training.augment import augment
from egodepth.training.snippets import SnippetStream

HEIGHT, WIDTH, FRAMES, REPEATS = 192, 640, 48, 7
"""Size, number of frames, and how often each is measured."""


def decode_and_jitter(paths: list[Path]) -> None:
    """What a loader does that decodes every time."""
    jitter = ColorJitter(0.2, 0.2, 0.2, 0.1)
    for path in paths:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        torch.from_numpy(np.asarray(jitter(small)).copy()).permute(2, 0, 1).float().div_(255)


def decode(paths: list[Path]) -> None:
    """Decoding and resizing alone."""
    for frame in ImageFiles(paths).at():
        resize_frame(frame.image, HEIGHT, WIDTH)


def timed(work: Any, count: int) -> float:
    """Median milliseconds a frame."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds) / count


def measure(sequence: Sequence, paths: list[Path], folder: Path) -> dict[str, float]:
    """All rows for files of one kind."""
    footage = replace(sequence, frames=ImageFiles(paths), rig="", depth={})
    fresh = iter(range(10**6))

    def first_epoch() -> None:
        read_clips([footage], HEIGHT, WIDTH, folder / f"cache{next(fresh)}")

    clips = read_clips([footage], HEIGHT, WIDTH, folder / "cache")
    stream = SnippetStream(clips, directions=(-1, 1), batch_size=2, seed=0)

    def later_epoch() -> None:
        for step in range(stream.steps_per_epoch):
            augment(stream.batch(step), step)

    return {
        "decoding_every_time": timed(lambda: decode_and_jitter(paths), len(paths)),
        "decoding_alone": timed(lambda: decode(paths), len(paths)),
        "first_epoch": timed(first_epoch, len(paths)),
        "later_epochs": timed(later_epoch, 3 * stream.snippet_count),
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_allocations()  # as a training does
    sequence = read_source(options.source)[0]
    table = Table("files", "decoding every time", "decoding alone", "first epoch", "later epochs",
                  "faster later")  # fmt: skip
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = [f.image for f in sequence.frames.at(range(min(FRAMES, len(sequence.frames))))]
        for kind in ("jpg", "png"):
            paths = []
            for number, image in enumerate(images):
                path = folder / kind / f"{number:06d}.{kind}"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(image).save(path, **({"quality": 92} if kind == "jpg" else {}))
                paths.append(path)
            found = results[kind] = measure(sequence, paths, folder / f"caches_{kind}")
            ratio = found["ratio"] = found["decoding_every_time"] / found["later_epochs"]
            table.add_row(kind, *(f"{found[key]:.2f} ms" for key in (
                "decoding_every_time", "decoding_alone", "first_epoch", "later_epochs"
            )), f"{ratio:.1f} times")  # fmt: skip
    Console(width=110).print(table)
    if options.out:
        write_json(options.out, {"results": results, **provenance()})


if __name__ == "__main__":
    main()
