"""Shards against local footage: gradients, processes, kill -9, waiting from a disk and from a slow store.

Run: .venv/bin/python -m benchmarks.shards [--parts gradients,ranks] [--out docs/results/shards.json]

Footage is made here, and so is the slow store: an HTTP server with 20 MB/s for all requests together, 100 ms
latency each, of which one in a hundred fails. `constants` are those of docs/at_scale.md. Times are seconds of
the processor, which other processes do not change; waiting is a share of the clock's.
"""

import argparse
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from benchmarks.processes import in_two_processes
from benchmarks.slow_store import LATENCY, LOST, RATE

from egodepth.core.config import override
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.core.schedule import Schedule
from egodepth.data.shards.stored import decode, encode
from egodepth.data.synthetic.street import StreetDrive
from egodepth.settings.recipes import get_recipe
from egodepth.settings.training import TrainSettings
from egodepth.training.build import build_module, make_stream
from egodepth.training.footage import read_training_sequences
from egodepth.training.module import make_optimizer
from egodepth.training.order import Lanes, SampleOrder
from egodepth.training.run import TrainResult, train
from egodepth.training.sharding import shard

HEIGHT, WIDTH = 96, 320
PARTS = ("gradients", "ranks", "kill", "disk", "slow", "constants")
TINY = {
    "model.depth_encoder": "test_efficientnet", "model.pose_encoder": "test_efficientnet",
    "model.feature_encoder": "test_efficientnet", "model.pretrained": False, "model.height": 32,
    "model.width": 64, "precision": "float32", "log_every": 1, "checkpoint_every": 5,
}  # fmt: skip
"""Networks for what depends on the data alone."""


