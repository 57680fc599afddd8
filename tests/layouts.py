"""A valid tiny instance of each data set's layout."""

import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat
from tests.conftest import write_images

PROJECTION = "50 0 39.5 {offset} 0 50 19.5 0 0 0 1 0"
RIGID = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n"


def make_raw(root: Path, images: str = "image_02", scan: np.ndarray | None = None) -> Path:
    date = root / "2011_09_26"
    drive = date / "2011_09_26_drive_0001_sync"
    for index, path in enumerate(write_images(drive / images / "data", 4)):
        path.rename(path.with_name(f"{index + 5:010d}.png"))
    number = images[-2:]
    (date / "calib_cam_to_cam.txt").write_text(
        f"R_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_{number}: {PROJECTION.format(offset=5)}\n"
    )
    (date / "calib_velo_to_cam.txt").write_text(RIGID)
    (date / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\nT: 0 0 0\n")
    oxts = drive / "oxts" / "data"
    oxts.mkdir(parents=True)
    for index in range(5, 9):
        east = 1e-5 * index  # degrees of longitude at the equator, driven eastwards with yaw 0
        (oxts / f"{index:010d}.txt").write_text(f"0.0 {east} 100 0 0 0 " + "0 " * 24)
    scans = drive / "velodyne_points" / "data"
    scans.mkdir(parents=True)
    points = np.array([[10, 0, 0, 1]], np.float32) if scan is None else scan
    points.tofile(scans / "0000000006.bin")
    return drive


def make_odometry(root: Path) -> Path:
    folder = root / "sequences" / "07"
    write_images(folder / "image_2", 3)
    write_images(folder / "image_3", 3)
    (folder / "calib.txt").write_text(
        f"P2: {PROJECTION.format(offset=0)}\nP3: {PROJECTION.format(offset=-25)}\n"
        "Tr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
    )
    (folder / "times.txt").write_text("0\n0.1\n0.2\n")
    (folder / "velodyne").mkdir()
    np.array([[10, 0, 0, 1]], np.float32).tofile(folder / "velodyne" / "000001.bin")
    (root / "poses").mkdir()
    (root / "poses" / "07.txt").write_text(
        "".join(f"1 0 0 0 0 1 0 0 0 0 1 {z}\n" for z in range(3))
    )
    return folder


def write_depth(path: Path, metres: np.ndarray, steps: float, offset: int = 0) -> None:
    """A 16-bit depth image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.round(metres * steps) + offset).astype(np.uint16)).save(path)


def make_improved_depth(root: Path, drive: str, numbers: list[int], depth: float = 7.0) -> Path:
    """Improved depth maps of a drive, as data_depth_annotated.zip unpacks."""
    folder = root / "train" / drive / "proj_depth" / "groundtruth" / "image_02"
    for number in numbers:
        write_depth(folder / f"{number:010d}.png", np.full((40, 80), depth), 256)
    return folder


def make_kitti_depth(root: Path) -> Path:
    """val_selection_cropped of the depth benchmark: two images of one drive."""
    folder = root / "val_selection_cropped"
    for number, path in zip((5, 8), write_images(folder / "image", 2), strict=True):
        stem = f"2011_09_26_drive_0002_sync_image_{number:010d}_image_02"
        path.rename(path.with_name(f"{stem}.png"))
        truth = stem.replace("_sync_image_", "_sync_groundtruth_depth_")
        write_depth(folder / "groundtruth_depth" / f"{truth}.png", np.full((40, 80), 9.0), 256)
        (folder / "intrinsics").mkdir(exist_ok=True)
        (folder / "intrinsics" / f"{stem}.txt").write_text("50 0 39.5 0 50 19.5 0 0 1")
    return folder


def make_cityscapes(root: Path, frames: int = 3) -> None:
    """One snippet of one city, both sides, the camera and disparity of its middle frame."""
    stem = "aachen_000000"
    for kind in ("leftImg8bit", "rightImg8bit"):
        folder = root / f"{kind}_sequence" / "train" / "aachen"
        for index, path in enumerate(write_images(folder, frames)):
            path.rename(path.with_name(f"{stem}_{18 + index:06d}_{kind}.png"))
    camera = root / "camera" / "train" / "aachen" / f"{stem}_000019_camera.json"
    camera.parent.mkdir(parents=True)
    camera.write_text(json.dumps({
        "extrinsic": {"baseline": 0.2, "pitch": 0.03},
        "intrinsic": {"fx": 50.0, "fy": 50.0, "u0": 39.5, "v0": 19.5},
    }))  # fmt: skip
    disparity = np.full((40, 80), 2.5)  # 50 * 0.2 / 2.5 is 4 metres
    disparity[0] = -1 / 256  # stored as 0: unknown
    path = root / "disparity" / "train" / "aachen" / f"{stem}_000019_disparity.png"
    write_depth(path, disparity, 256, offset=1)


SENSOR = """
sensor_type: camera
T_BS:
  cols: 4
  rows: 4
  data: [1, 0, 0, {x}, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
rate_hz: 20
resolution: [80, 40]
camera_model: pinhole
intrinsics: [50.0, 50.0, {cx}, 19.5]
distortion_model: radial-tangential
distortion_coefficients: [-0.1, 0.02, 0.0, 0.0]
"""


def make_euroc(root: Path, frames: int = 4) -> Path:
    """One sequence with two cameras, a state that moves 1 m a frame along z, and a wall of points."""
    folder = root / "V1_01_easy" / "mav0"
    start = 1403715000000000000
    stamps = [start + index * 50_000_000 for index in range(frames)]
    for index, sensor in enumerate(("cam0", "cam1")):
        lines = ["#timestamp [ns],filename"]
        for stamp, path in zip(stamps, write_images(folder / sensor / "data", frames), strict=True):
            path.rename(path.with_name(f"{stamp}.png"))
            lines.append(f"{stamp},{stamp}.png")
        (folder / sensor / "data.csv").write_text("\n".join(lines))
        (folder / sensor / "sensor.yaml").write_text(SENSOR.format(x=0.11 * index, cx=39.5 - index))
    truth = folder / "state_groundtruth_estimate0"
    truth.mkdir()
    rows = [f"{s},0,0,{i},1,0,0,0,0,0,0,0,0,0,0,0,0" for i, s in enumerate(stamps)]
    (truth / "data.csv").write_text("\n".join(["#timestamp, p_RS_R_x [m]", *rows]))
    grid = np.stack(np.meshgrid(np.linspace(-9, 9, 400), np.linspace(-5, 5, 300)), -1)
    wall = np.column_stack([grid.reshape(-1, 2), np.full(400 * 300, 10.0)]).astype("<f4")
    write_ply(folder / "pointcloud0" / "data.ply", wall)
    return folder


def write_ply(path: Path, points: np.ndarray) -> None:
    """Binary PLY of points (N, 3) float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\nend_header\n"
    )
    path.write_bytes(head.encode() + points.astype("<f4").tobytes())


def make_nyu(root: Path) -> None:
    """A raw sequence of three frames, and a labelled file of four images, two of them for testing."""
    folder = root / "kitchen_0001a"
    for index, path in enumerate(write_images(folder, 3, 480, 640)):
        Image.open(path).save(folder / f"r-{1294886360.0 + index / 30:.6f}-{index}.ppm")
        path.unlink()
    rng = np.random.default_rng(0)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = rng.integers(0, 255, (4, 3, 640, 480), dtype=np.uint8)
        depth = np.broadcast_to(
            np.arange(1, 5, dtype=np.float32)[:, None, None], (4, 640, 480)
        ).copy()
        depth[:, 5, 7] = 9  # x 5, y 7
        file["depths"] = depth
    savemat(
        root / "splits.mat", {"trainNdxs": np.array([[2], [3]]), "testNdxs": np.array([[1], [4]])}
    )


def make_seven_scenes(root: Path, frames: int = 3) -> Path:
    """One sequence of a scene, a pose for all but the last frame, depth for the first."""
    folder = root / "chess" / "seq-03"
    for index, path in enumerate(write_images(folder, frames, 480, 640)):
        path.rename(folder / f"frame-{index:06d}.color.png")
        if index < frames - 1:
            pose = np.eye(4)
            pose[0, 3] = 0.1 * index
            (folder / f"frame-{index:06d}.pose.txt").write_text(
                "\n".join("\t".join(str(v) for v in row) for row in pose)
            )
    write_depth(folder / "frame-000000.depth.png", np.full((480, 640), 2.0), 1000)
    return folder


def make_tum(root: Path, frames: int = 4) -> Path:
    """A sequence of freiburg1 whose depth and poses come at slightly other times."""
    folder = root / "rgbd_dataset_freiburg1_tiny"
    lists = {"rgb": [], "depth": []}
    for index, path in enumerate(write_images(folder / "rgb", frames, 480, 640)):
        time = 1305031102.0 + index / 30
        path.rename(path.with_name(f"{time:.6f}.png"))
        lists["rgb"].append(f"{time:.6f} rgb/{time:.6f}.png")
        if index < frames - 1:
            later = time + 0.008
            write_depth(folder / "depth" / f"{later:.6f}.png", np.full((480, 640), 1.5), 5000)
            lists["depth"].append(f"{later:.6f} depth/{later:.6f}.png")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(["# timestamp filename", *lines]))
    rows = [f"{1305031102.004 + i / 30:.4f} {i} 0 0 0 0 0 1" for i in range(frames)]
    (folder / "groundtruth.txt").write_text("\n".join(["# timestamp tx ty tz qx qy qz qw", *rows]))
    return folder


