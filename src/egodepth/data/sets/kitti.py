"""KITTI raw and KITTI odometry in their official layouts.

Images may be png or jpg, colour or grey, left and right. Calibration is required; LiDAR, oxts and poses
are optional. http://www.cvlibs.net/datasets/kitti
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import read_text, reading, visible
from egodepth.data.image_files import ImageFiles, list_images
from egodepth.data.sequence import Sequence
from egodepth.data.sets.kitti_depth import find_improved_depth
from egodepth.data.sets.kitti_files import (
    read_calibration,
    read_rectified_size,
    read_times,
    read_timestamps,
    read_velodyne,
)
from egodepth.data.sets.missing_items import MissingItems
from egodepth.data.sets.native_size import centred_camera, resized_camera
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import FARTHEST_POSITION, require_rigid
from egodepth.geometry.trajectory import read_kitti
from egodepth.geometry.z_buffer import z_buffer

EARTH_RADIUS = 6378137.0
"""Earth radius in metres of the Mercator projection in the development kit."""
FRAMES_PER_SECOND = 10
IMAGE_SIZES = {
    718.856: (1241, 376), 721.5377: (1242, 375), 707.0912: (1226, 370), 707.0493: (1224, 370),
    718.3351: (1238, 374),
}  # fmt: skip
"""Width and height of rectified images by focal length, which differs between recording days: the calibration
files of KITTI odometry do not state the size."""
COLOUR, GREY = ((2, "left"), (3, "right")), ((0, "left"), (1, "right"))


def read_kitti_raw(root: Path) -> list[Sequence]:
    """Read every drive under ``root`` (``DATE/DATE_drive_NUMBER_sync``), one sequence per camera.

    Colour cameras (``image_02``, ``image_03``) are preferred to grey ones. For improved depth maps see
    :mod:`egodepth.data.sets.kitti_depth`. Drives without calibration are skipped.

    Raises:
        EgodepthError: no usable drives, or a calibration file with missing lines.
    """
    drives = sorted(p for p in root.glob("[0-9]*_*_*/[!.]*_drive_*_sync") if p.is_dir())
    if not drives:
        raise EgodepthError(
            f"no KITTI raw drives under {root}: expected folders like "
            "2011_09_26/2011_09_26_drive_0009_sync"
        )
    missing = MissingItems("kitti_raw", root)
    sequences = [sequence for drive in drives for sequence in _read_drive(drive, root, missing)]
    if not sequences:
        raise EgodepthError(
            f"the KITTI raw drives under {root} can't be used: {'; '.join(missing.lines)}"
        )
    missing.warn()
    return sequences


def read_kitti_odometry(root: Path) -> list[Sequence]:
    """Read every sequence under ``root/sequences``, one per camera, with poses from ``root/poses``.

    Raises:
        EgodepthError: no sequences, or a broken calibration or pose file.
    """
    folders = [p for p in visible(root / "sequences") if p.is_dir()]
    missing = MissingItems("kitti_odometry", root)
    sequences = [
        sequence for folder in folders for sequence in _read_odometry(folder, root, missing)
    ]
    if not sequences:
        raise EgodepthError(
            f"no KITTI odometry sequences under {root}: expected folders like sequences/00/image_2"
        )
    missing.warn()
    return sequences


def project_lidar(
    points: np.ndarray, camera_from_velodyne: np.ndarray, camera: Camera, *, forward: bool = False
) -> np.ndarray:
    """Project LiDAR points to a sparse depth map (H, W) float32, 0 where there are none.

    The nearest point per pixel wins. Pixel coordinates are rounded and lowered by one, as in the
    development kit and all published evaluations.

    Args:
        points: (N, 3 or more) in the velodyne frame, in metres, x forward.
        camera_from_velodyne: (4, 4) transform into the rectified camera frame.
        camera: the rectified camera.
        forward: use the velodyne's x as depth instead of the camera's z, as published evaluations do
            (``vel_depth``).
    """
    ahead = points[points[:, 0] >= 0, :3]
    xyz = ahead @ camera_from_velodyne[:3, :3].T + camera_from_velodyne[:3, 3]
    visible = xyz[:, 2] > 0
    xyz = xyz[visible]
    depth = ahead[visible, 0] if forward else xyz[:, 2]
    matrix = camera.matrix.numpy().astype(np.float64)
    uv = np.round((xyz @ matrix.T)[:, :2] / xyz[:, 2:]).astype(np.int64) - 1
    return z_buffer(uv, depth, camera.height, camera.width)


def _read_drive(drive: Path, root: Path, missing: MissingItems) -> list[Sequence]:
    date = drive.parent
    files = ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt", "calib_imu_to_velo.txt")
    absent = [date / name for name in files if not (date / name).exists()]
    if absent:
        missing.add("drives without calibration, left out", drive.relative_to(root))
        return []
    cameras = _cameras(drive, "image_{:02d}/data")
    if not cameras:
        missing.add("drives without images, left out", drive.relative_to(root))
    sequences = []
    for index, side in cameras:
        folder = drive / f"image_{index:02d}"
        name = f"P_rect_{index:02d}"
        calibration = read_calibration(
            date / "calib_cam_to_cam.txt", **{name: (3, 4), "R_rect_00": (3, 3)}
        )
        size = read_rectified_size(date / "calib_cam_to_cam.txt", f"S_rect_{index:02d}")
        frames = _numbered_frames(folder / "data", read_timestamps(folder / "timestamps.txt"))
        native, camera_from_rectified = _split_projection(calibration[name], frames, size, folder)
        camera = resized_camera(native, frames, folder)
        rectified_from_cam0 = _rigid(
            calibration["R_rect_00"], np.zeros(3), date / "calib_cam_to_cam.txt"
        )
        cam0_from_velodyne = _read_rigid(date / "calib_velo_to_cam.txt")
        camera_from_velodyne = camera_from_rectified @ rectified_from_cam0 @ cam0_from_velodyne
        world_from_imu = _read_oxts(drive / "oxts" / "data", frames.numbers)
        world_from_camera = None
        if world_from_imu is not None:
            unknown = np.flatnonzero(np.isnan(world_from_imu).any((1, 2)))
            missing.add("frames without a GPS/IMU record", *(f"{folder} {i}" for i in unknown))
            velodyne_from_imu = _read_rigid(date / "calib_imu_to_velo.txt")
            world_from_camera = world_from_imu @ np.linalg.inv(
                camera_from_velodyne @ velodyne_from_imu
            )
        scans = drive / "velodyne_points" / "data"
        lidar = (scans, "{:010d}.bin", frames, camera_from_velodyne, native)
        name = f"{drive.name}/{folder.name}"
        rig_from_camera = np.linalg.inv(camera_from_rectified)
        sequences.append(
            Sequence(
                name,
                frames,
                camera,
                world_from_camera,
                _lidar_depth(*lidar),
                side,
                drive.name,
                rig_from_camera,
                lidar_forward=_lidar_depth(*lidar, forward=True),
                improved_depth=find_improved_depth(root, drive.name, index, frames.numbers),
            )
        )
    return sequences


def _read_odometry(folder: Path, root: Path, missing: MissingItems) -> list[Sequence]:
    sequences = []
    times = read_times(folder / "times.txt")
    pose_file = root / "poses" / f"{folder.name}.txt"
    world_from_cam0 = read_kitti(pose_file) if pose_file.exists() else None
    cameras = _cameras(folder, "image_{}")
    if cameras and not (folder / "calib.txt").exists():
        missing.add("sequences without calibration, left out", folder.relative_to(root))
        return []
    lines = {f"P{index}": (3, 4) for index, _ in cameras}
    calibration = read_calibration(folder / "calib.txt", **lines) if lines else {}
    for index, side in cameras:
        name = f"{folder.name}/image_{index}"
        frames = _numbered_frames(folder / f"image_{index}", times)
        camera, camera_from_cam0 = _split_projection(
            calibration[f"P{index}"], frames, None, folder / f"image_{index}"
        )
        if (camera.width, camera.height) != (frames.width, frames.height):
            raise EgodepthError(
                f"{folder / f'image_{index}'}: the images are {frames.width}x{frames.height}, and the "
                f"calibration is for {camera.width}x{camera.height}; use the original images"
            )
        world_from_camera = None
        if world_from_cam0 is not None:
            count = len(world_from_cam0)
            beyond = [number for number in frames.numbers if number >= count]
            missing.add("frames beyond the poses", *(f"{name} {number}" for number in beyond))
            padded = np.full((max(count, frames.numbers[-1] + 1), 4, 4), np.nan)
            padded[:count] = world_from_cam0
            world_from_camera = padded[frames.numbers] @ np.linalg.inv(camera_from_cam0)
        depth: dict[int, Callable[[], np.ndarray]] = {}
        if (folder / "velodyne").is_dir():
            motion = read_calibration(folder / "calib.txt", Tr=(3, 4))["Tr"]
            cam0_from_velodyne = _rigid(motion[:, :3], motion[:, 3], folder / "calib.txt")
            depth = _lidar_depth(
                folder / "velodyne",
                "{:06d}.bin",
                frames,
                camera_from_cam0 @ cam0_from_velodyne,
                camera,
            )
        rig_from_camera = np.linalg.inv(camera_from_cam0)
        sequences.append(
            Sequence(
                name, frames, camera, world_from_camera, depth, side, folder.name, rig_from_camera
            )
        )
    return sequences


def _cameras(folder: Path, pattern: str) -> list[tuple[int, str]]:
    for cameras in (COLOUR, GREY):
        there = [(i, side) for i, side in cameras if list_images(folder / pattern.format(i))]
        if there:
            return there
    return []


def _numbered_frames(folder: Path, times: np.ndarray | None) -> ImageFiles:
    paths = [path for path in list_images(folder) if path.stem.isdecimal()]
    if not paths:
        raise EgodepthError(f"no images named by frame number (0000000000.png) in {folder}")
    numbers = [int(path.stem) for path in paths]
    if times is not None and numbers[-1] >= len(times):
        warnings.warn(
            f"{folder} has a frame {numbers[-1]}, but there are {len(times)} times: they are not used, frames "
            f"count {FRAMES_PER_SECOND:g} per second",
            EgodepthWarning,
            stacklevel=2,
        )
        times = None
    if times is None:
        return ImageFiles(paths, numbers, np.array(numbers) / FRAMES_PER_SECOND)
    return ImageFiles(paths, numbers, times[numbers])


def _split_projection(
    projection: np.ndarray, frames: ImageFiles, size: tuple[int, int] | None, where: Path
) -> tuple[Camera, np.ndarray]:
    """Split a rectified projection matrix into the camera, at its native size, and ``camera_from_cam0``.

    Args:
        projection: (3, 4).
        frames: the images.
        size: native width and height; None to look them up by focal length, or else take those of the images,
            whose centre must then be near the principal point.
        where: path of the images, for messages.
    """
    k = projection[:, :3]
    known = [s for focal, s in IMAGE_SIZES.items() if abs(k[0, 0] - focal) < 0.005]
    width, height = size or (known or [(frames.width, frames.height)])[0]
    camera = centred_camera(k[0, 0], k[1, 1], k[0, 2], k[1, 2], height, width, where)
    pinhole = np.array([[k[0, 0], 0, k[0, 2]], [0, k[1, 1], k[1, 2]], [0, 0, 1]])
    if not np.allclose(k, pinhole):
        raise EgodepthError(
            f"{where}: the calibration's projection matrix is not [fx 0 cx; 0 fy cy; 0 0 1]"
        )
    return camera, _rigid(np.eye(3), np.linalg.solve(k, projection[:, 3]), where)


def _lidar_depth(
    folder: Path,
    pattern: str,
    frames: ImageFiles,
    camera_from_velodyne: np.ndarray,
    camera: Camera,
    *,
    forward: bool = False,
) -> dict[int, Callable[[], np.ndarray]]:
    def read(path: Path) -> np.ndarray:
        points = read_velodyne(path)
        return project_lidar(points, camera_from_velodyne, camera, forward=forward)

    scans = {i: folder / pattern.format(number) for i, number in enumerate(frames.numbers)}
    return {i: partial(read, path) for i, path in scans.items() if path.exists()}


def _rigid(rotation: np.ndarray, translation: np.ndarray, where: Path) -> np.ndarray:
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, translation
    return require_rigid(motion, where)


def _read_rigid(path: Path) -> np.ndarray:
    calibration = read_calibration(path, R=(3, 3), T=(3,))
    return _rigid(calibration["R"], calibration["T"], path)


def _read_oxts(folder: Path, numbers: list[int]) -> np.ndarray | None:
    """``world_from_imu`` (N, 4, 4) by the development kit's Mercator projection, NaN for frames without a
    record; None without any records."""
    paths = [folder / f"{number:010d}.txt" for number in numbers]
    if not any(path.exists() for path in paths):
        return None
    poses = []
    scale = None
    for path in paths:
        if not path.exists():
            poses.append(np.full((4, 4), np.nan))
            continue
        with reading(path, "the GPS/IMU record"):
            words = read_text(path, "the GPS/IMU record").split()
            record = latitude, longitude, altitude, roll, pitch, yaw = [float(w) for w in words[:6]]
            limits = (89.9, 180, FARTHEST_POSITION, *3 * (2 * np.pi,))
            if not (np.abs(record) <= limits).all():
                raise ValueError(
                    f"latitude, longitude, altitude and angles are {' '.join(words[:6])}"
                )
        scale = np.cos(np.radians(latitude)) if scale is None else scale
        x = scale * EARTH_RADIUS * np.radians(longitude)
        y = scale * EARTH_RADIUS * np.log(np.tan(np.radians(90 + latitude) / 2))
        rotation = _about(2, yaw) @ _about(1, pitch) @ _about(0, roll)
        poses.append(_rigid(rotation, np.array([x, y, altitude]), path))
    stacked = np.stack(poses)
    first = np.isfinite(stacked[:, 0, 0]).argmax()
    stacked[:, :3, 3] -= stacked[first, :3, 3]
    return stacked


def _about(axis: int, angle: float) -> np.ndarray:
    rotation = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation[i, i] = rotation[j, j] = np.cos(angle)
    rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
    return rotation
