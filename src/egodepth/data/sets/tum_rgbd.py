"""TUM RGB-D: hand-held Kinect sequences with poses from motion capture.

https://cvg.cit.tum.de/data/datasets/rgbd-dataset
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import find
from egodepth.data.image_files import ImageFiles, read_depth_png
from egodepth.data.sequence import ChangedFrames, Sequence
from egodepth.data.sets.image_list import read_image_list
from egodepth.data.sets.missing_items import MissingItems
from egodepth.data.sets.names import name_of_folder
from egodepth.data.sets.native_size import resized_camera
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, Undistortion
from egodepth.geometry.trajectory import associate, poses_at, read_tum

DEPTH_STEPS = 5000
"""Steps per metre in the depth images."""
HEIGHT, WIDTH = 480, 640
MAX_TIME_DIFFERENCE = 0.02
"""Largest time difference between an image and its depth or pose in seconds."""
CAMERAS = {
    "freiburg1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), None),
}
"""fx, fy, cx, cy and k1, k2, p1, p2, k3 of the colour cameras by part of the sequence name."""


def read_tum_rgbd(root: Path) -> list[Sequence]:
    """Read every folder at or below ``root`` with an ``rgb.txt``; colour and depth are undistorted.

    Depth and poses are assigned to the nearest images in time, within 0.02 s.

    Raises:
        EgodepthError: no sequences, a name that does not identify the camera, or a broken list.
    """
    folders = sorted(path.parent for path in find(root, "rgb.txt"))
    if not folders:
        raise EgodepthError(
            f"no TUM RGB-D sequences under {root}: expected files like "
            "rgbd_dataset_freiburg1_xyz/rgb.txt"
        )
    missing = MissingItems("tum_rgbd", root)
    sequences = [_read_folder(folder, root, missing) for folder in folders]
    missing.warn()
    return sequences


def _read_folder(folder: Path, root: Path, missing: MissingItems) -> Sequence:
    camera_name = re.search(r"freiburg[123]", folder.resolve().name)
    if camera_name is None:
        raise EgodepthError(
            f"{folder} does not say which camera it is of: its name must hold freiburg1, freiburg2 or "
            "freiburg3, like rgbd_dataset_freiburg1_xyz"
        )
    times, paths = _read_list(folder / "rgb.txt", missing)
    frames = ImageFiles(paths, times=times)
    parameters, distortion = CAMERAS[camera_name[0]]
    camera = resized_camera(Camera.from_parameters(*parameters, HEIGHT, WIDTH), frames, folder)
    change = Undistortion(camera, Lens("brown", distortion)) if distortion else None
    depth: dict[int, Callable[[], np.ndarray]] = {}
    if (folder / "depth.txt").exists():
        depth_times, depth_paths = _read_list(folder / "depth.txt", missing)
        pairs = associate(times, depth_times, MAX_TIME_DIFFERENCE)
        depth = {int(i): partial(_read_depth, depth_paths[j], change) for i, j in pairs}
        without = sorted(set(range(len(paths))) - set(depth))
        missing.add("images without depth in time", *(paths[i].relative_to(root) for i in without))
    poses = None
    if (folder / "groundtruth.txt").exists():
        poses = poses_at(times, *read_tum(folder / "groundtruth.txt"), MAX_TIME_DIFFERENCE)
        without = np.flatnonzero(np.isnan(poses).any((1, 2))).tolist()
        missing.add("images without a pose in time", *(paths[i].relative_to(root) for i in without))
    return Sequence(
        name=name_of_folder(folder, root),
        frames=ChangedFrames(frames, change) if change else frames,
        camera=change.camera if change else camera,
        world_from_camera=poses,
        depth=depth,
    )


def _read_list(path: Path, missing: MissingItems) -> tuple[np.ndarray, list[Path]]:
    def parse(line: str) -> tuple[float, Path]:
        words = line.split()
        return float(words[0]), path.parent / words[1]

    return read_image_list(path, parse, "time file", missing, "")


def _read_depth(path: Path, change: Undistortion | None) -> np.ndarray:
    depth = read_depth_png(path, DEPTH_STEPS)
    try:
        return change.depth(depth) if change else depth
    except ValueError as error:
        raise EgodepthError(f"the depth map {path}: {error}") from error
