"""Locks between processes. The system releases them when a process ends, however it ends, so that no lock of a
killed process or of an earlier boot has to be recognized."""

import errno
import os
import shlex
import socket
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning, one_line

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

PREFIX = ".egodepth-"
"""Start of the names of temporary files and lock files. They are hidden, so no reader takes them for data."""
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""Errors of a lock that another process holds; all others mean that the file system has no locks."""
PATIENCE = 0.5
"""Seconds to wait for a lock, which another process may hold just to check whether it is a leftover."""

_open: set[int] = set()


def open_lockable(path: str | Path, flags: int = os.O_RDWR) -> int:
    """Open a file or a folder for :func:`try_lock`; close it by :func:`close_locked`."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
    _open.add(descriptor)
    return descriptor


def try_lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Take the exclusive lock of an open file or folder.

    Args:
        descriptor: from :func:`open_lockable`.
        wait: wait for another process to release it.

    Returns:
        Whether it was taken; None if the file system has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return False if error.errno in HELD else None
    return True


def close_locked(descriptor: int) -> None:
    """Close a file of :func:`open_lockable`, which releases its lock."""
    if descriptor in _open:  # a forked process has closed them already
        _open.discard(descriptor)
        os.close(descriptor)


def _close_all() -> None:
    """Close the parent's locked files in a forked process, which may outlive its killed parent."""
    for descriptor in _open:
        with suppress(OSError):
            os.close(descriptor)
    _open.clear()
    _held.clear()


class _Lock:
    """A lock file that this process holds, and how often.

    Attributes:
        file: lock file.
        made: folders that were made for it, the innermost first.
        descriptor: open file.
        count: number of holders in this process.
    """

    def __init__(self, file: Path, made: list[Path], descriptor: int):
        self.file, self.made, self.descriptor, self.count = file, made, descriptor, 1

    def close(self) -> None:
        with suppress(OSError):
            self.file.unlink()
        close_locked(self.descriptor)
        with suppress(OSError):
            for folder in self.made:
                folder.rmdir()


_held: dict[Path, _Lock] = {}
_guard = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


class Hold:
    """Keeps other processes from writing to a file or a folder until it is released, at the latest when it is
    no longer referred to."""

    def __init__(self, file: Path):
        self.release = weakref.finalize(self, _release, file)

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(path: Path, *, folder: bool) -> Hold:
    """Keep other processes from writing to a file or a folder as well. The same process may hold it repeatedly.

    The lock is a hidden file in the folder, or beside the file. Missing folders are made, and removed again if
    nothing was written.

    Args:
        path: the file or folder.
        folder: whether it is a folder.

    Raises:
        EgodepthError: another process holds it, or no file can be written there.
    """
    place = Path(os.path.realpath(path if folder else path.parent))
    file = place / (f"{PREFIX}lock" if folder else f"{PREFIX}lock-{path.name}")
    with _guard:
        if file in _held:
            _held[file].count += 1
            return Hold(file)
        made = [p for p in (place, *place.parents) if not p.exists()]
        try:
            place.mkdir(parents=True, exist_ok=True)
            descriptor = _take(file, path)
        except OSError as error:
            raise EgodepthError(f"cannot write {path}: {error.strerror or error}") from error
        _held[file] = _Lock(file, made, descriptor)
        return Hold(file)


def _release(file: Path) -> None:
    with _guard:
        lock = _held.get(file)
        if lock is not None:
            lock.count -= 1
            if lock.count == 0:
                del _held[file]
                lock.close()


def _take(file: Path, path: Path) -> int:
    """Open and lock a lock file."""
    ends = time.monotonic() + PATIENCE
    while True:
        descriptor = open_lockable(file, os.O_RDWR | os.O_CREAT)
        taken = try_lock(descriptor)
        if taken is False and time.monotonic() < ends:
            close_locked(descriptor)
            time.sleep(PATIENCE / 10)
            continue
        if taken is False:
            text = os.read(descriptor, 4096).decode("utf-8", "replace").strip()
            close_locked(descriptor)
            raise EgodepthError(
                f"{path} is being written by {text or 'another process'}; wait until it has ended, or name "
                "another place with --out"
            )
        if taken is None:
            warnings.warn(
                f"the file system of {path} has no locks: take care that nothing else writes there at the same "
                "time",
                EgodepthWarning,
                stacklevel=4,
            )
        elif not is_at(descriptor, file):  # its last holder has removed it meanwhile
            close_locked(descriptor)
            continue
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{_this_process()}\n".encode(), 0)
        return descriptor


def _this_process() -> str:
    program = Path(sys.argv[0]) if sys.argv else Path("python")
    name = "egodepth" if program.name == "__main__.py" else program.name  # python -m egodepth.cli
    command = shlex.join([name, *sys.argv[1:]])
    command = command if len(command) <= 200 else f"{command[:200]} ..."
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} since {since} ({command})"


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time make a file: others wait. Without locks, several may make it."""
    file = path.with_name(f"{PREFIX}lock-{path.name}")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = open_lockable(file, os.O_RDWR | os.O_CREAT)
        except OSError:
            yield  # writing the file will report what is wrong with the folder
            return
        taken = try_lock(descriptor)
        if taken is False:
            progress.note(f"waiting for another process that makes {one_line(str(path))}")
            taken = try_lock(descriptor, wait=True)
        if taken is None or is_at(descriptor, file):
            break
        close_locked(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        close_locked(descriptor)
