"""After kill -9 nothing is lost but the work under way. What is left is not taken for data, and the next run
removes it and ends as an undisturbed one. They kill themselves when a file is about to get its name."""

import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import tiny_settings, write_images
from tests.forks import run_forked
from tests.test_cli import run
from tests.test_outputs import files

from egodepth.core import config
from egodepth.core.files import visible
from egodepth.data.footage.depth_map import depth_maps
from egodepth.data.footage.frame_cache import cached_frames
from egodepth.data.preparation.clips import read_clips
from egodepth.data.preparation.structure_from_motion import reconstruct
from egodepth.data.sources import read_source
from egodepth.data.synthetic.street import read_street
from egodepth.report.plots import read_log
from egodepth.runs.checkpoint import read_run
from egodepth.runs.folder import RunFolder
from egodepth.training.run import train

KILLED = """
import os, signal, sys
from pathlib import Path

left, suffix, replace = int(sys.argv[1]), sys.argv[2], Path.replace

def killed(self, target):
    global left
    left -= Path(target).suffix == suffix
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = killed
from egodepth.cli import main

sys.exit(main(sys.argv[3:]))
"""


def kill(count: int, suffix: str, *words: object) -> None:
    """Run a command that is killed when its ``count``-th file with a suffix is written, but has no name yet."""
    assert run_forked(KILLED, count, suffix, *words) == -signal.SIGKILL


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".egodepth-*") if path.name != ".egodepth-lock"]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills") / "frames"
    write_images(folder, 6)
    return folder


def test_a_killed_training_resumes_with_the_same_losses(frames: Path, tmp_path: Path) -> None:
    settings = tiny_settings(frames, steps=8, checkpoint_every=2)
    train(settings, tmp_path / "whole")
    config.save(settings, tmp_path / "settings.yaml")
    words = ["train", frames, "--out", tmp_path / "run"]
    kill(2, ".ckpt", *words, "--config", tmp_path / "settings.yaml")
    assert len(leftovers(tmp_path / "run")) == 1
    kill(2, ".ckpt", *words, "--resume")
    assert torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)["global_step"] == 4
    assert train(settings, tmp_path / "run", resume=True).steps == 8
    assert leftovers(tmp_path) == []
    whole, resumed = (read_log(RunFolder.at(tmp_path / name)) for name in ("whole", "run"))
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name][-4:], values[-4:])
    first, second = (read_run(tmp_path / name)[1].state_dict() for name in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_prediction_leaves_whole_maps_alone(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", tiny_run, frames, "--fps", 10, "--out"]
    kill(3, ".npz", *words, tmp_path / "out")
    depth = tmp_path / "out" / "depth"
    assert len(leftovers(depth)) == 1 and len(leftovers(tmp_path)) == 2  # and the video's
    assert sorted(depth_maps(depth)) == ["0000000000", "0000000001"]
    status, _, err = run(capsys, *words, tmp_path / "out")
    assert status == 0 and "removed the" in err
    assert run(capsys, *words, tmp_path / "whole")[0] == 0
    assert leftovers(tmp_path) == [] and files(tmp_path / "out") == files(tmp_path / "whole")
    for name, path in depth_maps(tmp_path / "whole" / "depth").items():
        assert np.array_equal(np.load(depth / path.name)["depth"], np.load(path)["depth"]), name


def test_a_killed_odometry_is_repeated(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["odometry", tiny_run, frames, "--fov", 60, "--out", tmp_path / "out"]
    kill(2, ".txt", *words)
    assert len(leftovers(tmp_path)) == 1
    assert run(capsys, *words)[0] == 0
    assert files(tmp_path / "out") == {
        "files.txt", "odometry.json", "trajectory.png", "trajectory_kitti.txt", "trajectory_tum.txt",
    }  # fmt: skip


def test_a_killed_export_is_repeated(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "export",
        "colmap",
        tiny_run,
        frames,
        "--fov",
        60,
        "--every",
        1,
        "--out",
        tmp_path / "out",
    ]
    kill(2, ".png", *words)
    assert len(visible(tmp_path / "out" / "images")) == len(leftovers(tmp_path)) == 1
    assert run(capsys, *words)[0] == 0
    assert len(visible(tmp_path / "out" / "images")) == 6 and leftovers(tmp_path) == []


CACHE_KILLED = """
import os, signal, sys
from pathlib import Path

Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
from egodepth.data.footage.frame_cache import cached_frames
from egodepth.data.sources import read_source

cached_frames(read_source(sys.argv[1])[0], 32, 64, Path(sys.argv[2]))
"""


def test_a_killed_process_leaves_no_cache_behind(frames: Path, tmp_path: Path) -> None:
    assert run_forked(CACHE_KILLED, frames, tmp_path) == -signal.SIGKILL
    assert len(leftovers(tmp_path)) == 2 and visible(tmp_path) == []  # a part, and its lock
    found, numbers = cached_frames(read_source(frames)[0], 32, 64, tmp_path)
    assert (len(found), numbers.tolist()) == (6, [0, 1, 2, 3, 4, 5])
    assert leftovers(tmp_path) == []


SFM_KILLED = """
import os, signal, sys
from pathlib import Path
from egodepth.data.preparation import structure_from_motion
from egodepth.data.preparation.clips import read_clips
from egodepth.data.synthetic.street import read_street

structure_from_motion._place = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
clip = read_clips([read_street(5, frames=10)], 96, 320, Path(sys.argv[1]))[0]
structure_from_motion.reconstruct(clip, Path(sys.argv[1]))
"""


def test_a_killed_structure_from_motion_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycolmap", reason="structure from motion needs pycolmap")
    cache, temporary = tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    assert run_forked(SFM_KILLED, cache, TMPDIR=str(temporary)) == -signal.SIGKILL
    (left,) = temporary.iterdir()
    assert left.name.startswith("egodepth-sfm-") and (left / "database.db").exists()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (clip,) = read_clips([read_street(5, frames=10)], 96, 320, cache)
    motion = reconstruct(clip, cache).motion
    assert motion is not None and (motion.part == 0).all()
    assert list(temporary.iterdir()) == [] and leftovers(cache) == []
