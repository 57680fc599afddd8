"""Cache files: results that are computed once and then read back."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

from filelock import FileLock, Timeout

from egodepth.core import progress

T = TypeVar("T")


def cache_file(folder: Path, key: str, ending: str) -> Path:
    """Path of the cache file for a key, which must describe everything that the content depends on."""
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}{ending}"


def read_or_make(path: Path, make: Callable[[], None], read: Callable[[], T]) -> T:
    """Read a cache file, making it first if it is missing or truncated, as by an interrupted copy.

    If several processes need the same file, as in distributed training, one makes it and the others wait.

    Args:
        path: the cache file.
        make: writes the file.
        read: reads the file; raises FileNotFoundError if it is missing.
    """
    with suppress(FileNotFoundError, ValueError, EOFError, BadZipFile):
        return read()
    with _only_one(path):
        try:
            return read()  # another process may have made it meanwhile
        except FileNotFoundError:
            pass
        except (ValueError, EOFError, BadZipFile):
            path.unlink()
        make()
        return read()


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock, so that only one process at a time makes a file."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        progress.note(f"waiting for another process that makes {path}")
        lock.acquire()
    except OSError:
        yield  # writing the file will report what is wrong with the folder
        return
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
