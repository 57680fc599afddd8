"""A thousand short videos by ``egodepth batch predict``: kills, broken videos, overhead and speed-up.

Run: .venv/bin/python -m benchmarks.batch [--count 1000] [--run builtin] [--out docs/results/batch.json]

One in a hundred videos is broken, in ten ways. ``one`` and ``two`` are batches of one actor and of two;
``killed`` is one whose actor and then whose driver is killed by kill -9 in the middle, and that is started
again. Every actor has one core, and results have to be the same byte for byte as those of ``egodepth
predict`` of all good ones with one thread; more threads round sums in another order. ``--run tiny`` takes
networks of 64x32 that are trained here for a few steps, since the networks do not matter to this.

``overhead`` compares the processor's time per video of one actor with that of the plain loop, without the first
video; both have the same networks. Speed-up is of wall-clock time between the first video's begin and the last
one's end, and means something on idle cores alone.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.shards import TINY

from egodepth.core.config import override
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.core.video import VideoWriter
from egodepth.settings.recipes import get_recipe
from egodepth.training.run import train

HEIGHT, WIDTH = 96, 320
EGODEPTH = [sys.executable, "-m", "egodepth.cli"]
PARTS = ("overhead", "one", "killed", "two")


def make_videos(folder: Path, count: int, frames: int, broken: int) -> None:
    """Write the videos, the broken ones into a folder of their own."""
    rng = np.random.default_rng(0)
    for name in ("good", "broken"):
        (folder / name).mkdir(parents=True)
    for index in range(count - broken):
        blocks = rng.integers(0, 255, (HEIGHT // 8 + 2, WIDTH // 8 + 8, 3), dtype=np.uint8)
        wall = blocks.repeat(8, 0).repeat(8, 1)
        with VideoWriter(folder / "good" / f"clip_{index:05d}.mp4") as video:
            for frame in range(frames):
                video.write(wall[:HEIGHT, 4 * frame : 4 * frame + WIDTH].copy(), frame / 10)
    whole = (folder / "good" / "clip_00000.mp4").read_bytes()
    for index in range(broken):
        BREAKS[index % len(BREAKS)](folder / "broken" / f"broken_{index:03d}.mp4", whole)


def _half_garbled(path: Path, whole: bytes) -> None:
    start = whole.index(b"mdat") + 4
    end = whole.index(b"moov", start) - 4
    path.write_bytes(whole[:start] + bytes(end - start) + whole[end:])


def _wave(path: Path, whole: bytes) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))


def _zip(path: Path, whole: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clip.mp4", whole)


BREAKS: list[Callable[[Path, bytes], Any]] = [
    lambda path, whole: path.write_bytes(b""),
    lambda path, whole: path.write_bytes(whole[:40]),
    lambda path, whole: path.write_bytes(whole[: len(whole) // 2]),
    lambda path, whole: path.write_bytes(bytes(len(whole))),
    lambda path, whole: path.write_bytes(np.random.default_rng(1).bytes(len(whole))),
    lambda path, whole: path.write_text("<html>404 Not Found</html>"),
    lambda path, whole: path.write_bytes(whole.replace(b"moov", b"xxxx")),
    _half_garbled,
    _wave,
    _zip,
]
"""Empty, cut after the head, cut in half, zeros, noise, a page, no index, no picture data, sound, a zip."""


def timed(words: list[str], threads: int | None = None) -> tuple[float, float]:
    """Run a command, with so many threads; returns its wall-clock and its CPU time in seconds."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


def same(single: Path, batch: Path) -> int:
    """Number of videos whose results are the same, byte for byte; the list of files is of the whole output in
    one, and of each video in the other."""

    def files(folder: Path) -> dict[str, bytes]:
        paths = (p for p in folder.rglob("*") if p.is_file() and p.name != "files.txt")
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}

    return sum(files(one) == files(batch / one.name) for one in single.iterdir() if one.is_dir())


def batch_words(run: str, videos: Path, out: Path, actors: int) -> list[str]:
    """The command of a batch."""
    sources = [f"{videos}/good/*.mp4", f"{videos}/broken/*.mp4"]
    return [
        *EGODEPTH,
        "batch",
        "predict",
        run,
        *sources,
        "--out",
        str(out),
        "--actors",
        str(actors),
        "--cpus",
        "1",
    ]