def main() -> None:
    """Measure the parts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/shards.json"))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.out.exists():  # the other parts stay as they are
        results = json.loads(options.out.read_text())["results"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = write_video(folder / "drive.mp4", options.frames)
        for part in options.parts.split(","):
            results[part] = globals()[f"measure_{part}"](folder, video, options.steps)
            print(part, json.dumps(results[part]), flush=True)
    rows = [
        [part, label, str(value)]
        for part in PARTS
        for label, value in results.get(part, {}).items()
    ]
    facts = {
        **provenance(),
        "columns": ["part", "what", "result"],
        "rows": rows,
        "results": results,
    }
    write_json(options.out, facts)


def write_video(path: Path, count: int, height: int = 360, width: int = 1200) -> Path:
    """A camera that pans and sways over a picture of noise, as H.264."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (60, 400, 3), dtype=np.uint8)
    wall = np.kron(coarse, np.ones((10, 10, 1), np.uint8))
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(count):
            x = int(1400 + 1300 * np.sin(index / 200))
            y = int(100 + 90 * np.sin(index / 37))
            image = np.ascontiguousarray(wall[y : y + height, x : x + width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def settings_of(source: str, folder: Path, **changes: Any) -> TrainSettings:
    """Settings of a training of the recipe footage, without labels."""
    base = {
        "data.sources": [source], "data.cache": str(folder / "cache"), "data.poses": "network",
        "data.stride": 1, "data.mask": "none", "data.dense_labels": False, "model.height": HEIGHT,
        "model.width": WIDTH, "device": "cpu", "init": "none",
    }  # fmt: skip
    if not source.startswith("shards:"):
        base["data.fov"] = 70.0
    return override(get_recipe("footage"), base | changes)


def sharded(folder: Path, video: Path, megabytes: float = 16, **changes: Any) -> str:
    """Shards of the footage, made once per form."""
    name = f"shards-{megabytes}-{len(changes)}"
    shard(settings_of(str(video), folder, **changes), str(folder / name), chunk_megabytes=megabytes)
    return f"shards:{folder / name}"


def gradients(settings: TrainSettings, steps: int) -> Iterator[list[torch.Tensor]]:
    """Gradients of each of the first steps of a training."""
    settings, stream, _ = make_stream(settings, read_training_sequences(settings.data))
    stream.schedule = Schedule(1000)
    torch.manual_seed(0)
    module = build_module(settings, stream, "float32").to(memory_format=torch.channels_last)
    optimizer = make_optimizer(module)
    for step in range(steps):
        optimizer.zero_grad()
        module(stream.batch(step))[1].total.backward()
        yield [p.grad.clone() for p in module.parameters() if p.grad is not None]
        optimizer.step()


def measure_gradients(folder: Path, video: Path, steps: int) -> dict[str, Any]:
    """Compare the gradients of the first 20 steps with those of local footage."""
    shards, worst, count = sharded(folder, video), 0.0, 20
    for local, streamed in zip(
        gradients(settings_of(str(video), folder, batch_size=1), count),
        gradients(settings_of(shards, folder, batch_size=1), count), strict=True,
    ):  # fmt: skip
        pairs = zip(local, streamed, strict=True)
        worst = max([worst, *(float((a - b).abs().max()) for a, b in pairs)])
    return {f"largest difference of a gradient, {count} steps at {WIDTH}x{HEIGHT}": worst}


def measure_ranks(folder: Path, video: Path, steps: int) -> dict[str, Any]:
    """Which snippets two processes of torchrun see in an epoch, with windows smaller than the shards."""
    shards = sharded(folder, video, 0.2, **TINY)
    out = folder / "ranks"
    out.mkdir()
    code = f"from benchmarks.shards import seen; seen({shards!r}, {str(folder)!r}, {str(out)!r})"
    in_two_processes(code, folder)
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    ids = [i for each in found for i in each["ids"]]
    shared = set(found[0]["chunks"]) & set(found[1]["chunks"])
    return {
        "snippets of an epoch": found[0]["count"],
        "seen by two processes": len(ids),
        "seen twice or not at all": len(ids)
        - len(set(ids))
        + abs(found[0]["count"] - len(set(ids))),
        "chunks": found[0]["all"],
        "chunks that both read": len(shared),
    }


def seen(shards: str, folder: str, out: str) -> None:
    """Write the snippets and chunks of an epoch of this process."""
    settings = settings_of(shards, Path(folder), **{**TINY, "data.shard_cache": 0.004})
    settings, stream, _ = make_stream(settings, read_training_sequences(settings.data))
    assert stream.chunks is not None
    stream.schedule = Schedule(stream.steps_per_epoch)
    ids = [int(i) for batch in stream for i in batch.frame_ids[0]]
    homes = stream.clips[0].frames.homes  # type: ignore[attr-defined]
    facts = {
        "ids": ids, "chunks": sorted({int(homes[i]) for i in ids}), "count": stream.snippet_count,
        "all": len(stream.chunks.sizes),
    }  # fmt: skip
    Path(out, f"{os.environ['RANK']}.json").write_text(json.dumps(facts))


def measure_kill(folder: Path, video: Path, steps: int) -> dict[str, Any]:
    """Losses of a training that kill -9 ended in mid-epoch and that was resumed, against one without."""
    shards = sharded(folder, video, 0.2, **TINY)
    words = ["train", shards, "--steps", "30"]
    wanted = settings_of(shards, folder, **TINY)
    for name in (*TINY, "data.cache", "data.stride", "data.mask", "data.poses", "device"):
        value: Any = wanted
        for key in name.split("."):
            value = getattr(value, key)
        words += [f"--{name}", str(value)]
    words += ["--data.dense_labels", "false", "--init", "none", "--data.shard_cache", "0.004"]
    command = [sys.executable, "-m", "egodepth.cli"]
    whole, killed = folder / "whole", folder / "killed"
    subprocess.run([*command, *words, "--out", str(whole)], check=True, env=_environment())
    process = subprocess.Popen([*command, *words, "--out", str(killed)], env=_environment())
    written: set[int] = set()
    checkpoint = killed / "checkpoint.ckpt"
    while process.poll() is None and len(written) < 3:  # three checkpoints, of steps 5, 10 and 15
        written |= {checkpoint.stat().st_mtime_ns} if checkpoint.exists() else set()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = [*command, "train", shards, "--out", str(killed), "--resume"]
    subprocess.run(resumed, check=True, env=_environment())
    one, two = losses(whole), losses(killed)
    session = max(path.name for path in (killed / "logs").glob("csv_*"))
    return {
        "steps": len(one), "ended by signal": -process.returncode,
        "resumed at step": int(session.removeprefix("csv_")),
        "largest difference of a loss": max(abs(one[step] - two[step]) for step in two),
    }  # fmt: skip


def losses(run: Path) -> dict[int, float]:
    """Loss of each step of a run so far; of several sessions, that of the last."""
    found: dict[int, float] = {}
    for path in sorted((run / "logs").glob("csv_*/metrics.csv")):
        with path.open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("total")]
        found |= {int(row["step"]): float(row["total"]) for row in rows}
    return found


def waiting(result: TrainResult) -> dict[str, Any]:
    """Waiting of a training, as it reports it."""
    return {
        "steps": result.steps, "seconds of training": round(result.seconds, 1),
        "seconds of waiting": round(result.wait_seconds, 2),
        "share of waiting": f"{100 * result.data_wait:.2f} %",
    } | ({"fetched": result.fetched} if result.fetched else {})  # fmt: skip


def measure_disk(folder: Path, video: Path, steps: int) -> dict[str, Any]:
    """Waiting from a disk whose pages are not in memory."""
    shards = sharded(folder, video, 4)
    found = {}
    os.sync()
    for path in Path(shards.removeprefix("shards:")).glob("*.bin"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    result = train(settings_of(shards, folder, steps=steps), folder / "disk")
    found |= waiting(result)
    return found


@contextmanager
def slow_store(folder: Path) -> Iterator[str]:
    """The address of a slow store that serves a folder."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.slow_store", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield f"shards:{server.stdout.readline().strip()}"
    finally:
        server.kill()


def measure_slow(folder: Path, video: Path, steps: int) -> dict[str, Any]:
    """Waiting of a training from a slow store, with a cache for a third of the shards."""
    shards = Path(sharded(folder, video, 1).removeprefix("shards:"))
    size = sum(path.stat().st_size for path in shards.glob("*.bin"))
    found: dict[str, Any] = {
        "store": f"{RATE / 1e6:g} MB/s, {1000 * LATENCY:g} ms, {100 * LOST:g} % lost",
        "shards": f"{size / 1e6:.0f} MB", "cache": f"{size / 3e6:.0f} MB",
    }  # fmt: skip
    with slow_store(shards) as address:
        settings = settings_of(
            address,
            folder,
            **{"steps": steps, "data.shard_cache": size / 3e9, "data.cache": f"{folder}/far"},
        )
        found |= waiting(train(settings, folder / "slow"))
    cached = sum(path.stat().st_size for path in (folder / "far").rglob("*.bin"))
    return found | {"largest cache at its end": f"{cached / 1e6:.0f} MB"}


def measure_constants(folder: Path, video: Path, steps: int) -> dict[str, Any]:
    """Seconds of the processor and bytes per frame, from which larger amounts follow."""
    settings = settings_of(str(video), folder)
    sizes, found = {}, {}
    for form in ("cache", "jpeg"):
        out = folder / f"constant-{form}"
        started = used()
        kept = settings.changed(data=settings.data.changed(cache=folder / f"cache-{form}"))
        facts = shard(kept, str(out), frames=form).facts
        count = facts["frame_count"]
        found[f"sharding, ms per frame, {form}"] = round(1000 * (used() - started) / count, 2)
        sizes[form] = facts["bytes"] / count
        found[f"bytes per frame, {form}"] = round(sizes[form])
    surveyed = settings.changed(
        data=settings.data.changed(stride="auto", cache=folder / "cache-survey")
    )
    started = used()
    shard(surveyed, str(folder / "constant-survey"))
    found["sharding with --data.stride auto, ms per frame"] = round(
        1000 * (used() - started) / count, 2
    )
    stream = make_stream(
        settings_of(f"shards:{folder / 'constant-cache'}", folder),
        read_training_sequences(settings_of(f"shards:{folder / 'constant-cache'}", folder).data),
    )[1]
    street = [
        frame.image for frame in StreetDrive(seed=1, frames=4, height=HEIGHT, width=WIDTH).at()
    ]
    files = [encode(image.transpose(2, 0, 1), "jpeg", 95) for image in street]
    found["bytes of a JPEG frame of a rendered street"] = round(
        np.mean([len(file) for file in files])
    )
    content = memoryview(files[0])
    found["decoding a JPEG frame, ms"] = timed(lambda: decode(content, "jpeg", HEIGHT, WIDTH), 200)
    found["reading a frame of a chunk, ms"] = timed(lambda: stream.clips[0].frames[count // 2], 200)
    found["gathering a batch of 4, ms"] = timed(lambda: stream.batch(3), 50)
    million = np.arange(1_000_000)
    order = SampleOrder(million, 0, 4, 0, 1, Lanes(million // 170, 64, 4))
    found["ordering a million snippets, s"] = round(
        timed(lambda: order.of_epoch.__wrapped__(1), 1) / 1000, 2
    )
    started = used()
    type(stream)(stream.clips * 20, directions=(-1, 1), batch_size=4, seed=0, chunks=stream.chunks)
    listed = 20 * count
    found["listing a million snippets, s"] = round((used() - started) * 1e6 / listed, 1)
    described = (folder / "constant-cache" / "clips.zip").stat().st_size / count
    return found | {"description, bytes per frame": round(described, 1)}


def used() -> float:
    """Seconds of the processor that this process and its threads have used."""
    times = resource.getrusage(resource.RUSAGE_SELF)
    return times.ru_utime + times.ru_stime


def timed(work: Any, count: int) -> float:
    """Milliseconds of the processor per call."""
    started = used()
    for _ in range(count):
        work()
    return round(1000 * (used() - started) / count, 3)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([".", "src"])}


if __name__ == "__main__":
    main()
