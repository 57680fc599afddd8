"""Reads the user's own footage: images or a video."""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from glob import escape, glob
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import natural_order, visible, write_text
from egodepth.core.suggestions import similar_path
from egodepth.data.footage.camera_file import read_calibration, read_units
from egodepth.data.footage.camera_formats.values import Calibration, Units
from egodepth.data.footage.camera_metadata import exif_focal
from egodepth.data.footage.depth_map import (
    DEPTH_SUFFIXES,
    check_aspect,
    depth_maps,
    read_depth_map,
    whole_numbers,
)
from egodepth.data.footage.image_names import check_names, check_others
from egodepth.data.footage.posed_images import is_posed_images, read_posed_images
from egodepth.data.footage.robot_logs.reader import read_recording
from egodepth.data.footage.robot_logs.recording import is_recording, split_topics
from egodepth.data.image_files import IMAGE_SUFFIXES, ImageFiles, list_images
from egodepth.data.sequence import CameraFrom, ChangedFrames, Sequence
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, Undistortion
from egodepth.geometry.plausible import FARTHEST_DEPTH, impossible_view
from egodepth.geometry.pose_table import EXAMPLE
from egodepth.geometry.trajectory import read_trajectory

IMAGES, DEPTH, POSES = "images", "depth", "poses.txt"
POSES_UNIT = f"the unit of {POSES}"
"""Unit of lengths based on the user's own poses, unless camera.yaml says that they are in metres."""
CAMERA_FILE = "camera.yaml"
"""Next to images or a video: their camera. In a run folder: the camera of the first footage."""
LIKE_CAMERA_FILE = re.compile(
    r"(camera|camera_?info|calib|calibration|intrinsics?|camchain|transforms)\.(ya?ml|json|xml)|cameras\.txt",
    re.I,
)
"""Common names of camera files."""
MILLIMETRES = 1000
"""Steps per metre in depth PNGs if camera.yaml has no ``depth_steps``."""


def read_footage(path: Path) -> Sequence:
    """Read a folder of images (ordered by name), an image, a video file, a prepared folder, a recording of a
    robot, or the images that a ``transforms.json`` lists.

    The camera is that of a ``camera.yaml`` next to them, or else comes from their metadata. A prepared folder
    contains a folder ``images`` and optionally ``depth`` (maps named like their images), ``poses.txt`` (KITTI,
    TUM or EuRoC format) and ``camera.yaml``. A recording is an MCAP file, a ROS 1 bag or the folder of a ROS 2
    bag; ``#/TOPIC`` after its path names the topic of the images, see :func:`.read_recording`. JSON files list
    images with poses, see :func:`.read_posed_images`.

    Raises:
        EgodepthError: no such path, an empty folder, images both in the folder and in its ``images``, not a
            video, or poses or a ``camera.yaml`` that do not match the images.
    """
    whole, topics = split_topics(str(path))
    if topics and is_recording(Path(whole)) and Path(whole).exists():
        return _read_recording(Path(whole), topics)
    if path.is_dir() and _is_prepared(path):
        return _read_prepared(path)
    if path.is_dir():
        images = list_images(path)
        if not images and is_recording(path):
            return _read_recording(path, [])
        if not images:
            raise EgodepthError(
                f"the folder {path} holds no images ({' '.join(IMAGE_SUFFIXES)}); name a folder "
                "of frames, a video file, or a data set as KIND:ROOT"
            )
        check_others(path)
        return read_images(path.resolve(), images)
    if not path.exists():
        raise EgodepthError(f"there is no file or folder {path}{similar_path(path)}")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return read_images(_named_place(path), [path])
    if is_posed_images(path):
        return _read_posed_images(path)
    return _read_recording(path, []) if is_recording(path) else read_video(path)


