"""Temporary files and folders. They have one form of name, are locked by the process that writes them, and what
killed processes left of them is removed by the next one that writes there."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from egodepth.core.locks import PREFIX, close_locked, is_at, open_lockable, try_lock

MARKER = f"{PREFIX}temporary"
"""Locked file in every temporary folder; no folder without one is ever removed."""
LEFT_AFTER = 24 * 3600
"""Seconds without a change after which a temporary file is a leftover where the file system has no locks."""

_cleaned: set[Path] = set()


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield a new, empty file in the folder of ``path`` with its suffix; removed when the block ends unless it
    was moved away."""
    if path.parent not in _cleaned:
        _cleaned.add(path.parent)
        remove_leftovers(path.parent)
    while True:
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        partial = Path(name)
        descriptor = _lock_new(partial)
        if descriptor is not None:
            break
    try:
        yield partial
    finally:
        with suppress(OSError):
            partial.unlink()
        close_locked(descriptor)


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Yield a new folder among the system's temporary files; removed when the block ends.

    Args:
        purpose: a word for its name.
    """
    for other in Path(tempfile.gettempdir()).glob("egodepth-*"):
        with suppress(OSError):
            if _remove_if_left(other / MARKER):
                shutil.rmtree(other, ignore_errors=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"egodepth-{purpose}-"))
        descriptor = _lock_new(folder / MARKER)
        if descriptor is not None:
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        close_locked(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in a folder that no living process has locked. The folder need not exist."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _lock_new(path: Path) -> int | None:
    """Open and lock a new file; None if another process has taken it for a leftover meanwhile."""
    try:
        descriptor = open_lockable(path, os.O_RDWR | os.O_CREAT)
    except FileNotFoundError:  # the folder has gone, too
        return None
    if try_lock(descriptor, wait=True) is None or is_at(descriptor, path):
        return descriptor
    close_locked(descriptor)
    return None


def _remove_if_left(path: Path) -> bool:
    """Remove a temporary file if no living process has locked it; returns whether it was removed."""
    descriptor = open_lockable(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        taken = try_lock(descriptor)
        if taken is None:
            taken = time.time() - os.fstat(descriptor).st_mtime > LEFT_AFTER
        if not taken or not is_at(descriptor, path):
            return False
        path.unlink()
        return True
    finally:
        close_locked(descriptor)
