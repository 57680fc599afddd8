"""Checks the values of camera files and builds calibrations from them."""

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import COEFFICIENTS, Lens, LensModel, undistorted_camera
from egodepth.geometry.plausible import camera_problem

LENSES: dict[str, LensModel] = {
    "brown": "brown", "radtan": "brown", "radial-tangential": "brown", "plumb_bob": "brown",
    "rational_polynomial": "brown", "opencv": "brown", "fisheye": "fisheye", "equidistant": "fisheye",
    "equi": "fisheye", "opencv_fisheye": "fisheye", "kannala_brandt": "fisheye",
}  # fmt: skip
"""Lens models by their names in other programs."""
ORDER: dict[LensModel, tuple[str, ...]] = {
    "brown": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "fisheye": ("k1", "k2", "k3", "k4"),
}  # fmt: skip
NO_LENS = ("none", "undistorted")
LIKE_DISTORTION = re.compile(
    r"(?i:.*distor|dist(?!ance)|.*coeff?s?$|.*coeffi|lens$|lens_model$|[kp]_?[1-6]$)|D[0-9]*$|D_"
)
"""Keys that look like lens distortion; an error unless the format knows them."""
CENTRAL = 0.1
"""Share of the image at each edge in which a principal point is suspicious."""
SIZE_NAMES = (
    ("image_width", "image_height"), ("image_Width", "image_Height"), ("width", "height"), ("w", "h"),
)  # fmt: skip


class Units(NamedTuple):
    """Units of the depth maps and poses next to a camera file.

    Attributes:
        depth_steps: steps per metre in depth PNGs; None if not stated.
        metric_poses: whether the poses are in metres.
        alone: whether the file states only units and no camera.
    """

    depth_steps: float | None = None
    metric_poses: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Calibration:
    """A calibrated camera.

    Attributes:
        camera: intrinsics at the calibrated image size.
        lens: lens distortion; None if there is none.
        source: format and path in words, such as ``OpenCV calibration left.yaml``.
    """

    camera: Camera
    lens: Lens | None
    source: str

    def describe(self) -> str:
        """Describe the calibration in words, for the training plan."""
        lens = f", {self.lens.model} lens" if self.lens else ""
        return f"{self.source}, {self.camera.width}x{self.camera.height}{lens}"

    def fits(self, height: int, width: int) -> bool:
        """Whether images of this size have the camera's aspect ratio, upright or rotated by 90 degrees."""
        camera = self.camera
        return camera.has_aspect_of(height, width) or camera.has_aspect_of(width, height)

    def at_size(self, height: int, width: int, name: str) -> "Calibration":
        """Adapt the calibration to images of another size.

        It is resized if the aspect ratio matches, and rotated by 90 degrees, with a warning, if that makes it
        match.

        Args:
            height, width: size of the images.
            name: name of the footage, for messages.

        Raises:
            EgodepthError: another aspect ratio, as of a crop or another camera.
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


def file_error(path: Path, problem: str) -> EgodepthError:
    """Build the error for a problem with a camera file."""
    return EgodepthError(f"the camera file {path} {problem}")


def number_of(path: Path, name: str, value: Any) -> float:
    """Convert a number, or a string that contains one, to float.

    Raises:
        EgodepthError: not a number.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        shown = repr(value)[:80]
        raise file_error(path, f"holds something else than numbers: {name} is {shown}") from error


def array_of(path: Path, name: str, value: Any) -> np.ndarray:
    """Convert a list, nested or not, or a mapping with ``data`` to a float64 array."""
    try:
        inner = value["data"] if isinstance(value, dict) else value
        if inner is None or isinstance(inner, str) or _holds_bool(inner):
            raise TypeError
        return np.array(inner, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise file_error(path, f"holds something else than numbers in {name}") from error


def _holds_bool(value: Any) -> bool:
    inside = isinstance(value, list) and any(map(_holds_bool, value))
    return isinstance(value, bool) or inside


def image_size_of(path: Path, tree: Mapping[str, Any]) -> tuple[float, float]:
    """Image width and height in a camera file."""
    for width, height in SIZE_NAMES:
        if width in tree and height in tree:
            return number_of(path, width, tree[width]), number_of(path, height, tree[height])
    for name in ("image_size", "imageSize", "img_size"):
        if name in tree and array_of(path, name, tree[name]).size == 2:
            width, height = array_of(path, name, tree[name]).ravel().tolist()
            return width, height
    raise file_error(
        path,
        "does not say what image size it is for: add image_width and image_height (w and h in JSON)",
    )


def lens_of(path: Path, model: str, values: list[float]) -> Lens | None:
    """Lens of coefficients in OpenCV's order, None if all are 0; trailing zeros that do not fit are dropped."""
    if not any(values) or model in NO_LENS:
        if any(values):
            raise file_error(path, f"has coefficients, but the distortion model {model}")
        return None
    if model and model not in LENSES:
        raise file_error(path, f"is of the lens model {model!r}; known are {', '.join(LENSES)}")
    kind = LENSES.get(model, "brown")
    counts = COEFFICIENTS[kind]
    while len(values) > counts[-1] and values[-1] == 0:
        values = values[:-1]
    while len(values) not in counts and len(values) < counts[-1]:
        values = [*values, 0.0]
    if len(values) not in counts:
        raise file_error(
            path,
            f"has {len(values)} distortion coefficients; a {kind} lens has at most {counts[-1]}",
        )
    try:
        return Lens(kind, tuple(values))
    except ValueError as error:
        raise file_error(path, f"has a lens that can't be: {error}") from error


def lens_by_name(path: Path, model: LensModel, values: Mapping[str, float]) -> Lens | None:
    """Lens of coefficients by name (k1, p1 and so on); missing ones are 0."""
    return lens_of(path, model, [values.get(name, 0.0) for name in ORDER[model]])


def checked_calibration(
    path: Path, form: str, numbers: Iterable[float], lens: Lens | None
) -> Calibration:
    """Build a calibration from fx, fy, cx, cy, width and height after checking that they are plausible."""
    fx, fy, cx, cy, width, height = map(float, numbers)
    problem = camera_problem(fx, fy, cx, cy, height, width)
    if problem:
        raise file_error(path, problem)
    shares = cx / width, cy / height
    where = (
        f"has its principal point (cx, cy) at ({cx:g}, {cy:g}) in its image of {width:g}x{height:g}"
    )
    if min(shares) <= 0:
        raise file_error(
            path, f"{where}; it is in pixels, near the middle, ({width / 2:g}, {height / 2:g})"
        )
    if not all(CENTRAL <= share <= 1 - CENTRAL for share in shares):
        warnings.warn(
            f"the camera file {path} {where}, far from the middle; is that right?",
            EgodepthWarning,
            stacklevel=5,
        )
    camera = Camera.from_parameters(fx, fy, cx, cy, int(height), int(width))
    if lens is not None:
        try:
            undistorted_camera([(camera, lens)])
        except EgodepthError as error:
            raise file_error(path, f"has {error}") from error
    return Calibration(camera, lens, f"{form} {path}")
