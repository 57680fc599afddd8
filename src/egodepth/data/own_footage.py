"""One's own footage: images or a video."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml

from egodepth.core.errors import EgodepthError
from egodepth.core.files import natural_order, read_text, write_text
from egodepth.data.camera_metadata import exif_focal
from egodepth.data.image_names import check_names
from egodepth.data.sequence import (
    IMAGE_SUFFIXES,
    CameraFrom,
    ChangedFrames,
    ImageFiles,
    Sequence,
    list_images,
    read_depth_png,
)
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, LensModel, Undistortion
from egodepth.geometry.trajectory import read_trajectory

IMAGES = "images"
DEPTH_SUFFIXES = (".npy", ".npz", ".png")
_LENSES: dict[str, LensModel] = {"brown": "brown", "fisheye": "fisheye"}
MILLIMETRES = 1000
"""Steps a metre of depth PNGs where camera.yaml has no ``depth_steps``."""


def read_footage(path: Path) -> Sequence:
    """A folder of images (ordered by name), an image or a video file, with the camera that these tell of
    themselves; or a folder with a folder ``images``, beside which may lie ``depth`` (maps named like
    their images), ``poses.txt`` (in KITTI, TUM or EuRoC format) and ``camera.yaml``.

    Raises:
        EgodepthError: nothing there, an empty folder, no video, or poses that do not fit.
    """
    if (path / IMAGES).is_dir() and not list_images(path):
        return _read_prepared(path)
    if path.is_dir():
        images = list_images(path)
        if not images:
            raise EgodepthError(
                f"the folder {path} holds no images ({' '.join(IMAGE_SUFFIXES)}); name a folder "
                "of frames, a video file, or a data set as KIND:ROOT"
            )
        return read_images(path.resolve(), images)
    if not path.exists():
        raise EgodepthError(f"there is no file or folder {path}")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return read_images(_named_place(path), [path])
    return read_video(path)


def read_images(place: Path, images: list[Path]) -> Sequence:
    """Images as frames, named by their place, with the camera of the first one's EXIF data; a warning tells
    of names that do not look like those of one drive."""
    check_names(images)
    sequence = Sequence(place.name, ImageFiles(images), place=place.as_posix())
    focal = exif_focal(images[0])
    return sequence if focal is None else sequence.with_focal(focal, "metadata")


def read_video(path: Path | str) -> Sequence:
    """A video file or the address of one, with the camera that its container tells.

    Raises:
        EgodepthError: no video.
    """
    from egodepth.data.video_file import VideoFile  # needs PyAV, which images do without

    video = VideoFile(path)
    place = _named_place(path).as_posix() if isinstance(path, Path) else path
    sequence = Sequence(Path(path).name, video, place=place)
    return sequence if video.focal is None else sequence.with_focal(video.focal, "metadata")


def _named_place(file: Path) -> Path:
    """Absolute, but under the name that a link gives it."""
    return file.parent.resolve() / file.name


def read_pattern(pattern: str) -> list[Sequence]:
    """All that a glob matches: images as the frames of a sequence for each folder, else a sequence each.

    Raises:
        EgodepthError: it matches nothing, or something of it can't be read.
    """
    paths = natural_order(Path(name) for name in glob(pattern, recursive=True))  # noqa: PTH207
    if not paths:
        raise EgodepthError(f"nothing matches {pattern}")
    if all(path.suffix.lower() in IMAGE_SUFFIXES for path in paths):
        folders: dict[Path, list[Path]] = {}
        for path in paths:
            folders.setdefault(path.parent, []).append(path)
        return [read_images(folder.resolve(), images) for folder, images in folders.items()]
    return [read_footage(path) for path in paths]


def _read_prepared(folder: Path) -> Sequence:
    images = list_images(folder / IMAGES)
    if not images:
        raise EgodepthError(f"the folder {folder / IMAGES} holds no images")
    check_names(images)
    frames = ImageFiles(images)
    camera_file = folder / "camera.yaml"
    steps = MILLIMETRES
    if camera_file.exists():
        steps = _read_yaml(camera_file).get("depth_steps", MILLIMETRES)
    depth: dict[int, Callable[[], np.ndarray]] = {}
    for index, image in enumerate(images):
        for suffix in DEPTH_SUFFIXES:
            path = folder / "depth" / f"{image.stem}{suffix}"
            if path.exists():
                depth[index] = partial(read_depth_map, path, float(steps))
    poses = None
    if (folder / "poses.txt").exists():
        times, poses, _ = read_trajectory(folder / "poses.txt")
        if len(poses) != len(images):
            raise EgodepthError(
                f"{folder / 'poses.txt'} holds {len(poses)} poses for {len(images)} images; it needs "
                "one each, in the order of their names"
            )
        if times is not None:
            frames = ImageFiles(images, times=times)
    sequence = Sequence(
        folder.resolve().name, frames, None, poses, depth, place=folder.resolve().as_posix()
    )
    return with_camera_file(sequence, camera_file) if camera_file.exists() else sequence


def read_depth_map(path: Path, steps: float) -> np.ndarray:
    """Depth (H, W) float32 of a .npy or .npz file (as it is), or of a 16-bit PNG (``steps`` a unit).

    Raises:
        EgodepthError: a broken file, or one that holds no map.
    """
    if path.suffix == ".png":
        return read_depth_png(path, steps)
    try:
        loaded = np.load(path)
        values = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    except (OSError, ValueError, EOFError, IndexError, BadZipFile) as error:
        raise EgodepthError(f"broken depth map {path}: {error}") from error
    if values.squeeze().ndim != 2:
        raise EgodepthError(f"broken depth map {path}: its shape is {values.shape}, not (H, W)")
    return values.squeeze().astype(np.float32)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(read_text(path, "the camera file"))
    except yaml.YAMLError as error:
        raise EgodepthError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return values if isinstance(values, dict) else {}


def with_camera_file(sequence: Sequence, path: Path) -> Sequence:
    """The sequence with the camera of a file, at the size of its frames. Where the file tells a lens, frames
    and depth are undistorted, and the camera is the straight one.

    Raises:
        EgodepthError: see :func:`read_camera` and :func:`read_lens`.
    """
    camera = read_camera(path).resize(sequence.frames.height, sequence.frames.width)
    return with_lens(sequence, camera, read_lens(path), "given")


def with_lens(
    sequence: Sequence, camera: Camera, lens: Lens | None, camera_from: CameraFrom
) -> Sequence:
    """The sequence with a camera; where that has a lens, frames and depth are undistorted, and the camera is
    the straight one."""
    if lens is None:
        return replace(sequence, camera=camera, camera_from=camera_from)
    change = Undistortion(camera, lens)

    def undistorted(read: Callable[[], np.ndarray]) -> np.ndarray:
        return change.depth(read())

    depth = {index: partial(undistorted, read) for index, read in sequence.depth.items()}
    frames = ChangedFrames(sequence.frames, change)
    return replace(
        sequence, frames=frames, camera=change.camera, depth=depth, camera_from=camera_from
    )


def read_lens(path: Path) -> Lens | None:
    """The lens of a camera file, where it tells one: ``lens: brown`` (or ``fisheye``) and ``distortion``
    with its coefficients, see :class:`egodepth.geometry.lens.Lens`.

    Raises:
        EgodepthError: another model, or another number of coefficients.
    """
    values = _read_yaml(path)
    model, coefficients = values.get("lens", "brown"), values.get("distortion")
    if coefficients is None:
        return None
    try:
        return Lens(_LENSES[str(model)], tuple(float(c) for c in coefficients))
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it needs numbers"
        raise EgodepthError(
            f"the camera file {path}: lens {model!r} with distortion {coefficients!r}: {reason}; use "
            "`lens: brown` with [k1, k2, p1, p2, k3] or `lens: fisheye` with [k1, k2, k3, k4]"
        ) from error


def read_camera(path: Path) -> Camera:
    """A camera file: YAML with fx, fy, cx, cy in pixels, and the width and height they hold for.

    Pixel centres lie at whole numbers, the top-left one at (0, 0).

    Raises:
        EgodepthError: a missing file, missing or unknown names, values that are no numbers.
    """
    names = ("fx", "fy", "cx", "cy", "width", "height")
    values = _read_yaml(path)
    missing = [name for name in names if name not in values]
    if missing:
        raise EgodepthError(
            f"the camera file {path} lacks {', '.join(missing)}; it needs one line each for "
            f"{', '.join(names)}, like `fx: 721.5`"
        )
    try:
        fx, fy, cx, cy, width, height = (float(values[name]) for name in names)
    except (TypeError, ValueError) as error:
        raise EgodepthError(
            f"the camera file {path} holds something else than numbers: {error}"
        ) from error
    if not (np.isfinite([fx, fy, cx, cy]).all() and min(fx, fy, width, height) > 0):
        raise EgodepthError(f"the camera file {path}: fx, fy, width and height must be above 0")
    return Camera.from_parameters(fx, fy, cx, cy, int(height), int(width))


def write_camera(path: Path, camera: Camera, lens: Lens | None = None) -> None:
    """Write a camera file, see :func:`read_camera` and :func:`read_lens`.

    Raises:
        EgodepthError: the file can't be written.
    """
    names = ("fx", "fy", "cx", "cy")
    values = zip(names, camera.focal_and_centre.tolist(), strict=True)
    lines = [f"{name}: {value:.6g}" for name, value in values]
    if lens is not None:
        coefficients = ", ".join(f"{value:.6g}" for value in lens.coefficients)
        lines += [f"lens: {lens.model}", f"distortion: [{coefficients}]"]
    write_text(path, "\n".join([*lines, f"width: {camera.width}", f"height: {camera.height}", ""]))
