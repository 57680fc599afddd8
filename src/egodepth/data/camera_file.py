"""Camera files: egodepth's own, and those of OpenCV, ROS, kalibr, COLMAP and nerfstudio.

Each holds a camera, its image size, and perhaps its lens. Which format a file has is told by its content.
"""

import difflib
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import read_text
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import COEFFICIENTS, Lens, LensModel

INTRINSICS = ("fx", "fy", "cx", "cy", "width", "height")
UNIT_NAMES = ("depth_steps", "poses_unit")
NAMES = (*INTRINSICS, "lens", "distortion", *UNIT_NAMES)
"""All that egodepth's own camera file may hold."""
LENSES: dict[str, LensModel] = {
    "brown": "brown", "radtan": "brown", "radial-tangential": "brown", "plumb_bob": "brown",
    "rational_polynomial": "brown", "opencv": "brown", "fisheye": "fisheye", "equidistant": "fisheye",
    "equi": "fisheye", "opencv_fisheye": "fisheye",
}  # fmt: skip
"""Lens models by the names that others give them."""
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
"""Lens and parameters of those of COLMAP's camera models that are pinhole cameras behind such a lens."""
ORDER: dict[LensModel, tuple[str, ...]] = {
    "brown": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "fisheye": ("k1", "k2", "k3", "k4"),
}  # fmt: skip
CORNER = 0.5
"""Where COLMAP and nerfstudio have the centre of the top-left pixel, which is (0, 0) in egodepth, OpenCV, ROS
and kalibr."""
KNOWN_FORMATS = (
    "egodepth's (fx, fy, cx, cy, width, height), OpenCV's, ROS's camera_info, kalibr's camchain, COLMAP's "
    "cameras.txt, nerfstudio's transforms.json"
)
MATRIX_NAMES = ("camera_matrix", "Camera_Matrix", "cameraMatrix", "K", "k", "mtx")
COEFFICIENT_NAMES = (
    "distortion_coefficients", "Distortion_Coefficients", "distCoeffs", "dist_coeffs", "dist_coeff",
    "distortion_coeffs", "D", "d", "dist",
)  # fmt: skip
SIZE_NAMES = (
    ("image_width", "image_height"), ("image_Width", "image_Height"), ("width", "height"), ("w", "h"),
)  # fmt: skip


class Units(NamedTuple):
    """What a camera file says of the units of what lies beside it.

    Attributes:
        depth_steps: steps of a metre in depth PNGs; None where it says nothing.
        metric_poses: whether poses are in metres.
        alone: whether it says nothing else: no camera.
    """

    depth_steps: float | None = None
    metric_poses: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Calibration:
    """A camera as it was calibrated.

    Attributes:
        camera: at the size that it was calibrated at.
        lens: its distortion; None where there is none.
        source: what tells it, in words, such as ``OpenCV calibration left.yaml``.
    """

    camera: Camera
    lens: Lens | None
    source: str

    def describe(self) -> str:
        """In words, for the plan."""
        lens = f", {self.lens.model} lens" if self.lens else ""
        return f"{self.source}, {self.camera.width}x{self.camera.height}{lens}"

    def fits(self, height: int, width: int) -> bool:
        """Whether images of this size can be the camera's, upright or turned by 90 degrees."""
        camera = self.camera
        return camera.has_aspect_of(height, width) or camera.has_aspect_of(width, height)

    def at_size(self, height: int, width: int, name: str) -> "Calibration":
        """For images of this size: resized where they have the aspect ratio of the camera, and turned by 90
        degrees, with a warning, where they have that of the turned one.

        Args:
            height, width: of the images.
            name: of the footage, for messages.

        Raises:
            EgodepthError: another aspect ratio: a crop, or another camera.
        """
        own = f"{self.camera.width}x{self.camera.height}"
        if self.camera.has_aspect_of(height, width):
            return replace(self, camera=self.camera.resize(height, width))
        if self.camera.has_aspect_of(width, height):
            warnings.warn(
                f"{self.source} is for {own} pixels and {name} is {width}x{height}: the camera is turned by 90 "
                "degrees (clockwise)",
                EgodepthWarning,
                stacklevel=2,
            )
            lens = self.lens and self.lens.turn()
            return replace(self, camera=self.camera.turn().resize(height, width), lens=lens)
        raise EgodepthError(
            f"{self.source} is for {own} pixels, but {name} is {width}x{height}, of another aspect ratio (a "
            "crop, or another camera): give its field of view or a camera file made for this size (--fov or "
            "--camera; for train --data.fov or --data.camera)"
        )


