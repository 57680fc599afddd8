"""Break inputs of every reader, and count tracebacks, hangs, crashes and silent acceptance.

``python -m tests.fuzz --count 3000 --seed 1`` runs the whole; ``--only KIND:NUMBER`` repeats one input.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from tests.fuzz.breaks import DESTROYING, breaks_for
from tests.fuzz.inputs import KINDS, NonsenseError, copy_of, files_of

import egodepth.report.leaderboard
import egodepth.runs.run
import egodepth.training.run  # noqa: F401  imported before the workers start, so that they need not
from egodepth.cli import main as command_line
from egodepth.core.errors import EgodepthError, EgodepthWarning

TIME_OUT, MAX_WAIT = 60.0, 300.0
"""An input counts as a hang after so many seconds of the processor, or of the clock, as other programs may keep
the processor busy."""
MAX_MEMORY = 6 << 30
"""Address space in bytes of the process that reads the inputs."""
GREEDY = 2 << 30
"""Memory in bytes at its peak, with some 0.5 GB of PyTorch, that no small file deserves."""
LONGEST_MESSAGE = 900
"""Maximum number of characters of an error message, without paths."""
COMMAND_SHARE = 0.35
"""Share of the inputs that are read by the command line."""


@dataclass(frozen=True)
class Case:
    """One broken input, made anew from its kind, number and seed."""

    kind: str
    number: int
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"


@dataclass
class Outcome:
    """What became of a case: ``fine`` or a kind of failure, how the input was broken, and details."""

    verdict: str
    how: str
    detail: str = ""


def run_case(case: Case, valid: Path, scratch: Path) -> Outcome:
    """Break one input and read it."""
    kind = KINDS[case.kind]
    names = sorted(KINDS)
    rng = np.random.default_rng([case.seed, names.index(case.kind), case.number])
    folder = scratch / "input"
    copy_of(valid / case.kind.replace(" ", "_"), folder)
    files = files_of(kind, folder)
    path = files[int(rng.integers(len(files)))]
    table = kind.table or breaks_for(path)
    name = list(table)[int(rng.integers(len(table)))]
    before = path.read_bytes()
    os.chdir(scratch)
    try:
        table[name](path, rng)
    except (UnicodeDecodeError, ValueError) as error:
        return Outcome("fine", f"{name} could not be applied: {error}")
    changed = path.is_symlink() or path.is_dir() or path.read_bytes() != before
    _reset_peak_memory()
    by_command = kind.command is not None and (kind.by_command or rng.random() < COMMAND_SHARE)
    how = f"{'command' if by_command else 'python'}, {path.relative_to(folder)} {name}"
    if by_command:
        assert kind.command is not None
        words = kind.command(folder)
        how += f" {' '.join(word[:40] for word in words)}" if kind.by_command else ""
        verdict, detail, silent = _by_command(words)
        silent = silent and words[:2] != [
            "data",
            "check",
        ]  # which reads three frames of one sequence
    else:
        verdict, detail, silent = _by_python(kind.read, folder)
    if verdict == "fine" and _peak_memory() > GREEDY:
        return Outcome("greedy", how, f"{_peak_memory() / 1e9:.1f} GB of memory; {detail}")
    optional = any(word in path.name for word in kind.optional)
    if verdict == "fine" and silent and changed and name in DESTROYING and not optional:
        return Outcome("accepted", how, "nothing of the file is left, and not a word is said")
    return Outcome(verdict, how, detail)


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    """Most memory in bytes since it was reset, 0 where the system does not tell it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return 0


def _by_python(read: object, folder: Path) -> tuple[str, str, bool]:
    assert callable(read)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read(folder)
        except EgodepthError as error:
            return (*_judge_message(str(error), folder), False)
        except NonsenseError as error:
            told = [w for w in caught if issubclass(w.category, EgodepthWarning)]
            if told and "pose" in str(error):
                return "fine", "", False
            return "accepted", str(error), True
        except Exception:
            return "traceback", traceback.format_exc(), False
        return "fine", "", not any(issubclass(w.category, EgodepthWarning) for w in caught)


def _by_command(words: list[str]) -> tuple[str, str, bool]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = command_line(words)
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:
            return "traceback", traceback.format_exc(), False
    said = err.getvalue()
    if "Traceback (most recent" in said:
        return "traceback", said, False
    if status not in (0, 1, 2):
        return "traceback", f"status {status}", False
    if status:
        line = said.strip().splitlines()[-1] if said.strip() else ""
        return (*_judge_message(line.removeprefix("egodepth: "), None), False)
    return "fine", "", "egodepth:" not in said and "not complete" not in out.getvalue()


