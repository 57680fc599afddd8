"""Reads images whose cameras and poses a JSON file lists: nerfstudio's ``transforms.json``, or what the app
Record3D records along.

Sources: docs.nerf.studio/quickstart/data_conventions.html; for Record3D, nerfstudio's
``process_data/record3d_utils.py``.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import natural_order, read_json, reading
from egodepth.data.footage.camera_formats.colmap import (
    CORNER,
    OPENGL_FROM_OPENCV,
    from_transforms,
)
from egodepth.data.footage.camera_formats.values import (
    SIZE_NAMES,
    Calibration,
    array_of,
    checked_calibration,
    number_of,
)
from egodepth.data.footage.depth_map import check_aspect, read_depth_map
from egodepth.data.image_files import IMAGE_SUFFIXES, ImageFiles, list_images
from egodepth.data.sequence import Sequence
from egodepth.geometry.plausible import FARTHEST_DEPTH

WHAT = "the list of images with poses"
INTRINSICS = ("fl_x", "fl_y", "cx", "cy")
SAME_CAMERA = 0.02
"""Largest deviation of intrinsics from their median, relative to the focal length, that is one camera's: phones
tell them anew for each frame, as autofocus changes them."""
DEPTH_UNIT = 0.001
"""Length that a value of nerfstudio's depth maps stands for unless the file says otherwise."""
RECORD3D_IMAGES = "rgb"


class _Image(NamedTuple):
    """An image of a list.

    Attributes:
        path: of the file.
        pose: (4, 4) camera to world, OpenGL's axes; NaN if unknown.
        time: in seconds; None if unknown.
        depth: path of its depth map; None without one.
    """

    path: Path
    pose: np.ndarray
    time: float | None
    depth: Path | None


def is_posed_images(path: Path) -> bool:
    """Whether a path is a file that lists images with their poses, by its suffix."""
    return path.suffix.lower() == ".json"


def read_posed_images(path: Path) -> tuple[Sequence, Calibration]:
    """Read the images that a JSON file lists, with poses, and depth maps where it lists them.

    Images are taken in the order of their timestamps, or else of their names. Where intrinsics differ a little
    from image to image, as with autofocus, all get their median, with a warning.

    Returns:
        The sequence without its camera, and its camera.

    Raises:
        EgodepthError: neither of the formats, images that are not there, or several cameras.
    """
    tree = read_json(path, WHAT)
    with reading(path, WHAT):
        if isinstance(tree, dict) and isinstance(tree.get("frames"), list):
            return _read_transforms(path, tree)
        if isinstance(tree, dict) and {"poses", "K", "w", "h"} <= set(tree):
            return _read_record3d(path, tree)
    raise EgodepthError(
        f"{path} is no footage: it lists neither frames, as nerfstudio's transforms.json does, nor K and "
        "poses, as Record3D's metadata.json does"
    )


def _read_transforms(path: Path, tree: dict[str, Any]) -> tuple[Sequence, Calibration]:
    listed = [f for f in tree["frames"] if isinstance(f, dict) and "file_path" in f]
    images = _ordered(path, [_image(path, frame) for frame in listed])
    frames = _frames(images)
    if not any(w in part and h in part for w, h in SIZE_NAMES for part in (tree, *listed)):
        tree = {**tree, "w": frames.width, "h": frames.height}
    units = (tree.get("depth_unit_scale_factor"), tree.get("integer_depth_scale"), DEPTH_UNIT)
    unit = number_of(path, "the unit of depth", next(u for u in units if u is not None))
    if not 0 < unit < np.inf:
        raise EgodepthError(f"{path} has a unit of depth of {unit:g}; it needs a number above 0")
    size = (frames.height, frames.width)
    depth = {
        i: partial(_read_depth, image.depth, unit, size)
        for i, image in enumerate(images)
        if image.depth is not None
    }
    about = tree.get("egodepth")
    metric = isinstance(about, dict) and about.get("metres_per_unit") == 1
    sequence = _sequence(path, images, frames, depth, metric=metric)
    return sequence, from_transforms(path, _with_one_camera(path, tree, listed))


def _image(path: Path, frame: Mapping[str, Any]) -> _Image:
    file = path.parent / str(frame["file_path"])
    if not file.suffix and not file.exists():  # as in NeRF's own scenes
        file = next((f for s in IMAGE_SUFFIXES if (f := Path(f"{file}{s}")).exists()), file)
    pose = np.full((4, 4), np.nan)
    if frame.get("transform_matrix") is not None:
        given = array_of(path, "transform_matrix", frame["transform_matrix"])
        if given.shape not in ((4, 4), (3, 4)):
            raise EgodepthError(
                f"{path} has a transform_matrix of the shape {given.shape} for {file.name}; it needs (4, 4)"
            )
        pose = np.eye(4)
        pose[: len(given)] = given
    time = frame.get("timestamp")
    if isinstance(time, bool) or not isinstance(time, int | float) or not np.isfinite(time):
        time = None
    depth = frame.get("depth_file_path") or frame.get("depth_path")
    if depth and not isinstance(depth, str):
        raise EgodepthError(f"{path} has a path of depth for {file.name} that is no text")
    return _Image(file, pose, time, path.parent / str(depth) if depth else None)


