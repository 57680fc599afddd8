"""Footage in recordings of robots: images, cameras, times, poses, and what is wrong with them."""

import io
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rosbags")
pytest.importorskip("mcap")

from rosbags.rosbag1 import Writer as Writer1
from tests.robot_logs import KINDS, START, STEP, Log, ros_of

import egodepth
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.frame_cache import cached_frames
from egodepth.data.footage.robot_logs import chunks
from egodepth.inference.odometry.gps_track import read_gps


def pictures(count: int = 4, height: int = 40, width: int = 64) -> list[np.ndarray]:
    """Smooth colour pictures, each different."""
    y, x = np.mgrid[:height, :width]
    return [
        np.stack([60 + 2 * x, 30 + 3 * y + 5 * i, 200 - x - y], axis=-1).astype(np.uint8)
        for i in range(count)
    ]


def drive(ros: int = 2, images: list[np.ndarray] | None = None) -> Log:
    log = Log(ros)
    for i, image in enumerate(images or pictures()):
        log.add_image(START + i * STEP, image)
        log.add_camera(START + i * STEP, image.shape[:2], 50.0)
    return log


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_is_footage(kind: str, tmp_path: Path) -> None:
    path = drive(ros_of(kind)).write(tmp_path, kind)
    (sequence,) = egodepth.read_source(path)
    frames = list(sequence.frames.at())
    for frame, image in zip(frames, pictures(), strict=True):
        np.testing.assert_array_equal(frame.image, image)
    assert [f.name for f in frames] == [str(START + i * STEP) for i in range(4)]
    assert np.abs(sequence.frames.times - (START + np.arange(4) * STEP) / 1e9).max() < 1e-6
    assert sequence.camera is not None
    assert sequence.camera.focal_and_centre.tolist() == [50, 50, 31.5, 19.5]
    assert sequence.camera_from == "given" and "/camera/camera_info" in sequence.camera_note
    assert sequence.world_from_camera is None
    back = [next(sequence.frames.at([i])).image for i in (3, 0, 2)]
    assert all(np.array_equal(a, pictures()[i]) for a, i in zip(back, (3, 0, 2), strict=True))
    cached, numbers = cached_frames(sequence, 40, 64, tmp_path / "cache")
    np.testing.assert_array_equal(cached, np.stack(pictures()).transpose(0, 3, 1, 2))
    assert numbers.tolist() == [0, 1, 2, 3]


def test_many_threads_read_one_recording(tmp_path: Path) -> None:
    images = pictures(120, 16, 32)
    (sequence,) = egodepth.read_source(drive(2, images).write(tmp_path, "single.mcap"))
    assert sequence.frames.seekable
    cached, _ = cached_frames(sequence, 16, 32, tmp_path / "cache")
    np.testing.assert_array_equal(cached, np.stack(images).transpose(0, 3, 1, 2))


def mosaic(image: np.ndarray, pattern: str) -> np.ndarray:
    """The Bayer image of a picture, by its first row and second row: rggb, bggr, gbrg, grbg."""
    made = np.empty(image.shape[:2], image.dtype)
    for i, colour in enumerate(pattern):
        made[i // 2 :: 2, i % 2 :: 2] = image[i // 2 :: 2, i % 2 :: 2, "rgb".index(colour)]
    return made


def yuv(image: np.ndarray, order: str) -> np.ndarray:
    """4:2:2 by FFmpeg's colours, limited range."""
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv422p")
    y, u, v = (
        np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width]
        for p in frame.planes
    )
    packed = np.empty((*image.shape[:2], 2), np.uint8)
    luma, chroma = (1, 0) if order == "uyvy" else (0, 1)
    packed[..., luma], packed[:, ::2, chroma], packed[:, 1::2, chroma] = y, u, v
    return packed


