import ast
import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests.conftest import Heard, tiny_settings, write_images

import egodepth
from egodepth.core import progress
from egodepth.core.progress import Phase
from egodepth.core.terminal import TerminalReporter
from egodepth.inference.export.colmap import write_colmap
from egodepth.inference.export.mesh import Mesh, fuse_mesh
from egodepth.inference.export.scene import SceneSettings
from egodepth.inference.scoring.landscape import draw_landscape
from egodepth.refine import SampleRefinement, refine_samples


def lines_of(work: Callable[[], object], seconds: float) -> list[str]:
    """What is printed where there is no terminal."""
    out = io.StringIO()
    with egodepth.reporting(TerminalReporter(Console(file=out, width=200), seconds)):
        work()
    return out.getvalue().splitlines()


def test_a_phase_that_blocks_prints_a_line_every_few_seconds() -> None:
    def work() -> None:
        with progress.phase("adjusting everything") as phase:
            time.sleep(0.35)  # in C++, which reports nothing
            phase.update(3, 8)
            time.sleep(0.25)

    lines = lines_of(work, 0.1)
    assert 4 <= len(lines) <= 6
    assert lines[0] == "adjusting everything"
    assert lines[-1].startswith("adjusting everything: 3 of 8 frames, ")
    assert lines[-1].endswith(" s left")


def test_many_short_phases_print_lines_too() -> None:
    def work() -> None:
        for number in range(30):
            with progress.phase(f"clip {number}"):
                time.sleep(0.02)

    assert len(lines_of(work, 0.1)) >= 3


def test_short_work_prints_nothing_and_leaves_no_thread() -> None:
    before = threading.active_count()
    assert lines_of(lambda: list(progress.track(range(3), "looking", 3)), 15.0) == []
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.01)
    assert threading.active_count() == before


def test_the_innermost_phase_is_printed() -> None:
    def work() -> None:
        with progress.phase("training", 100, "steps"):
            with progress.phase("labels"):
                time.sleep(0.25)
            time.sleep(0.25)

    names = [line.partition(":")[0] for line in lines_of(work, 0.1)]
    assert names[0] == "labels" and names[-1] == "training"


def test_pace_and_time_left_are_those_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    phase = Phase("tracking", 100, "frames", progress.Silence())
    for seconds in [10.0] * 5 + [0.5] * 35:
        now[0] += seconds
        phase.advance()
    assert phase.rate == pytest.approx(2.0)
    assert str(phase) == "tracking: 40 of 100 frames, 2.0 frames/s, 30 s left"
    phase.update(100, values="loss 0.1")
    assert str(phase) == "tracking: 100 of 100 frames, loss 0.1"


def test_a_bar_shows_values_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    with (
        egodepth.reporting(TerminalReporter(console)),
        progress.phase("training", 10, "steps") as phase,
    ):
        phase.update(5, values="loss 0.250")
        progress.note("something was [found]")
        time.sleep(0.3)
    shown = out.getvalue()
    assert "loss 0.250" in shown and "5/10" in shown and "something was [found]" in shown


def test_python_users_get_silence(capfd: pytest.CaptureFixture[str]) -> None:
    list(progress.track(range(3), "looking", 3))
    progress.note("found")
    assert capfd.readouterr() == ("", "")


def test_a_reporter_hears_begin_steps_and_end() -> None:
    class Mine:
        def __init__(self) -> None:
            self.heard: list[object] = []

        def show(self, phase: Phase) -> None:
            self.heard.append((phase.name, phase.done, phase.ended))

        def note(self, text: str) -> None:
            self.heard.append(text)

    mine = Mine()
    with pytest.raises(KeyboardInterrupt), egodepth.reporting(mine):
        progress.note("begin")
        for item in progress.track(range(9), "looking"):
            if item == 1:
                raise KeyboardInterrupt
    assert mine.heard == [
        "begin",
        ("looking", 0, False),
        ("looking", 1, False),
        ("looking", 1, True),
    ]


def test_the_library_neither_prints_nor_ends_the_process() -> None:
    """That is the command line's; but a second signal ends any command at once."""
    package = Path(egodepth.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            word = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if word in ("print", "os._exit", "sys.exit", "sys.stdout.write", "sys.stderr.write"):
                found.append(f"{path.name}:{node.lineno}: {word}")
    assert [each for each in found if not each.startswith("signals.py:")] == []


def test_every_long_phase_is_reported(tiny_run: Path, tmp_path: Path) -> None:
    """Each of these takes minutes on real footage."""
    write_images(tmp_path / "frames", 6)
    run = egodepth.load(tiny_run)
    (sequence,) = run.open(tmp_path / "frames")
    name = sequence.name
    sequence = replace(sequence, depth={2: lambda: np.full((40, 80), 3.0, np.float32)})
    found = egodepth.track_sequence(run, sequence)

    def fuse() -> Mesh:
        return fuse_mesh(run, sequence, found, 2)

    def write_model() -> None:
        write_colmap(tmp_path / "model", run, sequence, found, SceneSettings(every=1))

    def predict() -> None:
        list(egodepth.write_predictions(egodepth.predict_sequence(run, sequence), tmp_path / "out"))

    write_images(tmp_path / "others", 6)
    settings = tiny_settings(tmp_path / "others", steps=2, data__stride="auto", data__mask="auto")
    works: list[tuple[Callable[[], object], set[str]]] = [
        (predict, {f"predicting {name}"}),
        (lambda: egodepth.track_sequence(run, sequence), {f"tracking {name}"}),
        (lambda: egodepth.evaluate_depth(run, [sequence], "indoor"), {"scoring depth"}),
        (fuse, {f"depth of {name}", f"fusing depth of {name}", "marching cubes"}),
        (write_model, {f"depth of {name}"}),
        (
            lambda: list(refine_samples(tiny_run, sequence, SampleRefinement(1), frames=[2])),
            {f"refining {name}"},
        ),
        (lambda: draw_landscape(tiny_run, sequence, 2, radius=1, count=9), {"loss surfaces"}),
        (
            lambda: egodepth.train(settings, tmp_path / "run"),
            {
                "reading others", "looking for what stays in place", "looking for motion",
                "looking at the footage", "training",
            },
        ),
    ]  # fmt: skip
    for work, wanted in works:
        told: set[str] = set()
        with egodepth.reporting(Heard(lambda name, done: told.add(name))):  # noqa: B023
            work()
        assert wanted <= told, wanted - told
