"""A thousand short videos by ``egodepth batch predict``: kills, broken videos, overhead and speed-up.

Run: .venv/bin/python -m benchmarks.batch [--count 1000] [--run builtin] [--out docs/results/batch.json]

One in a hundred videos is broken, in ten ways. The plain loop (``egodepth predict`` of all good ones) is
compared
with a batch of one actor and of two, and with one whose actor and then whose driver is killed by kill -9 in the
middle and that is started again. Results have to be the same byte for byte. Overhead and speed-up are of
wall-clock
time between the first video's begin and the last one's end, and mean something on idle cores alone; CPU time is
given beside it.
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

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.core.video import VideoWriter

FRAMES, HEIGHT, WIDTH = 6, 96, 320
EGODEPTH = [sys.executable, "-m", "egodepth.cli"]


def make_videos(folder: Path, count: int, seed: int = 0) -> None:
    """Write the videos, the broken ones into a folder of their own."""
    rng = np.random.default_rng(seed)
    for name in ("good", "broken"):
        (folder / name).mkdir(parents=True)
    broken = max(count // 100, len(BREAKS))
    for index in range(count - broken):
        blocks = rng.integers(0, 255, (HEIGHT // 8 + 2, WIDTH // 8 + 8, 3), dtype=np.uint8)
        wall = blocks.repeat(8, 0).repeat(8, 1)
        with VideoWriter(folder / "good" / f"clip_{index:05d}.mp4") as video:
            for frame in range(FRAMES):
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


def timed(words: list[str]) -> tuple[float, float]:
    """Run a command; returns its wall-clock and its CPU time in seconds."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
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


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--run", default="builtin")
    parser.add_argument("--parts", nargs="*", default=["one", "killed", "two"])
    parser.add_argument("--out", type=Path, default=Path("docs/results/batch.json"))
    options = parser.parse_args()
    results: dict[str, Any] = {"count": options.count, "frames": FRAMES, "run": options.run}
    with tempfile.TemporaryDirectory(prefix="batch-") as name:
        folder = Path(name)
        videos, single = folder / "videos", folder / "single"
        make_videos(videos, options.count)
        good = len(list((videos / "good").iterdir()))
        plain = [*EGODEPTH, "predict", options.run]
        first = timed([*plain, f"{videos}/good/clip_00000.mp4", "--out", str(folder / "first")])
        whole = timed([*plain, f"{videos}/good/*.mp4", "--out", str(single)])
        rate = (good - 1) / good
        results["plain"] = {
            "seconds": (whole[0] - first[0]) / rate, "cpu_seconds": (whole[1] - first[1]) / rate,
        }  # fmt: skip
        print(json.dumps(results), flush=True)
        for part, actors in (("one", 1), ("two", 2), ("killed", 1)):
            if part not in options.parts:
                continue
            out = folder / part
            words = batch_words(options.run, videos, out, actors)
            results[part] = killed(words, out, good) if part == "killed" else {}
            if part != "killed":
                timed(words)
                results[part] = json.loads((out / "summary.json").read_text())
            results[part]["same"] = same(single, out)
            listed = [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]
            results[part]["listed"] = sorted({one["error"].split(": ", 1)[-1] for one in listed})
            print(json.dumps({part: results[part]}, indent=1), flush=True)
    write_json(options.out, {**provenance(), "results": results})


if __name__ == "__main__":
    main()
