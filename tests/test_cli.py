import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import write_images
from tests.layouts import make_odometry, make_raw

from egodepth.cli import main
from egodepth.data.synthetic.worlds.world import read_world
from egodepth.geometry.trajectory import read_kitti


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write_images(tmp_path / "frames", 6)
    return tmp_path / "frames"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_predict_writes_everything(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "predict", tiny_run, frames, "--out", tmp_path / "out")
    assert status == 0 and "6 depth maps" in out
    depth = np.load(tmp_path / "out" / "depth" / "0000000003.npz")["depth"]
    assert depth.shape == (40, 80) and depth.dtype == np.float32 and (depth > 0).all()
    levels = np.asarray(Image.open(tmp_path / "out" / "depth_png" / "0000000003.png"))
    scale = float((tmp_path / "out" / "depth_png" / "scale.txt").read_text())
    assert levels.dtype == np.uint16
    np.testing.assert_allclose(levels / 256 / scale, depth, atol=0.6 / 256 / scale)
    poses = read_kitti(tmp_path / "out" / "trajectory_kitti.txt")
    tum = np.loadtxt(tmp_path / "out" / "trajectory_tum.txt")
    assert len(poses) == len(tum) == 6
    np.testing.assert_allclose(tum[:, 1:4], poses[:, :3, 3], atol=1e-8)
    assert (tmp_path / "out" / "depth.mp4").stat().st_size > 500
    assert not list((tmp_path / "out").rglob(".*"))


