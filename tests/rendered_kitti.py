"""A rendered street in KITTI's layouts: a stand-in for the real excerpts, whose depth and poses are exact."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from egodepth.data.synthetic.street import StreetDrive

HEIGHT, WIDTH, BASELINE = 96, 320, 0.54
FRAMES, FIRST, SCANNED = 5, 58, 2
"""Frames within the turn of a drive, the first of them, and which has a scan."""
EARTH = 6378137.0
EAST_NORTH_UP = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""From the street's axes, which are a camera's that looks to the east."""


def make_rendered_kitti(root: Path) -> None:
    """``kitti_raw`` and ``kitti_odometry``: two cameras, poses, and one scan of all pixels but the sky's."""
    drive = StreetDrive(3, 120, HEIGHT, WIDTH)
    poses = drive.world_from_camera[FIRST : FIRST + FRAMES]
    raw = root / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0001_sync"
    odometry = root / "kitti_odometry" / "sequences" / "07"
    for index, pose in enumerate(poses):
        for number, side in ((2, 0.0), (3, BASELINE)):
            moved = pose.copy()
            moved[:3, 3] += side * pose[:3, 0]
            image = Image.fromarray(drive._renderer.render(moved)[0])
            for path in (
                raw / f"image_0{number}" / "data" / f"{index:010d}.png",
                odometry / f"image_{number}" / f"{index:06d}.png",
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
    fx, fy, cx, cy = drive.camera.focal_and_centre.tolist()
    left, right = (f"{fx} 0 {cx} {offset} 0 {fy} {cy} 0 0 0 1 0" for offset in (0, -BASELINE * fx))
    velodyne = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n"
    (raw.parent / "calib_cam_to_cam.txt").write_text(
        f"R_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: {left}\nP_rect_03: {right}\n"
        f"S_rect_02: {WIDTH} {HEIGHT}\nS_rect_03: {WIDTH} {HEIGHT}\n"
    )
    (raw.parent / "calib_velo_to_cam.txt").write_text(velodyne)
    (raw.parent / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\nT: 0 0 0\n")
    _write_navigation(raw / "oxts" / "data", poses)
    (odometry / "calib.txt").write_text(f"P2: {left}\nP3: {right}\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    (odometry / "times.txt").write_text("".join(f"{index / 10}\n" for index in range(FRAMES)))
    (root / "kitti_odometry" / "poses").mkdir()
    rows = (" ".join(f"{value:.12g}" for value in pose[:3].ravel()) for pose in poses)
    (root / "kitti_odometry" / "poses" / "07.txt").write_text("\n".join(rows) + "\n")
    scan = _scan(drive, FIRST + SCANNED)
    for path in (
        raw / "velodyne_points" / "data" / f"{SCANNED:010d}.bin",
        odometry / "velodyne" / f"{SCANNED:06d}.bin",
    ):
        path.parent.mkdir(parents=True)
        scan.tofile(path)


def _write_navigation(folder: Path, poses: np.ndarray) -> None:
    """Latitude, longitude, altitude, roll, pitch and yaw of each pose."""
    folder.mkdir(parents=True)
    for index, pose in enumerate(poses):
        east, north, up = EAST_NORTH_UP @ pose[:3, 3]
        latitude = np.degrees(2 * np.arctan(np.exp(north / EARTH))) - 90
        yaw, pitch, roll = Rotation.from_matrix(
            EAST_NORTH_UP @ pose[:3, :3] @ EAST_NORTH_UP.T
        ).as_euler("ZYX")
        values = (latitude, np.degrees(east / EARTH), up, roll, pitch, yaw, *[0] * 24)
        (folder / f"{index:010d}.txt").write_text(" ".join(f"{value:.15g}" for value in values))


def _scan(drive: StreetDrive, index: int) -> np.ndarray:
    """(N, 4) float32 as the scanner has them, x forward, y left, z up, of all pixels that show something."""
    depth = drive.depth(index)
    rows, columns = np.nonzero(depth)
    fx, fy, cx, cy = drive.camera.focal_and_centre.tolist()
    z = depth[rows, columns]
    right, down = (columns - cx) / fx * z, (rows - cy) / fy * z
    return np.stack([z, -right, -down, np.ones_like(z)], axis=1).astype(np.float32)