def _read_posed_images(path: Path) -> Sequence:
    """Read the images of a JSON file with its camera; a ``camera.yaml`` beside it may say that its poses are in
    metres, or give another camera."""
    sequence, calibration = read_posed_images(path)
    file = path.parent / CAMERA_FILE
    if not file.exists():
        return with_calibration(sequence, calibration)
    units = read_units(file)
    sequence = replace(sequence, metric_poses=units.metric_poses or sequence.metric_poses)
    return with_calibration(sequence, calibration if units.alone else read_calibration(file))


def _read_recording(path: Path, topics: list[str]) -> Sequence:
    """Read a recording with the camera of a ``camera.yaml`` next to it, or else of its own camera_info."""
    sequence, calibration = read_recording(path, topics)
    if calibration is None or (path.parent / CAMERA_FILE).exists():
        sequence = _with_own_camera(sequence, path.parent, None)
    if calibration is None or sequence.camera is not None:
        return sequence
    return with_calibration(sequence, calibration)


def _is_prepared(folder: Path) -> bool:
    """Whether the frames of a folder are those in its subfolder ``images``.

    Raises:
        EgodepthError: there are frames in both.
    """
    if not (folder / IMAGES).is_dir():
        return False
    loose, inner = list_images(folder), list_images(folder / IMAGES)
    if not loose or not inner:
        return not loose
    beside = [n for n in (DEPTH, POSES, CAMERA_FILE) if (folder / n).exists()]
    if not beside and len(loose) > 1:
        raise EgodepthError(
            f"{folder} holds {len(loose)} pictures itself and {len(inner)} in {folder / IMAGES}; name "
            f"{folder / IMAGES}, or '{folder}/*{loose[0].suffix}'"
        )
    names = ", ".join(p.name for p in loose[:3]) + (", ..." if len(loose) > 3 else "")
    warnings.warn(
        f"{folder}: the frames are those in {IMAGES}; {names} beside it "
        f"{'are' if len(loose) > 1 else 'is'} not read",
        EgodepthWarning,
        stacklevel=3,
    )
    return True


def read_images(place: Path, images: list[Path]) -> Sequence:
    """Read images as one sequence, named after ``place``; warns if their names look like several drives.

    The camera is that of a ``camera.yaml`` next to the first image, or else comes from its EXIF data.
    """
    check_names(images)
    sequence = Sequence(place.name, ImageFiles(images), place=place.as_posix())
    return _with_own_camera(sequence, images[0].parent, exif_focal(images[0]))


def read_video(path: Path | str) -> Sequence:
    """Read a video from a file or an address.

    The camera is that of a ``camera.yaml`` next to the file, or else comes from the container's metadata.

    Raises:
        EgodepthError: not a video.
    """
    from egodepth.data.footage.video_file import VideoFile  # needs PyAV, which images do without

    video = VideoFile(path)
    if isinstance(path, str):
        return _with_own_camera(Sequence(Path(path).name, video, place=path), None, video.focal)
    sequence = Sequence(path.name, video, place=_named_place(path).as_posix())
    return _with_own_camera(sequence, path.parent, video.focal)


def _with_own_camera(sequence: Sequence, folder: Path | None, focal: float | None) -> Sequence:
    """Add the camera of the folder's camera file, or else one with the focal length from the metadata."""
    file = folder / CAMERA_FILE if folder is not None else None
    if file is not None and file.exists() and not read_units(file).alone:
        return with_camera_file(sequence, file)
    if focal is None:
        return sequence
    impossible = impossible_view(focal, focal, sequence.frames.height, sequence.frames.width)
    if impossible:
        warnings.warn(
            f"{sequence.name}: its EXIF or container data give {impossible}; they are ignored",
            EgodepthWarning,
            stacklevel=4,
        )
        return sequence
    return sequence.with_focal(focal, "metadata")


