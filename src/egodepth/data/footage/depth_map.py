"""Reads depth maps from NumPy arrays and 16-bit images."""

import re
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.data.image_files import read_depth_png
from egodepth.data.pixels import open_image

DEPTH_SUFFIXES = (".npy", ".npz", ".png")
DEPTH_KEYS = ("depth",)
"""Names of the depth array in a .npz file with several arrays."""
ARRAY_ERRORS = (OSError, ValueError, EOFError, IndexError, BadZipFile)
"""Exceptions that NumPy raises for files that it cannot read."""
LIKE_DISPARITY = re.compile(r"disp|inv|idepth", re.IGNORECASE)


def depth_maps(folder: Path) -> dict[str, Path]:
    """Depth maps in a folder by file name without suffix; arrays take precedence over images."""
    found: dict[str, Path] = {}
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for suffix in DEPTH_SUFFIXES:
        for path in paths:
            if path.suffix.lower() == suffix:
                found.setdefault(path.stem, path)
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
        EgodepthError: a broken file, one without numbers, or one without the array.
    """
    try:
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            return loaded
        return np.asarray(loaded[name_of(loaded.files, path, keys)])
    except ARRAY_ERRORS as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> EgodepthError:
    if isinstance(error, OSError) and error.strerror:
        return EgodepthError(f"cannot read {path}: {error.strerror}")
    reason = "the file is incomplete or damaged"
    if "Object arrays" in str(error):
        reason = "it holds Python objects, not numbers; save an array of floating-point numbers"
    elif "pickle" in str(error) or "magic" in str(error):
        reason = "NumPy did not write it"
    return EgodepthError(f"broken array {path}: {reason}")


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


def whole_numbers(path: Path, keys: tuple[str, ...] = DEPTH_KEYS) -> str:
    """Integer type of a .npy or .npz file, from its header; empty if it is not an integer array.

    Raises:
        EgodepthError: a broken file, or one without the array.
    """
    try:
        if path.suffix.lower() == ".npz":
            with ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                with archive.open(f"{name_of(names, path, keys)}.npy") as file:
                    kind = _dtype(file)
        else:
            with path.open("rb") as file:
                kind = _dtype(file)
    except ARRAY_ERRORS as error:
        raise _broken(path, error) from error
    return str(kind) if kind.kind in "iu" else ""


def _dtype(file: IO[bytes]) -> np.dtype[Any]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)[2]


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
    if values.squeeze().ndim != 2:
        raise EgodepthError(f"broken depth map {path}: its shape is {values.shape}, not (H, W)")
    return values.squeeze().astype(np.float32)
