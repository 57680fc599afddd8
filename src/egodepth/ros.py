"""A ROS 2 node that publishes depth, clouds and odometry of a camera.

What the node does with messages needs no ROS (:class:`DepthNode`); :func:`serve` connects it by rclpy.
"""

import array
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.progress import note
from egodepth.data.footage.robot_logs.pictures import read_picture_message
from egodepth.data.footage.robot_logs.reader import calibration_of
from egodepth.data.footage.robot_logs.recording import frame_of, stamp_of
from egodepth.data.pixels import ValueRange
from egodepth.data.sequence import Frame
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Undistortion
from egodepth.inference.export.ros_messages import (
    BODY_FROM_OPTICAL,
    OPTICAL,
    RosMessages,
    cloud_grid,
)
from egodepth.inference.odometry.tracker import FrameMotion, Odometry, OdometrySettings
from egodepth.inference.steady_run import SteadyRun
from egodepth.runs.run import Run
from egodepth.runs.unit import Unit

DEPTH, CAMERA, CLOUD, ODOMETRY = "depth/image", "depth/camera_info", "points", "odometry"
"""Topics in the node's namespace."""


class DepthNode:
    """Answers images with depth, and, once their camera is known, with its camera, cloud and odometry.

    Attributes:
        images: number of images that were answered.
    """

    def __init__(
        self,
        run: Run,
        build: RosMessages,
        publish: Callable[[str, Any], None],
        *,
        unit: Unit | None = None,
        odometry: bool = True,
        steady: bool = False,
        complain: Callable[[str], None] = note,
        topic: str = "/camera/image_raw",
    ):
        """Start before the first message.

        Args:
            run: trained networks.
            build: builds messages.
            publish: publishes a message on a topic, relative to the node's namespace.
            unit: of the lengths; by default the run's.
            odometry: whether to publish odometry.
            steady: filter depth along the camera's motion once the camera is known, see
                :class:`egodepth.inference.steady.SteadyDepth`.
            complain: told once, in a line, of each thing that is wrong.
            topic: of the images, for messages.
        """
        self.run, self.images, self._topic = run, 0, topic
        self._build, self._publish, self._complain = build, publish, complain
        self._unit, self._odometry = unit or run.unit, odometry
        self._keep_steady = steady
        self._told: set[str] = set()
        self._info: Any = None
        self._camera: Camera | None = None
        self._change: Undistortion | None = None
        self._tracker: Odometry | None = None
        self._steady: SteadyRun | None = None
        self._size: tuple[int, int] | None = None
        if self._unit.metres is None:
            self._tell(f"depth is in {self._unit}, whose size in metres is unknown")

    def on_camera(self, message: Any) -> None:
        """Take a camera_info; the first that is calibrated counts."""
        if self._info is None and any(getattr(message, "k", ())):
            self._info, self._size = message, None

    def on_image(self, message: Any) -> None:
        """Answer an image; one that is wrong is left out, with a word."""
        try:
            self._answer(message)
        except EgodepthError as error:
            self._tell(str(error))
        except Exception as error:  # whatever a decoder raises for broken data
            self._tell(f"an image of {self._topic} is broken: {error}")

    def _answer(self, message: Any) -> None:
        image = read_picture_message(message)
        image = image if image.dtype == np.uint8 else ValueRange.of([image])(image)
        if image.shape[:2] != self._size:
            self._set_up(image.shape[0], image.shape[1])
        image = image if self._change is None else self._change(image)
        stamp = stamp_of(message)
        self._build.optical = frame_of(message) or OPTICAL
        frame = Frame(self.images, stamp / 1e9, image)
        depth = self._depth(frame) * np.float32(self._unit.factor)
        self._publish(DEPTH, self._build.depth(stamp, depth, "32FC1")[1])
        if self._camera is not None:
            self._publish(CAMERA, self._build.camera(stamp, self._camera)[1])
            points = cloud_grid(depth, image, self._camera)
            self._publish(CLOUD, self._build.cloud(stamp, *points)[1])
        motion = self._motion(frame) if self._odometry else None
        if motion is not None:
            if motion.trusted:
                pose = motion.world_from_camera.copy()
                pose[:3, 3] *= self._unit.factor
                self._publish(ODOMETRY, self._build.odometry(stamp, BODY_FROM_OPTICAL @ pose)[1])
            else:
                self._tell("tracking is lost in some images, and goes on from the last known place")
        self.images += 1

    def _depth(self, frame: Frame) -> np.ndarray:
        if self._steady is None:
            return self.run.depth(frame.image)
        height, width = frame.image.shape[:2]
        return self._steady.maps(frame, self.run.prepare(frame.image), (height, width))[0]

    def _motion(self, frame: Frame) -> FrameMotion | None:
        if self._steady is not None:
            return self._steady.motion
        return None if self._tracker is None else self._tracker.track(frame)

    def _set_up(self, height: int, width: int) -> None:
        """Prepare for images of a size, and for the camera that is known by now."""
        self._size, self._tracker, self._steady = (height, width), None, None
        if self._info is None:
            self._change = self.run.undistortion(height, width, self._topic)
            self._camera = None if self._change is None else self._change.camera
            return
        calibration = calibration_of("ROS", self._topic, "/camera_info", [self._info])
        assert calibration is not None
        fitted = calibration.at_size(height, width, self._topic)
        lens = fitted.lens
        self._change = None if lens is None else Undistortion(fitted.camera, lens)
        self._camera = fitted.camera if self._change is None else self._change.camera
        if self._keep_steady:
            self._steady = SteadyRun(self.run, self._camera)
        elif self._odometry:
            # A node may run for days, and its poses cannot be corrected after they are published.
            self._tracker = Odometry(self.run, self._camera, OdometrySettings(loops=False))

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._complain(text)


