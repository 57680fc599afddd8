"""Files of the cache: what was found once and is read again."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

T = TypeVar("T")


def cache_file(folder: Path, key: str, ending: str) -> Path:
    """The file of a folder that belongs to a key, which names all that its content depends on."""
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}{ending}"


def read_or_make(path: Path, make: Callable[[], None], read: Callable[[], T]) -> T:
    """What a file holds; it is made where it is missing, and made again where it was cut short, as by a copy
    that broke off.

    Args:
        path: of the file.
        make: writes it.
        read: what it holds.
    """
    if path.exists():
        try:
            return read()
        except (ValueError, EOFError, BadZipFile):
            path.unlink()
    make()
    return read()
