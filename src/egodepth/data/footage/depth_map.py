"""Reads depth maps from NumPy arrays and 16-bit images."""

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import ZipFile

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import reading, visible
from egodepth.data.image_files import read_depth_png
from egodepth.data.pixels import open_image

DEPTH_SUFFIXES = (".npy", ".npz", ".png")
DEPTH_KEYS = ("depth",)
"""Names of the depth array in a .npz file with several arrays."""
LARGEST_PACKED = 1 << 30
"""Bytes of an array that a .npz file may unpack to, however small the file is."""
MAX_PACKING = 100
"""Ratio of unpacked to packed bytes above which a larger array is refused; depth maps have about 2."""
LIKE_DISPARITY = re.compile(r"disp|inv|idepth", re.IGNORECASE)


def depth_maps(folder: Path) -> dict[str, Path]:
    """Depth maps in a folder by file name without suffix; arrays go before images, with a warning."""
    found: dict[str, Path] = {}
    passed_over = []
    for suffix in DEPTH_SUFFIXES:
        for path in visible(folder):
            if path.suffix.lower() == suffix and found.setdefault(path.stem, path) != path:
                passed_over.append(path)
    if passed_over:
        other = passed_over[0]
        warnings.warn(
            f"{folder}: {found[other.stem].name} is read, and {other.name} of the same name is not "
            f"({len(passed_over)} such files)",
            EgodepthWarning,
            stacklevel=2,
        )
    return found


def check_aspect(
    path: Path, shape: tuple[int, ...], size: tuple[int, int], tolerance: float
) -> None:
    """Check that a map of shape (H, W) has the aspect ratio of its image, up to rounding to whole pixels.

    Raises:
        EgodepthError: another aspect ratio, as of a cropped or rotated map.
    """
    (map_height, map_width), (height, width) = shape, size
    stretch = map_width / width * height / map_height
    rounding = abs(map_width - map_height * width / height)
    if max(stretch, 1 / stretch) - 1 > tolerance and rounding > 1:
        raise EgodepthError(
            f"{path} is {map_width}x{map_height}, its image {width}x{height}, of another aspect ratio (a "
            "crop, or turned?); give maps of the whole image"
        )


def read_array(path: Path, keys: tuple[str, ...] = DEPTH_KEYS) -> np.ndarray[Any, np.dtype[Any]]:
    """Read the array of a .npy file, or the one that :func:`name_of` selects in a .npz file.

    Raises:
        EgodepthError: a broken file, one without numbers, one without the array, or one that claims more bytes
            than it holds.
    """
    with _opened(path, keys) as (file, size):
        header = _read_header(file)
        if header.kind.kind not in "fiu":
            found = "Python objects" if header.kind.hasobject else f"values of type {header.kind}"
            raise ValueError(
                f"it holds {found}, not numbers; save an array of floating-point numbers"
            )
        held = size - file.tell()
        if header.nbytes != held:
            raise ValueError(
                f"its shape {header.shape} needs {header.nbytes} bytes, it holds {held}"
            )
        content = file.read()
        values = np.frombuffer(content, header.kind)
        return values.reshape(header.shape, order="F" if header.in_columns else "C")


class _Header(NamedTuple):
    """Header of an array: its shape, whether it is stored by columns, and its type."""

    shape: tuple[int, ...]
    in_columns: bool
    kind: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * self.kind.itemsize


@contextmanager
def _opened(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[IO[bytes], int]]:
    """Open the array in a .npy or .npz file, whatever the file is called; yields it with its size in bytes.

    Raises:
        EgodepthError: a broken file, one without the array, or anything that is raised while reading it.
    """
    with reading(path, "the array"), path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            yield file, path.stat().st_size
            return
        with ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            member = archive.getinfo(f"{name_of(names, path, keys)}.npy")
            if member.file_size > max(LARGEST_PACKED, MAX_PACKING * member.compress_size):
                raise ValueError(f"it would unpack to {member.file_size / 1e9:.1f} GB")
            with archive.open(member) as inner:
                yield inner, member.file_size


def name_of(names: list[str], path: Path, keys: tuple[str, ...] = DEPTH_KEYS) -> str:
    """Select the array of a .npz file: the first named after one of ``keys``, or else the only one.

    Raises:
        EgodepthError: several arrays, none of them with such a name, or a single one whose name says
            disparity where depth is expected, or vice versa.
    """
    named = [name for key in keys for name in names if name.lower() == key]
    if named:
        return named[0]
    if len(names) != 1:
        raise EgodepthError(
            f"{path} holds {len(names)} arrays, {', '.join(names)}: call the one that is meant "
            f"{' or '.join(keys)}"
        )
    inverse = LIKE_DISPARITY.search(names[0])
    if inverse and keys == DEPTH_KEYS:
        raise EgodepthError(
            f"{path} holds {names[0]!r}, which is no depth: predictions of disparity or inverse depth are "
            "scored with --kind inverse; depth must be called depth"
        )
    if "depth" in names[0].lower() and not inverse and keys != DEPTH_KEYS:
        raise EgodepthError(
            f"{path} holds {names[0]!r}, which is no disparity: depth is scored with --kind depth; disparity "
            f"or inverse depth must be called {' or '.join(keys)}"
        )
    return names[0]


def holds_array(path: Path, key: str) -> bool:
    """Whether a .npz file holds an array of this name.

    Raises:
        EgodepthError: a broken file.
    """
    with reading(path, "the arrays"), ZipFile(path) as archive:
        return f"{key}.npy" in archive.namelist()


def whole_numbers(path: Path, keys: tuple[str, ...] = DEPTH_KEYS) -> str:
    """Integer type of a .npy or .npz file, from its header; empty if it is not an integer array.

    Raises:
        EgodepthError: a broken file, or one without the array.
    """
    with _opened(path, keys) as (file, _):
        kind = _read_header(file).kind
    return str(kind) if kind.kind in "iu" else ""


def _read_header(file: IO[bytes]) -> _Header:
    """Read the header of an array.

    Raises:
        ValueError, EOFError: another file, or a damaged one.
    """
    magic = file.read(8)
    if not magic:
        raise EOFError
    if magic[:6] != b"\x93NUMPY":
        raise ValueError("NumPy did not write it")
    first = np.lib.format.read_array_header_1_0
    read = first if magic[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        return _Header(*read(file))
    except Exception as error:  # it is evaluated as Python's literals
        raise EOFError from error


def read_depth_map(path: Path, steps: float, keys: tuple[str, ...] = DEPTH_KEYS) -> np.ndarray:
    """Read a depth map (H, W) float32 from a .npy or .npz file (values as stored) or a 16-bit PNG.

    Args:
        path: the file.
        steps: PNG values per unit of depth.
        keys: names of the array in a .npz file with several.

    Raises:
        EgodepthError: a broken file, or one without a depth map.
    """
    if path.suffix.lower() == ".png":
        with open_image(path) as image:
            if image.mode in ("1", "L", "P"):
                raise EgodepthError(
                    f"{path} is a picture of 8 bits, no depth map: it needs 16 bits, or .npy in its place"
                )
        return read_depth_png(path, steps)
    values = read_array(path, keys)
    if values.squeeze().ndim != 2 or not values.size:
        raise EgodepthError(
            f"the depth map {path} is broken: its shape is {values.shape}, not (H, W)"
        )
    with np.errstate(over="ignore"):
        return values.squeeze().astype(np.float32)