def require_rclpy() -> Any:
    """Import rclpy.

    Raises:
        EgodepthError: it is not installed.
    """
    try:
        return import_module("rclpy")
    except ImportError as error:
        raise EgodepthError(
            "egodepth ros needs rclpy, which comes with ROS 2 and not by pip; run it where ROS 2 is set up, as "
            "after: source /opt/ros/humble/setup.bash"
        ) from error


def message_of_rclpy(kind: str, **values: Any) -> Any:
    """Make a message of ROS's Python packages, which take no NumPy arrays of bytes."""
    package, name = kind.split("/")
    plain = {
        key: value if not isinstance(value, np.ndarray)
        else array.array("B", value.tobytes()) if value.dtype == np.uint8 else value.tolist()
        for key, value in values.items()
    }  # fmt: skip
    return getattr(import_module(f"{package}.msg"), name)(**plain)


def serve(
    run: Run,
    image: str,
    camera_info: str,
    *,
    unit: Unit | None,
    odometry: bool,
    steady: bool = False,
) -> None:
    """Run the node ``egodepth`` until ROS or Ctrl-C ends it.

    Args:
        run: trained networks.
        image: topic of images; ``sensor_msgs/CompressedImage`` if it ends in ``compressed``.
        camera_info: topic of their camera.
        unit: of the lengths; the run's if None.
        odometry, steady: see :class:`DepthNode`.

    Raises:
        EgodepthError: rclpy is not installed.
    """
    rclpy = require_rclpy()
    sensor, navigation = import_module("sensor_msgs.msg"), import_module("nav_msgs.msg")
    newest = import_module("rclpy.qos").qos_profile_sensor_data
    newest.depth = 1  # images that arrive while one is answered are left out
    rclpy.init()
    node = rclpy.create_node("egodepth")
    try:
        kinds = {DEPTH: sensor.Image, CAMERA: sensor.CameraInfo, CLOUD: sensor.PointCloud2,
                 ODOMETRY: navigation.Odometry}  # fmt: skip
        publishers = {t: node.create_publisher(kind, f"~/{t}", 1) for t, kind in kinds.items()}
        answering = DepthNode(
            run, RosMessages(message_of_rclpy), lambda topic, m: publishers[topic].publish(m),
            unit=unit, odometry=odometry, steady=steady, complain=node.get_logger().warning, topic=image,
        )  # fmt: skip
        kind = sensor.CompressedImage if image.endswith("compressed") else sensor.Image
        node.create_subscription(kind, image, answering.on_image, newest)
        node.create_subscription(sensor.CameraInfo, camera_info, answering.on_camera, newest)
        rclpy.spin(node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
