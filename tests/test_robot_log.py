"""MCAP files that egodepth writes, read back by rosbags; and the node, without ROS."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rosbags")
pytest.importorskip("mcap")

from rosbags.highlevel import AnyReader
from scipy.spatial.transform import Rotation
from tests.conftest import write_images
from tests.robot_logs import START, STEP, Log

import egodepth
from egodepth.cli import main
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.sequence import Frame
from egodepth.data.synthetic.street import read_street
from egodepth.geometry.camera import Camera
from egodepth.inference.export.robot_log import write_depth_log, write_trajectory_log
from egodepth.inference.export.ros_messages import RosMessages
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.inference.predict import FramePrediction
from egodepth.inference.steady_run import SteadyRun
from egodepth.ros import DepthNode
from egodepth.runs.run import Run
from egodepth.runs.unit import OWN_UNIT, Unit

METRES = Unit(1.0, "metres, by a stereo rig")


def read(path: Path) -> list[tuple[str, int, Any]]:
    """Topic, time and content of all messages, by rosbags."""
    with AnyReader([path]) as reader:
        return [(c.topic, t, reader.deserialize(raw, c.msgtype)) for c, t, raw in reader.messages()]


def recorded(folder: Path, count: int = 3) -> Any:
    log = Log()
    rng = np.random.default_rng(0)
    for i in range(count):
        log.add_image(START + i * STEP, rng.integers(0, 255, (40, 80, 3), dtype=np.uint8))
        log.add_camera(START + i * STEP, (40, 80), 60.0)
    return egodepth.read_source(log.write(folder, "single.mcap"))[0]


def predictions(sequence: Any) -> list[FramePrediction]:
    """Depth of a slope, and a camera that moves forward and turns to the right."""
    made = []
    for i, frame in enumerate(sequence.frames.at()):
        depth = (2 + i + np.arange(80)[None] / 80 + np.zeros((40, 1))).astype(np.float32)
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("y", 0.1 * i).as_matrix()
        pose[:3, 3] = (0, 0, i)
        made.append(FramePrediction(frame, depth, pose))
    return made


def stamp(header: Any) -> int:
    time = getattr(header, "stamp", None) or header.timestamp
    return time.sec * 10**9 + time.nanosec


@pytest.mark.parametrize("form", ["mcap", "mcap-mm"])
def test_depth_is_read_back_message_by_message(form: Any, tmp_path: Path) -> None:
    sequence = recorded(tmp_path / "in")
    made = predictions(sequence)
    path = tmp_path / "depth.mcap"
    assert len(list(write_depth_log(made, path, sequence, METRES, form))) == 3
    messages = read(path)
    by_topic: dict[str, list[Any]] = {}
    for topic, time, content in messages:
        by_topic.setdefault(topic, []).append((time, content))
    assert {t: len(m) for t, m in by_topic.items()} == {
        "/egodepth/depth/image": 3, "/egodepth/depth/camera_info": 3, "/egodepth/points": 3, "/tf": 3,
        "/tf_static": 1, "/egodepth/path": 1,
    }  # fmt: skip
    for i, (time, image) in enumerate(by_topic["/egodepth/depth/image"]):
        assert time == stamp(image.header) == START + i * STEP
        assert image.header.frame_id == "camera_optical_frame"
        if form == "mcap":
            assert image.encoding == "32FC1"
            np.testing.assert_array_equal(image.data.view("<f4").reshape(40, 80), made[i].depth)
        else:
            assert image.encoding == "16UC1"
            mm = image.data.view("<u2").reshape(40, 80)
            assert np.abs(mm / 1000 - made[i].depth).max() <= 0.00051
    _, info = by_topic["/egodepth/depth/camera_info"][1]
    np.testing.assert_allclose(info.k, [60, 0, 39.5, 0, 60, 19.5, 0, 0, 1])
    assert (info.width, info.height, stamp(info.header)) == (80, 40, START + STEP)
    _, cloud = by_topic["/egodepth/points"][0]
    rows = cloud.data.view([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")]).reshape(
        40, 80
    )
    z = made[0].depth[7, 70]
    assert (rows["x"][7, 70], rows["z"][7, 70]) == (pytest.approx((70 - 39.5) / 60 * z), z)
    red, green, blue = (int(v) for v in made[0].frame.image[7, 70])
    assert rows["rgb"][7, 70] == red << 16 | green << 8 | blue


def test_frames_follow_rep_103(tmp_path: Path) -> None:
    sequence = recorded(tmp_path / "in")
    path = tmp_path / "depth.mcap"
    list(write_depth_log(predictions(sequence), path, sequence, METRES))
    messages = read(path)
    moves = [m.transforms[0] for topic, _, m in messages if topic == "/tf"]
    (mount,) = [m.transforms[0] for topic, _, m in messages if topic == "/tf_static"]
    assert [(t.header.frame_id, t.child_frame_id) for t in (moves[0], mount)] == [
        ("odom", "camera_link"), ("camera_link", "camera_optical_frame"),
    ]  # fmt: skip
    q = mount.transform.rotation
    turned = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    np.testing.assert_allclose(turned @ [0, 0, 1], [1, 0, 0], atol=1e-9)  # ahead
    np.testing.assert_allclose(turned @ [0, 1, 0], [0, 0, -1], atol=1e-9)  # down
    last = moves[2].transform
    assert (last.translation.x, last.translation.y) == (pytest.approx(2), pytest.approx(0))
    turn = Rotation.from_quat([getattr(last.rotation, n) for n in "xyzw"]).as_rotvec()
    np.testing.assert_allclose(turn, [0, 0, -0.2], atol=1e-9)  # to the right
    (track,) = [m for topic, _, m in messages if topic == "/egodepth/path"]
    assert [stamp(p.header) for p in track.poses] == [START + i * STEP for i in range(3)]
    assert [p.pose.position.x for p in track.poses] == pytest.approx([0, 1, 2])


FOXGLOVE_FIELDS = {
    "RawImage": "timestamp frame_id width height encoding step data",
    "CameraCalibration": "timestamp frame_id width height distortion_model d k r p",
    "PointCloud": "timestamp frame_id pose point_stride fields data",
    "PosesInFrame": "timestamp frame_id poses",
    "FrameTransform": "timestamp parent_frame_id child_frame_id translation rotation",
}
"""Fields of foxglove_msgs for ROS 2 (schemas/ros2 in foxglove-sdk), in their order."""


def test_foxglove_schemas(tmp_path: Path) -> None:
    sequence = recorded(tmp_path / "in")
    path = tmp_path / "depth.mcap"
    made = predictions(sequence)
    list(write_depth_log(made, path, sequence, METRES, "foxglove"))
    found = {topic: m for topic, _, m in read(path)}
    assert {topic: m.__msgtype__.rsplit("/", 1)[-1] for topic, m in found.items()} == {
        "/egodepth/depth/image": "RawImage", "/egodepth/depth/camera_info": "CameraCalibration",
        "/egodepth/points": "PointCloud", "/egodepth/path": "PosesInFrame", "/tf": "FrameTransform",
        "/tf_static": "FrameTransform",
    }  # fmt: skip
    for message in found.values():
        name = message.__msgtype__.rsplit("/", 1)[-1]
        fields = [n for n in message.__dataclass_fields__ if n != "__msgtype__"]
        assert fields == FOXGLOVE_FIELDS[name].split()
    camera = found["/egodepth/depth/camera_info"]
    np.testing.assert_allclose(camera.k, [60, 0, 39.5, 0, 60, 19.5, 0, 0, 1])
    image = found["/egodepth/depth/image"]
    assert stamp(image) == START + 2 * STEP
    np.testing.assert_array_equal(image.data.view("<f4").reshape(40, 80), made[2].depth)
    cloud = found["/egodepth/points"]
    assert [f.name for f in cloud.fields] == ["x", "y", "z", "red", "green", "blue", "alpha"]
    assert len(cloud.data) == cloud.point_stride * 40 * 80
    assert found["/tf_static"].child_frame_id == "camera_optical_frame"
    assert len(found["/egodepth/path"].poses) == 3


def test_lengths_that_are_no_metres_are_told(tmp_path: Path) -> None:
    sequence = recorded(tmp_path / "in")
    path = tmp_path / "depth.mcap"
    with pytest.warns(EgodepthWarning, match="whose size is unknown"):
        list(write_depth_log(predictions(sequence), path, sequence, OWN_UNIT))
    with pytest.raises(EgodepthError, match="mcap-mm holds millimetres"):
        list(write_depth_log(predictions(sequence), path, sequence, OWN_UNIT, "mcap-mm"))


def test_what_is_not_finished_leaves_no_file(tmp_path: Path) -> None:
    sequence = recorded(tmp_path / "in")
    path = tmp_path / "out" / "depth.mcap"
    writing = write_depth_log(predictions(sequence), path, sequence, METRES)
    next(writing)
    writing.close()
    assert not list(path.parent.iterdir())


def test_a_trajectory_with_gaps(tmp_path: Path) -> None:
    sequence = recorded(tmp_path / "in")
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1] = np.nan
    write_trajectory_log(Trajectory(poses, [0, 1, 2], None, METRES), tmp_path / "t.mcap", sequence)
    times = [t for topic, t, _ in read(tmp_path / "t.mcap") if topic == "/tf"]
    assert times == [START, START + 2 * STEP]


@pytest.mark.slow
def test_a_recording_gives_the_depth_of_its_images(tiny_run: Path, tmp_path: Path) -> None:
    from PIL import Image

    paths = write_images(tmp_path / "images", 5)
    log = Log()
    for i, path in enumerate(paths):
        log.add_image(START + i * STEP, np.asarray(Image.open(path).convert("RGB")))
    bag = log.write(tmp_path, "ros2_sqlite")
    for source, out in ((tmp_path / "images", "a"), (bag, "b")):
        words = ["predict", str(tiny_run), str(source), "--out", str(tmp_path / out)]
        assert main([*words, "--formats", "npz", "mcap"]) == 0
    for i, path in enumerate(paths):
        a = np.load(tmp_path / "a" / "depth" / f"{path.stem.zfill(10)}.npz")["depth"]
        b = np.load(tmp_path / "b" / "depth" / f"{START + i * STEP}.npz")["depth"]
        np.testing.assert_array_equal(a, b)
    depth = [
        m for topic, _, m in read(tmp_path / "b" / "depth.mcap") if topic == "/egodepth/depth/image"
    ]
    assert [stamp(m.header) for m in depth] == [START + i * STEP for i in range(5)]
    np.testing.assert_array_equal(depth[4].data.view("<f4").reshape(40, 80), b)


@pytest.mark.real_data
def test_kitti_in_a_bag_gives_the_depth_of_its_images(
    tiny_run: Path, data: Path, tmp_path: Path
) -> None:
    (drive,) = [
        s for s in egodepth.read_source(f"kitti_raw:{data / 'kitti_raw'}") if s.camera_name == "left"
    ]  # fmt: skip
    frames = list(drive.frames.at(range(3)))
    assert drive.camera is not None
    log = Log()
    for i, frame in enumerate(frames):
        log.add_image(START + i * STEP, frame.image)
        height, width = frame.image.shape[:2]
        log.add("/camera/camera_info", "sensor_msgs/CameraInfo", START, height=height, width=width,
                k=drive.camera.matrix.double().numpy().ravel())  # fmt: skip
    run = egodepth.load(str(tiny_run))
    (opened,) = run.open(log.write(tmp_path, "single.mcap"))
    assert opened.camera is not None and torch.allclose(
        opened.camera.matrix.double(), drive.camera.matrix.double()
    )
    for found, frame in zip(egodepth.predict_sequence(run, opened), frames, strict=True):
        # A batch of frames differs from one in its last digit.
        np.testing.assert_allclose(found.depth, run.depth(frame.image), rtol=1e-5)


class FakeRun:
    """Depth by brightness."""

    unit = METRES

    def depth(self, image: np.ndarray) -> np.ndarray:
        return 1 + image[..., 0].astype(np.float32) / 100

    def undistortion(self, height: int, width: int, name: str) -> None:
        return None


def test_callbacks_of_the_node() -> None:
    log = Log()
    image = np.full((40, 80, 3), 50, np.uint8)
    log.add_image(START, image, frame="front_optical")
    log.add_camera(START, (40, 80), 60.0)
    log.add_image(START + STEP, image, "nv21")
    picture, camera, strange = (m for *_, m in log.messages)
    sent: list[tuple[str, Any]] = []
    told: list[str] = []
    run: Any = FakeRun()
    node = DepthNode(run, RosMessages(log.make), lambda t, m: sent.append((t, m)),
                     odometry=False, complain=told.append)  # fmt: skip
    node.on_image(picture)
    assert [t for t, _ in sent] == ["depth/image"]
    node.on_camera(camera)
    node.on_image(strange)
    node.on_image(strange)
    node.on_image(picture)
    assert len(told) == 1 and "nv21" in told[0]
    assert [t for t, _ in sent[1:]] == ["depth/image", "depth/camera_info", "points"]
    depth = sent[1][1]
    assert depth.header.frame_id == "front_optical" and stamp(depth.header) == START
    assert depth.data.view("<f4") == pytest.approx(1.5)
    assert node.images == 2


def test_the_node_keeps_depth_steady(tiny_run: Path) -> None:
    run, log = Run.load(tiny_run, "cpu"), Log()
    images = [frame.image for frame in read_street(3, frames=3).frames.at()]
    height, width = images[0].shape[:2]
    log.add_camera(START, (height, width), 250.0)
    for i, image in enumerate(images):
        log.add_image(START + i * STEP, image)
    sent: list[tuple[str, Any]] = []
    node = DepthNode(run, RosMessages(log.make), lambda t, m: sent.append((t, m)), steady=True)
    camera, *pictures = (m for *_, m in log.messages)
    node.on_camera(camera)
    for picture in pictures:
        node.on_image(picture)
    depth = [m.data.view("<f4") for t, m in sent if t == "depth/image"]
    assert len(depth) == 3 and any(t == "odometry" for t, _ in sent)
    matrix = [[250.0, 0, width / 2 - 0.5], [0, 250.0, height / 2 - 0.5], [0, 0, 1]]
    steady = SteadyRun(run, Camera(torch.tensor(matrix, dtype=torch.float64), height, width))
    frames = [Frame(i, i * STEP / 1e9, image) for i, image in enumerate(images)]
    expected = [steady.maps(f, run.prepare(f.image), (height, width))[0] for f in frames]
    factor = np.float32(run.unit.factor)
    np.testing.assert_allclose(
        np.stack(depth), factor * np.stack(expected).reshape(3, -1), rtol=1e-4
    )


def test_ros_says_what_is_missing(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ros", str(tiny_run)]) != 0
    assert "rclpy" in capsys.readouterr().err
