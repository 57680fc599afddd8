"""Ctrl-C, SIGTERM and SIGHUP: what every long command does, and keeps."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests import layouts
from tests.conftest import TINY, write_images
from tests.fuzz.inputs import OWN
from tests.test_start_comparison import small_demo

from egodepth.cli import main
from egodepth.core import signals
from egodepth.core.progress import Phase
from egodepth.demo import _clear
from egodepth.runs.checkpoint import read_checkpoint

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
WAITING = """
import sys, time
from egodepth.core.signals import command_signals, exit_status
with command_signals(own=True):
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("stopping", flush=True)
        {then}
        sys.exit(exit_status())
"""
"""A command that waits, and then does something else before it ends."""


@pytest.fixture(autouse=True)
def _not_ignored() -> Iterator[None]:
    """A signal that whatever runs the tests ignores, as nohup does, would be ignored by commands, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write_images(tmp_path / "frames", 7)
    return tmp_path / "frames"


@pytest.fixture
def own_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets a command own the signals of this process, and takes them back."""
    before = {number: signal.getsignal(number) for number in STATUS}
    monkeypatch.setattr(signals._Process, "owned", False)
    monkeypatch.setattr(signals._Process, "received", None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run_until(
    monkeypatch: pytest.MonkeyPatch, phase: str, count: int, number: int, *words: object
) -> int:
    """Run a command as the shell does, and send it a signal when a phase has done so much."""
    update, sent = Phase.update, []

    def watched(self: Phase, done: int, *others: object) -> None:
        update(self, done, *others)  # type: ignore[arg-type]
        if self.name.startswith(phase) and done >= count and not sent:
            sent.append(done)
            os.kill(os.getpid(), number)
            time.sleep(0)

    with monkeypatch.context() as patch:
        patch.setattr(Phase, "update", watched)
        patch.setattr(sys, "argv", ["egodepth", *map(str, words)])
        status = main()
    assert sent, f"there was no phase {phase}"
    return status


def run_until_named(
    monkeypatch: pytest.MonkeyPatch, suffix: str, number: int, *words: object
) -> int:
    """Run a command as the shell does, and send it a signal when its first file with a suffix is written, but
    has no name yet."""
    replace, sent = Path.replace, []

    def watched(self: Path, target: Path) -> Path:
        if target.suffix == suffix and not sent:
            sent.append(target)
            os.kill(os.getpid(), number)
            time.sleep(0)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", watched)
        patch.setattr(sys, "argv", ["egodepth", *map(str, words)])
        status = main()
    assert sent, f"no file {suffix} was written"
    return status


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_whole(folder: Path) -> None:
    """Nothing temporary is left, and what is there can be read."""
    for path in files_of(folder):
        assert not path.name.startswith("."), path
        if path.suffix == ".npz":
            assert np.load(path)["depth"].ndim == 2


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("words", "phase", "count", "number", "said", "kept"),
    [
        (["predict"], "predicting", 4, signal.SIGTERM, "no video or trajectory", "depth/0000000000.npz"),
        (["odometry"], "tracking", 4, signal.SIGINT, "after 4 of 7 frames; their traj", "trajectory_tum.txt"),
        (["export", "colmap", "--every", "1"], "tracking", 4, signal.SIGHUP, "this is a part",
         "sparse/0/images.bin"),
    ],
)  # fmt: skip
def test_a_command_keeps_what_is_whole(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, words: list[str], phase: str, count: int, number: int,
    said: str, kept: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    given = [*words, tiny_run, frames, "--fov", 60, "--out", out]
    assert run_until(monkeypatch, phase, count, number, *given) == STATUS[number]
    error = capsys.readouterr().err.splitlines()
    assert said in error[-1] and error[-1].endswith("the same command starts over")
    assert_whole(tmp_path)
    assert (out / kept).exists()


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Frames with a camera, depth and poses."""
    folder = layouts.make_footage(tmp_path / "data")
    (folder / "camera.yaml").write_text(OWN)
    poses = "".join(f"1 0 0 {0.1 * i * i:g} 0 1 0 0 0 0 1 {0.3 * i:g}\n" for i in range(3))
    (folder / "poses.txt").write_text(poses)
    return folder


