"""Batches of many videos: the plain worker in this process, and Ray."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Lock, Timer

import fsspec
import numpy as np
import pytest
from tests.conftest import write_images

import egodepth
from egodepth.cli import main
from egodepth.cluster.batch import _identity, _run_files
from egodepth.cluster.ray_session import Session, end_processes
from egodepth.cluster.stopwatch import Stopwatch
from egodepth.cluster.summary import BatchSummary
from egodepth.cluster.tally import MAX_TRIES, Tally
from egodepth.cluster.videos import Video, list_videos
from egodepth.cluster.watchdog import turn, watched
from egodepth.cluster.worker import Job, VideoWorker
from egodepth.core.errors import EgodepthError
from egodepth.core.video import VideoWriter
from egodepth.data.image_files import ImageFiles
from egodepth.data.sequence import unique_names

COUNT = 4
SMALL = Job(formats=("npz",), fov=60.0, device="cpu")


def make_videos(folder: Path, names: list[str]) -> list[Path]:
    """Short videos; those named broken are not."""
    frames = [f.image for f in ImageFiles(write_images(folder.parent / "images", COUNT)).at()]
    folder.mkdir()
    for name in names:
        if "broken" in name:
            (folder / name).write_bytes(b"no video")
            continue
        with VideoWriter(folder / name) as video:
            for index, image in enumerate(frames):
                video.write(np.roll(image, len(name), 1), index / 10)
    return [folder / name for name in names]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_sources_are_files_folders_patterns_addresses_and_lists(tmp_path: Path) -> None:
    paths = make_videos(tmp_path / "in", ["broken2.mp4", "broken10.mp4", "broken.mov"])
    (tmp_path / "in" / "notes.txt").touch()
    (tmp_path / "list.txt").write_text(f"# mine\n{tmp_path}/in/*.mp4\n\nfile://{paths[0]}\n")
    names = [[v.name for v in list_videos(source)] for source in (
        paths[2], tmp_path / "in", f"{tmp_path}/in/*.mp4", f"@{tmp_path}/list.txt",
    )]  # fmt: skip
    assert names == [
        ["broken.mov"], ["broken.mov", "broken2.mp4", "broken10.mp4"],
        ["broken2.mp4", "broken10.mp4"], ["broken2.mp4", "broken10.mp4"],
    ]  # fmt: skip
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/a/x.mp4": b"", "/bucket/b/x.mp4": b"", "/bucket/b/y.mp4": b""})
    found = list_videos(["memory://bucket/*/*.mp4", "https://host/a/z.mp4?key=1"])
    assert [v.name for v in found] == ["a/x.mp4", "b/x.mp4", "y.mp4", "z.mp4"]
    assert found[0].address == "memory:///bucket/a/x.mp4"
    for source, said in (
        (tmp_path / "missing.mp4", "there is no video or folder"),
        (f"{tmp_path}/*.avi", "no files match"), (tmp_path / "images", "no videos"),
        ("nosuch://bucket/*.mp4", "Protocol not known"), ([], "there is no source"),
    ):  # fmt: skip
        with pytest.raises(EgodepthError, match=said):
            list_videos(source)


def test_many_equal_names_get_the_shortest_distinct_ends_quickly() -> None:
    places = [f"/data/{i % 7}/{i}/front.mp4" for i in range(20_000)]
    started = time.process_time()
    names = unique_names(["front.mp4"] * len(places), places)
    assert names[11] == "11/front.mp4" and len(set(names)) == len(places)
    assert time.process_time() - started < 5


def test_a_worker_reads_and_writes_a_store_and_survives_what_is_broken(
    tiny_run: Path, tmp_path: Path
) -> None:
    """In a store of memory: as in a folder, and byte for byte as a single process does it."""
    good, broken = make_videos(tmp_path / "in", ["a.mp4", "broken.mp4"])
    out = tmp_path / "single"
    words = ["--formats", "npz", "--fov", "60", "--device", "cpu"]
    assert main(["predict", str(tiny_run), str(good), "--out", str(out), *words]) == 0
    memory = fsspec.filesystem("memory")
    memory.pipe({"/in/a.mp4": good.read_bytes(), "/in/broken.mp4": broken.read_bytes()})
    files = _run_files(tiny_run)
    tally = Tally()
    worker = VideoWorker(files, SMALL, "memory://out", tally)
    store, summary = worker.store, BatchSummary(3)
    with store.claimed(_identity(files, SMALL)):
        assert store.done() == {}
        for video in list_videos("memory://in/*"):
            summary.add(worker.process(video))
    summary.add(worker.process(Video("gone.mp4", "memory://in/gone.mp4")))
    assert (summary.done, summary.frames, len(summary.failed), summary.left) == (1, COUNT, 2, 0)
    assert [json.loads(line)["error"] for line in summary.failed_lines().splitlines()] == [
        "cannot read the video memory:///in/broken.mp4: Invalid data found when processing input",
        "there is no video memory://in/gone.mp4",
    ]  # fmt: skip
    assert {name for name, *_ in summary.stages()} > {"fetching", "network", "uploading"}
    assert [*store.done()] == ["a.mp4"]
    found = {k.removeprefix("/out/a.mp4/"): memory.cat(k) for k in memory.find("/out/a.mp4")}
    assert found == files_of(out)
    (first, *_) = list_videos("memory://in/*")
    assert worker.process(first)["frames"] == COUNT and tally._counts["a.mp4"] == 1  # not again
    assert [
        worker.process(Video("broken.mp4", "memory://in/broken.mp4"))["error"]
        for _ in range(MAX_TRIES)
    ][-1].startswith(f"{MAX_TRIES} processes ended without a word")
    with (
        pytest.raises(EgodepthError, match="with another formats"),
        store.claimed(_identity(files, Job(formats=("png",), fov=60.0))),
    ):
        pass


def test_resources_are_shared_among_actors() -> None:
    nodes = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}]
    assert Session(nodes, None).resources(None, None, "auto") == (8, 4, 1)
    assert Session(nodes, None).resources(None, None, "cpu") == (2, 16, 0)
    assert Session([{"CPU": 2.0}], None).resources(3, None, "auto") == (3, 1, 0)
    with pytest.raises(EgodepthError, match="no machine has more than 16"):
        Session(nodes, None).resources(None, 17, "auto")
    with pytest.raises(EgodepthError, match="knows of no GPU"):
        Session([{"CPU": 2.0}], None).resources(None, None, "cuda")


def test_only_what_hangs_is_noticed() -> None:
    """Frames that come, and another video's turn, may take longer than the limit all together."""
    watch, hung, lock = Stopwatch(), Event(), Lock()
    with watched(watch, 0.5, hung.set):
        for _ in range(8):
            time.sleep(0.1)
            watch.add("decoding", 0.1)
        lock.acquire()
        Timer(0.8, lock.release).start()
        with turn(lock, watch):
            assert not hung.is_set()
            assert hung.wait(5)
    tally = Tally()
    tally.begin("other.mp4")
    tally.give_up("hangs.mp4", "it hangs")
    assert [tally.begin(n) for n in ("hangs.mp4", *["other.mp4"] * MAX_TRIES)] == [
        "it hangs",
        *[""] * MAX_TRIES,
    ]


