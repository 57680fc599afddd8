"""Every command meets footage as the run's camera sees it, its lens undone; every command knows hf:."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.conftest import tiny_settings, write_images

import egodepth
from egodepth.cli import main, parsing
from egodepth.cli.command import Positional
from egodepth.cli.parsing import load_command
from egodepth.core.errors import EgodepthWarning
from egodepth.core.video import VideoWriter
from egodepth.data.footage.own_footage import write_camera
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens
from egodepth.models.networks import DepthNet
from egodepth.refine import SampleRefinement, refine_samples
from egodepth.runs import confidence_fit
from egodepth.view.server import View

HEIGHT, WIDTH, COUNT = 80, 160, 5
FOCAL = 90.0
LENS = Lens("brown", (-0.3, 0.09, 0.0, 0.0, 0.0))
CAMERA = Camera.from_parameters(FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, HEIGHT, WIDTH)


def picture(rays: np.ndarray, index: int) -> np.ndarray:
    """What is seen along rays (H, W, 2), (x, y) at z = 1, in the frame of a number."""
    x, y = rays[..., 0] + 0.03 * index, rays[..., 1]
    waves = [np.sin(17 * x + 3 * y), np.sin(13 * y - 5 * x), np.cos(11 * x) * np.cos(19 * y)]
    return (127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def pixels() -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).astype(np.float64)


def bent(index: int) -> np.ndarray:
    """A frame behind the lens: the ray of each pixel is found by iteration."""
    fx, fy, cx, cy = CAMERA.focal_and_centre.double().tolist()
    pictured = (pixels() - [cx, cy]) / [fx, fy]
    rays, (k1, k2, *_) = pictured, LENS.coefficients
    for _ in range(100):
        squared = (rays**2).sum(-1, keepdims=True)
        rays = pictured / (1 + k1 * squared + k2 * squared**2)
    return picture(rays, index)


def straight(index: int, camera: Camera) -> np.ndarray:
    """The same frame without a lens."""
    fx, fy, cx, cy = camera.focal_and_centre.double().tolist()
    return picture((pixels() - [cx, cy]) / [fx, fy], index)


@pytest.fixture(scope="module")
def bent_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose camera has a lens."""
    run = tmp_path_factory.mktemp("bent") / "run"
    shutil.copytree(tiny_run, run)
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["data"] |= {"augment": False, "fov": None}
    tree |= {"steps": 2}
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    write_camera(run / "camera.yaml", CAMERA, LENS)
    return run


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bent frames with depth and poses, but without a camera."""
    folder = tmp_path_factory.mktemp("footage") / "drive"
    for name in ("images", "depth"):
        (folder / name).mkdir(parents=True)
    poses = []
    for index in range(COUNT):
        Image.fromarray(bent(index)).save(folder / "images" / f"{index:06d}.png")
        np.save(folder / "depth" / f"{index:06d}.npy", np.full((HEIGHT, WIDTH), 5.0, np.float32))
        pose = np.eye(4)[:3]
        pose[0, 3], pose[2, 3] = 0.1 * index**1.5, 0.3 * index
        poses.append(" ".join(f"{value:.6f}" for value in pose.ravel()))
    (folder / "poses.txt").write_text("\n".join(poses) + "\n")
    (folder / "camera.yaml").write_text("poses_unit: metres\n")
    return folder


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Images (H, W, 3) that reach DepthNet, from 0 to 255."""
    images: list[np.ndarray] = []

    def watch(name: str) -> None:
        run = getattr(DepthNet, name)

        def record(self: DepthNet, image: torch.Tensor, *rest: object, **more: object) -> object:
            images.extend(image.detach().float().permute(0, 2, 3, 1).cpu().numpy() * 255)
            return run(self, image, *rest, **more)

        monkeypatch.setattr(DepthNet, name, record)

    watch("forward")
    watch("with_features")
    watch("with_summary")
    return images


def check_straight(seen: list[np.ndarray], camera: Camera) -> None:
    """Every image is nearer to a straight frame than to any bent one, by far."""
    assert seen
    height, width = seen[0].shape[:2]

    def shrunk(frames: Iterator[np.ndarray]) -> np.ndarray:
        return np.stack(
            [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]
        )

    wanted = shrunk(straight(i, camera) for i in range(COUNT)).astype(float)
    wrong = shrunk(bent(i) for i in range(COUNT)).astype(float)
    for image in seen:
        to_wanted, to_wrong = (np.abs(f - image).mean((1, 2, 3)).min() for f in (wanted, wrong))
        assert to_wanted < 0.4 * to_wrong, (to_wanted, to_wrong)


