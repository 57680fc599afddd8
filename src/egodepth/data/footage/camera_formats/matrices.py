"""Reads camera files of OpenCV, ROS and kalibr."""

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egodepth.core.errors import EgodepthWarning
from egodepth.data.footage.camera_formats.values import (
    LIKE_DISTORTION,
    NO_LENS,
    Calibration,
    array_of,
    checked_calibration,
    file_error,
    image_size_of,
    lens_of,
    number_of,
)

MATRIX_NAMES = ("camera_matrix", "Camera_Matrix", "cameraMatrix", "K", "k", "mtx")
COEFFICIENT_NAMES = (
    "distortion_coefficients", "Distortion_Coefficients", "distCoeffs", "dist_coeffs", "dist_coeff",
    "distortion_coeffs", "D", "d", "dist",
)  # fmt: skip


def from_matrix(path: Path, tree: Mapping[str, Any], form: str) -> Calibration:
    """Read an OpenCV or ROS calibration: 3x3 matrix, distortion coefficients and image size."""
    for model in ("xi", "mirror_parameters"):
        if model in tree:
            raise file_error(
                path, f"is of an omnidirectional camera ({model}), which is no pinhole camera"
            )
    name = next(n for n in MATRIX_NAMES if n in tree)
    matrix = array_of(path, name, tree[name])
    if matrix.size != 9:
        raise file_error(path, f"has {matrix.size} numbers in {name}, not 3x3")
    matrix = matrix.reshape(3, 3)
    fixed = (matrix[1, 0], *matrix[2])
    if not np.allclose(fixed, (0, 0, 0, 1)) or abs(matrix[0, 1]) > 1e-6 * abs(matrix[0, 0]):
        raise file_error(path, f"has a {name} that is not [fx, 0, cx, 0, fy, cy, 0, 0, 1]")
    width, height = image_size_of(path, tree)
    if form.startswith("ROS"):
        matrix, width, height = _binned(path, tree, matrix, width, height)
    values = _coefficients(path, tree, "distortion_coefficients", ("fisheye", "fisheye_model"))
    model = str(tree.get("distortion_model") or "").lower()
    if tree.get("fisheye_model") or tree.get("fisheye") in (1, True):
        model = "fisheye"
    if not model and len(values) == 4 and any(values):
        warnings.warn(
            f"{path} has four coefficients and no distortion_model: they are taken for k1, k2, p1, p2; for a "
            "fisheye lens add `distortion_model: equidistant`",
            EgodepthWarning,
            stacklevel=4,
        )
    lens = lens_of(path, model, values)
    numbers = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], width, height)
    return checked_calibration(path, form, numbers, lens)


def _binned(
    path: Path, tree: Mapping[str, Any], matrix: np.ndarray, width: float, height: float
) -> tuple[np.ndarray, float, float]:
    """Matrix, width and height of the image that a ROS camera sends: a region of interest of the whole one,
    with pixels put together by its binning (sensor_msgs/CameraInfo; size 0 stands for all, binning 0 for 1).

    Raises:
        EgodepthError: a region outside of the image, or numbers that are none.
    """
    region = tree.get("roi") or {}
    names = ("x_offset", "y_offset", "width", "height")
    left, top, wide, high = (number_of(path, n, region.get(n) or 0) for n in names)
    steps = [number_of(path, f"binning_{a}", tree.get(f"binning_{a}") or 1) for a in "xy"]
    wide, high = wide or width - left, high or height - top
    if (
        min(left, top) < 0
        or left + wide > width
        or top + high > height
        or min(wide, high, *steps) < 1
    ):
        raise file_error(path, "has a region of interest outside of its image, or binning below 1")
    x, y = steps
    # The centre of the first pixel is 0.
    moved = np.array(
        [[1 / x, 0, (0.5 - left) / x - 0.5], [0, 1 / y, (0.5 - top) / y - 0.5], [0, 0, 1]]
    )
    return moved @ matrix, wide // x, high // y


def from_kalibr(path: Path, tree: Mapping[str, Any], cameras: list[str]) -> Calibration:
    """Read a kalibr camchain with a single camera, or the sensor file of a camera in EuRoC format."""
    if len(cameras) > 1:
        raise file_error(
            path, f"holds {' and '.join(cameras)}; leave in it the one that the footage is of"
        )
    values = tree[cameras[0]] if cameras else tree
    kind = str(values.get("camera_model", "pinhole"))
    if kind != "pinhole":
        raise file_error(
            path, f"is of a camera of the model {kind}; calibrate it as pinhole-radtan or -equi"
        )
    intrinsics = array_of(path, "intrinsics", values["intrinsics"]).ravel()
    if len(intrinsics) != 4:
        raise file_error(path, f"has {len(intrinsics)} intrinsics, not fx, fy, cx, cy")
    resolution = values.get("resolution")
    if resolution is None:
        raise file_error(path, "lacks the size of its images; add `resolution: [width, height]`")
    size = array_of(path, "resolution", resolution).ravel()
    if len(size) != 2:
        raise file_error(path, f"has resolution {resolution}, not [width, height]")
    coefficients = _coefficients(path, values, "distortion_coeffs")
    lens = lens_of(path, str(values.get("distortion_model") or "").lower(), coefficients)
    form = "kalibr camchain" if cameras else "sensor file"
    return checked_calibration(path, form, (*intrinsics, *size), lens)


def _coefficients(
    path: Path, tree: Mapping[str, Any], usual: str, others: tuple[str, ...] = ()
) -> list[float]:
    """Read the distortion coefficients in OpenCV's order; empty if the file has none.

    Args:
        path: path of the file, for messages.
        tree: keys and values of the file.
        usual: key of the coefficients in this format.
        others: other keys that describe the lens.

    Raises:
        EgodepthError: an unknown key that looks like distortion, or a distortion model without coefficients.
    """
    known = (*COEFFICIENT_NAMES, *MATRIX_NAMES, "distortion_model", *others)
    for name in tree:
        if name not in known and LIKE_DISTORTION.match(name):
            close = difflib.get_close_matches(name, (usual, "distortion_model"), n=1, cutoff=0.75)
            right = close[0] if close else "distortion_model" if "model" in name else usual
            example = "" if right == "distortion_model" else ": [k1, k2, p1, p2, k3]"
            raise file_error(
                path, f"has the unknown name {name!r}, like a lens's; call it `{right}{example}`"
            )
    found = next((n for n in COEFFICIENT_NAMES if n in tree), None)
    values: list[float] = (
        [] if found is None else array_of(path, found, tree[found]).ravel().tolist()
    )
    model = str(tree.get("distortion_model") or "none").lower()
    if not values and model not in NO_LENS:
        raise file_error(
            path,
            f"has `distortion_model: {model}` without its coefficients; add `{usual}: [...]`, or make it "
            "`distortion_model: none`",
        )
    return values