def test_what_a_failed_start_left_running_is_ended(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    code = [sys.executable, "-c", "import time; time.sleep(60)"]
    left, other = (subprocess.Popen([*code, name]) for name in (f"--dir={tmp_path}/ray", "other"))
    try:
        end_processes(tmp_path)
        assert left.poll() is not None and other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
def test_ray_loses_nothing_when_an_actor_is_killed(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("ray.data", reason="ray[data] is not installed")
    monkeypatch.setenv(
        "PYTHONPATH", f"{Path(__file__).parents[1] / 'src'}:{Path(__file__).parents[1]}"
    )
    make_videos(tmp_path / "in", ["a.mp4", "bb.mp4", "broken.mp4", "ccc.mp4"])
    words = [f"{tmp_path}/in/*.mp4", "--formats", "npz", "--fov", "60", "--device", "cpu"]
    out = tmp_path / "out"
    killed = list[int]()

    class Killer:
        """Kills the actor after its first video."""

        def show(self, phase: egodepth.Phase) -> None:
            markers = sorted((out / "_batch" / "done").glob("*.json"))
            if markers and not killed:
                killed.append(int(json.loads(markers[0].read_text())["process"].split(":")[1]))
                os.kill(killed[0], signal.SIGKILL)

        def note(self, text: str) -> None:
            pass

    from egodepth.cluster.batch import batch_predict

    with egodepth.reporting(Killer()), socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = f"http://127.0.0.1:{silent.getsockname()[1]}/hangs.mp4"
        summary = batch_predict(
            tiny_run,
            [words[0], hangs],
            out,
            formats=["npz"],
            fov=60.0,
            device="cpu",
            hang_seconds=15,
        )
    assert killed and (summary.done, summary.left, len(summary.failed)) == (3, 0, 2)
    broken, hung = map(json.loads, (out / "failed.jsonl").read_text().splitlines())
    assert broken["name"] == "broken.mp4" and hung["name"] == "hangs.mp4"
    assert hung["error"].startswith("no frame in 15 s")
    for name in ("a.mp4", "ccc.mp4"):
        single = tmp_path / "single" / name
        command = ["predict", str(tiny_run), str(tmp_path / "in" / name), "--out", str(single)]
        assert main([*command, *words[1:]]) == 0
        assert files_of(out / name) == files_of(single)
    assert list((out / "_batch").glob("partial")) == []
    (tmp_path / "in" / "broken.mp4").unlink()
    assert main(["batch", "predict", str(tiny_run), *words, "--out", str(out)]) == 0
    assert "0 of 3 videos are done, 3 were before" in capsys.readouterr().out


def test_without_ray_one_line_says_what_to_install(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(__import__("sys").modules, "ray.data", None)
    assert main(["batch", "predict", str(tiny_run), "x.mp4", "--out", str(tmp_path / "o")]) == 1
    assert "pip install 'egodepth[cluster]'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
