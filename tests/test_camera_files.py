import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from tests.conftest import write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.camera_file import read_calibration, read_units
from egodepth.data.footage.own_footage import read_camera, read_footage, read_lens, with_camera_file
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, Undistortion, undistorted_camera

FX, FY, CX, CY, WIDTH, HEIGHT = 140.0, 138.0, 81.5, 46.25, 160, 96
BROWN = [-0.3, 0.1, 0.001, -0.002, 0.01]
RATIONAL = [-0.3, 0.1, 0.001, -0.002, 0.01, 0.02, -0.01, 0.003]
FISHEYE = [0.05, -0.01, 0.003, 0.001]
MATRIX = [FX, 0.0, CX, 0.0, FY, CY, 0.0, 0.0, 1.0]
OWN = f"fx: {FX}\nfy: {FY}\ncx: {CX}\ncy: {CY}\nwidth: {WIDTH}\nheight: {HEIGHT}\n"


def opencv(path: Path, coefficients: list[float], fisheye: bool = False) -> None:
    """As OpenCV itself writes it, XML or YAML by the name."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("calibration_time", "today")
    storage.write("image_width", WIDTH)
    storage.write("image_height", HEIGHT)
    storage.write("camera_matrix", np.array(MATRIX).reshape(3, 3))
    storage.write("distortion_coefficients", np.array(coefficients)[:, None])
    if fisheye:
        storage.write("fisheye_model", 1)
    storage.release()


def ros(model: str, coefficients: list[float]) -> str:
    """What camera_calibration writes for camera_info_manager."""
    return yaml.safe_dump({
        "image_width": WIDTH, "image_height": HEIGHT, "camera_name": "narrow_stereo",
        "camera_matrix": {"rows": 3, "cols": 3, "data": MATRIX},
        "distortion_model": model,
        "distortion_coefficients": {"rows": 1, "cols": len(coefficients), "data": coefficients},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
        "projection_matrix": {"rows": 3, "cols": 4, "data": [99, 0, 70, 0, 0, 99, 40, 0, 0, 0, 1, 0]},
    })  # fmt: skip


def topic(model: str, coefficients: list[float]) -> str:
    """What ``ros2 topic echo camera_info`` prints."""
    return (
        "header:\n  stamp:\n    sec: 1\n    nanosec: 2\n  frame_id: camera\n"
        f"height: {HEIGHT}\nwidth: {WIDTH}\ndistortion_model: {model}\nd:\n"
        + "".join(f"- {c}\n" for c in coefficients)
        + "k:\n"
        + "".join(f"- {m}\n" for m in MATRIX)
        + "binning_x: 0\nbinning_y: 0\nroi:\n  x_offset: 0\n  y_offset: 0\n  height: 0\n  width: 0\n"
        "  do_rectify: false\n---\nheight: 1\n---\n"
    )


def kalibr(model: str, coefficients: list[float], cameras: int = 1) -> str:
    camera = {
        "camera_model": "pinhole", "intrinsics": [FX, FY, CX, CY], "distortion_model": model,
        "distortion_coeffs": coefficients, "resolution": [WIDTH, HEIGHT], "rostopic": "/cam",
        "cam_overlaps": [],
    }  # fmt: skip
    return yaml.safe_dump({f"cam{i}": camera for i in range(cameras)})


def transforms(**values: object) -> str:
    return json.dumps({
        "fl_x": FX, "fl_y": FY, "cx": CX + 0.5, "cy": CY + 0.5, "w": WIDTH, "h": HEIGHT, **values,
        "frames": [{"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}],
    })  # fmt: skip


def colmap(model: str, *parameters: float, copies: int = 1) -> str:
    words = " ".join(map(str, parameters))
    rows = [f"{i + 1} {model} {WIDTH} {HEIGHT} {words}" for i in range(copies)]
    return "# Camera list with one line of data per camera:\n" + "\n".join(rows) + "\n"


def check(path: Path, lens: Lens | None, tolerance: float = 1e-4) -> None:
    """The camera that was written, and pixels where OpenCV has them."""
    camera, found = read_camera(path), read_lens(path)
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(camera.focal_and_centre, [FX, FY, CX, CY], rtol=1e-6)
    assert (found is None) == (lens is None)
    if lens is None or found is None:
        return
    assert found.model == lens.model
    points = np.random.default_rng(0).uniform((-0.5, -0.3, 1), (0.5, 0.3, 1.1), (50, 3))
    matrix, zero = np.array(MATRIX).reshape(3, 3), np.zeros(3)
    project = cv2.fisheye.projectPoints if lens.model == "fisheye" else cv2.projectPoints
    expected, _ = project(points[:, None], zero, zero, matrix, np.array(lens.coefficients))
    unit = Camera.from_parameters(1.0, 1.0, 0.0, 0.0, HEIGHT, WIDTH)
    pixels = found.distort(camera, points[:, :2] / points[:, 2:], unit)
    np.testing.assert_allclose(pixels, expected[:, 0], atol=tolerance)


def test_opencv(tmp_path: Path) -> None:
    for name in ("a.yml", "a.xml", "a.json"):
        path = tmp_path / name
        opencv(path, BROWN)
        check(path, Lens("brown", tuple(BROWN)))
        assert "OpenCV calibration" in read_calibration(path).describe()
        opencv(path, [0.0] * 5)
        check(path, None)
        opencv(path, FISHEYE, fisheye=True)
        check(path, Lens("fisheye", tuple(FISHEYE)))
    path = tmp_path / "a.yml"
    opencv(path, [*RATIONAL, 0, 0, 0, 0, 0, 0])
    check(path, Lens("brown", tuple(RATIONAL)))
    opencv(path, [*RATIONAL, 0.1, 0, 0, 0])
    with pytest.raises(
        EgodepthError, match="9 distortion coefficients; a brown lens has at most 8"
    ):
        read_calibration(path)
    opencv(path, BROWN[:4])
    with pytest.warns(EgodepthWarning, match="taken for k1, k2, p1, p2"):
        check(path, Lens("brown", tuple(BROWN[:4])))
    opencv(path, BROWN)
    path.write_text(path.read_text().replace("image_width", "board_width"))
    with pytest.raises(EgodepthError, match="does not say what image size"):
        read_calibration(path)
    nested = {"camera_matrix": np.array(MATRIX).reshape(3, 3).tolist(), "dist_coeff": [BROWN],
              "image_width": WIDTH, "image_height": HEIGHT}  # fmt: skip
    for text in (yaml.safe_dump(nested), json.dumps(nested)):
        path.write_text(text)
        check(path, Lens("brown", tuple(BROWN)))


def test_ros(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for write in (ros, topic):
        for model, kind, coefficients in (
            ("plumb_bob", "brown", BROWN),
            ("rational_polynomial", "brown", RATIONAL),
            ("equidistant", "fisheye", FISHEYE),
        ):
            path.write_text(write(model, coefficients))
            check(path, Lens(kind, tuple(coefficients)))  # type: ignore[arg-type]
        path.write_text(write("plumb_bob", [0.0] * 5))
        check(path, None)
    assert read_calibration(path).describe() == f"ROS camera_info {path}, 160x96"
    path.write_text(ros("thin_prism", BROWN))
    with pytest.raises(EgodepthError, match="lens model 'thin_prism'; known are"):
        read_calibration(path)


def test_ros_of_a_binned_part_of_the_image(tmp_path: Path) -> None:
    """Every other pixel both ways of a part that begins at (20, 10): the same pixels look the same way."""
    text = topic("plumb_bob", [0.0] * 5).replace(
        "binning_x: 0\nbinning_y: 0", "binning_x: 2\nbinning_y: 2"
    )
    text = text.replace("x_offset: 0\n  y_offset: 0\n  height: 0\n  width: 0",
                        "x_offset: 20\n  y_offset: 10\n  height: 80\n  width: 120")  # fmt: skip
    (tmp_path / "camera.yaml").write_text(text)
    camera = read_calibration(tmp_path / "camera.yaml").camera
    (fx, _, cx), (_, fy, cy), _ = camera.matrix.tolist()
    # The first pixel is the mean of four, whose middle is (20.5, 10.5) in the whole image.
    assert (fx, fy) == pytest.approx((FX / 2, FY / 2))
    assert (cx, cy) == pytest.approx(((CX - 20.5) / 2, (CY - 10.5) / 2))
    assert (camera.width, camera.height) == (60, 40)
    (tmp_path / "camera.yaml").write_text(text.replace("x_offset: 20", "x_offset: 9000"))
    with pytest.raises(EgodepthError, match="region of interest outside of its image"):
        read_calibration(tmp_path / "camera.yaml")


def test_kalibr_and_euroc(tmp_path: Path) -> None:
    path = tmp_path / "camchain.yaml"
    path.write_text(kalibr("radtan", BROWN[:4]))
    check(path, Lens("brown", tuple(BROWN[:4])))
    path.write_text(kalibr("equidistant", FISHEYE))
    check(path, Lens("fisheye", tuple(FISHEYE)))
    path.write_text(kalibr("none", []))
    check(path, None)
    path.write_text(kalibr("radtan", BROWN[:4], cameras=2))
    with pytest.raises(EgodepthError, match="holds cam0 and cam1; leave in it the one"):
        read_calibration(path)
    path.write_text(kalibr("radtan", BROWN[:4]).replace("pinhole", "omni"))
    with pytest.raises(EgodepthError, match="of the model omni"):
        read_calibration(path)
    path.write_text(
        f"%YAML:1.0\n#comment\nsensor_type: camera\nresolution: [{WIDTH}, {HEIGHT}]\ncamera_model: pinhole\n"
        f"intrinsics: [{FX}, {FY}, {CX}, {CY}]\ndistortion_model: radial-tangential\n"
        f"distortion_coefficients: {BROWN[:4]}\n"
    )
    check(path, Lens("brown", tuple(BROWN[:4])))


def test_colmap(tmp_path: Path) -> None:
    path, cx, cy = tmp_path / "cameras.txt", CX + 0.5, CY + 0.5
    k1, k2, p1, p2 = RATIONAL[:4]
    for model, parameters, lens in (
        ("PINHOLE", (), None),
        ("OPENCV", (k1, k2, p1, p2), ("brown", (k1, k2, p1, p2))),
        ("FULL_OPENCV", RATIONAL, ("brown", RATIONAL)),
        ("OPENCV_FISHEYE", FISHEYE, ("fisheye", FISHEYE)),
    ):
        path.write_text(colmap(model, FX, FY, cx, cy, *parameters))
        check(path, lens and Lens(lens[0], tuple(lens[1])))  # type: ignore[arg-type]
    assert "COLMAP camera (OPENCV_FISHEYE)" in read_calibration(path).describe()
    for model, parameters, coefficients in (
        ("SIMPLE_PINHOLE", (), None),
        ("SIMPLE_RADIAL", (k1,), (k1, 0, 0, 0)),
        ("RADIAL", (k1, k2), (k1, k2, 0, 0)),
        ("RADIAL_FISHEYE", (k1, k2), (k1, k2, 0, 0)),
    ):
        path.write_text(colmap(model, FX, cx, cy, *parameters))
        found = read_calibration(path)
        assert found.camera.focal_and_centre.tolist() == [FX, FX, CX, CY]
        assert (found.lens and found.lens.coefficients[:4]) == coefficients
    for text, message in (
        (colmap("FOV", FX, FY, cx, cy, 0.9), "of the model FOV; known are SIMPLE_PINHOLE"),
        (colmap("PINHOLE", FX, FY, cx, cy, copies=2), "holds 2 cameras"),
        (colmap("PINHOLE", FX, cx, cy), "3 parameters of PINHOLE, which needs fx fy cx cy"),
    ):
        path.write_text(text)
        with pytest.raises(EgodepthError, match=message):
            read_calibration(path)


def test_nerfstudio(tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    path.write_text(transforms(camera_model="OPENCV", k1=-0.3, k2=0.1, p1=0.001, p2=-0.002))
    check(path, Lens("brown", tuple(BROWN[:4])))
    names = dict(zip(("k1", "k2", "k3", "k4"), FISHEYE, strict=True))
    path.write_text(transforms(camera_model="OPENCV_FISHEYE", **names))
    check(path, Lens("fisheye", tuple(FISHEYE)))
    path.write_text(transforms(is_fisheye=True, **names))
    check(path, Lens("fisheye", tuple(FISHEYE)))
    path.write_text(transforms(k1=0, k2=0))
    check(path, None)
    angle = 2 * np.arctan(WIDTH / 2 / FX)
    path.write_text(json.dumps({"camera_angle_x": angle, "w": WIDTH, "h": HEIGHT, "frames": []}))
    camera = read_camera(path)
    np.testing.assert_allclose(camera.focal_and_centre, [FX, FX, 79.5, 47.5], rtol=1e-6)
    frame = {"fl_x": FX, "fl_y": FY, "cx": CX + 0.5, "cy": CY + 0.5, "w": WIDTH, "h": HEIGHT}
    path.write_text(json.dumps({"frames": [frame, frame]}))
    check(path, None)
    path.write_text(json.dumps({"frames": [frame, {**frame, "fl_x": 3.0}]}))
    with pytest.raises(EgodepthError, match="several cameras"):
        read_calibration(path)
    path.write_text(transforms(camera_model="EQUIRECTANGULAR"))
    with pytest.raises(EgodepthError, match="of the model EQUIRECTANGULAR"):
        read_calibration(path)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(OWN, encoding="utf-8-sig")
    check(path, None)
    path.write_text(transforms(), encoding="utf-8-sig")
    check(path, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("k1: -0.3\n", "unknown name 'k1'; coefficients stand in one list"),
        (
            "distortion_coefficients: [1, 0, 0, 0]\n",
            "'distortion_coefficients'; did you mean 'distortion'",
        ),
        ("lense: fisheye\n", "'lense'; did you mean 'lens'"),
        ("gain: 3\n", "'gain'; it may hold fx, fy"),
        ("lens: fisheye\n", "`lens: fisheye` without its coefficients"),
        ("distortion: [1, 0, 0, .nan]\n", "no numbers"),
        ("cx: 200\n", "outside of its image of 160x96"),
        ("fx: -3\n", "above 0"),
        ("fx: .nan\n", "above 0"),
        ("width: 160.5\n", "whole pixels"),
        ("a: [\n", "none of the known formats.*line"),
    ],
)
def test_what_no_camera_file_says(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "camera.yaml"
    kept = [o for o in OWN.splitlines(keepends=True) if not o.startswith(line.split(":")[0] + ":")]
    path.write_text("".join(kept) + line)
    with pytest.raises(EgodepthError, match=message) as caught:
        read_calibration(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_other_files_are_no_camera(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for text in ("", "hello", "a: 1\nb: 2\n", "[1, 2]", "{", "1 2 3 4\n"):
        path.write_text(text)
        with pytest.raises(EgodepthError, match="none of the known formats"):
            read_calibration(path)


def test_depth_steps(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_images(folder / "images", 2)
    for value in ("many", "0", "-1", ".inf", "[1]"):
        (folder / "camera.yaml").write_text(OWN + f"depth_steps: {value}\n")
        with pytest.raises(EgodepthError, match=r"camera\.yaml has depth_steps: .*above 0"):
            read_footage(folder)


def test_units_need_no_camera_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (path, _) = write_images(folder / "images", 2)
    (folder / "depth").mkdir()
    Image.fromarray(np.full((40, 80), 600, np.uint16)).save(folder / "depth" / path.name)
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2)
    assert not read_footage(folder).metric_poses
    (folder / "camera.yaml").write_text("# units\ndepth_steps: 200\nposes_unit: metres\n")
    sequence = read_footage(folder)
    assert sequence.camera is None and sequence.metric_poses
    assert (sequence.depth[0]() == 3).all()
    (folder / "camera.yaml").write_text("poses_unit: feet\n")
    with pytest.raises(EgodepthError, match=r"camera\.yaml has poses_unit: feet; it may be metres"):
        read_footage(folder)


def test_depth_that_is_none_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (path, _) = write_images(folder / "images", 2)
    (folder / "depth").mkdir()
    Image.fromarray(np.full((40, 80), 60, np.uint8)).save(folder / "depth" / path.name)
    with pytest.raises(EgodepthError, match="is a picture of 8 bits, no depth map"):
        read_footage(folder).depth[0]()
    np.save(folder / "depth" / f"{path.stem}.npy", np.full((40, 80), 3.0))
    assert (read_footage(folder).depth[0]() == 3).all()
    np.save(folder / "depth" / "7.npy", np.full((40, 80), 3.0))
    with pytest.warns(
        EgodepthWarning, match=r"1 of the depth maps .* called like no image, 7\.npy"
    ):
        read_footage(folder)


def test_a_camera_keeps_its_aspect(tmp_path: Path) -> None:
    """Resized where the frames have the camera's aspect ratio, turned where they have that of the turned one,
    refused otherwise."""
    write_images(tmp_path / "frames", 1, 96, 160)
    write_images(tmp_path / "upright", 1, 160, 96)
    path = tmp_path / "camera.yaml"
    frames, upright = (read_footage(tmp_path / name) for name in ("frames", "upright"))
    path.write_text("fx: 1000\nfy: 1000\ncx: 799.5\ncy: 599.5\nwidth: 1600\nheight: 1200\n")
    for sequence in (frames, upright):
        with pytest.raises(EgodepthError, match=f"for 1600x1200 pixels, but {sequence.name} is"):
            with_camera_file(sequence, path)
    path.write_text("fx: 1000\nfy: 990\ncx: 780\ncy: 470\nwidth: 1600\nheight: 960\n")
    found = with_camera_file(frames, path).camera
    assert found is not None
    np.testing.assert_allclose(found.focal_and_centre, [100, 99, 77.55, 46.55], rtol=1e-5)
    with pytest.warns(EgodepthWarning, match="turned by 90 degrees"):
        turned = with_camera_file(upright, path).camera
    assert turned is not None and (turned.height, turned.width) == (160, 96)
    # x of the turned image is H - 1 - y, y is x: (959 - 470 + 0.5) / 10 - 0.5
    np.testing.assert_allclose(turned.focal_and_centre, [99, 100, 48.45, 77.55], rtol=1e-5)


def test_a_turned_lens_shows_the_turned_image() -> None:
    camera = Camera.from_parameters(FX, FY, CX, CY, HEIGHT, WIDTH)
    lens = Lens("brown", tuple(BROWN))
    straight = undistorted_camera([(camera, lens)])
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8), (9, 9), 3)
    upright = Undistortion(camera, lens, straight)(image)
    turned = Undistortion(camera.turn(), lens.turn(), straight.turn())(np.rot90(image, -1).copy())
    assert np.abs(turned.astype(int) - np.rot90(upright, -1).astype(int)).max() <= 2


def test_depth_of_another_size_behind_a_lens(tmp_path: Path) -> None:
    """A slanted wall, at the size of the image and at half of it: the same but for resolution."""
    folder = tmp_path / "mine"
    write_images(folder / "images", 1, HEIGHT, WIDTH)
    (folder / "camera.yaml").write_text(OWN + "distortion: [-0.2, 0.05, 0, 0, 0]\n")
    (folder / "depth").mkdir()
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    full = 3 + columns / WIDTH + 0.5 * rows / HEIGHT
    half = full.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
    found = []
    for depth in (full, half):
        np.save(folder / "depth" / "000000.npy", depth)
        found.append(read_footage(folder).depth[0]())
    assert [f.shape for f in found] == [(HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2)]
    assert all((f > 0).all() for f in found)
    np.testing.assert_allclose(found[0][1::2, 1::2], found[1], atol=0.03)
    np.save(folder / "depth" / "000000.npy", full[: HEIGHT // 2])
    with pytest.raises(EgodepthError, match=r"000000\.npy is 160x48, its image 160x96"):
        read_footage(folder).depth[0]()


def matrix_file(extra: str) -> str:
    return f"K: {MATRIX}\nwidth: {WIDTH}\nheight: {HEIGHT}\n{extra}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ros("plumb_bob", BROWN).replace("distortion_coeff", "distorsion_coeff"),
            "'distorsion_coefficients'.*call it `distortion_coefficients",
        ),
        (matrix_file(f"distCoefs: {BROWN}"), "'distCoefs'.*call it `distortion_coefficients"),
        (matrix_file("k1: -0.3"), "'k1'.*call it `distortion_coefficients"),
        (matrix_file("D1: [1]"), "'D1'"),
        (matrix_file("distortion_model: plumb_bob"), "`distortion_model: plumb_bob` without"),
        (matrix_file(f"distorsion_model: equidistant\nD: {FISHEYE}"), "`distortion_model`"),
        (
            kalibr("radtan", BROWN[:4]).replace("distortion_coeffs", "distortion_coefs"),
            "'distortion_coefs'.*call it `distortion_coeffs",
        ),
        (transforms(distortion=BROWN), "'distortion', like a lens's; nerfstudio's names are"),
        (transforms(is_fisheye=True, p1=0.1), "has a p1, which a fisheye lens has not"),
    ],
)
def test_a_lens_is_never_lost(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    with pytest.raises(EgodepthError, match=message) as caught:
        read_calibration(path)
    assert "\n" not in str(caught.value)


def test_cameras_that_none_can_be(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    good = (FX, FY, CX, CY)
    for change, message in (
        ({0: 0.58, 1: 0.77}, r"field of view of 179\.2 degrees, .*normalised.*millimetres"),
        ({0: 4.2, 1: 4.2}, r"field of view of 174\.0 degrees"),
        ({1: 30.0}, "more than a factor of 2 apart"),
        ({2: 0.0, 3: 0.0}, "near the middle"),
        ({2: 170.0}, "outside of its image"),
    ):
        fx, fy, cx, cy = (change.get(i, value) for i, value in enumerate(good))
        for text in (
            f"fx: {fx}\nfy: {fy}\ncx: {cx}\ncy: {cy}\nwidth: {WIDTH}\nheight: {HEIGHT}\n",
            json.dumps({"intrinsics": [fx, fy, cx, cy], "resolution": [WIDTH, HEIGHT]}),
            json.dumps({"K": [fx, 0, cx, 0, fy, cy, 0, 0, 1], "w": WIDTH, "h": HEIGHT}),
            colmap("PINHOLE", fx, fy, cx + 0.5, cy + 0.5),
            transforms(fl_x=fx, fl_y=fy, cx=cx + 0.5, cy=cy + 0.5),
        ):
            path.write_text(text)
            with pytest.raises(EgodepthError, match=message):
                read_calibration(path)
    path.write_text(OWN.replace(f"cx: {CX}", "cx: 10"))
    with pytest.warns(EgodepthWarning, match=r"\(10, 46.25\).*far from the middle"):
        read_calibration(path)


@pytest.mark.parametrize(
    "text",
    [
        OWN.replace(f"cx: {CX}", "cx: true"),
        OWN + "distortion: [true, 0, 0, 0]\n",
        OWN + 'distortion: "1234"\n',
        matrix_file("D: [true, 0, 0, 0, 0]"),
        matrix_file("D: x"),
        transforms(k1=True),
    ],
)
def test_what_is_no_number(tmp_path: Path, text: str) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    with pytest.raises(EgodepthError, match="something else than numbers"):
        read_calibration(path)


def test_a_name_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    for text in (OWN + "fx: 150\n", "%YAML:1.0\n---\n" + OWN + "fx: 150\n", '{"fx": 1, "fx": 2}'):
        path.write_text(text)
        with pytest.raises(EgodepthError, match="has the name 'fx' twice"):
            read_calibration(path)


def test_units_in_any_writing(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    for text in (
        '"depth_steps": "5000"\n"poses_unit": "metres"\n',
        '{"depth_steps": 5000, "poses_unit": "m"}',
        "{depth_steps: 5000, poses_unit: metres}",
    ):
        path.write_text(text)
        assert read_units(path) == (5000, True, True)
    path.write_text(f"{{fx: {FX}, fy: {FY}, cx: {CX}, cy: {CY}, width: {WIDTH}, height: {HEIGHT}}}")
    check(path, None)
    assert read_units(path) == (None, False, False)


def test_nerfstudio_frames_of_other_cameras(tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    tree = json.loads(transforms())
    tree["frames"] = [{"fl_x": FX}, {}]
    path.write_text(json.dumps(tree))
    check(path, None)
    tree["frames"][0]["fl_x"] = FX + 20
    path.write_text(json.dumps(tree))
    with pytest.raises(EgodepthError, match="several cameras"):
        read_calibration(path)
    path.write_text(json.dumps({"camera_angle_x": 60, "w": WIDTH, "h": HEIGHT, "frames": []}))
    with pytest.raises(EgodepthError, match="camera_angle_x: 60; it needs radians"):
        read_calibration(path)
