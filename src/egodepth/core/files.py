"""Reading files, writing them atomically, and sorting them in natural order."""

import codecs
import errno
import fnmatch
import json
import math
import os
import re
import stat
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import yaml

from egodepth.core.errors import EgodepthError
from egodepth.core.suggestions import similar_path
from egodepth.core.temporary import temporary_file

MAX_YAML_CHARACTERS = 300_000
"""Longest YAML document that is parsed: PyYAML takes some seconds for it."""
MAX_YAML_VALUES = 1_000_000
"""Most values of a YAML file, with those that its aliases repeat."""


FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk."""


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, and move it to ``path`` when the block succeeds.

    The temporary name keeps the suffix, because writers choose their format by it. Missing parent
    folders are created, and links followed. On any error the temporary file is removed and ``path`` is left
    unchanged; what a killed process left is removed by the next one that writes there.

    Args:
        path: the file to write.
        durable: wait until the disk has the content, so that not even a power cut leaves an empty file.

    Raises:
        EgodepthError: the file cannot be written (disk full, no permission, a folder or a device in the way).
    """
    path = Path(path)
    require_writable_kind(path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as partial:
            yield partial
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o666 & ~umask)
            if durable:
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
            partial.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    except EgodepthError:
        raise
    except Exception as error:
        lack = _full_disk(error)  # of which a library made another error
        if lack is None:
            raise
        raise write_error(path, lack) from error


def _full_disk(error: BaseException | None) -> OSError | None:
    """The error of a full disk that led to an error, if any."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def write_error(path: str | Path, error: OSError) -> EgodepthError:
    """The error of a file that cannot be written, with advice if the disk is full."""
    full = error.errno in FULL
    advice = "; free some space there, or choose another place" if full else ""
    return EgodepthError(f"cannot write {path}: {error.strerror or error}{advice}")


def reserve(path: Path) -> None:
    """Reserve the disk space of a file that is written through a memory map, where a full disk would end the
    process with a bus error.

    Raises:
        OSError: the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically and durably."""
    with atomic_path(path, durable=True) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, values: dict[str, Any]) -> None:
    """Write ``values`` as indented JSON, atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def visible(folder: Path) -> list[Path]:
    """Files and folders in a folder, sorted by name, without hidden ones: temporary files, and those that macOS
    and editors write. Empty if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name[0] != ".")


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
    order and without hidden ones; symbolic links are followed, and each folder is visited once."""
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:], names = ([n for n in each if n[0] != "."] for each in (folders, names))
        real = {name: os.path.realpath(f"{folder}/{name}") for name in folders}
        folders[:] = [name for name in folders if real[name] not in seen]
        seen.update(real.values())
        found += [Path(folder, name) for name in fnmatch.filter([*folders, *names], pattern)]
    return natural_order(found)


def require_regular(path: str | Path, description: str) -> None:
    """Refuse a pipe, socket or device, from which reading may never end; a missing file passes.

    Raises:
        EgodepthError: it is neither a file nor a folder.
    """
    _require_no_device(path, f"cannot read {description}")


def require_writable_kind(path: str | Path) -> None:
    """Refuse a pipe, socket or device, which a file would replace; a missing file passes.

    Raises:
        EgodepthError: it is neither a file nor a folder.
    """
    _require_no_device(path, "cannot write")


def _require_no_device(path: str | Path, cannot: str) -> None:
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return  # whoever opens it says what is wrong
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kinds = {stat.S_ISFIFO: "pipe", stat.S_ISSOCK: "socket"}
        kind = next((word for test, word in kinds.items() if test(mode)), "device")
        raise EgodepthError(f"{cannot} {path}: it is a {kind}; name a regular file")


def require_name(path: str | Path, description: str) -> None:
    """Refuse a name that no file can have, for which the functions of pathlib raise.

    Raises:
        EgodepthError: it is too long, or holds a null character.
    """
    try:
        os.lstat(path)
    except ValueError as error:
        raise EgodepthError(
            f"{description} cannot be called {str(path)[:60]!r}: {error}"
        ) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise EgodepthError(
                f"{description} cannot be called {str(path)[:60]!r}...: {error.strerror}"
            ) from error


