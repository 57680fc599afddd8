"""EuRoC MAV: a stereo rig on a drone, with poses from motion capture or a laser tracker.

Each sequence is a folder ``NAME/mav0`` with cam0, cam1 and state_groundtruth_estimate0.
https://projects.asl.ethz.ch/datasets/euroc-mav
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import find, read_yaml, reading, visible
from egodepth.data.image_files import ImageFiles
from egodepth.data.sequence import ChangedFrames, Sequence
from egodepth.data.sets.image_list import read_image_list
from egodepth.data.sets.missing_items import MissingItems
from egodepth.data.sets.native_size import calibrated_camera, resized_camera
from egodepth.data.sets.point_cloud import depth_of_cloud, read_ply
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, LensModel, Undistortion, undistorted_camera
from egodepth.geometry.plausible import require_rigid
from egodepth.geometry.trajectory import poses_at, read_euroc

SIDES = (("left", "cam0"), ("right", "cam1"))
MAX_TIME_DIFFERENCE = 0.01
"""Largest time difference between an image and its pose in seconds; poses come at 200 Hz."""
FRAMES_PER_SECOND = 20.0


def read_euroc_mav(root: Path) -> list[Sequence]:
    """Read every ``mav0`` at or below ``root`` as one undistorted sequence per camera.

    Poses come from the ground-truth state. Depth is the point cloud of the room (``pointcloud0``, Vicon rooms
    only) projected into the cameras.

    Raises:
        EgodepthError: no sequences, or a broken ``sensor.yaml`` or ``data.csv``.
    """
    folders = sorted(p for p in {*find(root, "mav0"), root} if (p / "cam0").is_dir())
    if not folders:
        raise EgodepthError(
            f"no EuRoC sequences under {root}: expected folders like MH_01_easy/mav0/cam0"
        )
    missing = MissingItems("euroc", root)
    sequences = [s for folder in folders for s in _read_sequence(folder, missing)]
    missing.warn()
    return sequences


def _read_sequence(folder: Path, missing: MissingItems) -> list[Sequence]:
    name = folder.resolve().parent.name
    poses = _read_state(folder / "state_groundtruth_estimate0")
    if poses is None:
        missing.add("sequences without ground-truth state", name)
    cloud = next((p for p in visible(folder / "pointcloud0") if p.suffix == ".ply"), None)
    if cloud is None:
        missing.add("sequences without a point cloud, so without depth", name)
    found = []
    for side, sensor in SIDES:
        if not (folder / sensor / "data.csv").exists():
            missing.add("cameras that are not there", f"{name}/{sensor}")
            continue
        times, paths = _read_images(folder / sensor, missing)
        body_from_camera, camera, lens = _read_camera(folder / sensor / "sensor.yaml", paths[0])
        found.append((side, sensor, times, paths, body_from_camera, camera, lens))
    if not found:
        raise EgodepthError(f"{folder} has no images: expected cam0/data.csv and cam0/data")
    # Both get the same undistorted camera, as stereo training requires.
    try:
        straight = undistorted_camera([(camera, lens) for *_, camera, lens in found])
    except EgodepthError as error:
        raise EgodepthError(f"the sensor files of {folder} have {error}") from error
    start = min(times[0] for _, _, times, *_ in found)
    sequences = []
    for side, sensor, times, paths, body_from_camera, camera, lens in found:
        numbers = np.rint((times - start) * FRAMES_PER_SECOND).astype(int).tolist()
        frames = ImageFiles(paths, numbers, times)
        change = Undistortion(camera, lens, straight)
        world_from_camera = None
        if poses is not None:
            world_from_camera = poses_at(times, *poses, MAX_TIME_DIFFERENCE) @ body_from_camera
            without = np.flatnonzero(np.isnan(world_from_camera).any((1, 2)))
            missing.add("frames without a pose in time", *(f"{name}/{sensor} {i}" for i in without))
        depth: dict[int, Callable[[], np.ndarray]] = {}
        if cloud is not None and world_from_camera is not None:
            known = np.flatnonzero(np.isfinite(world_from_camera).all((1, 2)))
            depth = {int(i): partial(_depth, cloud, world_from_camera[i], straight) for i in known}
        sequences.append(Sequence(
            name=f"{name}/{sensor}", frames=ChangedFrames(frames, change), camera=straight,
            world_from_camera=world_from_camera, depth=depth, camera_name=side, rig=name,
            rig_from_camera=body_from_camera,
        ))  # fmt: skip
    return sequences


def _read_state(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Times (N,) in seconds and ``world_from_body`` (N, 4, 4); None if there is no ground-truth state."""
    if not (folder / "data.csv").exists():
        return None
    times, world_from_sensor = read_euroc(folder / "data.csv")
    if not (folder / "sensor.yaml").exists():
        return times, world_from_sensor
    body_from_sensor, _ = _read_sensor(folder / "sensor.yaml")
    return times, world_from_sensor @ np.linalg.inv(body_from_sensor)


def _depth(cloud: Path, world_from_camera: np.ndarray, camera: Camera) -> np.ndarray:
    return depth_of_cloud(read_ply(cloud), np.linalg.inv(world_from_camera), camera)


def _read_images(folder: Path, missing: MissingItems) -> tuple[np.ndarray, list[Path]]:
    """Times (N,) in seconds and image files."""

    def parse(line: str) -> tuple[float, Path]:
        stamp, file = line.split(",")[:2]
        return int(stamp), folder / "data" / file.strip()

    return read_image_list(folder / "data.csv", parse, "nanoseconds,file", missing, "ns")


def _read_sensor(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """``body_from_sensor``, and all values of the file."""
    with reading(path, "the sensor file"):
        values = read_yaml(path, "the sensor file")
        motion = np.array(values["T_BS"]["data"], np.float64).reshape(4, 4)
    return require_rigid(motion, f"T_BS of {path}"), values


def _read_camera(path: Path, image: Path) -> tuple[np.ndarray, Camera, Lens]:
    """``body_from_camera``, camera at the size of the images, and lens distortion."""
    body_from_camera, values = _read_sensor(path)
    frames = ImageFiles([image])
    with reading(path, "the sensor file"):
        fx, fy, cx, cy = (float(v) for v in values["intrinsics"])
        coefficients = tuple(float(v) for v in values["distortion_coefficients"])
        width, height = (int(v) for v in values["resolution"])
        model: LensModel = "fisheye" if "equi" in str(values["distortion_model"]) else "brown"
        camera = calibrated_camera(fx, fy, cx, cy, height, width, path)
        lens = Lens(model, coefficients)
    return body_from_camera, resized_camera(camera, frames, path.parent), lens