def read_calibration(path: Path) -> Calibration:
    """The camera of a file of any known format.

    Raises:
        EgodepthError: a missing file, none of the formats, unknown or missing names, several cameras, a model
            that is no pinhole camera behind a Brown-Conrady or Kannala-Brandt lens, or values that make no
            camera.
    """
    if path.suffix == ".bin":
        raise _error(path, "is binary: colmap model_converter --output_type TXT makes it text")
    text = read_text(path, "the camera file")
    if _is_colmap(text):
        return _from_colmap(path, text)
    is_storage = text.lstrip().startswith(("%YAML", "<?xml")) or "!!opencv-matrix" in text
    tree = _read_file_storage(path, text) if is_storage else _read_tree(path, text)
    if "fl_x" in tree or "camera_angle_x" in tree or "frames" in tree:
        return _from_transforms(path, tree)
    cameras = [
        name for name, value in tree.items() if isinstance(value, dict) and "intrinsics" in value
    ]
    if cameras or "intrinsics" in tree:
        return _from_kalibr(path, tree, cameras)
    if any(name in tree for name in MATRIX_NAMES):
        is_ros = any(name in tree for name in ("distortion_model", "projection_matrix", "P", "p"))
        return _from_matrix(path, tree, "ROS camera_info" if is_ros else "OpenCV calibration")
    return _from_own(path, tree)


def read_units(path: Path) -> Units:
    """What a camera file says of the units of the depth and the poses beside it.

    Raises:
        EgodepthError: steps that are no number above zero, or poses in another unit than metres.
    """
    text = read_text(path, "the camera file")
    found = {name: re.search(rf"^\s*{name}\s*:(.*?)(#.*)?$", text, re.M) for name in UNIT_NAMES}
    words = {name: match[1].strip() for name, match in found.items() if match}
    steps: float | None = None
    if "depth_steps" in words:
        try:
            steps = float(words["depth_steps"])
        except ValueError:
            steps = math.nan
        if not (math.isfinite(steps) and steps > 0):
            raise _error(
                path,
                f"has depth_steps: {words['depth_steps']}; it needs a number above 0, 1000 for millimetres",
            )
    unit = words.get("poses_unit")
    if unit not in (None, "metres", "meters", "m"):
        raise _error(path, f"has poses_unit: {unit}; it may be metres alone, or left out")
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    kept = [line for line in lines if line and not re.match("|".join(UNIT_NAMES), line)]
    return Units(steps, unit is not None, bool(words) and not kept)


def _error(path: Path, problem: str) -> EgodepthError:
    return EgodepthError(f"the camera file {path} {problem}")


def _read_tree(path: Path, text: str) -> dict[str, Any]:
    """Names and values of YAML (its first document, as ``rostopic echo`` prints several) or JSON."""
    try:
        if text.lstrip().startswith("{"):
            tree = json.loads(text)
        else:
            tree = next((t for t in yaml.safe_load_all(text) if t is not None), None)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else getattr(error, "lineno", 1)
        raise _error(
            path, f"is in none of the known formats: {KNOWN_FORMATS}; line {line} is no YAML"
        ) from error
    if not isinstance(tree, dict):
        raise _error(path, f"is in none of the known formats: {KNOWN_FORMATS}")
    return {str(name): value for name, value in tree.items()}