def _judge_message(text: str, folder: Path | None) -> tuple[str, str]:
    if "\n" in text.strip() or not text.strip():
        return "unclear", f"not one line: {text!r}"
    if len(text) > LONGEST_MESSAGE:
        return "unclear", f"{len(text)} characters: {text[:300]!r}"
    if folder is not None and str(folder) not in text:
        return "unclear", f"no path: {text!r}"
    return "fine", text


def _work(pipe: Connection, valid: Path, scratch: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    while True:
        case = pipe.recv()
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            outcome = run_case(case, valid, scratch)
        except BaseException:
            outcome = Outcome("traceback", "the fuzz itself", traceback.format_exc())
        os.chdir("/")
        pipe.send(outcome)


def _processor_seconds(process: int | None) -> float:
    """Seconds that a process was busy, 0 where the system does not tell it."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Worker:
    """A process that reads inputs, started anew after a crash or a hang."""

    def __init__(self, valid: Path, scratch: Path):
        self._folders = valid, scratch
        self._process: multiprocessing.process.BaseProcess | None = None

    def run(self, case: Case) -> Outcome:
        """Run one case."""
        if self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("fork")
            self._pipe, inner = context.Pipe()
            self._process = context.Process(target=_work, args=(inner, *self._folders), daemon=True)
            self._process.start()
            inner.close()
        self._pipe.send(case)
        start, spent = time.monotonic(), 0.0
        busy = _processor_seconds(self._process.pid)
        while time.monotonic() - start < MAX_WAIT:
            try:
                if self._pipe.poll(1):
                    return self._pipe.recv()
            except EOFError:
                self._process.join()
                return Outcome("crash", "?", f"exit code {self._process.exitcode}")
            spent = _processor_seconds(self._process.pid) - busy
            if spent > TIME_OUT:
                break
        self.stop()
        return Outcome("hang", "?", f"{time.monotonic() - start:.0f} s, {spent:.0f} s of them busy")

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()


def cases(count: int, seed: int) -> list[Case]:
    """The cases of a seed, shared out among the kinds by weight."""
    total = sum(kind.weight for kind in KINDS.values())
    found = [
        Case(name, number, seed)
        for name, kind in KINDS.items()
        for number in range(max(1, round(count * kind.weight / total)))
    ]
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))]


def _make_valid(name: str, folder: Path) -> None:
    """Make the valid input of a kind, once; breaking it tells nothing if it is refused as it is."""
    made = folder / name.replace(" ", "_")
    if made.exists():
        return
    made.mkdir(parents=True)
    KINDS[name].make(made)
    if not files_of(KINDS[name], made):
        raise AssertionError(f"{name} makes no files")


def fuzz(chosen: list[Case], show: bool, seconds: float = 1e9) -> list[tuple[Case, Outcome]]:
    """Run cases, and return those that failed."""
    start, failed, verdicts = time.monotonic(), [], Counter[str]()
    with tempfile.TemporaryDirectory(prefix="egodepth-fuzz-") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        valid = Path(folder) / "valid"
        worker = Worker(valid, Path(folder) / "scratch")
        for case in chosen:
            _make_valid(case.kind, valid)
            outcome = worker.run(case)
            verdicts[outcome.verdict] += 1
            if show and verdicts.total() % 200 == 0:
                print(f"{verdicts.total()} of {len(chosen)} inputs: {dict(verdicts)}", flush=True)
            if outcome.verdict != "fine":
                failed.append((case, outcome))
            if show and outcome.verdict != "fine":
                print(
                    f"{outcome.verdict}: {case} ({outcome.how})\n  {outcome.detail.strip()}",
                    flush=True,
                )
            if time.monotonic() - start > seconds:
                break
        worker.stop()
    spent = time.monotonic() - start
    print(f"{sum(verdicts.values())} inputs in {spent:.0f} s: {dict(verdicts)}")
    return failed


def main() -> int:
    """Run the fuzz from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after these")
    parser.add_argument("--kinds", default="", help="only kinds whose name contains this")
    parser.add_argument("--only", help="KIND:NUMBER of one input")
    options = parser.parse_args()
    if options.only:
        kind, _, number = options.only.rpartition(":")
        chosen = [Case(kind, int(number), options.seed)]
    else:
        chosen = [c for c in cases(options.count, options.seed) if options.kinds in c.kind]
    return 1 if fuzz(chosen, show=True, seconds=options.seconds) else 0


if __name__ == "__main__":
    sys.exit(main())
