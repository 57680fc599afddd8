"""What is written where: nothing of an earlier run stays, nothing of others is touched."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import write_images
from tests.test_cli import run
from tests.test_times import make_video

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.outputs import OutputFolder, check_destination
from egodepth.data.sources import read_source
from egodepth.geometry.trajectory import read_kitti
from egodepth.inference.scoring.predictions import Predictions
from egodepth.runs.destination import output_folder
from egodepth.runs.run import Run


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_earlier_results_go_and_others_stay(tmp_path: Path) -> None:
    first = OutputFolder(tmp_path / "out", "prediction")
    assert not (tmp_path / "out").exists()
    for name in ("unit.json", "depth/a.npz", "depth/b.npz"):
        path = first.file(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    second = OutputFolder(tmp_path / "out", "prediction")
    assert len(files(tmp_path / "out")) == 5  # until something new comes
    with pytest.warns(EgodepthWarning, match="removed the 3 files of an earlier prediction"):
        second.file("depth/c.npz")
    assert files(tmp_path / "out") == {"notes.txt", "files.txt"}
    with pytest.raises(
        EgodepthError, match=r"notes\.txt is there, which no earlier prediction wrote"
    ):
        second.file("notes.txt")
    with pytest.raises(
        EgodepthError, match="lists the files of an earlier prediction; name another"
    ):
        OutputFolder(tmp_path / "out", "odometry")


def test_a_list_from_elsewhere_removes_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").mkdir()
    listing = tmp_path / "out" / "files.txt"
    listing.write_text(
        f"# written by egodepth, prediction\n../precious\n{tmp_path}/precious\nout\n"
    )
    OutputFolder(tmp_path / "out", "prediction").file("unit.json")
    assert files(tmp_path) == {"precious", "out/files.txt"}
    listing.write_text("milk\neggs\n")
    with pytest.raises(EgodepthError, match="no list of egodepth's"):
        OutputFolder(tmp_path / "out", "prediction")
    assert listing.read_text() == "milk\neggs\n"


def test_folders_within_share_a_list(tmp_path: Path) -> None:
    out = OutputFolder(tmp_path, "prediction")
    for name in ("a/b", "a", "c"):
        inner = out.within(name).file("depth/0.npz")
        inner.parent.mkdir(parents=True)
        inner.write_text("1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EgodepthWarning)
        OutputFolder(tmp_path, "prediction").each(["a", "d"])[1].file("unit.json")
    assert files(tmp_path) == {"files.txt"} and not (tmp_path / "a").exists()


def test_a_second_prediction_replaces_the_first(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "long", 6)
    write_images(tmp_path / "short", 2)
    out = tmp_path / "out"
    words = ["predict", tiny_run, tmp_path / "long", "--out", out, "--fps", "10"]
    assert run(capsys, *words)[0] == 0
    words[2] = tmp_path / "short"
    status, _, err = run(capsys, *words, "--formats", "npz")
    assert status == 0 and "removed the 23 files of an earlier prediction" in err
    assert files(out) == {
        "depth/0000000000.npz", "depth/0000000001.npz", "unit.json", "files.txt",
        "trajectory_kitti.txt", "trajectory_tum.txt",
    }  # fmt: skip
    assert len(read_kitti(out / "trajectory_kitti.txt")) == 2
    status, _, err = run(capsys, "odometry", tiny_run, tmp_path / "long", "--out", out, "--fov", 60)
    assert status == 1 and "earlier prediction; name another folder" in err
    # What broke off leaves no trajectory of the one before.
    image = tmp_path / "long" / "000005.png"
    image.write_bytes(image.read_bytes()[:100])
    words[2] = tmp_path / "long"
    assert run(capsys, *words, "--formats", "npz")[0] == 1
    assert not (out / "trajectory_kitti.txt").exists()


def test_a_prediction_spares_the_footage_it_is_written_beside(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "data" / "images", 2)
    (tmp_path / "data" / "depth").mkdir()
    np.savez(tmp_path / "data" / "depth" / "000000.npz", depth=np.ones((40, 80)))
    words = ["predict", tiny_run, tmp_path / "data" / "images", "--out", tmp_path / "data"]
    status, _, err = run(capsys, *words)
    assert status == 1 and "images holds images (000000.png), which results would mix with" in err
    assert np.load(tmp_path / "data" / "depth" / "000000.npz")["depth"].sum() == 3200


@pytest.mark.parametrize(
    "names",
    [
        ["frame2", "frame10", "7"],
        ["000041", "000042", "000043"],
        ["a 1", "a 2", "b"],
        ["1", "2", "10"],
    ],
)
def test_predictions_are_named_like_their_images(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    paths = write_images(tmp_path / "frames", 3)
    for path, name in zip(reversed(paths), reversed(names), strict=True):
        path.rename(path.with_stem(name))
    words = ["predict", tiny_run, tmp_path / "frames", "--out", tmp_path / "out"]
    assert run(capsys, *words, "--formats", "npz", "png")[0] == 0
    written = {p.stem for p in (tmp_path / "out" / "depth").iterdir()}
    assert written == {name.zfill(10) if name.isdecimal() else name for name in names}
    (sequence,), model = read_source(tmp_path / "frames"), Run.load(tiny_run)
    for frame in sequence.frames.at():
        read = Predictions(tmp_path / "out").predict(sequence, frame, (40, 80))
        np.testing.assert_allclose(read, model.depth(frame.image), rtol=1e-4)


def test_footage_of_one_name_is_predicted_into_folders_of_its_own(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video(tmp_path / "a" / "video.mp4", np.arange(3) / 10)
    make_video(tmp_path / "b" / "video.mp4", np.arange(4) / 10)
    for command in ("predict", "odometry"):
        out = tmp_path / command
        words = [command, tiny_run, tmp_path / "*" / "video.mp4", "--out", out, "--fov", 60]
        status, _, err = run(capsys, *words)
        assert status == 0, err
        for name, count in (("a", 3), ("b", 4)):
            assert len(read_kitti(out / name / "video.mp4" / "trajectory_kitti.txt")) == count
    (tmp_path / "b" / "video.mp4").unlink()
    make_video(tmp_path / "c" / "video.mp4", np.arange(3) / 10)
    assert (
        run(
            capsys, "predict", tiny_run, tmp_path / "*" / "video.mp4", "--out", tmp_path / "predict"
        )[0]
        == 0
    )
    left = {p.split("/")[0] for p in files(tmp_path / "predict")}
    assert left == {"a", "c", "files.txt"}


def test_images_of_several_folders_are_several_sequences(tmp_path: Path) -> None:
    write_images(tmp_path / "drive1", 3)
    write_images(tmp_path / "drive2", 2, 20, 40)
    first, second = read_source(tmp_path / "drive*" / "*.png")
    assert (first.name, second.name) == ("drive1", "drive2")
    assert (len(first.frames), len(second.frames)) == (3, 2)
    assert (first.frames.width, second.frames.width) == (80, 40)


def test_names_that_say_more_than_an_order(tmp_path: Path) -> None:
    def told(names: list[str]) -> list[str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for path, name in zip(write_images(folder, len(names)), names, strict=True):
            path.rename(path.with_stem(name))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read_source(folder)
        return [str(w.message) for w in caught]

    (gap,) = told(["1", "2", "3", "5", "6"])
    assert "jump 1 times, first from 3.png to 5.png" in gap
    (drives,) = told(["a1", "a2", "b1", "b2"])
    assert "named in 2 ways (a*, b*)" in drives
    write_images(tmp_path / "both", 3)
    Image.new("RGB", (80, 40)).save(tmp_path / "both" / "000001.jpg")
    with pytest.warns(
        EgodepthWarning, match="several images called 000001, which may be one frame twice"
    ):
        read_source(tmp_path / "both")
    (dates,) = told(["01-02-2024", "30-01-2024", "31-01-2024"])
    assert "dates with the year last, as 01-02-2024.png" in dates
    assert told([f"{n:02x}" for n in range(40)]) == told(["2024-01-30", "2024-02-01"]) == []
    assert told(["0", "5", "10", "15"]) == told(["hall", "kitchen"]) == told(["a1", "b2"]) == []
    assert told(["1403715273262142976", "1403715273312143104", "1403715273362142976"]) == []
    assert told(["20200101_120000", "20200101_120001", "20200102_080000", "20200102_080001"]) == []


def test_nothing_is_written_into_footage_or_into_a_run(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "data" / "images", 3)
    frames = tmp_path / "data" / "images"
    before = files(tmp_path)
    of_run = files(tiny_run)
    for out in (frames, tmp_path / "data", tiny_run):
        for words in (
            ["predict", tiny_run, frames], ["odometry", tiny_run, frames, "--fov", 60],
            ["export", "colmap", tiny_run, frames, "--fov", 60],
            ["landscape", tiny_run, frames, "--frame", 1, "--fov", 60],
            ["evaluate", "depth", tiny_run, "--data", frames, "--worst", out],
            ["train", frames], ["export", "hub", tiny_run],
        ):  # fmt: skip
            if "--worst" not in words:
                words += ["--out", out]
            status, _, err = run(capsys, *words)
            assert status == 1 and len(err.splitlines()) == 1, (words, err)
            message = "holds images" if out != tiny_run else "run"
            assert message in err and str(out) in err, (words, err)
    assert files(tmp_path) == before and files(tiny_run) == of_run
    words = ["predict", tiny_run, frames, "--out", tiny_run / "predictions"]
    assert run(capsys, *words)[0] == 0
    with pytest.raises(EgodepthError, match="holds images"):
        output_folder(frames, "prediction")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "points", "{run}", "none.mp4", "--out", "{tmp}/c.obj"], "must end in .ply"),
        (["export", "mesh", "{run}", "none.mp4", "--out", "{tmp}/c.fbx"], ".ply, .obj, .glb or .stl"),
        (["export", "rerun", "{run}", "none.mp4", "--out", "{tmp}/c.ply"], "must end in .rrd"),
        (["export", "onnx", "{run}", "--out", "{tmp}/c.pt"], "must end in .onnx"),
        (["export", "colmap", "{run}", "none.mp4", "--out", "{tmp}/file"], "there is a file of that name"),
        (["export", "points", "{run}", "none.mp4", "--out", "{tmp}/f.ply"], "there is a folder of that name"),
        (["export", "mesh", "{run}", "none.mp4", "--out", "{tmp}/file/c.ply"], "is a file, not a folder"),
        (["predict", "{run}", "none.mp4", "--out", "{tmp}/file"], "there is a file of that name"),
        (["train", "none.mp4", "--out", "{tmp}/file"], "neither a recipe"),
        (["train", "{tmp}", "--out", "{tmp}/file"], "there is a file of that name"),
        (["odometry", "{run}", "none.mp4", "--out", "{tmp}/file/out"], "is a file, not a folder"),
        (["landscape", "{run}", "none.mp4", "--frame", "1", "--out", "{tmp}/file"], "file of that name"),
        (["data", "check", "footage", "none.mp4", "--out", "{tmp}/a.txt"], "must end in .png"),
        (["evaluate", "depth", "{run}", "--data", "none", "--json", "{tmp}/f.ply"], "a folder of that name"),
        (["evaluate", "odometry", "{run}", "--data", "none", "--plot", "{tmp}/a.txt"], ".pdf or .svg"),
        (["leaderboard", "{tmp}", "--out", "{tmp}/a.txt"], "must end in .md or .html"),
    ],
)  # fmt: skip
def test_destinations_are_checked_before_the_work(
    words: list[str], message: str, tiny_run: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("")
    (tmp_path / "f.ply").mkdir()
    status, _, err = run(capsys, *(w.format(run=tiny_run, tmp=tmp_path) for w in words))
    assert status == 1 and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("place", ["/", "~", "~/..", "."])
def test_results_get_a_folder_of_their_own(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "users" / "ada"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    with pytest.raises(EgodepthError, match=r"the root, your home or the temporary folder.*--out"):
        output_folder(Path(place).expanduser(), "prediction")
    output_folder(home / "results", "prediction")


def test_a_place_that_can_be_written_to(tmp_path: Path) -> None:
    check_destination(tmp_path / "a" / "b" / "c.PLY", (".ply",))
    check_destination(tmp_path, folder=True)
    check_destination(Path("c.ply"), (".ply",))
    assert not any(tmp_path.iterdir())
