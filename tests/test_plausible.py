"""Cameras and poses that cannot be are refused wherever they are read."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests import layouts
from tests.conftest import write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.own_footage import read_camera
from egodepth.data.image_files import ImageFiles
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, undistorted_camera
from egodepth.geometry.plausible import camera_problem, pose_problem
from egodepth.geometry.trajectory import read_trajectory

LAYOUTS: dict[str, Callable[[Path], object]] = {
    "kitti_odometry": layouts.make_odometry, "kitti_raw": layouts.make_raw,
    "kitti_depth": layouts.make_kitti_depth, "euroc": layouts.make_euroc,
    "cityscapes": layouts.make_cityscapes, "seven_scenes": layouts.make_seven_scenes,
    "tum_rgbd": layouts.make_tum, "eth3d": layouts.make_eth3d_pair, "rig": layouts.make_eth3d_rig,
}  # fmt: skip


def read_edited(root: Path, kind: str, file: str, old: str, new: str) -> list[Sequence]:
    LAYOUTS[kind](root)
    paths = list(root.rglob(file))
    assert paths
    for path in paths:
        text = path.read_text()
        assert old in text, text
        path.write_text(text.replace(old, new))
    return read_source(f"{'eth3d' if kind == 'rig' else kind}:{root}")


@pytest.mark.parametrize("focal", ["-50", "0", "1e-30", "1e308", "inf", "nan"])
@pytest.mark.parametrize(
    ("kind", "file", "old", "new"),
    [
        ("kitti_odometry", "calib.txt", "50 0 39.5", "{} 0 39.5"),
        ("kitti_raw", "calib_cam_to_cam.txt", "50 0 39.5", "{} 0 39.5"),
        ("kitti_depth", "intrinsics/*.txt", "50 0 39.5", "{} 0 39.5"),
        ("euroc", "cam1/sensor.yaml", "[50.0, 50.0", "[50.0, {}"),
        ("eth3d", "calib.txt", "cam1=[50", "cam1=[{}"),
        ("rig", "cameras.txt", "40 50 50", "40 50 {}"),
        ("cityscapes", "*_camera.json", '"fx": 50.0', '"fx": {}'),
    ],
)
def test_focal_lengths_of_data_sets(
    tmp_path: Path, kind: str, file: str, old: str, new: str, focal: str
) -> None:
    if file.endswith("json"):
        focal = {"inf": "Infinity", "nan": "NaN"}.get(focal, focal)
    with pytest.raises(EgodepthError, match=r"above 0|field of view|is broken"):
        read_edited(tmp_path, kind, file, old, new.format(focal))


@pytest.mark.parametrize(
    ("kind", "file", "old", "new"),
    [
        ("kitti_odometry", "calib.txt", "Tr: 0 -1", "Tr: 0 -7"),
        ("kitti_odometry", "calib.txt", "-25", "inf"),
        ("kitti_odometry", "calib.txt", "39.5", "1e9"),
        ("kitti_odometry", "07.txt", " 1 1\n", " 1 1e308\n"),
        ("kitti_raw", "calib_cam_to_cam.txt", "R_rect_00: 1", "R_rect_00: 3"),
        ("kitti_raw", "calib_velo_to_cam.txt", "R: 0 -1", "R: 0 1"),
        ("kitti_raw", "calib_imu_to_velo.txt", "T: 0", "T: nan"),
        ("kitti_raw", "0000000006.txt", "100 0 0 0", "100 0 0 1e308"),
        ("kitti_raw", "0000000006.txt", "100 0 0 0", "inf 0 0 0"),
        ("euroc", "cam0/sensor.yaml", "data: [1,", "data: [-1,"),
        ("euroc", "cam0/sensor.yaml", "data: [1,", "data: [.nan,"),
        ("euroc", "cam0/sensor.yaml", "39.5", "1e9"),
        ("euroc", "cam0/sensor.yaml", "[-0.1,", "[.nan,"),
        ("euroc", "cam0/sensor.yaml", "[-0.1,", "[-1.0e+6,"),
        ("euroc", "cam0/sensor.yaml", "[-0.1,", "[1.0e+308,"),
        ("euroc", "state_groundtruth_estimate0/data.csv", "0,0,2,1,", "0,0,1e308,1,"),
        ("eth3d", "calib.txt", "0.06", "nan"),
        ("rig", "cameras.txt", "50 50 40", "50 50 1e9"),
        ("rig", "images.txt", "2 1 0 0 0 0", "2 1 0 0 0 inf"),
        ("cityscapes", "*_camera.json", '"baseline": 0.2', '"baseline": -0.2'),
        ("seven_scenes", "frame-000001.pose.txt", "0.1", "1e308"),
        ("tum_rgbd", "groundtruth.txt", " 1 0 0 0 0 0 1", " 1 0 0 1e308 0 0 1"),
    ],
)
def test_calibrations_and_poses_of_data_sets(
    tmp_path: Path, kind: str, file: str, old: str, new: str
) -> None:
    with pytest.raises(EgodepthError):
        read_edited(tmp_path, kind, file, old, new)


def test_lidar_points_are_finite(tmp_path: Path) -> None:
    layouts.make_raw(tmp_path, scan=np.array([[10, 0, 0, 1], [9, np.nan, 0, 1]], np.float32))
    (sequence,) = read_source(f"kitti_raw:{tmp_path}")
    with pytest.raises(EgodepthError, match="not finite"):
        sequence.depth[1]()


def test_a_lost_frame_of_seven_scenes_has_no_pose(tmp_path: Path) -> None:
    folder = layouts.make_seven_scenes(tmp_path, 4)
    (folder / "frame-000001.pose.txt").write_text("-inf -inf -inf -inf\n" * 3 + "0 0 0 1\n")
    with pytest.warns(EgodepthWarning, match="frames without a pose: 2"):
        (sequence,) = read_source(f"seven_scenes:{tmp_path}")
    assert sequence.world_from_camera is not None
    assert np.isnan(sequence.world_from_camera[:, 0, 0]).tolist() == [False, True, False, True]


CAMERA = (500.0, 500.0, 320.0, 240.0, 480, 640)


def changed(**numbers: float) -> dict[str, float]:
    return dict(zip(("fx", "fy", "cx", "cy", "height", "width"), CAMERA, strict=True)) | numbers


def test_cameras_that_can_be_and_cannot() -> None:
    assert camera_problem(*CAMERA) == ""
    telephoto = changed(fx=640 * 55.0, fy=640 * 55.0)  # 2000 mm on full frame
    action = changed(fx=300.0, fy=300.0, cx=330.0)
    assert not camera_problem(**telephoto) and not camera_problem(**action)  # type: ignore[arg-type]
    wrong: list[dict[str, float]] = [
        {"fx": value} for value in (0.0, -500.0, 1e-30, 1e30, 1e308, math.inf, math.nan)
    ]
    wrong += [{"cy": value} for value in (1e9, -1.0, math.nan, math.inf)]
    wrong += [{"width": value} for value in (0.0, 640.5, math.inf, math.nan)]
    for one in wrong:
        assert camera_problem(**changed(**one)), one  # type: ignore[arg-type]


def turned(angle: float, position: tuple[float, float, float]) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = position
    return pose


def test_poses_that_can_be_and_cannot() -> None:
    utm = np.stack([turned(0.1 * i, (4.5e5 + i, 5.4e6, 110.0)) for i in range(4)])
    assert pose_problem(utm) is None and pose_problem(np.empty((0, 4, 4))) is None
    for row, column, value, said in (
        (0, 0, 1.1, "no rotation"), (0, 0, 1e308, "no rotation"), (0, 3, 1e308, "nowhere"),
        (1, 3, np.nan, "not finite"), (2, 2, np.inf, "not finite"), (2, 2, -1.0, "mirror"),
        (3, 0, 0.5, "last row"),
    ):  # fmt: skip
        poses = utm.copy()
        poses[2, row, column] = value
        found = pose_problem(poses)
        assert found is not None and found[0] == 2 and said in found[1], found


def test_sequences_check_their_camera_and_poses(tmp_path: Path) -> None:
    frames = ImageFiles(write_images(tmp_path, 3))
    poses = np.stack([turned(0.0, (0.0, 0.0, float(i))) for i in range(3)])
    poses[1] = np.nan
    good = Camera.from_parameters(50.0, 50.0, 39.5, 19.5, 40, 80)
    crop = good.crop(0, 50, 40, 30)  # beside its principal point
    assert Sequence("s", frames, good, poses) and Sequence("s", frames, crop)
    for camera in (
        Camera.from_parameters(-50.0, 50.0, 39.5, 19.5, 40, 80),
        Camera.from_parameters(50.0, 50.0, 1e9, 19.5, 40, 80),
        Camera.from_parameters(50.0, 1e308, 39.5, 19.5, 40, 80),
    ):
        with pytest.raises(EgodepthError, match="the camera of s has"):
            Sequence("s", frames, camera)
    scaled = poses.copy()
    scaled[2, :3, :3] *= 2
    with pytest.raises(EgodepthError, match="the pose of frame 2 of s is no rigid motion"):
        Sequence("s", frames, good, scaled)
    with pytest.raises(EgodepthError, match="poses of the shape"):
        Sequence("s", frames, good, poses[:2])
    with pytest.raises(EgodepthError, match="in its rig"):
        Sequence("s", frames, good, rig_from_camera=np.diag([1.0, 1.0, -1.0, 1.0]))
    for degrees in (1e-320, 1e-6):
        with pytest.raises(EgodepthError, match="less than any lens"):
            Sequence("s", frames).with_fov(degrees)
    for focal in (1e-320, 1e-30, 1e30, 1e308):
        with pytest.raises(EgodepthError, match="a field of view of"):
            Sequence("s", frames).with_focal(focal)


FILE = "fx: 500\nfy: 500\ncx: 319.5\ncy: 239.5\nwidth: 640\nheight: 480\n"


@pytest.mark.parametrize(
    "distortion", ["[1.0e+10, 0, 0, 0]", "[-1.0e+10, 0, 0, 0]", "[1.0e+308, 0, 0, 0]",
                   "[0, 0, 100, 0]", "[-10, 0, 0, 0, 0]", "[50, 0, 0, 0, 0]"]
)  # fmt: skip
def test_distortion_that_no_lens_has(tmp_path: Path, distortion: str) -> None:
    (tmp_path / "camera.yaml").write_text(f"{FILE}distortion: {distortion}\n")
    with pytest.raises(EgodepthError, match=r"camera\.yaml has distortion coefficients .* no lens"):
        read_camera(tmp_path / "camera.yaml")


@pytest.mark.parametrize(
    ("focal", "lens"),
    [
        (517.3, Lens("brown", (0.2624, -0.9531, -0.0054, 0.0026, 1.1633))),  # TUM freiburg1
        (458.7, Lens("brown", (-0.2834, 0.0739, 0.0002, 1.8e-05))),  # EuRoC
        (190.0, Lens("fisheye", (0.0034, 0.0007, -0.0021, 0.0002))),  # TUM VI
        (6000.0, Lens("brown", (20.0, 0.0, 0.0, 0.0))),  # at a narrow view, large numbers do little
    ],
)
def test_distortion_of_real_cameras(focal: float, lens: Lens) -> None:
    camera = Camera.from_parameters(focal, focal, 319.5, 239.5, 480, 640)
    assert 0.4 * focal < float(undistorted_camera([(camera, lens)]).matrix[0, 0]) < 2 * focal


def test_a_wide_lens_is_used_as_far_as_its_model_holds() -> None:
    """r - 0.3 r^3 turns back at r = 1.05; the image reaches 1.33, where an undistorted image would fold."""
    camera = Camera.from_parameters(300.0, 300.0, 319.5, 239.5, 480, 640)
    lens = Lens("brown", (-0.3, 0.0, 0.0, 0.0))
    straight = undistorted_camera([(camera, lens)])
    corner = math.hypot(319.5, 239.5) / float(straight.matrix[0, 0])
    assert 1.03 < corner < 1.055
    assert not lens.folds(camera, straight)


@pytest.mark.parametrize(
    "row",
    ["1e308 0 0 0 0 1 0 0 0 0 1 0", "1e308 -1e308 0 0 1e308 1e308 0 0 0 0 1 0",
     "1 0 0 1e308 0 1 0 0 0 0 1 0", "1 0 0 0 0 1 0 -1e12 0 0 1 0"],
)  # fmt: skip
def test_huge_numbers_in_trajectories(tmp_path: Path, row: str) -> None:
    rows = ["1 0 0 0 0 1 0 0 0 0 1 0", row, "1 0 0 0 0 1 0 0 0 0 1 2"]
    (tmp_path / "poses.txt").write_text("\n".join(rows))
    with pytest.raises(EgodepthError, match=r"line 2: taken for KITTI"):
        read_trajectory(tmp_path / "poses.txt")
    tum = [f"{i} {i} 0 0 0 0 {value} 1" for i, value in enumerate(("0", "1e308", "0"))]
    (tmp_path / "poses.txt").write_text("\n".join(tum))
    with pytest.raises(EgodepthError, match="has length inf, not 1"):
        read_trajectory(tmp_path / "poses.txt")