def test_evaluate_depth_and_odometry(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    make_raw(
        tmp_path / "raw",
        scan=rng.uniform([5, -3, -1, 0], [30, 3, 0, 1], (500, 4)).astype(np.float32),
    )
    json_file = tmp_path / "depth.json"
    status, out, _ = run(
        capsys,
        "evaluate",
        "depth",
        tiny_run,
        "--data",
        f"kitti_raw:{tmp_path / 'raw'}",
        "--json",
        json_file,
    )
    scores = json.loads(json_file.read_text())
    assert status == 0 and "Abs Rel" in out and scores["images"] == 1
    assert "garg crop" in scores["protocol"] and 0 <= scores["a1"] <= 1 and scores["abs_rel"] > 0
    make_odometry(tmp_path / "odometry")
    json_file = tmp_path / "odometry.json"
    status, out, _ = run(
        capsys, "evaluate", "odometry", tiny_run, "--data", f"kitti_odometry:{tmp_path / 'odometry'}",
        "--sequence", "07", "--json", json_file, "--plot", tmp_path / "plot.png",
    )  # fmt: skip
    scores = json.loads(json_file.read_text())
    assert (
        status == 0 and scores["path_m"] == pytest.approx(2) and scores["sequence"] == "07/image_2"
    )
    assert Image.open(tmp_path / "plot.png").size[0] > 300


def test_train_and_report(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.conftest import TINY

    words: list[object] = ["train", frames, "--out", tmp_path / "run", "--data.fov", 70]
    for name, value in TINY.items():
        words += [f"--{name}", list(value) if isinstance(value, tuple) else value]
    status, out, err = run(capsys, *words)
    assert status == 0, err
    assert "4 of 4 steps" in out and "of preparation" in out
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 2 and 'src="http' not in page
    assert "<h2>Loss landscape</h2>" in page and "L_fm" not in page
    status, out, _ = run(capsys, "train", frames, "--out", tmp_path / "run", "--resume")
    assert status == 0 and "4 of 4 steps" in out
    (tmp_path / "run" / "report.html").unlink()
    assert run(capsys, "report", tmp_path / "run")[0] == 0
    assert (tmp_path / "run" / "report.html").exists()


BAD = [
    (["train", "no_such", "--out", "{tmp}/r"], "neither a recipe nor an existing video or folder;"),
    (["train", "featdepth_kiti_mono", "--out", "{tmp}/r"], "did you mean 'featdepth_kitti_mono'?"),
    (["train", "kitti_rwa:{tmp}", "--out", "{tmp}/r"], "did you mean 'kitti_raw'?"),
    (["train", "kitti_raw", "--out", "{tmp}/r"], "name its root too, as kitti_raw:ROOT"),
    (["predict", "{run}", "kitti_rwa:{tmp}", "--out", "{tmp}/p"], "did you mean 'kitti_raw'?"),
    (["predict", "{run}", "sinthetic:7", "--out", "{tmp}/p"], "did you mean 'synthetic'?"),
    (["predict", "{run}", "synthetic:rom:7", "--out", "{tmp}/p"], "did you mean 'room'?"),
    (["data", "check", "kitti_rwa", "{tmp}"], "did you mean 'kitti_raw'?"),
    (["data", "check", "kitti_raw", "{tmp}/none"], "there is no folder"),
    (["data", "check", "{tmp}/none"], "there is no file or folder"),
    (["predict", "{run}", "{frames}/000009.png", "--out", "{tmp}/p"], "there is no file or folder"),
    (
        ["train", "{frames}", "--out", "{tmp}/r", "--data.mask", "{tmp}/m.png"],
        "there is no image {tmp}/m.png",
    ),
    (
        ["evaluate", "depth", "{run}", "--data", "synthetic:7", "--protocol", "kiti"],
        "did you mean 'kitti'?",
    ),
    (
        ["evaluate", "depth", "{run}", "--data", "synthetic:7", "--split", "eigen_tst"],
        "did you mean 'eigen_test'?",
    ),
    (
        ["train", "kitti_small", "--out", "{tmp}/r", "--data.root", "{tmp}/none"],
        "there is no folder",
    ),
    (
        ["train", "kitti_small", "--out", "{tmp}/r", "--data.rot", "x"],
        "unknown option --data.rot; did you mean --data.root?",
    ),
    (["train", "{frames}", "--out", "{tmp}/r", "--model.height", "97"], "multiple of 32"),
    (["train", "{frames}", "--out", "{tmp}/r", "--loss.standing", "0.1"], "loss.ground_contact"),
    (
        ["train", "{frames}", "--out", "{tmp}/r", "--data.fov", "60", "--device", "cuda:7"],
        "no device cuda:7",
    ),
    (
        ["train", "{frames}", "--out", "{tmp}/r", "--config", "{tmp}/c.yaml"],
        "settings file is missing",
    ),
    (["train", "{frames}", "--out", "{tmp}/r", "--resume"], "there is no run folder"),
    (
        ["train", "{frames}", "--out", "{tmp}/r", "--seed", "-1"],
        "seed must be a whole number of at least 0 and up to 4294967295, got -1",
    ),
    (
        ["train", "{frames}", "--out", "{tmp}/r", "--fov", "60", "--camera", "c.yaml"],
        "give only one of",
    ),
    (["train", "{frames}", "a.mp4", "--out", "{tmp}/r", "--data.sources", "[b]"], "named twice"),
    (["predict", "{run}", "synthetic:²", "--out", "{tmp}/p"], "write synthetic:SEED"),
    (["export", "hub", "{run}", "--out", "{run}"], "is a run, whose settings would be lost"),
    (
        ["landscape", "{run}", "{frames}", "--out", "{tmp}/l", "--frame", "1", "--offset", "0"],
        "offset 0",
    ),
    (["predict", "{tmp}", "{frames}", "--out", "{tmp}/o"], "is not a run folder"),
    (["predict", "{run}", "{tmp}/none.mp4", "--out", "{tmp}/o"], "no file or folder"),
    (
        ["predict", "{run}", "{frames}", "--out", "{tmp}/o", "--device", "cuda"],
        "there is no device cuda",
    ),
    (["predict", "{run}", "{frames}", "--out", "{tmp}/o", "--sequence", "x"], "no sequence 'x'"),
    (["predict", "{run}", "{frames}", "--out", "{frames}/000000.png"], "cannot write"),
    (["evaluate", "depth", "{run}", "--data", "{frames}"], "no ground-truth depth"),
    (["evaluate", "depth", "{run}", "--data", "{frames}", "--protocol", "x"], "unknown protocol"),
    (["evaluate", "odometry", "{run}", "--data", "{frames}"], "no ground-truth poses"),
    (["evaluate", "odometry", "{run}", "--data", "synthetic:one"], "write synthetic:SEED"),
    (["demo", "--minutes", "0.1", "--out", "{tmp}/d"], "at least 1.5 minutes"),
    (["demo", "--out", "{frames}"], "which results would mix with"),
    (["report", "{tmp}"], "is not a run folder"),
    (["train", "footage"], "--out is missing: run folder to make"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_input_is_one_line(
    words: list[str],
    message: str,
    tiny_run: Path,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = run(
        capsys, *(w.format(tmp=tmp_path, frames=frames, run=tiny_run) for w in words)
    )
    assert status != 0
    lines = [line for line in err.splitlines() if line.startswith("egodepth:")]
    assert len(lines) == 1 and message.format(tmp=tmp_path) in lines[0], err
    assert "Traceback" not in err


def test_rendered_worlds_are_checked_like_any_footage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "egodepth.data.synthetic.worlds.world.read_world", partial(read_world, frames=3)
    )
    picture = tmp_path / "check.png"
    for words in (["synthetic:room:7"], ["synthetic", "room:7"]):
        status, out, _ = run(capsys, "data", "check", *words, "--out", picture)
        assert status == 0 and "1 sequences, 3 frames, 3 with depth" in out
        assert Image.open(picture).size[0] > 100


def test_a_broken_image_stops_a_prediction_without_half_written_files(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = frames / "000004.png"
    image.write_bytes(image.read_bytes()[:100])
    status, _, err = run(capsys, "predict", tiny_run, frames, "--out", tmp_path / "out")
    assert status == 1 and "cannot read the image" in err and "000004.png" in err
    written = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert "depth.mp4" not in written and not any(name.startswith(".") for name in written)


def test_help_lists_settings(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "train", "--help")
    assert status == 0 and "--loss.feature_metric" in out and "--model.depth_encoder" in out
    status, out, _ = run(capsys)
    assert status == 2 and "demo" in out
    status, out, _ = run(capsys, "--version")
    assert status == 0 and out.startswith("egodepth ")