NOTHING_LEFT = "interrupted; nothing is left half written; the same command starts over"


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("words", "when", "number", "said", "kept"),
    [
        ("evaluate depth RUN --data DRIVE --json OUT/a.json", ("scoring", 1), signal.SIGINT, NOTHING_LEFT, []),
        ("evaluate depth RUN --data DRIVE --worst OUT", ("drawing", 1), signal.SIGTERM, NOTHING_LEFT,
         ["01_mine_2.png", "files.txt"]),
        ("evaluate odometry RUN --data DRIVE --json OUT/a.json", ".json", signal.SIGTERM,
         NOTHING_LEFT, []),
        ("evaluate odometry RUN --data DRIVE --by alignment --plot OUT/a.png", ("tracking", 2),
         signal.SIGINT, NOTHING_LEFT, []),
        ("refine RUN DRIVE --iterations 1 --out OUT", ("refining", 2), signal.SIGTERM, "are not scored", None),
        ("export points RUN FRAMES --out OUT/a.ply", ("depth of", 1), signal.SIGHUP,
         "a.ply is not written", []),
        ("export mesh RUN FRAMES --every 2 --out OUT/a.glb", ("fusing", 1), signal.SIGINT,
         "a.glb is not written", []),
        ("export colmap RUN FRAMES --every 1 --out OUT", ("depth of", 1), signal.SIGTERM,
         "is incomplete", None),
        ("export rerun RUN FRAMES --out OUT/a.rrd", ("recording", 1), signal.SIGHUP,
         "a.rrd is not written", []),
        ("export hub RUN --out OUT", ".json", signal.SIGTERM, "is incomplete",
         ["confidence.safetensors", "model.safetensors"]),
        ("export onnx RUN --out OUT/a.onnx", ".onnx", signal.SIGINT, NOTHING_LEFT, []),
        ("report RUN --out OUT/a.html", ".html", signal.SIGHUP, NOTHING_LEFT, []),
        ("data check FRAMES --out OUT/a.png", ".png", signal.SIGINT, NOTHING_LEFT, []),
    ],
)  # fmt: skip
def test_every_long_command_ends_in_one_line(
    tiny_run: Path, frames: Path, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, words: str, when: str | tuple[str, int], number: int, said: str,
    kept: list[str] | None,
) -> None:  # fmt: skip
    if "rerun" in words:
        pytest.importorskip("rerun")
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = files_of(run)
    places = {"RUN": run, "FRAMES": frames, "DRIVE": drive}
    given = [places.get(w, w.replace("OUT", str(tmp_path / "out"))) for w in words.split()]
    if "FRAMES" in words and "export" in words:
        given += ["--fov", 60]
    if isinstance(when, str):
        status = run_until_named(monkeypatch, when, number, *given)
    else:
        status = run_until(monkeypatch, *when, number, *given)
    assert status == STATUS[number]
    last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("egodepth: ")][
        -1
    ]
    assert said in last and last.endswith("the same command starts over"), last
    assert_whole(tmp_path)
    assert {*before} <= {*files_of(run)}
    if kept is not None:
        assert sorted(path.name for path in files_of(tmp_path / "out")) == kept


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("phase", "count", "number", "said", "whole"),
    [
        ("predicting", 3, signal.SIGTERM, "nothing is left half written", False),
        ("training", 1, signal.SIGHUP, "stopped by SIGHUP", True),
        pytest.param("tracking", 2, signal.SIGINT, "nothing is left half written", True,
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_an_interrupted_demo_starts_over(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, phase: str, count: int, number: int, said: str, whole: bool,
) -> None:  # fmt: skip
    small_demo(monkeypatch, tiny_run, frames)
    out = tmp_path / "demo"
    status = run_until(monkeypatch, phase, count, number, "demo", "--minutes", 2, "--out", out)
    assert status == STATUS[number]
    last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("egodepth: ")][
        -1
    ]
    assert said in last and last.endswith("the same command starts over")
    assert_whole(out)
    assert (out / "checkpoint.ckpt").exists() == whole
    assert not (out / "report.html").exists() and not (out / "metrics.json").exists()
    (out / "report.html").write_text("of an earlier demo")
    if whole:
        _clear(out)
        assert not (out / "report.html").exists()


def training_of(frames: Path, out: Path) -> list[object]:
    """Words of a tiny training."""
    words: list[object] = ["train", frames, "--out", out]
    for name, value in (TINY | {"steps": 50, "data.fov": 60, "minutes": "null"}).items():
        words += [f"--{name}", list(value) if isinstance(value, tuple) else value]
    return words


@pytest.mark.usefixtures("own_signals")
def test_a_training_is_resumed_after_a_closed_terminal(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    words = training_of(frames, tmp_path / "run")
    assert run_until(monkeypatch, "training", 2, signal.SIGHUP, *words) == 129
    error = capsys.readouterr().err.splitlines()[-1]
    assert "stopped by SIGHUP; go on with: egodepth train" in error and "--resume" in error
    assert read_checkpoint(tmp_path / "run" / "checkpoint.ckpt")["global_step"] == 2
    assert_whole(tmp_path / "run")


@pytest.mark.usefixtures("own_signals")
def test_before_the_first_step_there_is_nothing_to_keep(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    words = training_of(frames, tmp_path / "run")
    assert run_until(monkeypatch, "reading", 1, signal.SIGTERM, *words) == 143
    assert "interrupted before the first step; the same command" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoint.ckpt").exists()
    small = ["pretrain", "--out", tmp_path / "worlds", "--workers", 0]
    for name in ("height", "width", "pretrained", "depth_encoder", "pose_encoder"):
        small += [f"--model.{name}", str(TINY[f"model.{name}"])]
    monkeypatch.setattr(signals._Process, "received", None)
    assert run_until(monkeypatch, "rendering worlds", 1, signal.SIGINT, *small) == 130
    assert "interrupted before the first step; the same command" in capsys.readouterr().err


def waiting(then: str = "pass", **options: object) -> subprocess.Popen[str]:
    """Start a command that waits, and does something else after the first signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.replace("{then}", then)], text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # type: ignore[call-overload]  # fmt: skip
    if process.stdout is not None:
        assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", STATUS)
def test_the_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    with waiting("time.sleep(60)") as process:
        process.send_signal(number)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert process.stderr.read() == ""
    with waiting() as process:
        process.send_signal(number)
        assert process.wait(5) == STATUS[number]


def test_an_interrupt_that_python_would_drop_arrives() -> None:
    """Raised in a finalizer, an error is printed and forgotten."""
    dropped = WAITING.replace(
        "time.sleep(60)",
        "\n        class Slow:\n            def __del__(self): time.sleep(1)\n"
        "        del (s := [Slow()])[0]\n        time.sleep(60)",
    )
    with subprocess.Popen(
        [sys.executable, "-c", dropped.format(then="pass")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
        assert process.stderr.read() == ""


def test_a_closed_terminal_takes_no_words() -> None:
    """Writing to it would fail, and end a training before its checkpoint."""
    main_end, terminal = pty.openpty()
    process = waiting(
        "print('more', flush=True); print('more', file=sys.stderr)",
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    assert b"ready" in os.read(main_end, 100)
    process.send_signal(signal.SIGHUP)
    os.close(main_end)
    assert process.wait(5) == 129


def test_nohup_is_obeyed() -> None:
    with waiting(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
