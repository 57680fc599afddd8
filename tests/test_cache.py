"""One of several processes makes a file of the cache while the others wait, and a damaged one is made again."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.cache import content, read_or_make
from egodepth.data.footage.frame_cache import cached_frames
from egodepth.data.preparation import structure_from_motion, unknown_camera
from egodepth.data.preparation.clips import read_clips
from egodepth.data.sources import read_source
from egodepth.geometry.self_calibration import CameraEstimate

SCRIPT = """
import sys, time
from pathlib import Path
from egodepth.data.footage.cache import content, read_or_make

path, log = Path(sys.argv[1]), Path(sys.argv[2])

def make(partial):
    with log.open("a") as file:
        file.write("made ")
    time.sleep(1)
    partial.write_text("found")

print(read_or_make(path, make, lambda: content(path).decode()))
"""


def test_two_processes_make_a_file_once(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "cache" / "x.txt"), str(tmp_path / "log")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["found", "found"]
    assert (tmp_path / "log").read_text() == "made "
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["x.txt"]


def test_what_could_not_be_made_is_made_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"

    def fail(partial: Path) -> None:
        partial.write_text("4")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_or_make(path, fail, path.read_bytes)
    started = time.perf_counter()
    made = read_or_make(path, lambda partial: partial.write_text("42"), lambda: content(path))
    assert made == b"42"
    assert time.perf_counter() - started < 5  # nobody is waited for
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def _zeros(path: Path, start: float, end: float) -> None:
    """Set a share of the bytes to zero."""
    whole = bytearray(path.read_bytes())
    first, last = round(start * len(whole)), round(end * len(whole))
    whole[first:last] = bytes(last - first)
    path.write_bytes(whole)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "zeros": lambda path: _zeros(path, 0, 1),
    "a block of zeros": lambda path: _zeros(path, 0.4, 0.5),
    "another size": lambda path: _save(path, np.zeros((3, 3, 16, 16), np.uint8)),
    "another type": lambda path: _save(path, np.zeros((6, 3, 32, 64), np.float32)),
    "another entry": lambda path: path.write_bytes(path.with_name("other").read_bytes()),
}


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_frames_are_read_again(tmp_path: Path, damage: str) -> None:
    write_images(tmp_path / "frames", 6)
    write_images(tmp_path / "others", 6, width=96)
    sequence, other = (read_source(tmp_path / name)[0] for name in ("frames", "others"))
    cache = tmp_path / "cache"
    cached_frames(other, 32, 64, cache)
    next(cache.iterdir()).rename(cache / "other")
    frames, numbers = cached_frames(sequence, 32, 64, cache)
    assert frames.shape == (6, 3, 32, 64) and numbers.tolist() == list(range(6))
    whole = np.array(frames)
    DAMAGES[damage](next(p for p in cache.iterdir() if p.name != "other"))
    with pytest.warns(
        EgodepthWarning, match=r"the cache file .* is damaged or incomplete; it is made again"
    ):
        again = cached_frames(sequence, 32, 64, cache)
    assert np.array_equal(again[0], whole) and np.array_equal(again[1], numbers)
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.txt").mkdir()
    with pytest.raises(EgodepthError, match=r"cannot read .*x\.txt"):
        read_or_make(tmp_path / "x.txt", Path.touch, dict)


@pytest.mark.parametrize("damage", ["empty", "cut", "a block of zeros"])
def test_an_estimated_camera_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    write_images(tmp_path / "frames", 2)
    (sequence,) = read_source(tmp_path / "frames")
    estimate = CameraEstimate(70.0, np.array([39.5, 19.5]), 0.01, 8)
    monkeypatch.setattr(unknown_camera, "_estimate", lambda _: estimate)

    def found() -> str:
        return repr(unknown_camera.estimate_unknown_camera(sequence, tmp_path / "cache"))

    assert found() == found() == repr(estimate)
    DAMAGES[damage](next((tmp_path / "cache").iterdir()))
    with pytest.warns(EgodepthWarning, match="is made again"):
        assert found() == repr(estimate)


@pytest.mark.parametrize("damage", ["empty", "cut", "a block of zeros"])
def test_structure_from_motion_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    write_images(tmp_path / "frames", 3)
    (sequence,) = read_source(tmp_path / "frames")
    (clip,) = read_clips([sequence.with_fov(60)], 32, 64, tmp_path / "frames_cache")
    rng = np.random.default_rng(0)
    made = {
        "world_from_camera": np.tile(np.eye(4), (3, 1, 1)), "part": np.zeros(3, int),
        "point_frame": np.arange(3).repeat(4), "pixels": rng.random((12, 2)),
        "inverse_depth": rng.random(12), "matrix": clip.camera.matrix.numpy(),
        "notes": np.array([], str),
    }  # fmt: skip
    monkeypatch.setattr(structure_from_motion, "_run_colmap", lambda _: made)

    def found() -> list[float]:
        motion = structure_from_motion.reconstruct(clip, tmp_path / "cache").motion
        assert motion is not None
        return motion.points[1].inverse_depth.tolist()

    assert found() == found() == made["inverse_depth"][4:8].tolist()
    DAMAGES[damage](next((tmp_path / "cache").iterdir()))
    with pytest.warns(EgodepthWarning, match="is made again"):
        assert found() == made["inverse_depth"][4:8].tolist()
    (path,) = (tmp_path / "cache").glob("*-sfm.npz")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert found() == found() == made["inverse_depth"][4:8].tolist()