PLAIN = pictures()[0]
GREY = PLAIN[..., 0]
RAW = {
    "rgb8": (PLAIN, PLAIN, 0), "bgr8": (PLAIN[..., ::-1], PLAIN, 0),
    "rgba8": (np.dstack([PLAIN, GREY]), PLAIN, 0),
    "bgra8": (np.dstack([PLAIN[..., ::-1], GREY]), PLAIN, 0),
    "mono8": (GREY, np.dstack([GREY] * 3), 0), "8UC1": (GREY, np.dstack([GREY] * 3), 0),
    **{f"bayer_{p}8": (mosaic(PLAIN, p), PLAIN, 6) for p in ("rggb", "bggr", "gbrg", "grbg")},
    "yuv422": (yuv(PLAIN, "uyvy"), PLAIN, 8), "uyvy": (yuv(PLAIN, "uyvy"), PLAIN, 8),
    "yuv422_yuy2": (yuv(PLAIN, "yuyv"), PLAIN, 8), "yuyv": (yuv(PLAIN, "yuyv"), PLAIN, 8),
}  # fmt: skip


@pytest.mark.parametrize("encoding", RAW)
def test_raw_encodings(encoding: str, tmp_path: Path) -> None:
    stored, wanted, tolerance = RAW[encoding]
    log = Log()
    log.add_image(START, stored, encoding, padding=12)
    (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    (frame,) = sequence.frames.at()
    difference = np.abs(frame.image.astype(int) - wanted)[2:-2, 2:-2]
    assert difference.max() <= tolerance


def test_nv12(tmp_path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(PLAIN, format="rgb24").reformat(format="nv12")
    planes = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size) for p in frame.planes]
    rows = np.concatenate([plane[:, :64] for plane in planes])
    log = Log()
    log.add_image(START, rows, "nv12", padding=12)
    log.messages[0][3].height = 40
    (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    (read,) = sequence.frames.at()
    assert read.image.shape == PLAIN.shape
    assert np.abs(read.image.astype(int) - PLAIN)[2:-2, 2:-2].max() <= 8


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_grbg16"])
@pytest.mark.parametrize("big", [False, True])
def test_more_than_eight_bits_have_one_range(encoding: str, big: bool, tmp_path: Path) -> None:
    log = Log()
    for i, image in enumerate(pictures(3)):
        deep = image.astype(np.uint16) * 100
        stored = {"mono16": deep[..., 0], "rgb16": deep, "bayer_grbg16": mosaic(deep, "grbg")}
        log.add_image(START + i * STEP, stored[encoding], encoding, big=big)
    with pytest.warns(EgodepthWarning, match="more than 8 bits"):
        (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
        frames = list(sequence.frames.at())
    wanted = pictures(3)[1][..., [0, 0, 0] if encoding == "mono16" else [0, 1, 2]]
    line = np.corrcoef(frames[1].image[4:-4, 4:-4].ravel(), wanted[4:-4, 4:-4].ravel())
    assert line[0, 1] > 0.999


def encoded(image: np.ndarray, form: str) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **({"quality": 98} if form == "jpeg" else {}))
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_compressed_images(kind: str, form: str, tmp_path: Path) -> None:
    log = Log(ros_of(kind))
    for i, image in enumerate(pictures()):
        log.add("/camera/image_raw/compressed", "sensor_msgs/CompressedImage", START + i * STEP,
                format=f"rgb8; {form} compressed bgr8", data=encoded(image, form))  # fmt: skip
    log.add_camera(START, (40, 64), 50.0)
    (sequence,) = egodepth.read_source(log.write(tmp_path, kind))
    for frame, image in zip(sequence.frames.at(), pictures(), strict=True):
        assert np.abs(frame.image.astype(int) - image).max() <= (0 if form == "png" else 8)
    assert sequence.camera is not None


def h264(images: list[np.ndarray]) -> list[bytes]:
    """Packets of an H.264 stream (Annex B), one per picture."""
    context = av.CodecContext.create("libx264", "w")
    context.height, context.width = images[0].shape[:2]
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 10)
    context.options = {"crf": "12", "tune": "zerolatency", "bf": "0", "g": "4"}
    packets = [bytes(p) for i in images for p in context.encode(
        av.VideoFrame.from_ndarray(i, format="rgb24"))]  # fmt: skip
    return packets + [bytes(p) for p in context.encode(None)]


