"""Reading files, writing them atomically, and sorting them in natural order."""

import codecs
import fnmatch
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from egodepth.core.errors import EgodepthError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, and move it to ``path`` when the block succeeds.

    The temporary name keeps the suffix, because writers choose their format by it. Missing parent
    folders are created. On any error the temporary file is removed and ``path`` is left unchanged.

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
    """Sort paths in natural order: numbers within names are compared as numbers, so that ``frame2`` comes
    before ``frame10``, and ``frame`` before ``frame (1)``. If all names in a folder are times in seconds
    (``0.5``, ``t_12.25``) or hexadecimal counters (``0f``, ``10``), they are sorted by these."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    ordered = sorted(folders, key=lambda folder: (_natural(folder.parts), folder))
    return [path for folder in ordered for path in _in_order(folders[folder])]


def _in_order(paths: list[Path]) -> list[Path]:
    """Sort the paths of one folder."""
    stems = [path.stem for path in paths]
    prefix, numbers = _common_prefix(stems, "0-9.")
    if _are_times(numbers):
        return sorted(paths, key=lambda path: (Decimal(path.stem.removeprefix(prefix)), path))
    if count_in_hex(stems):
        return sorted(paths, key=lambda path: (path.stem.lower(), path))
    return sorted(paths, key=lambda path: (_natural([path.stem]), path))


def _common_prefix(names: list[str], of_numbers: str) -> tuple[str, list[str]]:
    """Common prefix of the names, without leading characters of their numbers, and the rest of each name."""
    common = os.path.commonprefix(names)  # noqa: RUF071
    prefix = re.sub(f"[{of_numbers}]+$", "", common)
    return prefix, [name.removeprefix(prefix) for name in names]


def _are_times(numbers: list[str]) -> bool:
    # Times are printed without trailing zeros; the tenth part of a chapter (1.10) has one.
    if not all(re.fullmatch(r"[0-9]+(\.([0-9]*[1-9]|0))?", number) for number in numbers):
        return False
    chapters: dict[str, set[str]] = {}
    for number in numbers:
        whole, _, part = number.partition(".")
        chapters.setdefault(whole, set()).add(part)
    return not any(_count_up(parts) for parts in chapters.values())


def _count_up(parts: set[str]) -> bool:
    """Whether numbers of different lengths increase in equal steps, as in 1.7, 1.9, 1.11."""
    if len(parts) < 3 or len({len(part) for part in parts}) == 1 or "" in parts:
        return False
    counted = sorted(int(part) for part in parts)
    return len({b - a for a, b in pairwise(counted)}) == 1


def count_in_hex(names: list[str]) -> bool:
    """Whether names end in hexadecimal numbers of one length, some with letters and some without."""
    _, numbers = _common_prefix(names, "0-9a-fA-F")
    in_hex = all(re.fullmatch(r"[0-9a-f]+|[0-9A-F]+", number) for number in numbers)
    return in_hex and len(set(map(len, numbers))) == 1 and len(set(map(str.isdigit, numbers))) == 2


def _natural(parts: Iterable[str]) -> list[list[str | int]]:
    words = (re.split(r"([0-9]+)", part) for part in parts)
    return [[int(word) if i % 2 else word for i, word in enumerate(part)] for part in words]


def find(root: Path, pattern: str) -> list[Path]:
    """Find files and folders below ``root`` whose names match a pattern like ``frame-*.png``, in natural
    order; symbolic links are followed, and each folder is visited once."""
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = {name: os.path.realpath(f"{folder}/{name}") for name in folders}
        folders[:] = [name for name in folders if real[name] not in seen]
        seen.update(real.values())
        found += [Path(folder, name) for name in fnmatch.filter([*folders, *names], pattern)]
    return natural_order(found)


def read_text(path: str | Path, description: str) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark, without the mark and with Unix line
    ends. ``description`` names the file in errors.

    Raises:
        EgodepthError: the file is missing, unreadable or not text.
    """
    try:
        content = Path(path).read_bytes()
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError as error:
        raise EgodepthError(f"{description} is missing: there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EgodepthError(f"cannot read {description} {path}: {error}") from error
