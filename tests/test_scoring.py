"""Scoring runs, other people's predictions, and tables of many scores."""

import csv
import json
import pickle
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import layouts
from tests.conftest import write_images

from egodepth.cli import main
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.depth_map import read_depth_map
from egodepth.data.sources import read_source
from egodepth.data.splits import get_split
from egodepth.evaluation.depth import PROTOCOLS
from egodepth.inference.scoring.depth_scores import evaluate_depth, evaluate_predictor
from egodepth.inference.scoring.predictions import Predictions
from egodepth.report.leaderboard import as_markdown, collect
from egodepth.runs.images import blend_mirrored
from egodepth.runs.run import Run

INDOOR = PROTOCOLS["indoor"]


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Three frames with depth: 3 m, and 6 m on the right."""
    folder = layouts.make_footage(tmp_path)
    depth = np.full((40, 80), 3.0)
    depth[:, 50:] = 6.0
    for path in (folder / "depth").iterdir():
        layouts.write_depth(path, depth, 1000)
    return folder


def write_predictions(folder: Path, kind: str) -> None:
    folder.mkdir(parents=True)
    depth = np.full((40, 80), 0.5, np.float32)
    depth[:, 50:] = 1.0
    for number in range(3):
        path = folder / f"{number:010d}.{kind}"
        if kind == "npy":
            np.save(path, depth)
        elif kind == "npz":
            np.savez(path, depth=depth)
        else:
            Image.fromarray((depth * 256).astype(np.uint16)).save(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "png"])
def test_other_peoples_predictions(footage: Path, tmp_path: Path, kind: str) -> None:
    write_predictions(tmp_path / "theirs" / "mine", kind)
    sequences = [read_source(str(footage))[0]]
    scores = evaluate_predictor(Predictions(tmp_path / "theirs"), sequences, INDOOR)
    assert scores.summary["images"] == 3
    assert scores.summary["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert scores.summary["scale_median"] == pytest.approx(6)
    assert scores.summary["edge_completeness"] == 0
    assert scores.constant["abs_rel"] > 0.1


def test_inverse_depth_of_another_size_in_one_array(footage: Path, tmp_path: Path) -> None:
    inverse = np.full((3, 20, 40), 2.0, np.float32)
    inverse[:, :, 25:] = 1.0
    inverse[1] *= 3
    np.save(tmp_path / "stack.npy", inverse)
    split = tmp_path / "order.txt"
    split.write_text("mine 2\nmine 0\nmine 1\n")
    sequences = [read_source(str(footage))[0]]
    predictor = Predictions(tmp_path / "stack.npy", "inverse", get_split(split))
    scores = evaluate_predictor(predictor, sequences, INDOOR, split=get_split(split))
    assert [i.scores["scale"] for i in scores.images] == pytest.approx([18, 6, 6])
    assert scores.summary["abs_rel"] < 0.01
    with pytest.raises(EgodepthError, match="--split must name the frames in their order"):
        Predictions(tmp_path / "stack.npy")
    split.write_text("mine 2\nmine 0\n")
    with pytest.raises(EgodepthError, match=r"holds 3 maps, the split .* names 2 frames"):
        Predictions(tmp_path / "stack.npy", split=get_split(split))


def test_one_scale_for_the_set(footage: Path, tmp_path: Path) -> None:
    write_predictions(tmp_path / "theirs", "npy")
    np.save(tmp_path / "theirs" / "0000000002.npy", np.full((40, 80), 0.7, np.float32))
    sequences = [read_source(str(footage))[0]]
    protocol = replace(INDOOR, scaling="set_median")
    scores = evaluate_predictor(Predictions(tmp_path / "theirs"), sequences, protocol)
    assert {image.scores["scale"] for image in scores.images} == {6.0}


def test_of_two_maps_of_a_frame_the_array_is_read_with_a_word(
    footage: Path, tmp_path: Path
) -> None:
    write_predictions(tmp_path / "theirs", "npy")
    Image.new("I;16", (80, 40)).save(tmp_path / "theirs" / "0000000001.png")
    sequences = [read_source(str(footage))[0]]
    told = r"0000000001\.npy is read, and 0000000001\.png of the same name is not \(1 such files\)"
    with pytest.warns(EgodepthWarning, match=told):
        scores = evaluate_predictor(Predictions(tmp_path / "theirs"), sequences, INDOOR)
    assert len(scores.images) == 3


def test_missing_predictions_are_named(footage: Path, tmp_path: Path) -> None:
    write_predictions(tmp_path / "theirs", "npy")
    (tmp_path / "theirs" / "0000000001.npy").unlink()
    sequences = [read_source(str(footage))[0]]
    with pytest.raises(EgodepthError, match="has no prediction of mine, frame 1"):
        evaluate_predictor(Predictions(tmp_path / "theirs"), sequences, INDOOR)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(EgodepthError, match="holds no predictions of mine"):
        evaluate_predictor(Predictions(tmp_path / "nothing"), sequences, INDOOR)


def test_one_image_that_cannot_be_scored_is_left_out(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predictions(tmp_path / "theirs", "npy")
    np.save(tmp_path / "theirs" / "0000000001.npy", np.zeros((40, 80), np.float32))
    command = ["evaluate", "depth", str(tmp_path / "theirs"), "--data", str(footage)]
    for more in ([], ["--scaling", "set_median"]):
        assert main([*command, *more, "--json", str(tmp_path / "a.json")]) == 0
        scores = json.loads((tmp_path / "a.json").read_text())
        assert scores["images"] == 2 and scores["abs_rel"] == pytest.approx(0, abs=1e-6)
        assert not scores["complete"] and "1 of 3 images left out" in scores["protocol"]
        assert scores["left_out"][0].startswith("mine, frame 1 (000001): the prediction holds")
        assert "1 of 3 images could not be scored: mine, frame 1" in capsys.readouterr().err
    layouts.write_depth(footage / "depth" / "000002.png", np.zeros((40, 80)), 1000)
    assert main(command) == 0
    assert "2 of 3 images could not be scored" in capsys.readouterr().err
    layouts.write_depth(footage / "depth" / "000000.png", np.full((40, 80), 50.0), 1000)
    assert main(command) == 1
    assert "3 of 3 images could not be scored" in capsys.readouterr().err


def test_a_disparity_of_zero_is_the_farthest_depth(footage: Path, tmp_path: Path) -> None:
    """One pixel of 3200 at 10 m instead of 3 m."""
    for number in range(3):
        disparity = np.full((40, 80), 1 / 0.5, np.float32)
        disparity[:, 50:] = 1 / 1.0
        disparity[0, 0] = 0
        (tmp_path / "theirs").mkdir(exist_ok=True)
        np.save(tmp_path / "theirs" / f"{number:06d}.npy", disparity)
    sequences = [read_source(str(footage))[0]]
    for scaling in ("median", "affine", "set_median"):
        protocol = replace(INDOOR, scaling=scaling)
        told = r"3 of 3 images are infinitely far at up to 0\.031 % .* count as 10 m"
        with pytest.warns(EgodepthWarning, match=told):
            scores = evaluate_predictor(
                Predictions(tmp_path / "theirs", "inverse"), sequences, protocol
            )
        assert scores.summary["images"] == 3 and not scores.left_out
        assert scores.summary["abs_rel"] == pytest.approx(7 / 3 / 3200, rel=1e-3)


def test_infinite_depth_that_is_not_scored_is_not_told(footage: Path, tmp_path: Path) -> None:
    """Where the true depth is beyond the protocol's range."""
    depth = np.full((40, 80), 3.0)
    depth[0] = 50.0
    (tmp_path / "theirs").mkdir()
    for number, path in enumerate(sorted((footage / "depth").iterdir())):
        layouts.write_depth(path, depth, 1000)
        np.save(tmp_path / "theirs" / f"{number:06d}.npy", np.where(depth > 10, np.inf, depth))
    sequences = [read_source(str(footage))[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", EgodepthWarning)
        scores = evaluate_predictor(Predictions(tmp_path / "theirs"), sequences, INDOOR)
    assert scores.summary["abs_rel"] == pytest.approx(0, abs=1e-6)


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """Images 1, 2, 4, 5 and 7, whose depth is their number in metres; 7 has none."""
    folder = tmp_path / "steps"
    for number, path in zip((1, 2, 4, 5, 7), write_images(folder / "images", 5), strict=True):
        path.rename(path.with_name(f"img_{number:03d}.png"))
        if number < 7:
            layouts.write_depth(
                folder / "depth" / f"img_{number:03d}.png", np.full((40, 80), float(number)), 1000
            )
    return folder


def save_numbers(folder: Path, name: str, numbers: tuple[int, ...]) -> None:
    folder.mkdir()
    for number in numbers:
        np.save(folder / f"{name.format(number)}.npy", np.full((40, 80), number, np.float32))


@pytest.mark.parametrize("numbers", [(1, 2, 4, 5, 7), (1, 2, 4, 5), (1, 2, 3, 4, 5, 6, 7)])
@pytest.mark.parametrize("name", ["img_{:03d}", "depth_img_{:03d}", "img_{:03d}_disp", "{}"])
def test_predictions_belong_to_the_images_of_their_name(
    steps: Path, tmp_path: Path, name: str, numbers: tuple[int, ...]
) -> None:
    save_numbers(tmp_path / "theirs", name, numbers)
    protocol = replace(INDOOR, scaling="none")
    scores = evaluate_predictor(Predictions(tmp_path / "theirs"), read_source(str(steps)), protocol)
    assert scores.summary["images"] == 4 and scores.summary["abs_rel"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("img_{:03d}", (0, 1, 2, 3, 4), "do not fit the images of steps: no image is called like img_000"),
        ("{:010d}", (0, 1, 2, 3, 4), "do not fit the images of steps"),
        ("{}", (1, 2, 4), r"has no prediction of steps, frame 3 \(img_005\)"),
        ("x{0}_{0}", (1, 2, 4, 5, 7), "do not fit"),
    ],
)  # fmt: skip
def test_predictions_that_do_not_fit_are_refused(
    steps: Path, tmp_path: Path, name: str, numbers: tuple[int, ...], message: str
) -> None:
    save_numbers(tmp_path / "theirs", name, numbers)
    with pytest.raises(EgodepthError, match=message):
        evaluate_predictor(Predictions(tmp_path / "theirs"), read_source(str(steps)), INDOOR)


def test_images_without_numbers_are_paired_in_order_with_a_word(
    steps: Path, tmp_path: Path
) -> None:
    for letter, folder in zip("abdeg", sorted((steps / "images").iterdir()), strict=True):
        depth = steps / "depth" / folder.name
        folder.rename(folder.with_name(f"{letter}.png"))
        if depth.exists():
            depth.rename(depth.with_name(f"{letter}.png"))
    save_numbers(tmp_path / "theirs", "{}", (0, 1, 2, 3, 4))
    with pytest.warns(EgodepthWarning, match="paired in order"):
        predictor = Predictions(tmp_path / "theirs")
        frames = list(read_source(str(steps))[0].frames.at([1, 2]))
        maps = [predictor.predict(read_source(str(steps))[0], f, (40, 80)) for f in frames]
    assert [float(m[0, 0]) for m in maps] == [1, 2]


def test_no_map_serves_two_sequences(tmp_path: Path) -> None:
    layouts.make_raw(tmp_path)
    first = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    shutil.copytree(first, first.with_name("2011_09_26_drive_0002_sync"))
    save_numbers(tmp_path / "theirs", "{:010d}", (5, 6, 7, 8))
    sequences = read_source(f"kitti_raw:{tmp_path}")
    with pytest.raises(
        EgodepthError, match=r"0000000005\.npy would be taken for .* into a folder of its own"
    ):
        evaluate_predictor(Predictions(tmp_path / "theirs"), sequences, PROTOCOLS["kitti"])


def test_split_improved_truth_and_camera_choose_the_frames(tiny_run: Path, tmp_path: Path) -> None:
    drive = layouts.make_raw(tmp_path)
    layouts.make_improved_depth(tmp_path, drive.name, [5, 6, 7])
    sequences = read_source(f"kitti_raw:{tmp_path}")
    run = Run.load(tiny_run)
    improved = evaluate_depth(run, sequences, replace(PROTOCOLS["eigen-improved"], split=None))
    assert [image.frame for image in improved.images] == [5, 6, 7]
    assert not improved.complete and "3 of its 652 images" in improved.caption
    (tmp_path / "split.txt").write_text(f"{drive.name} 6 l\n{drive.name} 99 l\n")
    chosen = evaluate_depth(
        run, sequences, PROTOCOLS["kitti"], split=get_split(tmp_path / "split.txt")
    )
    assert [image.frame for image in chosen.images] == [6]
    with pytest.raises(EgodepthError, match="no ground-truth depth of the split eigen_test"):
        evaluate_depth(run, sequences, PROTOCOLS["eigen"])


@pytest.mark.parametrize(
    ("protocol", "error"),
    [
        ("eigen", 0.0),
        ("eigen-camera-z", 0.27 / 9.73),
        ("eigen-stereo", 0.0),
        ("kitti", 0.27 / 9.73),
    ],
)
def test_published_evaluations_take_the_lidars_forward_distance(
    tmp_path: Path, protocol: str, error: float
) -> None:
    """A point 10 m ahead of the LiDAR, 9.73 m ahead of the camera."""
    layouts.make_raw(tmp_path, scan=np.array([[10, 0, -0.5, 1]], np.float32))
    date = tmp_path / "2011_09_26"
    (date / "calib_velo_to_cam.txt").write_text("R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.27\n")
    (tmp_path / "theirs").mkdir()
    np.save(tmp_path / "theirs" / "0000000006.npy", np.full((40, 80), 10.0, np.float32))
    known = replace(PROTOCOLS[protocol], split=None, scaling="none", crop="none")
    scores = evaluate_predictor(
        Predictions(tmp_path / "theirs"), read_source(f"kitti_raw:{tmp_path}"), known
    )
    assert scores.summary["abs_rel"] == pytest.approx(error, abs=1e-6)
    assert ("vel_depth" in scores.caption) == (error == 0)


def test_improved_depth_beyond_80_m_is_scored_against_80_m(tmp_path: Path) -> None:
    """As Monodepth2's script does for its split eigen_benchmark."""
    drive = layouts.make_raw(tmp_path)
    layouts.make_improved_depth(tmp_path, drive.name, [5], depth=84.0)
    (tmp_path / "theirs").mkdir()
    np.save(tmp_path / "theirs" / "0000000005.npy", np.full((40, 80), 90.0, np.float32))
    improved = replace(PROTOCOLS["eigen-improved"], split=None, scaling="none")
    scores = evaluate_predictor(
        Predictions(tmp_path / "theirs"), read_source(f"kitti_raw:{tmp_path}"), improved
    )
    assert scores.summary["abs_rel"] == pytest.approx(4 / 84)
    assert "from 0.001 m on, predictions clamped to 80 m" in scores.caption


def test_mirrored_predictions_are_blended(tiny_run: Path) -> None:
    inverse, mirrored = np.full((4, 100), 1.0, np.float32), np.full((4, 100), 3.0, np.float32)
    blended = blend_mirrored(inverse, mirrored)
    assert blended[0, 50] == pytest.approx(2)
    assert blended[0, 0] == pytest.approx(3) and blended[0, -1] == pytest.approx(1)
    run = Run.load(tiny_run)
    image = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
    flipped = run.depth(image, flip=True)
    again = run.depth(np.ascontiguousarray(image[:, ::-1]), flip=True)[:, ::-1]
    np.testing.assert_allclose(flipped, again, rtol=1e-3)
    assert np.abs(run.depth(image) - flipped).max() > 0
    assert run.depth(image, (21, 30)).shape == (21, 30)


def test_depth_from_the_command_line(
    footage: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    assert main([
        "evaluate", "depth", str(tiny_run), "--data", str(footage), "--flip", "--scaling", "affine",
        "--json", str(out / "a.json"), "--csv", str(out / "a.csv"), "--worst", str(out / "worst"),
    ]) == 0  # fmt: skip
    text = capsys.readouterr().out
    assert "indoor" in text and "mirrored" in text and "F-score" in text
    scores = json.loads((out / "a.json").read_text())
    assert scores["kind"] == "depth" and scores["protocol_changed"] and scores["name"] == "run"
    rows = list(csv.DictReader((out / "a.csv").open()))
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["abs_rel"]) > 0
    assert len(list((out / "worst").glob("*.png"))) == 3
    for wrong, message in (
        (["--scaling", "magic"], "--scaling must be one of median, set_median"),
        (["--crop", "x"], "--crop must be one of none, garg"),
        (["--protocol", "x"], "unknown protocol 'x'"),
        (["--split", "x"], "unknown split 'x'"),
    ):
        assert main(["evaluate", "depth", str(tiny_run), "--data", str(footage), *wrong]) in (1, 2)
        assert message in capsys.readouterr().err
    assert main(["evaluate", "depth", str(tmp_path / "no"), "--data", str(footage)]) == 1
    assert "there are no predictions" in capsys.readouterr().err


def test_trajectories_from_the_command_line(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.make_footage(tmp_path)
    truth = tmp_path / "truth.txt"
    straight = "".join(f"1 0 0 0 0 1 0 0 0 0 1 {3 * i}\n" for i in range(60))
    truth.write_text(straight)
    estimate = tmp_path / "estimate.txt"
    estimate.write_text("".join(f"1 0 0 0.01 0 1 0 0 0 0 1 {i}\n" for i in range(60)))
    command = ["evaluate", "odometry", str(estimate), "--truth", str(truth)]
    plots = ["--plot", str(tmp_path / "p.png"), "--plot_errors", str(tmp_path / "e.png")]
    assert main([*command, "--json", str(tmp_path / "j" / "o.json"), *plots]) == 0
    text = capsys.readouterr().out
    assert "t_rel" in text and "over 100 to 100 m alone" in text
    assert json.loads((tmp_path / "j" / "o.json").read_text())["ate_m"] == pytest.approx(
        0, abs=1e-6
    )
    assert (tmp_path / "p.png").exists() and (tmp_path / "e.png").exists()
    assert main([*command, "--alignment", "none"]) == 0
    assert "poses as they are" in capsys.readouterr().out
    truth.write_text("\n".join(straight.splitlines()[:10]))
    assert main(command) == 1
    assert "60 poses were estimated, the ground truth has" in capsys.readouterr().err
    assert main(["evaluate", "odometry", str(tiny_run), "--truth", str(truth)]) == 1
    assert "to score a run, give --data" in capsys.readouterr().err
    assert main(["evaluate", "odometry", str(tiny_run), "--data", str(tmp_path / "mine")]) == 0
    assert "PoseNet's motions, chained" in capsys.readouterr().out


def test_leaderboard_keeps_protocols_apart(
    footage: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    for name, extra in (("a", []), ("b", []), ("c", ["--scaling", "none"])):
        assert main(["evaluate", "depth", str(tiny_run), "--data", str(footage),
                     "--json", str(folder / f"{name}.json"), *extra]) == 0  # fmt: skip
    (folder / "other.json").write_text("{}")
    boards = collect(folder)
    assert [len(board.rows) for board in boards[:2]] == [2, 1]
    assert "published" in boards[2].title
    assert any("FeatDepth, online refinement" in row["name"] for row in boards[2].rows)
    assert boards[2].rows[0]["abs_rel"] == 0.079
    text = as_markdown(boards)
    assert "| run |" in text and "0.104" in text and "32x64" not in text and "64x32" in text
    capsys.readouterr()
    assert main(["leaderboard", str(folder), "--own_only", "--out", str(tmp_path / "t.html")]) == 0
    assert "FeatDepth" not in capsys.readouterr().out
    assert (tmp_path / "t.html").read_text().count("<table>") == 2
    assert main(["leaderboard", str(tmp_path / "mine")]) == 1
    assert "no evaluation under" in capsys.readouterr().err


def test_published_results_stand_beside_the_whole_protocol_alone(tmp_path: Path) -> None:
    whole = {
        "kind": "depth", "name": "mine", "protocol_name": "eigen",
        "protocol": f"{PROTOCOLS['eigen']}; 697 of its 697 images",
        "complete": True, "protocol_changed": False, "images": 697, "data": "kitti_raw:x",
        "abs_rel": 0.1, "seconds": 3.0, "cores": 2,
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(whole))
    (board,) = collect(tmp_path)
    names = [row["name"] for row in board.rows]
    assert "mine" in names and any("MonoViT" in name for name in names)
    assert next(row for row in board.rows if row["name"] == "mine")["cost"] == "3 s on 2 cores"
    for change in (
        {"complete": False},
        {"protocol": f"{PROTOCOLS['eigen-camera-z']}; 697 of its 697 images"},
        {"protocol": "eigen: the data set's depth, ...; 697 of its 697 images"},
    ):
        (tmp_path / "a.json").write_text(json.dumps({**whole, **change}))
        assert len(collect(tmp_path)) == 2


def test_data_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.make_raw(tmp_path / "raw")
    out = tmp_path / "check.png"
    assert main(["data", "check", "kitti_raw", str(tmp_path / "raw"), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "1 sequences, 4 frames, 1 with depth, 1 sequences with poses" in text
    assert "cvlibs.net" in text
    with Image.open(out) as picture:
        assert picture.size == (900, 3 * 450)
    assert (
        main(["data", "check", "footage", str(layouts.make_footage(tmp_path)), "--out", str(out)])
        == 0
    )
    assert main(["data", "check", "x", str(tmp_path), "--out", str(out)]) == 1
    assert "there is no file or folder x:" in capsys.readouterr().err
    for command, word in (("sets", "Cityscapes"), ("splits", "697"), ("protocols", "make3d-c2")):
        assert main(["data", command]) == 0
        assert word in capsys.readouterr().out


def test_what_is_missing_is_one_line_of_standard_error(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.make_raw(tmp_path)
    layouts.write_images(
        tmp_path / "2011_09_28" / "2011_09_28_drive_0001_sync" / "image_02" / "data", 1
    )
    assert main(["evaluate", "depth", str(tiny_run), "--data", f"kitti_raw:{tmp_path}"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("egodepth: kitti_raw in")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.npy", pickle.dumps(3), "NumPy did not write it"),
        ("a.npz", b"hello", "NumPy did not write it"),
        ("a.npy", b"", "the file is incomplete or damaged"),
        ("a.npy", None, "it holds Python objects, not numbers"),
        ("a.npz", None, "it holds Python objects, not numbers"),
    ],
)
def test_no_word_of_numpy_reaches_the_user(
    name: str, content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    objects = np.array([{}, None], object)
    if content is not None:
        path.write_bytes(content)
    elif name.endswith("y"):
        np.save(path, objects, allow_pickle=True)
    else:
        np.savez(path, depth=objects)
    for read in (lambda: Predictions(path), lambda: read_depth_map(path, 256)):
        with pytest.raises(EgodepthError) as error:
            read()
        assert str(error.value).startswith(f"the array {path} is broken: {reason}")


def test_the_array_of_several_is_chosen_by_its_name(footage: Path, tmp_path: Path) -> None:
    sequences = read_source(str(footage))
    depth = np.full((40, 80), 0.5, np.float32)
    depth[:, 50:] = 1.0
    (tmp_path / "theirs").mkdir()
    for number in range(3):
        with (tmp_path / "theirs" / f"{number:06d}.NPZ").open("wb") as file:
            np.savez(file, confidence=depth * 0 + 1, disp=1 / depth, depth=depth)
    for kind in ("depth", "inverse"):
        scores = evaluate_predictor(Predictions(tmp_path / "theirs", kind), sequences, INDOOR)
        assert scores.summary["abs_rel"] == pytest.approx(0, abs=1e-6)
    with (tmp_path / "theirs" / "000001.NPZ").open("wb") as file:
        np.savez(file, confidence=depth, mask=depth)
    with pytest.raises(EgodepthError, match="holds 2 arrays, confidence, mask: call the one"):
        evaluate_predictor(Predictions(tmp_path / "theirs"), sequences, INDOOR)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("disp", "depth"), ("disparity", "depth"), ("inv_depth", "depth"), ("depth", "inverse")],
)
def test_an_array_that_is_called_otherwise_is_not_taken(
    footage: Path, tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / "theirs").mkdir()
    for number in range(3):
        np.savez(tmp_path / "theirs" / f"{number:06d}.npz", **{name: np.ones((40, 80), np.float32)})
    other = "inverse" if kind == "depth" else "depth"
    with pytest.raises(EgodepthError, match=f"holds '{name}', which is no .*--kind {other}"):
        evaluate_predictor(
            Predictions(tmp_path / "theirs", kind), read_source(str(footage)), INDOOR
        )  # type: ignore[arg-type]
    stack, split = tmp_path / "all.npz", tmp_path / "split.txt"
    np.savez(stack, **{name: np.ones((3, 40, 80), np.float32)})
    split.write_text("".join(f"mine {number} l\n" for number in range(3)))
    with pytest.raises(EgodepthError, match=f"holds '{name}', which is no"):
        Predictions(stack, kind, get_split(str(split)))  # type: ignore[arg-type]


def test_files_that_are_called_disparity_are_told(footage: Path, tmp_path: Path) -> None:
    save_numbers(tmp_path / "theirs", "{:06d}_disp", (0, 1, 2))
    with pytest.warns(
        EgodepthWarning, match="called like disparity, but taken for depth; give --kind"
    ):
        evaluate_predictor(Predictions(tmp_path / "theirs"), read_source(str(footage)), INDOOR)


@pytest.mark.parametrize("shape", [(80, 40), (40, 40)])
def test_turned_and_cropped_maps_are_refused(
    footage: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    save_numbers(tmp_path / "theirs", "{:06d}", (0, 1, 2))
    np.save(tmp_path / "theirs" / "000001.npy", np.ones(shape, np.float32))
    with pytest.raises(EgodepthError, match="of another aspect ratio"):
        evaluate_predictor(
            Predictions(tmp_path / "theirs", "inverse"), read_source(str(footage)), INDOOR
        )
    np.save(footage / "depth" / "000001.npy", np.ones(shape, np.float32))
    with pytest.raises(EgodepthError, match=r"000001\.npy is .*its image 80x40, of another aspect"):
        read_source(str(footage))[0].depth[1]()


def test_a_missing_prediction_is_told_before_the_work(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_numbers(tmp_path / "theirs", "{:06d}", (1, 2))
    (tmp_path / "theirs" / "000001.npy").rename(tmp_path / "theirs" / "000000.npy")
    np.save(tmp_path / "theirs" / "000000.npy", np.ones((40, 80)))
    (tmp_path / "theirs" / "000002.npy").unlink()
    done: list[int] = []
    predict = Predictions.predict
    monkeypatch.setattr(Predictions, "predict", lambda *words: (done.append(1), predict(*words))[1])
    with pytest.raises(EgodepthError, match="has no prediction of mine, frame 1"):
        evaluate_predictor(Predictions(tmp_path / "theirs"), read_source(str(footage)), INDOOR)
    assert not done


def test_units_nobody_tells_count_where_nothing_is_scaled(footage: Path, tmp_path: Path) -> None:
    sequences, unscaled = read_source(str(footage)), replace(INDOOR, scaling="none")
    write_predictions(tmp_path / "pngs", "png")
    with pytest.warns(EgodepthWarning, match="taken for 256 steps per metre"):
        evaluate_predictor(Predictions(tmp_path / "pngs"), sequences, unscaled)
    (tmp_path / "whole").mkdir()
    for number in range(3):
        np.save(tmp_path / "whole" / f"{number:06d}.npy", np.full((40, 80), 500, np.uint16))
    with pytest.raises(EgodepthError, match=r"holds whole numbers \(uint16\)"):
        evaluate_predictor(Predictions(tmp_path / "whole"), sequences, unscaled)
    (tmp_path / "zipped").mkdir()
    for number in range(3):
        numbers = np.full((40, 80), 500, np.int32)
        np.savez_compressed(
            tmp_path / "zipped" / f"{number:06d}.npz", valid=numbers > 0, depth=numbers
        )
    with pytest.raises(EgodepthError, match=r"000000\.npz holds whole numbers \(int32\)"):
        evaluate_predictor(Predictions(tmp_path / "zipped"), sequences, unscaled)
    assert evaluate_predictor(Predictions(tmp_path / "zipped"), sequences, INDOOR).images
    assert evaluate_predictor(Predictions(tmp_path / "whole"), sequences, INDOOR).images


def test_true_depth_of_whole_numbers_needs_its_steps(footage: Path) -> None:
    (footage / "depth" / "000000.png").unlink()
    for kind in (np.uint16, np.int64):
        np.savez(footage / "depth" / "000000.npz", np.full((40, 80), 3000, kind))
        with pytest.raises(
            EgodepthError, match=r"holds whole numbers .*depth_steps in camera\.yaml"
        ):
            read_source(str(footage))[0].depth[0]()
    (footage / "camera.yaml").write_text("depth_steps: 500\n")
    assert (read_source(str(footage))[0].depth[0]() == 6).all()


def test_true_depth_as_people_have_it(footage: Path, tmp_path: Path) -> None:
    """Infinite in the sky, in millimetres, with suffixes in capitals, or of a kind that is not read."""
    write_predictions(tmp_path / "theirs", "npy")
    depth = np.full((40, 80), np.inf, np.float32)
    depth[30:] = 3.0
    (footage / "depth" / "000000.png").unlink()
    np.save(footage / "depth" / "000000.npy", depth)
    (footage / "depth" / "000001.png").rename(footage / "depth" / "000001.PNG")
    (footage / "depth" / "000002.png").rename(footage / "depth" / "000002.tiff")
    with pytest.warns(EgodepthWarning, match=r"000002\.tiff .* not read"):
        sequences = read_source(str(footage))
    predictor = Predictions(tmp_path / "theirs")
    scores = evaluate_predictor(predictor, sequences, INDOOR)
    assert [image.frame for image in scores.images] == [0, 1] and not scores.left_out
    for name in ("000000", "000001"):
        np.save(footage / "depth" / f"{name}.npy", np.full((40, 80), 3000.0))
    with pytest.warns(EgodepthWarning, match="tiff"):
        sequences = read_source(str(footage))
    with pytest.raises(EgodepthError, match="it starts at 3000; is it in millimetres"):
        evaluate_predictor(predictor, sequences, INDOOR)