@pytest.mark.parametrize("kind", ["sensor_msgs/CompressedImage", "foxglove_msgs/CompressedVideo"])
def test_h264(kind: str, tmp_path: Path) -> None:
    images = pictures(10)
    log = Log()
    for i, packet in enumerate(h264(images)):
        log.add(
            "/video", kind, START + i * STEP, format="h264", data=np.frombuffer(packet, np.uint8)
        )
    (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    frames = list(sequence.frames.at())
    assert [f.number for f in frames] == list(range(10)) and len(sequence.frames) == 10
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 4
    (some,) = sequence.frames.at([7])
    np.testing.assert_array_equal(some.image, frames[7].image)


def test_h264_that_begins_between_key_frames_loses_frames_with_a_word(tmp_path: Path) -> None:
    log = Log()
    packets = h264(pictures(10))[2:]  # x264 begins with two key frames
    key = next(i for i, packet in enumerate(packets) if packet[:5].hex() == "0000000167")
    assert key > 0
    for i, packet in enumerate(packets):
        log.add("/video", "foxglove_msgs/CompressedVideo", START + i * STEP, format="h264",
                data=np.frombuffer(packet, np.uint8))  # fmt: skip
    (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    with pytest.warns(EgodepthWarning, match=f"{key} of 8 frames cannot be decoded"):
        frames = list(sequence.frames.at())
    assert [f.number for f in frames] == list(range(key, 8))


@pytest.mark.parametrize("kind", ["ros1.bag", "single.mcap"])
@pytest.mark.parametrize(
    ("model", "values"),
    [("plumb_bob", [-0.2, 0.05, 0.001, -0.001, 0.0]),
     ("rational_polynomial", [-0.2, 0.05, 0.001, -0.001, 0.0, 0.01, 0.0, 0.0]),
     ("equidistant", [0.05, -0.01, 0.002, 0.0]),
     ("kannala_brandt", [0.05, -0.01, 0.002, 0.0])],
)  # fmt: skip
def test_lenses_are_undistorted(kind: str, model: str, values: list[float], tmp_path: Path) -> None:
    log = Log(ros_of(kind))
    log.add_image(START, PLAIN)
    log.add_camera(START, (40, 64), 50.0, values, model)
    (sequence,) = egodepth.read_source(log.write(tmp_path, kind))
    (frame,) = sequence.frames.at()
    assert sequence.camera is not None
    new = sequence.camera.matrix.double().numpy()
    old = np.array([[50, 0, 31.5], [0, 50, 19.5], [0, 0, 1.0]])
    undistort = (
        cv2.fisheye.initUndistortRectifyMap
        if model in ("equidistant", "kannala_brandt")
        else cv2.initUndistortRectifyMap
    )
    maps = undistort(old, np.array(values), np.eye(3), new, (64, 40), cv2.CV_32FC1)
    wanted = cv2.remap(PLAIN, *maps, cv2.INTER_LINEAR)
    assert np.abs(frame.image.astype(int) - wanted).max() <= 2
    assert np.abs(frame.image.astype(int) - PLAIN).max() > 2


def test_rectified_images_have_the_camera_of_the_projection(tmp_path: Path) -> None:
    log = Log()
    log.add_image(START, PLAIN, topic="/camera/image_rect")
    log.add_camera(START, (40, 64), 50.0, [-0.2, 0.05, 0.001, -0.001, 0.0])
    (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    assert sequence.camera is not None
    assert sequence.camera.focal_and_centre.tolist() == pytest.approx([45, 45, 31.5, 19.5])
    np.testing.assert_array_equal(next(sequence.frames.at()).image, PLAIN)


def test_an_uncalibrated_camera_is_not_used(tmp_path: Path) -> None:
    log = Log()
    log.add_image(START, PLAIN)
    log.add("/camera/camera_info", "sensor_msgs/CameraInfo", START, height=40, width=64)
    with pytest.warns(EgodepthWarning, match="not calibrated"):
        (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    assert sequence.camera is None


def test_a_camera_of_another_size_is_scaled_with_a_word(tmp_path: Path) -> None:
    log = Log()
    for i in range(3):
        log.add_image(START + i * STEP, np.full((40, 64, 3), 60 * i, np.uint8))
    log.add_camera(START, (80, 128), 100.0)
    path = log.write(tmp_path, "single.mcap")
    with pytest.warns(
        EgodepthWarning, match=r"camera_info is of images of 128x80, these have 64x40"
    ):
        (sequence,) = egodepth.read_source(path)
    assert sequence.camera is not None and float(sequence.camera.matrix[0, 0]) == pytest.approx(50)


def test_several_topics_are_named_and_chosen(tmp_path: Path) -> None:
    log = Log()
    for side, value in (("left", 10), ("right", 200)):
        log.add_image(START, np.full((40, 64, 3), value, np.uint8), topic=f"/{side}/image_raw",
                      frame=f"{side}_optical")  # fmt: skip
        log.add_camera(
            START, (40, 64), value, topic=f"/{side}/camera_info", frame=f"{side}_optical"
        )
    log.add_image(START, np.ones((40, 64), np.uint16), "16UC1", topic="/depth/image_raw")
    path = log.write(tmp_path, "single.mcap")
    with pytest.raises(
        EgodepthError,
        match=r"2 image topics \(/left/image_raw, /right/image_raw\).*#/left/image_raw",
    ):
        egodepth.read_source(path)
    (sequence,) = egodepth.read_source(f"{path}#/right/image_raw")
    assert next(sequence.frames.at()).image.mean() == 200
    assert sequence.camera is not None and float(sequence.camera.matrix[0, 0]) == 200
    (sequence,) = egodepth.read_source(f"{path}#/right/image_raw,/left/camera_info")
    assert sequence.camera is not None and float(sequence.camera.matrix[0, 0]) == 10
    (sequence,) = egodepth.read_source(f"{tmp_path}/*.mcap#/left/image_raw")
    assert next(sequence.frames.at()).image.mean() == 10
    with pytest.raises(EgodepthError, match="no topic '/up/image_raw'"):
        egodepth.read_source(f"{path}#/up/image_raw")


OPTICAL = (-0.5, 0.5, -0.5, 0.5)
"""Quaternion x y z w of an optical frame in a frame with x forward, z up."""


@pytest.mark.parametrize("kind", KINDS)
def test_poses_of_tf(kind: str, tmp_path: Path) -> None:
    log = drive(ros_of(kind))
    log.add_tf(
        START, log.transform(START, "base_link", "camera_optical", (1, 0, 2), OPTICAL), static=True
    )
    for i in range(-1, 5):
        stamp = START + i * STEP + STEP // 2  # between the images
        log.add_tf(stamp, log.transform(stamp, "odom", "base_link", (i + 0.5, 0, 0)),
                   log.transform(stamp, "map", "odom", (0, 10, 0)))  # fmt: skip
    (sequence,) = egodepth.read_source(log.write(tmp_path, kind))
    poses = sequence.world_from_camera
    assert poses is not None
    np.testing.assert_allclose(poses[:, :3, 3], [(i + 1, 10, 2) for i in range(4)], atol=1e-6)
    np.testing.assert_allclose(poses[2, :3, :3], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-9)


def test_tf_turns_between_stamps_and_has_gaps(tmp_path: Path) -> None:
    log = drive(images=pictures(5))
    for stamp, angle in ((START, 0.0), (START + 2 * STEP, 0.4), (START + 40 * STEP, 0.5)):
        quaternion = (0, 0, np.sin(angle / 2), np.cos(angle / 2))
        log.add_tf(stamp, log.transform(stamp, "map", "camera_optical", (0, 0, 0), quaternion))
    (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    poses = sequence.world_from_camera
    assert poses is not None
    assert np.arctan2(poses[1, 1, 0], poses[1, 0, 0]) == pytest.approx(0.2)
    assert np.isnan(poses[3:]).all()


def test_a_frame_with_the_axes_of_its_body_gives_no_poses(tmp_path: Path) -> None:
    log = drive()
    log.add_tf(START, log.transform(START, "base_link", "camera_optical", (1, 0, 2)), static=True)
    for i in range(-1, 5):
        stamp = START + i * STEP
        log.add_tf(stamp, log.transform(stamp, "odom", "base_link", (i, 0, 0)))
    with pytest.warns(EgodepthWarning, match="REP 103"):
        (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    assert sequence.world_from_camera is None


def add_odometry(log: Log, kind: str = "nav_msgs/Odometry") -> None:
    for i in range(4):
        pose = log.pose((i, 0, 0))
        if kind.endswith("Odometry"):
            if kind == "nav_msgs/Odometry":
                pose = log.make("geometry_msgs/PoseWithCovariance", pose=pose)
            log.add(
                "/odom", kind, START + i * STEP, frame="odom", child_frame_id="base_link", pose=pose
            )
        else:
            log.add("/pose", kind, START + i * STEP, frame="map", pose=pose)


@pytest.mark.parametrize("kind", ["nav_msgs/Odometry", "foxglove_msgs/Odometry"])
def test_poses_of_odometry_need_the_mount_of_the_camera(kind: str, tmp_path: Path) -> None:
    log = drive()
    add_odometry(log, kind)
    with pytest.warns(EgodepthWarning, match="no static transform leads from the body of /odom"):
        (sequence,) = egodepth.read_source(log.write(tmp_path / "1", "single.mcap"))
    assert sequence.world_from_camera is None
    log.add_tf(START, log.transform(START, "base_link", "mast", (1, 0, 0)), static=True)
    log.add_tf(
        START, log.transform(START, "mast", "camera_optical", (0, 0, 2), OPTICAL), static=True
    )
    (sequence,) = egodepth.read_source(log.write(tmp_path / "2", "single.mcap"))
    poses = sequence.world_from_camera
    assert poses is not None
    np.testing.assert_allclose(poses[:, :3, 3], [(i + 1, 0, 2) for i in range(4)], atol=1e-6)


def test_poses_that_are_named_are_the_cameras(tmp_path: Path) -> None:
    log = drive()
    add_odometry(log, "geometry_msgs/PoseStamped")
    path = log.write(tmp_path, "single.mcap")
    with pytest.warns(EgodepthWarning, match="optical frame"):
        (sequence,) = egodepth.read_source(f"{path}#/camera/image_raw,/pose")
    assert sequence.world_from_camera is not None
    assert sequence.world_from_camera[3, 0, 3] == pytest.approx(3)


@pytest.mark.parametrize("kind", KINDS)
def test_positions_of_a_receiver_have_the_clock_of_the_images(kind: str, tmp_path: Path) -> None:
    log = drive(ros_of(kind))
    for i in range(4):
        status = log.make("sensor_msgs/NavSatStatus", status=-1 if i == 2 else 0)
        log.add("/fix", "sensor_msgs/NavSatFix", START + i * 10**9 + 5 * 10**8, status=status,
                latitude=48 + i * 1e-4, longitude=11.0)  # fmt: skip
    with pytest.warns(EgodepthWarning, match="1 of 4 positions"):
        moments, places = read_gps(log.write(tmp_path, kind), START / 1e9)
    np.testing.assert_allclose(moments, [0.5, 1.5, 3.5], atol=1e-5)
    np.testing.assert_allclose(places[:, 1], [0, 11.13, 33.4], atol=0.1)


def test_stamps(tmp_path: Path) -> None:
    log = Log()
    for stamp in (2, 1, 1, 3):  # late, and twice
        log.add_image(START + stamp * STEP, np.full((40, 64, 3), 10 * stamp, np.uint8))
    with pytest.warns(EgodepthWarning, match="1 images have the header stamp of another"):
        (sequence,) = egodepth.read_source(log.write(tmp_path / "a", "single.mcap"))
    assert [int(f.image.mean()) for f in sequence.frames.at()] == [10, 20, 30]
    log = Log()
    log.messages = [(t, k, START + i, m) for i, (t, k, _, m) in enumerate(drive().messages[::2])]
    for *_, message in log.messages:
        message.header.stamp.sec = message.header.stamp.nanosec = 0
    with pytest.warns(EgodepthWarning, match="headers have no stamps"):
        (sequence,) = egodepth.read_source(log.write(tmp_path / "b", "single.mcap"))
    assert sequence.frames.times[0] == pytest.approx(START / 1e9)
    log = drive()
    log.messages = [(t, k, START + i, m) for i, (t, k, _, m) in enumerate(log.messages)]
    log.messages[0][3].header.stamp.sec += 100
    with pytest.raises(EgodepthError, match=r"jump back by 99\.9 s at image 1"):
        egodepth.read_source(log.write(tmp_path / "c", "single.mcap"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "no_messages"])
def test_broken_recordings_end_in_one_line(kind: str, damage: str, tmp_path: Path) -> None:
    log = drive(ros_of(kind), pictures(40))
    if damage == "no_messages":
        log.messages = []
    path = log.write(tmp_path, kind)
    file = path if path.is_file() else next(p for p in path.iterdir() if p.suffix != ".yaml")
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    changed = {"empty": b"", "half": content[: len(content) // 2], "no_messages": content,
               "noise": rng.bytes(len(content))}  # fmt: skip
    file.write_bytes(changed[damage])
    with pytest.raises(EgodepthError) as error:
        (sequence,) = egodepth.read_source(path)
        list(sequence.frames.at())
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_names_may_hold_what_is_special_in_addresses(tmp_path: Path) -> None:
    written = drive().write(tmp_path, "ros2_sqlite")
    for name in ("a?b#c%20d", "a#", os.fsdecode(b"a\xff\n")):
        bag = written.rename(tmp_path / name)
        (tmp_path / "single").mkdir(exist_ok=True)
        single = shutil.copy(next(bag.glob("*.db3")), tmp_path / "single" / f"{name}.db3")
        for source in (bag, single, f"{single}#/camera/image_raw"):
            (sequence,) = egodepth.read_source(str(source))
            assert [f.image.shape for f in sequence.frames.at()] == [(40, 64, 3)] * 4
        written = bag


def test_a_recording_without_images_says_what_it_holds(tmp_path: Path) -> None:
    log = Log()
    log.add("/fix", "sensor_msgs/NavSatFix", START)
    with pytest.raises(
        EgodepthError, match=r"no image topic; it holds /fix \(sensor_msgs/NavSatFix\)"
    ):
        egodepth.read_source(log.write(tmp_path, "single.mcap"))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    log = Log()
    log.add_image(START, PLAIN, "nv21")
    with pytest.raises(EgodepthError, match="encoded as 'nv21'"):
        egodepth.read_source(log.write(tmp_path / "a", "single.mcap"))
    log = Log()
    log.add_image(START, PLAIN)
    log.add_camera(START, (40, 64), 50.0, [0.1, 0.2, 0.1, 0.1, 0.1], "double_sphere")
    with pytest.raises(EgodepthError, match=r"camera_info.*double_sphere"):
        egodepth.read_source(log.write(tmp_path / "b", "single.mcap"))
    log = Log()
    log.add_image(START, PLAIN)
    log.messages[0][3].data = log.messages[0][3].data[:100]
    with pytest.raises(EgodepthError, match="has 100 bytes"):
        egodepth.read_source(log.write(tmp_path / "c", "single.mcap"))
    folder = tmp_path / "several"
    for name in "ab":
        drive().write(folder, "single.mcap").rename(folder / f"{name}.mcap")
        (folder / "single").joinpath("metadata.yaml").unlink()
        (folder / "single").rmdir()
    with pytest.raises(EgodepthError, match=r"name a file, as .*a\.mcap, or all of them"):
        egodepth.read_source(folder)


def test_poses_that_cannot_be_are_left_out_with_a_word(tmp_path: Path) -> None:
    log = drive()
    odd = [((np.nan, 0, 0), (0, 0, 0, 1)), ((1e300, 0, 0), (0, 0, 0, 1)), ((1, 0, 0), (0, 0, 0, 0)),
           ((1, 0, 0), (0, 0, 0, 7.5))]  # fmt: skip
    for i in range(4):
        stamp = START + i * STEP
        log.add_tf(stamp, log.transform(stamp, "map", "camera_optical", (i, 0, 0)))
    for i, (position, quaternion) in enumerate(odd):
        moved = log.transform(START + 10 * i, "map", "other", position, quaternion)
        log.add_tf(START + 10 * i, moved)
    with pytest.warns(EgodepthWarning, match="4 of 8 poses and transforms are left out"):
        (sequence,) = egodepth.read_source(log.write(tmp_path, "single.mcap"))
    assert sequence.world_from_camera is not None


@pytest.mark.parametrize("kind", ["ros1.bag", "single.mcap"])
def test_chunks_that_unpack_to_gigabytes_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drive(ros_of(kind)).write(tmp_path, kind)
    if kind == "ros1.bag":
        path.unlink()
        writer = Writer1(path)
        writer.set_compression(Writer1.CompressionFormat.BZ2)
        with writer:
            drive(1)._fill(writer)
    (sequence,) = egodepth.read_source(path)
    assert len(list(sequence.frames.at())) == 4
    monkeypatch.setattr(chunks, "MAX_CHUNK", 5000)
    with pytest.raises(EgodepthError, match=r"has a chunk .*of .* GB"):
        egodepth.read_source(path)