@contextmanager
def reading(path: str | Path, description: str, hint: str = "") -> Iterator[None]:
    """Turn whatever a reader raises for a missing or broken file into an error that names the file.

    Parsers raise nearly anything for damaged bytes (KeyError, zlib.error, RecursionError, MemoryError), so a
    reader needs no list of exceptions of its own. An EgodepthError within passes unchanged.

    Args:
        path: the file or folder that is read.
        description: what it should be, with its article, such as "the calibration".
        hint: what to do about a broken file, if that helps.

    Raises:
        EgodepthError: any exception within; or a pipe, socket or device, from which reading may never end.
    """
    require_regular(path, description)
    try:
        yield
    except EgodepthError:
        raise
    except FileNotFoundError as error:
        missing = error.filename or path
        meant = similar_path(missing, Path.is_file)
        raise EgodepthError(
            f"{description} is missing: there is no file {missing}{meant}"
        ) from error
    except Exception as error:
        # A reader that Python closes at its end, when nothing can be imported any more.
        if sys.is_finalizing():
            return
        # FFmpeg's errors, too, have a strerror.
        system = getattr(error, "strerror", None) or (
            isinstance(error, OSError) and _one_line(error)
        )
        found = f"{description} {path} is broken: {_reason(error)}"
        found = f"cannot read {description} {path}: {system}" if system else found
        raise EgodepthError(f"{found}; {hint}" if hint else found) from error


def _reason(error: Exception) -> str:
    """Why a file could not be parsed, in words."""
    if isinstance(error, UnicodeError):
        return "it is no text in UTF-8"
    if isinstance(error, zlib.error | BadZipFile | EOFError | struct.error):
        return "the file is incomplete or damaged"
    if isinstance(error, yaml.YAMLError | json.JSONDecodeError):
        form = "YAML" if isinstance(error, yaml.YAMLError) else "JSON"
        return f"it is not valid {form}: {_one_line(error)}".replace('in "<unicode string>", ', "")
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it claims a size that does not fit into memory"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0] if error.args else 'such name'}"[:MAX_REASON]
    if isinstance(error, TypeError | AttributeError | IndexError):
        return "it holds other values than expected, or too few"
    return _one_line(error)


MAX_REASON = 200
"""Maximum number of characters of another library's error message."""


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 3]}..."


def read_text(path: str | Path, description: str) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark, without the mark and with Unix line
    ends. ``description`` names the file in errors.

    Raises:
        EgodepthError: the file is missing, unreadable or not text.
    """
    with reading(path, description):
        content = Path(path).read_bytes()
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | Path, description: str) -> Any:
    """Read a JSON file.

    Raises:
        EgodepthError: as :func:`read_text`, or not JSON.
    """
    text = read_text(path, description)
    with reading(path, description):
        return json.loads(text)


def read_yaml(path: str | Path, description: str) -> Any:
    """Read a YAML file with plain values.

    Raises:
        EgodepthError: as :func:`read_text`, or not YAML.
    """
    text = read_text(path, description)
    with reading(path, description):
        return parse_yaml(text)


def parse_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Parse the first YAML document of a text that holds values, None if there is none.

    Raises:
        ValueError, yaml.YAMLError, RecursionError: not YAML, too long, or aliases that repeat too much.
    """
    if max(map(len, re.split("^---", text, flags=re.M))) > MAX_YAML_CHARACTERS:
        raise ValueError(f"it is longer than {MAX_YAML_CHARACTERS:,} characters")
    documents = yaml.load_all(text, Loader=loader)
    tree = next((document for document in documents if document is not None), None)
    if _count_values(tree, {}) > MAX_YAML_VALUES:
        raise ValueError("its aliases repeat too many values")
    return tree


def _count_values(tree: Any, counted: dict[int, float]) -> float:
    """Number of values of a tree, with those repeated by aliases; infinite if it contains itself."""
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in counted:
        counted[id(tree)] = math.inf
        parts = [*tree, *tree.values()] if isinstance(tree, dict) else tree
        counted[id(tree)] = sum(_count_values(part, counted) for part in parts)
    return counted[id(tree)]
