"""One process at a time writes to a folder or a file; a lock ends with its process, however it ends."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import write_images
from tests.test_cli import run

from egodepth.core import locks, temporary
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import atomic_path, visible, write_text
from egodepth.core.locks import hold
from egodepth.core.temporary import remove_leftovers, temporary_folder

HOLD = """
import sys, time
from pathlib import Path
from egodepth.core.locks import hold

held = [hold(Path(name), folder=not Path(name).suffix) for name in sys.argv[1:]]
print("held", flush=True)
time.sleep(600)
"""
FORK = """
import os, signal, sys, time
from pathlib import Path
from egodepth.core.locks import hold

held = hold(Path(sys.argv[1]), folder=True)
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(600)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def held_by_another(*paths: Path) -> Iterator[int]:
    """Hold files and folders in another process, which is killed at the end; yields its number."""
    words = [sys.executable, "-c", HOLD, *map(str, paths)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process.pid
        finally:
            process.kill()


def test_a_second_process_is_told_of_the_first(tmp_path: Path) -> None:
    with held_by_another(tmp_path / "run", tmp_path / "a.ply") as number:
        for path, folder in ((tmp_path / "run", True), (tmp_path / "a.ply", False)):
            with pytest.raises(
                EgodepthError, match=f"is being written by process {number} on .* since"
            ):
                hold(path, folder=folder)
        hold(tmp_path / "b.ply", folder=False).release()
    # The other process was killed; what it left holds nothing.
    assert (tmp_path / "run" / ".egodepth-lock").exists()
    with hold(tmp_path / "run", folder=True), hold(tmp_path / "a.ply", folder=False):
        assert visible(tmp_path) == [tmp_path / "run"] and visible(tmp_path / "run") == []
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_a_process_may_hold_a_folder_twice(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    first = hold(tmp_path / "run", folder=True)
    with hold(tmp_path / "link", folder=True):
        pass
    assert (tmp_path / "run" / ".egodepth-lock").exists()
    del first  # as after an error
    assert not (tmp_path / "run").exists()  # nothing was written there


def test_a_child_does_not_keep_the_lock_of_its_killed_parent(tmp_path: Path) -> None:
    words = [sys.executable, "-c", FORK, str(tmp_path / "run")]
    found = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    assert found.returncode == -signal.SIGKILL
    try:
        hold(tmp_path / "run", folder=True).release()
    finally:
        os.kill(int(found.stdout), signal.SIGKILL)


def test_without_locks_a_warning_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    assert locks.fcntl is not None
    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.warns(EgodepthWarning, match=r"the file system of .*run has no locks"):
        hold(tmp_path / "run", folder=True).release()
    young, old = tmp_path / ".egodepth-young.npz", tmp_path / ".egodepth-old.npz"
    for path in (young, old):
        path.touch()
    os.utime(old, (0, 0))
    write_text(tmp_path / "a.txt", "1")
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", young.name}


def test_temporary_files_of_the_living_stay(tmp_path: Path) -> None:
    (tmp_path / ".egodepth-left.npz").touch()
    (tmp_path / ".hidden").touch()
    with atomic_path(tmp_path / "a.npz") as partial:
        assert partial.name.startswith(".egodepth-") and partial.suffix == ".npz"
        remove_leftovers(tmp_path)
        assert partial.exists() and visible(tmp_path) == []
        partial.write_text("1")
    assert {p.name for p in tmp_path.iterdir()} == {"a.npz", ".hidden"}


def test_temporary_folders_of_the_living_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "egodepth-sfm-x2ab01cd"
    mine = tmp_path / "egodepth-results"
    for folder in (left, mine):
        (folder / "attempt").mkdir(parents=True)
    (left / temporary.MARKER).touch()
    with temporary_folder("sfm") as first, temporary_folder("sfm") as second:
        assert {*tmp_path.iterdir()} == {first, second, mine}
    assert {*tmp_path.iterdir()} == {mine}


def test_every_command_leaves_a_folder_to_the_one_that_writes_it(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = tmp_path / "frames"
    write_images(frames, 3)
    out, file = tmp_path / "out", tmp_path / "cloud.ply"
    commands = [
        ["train", frames, "--out", out, "--fov", 60], ["pretrain", "--out", out],
        ["predict", tiny_run, frames, "--out", out],
        ["odometry", tiny_run, frames, "--out", out, "--fov", 60],
        ["refine", tiny_run, frames, "--out", out],
        ["export", "points", tiny_run, frames, "--out", file],
        ["export", "colmap", tiny_run, frames, "--out", out],
        ["export", "hub", tiny_run, "--out", out], ["demo", "--out", out],
    ]  # fmt: skip
    with held_by_another(out, file) as number:
        for words in commands:
            status, _, err = run(capsys, *words)
            assert status == 1 and len(err.splitlines()) == 1, (words, err)
            assert f"is being written by process {number} on" in err, (words, err)
        assert [p.name for p in out.iterdir()] == [".egodepth-lock"]
