"""Times of frames: of videos their own, of folders none unless somebody says the rate."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.conftest import write_images
from tests.test_cli import run

from egodepth.core.errors import EgodepthError
from egodepth.core.video import VideoWriter
from egodepth.data.footage.live_camera import LiveCamera
from egodepth.data.sources import read_source
from egodepth.geometry.trajectory import read_tum
from egodepth.inference.odometry.known_length import MeanSpeed
from egodepth.inference.odometry.track import track_sequence
from egodepth.inference.predict import find_unit
from egodepth.runs.run import Run

VARIABLE = np.cumsum([0.0, 0.1, 0.1, 0.5, 0.5, 0.04, 0.04])


def make_video(path: Path, times: np.ndarray) -> Path:
    """A panning picture at those times."""
    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(0, 255, (8, 40, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path) as video:
        for index, time in enumerate(times):
            video.write(wall[:, 2 * index : 2 * index + 80], float(time))
    return path


def seconds(path: Path) -> float:
    with av.open(f"file:{path}") as container:
        assert container.duration is not None
        return container.duration / 1e6


def test_videos_keep_their_times(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 1.4e9 + VARIABLE)
    frames = read_source(path)[0].frames
    np.testing.assert_allclose(frames.times, VARIABLE, atol=1e-4)
    assert seconds(path) == pytest.approx(VARIABLE[-1] + 0.04, abs=1e-3)
    even = make_video(tmp_path / "b.mp4", np.arange(30) / 29.97)
    assert seconds(even) == pytest.approx(30 / 29.97, abs=1e-4)


@pytest.mark.parametrize("times", [np.arange(12) / 30, VARIABLE], ids=["even", "variable"])
def test_depth_videos_are_as_long_as_their_footage(
    tiny_run: Path, tmp_path: Path, times: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    film, out = make_video(tmp_path / "a.mp4", times), tmp_path / "out"
    assert run(capsys, "predict", tiny_run, film, "--out", out, "--formats", "video")[0] == 0
    assert seconds(out / "depth.mp4") == pytest.approx(seconds(film), abs=1e-3)
    written = read_source(out / "depth.mp4")[0].frames.times
    np.testing.assert_allclose(written, times, atol=1e-4)


def test_a_folder_has_no_times(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "frames", 6)
    (sequence,) = read_source(tmp_path / "frames")
    assert sequence.frames.times is None
    for command in ("predict", "odometry"):
        for known in (["--speed", "14"], ["--gps", tmp_path / "track.gpx"]):
            words = [command, tiny_run, tmp_path / "frames", "--out", tmp_path / "o", "--fov", 60]
            status, _, err = run(capsys, *words, *known)
            assert status == 1 and "frames has no times" in err and "--fps" in err
            assert len(err.splitlines()) == 1 and not (tmp_path / "o").exists()


def test_without_times_a_trajectory_counts_frames(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "frames", 6)
    for command in ("predict", "odometry"):
        out = tmp_path / command
        words = [command, tiny_run, tmp_path / "frames", "--out", out, "--fov", 60]
        status, _, err = run(capsys, *words)
        assert status == 0 and "counts frames in place of seconds" in err and "--fps" in err
        assert read_tum(out / "trajectory_tum.txt")[0].tolist() == [0, 1, 2, 3, 4, 5]
        status, _, err = run(capsys, *words, "--fps", "25")
        assert status == 0 and "in place of seconds" not in err
        np.testing.assert_allclose(read_tum(out / "trajectory_tum.txt")[0], np.arange(6) / 25)
    assert seconds(tmp_path / "predict" / "depth.mp4") == pytest.approx(6 / 25, abs=1e-3)


def test_metres_by_speed_are_those_of_the_rate(tiny_run: Path, tmp_path: Path) -> None:
    model = Run.load(tiny_run)
    write_images(tmp_path / "frames", 6)
    (sequence,) = read_source(tmp_path / "frames")
    slow, fast = (
        find_unit(model, sequence.with_fps(fps), MeanSpeed(3.0)).metres for fps in (10, 30)
    )
    assert slow is not None and slow == pytest.approx(3 * (fast or 0))
    with pytest.raises(EgodepthError, match="no times"):
        track_sequence(model, sequence.with_fov(60), known=MeanSpeed(3.0))
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(EgodepthError, match="frames per second must be a number above zero"):
            sequence.with_fps(fps)


def bare_stream(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """H.264 without a container, a frame of each size."""
    data = b""
    for index, (height, width) in enumerate(sizes):
        codec = av.CodecContext.create("libx264", "w")
        codec.height, codec.width, codec.pix_fmt = height, width, "yuv420p"
        codec.framerate, codec.time_base = 30, Fraction(1, 30)
        image = np.full((height, width, 3), 20 + 10 * index, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = 0
        data += b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode()))
    path.write_bytes(data)
    return path


def test_a_bare_stream_has_no_times(tmp_path: Path) -> None:
    (sequence,) = read_source(bare_stream(tmp_path / "a.h264", [(40, 80)] * 4))
    assert sequence.frames.times is None and len(list(sequence.frames.at())) == 4
    assert [f.time for f in sequence.with_fps(5).frames.at([1, 3])] == [0.2, 0.6]


def test_a_change_of_size_within_a_video(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = bare_stream(tmp_path / "a.h264", [(40, 80)] * 5 + [(80, 40)] * 3)
    status, _, err = run(capsys, "predict", tiny_run, film, "--out", tmp_path / "out")
    assert status == 1 and len(err.splitlines()) == 1
    assert "size of the frames changes at frame 5, from 80x40 to 40x80" in err
    assert not (tmp_path / "out" / "trajectory_tum.txt").exists()
    assert not (tmp_path / "out" / "depth.mp4").exists()


def test_colons_in_names(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    name = "2020-01-01T12:30:00.mp4"
    make_video(Path(name), np.arange(4) / 10)
    status, _, err = run(capsys, "predict", tiny_run, name, "--out", "out:1")
    assert status == 0, err
    assert seconds(Path("out:1/depth.mp4")) == pytest.approx(0.4, abs=1e-3)
    assert len(list(Path("out:1/depth").iterdir())) == 4
    assert next(iter(LiveCamera(name))).image.shape == (40, 80, 3)
    write_images(Path("a:b"), 2)
    assert [s.name for s in read_source("a:b")] == ["a:b"]
    assert len(read_source("2020*:00.mp4")) == 1
    for missing in ("2020-01-01T12:31:00.mp4", r"C:\drive.mp4"):
        with pytest.raises(EgodepthError, match="there is no file or folder"):
            read_source(missing)
    with pytest.raises(
        EgodepthError, match=r"unknown kind of footage 'kity' .*use one of kitti_raw"
    ):
        read_source("kity:/data")


def test_json_of_a_run_without_times(tiny_run: Path, tmp_path: Path) -> None:
    from egodepth.view.session import Session

    write_images(tmp_path / "frames", 3)
    session = Session(Run.load(tiny_run), read_source(tmp_path / "frames")[0].with_fov(60))
    session.wait(60)
    assert not session.problem
    assert json.loads(json.dumps(session.describe()))["times"] == [None] * 3
