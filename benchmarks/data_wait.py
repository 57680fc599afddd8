"""How long the training waits for data, for JPEG and PNG frames of KITTI size.

Run: .venv/bin/python benchmarks/data_wait.py [--steps 60] [--out benchmarks/results/data_wait.json]

Trains the default networks at 320x96 on frames that it renders and stores at 1242x375, in a fresh
cache each time, and prints the share of the time spent on waiting, with and without the decoding
that fills the cache.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from egodepth.core.config import override
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.synthetic.street import StreetDrive
from egodepth.settings.recipes import get_recipe
from egodepth.training.run import train

FRAMES, HEIGHT, WIDTH = 120, 375, 1242


def main() -> None:
    """Measure both formats and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/data_wait.json"))
    options = parser.parse_args()
    console = Console()
    table = Table(
        title=f"waiting for data, {FRAMES} frames of {WIDTH}x{HEIGHT}, {options.steps} steps"
    )
    for column in ("format", "frame size", "decoding", "training", "wait", "wait with decoding"):
        table.add_column(column, justify="right")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        drive = StreetDrive(seed=1, frames=FRAMES, height=HEIGHT, width=WIDTH)
        images = [frame.image for frame in drive.at()]
        for suffix in ("jpg", "png"):
            frames = Path(folder) / suffix
            store(images, frames, suffix)
            settings = override(
                get_recipe("footage"),
                {
                    "data.sources": [str(frames)],
                    "data.fov": 80.0,
                    "data.cache": f"{folder}/cache",
                    "steps": options.steps,
                    "device": "cpu",
                },
            )
            result = train(settings, Path(folder) / f"run-{suffix}")
            size = np.mean([path.stat().st_size for path in frames.iterdir()])
            total = result.seconds + result.prepare_seconds
            results[suffix] = {
                "decoding_s": result.prepare_seconds,
                "training_s": result.seconds,
                "wait": result.data_wait,
                "wait_with_decoding": (result.wait_seconds + result.prepare_seconds) / total,
                "decoding_ms_per_frame": 1000 * result.prepare_seconds / FRAMES,
            }
            table.add_row(
                suffix,
                f"{size / 1000:.0f} kB",
                f"{result.prepare_seconds:.1f} s",
                f"{result.seconds:.1f} s",
                f"{100 * result.data_wait:.2f} %",
                f"{100 * results[suffix]['wait_with_decoding']:.2f} % of {total:.0f} s",
            )
    console.print(table)
    write_json(options.out, {"results": results, "steps": options.steps, **provenance()})


def store(images: list[np.ndarray], folder: Path, suffix: str) -> None:
    """Write the frames as KITTI's users have them."""
    folder.mkdir()
    for index, image in enumerate(images):
        noisy = image + np.random.default_rng(index).normal(0, 3, image.shape)
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        picture.save(
            folder / f"{index:010d}.{suffix}", **({"quality": 92} if suffix == "jpg" else {})
        )


if __name__ == "__main__":
    main()