def warn_of_unread_camera(sequence: Sequence) -> None:
    """Warn if a file next to footage without a camera looks like a camera file, but is not read."""
    place = Path(sequence.place)
    if not sequence.place or not place.exists():
        return
    folder = place if place.is_dir() else place.parent
    beside = visible(folder) + visible(folder / IMAGES)
    found = [
        f
        for f in sorted(beside)
        if LIKE_CAMERA_FILE.fullmatch(f.name) and f != folder / CAMERA_FILE
    ]
    if found:
        file = found[0]
        poses = "; to read its poses too, name it in place of the folder" * is_posed_images(file)
        warnings.warn(
            f"{file} beside the images is not read: name it {folder / CAMERA_FILE}, or give --data.camera "
            f"{file} to train, --camera {file} to the other commands{poses}",
            EgodepthWarning,
            stacklevel=3,
        )


def _named_place(file: Path) -> Path:
    """Absolute path of a file, keeping the name of a symbolic link."""
    return file.parent.resolve() / file.name


def _keep_folders(pattern: str) -> str:
    """Escape the leading folders of a pattern that exist under exactly this name."""
    folders = [p for p in Path(pattern).parents if p.is_dir()]
    there = folders[0].as_posix() if folders else "."
    return pattern if there == "." else escape(there) + pattern.removeprefix(there)


def read_pattern(pattern: str) -> list[Sequence]:
    """Read everything that a glob pattern matches.

    If all matches are images, those of one folder form a sequence; otherwise each match is a sequence.

    Raises:
        EgodepthError: nothing matches, or a match can't be read.
    """
    pattern, topics = split_topics(pattern)
    found = glob(_keep_folders(pattern), recursive=True)  # noqa: PTH207
    paths = natural_order(Path(name) for name in found)
    if not paths:
        raise EgodepthError(f"nothing matches {pattern}")
    if topics:
        return [read_footage(Path(f"{path}#{','.join(topics)}")) for path in paths]
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
    check_others(folder / IMAGES)
    check_names(images)
    frames = ImageFiles(images)
    camera_file = folder / CAMERA_FILE
    units = read_units(camera_file) if camera_file.exists() else Units(alone=True)
    depth: dict[int, Callable[[], np.ndarray]] = {}
    maps = depth_maps(folder / DEPTH)
    size = frames.height, frames.width
    for index, image in enumerate(images):
        if image.stem in maps:
            depth[index] = partial(_read_true_depth, maps[image.stem], units.depth_steps, size)
    _warn_of_maps_without_image(folder / DEPTH, {image.stem for image in images})
    poses = None
    if (folder / POSES).exists():
        recorded = read_trajectory(folder / POSES)
        times, poses = recorded.times, recorded.poses
        if len(poses) != len(images):
            raise EgodepthError(
                f"{folder / 'poses.txt'} holds {len(poses)} poses for {len(images)} images; it needs "
                "one each, in the order of their names"
            )
        if recorded.disorder:
            raise EgodepthError(
                f"{folder / POSES} {recorded.disorder}; its poses must be in the order of the images' names, "
                "with rising times"
            )
        if times is not None and recorded.counted:
            warnings.warn(
                f"{folder / POSES}: its times, {times[0]:g} to {times[-1]:g}, are taken for frame numbers; "
                f"where they are seconds, say so in a header, like {EXAMPLE.replace('ms', 's')}",
                EgodepthWarning,
                stacklevel=4,
            )
        elif times is not None:
            frames = ImageFiles(images, times=times)
    sequence = Sequence(
        folder.resolve().name, frames, None, poses, depth,
        place=folder.resolve().as_posix(), metric_poses=units.metric_poses,
    )  # fmt: skip
    return sequence if units.alone else with_camera_file(sequence, camera_file)


def _warn_of_maps_without_image(folder: Path, images: set[str]) -> None:
    maps = visible(folder)
    known = depth_maps(folder)
    others = [p for p in maps if p.stem in images and p.stem not in known]
    if others:
        warnings.warn(
            f"{folder}: {others[0].name} and {len(others) - 1} more are named like images, but are not read: "
            f"depth maps are {', '.join(DEPTH_SUFFIXES)} files",
            EgodepthWarning,
            stacklevel=4,
        )
    extra = [path for stem, path in known.items() if stem not in images]
    if extra:
        warnings.warn(
            f"{len(extra)} of the depth maps in {folder} are called like no image, {extra[0].name} for one, "
            "and are not read",
            EgodepthWarning,
            stacklevel=4,
        )


