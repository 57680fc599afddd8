"""Camera files: egodepth's own, and those of OpenCV, ROS, kalibr, COLMAP and nerfstudio.

Each holds a camera, its image size, and perhaps its lens. Which format a file has is told by its content.
"""

import difflib
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import read_text
from egodepth.geometry.camera import Camera, too_wide
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
NO_LENS = ("none", "undistorted")
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
LIKE_DISTORTION = re.compile(
    r"(?i:.*distor|dist(?!ance)|.*coeff?s?$|.*coeffi|lens$|lens_model$|[kp]_?[1-6]$)|D[0-9]*$|D_"
)
"""Names that no known format has, and that people give to the distortion of a lens."""
MOST_STRETCHED = 2.0
"""Ratio that the focal lengths of a camera can have."""
CENTRAL = 0.1
"""Share of the image at each edge in which hardly a camera has its principal point."""
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
    tree = _read_names(path, text)
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
    if _is_colmap(text):
        return Units()
    tree = _read_names(path, text)
    steps: float | None = None
    if "depth_steps" in tree:
        try:
            steps = _number(path, "depth_steps", tree["depth_steps"])
        except EgodepthError:
            steps = math.nan
        if not (math.isfinite(steps) and steps > 0):
            raise _error(
                path,
                f"has depth_steps: {tree['depth_steps']}; it needs a number above 0, 1000 for millimetres",
            )
    if "poses_unit" in tree and tree["poses_unit"] not in ("metres", "meters", "m"):
        raise _error(
            path,
            f"has poses_unit: {tree['poses_unit']}; it may be metres alone, or left out",
        )
    return Units(steps, "poses_unit" in tree, bool(tree) and all(n in UNIT_NAMES for n in tree))


def _error(path: Path, problem: str) -> EgodepthError:
    return EgodepthError(f"the camera file {path} {problem}")


def _read_names(path: Path, text: str) -> dict[str, Any]:
    """Names and values of a file that is not COLMAP's."""
    is_storage = text.lstrip().startswith(("%YAML", "<?xml")) or "!!opencv-matrix" in text
    return _read_file_storage(path, text) if is_storage else _read_tree(path, text)


class _NameTwiceError(Exception):
    """Names the name that a mapping has twice."""


