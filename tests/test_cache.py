"""One of several processes makes a file of the cache, and the others wait for it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from egodepth.data.footage.cache import read_or_make

SCRIPT = """
import sys, time
from pathlib import Path
from egodepth.data.footage.cache import read_or_make

path, log = Path(sys.argv[1]), Path(sys.argv[2])

def make():
    with log.open("a") as file:
        file.write("made ")
    time.sleep(1)
    path.write_text("found")

print(read_or_make(path, make, path.read_text))
"""


def test_two_processes_make_a_file_once(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "cache" / "x.txt"), str(tmp_path / "log")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["found", "found"]
    assert (tmp_path / "log").read_text() == "made "
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["x.txt"]


def test_a_file_that_was_cut_short_or_could_not_be_made_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("4")

    def fail() -> None:
        raise KeyboardInterrupt

    def read() -> int:
        text = path.read_text()
        if len(text) < 2:
            raise ValueError(text)
        return int(text)

    with pytest.raises(KeyboardInterrupt):
        read_or_make(path, fail, read)

    def write() -> None:
        path.write_text("42")

    started = time.perf_counter()
    assert read_or_make(path, write, read) == 42
    assert time.perf_counter() - started < 5  # nobody is waited for
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
