"""A camera that runs: a video file is played at its own speed in its place."""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.test_cli import run
from tests.test_view import get

from egodepth.core.errors import EgodepthError
from egodepth.core.video import VideoWriter
from egodepth.data.footage.live_camera import LiveCamera
from egodepth.runs.run import Run
from egodepth.view.live import LiveView


def make_video(path: Path, count: int, rate: int) -> Path:
    with VideoWriter(path, rate) as video:
        for index in range(count):
            video.write(np.full((32, 64, 3), 10 + 8 * index, np.uint8))
    return path


def test_frames_that_come_meanwhile_are_dropped(tmp_path: Path) -> None:
    """20 frames in one second, of which a slow reader gets the newest ones."""
    camera = LiveCamera(str(make_video(tmp_path / "drive.mp4", 20, 20)))
    started = time.perf_counter()
    numbers = []
    for frame in camera:
        numbers.append(frame.number)
        assert abs(int(frame.image.mean()) - (10 + 8 * frame.number)) < 8
        time.sleep(0.2)
    assert 0.7 < time.perf_counter() - started < 4 and camera.seen == 20
    assert numbers == sorted(set(numbers)) and 3 <= len(numbers) < 12 and numbers[-1] == 19


def test_the_page(tiny_run: Path, tmp_path: Path) -> None:
    camera = LiveCamera(str(make_video(tmp_path / "drive.mp4", 30, 2)))
    view = LiveView(Run.load(tiny_run), camera)
    try:
        (tmp_path / "frame.jpg").write_bytes(get(view, "frame"))  # type: ignore[arg-type]
        picture = np.asarray(Image.open(tmp_path / "frame.jpg"))
        assert picture.shape == (64, 64, 3)  # the image above its depth
        assert np.ptp(picture[:30].astype(int)) < 12 and np.ptp(picture[34:].astype(int)) > 20
        assert json.loads(get(view, "state.json"))["ended"] is False  # type: ignore[arg-type]
        assert b"egodepth live" in get(view, "")  # type: ignore[arg-type]
    finally:
        view.stop()
    assert view.frames >= 1 and view.problem == ""


def test_steady(tiny_run: Path, tmp_path: Path) -> None:
    """Odometry runs along, with the run's camera; a frame of one colour has no pose, which does not end it."""
    camera = LiveCamera(str(make_video(tmp_path / "drive.mp4", 4, 4)))
    view = LiveView(Run.load(tiny_run), camera, steady=True)
    view.wait()
    view.stop()
    assert view.frames >= 1 and view.problem == ""


def test_browsers_that_wait_for_a_frame_hold_up_nobody(tiny_run: Path, tmp_path: Path) -> None:
    """There are 40 threads for requests; 60 wait while the camera stalls."""
    camera = LiveCamera(str(make_video(tmp_path / "drive.mp4", 3, 30)))
    view = LiveView(Run.load(tiny_run), camera)
    view.wait()
    view.ended = False  # as if no frame came for a while
    waiting = [
        threading.Thread(target=urlopen_quietly, args=(view.address + "frame",)) for _ in range(60)
    ]
    try:
        for browser in waiting:
            browser.start()
        time.sleep(0.5)
        started = time.perf_counter()
        assert json.loads(get(view, "state.json"))["frames"] >= 1  # type: ignore[arg-type]
        assert time.perf_counter() - started < 2
    finally:
        view.ended = True
        for browser in waiting:
            browser.join()
        view.stop()


@pytest.mark.parametrize("source", ["/nowhere/drive.mp4", "/dev/video97", "97"])
def test_nothing_there(source: str) -> None:
    with pytest.raises(EgodepthError, match=f"cannot open {source}: .*number of a camera"):
        LiveCamera(source)


def test_the_command(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = make_video(tmp_path / "drive.mp4", 15, 10)
    command = [sys.executable, "-m", "egodepth.cli", "live", str(tiny_run), str(video)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        line = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line
        with urllib.request.urlopen(address[0] + "frame", timeout=20) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"
        assert process.wait(60) == 0
        assert re.search(r"of 15 frames", process.stdout.read())
    status, _, error = run(capsys, "live", tiny_run, video, "--backend", "openvino-int8")
    assert status == 2 and "--backend must be one of torch" in error


def test_ctrl_c_ends_it_while_a_browser_waits_for_a_frame(tiny_run: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "drive.mp4", 30, 1)
    command = [sys.executable, "-m", "egodepth.cli", "live", str(tiny_run), str(video)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell lets what it starts in the background ignore the signal, and so all below it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        assert process.stderr is not None and process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
        assert address
        asked = threading.Thread(target=urlopen_quietly, args=(address[0] + "frame",), daemon=True)
        urllib.request.urlopen(address[0] + "frame", timeout=20).read()
        asked.start()
        time.sleep(0.2)
        started = time.perf_counter()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130 and time.perf_counter() - started < 15
        assert process.stderr.read() == "" and "of" in process.stdout.read()


def urlopen_quietly(address: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        urllib.request.urlopen(address, timeout=20).read()