class _Loader(yaml.SafeLoader):
    """Of YAML whose names stand there once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _check_once(name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode))
        return super().construct_mapping(node, deep)


def _check_once(names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _NameTwiceError(twice[0])


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_once(name for name, _ in pairs)
    return dict(pairs)


def _parse(text: str) -> Any:
    """JSON, which may hold tabs, or else YAML (its first document, as ``rostopic echo`` prints several)."""
    try:
        return json.loads(text, object_pairs_hook=_pairs)
    except ValueError:
        documents = yaml.load_all(text, Loader=_Loader)
        return next((t for t in documents if t is not None), None)


def _read_tree(path: Path, text: str) -> dict[str, Any]:
    """Names and values of YAML or JSON."""
    try:
        tree = _parse(text)
    except _NameTwiceError as error:
        raise _error(path, f"has the name {str(error)!r} twice; leave one in it") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
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
        _check_once(re.findall(r"^(\w+)\s*:", text, re.M))
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        tree = _node(storage.root())
        storage.release()
    except _NameTwiceError as error:
        raise _error(path, f"has the name {str(error)!r} twice; leave one in it") from error
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
            values = _array(path, "distortion", coefficients).ravel().tolist()
            lens = Lens(_OWN_LENSES[model], tuple(values))
        except (KeyError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else "no such lens"
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
    coefficients = _coefficients(path, values, "distortion_coeffs")
    lens = _lens(path, str(values.get("distortion_model") or "").lower(), coefficients)
    form = "kalibr camchain" if cameras else "sensor file"
    return _checked(path, form, (*intrinsics, *size), lens)


def _coefficients(
    path: Path, tree: Mapping[str, Any], usual: str, others: tuple[str, ...] = ()
) -> list[float]:
    """Those of a lens, in OpenCV's order; none where nothing in the file is like a distortion.

    Args:
        path: of the file, for messages.
        tree: its names and values.
        usual: name that the coefficients have in its format.
        others: names that tell the lens in other ways.

    Raises:
        EgodepthError: a name like that of a distortion that no format has, or a model without coefficients.
    """
    known = (*COEFFICIENT_NAMES, *MATRIX_NAMES, "distortion_model", *others)
    for name in tree:
        if name not in known and LIKE_DISTORTION.match(name):
            close = difflib.get_close_matches(name, (usual, "distortion_model"), n=1, cutoff=0.75)
            right = close[0] if close else "distortion_model" if "model" in name else usual
            example = "" if right == "distortion_model" else ": [k1, k2, p1, p2, k3]"
            raise _error(
                path, f"has the unknown name {name!r}, like a lens's; call it `{right}{example}`"
            )
    found = next((n for n in COEFFICIENT_NAMES if n in tree), None)
    values: list[float] = [] if found is None else _array(path, found, tree[found]).ravel().tolist()
    model = str(tree.get("distortion_model") or "none").lower()
    if not values and model not in NO_LENS:
        raise _error(
            path,
            f"has `distortion_model: {model}` without its coefficients; add `{usual}: [...]`, or make it "
            "`distortion_model: none`",
        )
    return values


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
    names = (
        "fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", "camera_model",
        "is_fisheye", *ORDER["brown"],
    )  # fmt: skip
    for name in {name: None for part in (tree, *frames) for name in part}:
        if name not in names and LIKE_DISTORTION.match(name):
            raise _error(
                path,
                f"has the unknown name {name!r}, like a lens's; nerfstudio's names are camera_model and "
                "k1, k2, p1, p2, k3, k4, each a number",
            )
    told = [{n: part[n] for n in names if n in part} for part in ({**tree, **f} for f in frames)]
    if any(one != told[0] for one in told):
        raise _error(path, "has several cameras; leave in it the one that the footage is of")
    tree = {**tree, **told[0]} if told else tree
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
    for name in ("camera_angle_x", "camera_angle_y"):
        if not 0 <= values.get(name, 0) < math.pi:
            raise _error(
                path,
                f"has {name}: {values[name]:g}; it needs radians, below pi (degrees times pi / 180)",
            )
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
    extra = [n for n in ORDER["brown"] if n not in ORDER[model] and values.get(n)]
    if extra:
        raise _error(path, f"has a {extra[0]}, which a {model} lens has not")
    lens = _lens_by_name(path, model, values)
    numbers = (fx, fy, cx - CORNER, cy - CORNER, width, height)
    return _checked(path, "nerfstudio camera", numbers, lens)


def _focal(size: float, angle: float | None) -> float | None:
    return None if not angle else size / (2 * math.tan(angle / 2))


def _number(path: Path, name: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        raise _error(path, f"holds something else than numbers: {name} is {value!r}") from error


def _array(path: Path, name: str, value: Any) -> np.ndarray:
    """Of a list, nested or not, or of a mapping with ``data``."""
    try:
        inner = value["data"] if isinstance(value, dict) else value
        if inner is None or isinstance(inner, str) or _holds_bool(inner):
            raise TypeError
        return np.array(inner, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise _error(path, f"holds something else than numbers in {name}") from error


def _holds_bool(value: Any) -> bool:
    inside = isinstance(value, list) and any(map(_holds_bool, value))
    return isinstance(value, bool) or inside


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
    if not any(values) or model in NO_LENS:
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
    wide = too_wide(fx, fy, int(height), int(width))
    if wide:
        raise _error(
            path,
            f"has {wide}; focal lengths are in pixels: is it normalised (times the width), or in millimetres?",
        )
    if max(fx, fy) > MOST_STRETCHED * min(fx, fy):
        raise _error(
            path,
            f"has fx {fx:g} and fy {fy:g}, more than a factor of {MOST_STRETCHED:g} apart; they are of "
            "pixels that are square, or nearly",
        )
    shares = cx / width, cy / height
    where = (
        f"has its principal point (cx, cy) at ({cx:g}, {cy:g}) in its image of {width:g}x{height:g}"
    )
    if min(shares) <= 0:
        raise _error(
            path, f"{where}; it is in pixels, near the middle, ({width / 2:g}, {height / 2:g})"
        )
    if not all(CENTRAL <= share <= 1 - CENTRAL for share in shares):
        warnings.warn(
            f"the camera file {path} {where}, far from the middle; is that right?",
            EgodepthWarning,
            stacklevel=5,
        )
    camera = Camera.from_parameters(fx, fy, cx, cy, int(height), int(width))
    return Calibration(camera, lens, f"{form} {path}")