def _read_file_storage(path: Path, text: str) -> dict[str, Any]:
    """Names and values of what OpenCV's FileStorage wrote, matrices as arrays."""
    text = text if text.lstrip().startswith(("%YAML", "<?xml")) else f"%YAML:1.0\n---\n{text}"
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        tree = _node(storage.root())
        storage.release()
    except (cv2.error, SystemError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise _error(path, f"can't be read by OpenCV's FileStorage: {reason}") from error
    return tree if isinstance(tree, dict) else {}


def _node(node: Any) -> Any:
    if node.isMap():
        values = {name: _node(node.getNode(name)) for name in node.keys()}  # noqa: SIM118  no mapping
        return node.mat() if {"rows", "cols", "dt"} <= set(values) else values
    if node.isSeq():
        return [_node(node.at(i)) for i in range(node.size())]
    return node.string() if node.isString() else node.real()


def _from_own(path: Path, tree: Mapping[str, Any]) -> Calibration:
    unknown = [name for name in tree if name not in NAMES]
    missing = [name for name in INTRINSICS if name not in tree]
    if len(missing) == len(INTRINSICS):
        held = ", ".join(list(tree)[:8]) or "nothing"
        raise _error(path, f"is in none of the known formats: {KNOWN_FORMATS}; it holds {held}")
    if unknown:
        name = unknown[0]
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it may hold {', '.join(NAMES)}"
        if name[:1] in "kp" and name[1:].isdigit():
            hint = "coefficients stand in one list, `distortion: [k1, k2, p1, p2, k3]`"
        raise _error(path, f"has the unknown name {name!r}; {hint}")
    if missing:
        raise _error(
            path,
            f"lacks {', '.join(missing)}; it needs one line each for {', '.join(INTRINSICS)}, like "
            "`fx: 721.5`",
        )
    numbers = [_number(path, name, tree[name]) for name in INTRINSICS]
    model, coefficients = str(tree.get("lens", "brown")), tree.get("distortion")
    if coefficients is None and "lens" in tree:
        raise _error(
            path,
            f"has `lens: {model}` without its coefficients; add `distortion: [...]`, or leave lens out",
        )
    if coefficients is None:
        lens = None
    else:
        try:
            lens = Lens(_OWN_LENSES[model], tuple(float(c) for c in coefficients))
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else "it needs numbers"
            raise EgodepthError(
                f"the camera file {path}: lens {model!r} with distortion {coefficients!r}: {reason}; use "
                "`lens: brown` with [k1, k2, p1, p2, k3] or `lens: fisheye` with [k1, k2, k3, k4]"
            ) from error
    return _checked(path, "camera file", numbers, lens)


_OWN_LENSES: dict[str, LensModel] = {"brown": "brown", "fisheye": "fisheye"}


def _from_matrix(path: Path, tree: Mapping[str, Any], form: str) -> Calibration:
    """OpenCV's and ROS's: a 3x3 matrix, coefficients, image size."""
    for model in ("xi", "mirror_parameters"):
        if model in tree:
            raise _error(
                path, f"is of an omnidirectional camera ({model}), which is no pinhole camera"
            )
    name = next(n for n in MATRIX_NAMES if n in tree)
    matrix = _array(path, name, tree[name])
    if matrix.size != 9:
        raise _error(path, f"has {matrix.size} numbers in {name}, not 3x3")
    matrix = matrix.reshape(3, 3)
    fixed = (matrix[1, 0], *matrix[2])
    if not np.allclose(fixed, (0, 0, 0, 1)) or abs(matrix[0, 1]) > 1e-6 * abs(matrix[0, 0]):
        raise _error(path, f"has a {name} that is not [fx, 0, cx, 0, fy, cy, 0, 0, 1]")
    width, height = _size(path, tree)
    if form.startswith("ROS"):
        roi = tree.get("roi") or {}
        binning = [tree.get(f"binning_{axis}", 1) or 1 for axis in "xy"]
        parts = [roi.get(n) or full for n, full in (("width", width), ("height", height))]
        moved = any(roi.get(n) for n in ("x_offset", "y_offset"))
        if binning != [1, 1] or moved or parts != [width, height]:
            raise _error(path, "is of a binned or cropped image; give that of the full image")
    found = next((n for n in COEFFICIENT_NAMES if n in tree), None)
    values = [] if found is None else _array(path, found, tree[found]).ravel().tolist()
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
    lens = _lens(path, model, values)
    numbers = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], width, height)
    return _checked(path, form, numbers, lens)