def write_pfm(path: Path, values: np.ndarray) -> None:
    """PFM of one channel, little endian, the bottom row first."""
    head = f"Pf\n{values.shape[1]} {values.shape[0]}\n-1.0\n"
    path.write_bytes(head.encode() + values[::-1].astype("<f4").tobytes())


def make_eth3d_pair(root: Path) -> Path:
    """A stereo pair whose disparity is 4 pixels, 5 in its top row, and unknown in one corner."""
    folder = root / "delivery_area_1l"
    for index, path in enumerate(write_images(folder, 2)):
        path.rename(folder / f"im{index}.png")
    matrix = "[50 0 39.5; 0 50 19.5; 0 0 1]"
    (folder / "calib.txt").write_text(
        f"cam0={matrix}\ncam1={matrix}\ndoffs=0\nbaseline=0.06\nwidth=80\nheight=40\nndisp=64\n"
    )
    disparity = np.full((40, 80), 4.0, np.float32)
    disparity[0], disparity[0, 0] = 5.0, np.inf
    write_pfm(folder / "disp0GT.pfm", disparity)
    mask = np.full((40, 80), 255, np.uint8)
    mask[1, 1] = 128
    Image.fromarray(mask).save(folder / "mask0nocc.png")
    return folder


def make_eth3d_rig(root: Path, frames: int = 2) -> Path:
    """A scene of one rig camera that sees a scanned wall 5 m ahead of its first frame."""
    scene = root / "delivery_area"
    folder = scene / "images" / "images_rig_cam4_undistorted"
    calibration = scene / "rig_calibration_undistorted"
    calibration.mkdir(parents=True)
    (calibration / "cameras.txt").write_text("# comment\n0 PINHOLE 80 40 50 50 40 20\n")
    lines = ["# comment"]
    for index, path in enumerate(write_images(folder, frames)):
        name = f"{1477843917481127523 + index * 50_000_000}.png"
        path.rename(path.with_name(name))
        # camera_from_world of a camera that moves along z
        lines += [f"{index + 1} 1 0 0 0 0 0 {-index} 0 images_rig_cam4_undistorted/{name}", ""]
    (calibration / "images.txt").write_text("\n".join(lines))
    grid = np.stack(np.meshgrid(np.linspace(-5, 5, 300), np.linspace(-3, 3, 200)), -1)
    wall = np.column_stack([grid.reshape(-1, 2), np.full(300 * 200, 4.0)])
    write_ply(scene / "scan_clean" / "scan1.ply", wall)
    matrix = "1 0 0 0 0 1 0 0 0 0 1 1 0 0 0 1"  # the scan stands a metre ahead
    (scene / "scan_clean" / "scan_alignment.mlp").write_text(
        "<!DOCTYPE MeshLabDocument><MeshLabProject><MeshGroup>"
        f'<MLMesh label="s" filename="scan1.ply"><MLMatrix44>{matrix}</MLMatrix44></MLMesh>'
        "</MeshGroup></MeshLabProject>"
    )
    return scene