def _read_true_depth(path: Path, steps: float | None, size: tuple[int, int]) -> np.ndarray:
    """Read the depth (H, W) of an image of size (height, width); 0 where it is negative, not finite or
    impossibly large, as in the sky.

    Raises:
        EgodepthError: an integer array of unknown unit, or another aspect ratio than the image's.
    """
    known = steps is not None
    depth = read_depth_map(path, steps or MILLIMETRES)
    if path.suffix.lower() != ".png" and whole_numbers(path):
        if not known:
            raise EgodepthError(
                f"{path} holds whole numbers ({whole_numbers(path)}) in an unknown unit; save metres as "
                f"floating-point numbers, or give depth_steps in {CAMERA_FILE} (1000 for millimetres)"
            )
        depth = depth / steps
    check_aspect(path, depth.shape, size, 0.01)
    return np.where((depth > 0) & (depth <= FARTHEST_DEPTH), depth, 0)


def with_camera_file(sequence: Sequence, path: Path) -> Sequence:
    """A copy with the camera of a file of any known format, at the size of the frames.

    If the file has lens distortion, frames and depth are undistorted, and the camera is the undistorted one.

    Raises:
        EgodepthError: see :func:`~egodepth.data.footage.camera_file.read_calibration`, or frames of
            another aspect ratio than the camera's.
    """
    return with_calibration(sequence, read_calibration(path))


def with_calibration(sequence: Sequence, calibration: Calibration) -> Sequence:
    """Like :func:`with_camera_file`, for a calibration that was already read."""
    frames = sequence.frames
    fitted = calibration.at_size(frames.height, frames.width, sequence.name)
    found = with_lens(sequence, fitted.camera, fitted.lens, "given")
    return replace(found, camera_note=calibration.describe())


def with_lens(
    sequence: Sequence, camera: Camera, lens: Lens | None, camera_from: CameraFrom
) -> Sequence:
    """A copy with a camera; if it has lens distortion, frames, depth and camera are undistorted."""
    if lens is None:
        return replace(sequence, camera=camera, camera_from=camera_from)
    change = Undistortion(camera, lens)

    def undistorted(index: int, read: Callable[[], np.ndarray]) -> np.ndarray:
        try:
            return change.depth(read())
        except ValueError as error:
            raise EgodepthError(f"the depth of {sequence.name}, image {index}: {error}") from error

    def all_of(
        depth: Mapping[int, Callable[[], np.ndarray]],
    ) -> dict[int, Callable[[], np.ndarray]]:
        return {index: partial(undistorted, index, read) for index, read in depth.items()}

    return replace(
        sequence, frames=ChangedFrames(sequence.frames, change), camera=change.camera,
        depth=all_of(sequence.depth), improved_depth=all_of(sequence.improved_depth),
        lidar_forward=all_of(sequence.lidar_forward), camera_from=camera_from,
    )  # fmt: skip


def read_lens(path: Path) -> Lens | None:
    """Read the lens distortion of a camera file, None if it has none; see :func:`.read_calibration`."""
    return read_calibration(path).lens


def read_camera(path: Path) -> Camera:
    """Read the camera of a file without lens distortion; see :func:`.read_calibration`."""
    return read_calibration(path).camera


def write_camera(path: Path, camera: Camera, lens: Lens | None = None) -> None:
    """Write a camera file in egodepth's own format.

    Raises:
        EgodepthError: the file can't be written.
    """
    names = ("fx", "fy", "cx", "cy")
    values = zip(names, camera.focal_and_centre.tolist(), strict=True)
    lines = [f"{name}: {value:.8g}" for name, value in values]
    if lens is not None:
        coefficients = ", ".join(f"{value:.8g}" for value in lens.coefficients)
        lines += [f"lens: {lens.model}", f"distortion: [{coefficients}]"]
    write_text(path, "\n".join([*lines, f"width: {camera.width}", f"height: {camera.height}", ""]))
