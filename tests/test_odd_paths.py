"""Paths that are of another kind than expected, or have odd names: one line says what is wrong."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console
from tests.conftest import write_images

from egodepth.cli import main
from egodepth.core.errors import EgodepthError
from egodepth.core.progress import SILENCE, Phase
from egodepth.core.terminal import TerminalReporter

ODD = (
    "file", "folder", "loop", "file/x", "two\nlines", os.fsdecode(b"\xff\n"), "n" * 300, "", "-", "/dev/null",
    "~user/x",
)  # fmt: skip
COMMANDS = (
    "predict @ folder --out x", "odometry @ folder --out x", "evaluate depth file --data @",
    "evaluate odometry @ --truth file", "evaluate odometry file --truth @", "export hub @ --out x",
    "report @ --out x.html", "judge @ folder", "landscape @ folder", "data check @",
    "train @ --out x", "train folder --out x --config @", "import featdepth @ --out x",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_odd_paths_end_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    before = sorted(os.listdir())
    for odd in ODD:
        assert main([odd if word == "@" else word for word in command.split()]) in (1, 2), odd
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("egodepth: ") and line.isprintable() and len(line) < 600
    assert sorted(os.listdir()) == before


def test_errors_escape_what_would_break_their_line() -> None:
    assert (
        str(EgodepthError(f"no file {os.fsdecode('Ö'.encode())}\r\n\x1b[0m"))
        == r"no file Ö\r\n\x1b[0m"
    )
    assert (
        str(EgodepthError("夏の\u3000動画\u2028\u202e.mp4")) == "夏の\u3000動画\\u2028\\u202e.mp4"
    )


def test_progress_escapes_names() -> None:
    assert str(Phase("tracking a\x1b[2J\nb", None, "frames", SILENCE)) == r"tracking a\x1b[2J\nb"


def test_notes_show_names_as_they_are() -> None:
    shown = io.StringIO()
    TerminalReporter(Console(file=shown)).note("[red] :x: Ö")
    assert shown.getvalue() == "[red] :x: Ö\n"


@pytest.mark.parametrize(
    "command",
    [
        "data check @ --out x.png",
        "predict RUN @ --formats npz --out @x",
        "evaluate odometry @.txt --truth truth.txt",
        "train @ --out x --estimate",
    ],
)
def test_names_reach_the_terminal_escaped(
    command: str,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = "a\x1b[31m [red]\nb :x:"
    write_images(tmp_path / odd, 3)
    for name in (f"{odd}.txt", "truth.txt"):
        Path(name).write_text("\n".join(f"{i} {i} {i / 9} 0 0 0 0 1" for i in range(8)))
    assert (
        main([str(tiny_run) if w == "RUN" else w.replace("@", odd) for w in command.split()]) == 0
    )
    shown = "".join(capfd.readouterr())
    assert r"a\x1b[31m [red]\nb :x:" in shown.replace("\u2502", "")
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "\nb :x:" not in shown
