"""A disk that fills up: every writer names its file, says what to do, and leaves nothing half written."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TINY, write_images
from tests.layouts import make_footage
from tests.test_start_comparison import small_demo

from egodepth.cli import main
from egodepth.core.locks import PREFIX
from egodepth.core.memory import is_out_of_memory, require_memory

DISK = 8 << 20
"""Size of the small disk in bytes."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "disk", str(folder), "-o", f"size={DISK}"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave(disk: Path, kilobytes: int) -> None:
    """Fill the disk up to so many kilobytes."""
    free = os.statvfs(disk)
    size = free.f_bavail * free.f_frsize - kilobytes * 1024
    (disk / "other").write_bytes(bytes(max(0, size)))


def training(out: Path, **changes: object) -> list[str]:
    words = ["--out", str(out)]
    settings = TINY | {"minutes": "null", "checkpoint_every": 2, "steps": 6} | changes
    for name, value in settings.items():
        words += [f"--{name}", str(list(value) if isinstance(value, tuple) else value)]
    return words


@pytest.mark.parametrize(
    ("kilobytes", "words", "name"),
    [
        (4, ["predict"], "files.txt"),
        (32, ["predict"], "depth"),
        (4, ["odometry"], "files.txt"),
        (24, ["export", "points"], "c.ply"),
        (40, ["export", "mesh"], "c.glb"),
        (40, ["export", "colmap"], "images.bin"),
        (24, ["export", "rerun"], "c.rrd"),
        (24, ["export", "hub"], "model.safetensors"),
        (4, ["report"], "report.html"),
        (0, ["evaluate"], "scores.json"),
        (4, ["refine", "--iterations", "1"], "files.txt"),
        (32, ["refine", "--iterations", "1"], "depth"),
        (20, ["train"], ""),
        (40, ["train"], "checkpoint.ckpt"),
        (4, ["train", "--data.cache"], ".npy"),
    ],
)  # fmt: skip
def test_a_full_disk(
    tiny_run: Path, tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str],
    kilobytes: int, words: list[str], name: str,
) -> None:  # fmt: skip
    write_images(tmp_path / "frames", 7)
    frames, out = str(tmp_path / "frames"), disk / "out"
    file = {"points": "c.ply", "mesh": "c.glb", "rerun": "c.rrd"}.get(words[-1])
    if words[-1] == "rerun":
        pytest.importorskip("rerun")
    leave(disk, kilobytes)
    match words:
        case ["train"]:
            words = [*words, frames, "--data.fov", "60", *training(out)]
        case ["train", option]:
            words = [
                "train",
                frames,
                "--data.fov",
                "60",
                *training(tmp_path / "run"),
                option,
                str(out),
            ]
        case ["report"]:
            words = [*words, str(tiny_run), "--out", str(out / name)]
        case ["evaluate"]:
            drive = str(make_footage(tmp_path))
            words = ["evaluate", "depth", str(tiny_run), "--data", drive, "--json", str(out / name)]
        case ["export", "hub"]:
            words = [*words, str(tiny_run), "--out", str(out)]
        case _:
            place = out / file if file else out
            words = [*words, str(tiny_run), frames, "--fov", "60", "--out", str(place)]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    last = error.splitlines()[-1]
    assert last.startswith(f"egodepth: cannot write {out}") and name in last
    assert "No space left on device; free some space there, or choose another place" in last
    for path in (path for path in disk.rglob("*") if path.is_file()):
        assert not path.name.startswith(PREFIX) or path.stat().st_size == 0, path
        if path.suffix == ".npz":
            assert np.load(path)["depth"].ndim == 2
    assert file is None or not (out / file).exists()
    if name == "files.txt":
        (disk / "other").unlink()
        assert main(words) == 0  # as if nothing had happened


def test_a_full_disk_in_a_demo(
    tiny_run: Path, tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_images(tmp_path / "frames", 12)
    small_demo(monkeypatch, tiny_run, tmp_path / "frames")
    leave(disk, 40)
    assert main(["demo", "--minutes", "2", "--out", str(disk / "demo")]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    last = error.splitlines()[-1]
    assert last.startswith(f"egodepth: cannot write {disk / 'demo'}")
    assert "No space left on device; free some space there, or choose another place" in last
    assert {path.name for path in disk.rglob(f"{PREFIX}*")} <= {f"{PREFIX}lock"}


def test_lack_of_memory_is_recognized() -> None:
    with pytest.raises(MemoryError) as caught:
        require_memory(1 << 50)
    assert is_out_of_memory(caught.value)
    try:
        try:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
            )
        except RuntimeError as error:
            raise ValueError("no depth") from error
    except ValueError as error:
        assert is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("another"))
