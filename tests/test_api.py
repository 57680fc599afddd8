"""Wrong arguments from Python end in one clear line, like wrong words on the command line."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import write_images

import egodepth
from egodepth import CameraHeight, EgodepthError, GpsTrack, MeanSpeed, MeasuredDistance
from egodepth.data.sequence import Sequence
from egodepth.runs.run import Run

CALLABLE = sorted(
    set(egodepth.__all__) - {"EgodepthError", "KnownLength", "Phase", "Reporter", "reporting"}
)
"""Those that users call with arguments of their own."""


@pytest.fixture(scope="session")
def model(tiny_run: Path) -> Run:
    return Run.load(tiny_run)


@pytest.fixture
def footage(tmp_path: Path) -> Sequence:
    write_images(tmp_path / "frames", 4)
    return egodepth.read_source(tmp_path / "frames")[0]


def test_sources_are_paths_or_words(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 2)
    for source in (tmp_path / "frames", str(tmp_path / "frames")):
        assert len(egodepth.read_source(source)) == 1
    assert len(egodepth.read_source("frames", str(tmp_path))) == 1
    for wrong in ([tmp_path / "frames"], None, 3, b"frames", ""):
        with pytest.raises(EgodepthError, match="a source is one path, address or KIND:ROOT"):
            egodepth.read_source(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanSpeed(-3), "speed must be a number above zero, got -3"),
        (lambda: MeanSpeed(0), "above zero"),
        (lambda: MeanSpeed(float("nan")), "above zero"),
        (lambda: MeanSpeed(float("inf")), "above zero"),
        (lambda: MeanSpeed("14"), "above zero, got '14'"),  # type: ignore[arg-type]
        (lambda: CameraHeight(True), "above zero"),
        (lambda: CameraHeight(-1.5), "camera height must be a number above zero"),
        (lambda: GpsTrack(3), "gps must be the path"),  # type: ignore[arg-type]
        (lambda: MeasuredDistance(3, 1, 1, "far"), "four numbers"),  # type: ignore[arg-type]
        (lambda: MeasuredDistance(3.5, 1, 1, 2), "whole number"),  # type: ignore[arg-type]
        (lambda: MeasuredDistance(3, 1, 1, -2), "distance must be a number above zero"),
        (lambda: MeasuredDistance(3, float("nan"), 1, 2), "a pixel"),
    ],
)
def test_a_known_length_is_above_zero(make: Callable[[], object], message: str) -> None:
    with pytest.raises(EgodepthError, match=message):
        make()


def test_a_known_length_says_what_it_can_be() -> None:
    with pytest.raises(EgodepthError, match=r"one of egodepth\.CameraHeight\(METRES\), MeanSpeed"):
        egodepth.KnownLength(speed=14)


def test_known_lengths_that_are_right() -> None:
    assert MeanSpeed(np.float32(2)).metres_per_second == 2  # type: ignore[arg-type]
    assert GpsTrack("a.gpx").path == Path("a.gpx")  # type: ignore[arg-type]
    assert MeasuredDistance(3.0, 1, 2, 5).frame == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run, s: run.depth([[1]]), "an image must be a path"),
        (lambda run, s: run.depth(None), "an image must be a path"),
        (lambda run, s: run.depth(np.zeros((4, 4), np.uint8)), r"\(H, W, 3\) uint8, got \(4, 4\)"),
        (lambda run, s: run.depth(np.zeros((4, 4, 3))), "float64"),
        (lambda run, s: run.depth(np.zeros((0, 4, 3), np.uint8)), "must have pixels"),
        (lambda run, s: run.depth(np.zeros((8, 8, 3), np.uint8), 5), "size must be height and width"),
        (lambda run, s: run.depth(np.zeros((8, 8, 3), np.uint8), (0, 5)), "size must be height"),
        (lambda run, s: run.motion(None, 3), "an image must be a path"),
        (lambda run, s: run.to(3), "device must be auto, cpu, cuda or cuda:N, got int"),
        (lambda run, s: run.to("gpu"), "unknown device 'gpu'"),
        (lambda run, s: egodepth.train(egodepth.get_recipe("footage"), ""), "it is an empty text"),
        (lambda run, s: egodepth.load(None), "folder must be the path of a run"),
        (lambda run, s: egodepth.load("/nowhere"), "/nowhere"),
        (lambda run, s: egodepth.find_unit(run, s, 14), "known must be a CameraHeight, MeanSpeed"),
        (lambda run, s: egodepth.find_unit(run, [s]), "an item of the list that read_source gives"),
        (lambda run, s: egodepth.find_unit("runs/a", s), r"run must be a Run, egodepth\.load\(FOLDER\)"),
        (lambda run, s: list(egodepth.predict_sequence(run, [s])), "sequence must be one Sequence"),
        (lambda run, s: list(egodepth.predict_sequence(run, s, unit=2.0)), "unit must be a Unit"),
        (lambda run, s: egodepth.track_sequence(run, None), "sequence must be one Sequence"),
        (lambda run, s: egodepth.track_sequence(run, s, {"key_frames": 3}), "settings must be"),
        (lambda run, s: egodepth.Odometry(run, None), "camera must be a Camera"),
        (lambda run, s: egodepth.evaluate_depth(run, s, "indoor"), "sequences must be a list"),
        (lambda run, s: egodepth.evaluate_depth(run, [], "indoor"), "at least one Sequence"),
        (lambda run, s: egodepth.evaluate_depth(run, [s], "x"), "unknown protocol"),
        (lambda run, s: egodepth.evaluate_depth(run, [s], None), "protocol must be"),
        (lambda run, s: egodepth.evaluate_odometry(run, [s]), "sequence must be one Sequence"),
        (lambda run, s: egodepth.evaluate_odometry(run, s), "no ground-truth poses"),
        (lambda run, s: egodepth.get_recipe(None), "neither a recipe"),
        (lambda run, s: egodepth.train("footage", "out"), "settings must be TrainSettings"),
        (lambda run, s: egodepth.train(egodepth.get_recipe("footage"), None), "out must be the folder"),
        (lambda run, s: egodepth.Unit(-1.0), "metres of a unit must be a number above zero"),
        (lambda run, s: egodepth.write_predictions(iter(()), "o", formats=["jpg"]), "unknown format 'jpg'"),
        (lambda run, s: egodepth.write_predictions(iter(()), None), "out must be a folder"),
        (lambda run, s: next(egodepth.write_predictions(iter(()), "")), "it is an empty text"),
        (lambda run, s: s.with_fov(200), "between 0 and 170"),
        (lambda run, s: s.with_fov("60"), "between 0 and 170 degrees, got '60'"),
        (lambda run, s: s.with_fov(0), "between 0 and 170"),
        (lambda run, s: s.with_fps("fast"), "frames per second must be a number"),
    ],
)  # fmt: skip
def test_wrong_arguments(
    call: Callable[[Run, Sequence], Any], message: str, model: Run, footage: Sequence
) -> None:
    with pytest.raises(EgodepthError, match=message) as raised:
        call(model, footage)
    assert "\n" not in str(raised.value)


def test_wrong_arguments_of_alignment(model: Run) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    camera = egodepth.data.sequence.Camera.from_field_of_view(60.0, 40, 80)
    with pytest.raises(EgodepthError, match="camera must be a Camera"):
        egodepth.align_images(model, image, image, None)  # type: ignore[arg-type]
    with pytest.raises(EgodepthError, match=r"start must be a motion \(4, 4\)"):
        egodepth.align_images(model, image, image, camera, start=np.eye(3))
    with pytest.raises(EgodepthError, match="an image must be"):
        egodepth.align_images(model, torch.zeros(3), image, camera)  # type: ignore[arg-type]
    with pytest.raises(EgodepthError, match="but an image is"):
        egodepth.align_images(model, image, image, camera.resize(20, 40))


@pytest.mark.parametrize("name", CALLABLE)
@pytest.mark.parametrize(
    "wrong", [None, 3.5, [[1]], {"a": 1}], ids=["None", "number", "list", "dict"]
)
def test_all_public_names_refuse_nonsense(name: str, wrong: Any) -> None:
    """Whatever the position of a wrong argument, it is no bare TypeError or AttributeError."""
    wanted = {"Run": lambda: Run.load(wrong), "MeasuredDistance": lambda: MeasuredDistance(wrong, 0, 0, 1),
              "Unit": lambda: egodepth.Unit(wrong or "x")}  # fmt: skip
    counts = {"align_images": 4, "evaluate_depth": 3, "evaluate_odometry": 2, "find_unit": 2, "Odometry": 2,
              "predict_sequence": 2, "pretrain": 2, "shard": 2, "track_sequence": 2, "train": 2,
              "write_predictions": 2}  # fmt: skip
    if name == "Unit" and wrong == 3.5:
        return
    if name in ("CameraHeight", "MeanSpeed") and wrong == 3.5:
        return

    def usual() -> Any:
        return getattr(egodepth, name)(*[wrong] * counts.get(name, 1))

    with warnings.catch_warnings(), pytest.raises(EgodepthError):
        result = wanted.get(name, usual)()
        next(iter(result))
