"""Misspelt runs, footage and files are answered with the path that was probably meant."""

from pathlib import Path

import pytest
from tests.conftest import write_images

from egodepth.cli import main
from egodepth.core.errors import EgodepthError
from egodepth.core.suggestions import similar_path
from egodepth.data.footage.live_camera import LiveCamera


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for run in ("drive", "walk"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "config.yaml").write_text("")
    (tmp_path / "runs" / "drives").mkdir()  # no run
    write_images(tmp_path / "frames", 2)
    for name in ("van.mp4", "vna.txt", "truck.mp4", "track.gpx", "camera.yaml", ".vna.mp4"):
        (tmp_path / name).write_text("")
    (tmp_path / "kitti" / "raw").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("predict builtn frames --out o", "there is no run folder builtn; did you mean 'builtin'?"),
        ("predict runs/drve frames --out o", "runs/drve; did you mean 'runs/drive'?"),
        ("predict rnus/wakl frames --out o", "rnus/wakl; did you mean 'runs/walk'?"),
        ("predict runs/xyz frames --out o", "there is no run folder runs/xyz\n"),
        ("predict runs/drives frames --out o", "runs/drives is not a run folder"),
        ("train frames --out o --init runs/drve", "did you mean 'runs/drive'?"),
        ("train --resume frames --out runs/drve", "did you mean 'runs/drive'?"),
        ("pretrain --resume --out runs/drve", "did you mean 'runs/drive'?"),
        ("report Runs/Drive", "did you mean 'runs/drive'?"),
        ("evaluate depth runs/drve --data frames", "did you mean 'runs/drive'?"),
        ("evaluate depth builtn --data frames", "did you mean 'builtin'?"),
        ("evaluate depth fraems --data frames", "did you mean 'frames'?"),
        ("train vna.mp4 --out o", "existing video or folder; did you mean 'van.mp4'?"),
        ("train fraems --out o", "did you mean 'frames'?"),
        ("train kitti_smal --out o", "did you mean 'kitti_small'?"),
        (
            "train frames vna.mp4 --out o --init none",
            "there is no file or folder vna.mp4; did you mean 'van.mp4'?",
        ),
        ("data check vna.mp4", "there is no file or folder vna.mp4; did you mean 'van.mp4'?"),
        ("data check van", "did you mean 'van.mp4'?"),
        ("data check van.mov", "did you mean 'van.mp4'?"),
        ("data check xyz.mp4", "there is no file or folder xyz.mp4\n"),
        ("data check kitti_raw:kiti/raw", "there is no folder kiti/raw; did you mean 'kitti/raw'?"),
        ("train frames --out o --init none --camera camra.yaml", "did you mean 'camera.yaml'?"),
        ("train frames --out o --config camra.yaml", "did you mean 'camera.yaml'?"),
        ("leaderboard rnus", "there is no folder rnus; did you mean 'runs'?"),
        ("import featdepth vna.mp4 --out o", "did you mean 'van.mp4'?"),
    ],
)
def test_a_misspelt_path(
    folder: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_misspelt_live_video(folder: Path) -> None:
    with pytest.raises(
        EgodepthError, match=r"cannot open vna\.mp4: .*; did you mean 'van\.mp4'\?$"
    ):
        LiveCamera("vna.mp4")


def test_paths_that_resemble_nothing(folder: Path) -> None:
    for path in (
        "",
        "/",
        "..",
        "a" * 5000,
        "nul\0",
        "truck.mp4/x",
        str(folder / "zzz" / "van.mp4"),
    ):
        assert similar_path(path, lambda _: False) == ""
    assert similar_path(folder / "vann.mp4") == f"; did you mean {str(folder / 'van.mp4')!r}?"
    assert similar_path("../" + folder.name + "/vann.mp4").endswith("/van.mp4'?")
