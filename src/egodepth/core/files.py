"""Files that are either complete under their final name or not there at all."""

import codecs
import fnmatch
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from egodepth.core.errors import EgodepthError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block succeeds.

    The temporary name keeps the suffix, because writers choose their format by it. Missing parent
    folders are made. On any error the temporary file is removed and ``path`` is left as it was.

    Raises:
        EgodepthError: the file cannot be written (disk full, no permission, a folder in the way).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise EgodepthError(f"cannot write {path}: {error.strerror or error}") from error
    partial = Path(name)
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise EgodepthError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, values: dict[str, Any]) -> None:
    """Write ``values`` as indented JSON, atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Paths in the order that people count in: numbers within names are compared as numbers, so that
    ``frame2`` comes before ``frame10``. Where all names are times in seconds (``0.5``, ``0.25``), in order
    of time."""
    found = list(paths)
    # A time printed in full has no zero at its end, the tenth part of a chapter (1.10) has.
    if all(re.fullmatch(r"[0-9]+(\.([0-9]*[1-9]|0))?", path.stem) for path in found):
        return sorted(found, key=lambda path: (_natural(path.parent), Decimal(path.stem), path))
    return sorted(found, key=lambda path: (_natural(path), path))


def _natural(path: Path) -> list[list[str | int]]:
    words = (re.split(r"([0-9]+)", part) for part in path.parts)
    return [[int(word) if i % 2 else word for i, word in enumerate(part)] for part in words]


def find(root: Path, pattern: str) -> list[Path]:
    """Files and folders below ``root`` whose name matches a pattern like ``frame-*.png``, in natural
    order; symbolic links are followed, each folder once."""
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = {name: os.path.realpath(f"{folder}/{name}") for name in folders}
        folders[:] = [name for name in folders if real[name] not in seen]
        seen.update(real.values())
        found += [Path(folder, name) for name in fnmatch.filter([*folders, *names], pattern)]
    return natural_order(found)


def read_text(path: str | Path, what: str) -> str:
    """Read a UTF-8 file, or one in UTF-16 with a byte order mark (which is never part of the text);
    ``what`` names it in the error.

    Raises:
        EgodepthError: the file is missing, unreadable or not text.
    """
    try:
        content = Path(path).read_bytes()
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError as error:
        raise EgodepthError(f"{what} is missing: there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EgodepthError(f"cannot read {what} {path}: {error}") from error
