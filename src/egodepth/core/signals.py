"""Signals that ask a process to stop: Ctrl-C, SIGTERM of a scheduler, SIGHUP of a closed terminal.

The first one stops the work at the next safe point, the second ends the process at once.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
STOPPING = [number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None]
Handler = Callable[[int, FrameType | None], None]
HAS_TIMER = hasattr(signal, "setitimer")  # Windows has none
SECONDS_UNTIL_AGAIN = 0.05
SHOW_CURSOR = "\x1b[?25h"


class _Process:
    """State of this process.

    Attributes:
        owned: whether its signals belong to egodepth, as on the command line.
        received: the signal that asked to stop; None so far.
        terminals: standard output and error, as far as they are terminals.
    """

    owned = False
    received: signal.Signals | None = None
    terminals: tuple[int, ...] = ()


@contextmanager
def command_signals(*, own: bool) -> Iterator[None]:
    """Run a command inside the block.

    Args:
        own: whether the process belongs to the command: then, until the process ends, the first signal raises
            KeyboardInterrupt and the second ends the process at once. SIGHUP stays ignored if it is, as under
            nohup.
    """
    _Process.received = None
    if own:
        _Process.owned = True
        _Process.terminals = tuple(number for number in (1, 2) if os.isatty(number))
        for number in STOPPING:
            if not _stays_ignored(number):
                signal.signal(number, _handler(_interrupt))
        if HAS_TIMER:
            signal.signal(signal.SIGALRM, _interrupt)
            sys.unraisablehook = _raise_again
        # At its very end, Python's own handlers would change the exit status.
        atexit.register(ignore_signals)
    try:
        yield
    finally:
        if own:
            # While Python shuts down, nothing is left to be stopped.
            _Process.received = signal.SIGINT
            if HAS_TIMER:
                signal.setitimer(signal.ITIMER_REAL, 0)
            # Else CPython remembers a KeyboardInterrupt that passed an exec(), and ends itself by SIGINT.
            exec("")


@contextmanager
def call_on_signal(stop: Callable[[str], None]) -> Iterator[None]:
    """Within the block, call ``stop`` with the name of the first signal; a second one raises KeyboardInterrupt,
    or on the command line ends the process at once. Does nothing outside of the main thread."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handler = _handler(lambda number, _: stop(signal.Signals(number).name))
        for number in STOPPING:
            if not _stays_ignored(number):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore these signals, in a worker process: the main process handles them, and ends its workers."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def exit_status() -> int:
    """Exit status of a command that was interrupted: 128 plus the number of the signal."""
    return 128 + (_Process.received or signal.SIGINT)


def was_received() -> bool:
    """Whether a signal asked this process to stop."""
    return _Process.received is not None


def _stays_ignored(number: int) -> bool:
    return number == HANGUP and signal.getsignal(number) == signal.SIG_IGN


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; within an import only after it, since code of C++ that imports may abort."""
    if HAS_TIMER and _is_importing(frame):
        signal.setitimer(signal.ITIMER_REAL, SECONDS_UNTIL_AGAIN)
    else:
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _handler(stop: Handler) -> Handler:
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if _Process.owned and _Process.received is not None:
            if number == HANGUP:
                return  # a closed terminal sends it, and its shell once more
            end_at_once(128 + number)
        if asked and not _Process.owned:
            raise KeyboardInterrupt
        asked, _Process.received = True, signal.Signals(number)
        if _Process.owned and number == HANGUP:
            _leave_terminals()
        stop(number, frame)

    return handle


def end_at_once(status: int) -> NoReturn:
    """End the process and its children without any cleaning up, but with a visible cursor."""
    for child in multiprocessing.active_children():
        child.kill()
    with suppress(OSError):
        for terminal in _Process.terminals:
            os.write(terminal, SHOW_CURSOR.encode())  # hidden by a progress bar
    os._exit(status)


def _leave_terminals() -> None:
    """Write to nowhere instead of a terminal that was closed, where writing would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for terminal in _Process.terminals:
        os.dup2(nowhere, terminal)
    os.close(nowhere)


def _raise_again(found: "sys.UnraisableHookArgs") -> None:
    """Raise a KeyboardInterrupt again that was raised where Python drops it, as in a finalizer."""
    if found.exc_type is KeyboardInterrupt and _Process.received is not None:
        signal.setitimer(signal.ITIMER_REAL, SECONDS_UNTIL_AGAIN)
    else:
        sys.__unraisablehook__(found)