def _ordered(path: Path, images: list[_Image]) -> list[_Image]:
    """The images in temporal order.

    Raises:
        EgodepthError: none, one that is listed twice, or some that are not there.
    """
    if not images:
        raise EgodepthError(f"{path} lists no images")
    missing = [image.path for image in images if not image.path.exists()]
    if missing:
        raise EgodepthError(
            f"{path} lists {len(images)} images, of which {len(missing)} are not there: {missing[0]} for one"
        )
    by_path = {image.path: image for image in images}
    if len(by_path) < len(images):
        raise EgodepthError(f"{path} lists {len(images) - len(by_path)} images twice")
    times = [image.time for image in images if image.time is not None]
    if len(set(times)) == len(images):
        return sorted(images, key=lambda image: image.time or 0.0)
    return [by_path[file]._replace(time=None) for file in natural_order(by_path)]


def _frames(images: list[_Image]) -> ImageFiles:
    times = [image.time for image in images if image.time is not None]
    known = np.array(times) if len(times) == len(images) else None
    return ImageFiles([image.path for image in images], times=known)


def _sequence(
    path: Path, images: list[_Image], frames: ImageFiles,
    depth: Mapping[int, Callable[[], np.ndarray]], *, metric: bool,
) -> Sequence:  # fmt: skip
    place = path.parent.resolve() / path.name
    poses = np.stack([image.pose for image in images]) @ OPENGL_FROM_OPENCV
    known = np.isfinite(poses).all((1, 2)).any()
    try:
        return Sequence(
            place.parent.name, frames, world_from_camera=poses if known else None, depth=depth,
            place=place.as_posix(), metric_poses=metric,
        )  # fmt: skip
    except EgodepthError as error:
        raise EgodepthError(f"{path}: {error}") from error


def _with_one_camera(
    path: Path, tree: Mapping[str, Any], listed: list[dict[str, Any]]
) -> dict[str, Any]:
    """The file's names and values with the median of intrinsics that differ a little from image to image."""
    own = [frame for frame in listed if any(name in frame for name in INTRINSICS)]
    if not own or "fl_x" not in {**tree, **own[0]}:
        return dict(tree)
    names = [name for name in INTRINSICS if any(name in frame for frame in own)]
    values = [[{**tree, **frame}.get(name) for name in names] for frame in listed]
    table = array_of(path, "its intrinsics", values)
    median = _median(path, table, float(np.median(table[:, 0])))
    if median is None:
        return dict(tree)
    common = dict(zip(names, median, strict=True))
    frames = [{k: v for k, v in frame.items() if k not in names} for frame in listed]
    return {**tree, **common, "frames": frames}


def _median(path: Path, table: np.ndarray, focal: float) -> list[float] | None:
    """The median of rows of intrinsics, with a warning if they differ; None if they are several cameras'."""
    median = np.median(table, axis=0)
    off = float(np.abs(table - median).max()) / focal
    if not off <= SAME_CAMERA:
        return None
    if off > 0:
        warnings.warn(
            f"{path}: the intrinsics of the images differ by up to {100 * off:.1f} % of the focal length, as "
            "with autofocus; all get their median",
            EgodepthWarning,
            stacklevel=2,
        )
    return median.tolist()


def _read_depth(path: Path, unit: float, size: tuple[int, int]) -> np.ndarray:
    """Read the depth (H, W) of an image of size (height, width); 0 where it is unknown."""
    depth = read_depth_map(path, 1 / unit)
    if path.suffix.lower() != ".png":
        depth = depth * np.float32(unit)
    check_aspect(path, depth.shape, size, 0.01)
    return np.where((depth > 0) & (depth <= FARTHEST_DEPTH), depth, 0)


def _read_record3d(path: Path, tree: Mapping[str, Any]) -> tuple[Sequence, Calibration]:
    """Read the folder ``rgb`` beside a metadata.json: matrix K by columns, poses as quaternion x y z w and
    position with OpenGL's camera axes, in metres, as ARKit has them."""
    files = list_images(path.parent / RECORD3D_IMAGES)
    rows = array_of(path, "poses", tree["poses"])
    if rows.ndim != 2 or rows.shape[1] != 7 or len(files) != len(rows):
        raise EgodepthError(
            f"{path} has poses of the shape {rows.shape} for {len(files)} images in {RECORD3D_IMAGES}; it "
            "needs 7 numbers for each image"
        )
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = Rotation.from_quat(rows[:, :4]).as_matrix(), rows[:, 4:]
    times = array_of(path, "frameTimestamps", tree.get("frameTimestamps") or []).ravel()
    if len(times) != len(rows) or not (np.diff(times) > 0).all():
        rate = float(tree.get("fps") or 0)
        times = np.arange(len(rows)) / rate if rate > 0 else times[:0]
    images = [
        _Image(file, pose, float(times[i]) if len(times) else None, None)
        for i, (file, pose) in enumerate(zip(files, poses, strict=True))
    ]
    each = array_of(path, "perFrameIntrinsicCoeffs", tree.get("perFrameIntrinsicCoeffs") or [])
    matrix = array_of(path, "K", tree["K"]).ravel()
    if each.shape != (len(rows), 4):
        if len(matrix) != 9:
            raise EgodepthError(f"{path} has {len(matrix)} numbers in K, not 9")
        each = matrix[[0, 4, 6, 7]][None]
    found = _median(path, each, float(np.median(each[:, 0])))
    if found is None:
        raise EgodepthError(f"{path} has intrinsics that differ too much for one camera")
    fx, fy, cx, cy = found
    size = float(tree["w"]), float(tree["h"])
    calibration = checked_calibration(
        path, "Record3D camera", (fx, fy, cx - CORNER, cy - CORNER, *size), None
    )
    return _sequence(path, images, _frames(images), {}, metric=True), calibration