def make_make3d(root: Path) -> None:
    """Two images, one of them with laser depth that grows by a metre a row."""
    for index, path in enumerate(write_images(root / "Test134", 2, 80, 60)):
        Image.open(path).convert("RGB").save(root / "Test134" / f"img-op{index}-p-1t0.jpg")
        path.unlink()
    grid = np.zeros((55, 305, 4))
    grid[..., 3] = np.arange(55)[:, None] + 1
    (root / "Gridlaserdata").mkdir()
    savemat(root / "Gridlaserdata" / "depth_sph_corr-op0-p-1t0.mat", {"Position3DGrid": grid})


def make_footage(root: Path) -> Path:
    """One's own images with depth, poses and camera beside them."""
    folder = root / "mine"
    for path in write_images(folder / "images", 3):
        write_depth(folder / "depth" / path.name, np.full((40, 80), 3.0), 1000)
    (folder / "camera.yaml").write_text(
        "fx: 50\nfy: 50\ncx: 39.5\ncy: 19.5\nwidth: 80\nheight: 40\n"
    )
    rows = "".join(f"1 0 0 {i} 0 1 0 0 0 0 1 0\n" for i in range(3))
    (folder / "poses.txt").write_text(rows)
    return folder


MAKERS = {
    "kitti_raw": make_raw, "kitti_odometry": make_odometry, "kitti_depth": make_kitti_depth,
    "cityscapes": make_cityscapes, "euroc": make_euroc, "nyu": make_nyu,
    "seven_scenes": make_seven_scenes, "tum_rgbd": make_tum, "eth3d": make_eth3d_pair,
    "make3d": make_make3d,
}  # fmt: skip