def _from_kalibr(path: Path, tree: Mapping[str, Any], cameras: list[str]) -> Calibration:
    """A camchain of kalibr, or the sensor file of a camera in EuRoC's format."""
    if len(cameras) > 1:
        raise _error(
            path, f"holds {' and '.join(cameras)}; leave in it the one that the footage is of"
        )
    values = tree[cameras[0]] if cameras else tree
    kind = str(values.get("camera_model", "pinhole"))
    if kind != "pinhole":
        raise _error(
            path, f"is of a camera of the model {kind}; calibrate it as pinhole-radtan or -equi"
        )
    intrinsics = _array(path, "intrinsics", values["intrinsics"]).ravel()
    if len(intrinsics) != 4:
        raise _error(path, f"has {len(intrinsics)} intrinsics, not fx, fy, cx, cy")
    resolution = values.get("resolution")
    if resolution is None:
        raise _error(path, "lacks the size of its images; add `resolution: [width, height]`")
    size = _array(path, "resolution", resolution).ravel()
    if len(size) != 2:
        raise _error(path, f"has resolution {resolution}, not [width, height]")
    name = next((n for n in COEFFICIENT_NAMES if n in values), None)
    coefficients = [] if name is None else _array(path, name, values[name]).ravel().tolist()
    lens = _lens(path, str(values.get("distortion_model") or "").lower(), coefficients)
    form = "kalibr camchain" if cameras else "sensor file"
    return _checked(path, form, (*intrinsics, *size), lens)


def _is_colmap(text: str) -> bool:
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return bool(rows) and all(
        len(row) >= 5 and row[0].isdigit() and row[1].isupper() and row[2].isdigit() for row in rows
    )


def _from_colmap(path: Path, text: str) -> Calibration:
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    if len(rows) > 1:
        raise _error(path, f"holds {len(rows)} cameras; leave in it the one that the footage is of")
    _, model, width, height, *words = rows[0]
    if model not in COLMAP_MODELS:
        raise _error(
            path, f"is of a camera of the model {model}; known are {', '.join(COLMAP_MODELS)}"
        )
    lens_model, names = COLMAP_MODELS[model]
    if len(words) != len(names.split()):
        raise _error(path, f"has {len(words)} parameters of {model}, which needs {names}")
    values = {n: _number(path, n, w) for n, w in zip(names.split(), words, strict=True)}
    fx, fy = (values.get(name, values.get("f", 0.0)) for name in ("fx", "fy"))
    lens = _lens_by_name(path, lens_model, values)
    cx, cy = values["cx"] - CORNER, values["cy"] - CORNER
    size = _number(path, "WIDTH", width), _number(path, "HEIGHT", height)
    return _checked(path, f"COLMAP camera ({model})", (fx, fy, cx, cy, *size), lens)


def _from_transforms(path: Path, tree: Mapping[str, Any]) -> Calibration:
    """Nerfstudio's and instant-ngp's transforms.json."""
    frames = [f for f in tree.get("frames") or [] if isinstance(f, dict)]
    own = [f for f in frames if "fl_x" in f]
    if own and "fl_x" not in tree:
        names = ("fl_x", "fl_y", "cx", "cy", "w", "h", *ORDER["brown"])
        first = {n: own[0][n] for n in names if n in own[0]}
        if len(own) < len(frames) or any({n: f[n] for n in names if n in f} != first for f in own):
            raise _error(path, "has several cameras; leave in it the one that the footage is of")
        tree = {**tree, **first}
    kind = str(tree.get("camera_model", "OPENCV_FISHEYE" if tree.get("is_fisheye") else "OPENCV"))
    if kind not in ("OPENCV", "OPENCV_FISHEYE", *COLMAP_MODELS):
        raise _error(
            path, f"is of a camera of the model {kind}; known are OPENCV and OPENCV_FISHEYE"
        )
    width, height = _size(path, tree)
    values = {
        n: _number(path, n, tree[n])
        for n in ("fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y", *ORDER["brown"])
        if tree.get(n) is not None
    }
    fx = values.get("fl_x") or _focal(width, values.get("camera_angle_x"))
    fy = values.get("fl_y") or _focal(height, values.get("camera_angle_y")) or fx
    if fx is None or fy is None:
        raise _error(path, "lacks fl_x and camera_angle_x, which tell the focal length")
    cx, cy = values.get("cx", width / 2), values.get("cy", height / 2)
    model = COLMAP_MODELS[kind][0]
    if model == "brown" and values.get("k4"):
        raise _error(
            path, "has a k4 of r^8, which is no coefficient of OpenCV's; calibrate it with three"
        )
    lens = _lens_by_name(path, model, values)
    numbers = (fx, fy, cx - CORNER, cy - CORNER, width, height)
    return _checked(path, "nerfstudio camera", numbers, lens)


