"""Reads camera files of COLMAP and nerfstudio, which share their camera models."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egodepth.data.footage.camera_formats.values import (
    LIKE_DISTORTION,
    ORDER,
    Calibration,
    checked_calibration,
    file_error,
    image_size_of,
    lens_by_name,
    number_of,
)
from egodepth.geometry.lens import LensModel

COLMAP_MODELS: dict[str, tuple[LensModel, str]] = {
    "SIMPLE_PINHOLE": ("brown", "f cx cy"),
    "PINHOLE": ("brown", "fx fy cx cy"),
    "SIMPLE_RADIAL": ("brown", "f cx cy k1"),
    "RADIAL": ("brown", "f cx cy k1 k2"),
    "OPENCV": ("brown", "fx fy cx cy k1 k2 p1 p2"),
    "FULL_OPENCV": ("brown", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    "OPENCV_FISHEYE": ("fisheye", "fx fy cx cy k1 k2 k3 k4"),
    "SIMPLE_RADIAL_FISHEYE": ("fisheye", "f cx cy k1"),
    "RADIAL_FISHEYE": ("fisheye", "f cx cy k1 k2"),
}  # fmt: skip
"""Lens model and parameters of the supported COLMAP camera models."""
CORNER = 0.5
"""Coordinate of the centre of the top-left pixel in COLMAP and nerfstudio; it is 0 in egodepth, OpenCV, ROS and
kalibr."""
OPENGL_FROM_OPENCV = np.diag([1.0, -1, -1, 1])
"""Camera axes of nerfstudio and OpenGL (y up, z back) from those of egodepth; its own inverse."""


def is_colmap(text: str) -> bool:
    """Whether a text has the format of COLMAP's cameras.txt."""
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return bool(rows) and all(
        len(row) >= 5 and row[0].isdigit() and row[1].isupper() and row[2].isdigit() for row in rows
    )


def from_colmap(path: Path, text: str) -> Calibration:
    """Read COLMAP's cameras.txt with a single camera."""
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    if len(rows) > 1:
        raise file_error(
            path, f"holds {len(rows)} cameras; leave in it the one that the footage is of"
        )
    _, model, width, height, *words = rows[0]
    if model not in COLMAP_MODELS:
        raise file_error(
            path, f"is of a camera of the model {model}; known are {', '.join(COLMAP_MODELS)}"
        )
    lens_model, names = COLMAP_MODELS[model]
    if len(words) != len(names.split()):
        raise file_error(path, f"has {len(words)} parameters of {model}, which needs {names}")
    values = {n: number_of(path, n, w) for n, w in zip(names.split(), words, strict=True)}
    fx, fy = (values.get(name, values.get("f", 0.0)) for name in ("fx", "fy"))
    lens = lens_by_name(path, lens_model, values)
    cx, cy = values["cx"] - CORNER, values["cy"] - CORNER
    size = number_of(path, "WIDTH", width), number_of(path, "HEIGHT", height)
    return checked_calibration(path, f"COLMAP camera ({model})", (fx, fy, cx, cy, *size), lens)


def from_transforms(path: Path, tree: Mapping[str, Any]) -> Calibration:
    """Read the transforms.json of nerfstudio or instant-ngp with a single camera."""
    frames = [f for f in tree.get("frames") or [] if isinstance(f, dict)]
    names = (
        "fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", "camera_model",
        "is_fisheye", *ORDER["brown"],
    )  # fmt: skip
    for name in {name: None for part in (tree, *frames) for name in part}:
        if name not in names and LIKE_DISTORTION.match(name):
            raise file_error(
                path,
                f"has the unknown name {name!r}, like a lens's; nerfstudio's names are camera_model and "
                "k1, k2, p1, p2, k3, k4, each a number",
            )
    told = [{n: part[n] for n in names if n in part} for part in ({**tree, **f} for f in frames)]
    if any(one != told[0] for one in told):
        raise file_error(path, "has several cameras; leave in it the one that the footage is of")
    tree = {**tree, **told[0]} if told else tree
    kind = str(tree.get("camera_model", "OPENCV_FISHEYE" if tree.get("is_fisheye") else "OPENCV"))
    if kind not in ("OPENCV", "OPENCV_FISHEYE", *COLMAP_MODELS):
        raise file_error(
            path, f"is of a camera of the model {kind}; known are OPENCV and OPENCV_FISHEYE"
        )
    width, height = image_size_of(path, tree)
    values = {
        n: number_of(path, n, tree[n])
        for n in ("fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y", *ORDER["brown"])
        if tree.get(n) is not None
    }
    for name in ("camera_angle_x", "camera_angle_y"):
        if not 0 <= values.get(name, 0) < math.pi:
            raise file_error(
                path,
                f"has {name}: {values[name]:g}; it needs radians, below pi (degrees times pi / 180)",
            )
    fx = values.get("fl_x") or _focal(width, values.get("camera_angle_x"))
    fy = values.get("fl_y") or _focal(height, values.get("camera_angle_y")) or fx
    if fx is None or fy is None:
        raise file_error(path, "lacks fl_x and camera_angle_x, which give the focal length")
    cx, cy = values.get("cx", width / 2), values.get("cy", height / 2)
    model = COLMAP_MODELS[kind][0]
    if model == "brown" and values.get("k4"):
        raise file_error(
            path, "has a k4 of r^8, which is no coefficient of OpenCV's; calibrate it with three"
        )
    extra = [n for n in ORDER["brown"] if n not in ORDER[model] and values.get(n)]
    if extra:
        raise file_error(path, f"has a {extra[0]}, which a {model} lens has not")
    lens = lens_by_name(path, model, values)
    numbers = (fx, fy, cx - CORNER, cy - CORNER, width, height)
    return checked_calibration(path, "nerfstudio camera", numbers, lens)


def _focal(size: float, angle: float | None) -> float | None:
    return None if not angle else size / (2 * math.tan(angle / 2))
