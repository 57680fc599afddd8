"""Images of data sets that were resized by their users."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import layouts

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source


def resize(folder: Path, width: int, height: int) -> None:
    for path in [p for p in folder.rglob("*") if p.suffix in (".png", ".ppm")]:
        if not {"depth", "disparity"} & set(path.parts) and "mask" not in path.name:
            with Image.open(path) as image:
                small = image.resize((width, height))
            small.save(path)


def read(kind: str, root: Path) -> Sequence:
    return read_source(f"{kind}:{root}")[0]


def intrinsics(sequence: Sequence) -> np.ndarray:
    assert sequence.camera is not None
    size = (sequence.camera.height, sequence.camera.width)
    assert size == (sequence.frames.height, sequence.frames.width)
    return sequence.camera.focal_and_centre.numpy()


@pytest.mark.parametrize(
    ("kind", "size"),
    [("euroc", (40, 20)), ("nyu", (320, 240)), ("tum_rgbd", (320, 240)), ("eth3d", (40, 20))],
)
def test_cameras_of_known_size_are_resized(
    tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    layouts.MAKERS[kind](tmp_path)
    before = intrinsics(read(kind, tmp_path))
    resize(tmp_path, *size)
    after = read(kind, tmp_path)
    expected = [
        before[0] / 2,
        before[1] / 2,
        (before[2] + 0.5) / 2 - 0.5,
        (before[3] + 0.5) / 2 - 0.5,
    ]
    np.testing.assert_allclose(intrinsics(after), expected, rtol=0.03)
    image = next(iter(after.frames.at([0]))).image
    assert image.shape == (size[1], size[0], 3)
    assert all((read_depth() > 0).mean() > 0.2 for read_depth in after.depth.values())
    resize(tmp_path, size[0], size[1] - 8)
    with pytest.raises(EgodepthError, match=r"the images are .*, and the calibration is for .*"):
        read(kind, tmp_path)


def test_eth3d_rig(tmp_path: Path) -> None:
    layouts.make_eth3d_rig(tmp_path)
    resize(tmp_path, 40, 20)
    np.testing.assert_allclose(intrinsics(read("eth3d", tmp_path)), [25, 25, 19.5, 9.5])


def test_kitti_raw_is_scaled_by_the_size_of_its_calibration(tmp_path: Path) -> None:
    drive = layouts.make_raw(tmp_path)
    file = drive.parent / "calib_cam_to_cam.txt"
    (before,) = read_source(f"kitti_raw:{tmp_path}")
    resize(drive, 40, 20)
    with pytest.raises(EgodepthError, match="the images are 40x20, and the principal point"):
        read("kitti_raw", tmp_path)
    file.write_text(file.read_text() + "S_rect_02: 8.000000e+01 4.000000e+01\n")
    after = read("kitti_raw", tmp_path)
    np.testing.assert_allclose(intrinsics(after), [25, 25, 19.5, 9.5])
    # The stereo baseline and the LiDAR do not depend on the size of the images.
    np.testing.assert_allclose(after.rig_from_camera, before.rig_from_camera)
    np.testing.assert_array_equal(after.depth[1](), before.depth[1]())
    resize(drive, 40, 30)
    with pytest.raises(
        EgodepthError, match="the images are 40x30, and the calibration is for 80x40"
    ):
        read("kitti_raw", tmp_path)


def test_kitti_odometry_does_not_tell_and_is_refused(tmp_path: Path) -> None:
    folder = layouts.make_odometry(tmp_path)
    resize(folder, 40, 20)
    with pytest.raises(EgodepthError, match="the images are 40x20, and the principal point"):
        read("kitti_odometry", tmp_path)
    projection = "718.856 0 607.1928 0 0 718.856 185.2157 0 0 0 1 0"
    calib = folder / "calib.txt"
    calib.write_text(f"P2: {projection}\nP3: {projection}\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    for size in ((1216, 352), (620, 188)):
        resize(folder, *size)
        with pytest.raises(
            EgodepthError, match="the calibration is for 1241x376; use the original"
        ):
            read("kitti_odometry", tmp_path)
    resize(folder, 1241, 376)
    assert intrinsics(read("kitti_odometry", tmp_path))[0] == pytest.approx(718.856)


def test_kitti_depth_benchmark(tmp_path: Path) -> None:
    resize(layouts.make_kitti_depth(tmp_path) / "image", 40, 20)
    with pytest.raises(EgodepthError, match="the images are 40x20, and the principal point"):
        read("kitti_depth", tmp_path)


def test_cityscapes_is_known_by_its_principal_point(tmp_path: Path) -> None:
    layouts.make_cityscapes(tmp_path)
    plain = read("cityscapes", tmp_path)
    resize(tmp_path, 40, 20)
    with pytest.raises(EgodepthError, match="the images are 40x20, and the principal point"):
        read("cityscapes", tmp_path)
    (file,) = (tmp_path / "camera").rglob("*.json")
    values = json.loads(file.read_text())
    values["intrinsic"] = {"fx": 2268.0, "fy": 2225.0, "u0": 1048.0, "v0": 519.0}
    file.write_text(json.dumps(values))
    found = read("cityscapes", tmp_path)
    expected = [2268 / 51.2, 2225 / 51.2, 1048.5 / 51.2 - 0.5, 519.5 / 51.2 - 0.5]
    np.testing.assert_allclose(intrinsics(found), expected, rtol=1e-5)
    # Disparity keeps its own size: the bonnet is cut off there too.
    assert found.depth[1]().shape == plain.depth[1]().shape == (30, 80)
    shutil.rmtree(tmp_path / "rightImg8bit_sequence")


def test_tum_frames_are_in_order_of_time(tmp_path: Path) -> None:
    folder = layouts.make_tum(tmp_path)
    straight = read("tum_rgbd", tmp_path)
    lines = (folder / "rgb.txt").read_text().splitlines()
    (folder / "rgb.txt").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    turned = read("tum_rgbd", tmp_path)
    assert turned.frames.times is not None and straight.frames.times is not None
    assert turned.frames.times.tolist() == sorted(straight.frames.times)
    assert turned.depth.keys() == straight.depth.keys()
    for a, b in zip(turned.frames.at(), straight.frames.at(), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
