"""The page that one looks at, by requests and in a real browser."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.conftest import write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.sources import read_source
from egodepth.data.synthetic.street import read_street
from egodepth.evaluation.depth import PROTOCOLS
from egodepth.inference.odometry.known_length import CameraHeight, MeanSpeed
from egodepth.inference.predict import predict_sequence
from egodepth.inference.scoring.depth_scores import evaluate_depth
from egodepth.runs.run import Run
from egodepth.view.server import View
from egodepth.view.session import Session

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FRAMES = 6


@pytest.fixture(scope="module")
def view(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """Two sequences; the first has ground truth for one frame."""
    base = tmp_path_factory.mktemp("view")
    write_images(base / "first" / "images", FRAMES)
    (base / "first" / "depth").mkdir()
    np.save(base / "first" / "depth" / "000002.npy", np.full((40, 80), 3.0, np.float32))
    write_images(base / "second", 4)
    sequences = [
        read_source(base / name)[0].with_fov(60).with_fps(10) for name in ("first", "second")
    ]
    shown = View(Run.load(tiny_run), sequences, MeanSpeed(2.0), PROTOCOLS["indoor"])
    shown.session.wait(60)
    yield shown
    shown.stop()


def get(view: View, path: str, **headers: str) -> bytes:
    request = urllib.request.Request(view.address + path, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        body: bytes = answer.read()
        return body


def test_what_the_page_gets(view: View) -> None:
    state = json.loads(get(view, "state.json"))
    assert state["numbers"] == list(range(FRAMES)) and state["poses"] and state["points"] > 0
    assert state["problem"] == state["state"] == "" and "2 m/s" in state["unit"]
    assert [bool(scores) for scores in state["scores"]] == [i == 2 for i in range(FRAMES)]
    depth = np.frombuffer(get(view, "depth/3"), "<f4").reshape(
        state["depth_height"], state["depth_width"]
    )
    run = view.session.run
    frame = next(iter(view.session.sequence.frames.at([3])))
    expected = run.depth(frame.image, depth.shape) * np.float32(view.session.unit.factor)
    np.testing.assert_allclose(depth, expected, rtol=0.05)
    assert get(view, "image/3")[:3] == b"\xff\xd8\xff"
    about = json.loads(get(view, "about.json"))
    assert about["sequences"] == ["first", "second"] and "total" in about["curves"]
    assert len(about["maps"]["turbo"]) == 3 * 256


def test_for_this_machine_alone(view: View) -> None:
    """Neither reachable from outside nor by another name, which a foreign page could point here."""
    assert view.address.startswith("http://127.0.0.1:")
    for path, headers, status in (
        ("state.json", {"Host": "evil.example:80"}, 403), ("image/99", {}, 404), ("../etc", {}, 404),
    ):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(view, path, **headers)
        assert caught.value.code == status


@pytest.fixture(scope="module")
def page(view: View) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.wrong = []
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.goto(view.address)
        page.wait_for_function("document.getElementById('label').textContent.startsWith('frame 0')")
        yield page
        browser.close()


def test_dragging_the_divider(page: Any) -> None:
    box = page.locator("#picture").bounding_box()
    across, middle = box["x"] + 0.5 * box["width"], box["y"] + 0.3 * box["height"]
    page.mouse.move(across, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], middle, steps=4)
    page.mouse.up()
    assert abs(int(page.locator("#divider").get_attribute("aria-valuenow")) - 20) <= 1
    # Right of it there is depth, left of it the image, which is grey noise of a few colours.
    pixels = page.evaluate(
        "[0.1, 0.9].map(s => [...document.getElementById('picture').getContext('2d')"
        ".getImageData(s * document.getElementById('picture').width, 5, 1, 1).data])"
    )
    assert pixels[0] != pixels[1]
    page.keyboard.press("Shift+ArrowRight")
    assert abs(int(page.locator("#divider").get_attribute("aria-valuenow")) - 22) <= 1


def test_depth_under_the_cursor(page: Any, view: View) -> None:
    box = page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    text = page.locator("#reading").text_content()
    found = re.fullmatch(r"([\d.]+) ± ([\d.]+) m at (\d+), (\d+)", text)
    assert found and abs(int(found[3]) - 60) <= 1 and abs(int(found[4]) - 20) <= 1
    frame = view.session.frames[0]
    height, width = frame.depth.shape
    depth, deviation = (
        float(values[height // 2, 3 * width // 4]) for values in (frame.depth, frame.deviation)
    )
    places = found[1].partition(".")[2]
    rounded = 10 ** -len(places)
    assert rounded <= depth * deviation < 20 * rounded
    assert float(found[1]) == pytest.approx(depth, rel=0.02, abs=rounded)
    assert float(found[2]) == pytest.approx(depth * deviation, rel=0.02, abs=rounded)
    page.mouse.move(5, 5)
    assert not page.locator("#reading").is_visible()


def test_keyboard_slider_and_colours(page: Any) -> None:
    page.locator("body").click(position={"x": 3, "y": 3})
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.getElementById('label').textContent.startsWith('frame 2')")
    assert "this frame" in page.locator("#scores").text_content()
    page.locator("#time").fill("4")
    page.wait_for_function("document.getElementById('label').textContent.startsWith('frame 4')")
    look = "document.getElementById('picture').toDataURL()"
    before = page.evaluate(look)
    page.keyboard.press("c")
    assert page.locator("#map").input_value() == "viridis" and page.evaluate(look) != before
    before = page.evaluate(look)
    page.locator("#layer").select_option("confidence")
    assert page.evaluate(look) != before
    assert "± 2 % or less" in page.locator("#near").text_content()
    page.locator("body").click(position={"x": 3, "y": 3})
    page.keyboard.press("d")
    assert page.evaluate(look) == before
    page.locator("body").click(position={"x": 3, "y": 3})
    page.keyboard.press("Space")
    page.wait_for_function("!document.getElementById('label').textContent.startsWith('frame 4')")
    page.keyboard.press("Space")


def test_the_scene_is_there_and_nothing_comes_from_elsewhere(page: Any) -> None:
    scene = next(frame for frame in page.frames if "darkMode" in frame.url)
    scene.wait_for_selector("canvas", timeout=20_000)
    assert {url.split("/")[2].split(":")[0] for url in page.asked if "//" in url} == {"127.0.0.1"}
    assert page.wrong == []


def test_a_phone_needs_no_scrolling_sideways(page: Any, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    assert Image.open(tmp_path / "phone.png").width == 390
    page.set_viewport_size({"width": 1200, "height": 900})


def test_another_sequence(page: Any) -> None:
    """Also where its frames are slow to come, nothing of the first one is shown with it."""
    page.locator("#time").fill("0")
    page.wait_for_function("document.getElementById('label').textContent.startsWith('frame 0')")
    page.evaluate(
        "() => { const load = window.load; window.load = async (index) => {"
        " await new Promise((go) => setTimeout(go, 500)); return load(index); }; }"
    )
    page.locator("#sequence").select_option("second")
    page.wait_for_function("document.getElementById('time').max === '3'")
    page.wait_for_function("document.getElementById('label').textContent.startsWith('frame 0')")
    assert "none with this footage" in page.locator("#scores").text_content()


def test_a_port_that_is_taken(view: View, tiny_run: Path, tmp_path: Path) -> None:
    port = int(view.address.rstrip("/").rpartition(":")[2])
    write_images(tmp_path / "frames", 2)
    sequence = read_source(str(tmp_path / "frames"))[0]
    with pytest.raises(EgodepthError, match=f"port {port} is taken; choose another by --port"):
        View(Run.load(tiny_run), [sequence.with_fov(60)], port=port)
    with pytest.raises(EgodepthError, match="--port must be between 0 and 65535, got 70000"):
        View(Run.load(tiny_run), [sequence.with_fov(60)], port=70000)


@pytest.mark.parametrize("truth", ["depth", "improved"])
def test_scores_are_those_of_the_protocol(
    tiny_run: Path, tmp_path: Path, truth: Literal["depth", "improved"]
) -> None:
    """Abs Rel is that of ``evaluate depth``, by the ground truth that the protocol names."""
    write_images(tmp_path / "frames", 3)
    run = Run.load(tiny_run)
    (sequence,) = run.open(tmp_path / "frames")

    def ramp(slope: float) -> np.ndarray:
        return 2 + slope * np.add.outer(np.arange(20.0), np.arange(40.0)).astype(np.float32)

    sequence = replace(
        sequence,
        depth={1: lambda: ramp(0.1)},
        improved_depth={1: lambda: ramp(0.3), 2: lambda: ramp(0.5)},
    )
    protocol = replace(PROTOCOLS["indoor"], truth=truth)
    session = Session(run, sequence, None, protocol)
    session.wait(60)
    found = {f.number: f.scores["abs_rel"] for f in session.frames if f.scores}
    wanted = {
        s.frame: s.scores["abs_rel"] for s in evaluate_depth(run, [sequence], protocol).images
    }
    assert found == pytest.approx(wanted, rel=1e-5) and len(found) == (1 if truth == "depth" else 2)


def test_steady_depth_is_that_of_predict(tiny_run: Path) -> None:
    run, street = Run.load(tiny_run, "cpu"), read_street(3, frames=3)
    session = Session(run, street, steady=True)
    session.wait(60)
    plain, steady = (
        [seen.depth for seen in predict_sequence(run, street, steady=steady, motion="network")][2]
        for steady in (False, True)
    )
    height, width = session.frames[2].depth.shape
    found = session.frames[2].depth.astype(np.float32)
    off = [np.abs(cv2.resize(d, (width, height)) / found - 1).mean() for d in (plain, steady)]
    assert off[1] < 0.2 * off[0]


def test_a_length_that_tells_no_unit_is_said_and_all_is_shown(
    tiny_run: Path, tmp_path: Path
) -> None:
    write_images(tmp_path / "frames", 4)
    footage = read_source(tmp_path / "frames")[0].with_fov(60)
    with pytest.warns(EgodepthWarning, match="what is shown is in the run's own unit"):
        session = Session(Run.load(tiny_run), footage, CameraHeight(1.5))
        session.wait(60)
    found = session.describe()
    assert not found["problem"] and found["points"] and found["symbol"] == "units"
    assert found["unit"].startswith("the run's unit (the ground was found in")


def test_a_problem_is_shown(tiny_run: Path, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "frames", 3)
    paths[1].write_bytes(b"no image")
    sequence = read_source(str(tmp_path / "frames"))[0].with_fov(60)
    shown = View(Run.load(tiny_run), [sequence])
    shown.session.wait(60)
    assert "000001.png" in json.loads(get(shown, "state.json"))["problem"]
    shown.stop()


def test_the_command_runs_until_it_is_interrupted(tiny_run: Path, tmp_path: Path) -> None:
    """Without a source it shows what the run was trained on."""
    command = [sys.executable, "-m", "egodepth.cli", "view", str(tiny_run)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
        # A shell lets what it starts in the background ignore the signal, and so all below it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert address, line
        browser = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=20)
        browser.request("GET", "/state.json")
        state = json.loads(browser.getresponse().read())
        assert state["sequence"] == "frames"
        process.send_signal(signal.SIGINT)  # while the browser keeps its connection
        assert process.wait(20) == 130
        assert process.stderr.read() == ""


def test_the_command_may_be_interrupted_while_it_predicts(tiny_run: Path, tmp_path: Path) -> None:
    """Neither waits for the rest of the footage, nor aborts with threads that hold a lock."""
    write_images(tmp_path / "frames", 400)
    command = [
        sys.executable, "-m", "egodepth.cli", "view", str(tiny_run), str(tmp_path / "frames"),
        "--odometry",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
        assert address
        for _ in range(200):
            state = json.loads(urllib.request.urlopen(address[0] + "state.json", timeout=20).read())
            if state["numbers"]:
                break
            time.sleep(0.1)
        assert state["state"] == "predicting depth"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""
