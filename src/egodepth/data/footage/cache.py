"""Cache files: results that are computed once and then read back, checked by a checksum at their end."""

import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import atomic_path
from egodepth.core.locks import alone
from egodepth.core.temporary import remove_leftovers

T = TypeVar("T")
SEAL = struct.Struct("<8sI")
"""End of a cache file: a magic word, and the CRC-32 of the file's name and of everything before."""
MAGIC = b"egodepth"
PIECE = 1 << 20
"""Bytes that are read at a time."""
LONG = 1 << 30
"""Size in bytes above which a check, of a second or so per gigabyte, is shown as a phase."""


def cache_file(folder: Path, key: str, ending: str) -> Path:
    """Path of the cache file for a key, which must describe everything that the content depends on."""
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}{ending}"


def read_or_make(path: Path, make: Callable[[Path], None], read: Callable[[], T]) -> T:
    """Read a cache file, making it first if it is missing or damaged.

    If several processes need the same file, as in distributed training, one makes it and the others wait.

    Args:
        path: the cache file.
        make: writes the content to a temporary file.
        read: reads the content from ``path``, where it is followed by a checksum.

    Raises:
        EgodepthError: the file can't be read or written.
    """
    if is_whole(path):
        return read()
    with alone(path):
        if not is_whole(path):  # another process may have made it meanwhile
            if path.exists():
                warnings.warn(
                    f"the cache file {path} is damaged or incomplete; it is made again",
                    EgodepthWarning,
                    stacklevel=3,
                )
            remove_leftovers(path.parent)
            write_sealed(path, make)
        return read()


def write_sealed(path: Path, make: Callable[[Path], None]) -> None:
    """Write a cache file with its checksum.

    Args:
        path: the cache file.
        make: writes the content to a temporary file.

    Raises:
        EgodepthError: the file can't be written.
    """
    with atomic_path(path, durable=True) as partial:
        make(partial)
        with partial.open("ab") as file:
            file.write(SEAL.pack(MAGIC, _checksum(partial, path.name, partial.stat().st_size)))


def is_whole(path: Path) -> bool:
    """Whether a cache file is there and its checksum is right, as it is not after a broken copy, on a damaged
    disk, or where another program wrote the file.

    Raises:
        EgodepthError: the file can't be read.
    """
    try:
        size = path.stat().st_size - SEAL.size
        if size < 0:
            return False
        with path.open("rb") as file:
            file.seek(size)
            magic, checksum = SEAL.unpack(file.read(SEAL.size))
        return magic == MAGIC and checksum == _checksum(path, path.name, size)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise EgodepthError(f"cannot read {path}: {error.strerror or error}") from error


def content(path: Path) -> bytes:
    """Content of a cache file, without its checksum."""
    return path.read_bytes()[: -SEAL.size]


def _checksum(path: Path, name: str, size: int) -> int:
    found = zlib.crc32(os.fsencode(name))
    told = progress.phase("checking the cache") if size > LONG else nullcontext()
    with path.open("rb", buffering=0) as file, told:
        piece = memoryview(bytearray(min(PIECE, size)))
        while size > 0 and (count := file.readinto(piece[:size])):
            found = zlib.crc32(piece[:count], found)
            size -= count
    return found