def watch_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages end when all has been shown."""
    monkeypatch.setattr(View, "wait", lambda self: self.session.wait(60))

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)


COMMANDS: dict[str, list[str]] = {
    "predict": ["--out", "OUT"],
    "confidence": ["--out", "OUT", "--steps", "1"],
    "odometry": ["--out", "OUT"],
    "refine": ["--out", "OUT", "--iterations", "1", "--device", "cpu"],
    "refine split": ["--out", "OUT", "--mode", "split", "--epochs", "0.1", "--device", "cpu"],
    "landscape": ["--frame", "3", "--out", "OUT", "--radius", "2", "--count", "4"],
    "export points": ["--out", "OUT.ply", "--depth", "network"],
    "export mesh": ["--out", "OUT.ply", "--depth", "network"],
    "export colmap": ["--out", "OUT", "--depth", "network", "--every", "1"],
    "export nerfstudio": ["--out", "OUT", "--depth", "network", "--every", "1"],
    "export rerun": ["--out", "OUT.rrd", "--depth", "network"],
    "view": [],
    "live": [],
    "evaluate depth": ["--protocol", "indoor"],
    "evaluate odometry": ["--by", "alignment"],
}


def words_of(name: str, run: str, source: Path, out: Path) -> list[str]:
    """A command line."""
    rest = [word.replace("OUT", str(out)) for word in COMMANDS[name]]
    verbs = name.removesuffix(" split").split()
    where = ["--data", str(source)] if verbs[0] == "evaluate" else [str(source)]
    return [*verbs, run, *where, *rest]


ENDED = {"view": 130}
"""Exit status of commands that only Ctrl-C ends."""


def call(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


def positional(name: str) -> set[str]:
    """Placeholders of a command's arguments that are no options."""
    fields = load_command(name).model_fields.values()
    return {part.text for f in fields for part in f.metadata if isinstance(part, Positional)}


def commands(wanted: Callable[[set[str]], bool]) -> set[str]:
    """Names of all commands whose arguments are as wanted."""
    return {name for name in parsing.COMMANDS if wanted(positional(name))}


