"""Broken files that once ended in a traceback or were taken as they were; the fuzz finds more."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import yaml
from PIL import Image
from tests import layouts
from tests.fuzz import breaks
from tests.fuzz.inputs import KINDS, make_run

from egodepth.cli import main
from egodepth.core.config import count_settings, load
from egodepth.core.errors import EgodepthError
from egodepth.core.files import write_text
from egodepth.data.footage.depth_map import read_depth_map
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.footage.video_file import VideoFile
from egodepth.data.image_files import ImageFiles
from egodepth.data.pixels import open_image
from egodepth.data.sources import read_source
from egodepth.evaluation.depth import get_protocol
from egodepth.geometry.limits import require_seed
from egodepth.inference.odometry.gps_track import read_gps
from egodepth.inference.scoring.requested import requested_protocol
from egodepth.report.leaderboard import collect
from egodepth.runs.checkpoint import read_run, write_weights
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.settings.model import ModelSettings
from egodepth.settings.training import TrainSettings

RNG = np.random.default_rng(0)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def euroc_without_lists(root: Path) -> str:
    folder = layouts.make_euroc(root)
    for sensor in ("cam0", "cam1"):
        (folder / sensor / "data.csv").unlink()
    return "mav0 has no images"


def eth3d_with_a_word(root: Path) -> str:
    scene = layouts.make_eth3d_rig(root)
    replace(scene / "rig_calibration_undistorted" / "cameras.txt", "80 40", "80 wide")
    return r"cameras\.txt is broken"


def eth3d_with_another_camera(root: Path) -> str:
    scene = layouts.make_eth3d_rig(root)
    replace(scene / "rig_calibration_undistorted" / "images.txt", " 0 images", " 7 images")
    return r"images\.txt names the camera 7, which is not in cameras\.txt"


def cityscapes_list_for_a_camera(root: Path) -> str:
    layouts.make_cityscapes(root)
    next(root.rglob("*_camera.json")).write_text("[1, 2]")
    return r"_camera\.json is broken"


def raw_with_few_numbers(root: Path) -> str:
    layouts.make_raw(root)
    replace(next(root.rglob("calib_velo_to_cam.txt")), "T: 0 0 0", "T: 0 0")
    return r"calib_velo_to_cam\.txt: line 'T' is broken, it needs 3 numbers"


def raw_beyond_the_pole(root: Path) -> str:
    layouts.make_raw(root)
    record = next(root.rglob("oxts/data/*.txt"))
    record.write_text("500 " + record.read_text().split(" ", 1)[1])
    return r"GPS/IMU record .*\.txt is broken"


def odometry_times_after_blank_lines(root: Path) -> str:
    (layouts.make_odometry(root) / "times.txt").write_text("0\n\n\n0.1\n0.1\n")
    return r"times\.txt line 5: the times must grow"


def make3d_cut(root: Path) -> str:
    layouts.make_make3d(root)
    path = next(root.rglob("*.mat"))
    path.write_bytes(path.read_bytes()[:100])
    return r"laser depth .*\.mat is broken"


def nyu_with_infinite_depth(root: Path) -> str:
    layouts.make_nyu(root)
    path = next(root.rglob("nyu_depth_v2_labeled.mat"))
    with h5py.File(path, "r+") as file:
        file["depths"][:, 5, 5] = np.nan
    return r"nyu_depth_v2_labeled\.mat is broken: it holds .* not finite"


def raw_lidar_of_zeros(root: Path) -> str:
    layouts.make_raw(root)
    for scan in root.rglob("velodyne_points/data/*.bin"):
        scan.write_bytes(bytes(scan.stat().st_size))
    return r"LiDAR scan .*\.bin is broken: all of its numbers are 0"


def raw_lidar_beyond_the_earth(root: Path) -> str:
    layouts.make_raw(root)
    for scan in root.rglob("velodyne_points/data/*.bin"):
        points = np.fromfile(scan, "<f4")
        points[0] = 1e30
        points.tofile(scan)
    return r"LiDAR scan .*\.bin is broken: .* impossibly large"


def eth3d_without_parallax(root: Path) -> str:
    layouts.make_eth3d_pair(root)
    path = next(root.rglob("disp0GT.pfm"))
    content = path.read_bytes()
    path.write_bytes(content[:-4] + np.float32(1e-30).astype("<f4").tobytes())
    return r"disp0GT\.pfm is broken: it holds .* metres"


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("nyu", nyu_with_infinite_depth),
        ("kitti_raw", raw_lidar_of_zeros),
        ("kitti_raw", raw_lidar_beyond_the_earth),
        ("eth3d", eth3d_without_parallax),
        ("euroc", euroc_without_lists),
        ("eth3d", eth3d_with_a_word),
        ("eth3d", eth3d_with_another_camera),
        ("cityscapes", cityscapes_list_for_a_camera),
        ("kitti_raw", raw_with_few_numbers),
        ("kitti_raw", raw_beyond_the_pole),
        ("kitti_odometry", odometry_times_after_blank_lines),
        ("make3d", make3d_cut),
    ],
)
def test_data_sets_name_the_broken_file(
    tmp_path: Path, kind: str, make: Callable[[Path], str]
) -> None:
    message = make(tmp_path)
    with pytest.raises(EgodepthError, match=message):
        for sequence in read_source(f"{kind}:{tmp_path}"):
            for read in sequence.depth.values():
                read()


def test_a_camera_of_another_name_does_not_stop_cityscapes(tmp_path: Path) -> None:
    layouts.make_cityscapes(tmp_path)
    camera = next(tmp_path.rglob("*_camera.json"))
    (camera.parent / "my_camera.json").write_text("{}")
    (camera.parent / "aachen_000000_first_camera.json").write_text("{}")
    assert len(read_source(f"cityscapes:{tmp_path}")) == 2


@pytest.mark.parametrize(
    ("kind", "make", "name"),
    [
        ("seven_scenes", layouts.make_seven_scenes, "seq-03"),
        ("nyu", layouts.make_nyu, "kitchen_0001a"),
    ],
)
def test_a_sequence_in_the_working_folder_has_a_name(
    tmp_path: Path,
    kind: str,
    make: Callable[[Path], object],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(tmp_path)
    monkeypatch.chdir(next(tmp_path.rglob(name)))
    assert read_source(f"{kind}:.")[0].name == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("array_of_strings", "not numbers"),
        ("array_of_complex", "not numbers"),
        ("array_of_objects", "it holds Python objects, not numbers"),
        ("huge_array", "its shape|incomplete or damaged"),
        ("array_bomb", "it would unpack to 2.4 GB"),
        ("encrypted", "encrypted"),
        ("unknown_compression", "compression"),
        ("broken_deflate", "incomplete or damaged|Bad CRC"),
    ],
)
def test_broken_arrays(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / "a.npz"
    breaks.ARRAY[name](path, RNG)
    with pytest.raises(EgodepthError, match=rf"a\.npz.*({reason})"):
        read_depth_map(path, 256)


def test_an_image_of_900_megapixels_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    for name in ("huge_png", "png_text_bomb"):
        Image.new("RGB", (8, 8)).save(path)
        breaks.PNG[name](path, RNG)
        with pytest.raises(EgodepthError, match=r"the image .*a\.png is broken"):
            next(ImageFiles([path]).at())


def test_metadata_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Strasse"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            image = np.zeros((32, 32, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"Strasse", b"Stra\xdfe\xff"))
    assert len(list(VideoFile(path).at())) == 3


def test_a_video_whose_middle_is_broken_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    KINDS["video mkv"].make(tmp_path)
    read = VideoFile.at
    for whole, status in ((3, 0), (2, 1)):
        monkeypatch.setattr(
            VideoFile, "at",
            lambda self, indices=None, end=whole: (f for f in read(self, indices) if f.number < end),
        )  # fmt: skip
        words = ["data", "check", str(tmp_path / "drive.mkv"), "--out", str(tmp_path / "a.png")]
        assert main(words) == status
    assert "of drive.mkv can be decoded" in capsys.readouterr().err


@pytest.mark.parametrize("cut", [0, 40, 700, -3])
def test_settings_that_were_cut_off_are_not_filled_in(
    tmp_path: Path, cut: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text[:cut])
    with pytest.raises(EgodepthError, match=r"config\.yaml is broken"):
        read_run(run)
    assert main(["report", str(run)]) == 1
    assert main(["export", "hub", str(run), "--out", str(tmp_path / "hub")]) == 1
    assert "config.yaml" in capsys.readouterr().err


def test_settings_that_a_run_lost_are_told_from_those_of_a_later_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_run(tmp_path) / "config.yaml"
    *lines, end = file.read_text().splitlines(keepends=True)
    assert end == f"# end of {count_settings(yaml.safe_load(file.read_text()))} settings\n"
    for name in ("height", "max_depth", "start_depth", "pose_size"):
        left = "".join(line for line in lines if not line.startswith(f"  {name}:"))
        file.write_text(left + end)
        with pytest.raises(EgodepthError, match=rf"lacks 1 of the \d+ .*, such as model\.{name}"):
            read_run(tmp_path / "run")
        file.write_text(left)  # before files had an end line
        with pytest.raises(EgodepthError, match=f"lacks model.{name}"):
            read_run(tmp_path / "run")

    class Later(ModelSettings):
        """Settings of a later version."""

        sharpness: float = 2.0

    monkeypatch.setattr("egodepth.settings.stored.ModelSettings", Later)
    for text in (lines, [*lines, end]):
        file.write_text("".join(text))
        assert RunFolder.at(tmp_path / "run").section(Later, "model").sharpness == 2.0
    Run.load(tmp_path / "run").save_pretrained(tmp_path / "hub")
    assert (tmp_path / "hub" / "config.yaml").read_text().endswith(end)
    assert RunFolder.at("builtin").section(Later, "model").sharpness == 2.0


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "camera.yaml"])
@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '{"depth": 5, "seconds": "x"}', '{"depth": 5, "sizes": [[96, 33]]}', "\x00"],
)
def test_broken_facts_of_a_run(
    tmp_path: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    (run / name).write_text(text)
    assert main(["export", "hub", str(run), "--out", str(tmp_path / "hub")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(run / name) in line


def test_an_empty_log_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    log = run / "logs" / "csv_0000000" / "metrics.csv"
    log.write_text("")
    assert main(["report", str(run)]) == 0
    assert f"the log {log} is empty" in capsys.readouterr().err
    log.write_text("\x00\x00\x00")
    assert main(["report", str(run)]) == 1
    assert f"the log {log} is broken: it has no column step" in capsys.readouterr().err


def test_flipped_bits_in_weights_are_found(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    weights = run / "model.safetensors"
    write_weights(read_run(run)[1], weights)
    for path in (run / "checkpoint.ckpt", weights):
        content = bytearray(path.read_bytes())
        content[-len(content) // 3] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(EgodepthError, match=f"{path.name}.*damaged"):
            read_run(run)
        path.unlink()


@pytest.mark.parametrize(
    "scores",
    [
        "{", "", "\x00",
        {"kind": "depth", "protocol": 5}, {"kind": "odometry", "protocol": "x", "sequence": "07"},
        {"kind": "depth", "protocol": "x", "images": 2, "data": "y", "abs_rel": [1]},
        {"kind": "depth", "protocol": "x", "images": 2, "data": "y", "abs_rel": 0.1, "seconds": "long"},
        {"kind": "depth", "protocol": "x", "images": 2, "data": "y", "abs_rel": float("nan")},
    ],
)  # fmt: skip
def test_leaderboards_name_the_broken_evaluation(
    tmp_path: Path, scores: str | dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text(scores if isinstance(scores, str) else json.dumps(scores))
    assert main(["leaderboard", str(tmp_path)]) == 1
    assert f"the evaluation {path} is broken" in capsys.readouterr().err


def test_numbers_beyond_their_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EgodepthError, match=r"model\.min_depth must be below model\.max_depth"):
        ModelSettings().changed(min_depth=5.0, max_depth=2.0)
    low = get_protocol("indoor").min_depth
    with pytest.raises(EgodepthError, match="max_depth must be above its min_depth"):
        requested_protocol("mine", "indoor", max_depth=low / 2)
    with pytest.raises(EgodepthError, match="seed must be a whole number from 0"):
        require_seed(-1)
    (tmp_path / "a.csv").write_text("time,latitude,longitude\n0,500,11\n1,500.1,11\n")
    with pytest.raises(EgodepthError, match="latitude 500"):
        read_gps(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("time,latitude,longitude\n0,48,11\n" + "1 " * 300_000)
    started = time.process_time()
    with pytest.raises(EgodepthError, match=r"a\.csv"):
        read_gps(tmp_path / "a.csv")
    assert time.process_time() - started < 5
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "egodepth" / "frames"


def test_a_file_replaces_no_pipe_or_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root, one that replaced /dev/null would break the whole system."""
    run, pipe = make_run(tmp_path), tmp_path / "a.html"
    os.mkfifo(pipe)
    (tmp_path / "link.html").symlink_to(pipe)
    for place in (pipe, tmp_path / "link.html"):
        assert main(["report", str(run), "--out", str(place)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"egodepth: cannot write {place}: it is a pipe; name a regular file"
        with pytest.raises(EgodepthError, match="it is a pipe"):
            write_text(place, "a")
    assert pipe.is_fifo() and (tmp_path / "link.html").is_symlink()
    link = tmp_path / "link.txt"
    link.symlink_to("target.txt")
    write_text(link, "through")
    assert link.is_symlink() and (tmp_path / "target.txt").read_text() == "through"


def open_named_image(name: str) -> None:
    open_image(Path(name))


def load_settings(name: str) -> None:
    load(TrainSettings, name)


def test_names_that_no_file_can_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("x" * 5000, "a\0b", str(tmp_path / "loop"), str(tmp_path / "loop" / "a")):
        for read in (Run.load, read_source, collect, open_named_image, load_settings):
            with pytest.raises(EgodepthError):
                read(name)
    assert main(["report", "x" * 5000]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 300