def _focal(size: float, angle: float | None) -> float | None:
    return None if not angle else size / (2 * math.tan(angle / 2))


def _number(path: Path, name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise _error(path, f"holds something else than numbers: {name} is {value!r}") from error


def _array(path: Path, name: str, value: Any) -> np.ndarray:
    """Of a list, nested or not, or of a mapping with ``data``."""
    try:
        return np.array(value["data"] if isinstance(value, dict) else value, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise _error(path, f"holds something else than numbers in {name}") from error


def _size(path: Path, tree: Mapping[str, Any]) -> tuple[float, float]:
    """Width and height."""
    for width, height in SIZE_NAMES:
        if width in tree and height in tree:
            return _number(path, width, tree[width]), _number(path, height, tree[height])
    for name in ("image_size", "imageSize", "img_size"):
        if name in tree and _array(path, name, tree[name]).size == 2:
            width, height = _array(path, name, tree[name]).ravel().tolist()
            return width, height
    raise _error(
        path,
        "does not say what image size it is for: add image_width and image_height (w and h in JSON)",
    )


def _lens(path: Path, model: str, values: list[float]) -> Lens | None:
    """Of a list of coefficients in OpenCV's order; trailing zeros beyond what the model takes are left out."""
    if not any(values) or model in ("none", "undistorted"):
        if any(values):
            raise _error(path, f"has coefficients, but the distortion model {model}")
        return None
    if model and model not in LENSES:
        raise _error(path, f"is of the lens model {model!r}; known are {', '.join(LENSES)}")
    kind = LENSES.get(model, "brown")
    counts = COEFFICIENTS[kind]
    while len(values) > counts[-1] and values[-1] == 0:
        values = values[:-1]
    while len(values) not in counts and len(values) < counts[-1]:
        values = [*values, 0.0]
    if len(values) not in counts:
        raise _error(
            path,
            f"has {len(values)} distortion coefficients; a {kind} lens has at most {counts[-1]}",
        )
    return Lens(kind, tuple(values))


def _lens_by_name(path: Path, model: LensModel, values: Mapping[str, float]) -> Lens | None:
    return _lens(path, model, [values.get(name, 0.0) for name in ORDER[model]])


def _checked(path: Path, form: str, numbers: Iterable[float], lens: Lens | None) -> Calibration:
    """The camera of INTRINSICS, if these numbers can be one."""
    fx, fy, cx, cy, width, height = map(float, numbers)
    if not (all(map(math.isfinite, (fx, fy))) and min(fx, fy) > 0):
        raise _error(path, f"has the focal lengths {fx:g} and {fy:g}; they must be above 0")
    if not all(size > 0 and size.is_integer() for size in (width, height)):
        raise _error(
            path, f"has the image size {width:g}x{height:g}; it must be of whole pixels above 0"
        )
    if not (0 <= cx <= width - 1 and 0 <= cy <= height - 1):
        raise _error(
            path,
            f"has its principal point ({cx:g}, {cy:g}) outside of its image of {width:g}x{height:g}",
        )
    if lens is not None and not all(map(math.isfinite, lens.coefficients)):
        raise _error(path, f"has distortion coefficients that are no numbers: {lens.coefficients}")
    camera = Camera.from_parameters(fx, fy, cx, cy, int(height), int(width))
    return Calibration(camera, lens, f"{form} {path}")