def test_every_command_with_a_run_and_footage_is_looked_at() -> None:
    both = commands(lambda names: {"RUN", "SOURCE"} <= names)
    scored = commands(lambda names: any(name.startswith("RUN|") for name in names))
    assert both | scored == {name.removesuffix(" split") for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_see_straight_frames(
    name: str, bent_run: Path, footage: Path, tmp_path: Path, seen: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if name == "export rerun":
        pytest.importorskip("rerun")
    watch_pages(monkeypatch)
    source = footage
    if name == "live":
        source = tmp_path / "drive.mp4"
        with VideoWriter(source) as video:
            for index in range(COUNT):
                video.write(bent(index), index / 10)
    if name == "landscape":  # ground truth tells its matches, where there is some
        source = footage / "images"
    if name.split()[0] in (
        "confidence",
        "refine",
    ):  # which varies the colours of what it learns from
        monkeypatch.setattr(confidence_fit, "_vary", lambda images, _: images)
    camera = egodepth.load(bent_run).open(footage / "images")[0].camera
    assert camera is not None
    seen.clear()
    status = call(words_of(name, str(bent_run), source, tmp_path / "out"))
    said = capsys.readouterr()
    assert status == ENDED.get(name, 0), said.err
    check_straight(seen, camera)


def test_python_sees_straight_frames(bent_run: Path, footage: Path, seen: list[np.ndarray]) -> None:
    """Footage that was read without the run is opened by whatever takes both."""
    run = egodepth.load(bent_run)
    (sequence,) = egodepth.read_source(footage)
    camera = run.open(sequence)[0].camera
    assert sequence.camera is None and camera is not None
    known = egodepth.MeasuredDistance(0, 80.0, 40.0, 3.0)
    for look in (
        lambda: list(egodepth.predict_sequence(run, sequence)),
        lambda: egodepth.find_unit(run, sequence, known),
        lambda: egodepth.track_sequence(run, sequence),
        lambda: egodepth.evaluate_depth(run, [sequence], "indoor"),
        lambda: egodepth.evaluate_odometry(run, sequence, by="alignment"),
        lambda: list(refine_samples(bent_run, sequence, SampleRefinement(1), device="cpu")),
    ):
        seen.clear()
        look()
        check_straight(seen, camera)


WITHOUT_FOOTAGE = {
    "export hub": ["--out", "OUT"],
    "export onnx": ["--out", "OUT.onnx"],
    "report": ["--out", "OUT.html"],
}


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of several cameras, as it is saved for the hub."""
    folder = tmp_path_factory.mktemp("exported")
    run = folder / "run"
    shutil.copytree(tiny_run, run)
    for name in ("north/drive", "south/drive"):
        (run / "cameras" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / "camera.yaml", run / "cameras" / f"{name}.yaml")
    assert call(["export", "hub", str(run), "--out", str(folder / "hub")]) == 0
    return folder / "hub"


@pytest.fixture
def hub(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``hf:me/drive`` downloads."""

    def play(name: str, **how: object) -> str:
        assert name == "me/drive"
        return str(exported)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", play)
    return exported


def test_every_command_with_a_run_is_looked_at() -> None:
    taken = commands(lambda names: any(name.split("|")[0] == "RUN" for name in names))
    looked_at = {name.removesuffix(" split") for name in COMMANDS} | WITHOUT_FOOTAGE.keys()
    elsewhere = {
        "ros",
        "batch predict",
        "batch odometry",
    }  # need rclpy and Ray: test_robot_log, test_batch
    assert taken - elsewhere == looked_at


@pytest.mark.parametrize("name", [*COMMANDS, *WITHOUT_FOOTAGE])
def test_commands_know_the_hub(
    name: str, hub: Path, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for kind, package in (("rerun", "rerun"), ("onnx", "onnx")):
        if name == f"export {kind}":
            pytest.importorskip(package)
    watch_pages(monkeypatch)
    if name in COMMANDS:
        source = tmp_path / "drive.mp4" if name == "live" else footage
        if name == "live":
            with VideoWriter(source) as video:
                video.write(bent(0), 0.0)
        words = words_of(name, "hf:me/drive", source, tmp_path / "out")
    else:
        rest = [word.replace("OUT", str(tmp_path / "out")) for word in WITHOUT_FOOTAGE[name]]
        words = [*name.split(), "hf:me/drive", *rest]
    assert call(words) == ENDED.get(name, 0), capsys.readouterr().err


def test_python_knows_the_hub(hub: Path, footage: Path, tmp_path: Path) -> None:
    run = egodepth.load("hf:me/drive")
    assert run.folder.name == "me/drive"
    assert set(run.folder.camera_files()) == {"", "north/drive", "south/drive"}
    (sequence,) = run.open(footage)
    how = SampleRefinement(1)
    assert list(refine_samples("hf:me/drive", sequence, how, frames=[2], device="cpu"))
    write_images(tmp_path / "frames", 5)
    settings = tiny_settings(tmp_path / "frames", steps=1, init="hf:me/drive")
    assert egodepth.train(settings, tmp_path / "on").steps == 1
    words = [
        "train",
        str(tmp_path / "frames"),
        "--init",
        "hf:me/drive",
        "--out",
        str(tmp_path / "cli"),
    ]
    settings_of_test = [
        "--steps",
        "1",
        "--precision",
        "float32",
        "--device",
        "cpu",
        "--data.fov",
        "60",
    ]
    assert call([*words, *settings_of_test, "--minutes", "null", "--method", "photometric"]) == 0


def test_an_image_alone_is_taken_as_it_is(bent_run: Path, tiny_run: Path, footage: Path) -> None:
    files = sorted((footage / "images").iterdir())
    run = egodepth.load(bent_run)
    for look in (lambda: run.depth(files[0]), lambda: run.motion(files[0], str(files[1]))):
        with pytest.warns(EgodepthWarning, match=r"has lens distortion: .*run\.open"):
            look()
    frame = next(iter(run.open(files[0])[0].frames.at()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.depth(frame.image)
        egodepth.load(tiny_run).depth(files[0])
