"""Two minutes of training on rendered streets as `egodepth train` does it: rate, loader, GPU, and the depth
of a street that the training never saw.

    .venv/bin/python -m benchmarks.gpu_training --out docs/results/gpu_training.json
    .venv/bin/python -m benchmarks.gpu_training --device cpu --tiny        to see that it runs
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.gpu import GpuWatch, peak_mb
from rich.console import Console

from egodepth.core.config import override
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.preparation.clips import read_clips
from egodepth.data.sequence import Sequence
from egodepth.data.synthetic.street import StreetDrive, read_street
from egodepth.evaluation.depth import PROTOCOLS
from egodepth.inference.scoring.depth_scores import evaluate_depth
from egodepth.runs.devices import choose_device
from egodepth.runs.run import Run
from egodepth.settings.recipes import get_recipe
from egodepth.training.run import train
from egodepth.training.snippets import SnippetStream

STREETS, FRAMES, SCORED_FRAMES = 3, 200, 40
LARGE = {"model.height": 192, "model.width": 640, "batch_size": 12, "steps": 1_000_000}
TINY = {"model.height": 32, "model.width": 64, "batch_size": 2, "steps": 4, "log_every": 1,
        "model.pretrained": False, "model.depth_encoder": "mobilenetv3_small_050",
        "model.pose_encoder": "mobilenetv3_small_050"}  # fmt: skip
LOADED_SECONDS = 2.0


def measure(folder: Path, device: str, minutes: float, *, tiny: bool) -> dict[str, Any]:
    """Render, train, score."""
    changes = TINY if tiny else {**LARGE, "minutes": minutes}
    # The machine may have no pycolmap, and what is measured is the training.
    changes |= {"data.poses": "network", "data.stride": 1, "data.dense_labels": False}
    settings = override(
        get_recipe("demo"), {**changes, "data.cache": str(folder / "cache"), "device": device}
    )
    height, width = settings.model.height, settings.model.width
    streets = []
    for seed in range(1, 2 if tiny else 1 + STREETS):
        drive = StreetDrive(seed, 6 if tiny else FRAMES, height, width)
        streets.append(Sequence(f"street-{seed}", drive, drive.camera, drive.world_from_camera))
    started = time.perf_counter()
    clips = read_clips(streets, height, width, folder / "cache")
    rendered = time.perf_counter() - started
    stream = SnippetStream(
        clips, directions=settings.data.directions, batch_size=settings.batch_size, seed=0
    )
    with GpuWatch() as watch:
        result = train(settings, folder / "run", sequences=streets)
    accelerator, devices = choose_device(device)
    place = torch.device("cpu" if accelerator == "cpu" else f"cuda:{devices[0]}")
    run = Run.load(folder / "run", str(place))
    scores = evaluate_depth(
        run, [read_street(0, 4 if tiny else SCORED_FRAMES)], PROTOCOLS["synthetic"]
    )
    return {
        "size": f"{width}x{height}", "batch": settings.batch_size, "steps": result.steps,
        "seconds": result.seconds, "snippets_per_second": result.steps * settings.batch_size / result.seconds,
        "data_wait": result.data_wait, "loader_snippets_per_second": loader_rate(stream),
        "utilisation": watch.utilisation, "peak_mb": peak_mb(place), "render_seconds": rendered,
        "abs_rel": scores.summary["abs_rel"], "constant_abs_rel": scores.constant["abs_rel"],
        "collapse": result.collapse,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU",
    }  # fmt: skip


def loader_rate(stream: SnippetStream) -> float:
    """Snippets per second that the loader makes when nothing else runs."""
    started, count, step = time.perf_counter(), 0, 0
    while (seconds := time.perf_counter() - started) < LOADED_SECONDS:
        count += stream.batch(step).frames.shape[1]
        step += 1
    return count / seconds


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0, help="of training (default: 2)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument("--tiny", action="store_true", help="four small steps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.device, options.minutes, tiny=options.tiny)
    Console().print(found)
    if options.out:
        write_json(options.out, found | provenance())


if __name__ == "__main__":
    main()