def killed(words: list[str], out: Path, count: int) -> dict[str, int]:
    """Kill the actor after a third of the videos, the driver after two thirds, and start again."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _until(process, out, count // 3)
    newest = max((out / "_batch/done").glob("*.json"), key=lambda path: path.stat().st_mtime)
    os.kill(int(json.loads(newest.read_text())["process"].split(":")[1]), signal.SIGKILL)
    reached = _until(process, out, 2 * count // 3)
    process.kill()
    process.wait()
    timed(words)
    summary = json.loads((out / "summary.json").read_text())
    return {"done_when_the_driver_was_killed": reached, **{
        name: summary[name] for name in ("videos", "done_before", "done", "failed", "left")
    }}  # fmt: skip


def _until(process: subprocess.Popen[bytes], out: Path, count: int) -> int:
    while True:
        done = len(list((out / "_batch/done").glob("*.json")))
        if done >= count:
            return done
        if process.poll() is not None:
            raise SystemExit("the batch ended before it was killed")
        time.sleep(0.2)


def cpu_of_actor(out: Path) -> float:
    """Processor's time of the only actor per video, without its first one."""
    ends = sorted(json.loads(p.read_text())["cpu"][1] for p in (out / "_batch/done").glob("*.json"))
    return float((ends[-1] - ends[0]) / (len(ends) - 1))


def measure_overhead(folder: Path, run: str, count: int, frames: int) -> dict[str, Any]:
    """Processor's time of videos of some length, by one actor and by the plain loop."""
    make_videos(folder, count, frames, 0)
    plain = [*EGODEPTH, "predict", run]
    _, first = timed([*plain, f"{folder}/good/clip_00000.mp4", "--out", str(folder / "first")])
    _, whole = timed([*plain, f"{folder}/good/*.mp4", "--out", str(folder / "single")])
    words = [
        *EGODEPTH,
        "batch",
        "predict",
        run,
        f"{folder}/good/*.mp4",
        "--out",
        str(folder / "out"),
    ]
    timed([*words, "--actors", "1"])
    loop, actor = (whole - first) / (count - 1), cpu_of_actor(folder / "out")
    return {
        "videos": count, "frames of each": frames, "plain loop, s of CPU per video": round(loop, 3),
        "one actor, s of CPU per video": round(actor, 3), "overhead": f"{100 * (actor / loop - 1):.1f} %",
    }  # fmt: skip


def tiny_run(folder: Path, video: Path) -> str:
    """A run of tiny networks."""
    if (folder / "run").exists():
        return str(folder / "run")
    changes = TINY | {
        "data.sources": [str(video)], "data.fov": 60.0, "data.stride": 1, "data.mask": "none",
        "data.poses": "network", "data.dense_labels": False, "data.cache": str(folder / "cache"),
        "init": "none", "device": "cpu", "steps": 2, "batch_size": 2, "data.fit_size": False,
    }  # fmt: skip
    train(override(get_recipe("footage"), changes), folder / "run")
    return str(folder / "run")


def measure(part: str, folder: Path, run: str, count: int) -> dict[str, Any]:
    """Do the batch of a part, and compare its results with those of the plain loop."""
    videos, out = folder / "videos", folder / part
    words = batch_words(run, videos, out, 2 if part == "two" else 1)
    if part == "killed":
        found: dict[str, Any] = killed(words, out, count)
    else:
        timed(words)
        found = json.loads((out / "summary.json").read_text())
        found = {name: value for name, value in found.items() if name != "stages"}
    listed = [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]
    reasons = sorted(
        {one["error"].split(": ", 1)[-1].replace(str(folder), "FOLDER") for one in listed}
    )
    return found | {
        "same as by the plain loop": same(folder / "single", out), "listed in failed.jsonl": len(listed),
        "different reasons": len(reasons), "reasons": reasons,
    }  # fmt: skip


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--run", default="builtin")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--long", nargs=2, type=int, default=(30, 40), help="videos, and frames")
    parser.add_argument("--work", type=Path, help="folder to keep the files in, to go on with them")
    parser.add_argument("--out", type=Path, default=Path("docs/results/batch.json"))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.out.exists():  # the other parts stay as they are
        results = json.loads(options.out.read_text())["results"]
    with tempfile.TemporaryDirectory(prefix="batch-") as name:
        folder = options.work or Path(name)
        broken = max(options.count // 100, len(BREAKS))
        if not (folder / "videos").exists():
            make_videos(folder / "videos", options.count, options.frames, broken)
        run, good = options.run, options.count - broken
        if run == "tiny":
            run = tiny_run(folder, folder / "videos/good/clip_00000.mp4")
        if {*options.parts} - {"overhead"} and not (folder / "single").exists():
            plain = [*EGODEPTH, "predict", run, f"{folder}/videos/good/*.mp4"]
            timed([*plain, "--out", str(folder / "single")], threads=1)
        about = {
            "run": options.run,
            "videos of the batch": options.count,
            "frames of each": options.frames,
        }
        for part in options.parts:
            if part == "overhead":
                results[part] = {
                    "run": options.run,
                    **measure_overhead(folder / "long", run, *options.long),
                }
            else:
                results[part] = {**about, "good": good, **measure(part, folder, run, good)}
            print(json.dumps({part: results[part]}, indent=1), flush=True)
    write_json(options.out, {**provenance(), "results": results})


if __name__ == "__main__":
    main()
