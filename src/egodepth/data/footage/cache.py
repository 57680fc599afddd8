"""Files of the cache: what was found once and is read again."""

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
    """The file of a folder that belongs to a key, which names all that its content depends on."""
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}{ending}"


def read_or_make(path: Path, make: Callable[[], None], read: Callable[[], T]) -> T:
    """What a file holds; it is made where it is missing, and made again where it was cut short, as by a copy
    that broke off. Of several processes that want the same file, as those of a distributed training do, one
    makes it and the others wait.

    Args:
        path: of the file.
        make: writes it.
        read: what it holds; FileNotFoundError says that it is missing.
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
    """Lets one process at a time make a file."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        progress.note(f"waiting for another process that makes {path}")
        lock.acquire()
    except OSError:
        yield  # whoever writes the file says what is wrong with the folder
        return
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
