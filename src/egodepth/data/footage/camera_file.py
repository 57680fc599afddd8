"""Reads camera files: egodepth's own, and those of OpenCV, ROS, kalibr, COLMAP and nerfstudio.

Each contains intrinsics, an image size, and optionally lens distortion. The format is detected by content.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text, reading
from egodepth.core.suggestions import did_you_mean
from egodepth.data.footage.camera_formats.colmap import from_colmap, from_transforms, is_colmap
from egodepth.data.footage.camera_formats.matrices import MATRIX_NAMES, from_kalibr, from_matrix
from egodepth.data.footage.camera_formats.names import KNOWN_FORMATS, read_names
from egodepth.data.footage.camera_formats.values import (
    Calibration,
    Units,
    array_of,
    checked_calibration,
    file_error,
    number_of,
)
from egodepth.geometry.lens import Lens, LensModel

INTRINSICS = ("fx", "fy", "cx", "cy", "width", "height")
UNIT_NAMES = ("depth_steps", "poses_unit")
MOST_STEPS = 1e6
"""Most steps of depth maps in a metre: micrometres."""
NAMES = (*INTRINSICS, "lens", "distortion", *UNIT_NAMES)
"""All keys allowed in egodepth's own camera files."""


def read_calibration(path: Path) -> Calibration:
    """Read the camera in a file of any known format.

    Raises:
        EgodepthError: a missing file, an unknown format, unknown or missing keys, several cameras, a model
            other than a pinhole camera with Brown-Conrady or Kannala-Brandt distortion, or invalid values.
    """
    if path.suffix == ".bin":
        raise file_error(path, "is binary: colmap model_converter --output_type TXT makes it text")
    with reading(path, "the camera file"):
        return _parse_calibration(path, read_text(path, "the camera file"))


def _parse_calibration(path: Path, text: str) -> Calibration:
    if is_colmap(text):
        return from_colmap(path, text)
    tree = read_names(path, text)
    if "fl_x" in tree or "camera_angle_x" in tree or "frames" in tree:
        return from_transforms(path, tree)
    cameras = [
        name for name, value in tree.items() if isinstance(value, dict) and "intrinsics" in value
    ]
    if cameras or "intrinsics" in tree:
        return from_kalibr(path, tree, cameras)
    if any(name in tree for name in MATRIX_NAMES):
        is_ros = any(name in tree for name in ("distortion_model", "projection_matrix", "P", "p"))
        return from_matrix(path, tree, "ROS camera_info" if is_ros else "OpenCV calibration")
    return _from_own(path, tree)


def read_units(path: Path) -> Units:
    """Read the units of the depth maps and poses next to a camera file.

    Raises:
        EgodepthError: ``depth_steps`` that is not a number above zero, or a ``poses_unit`` other than metres.
    """
    with reading(path, "the camera file"):
        text = read_text(path, "the camera file")
        if is_colmap(text):
            return Units()
        tree = read_names(path, text)
    steps: float | None = None
    if "depth_steps" in tree:
        try:
            steps = number_of(path, "depth_steps", tree["depth_steps"])
        except EgodepthError:
            steps = math.nan
        if not 0 < steps <= MOST_STEPS:
            raise file_error(
                path,
                f"has depth_steps: {tree['depth_steps']}; it needs a number above 0 and up to "
                f"{MOST_STEPS:.0f}, 1000 for millimetres",
            )
    if "poses_unit" in tree and tree["poses_unit"] not in ("metres", "meters", "m"):
        raise file_error(
            path,
            f"has poses_unit: {tree['poses_unit']}; it may be metres alone, or left out",
        )
    return Units(steps, "poses_unit" in tree, bool(tree) and all(n in UNIT_NAMES for n in tree))


def _from_own(path: Path, tree: Mapping[str, Any]) -> Calibration:
    unknown = [name for name in tree if name not in NAMES]
    missing = [name for name in INTRINSICS if name not in tree]
    if len(missing) == len(INTRINSICS):
        held = ", ".join(list(tree)[:8]) or "nothing"
        raise file_error(path, f"is in none of the known formats: {KNOWN_FORMATS}; it holds {held}")
    if unknown:
        name = unknown[0]
        hint = did_you_mean(str(name), NAMES, f"it may hold {', '.join(NAMES)}")
        if name[:1] in "kp" and name[1:].isdigit():
            hint = "coefficients stand in one list, `distortion: [k1, k2, p1, p2, k3]`"
        raise file_error(path, f"has the unknown name {name!r}; {hint}")
    if missing:
        raise file_error(
            path,
            f"lacks {', '.join(missing)}; it needs one line each for {', '.join(INTRINSICS)}, like "
            "`fx: 721.5`",
        )
    numbers = [number_of(path, name, tree[name]) for name in INTRINSICS]
    model, coefficients = str(tree.get("lens", "brown")), tree.get("distortion")
    if coefficients is None and "lens" in tree:
        raise file_error(
            path,
            f"has `lens: {model}` without its coefficients; add `distortion: [...]`, or leave lens out",
        )
    if coefficients is None:
        lens = None
    else:
        try:
            values = array_of(path, "distortion", coefficients).ravel().tolist()
            lens = Lens(_OWN_LENSES[model], tuple(values))
        except (KeyError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else "no such lens"
            raise EgodepthError(
                f"the camera file {path}: lens {model!r} with distortion {coefficients!r}: {reason}; use "
                "`lens: brown` with [k1, k2, p1, p2, k3] or `lens: fisheye` with [k1, k2, k3, k4]"
            ) from error
    return checked_calibration(path, "camera file", numbers, lens)


_OWN_LENSES: dict[str, LensModel] = {"brown": "brown", "fisheye": "fisheye"}
