"""Writes depth, clouds and the trajectory as MCAP files, for robots and Foxglove."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import atomic_path
from egodepth.data.footage.robot_logs.recording import require_robotics
from egodepth.data.sequence import Sequence, frame_stamps
from egodepth.geometry.camera import Camera
from egodepth.inference.export.ros_messages import (
    BODY,
    BODY_FROM_OPTICAL,
    ODOM,
    OPTICAL,
    DepthEncoding,
    FoxgloveMessages,
    RosMessages,
    cloud_grid,
    odom_from_body,
)
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.inference.predict import FramePrediction
from egodepth.runs.unit import Unit

RobotLog = Literal["mcap", "mcap-mm", "foxglove"]


class _Form(NamedTuple):
    ending: str
    builder: type[RosMessages]
    encoding: DepthEncoding


ROBOT_LOGS: dict[RobotLog, _Form] = {
    "mcap": _Form(".mcap", RosMessages, "32FC1"),
    "mcap-mm": _Form("_mm.mcap", RosMessages, "16UC1"),
    "foxglove": _Form("_foxglove.mcap", FoxgloveMessages, "32FC1"),
}
"""Endings of the files' names, schemas and encodings of depth."""
DEPTH_TOPIC, CAMERA_TOPIC, CLOUD_TOPIC, PATH_TOPIC = (
    f"/egodepth/{name}" for name in ("depth/image", "depth/camera_info", "points", "path")
)
_TIME = "builtin_interfaces/Time timestamp\n"
_FOXGLOVE = {
    "PackedElementField": "string name\nuint32 offset\nuint8 type\n",
    "RawImage": _TIME + "string frame_id\nuint32 width\nuint32 height\nstring encoding\n"
    "uint32 step\nuint8[] data\n",
    "CameraCalibration": _TIME + "string frame_id\nuint32 width\nuint32 height\n"
    "string distortion_model\nfloat64[] d\nfloat64[9] k\nfloat64[9] r\nfloat64[12] p\n",
    "PointCloud": _TIME + "string frame_id\ngeometry_msgs/Pose pose\nuint32 point_stride\n"
    "foxglove_msgs/PackedElementField[] fields\nuint8[] data\n",
    "FrameTransform": _TIME + "string parent_frame_id\nstring child_frame_id\n"
    "geometry_msgs/Vector3 translation\ngeometry_msgs/Quaternion rotation\n",
    "PosesInFrame": _TIME + "string frame_id\ngeometry_msgs/Pose[] poses\n",
}
"""Foxglove's schemas as ROS 2 messages, with the names of the package foxglove_msgs (lower case, as in all of
ROS 2; in Protobuf the matrices are D, K, R and P)."""


def check_robot_log(form: RobotLog, unit: Unit) -> None:
    """Check in advance that a log of some form can be written, and warn if its lengths are no metres.

    Raises:
        EgodepthError: the packages of ``egodepth[robotics]`` are missing, or millimetres of an unknown unit.
    """
    require_robotics("MCAP files")
    if unit.metres is None and ROBOT_LOGS[form].encoding == "16UC1":
        raise EgodepthError(
            f"{form} holds millimetres, and lengths are in {unit}, of unknown size; give a known length "
            "(--camera_height, --speed, --gps or --distance), or write mcap"
        )
    if unit.metres is None:
        warnings.warn(
            f"lengths in the {form} file are in {unit}, whose size is unknown, where ROS expects metres; give "
            "a known length (--camera_height, --speed, --gps or --distance)",
            EgodepthWarning,
            stacklevel=3,
        )


def write_depth_log(
    predictions: Iterable[FramePrediction],
    path: Path,
    sequence: Sequence,
    unit: Unit,
    form: RobotLog = "mcap",
) -> Iterator[FramePrediction]:
    """Write predictions as an MCAP file while they come, and pass them on; it appears when it is complete.

    Topics: ``/egodepth/depth/image``, ``/egodepth/depth/camera_info``, ``/egodepth/points``,
    ``/egodepth/path``, ``/tf`` and ``/tf_static``, see :mod:`.ros_messages`. Header stamps are the footage's
    times.

    Args:
        predictions: from :func:`egodepth.predict_sequence`, with the same unit.
        path: of the file.
        sequence: footage, as opened by ``Run.open``.
        unit: of the lengths; recorded as metadata.
        form: ``mcap`` for ROS 2 with 32FC1, ``mcap-mm`` with 16UC1 in millimetres, ``foxglove`` for Foxglove's
            schemas.

    Raises:
        EgodepthError: see :func:`check_robot_log`, or a file that cannot be written.
    """
    check_robot_log(form, unit)
    stamps = _stamps(sequence)
    with _LogWriter(path, form, unit) as log:
        for prediction in predictions:
            frame, depth, pose = prediction
            stamp = stamps[frame.number]
            log.write_depth(stamp, depth, frame.image, sequence.camera)
            if pose is not None:
                log.write_pose(stamp, pose)
            yield prediction


def write_trajectory_log(
    found: Trajectory, path: Path, sequence: Sequence, form: RobotLog = "mcap"
) -> None:
    """Write a trajectory as an MCAP file: ``/egodepth/path``, ``/tf`` and ``/tf_static``.

    Args:
        found: the trajectory; frames without a pose are left out.
        path: of the file.
        sequence: its footage.
        form: as in :func:`write_depth_log`.

    Raises:
        EgodepthError: see :func:`check_robot_log`, or a file that cannot be written.
    """
    check_robot_log(form, found.unit)
    stamps = _stamps(sequence)
    with _LogWriter(path, form, found.unit) as log:
        for number, pose in zip(found.numbers, found.first_from_frame, strict=True):
            if np.isfinite(pose).all():
                log.write_pose(stamps[number], pose)


def _stamps(sequence: Sequence) -> dict[int, int]:
    stamps = frame_stamps(sequence.frames)
    if stamps is not None:
        return stamps
    from egodepth.core.video import DEFAULT_RATE  # needs PyAV, which most footage does without

    warnings.warn(
        f"{sequence.name} has no times: the header stamps are those of {DEFAULT_RATE:g} frames per second; "
        "give its own with --fps",
        EgodepthWarning,
        stacklevel=3,
    )
    return {number: round(number / DEFAULT_RATE * 1e9) for number in sequence.frames.numbers}


class _LogWriter:
    """Context manager that writes an MCAP file; it appears under its name when it is complete."""

    def __init__(self, path: Path, form: RobotLog, unit: Unit):
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        self.path, self.unit = path, unit
        self._store: Any = get_typestore(Stores.ROS2_HUMBLE)
        for name, text in _FOXGLOVE.items():
            self._store.register(get_types_from_msg(text, f"foxglove_msgs/msg/{name}"))
        self._encoding = ROBOT_LOGS[form].encoding
        self._build = ROBOT_LOGS[form].builder(self._make)
        self._channels: dict[str, int] = {}
        self._stamps: list[int] = []
        self._poses: list[np.ndarray] = []
        self._stack, self._mounted = ExitStack(), False

    def __enter__(self) -> Self:
        from mcap.writer import Writer

        partial = self._stack.enter_context(atomic_path(self.path))
        self._writer: Any = Writer(self._stack.enter_context(partial.open("wb")))
        self._writer.start(profile="ros2", library="egodepth")
        metres = "unknown" if self.unit.metres is None else f"{self.unit.metres:.9g}"
        self._writer.add_metadata("egodepth", {"unit": self.unit.text, "metres_per_unit": metres})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            if error is not None:
                raise error
            if self._poses:
                self._add(self._stamps[-1], PATH_TOPIC, self._build.path(self._stamps, self._poses))
            self._writer.finish()

    def write_depth(
        self, stamp: int, depth: np.ndarray, image: np.ndarray, camera: Camera | None
    ) -> None:
        """Write a frame's depth (H, W) and, with a camera, its camera and cloud."""
        self._mount(stamp)
        self._add(stamp, DEPTH_TOPIC, self._build.depth(stamp, depth, self._encoding))
        if camera is not None:
            camera = camera.resize(*depth.shape)
            self._add(stamp, CAMERA_TOPIC, self._build.camera(stamp, camera))
            cloud = self._build.cloud(stamp, *cloud_grid(depth, image, camera))
            self._add(stamp, CLOUD_TOPIC, cloud)

    def write_pose(self, stamp: int, first_from_frame: np.ndarray) -> None:
        """Write a camera's pose, and keep it for the path."""
        self._mount(stamp)
        pose = odom_from_body(first_from_frame)
        self._stamps.append(stamp)
        self._poses.append(pose)
        self._add(stamp, "/tf", self._build.transform(stamp, ODOM, BODY, pose))

    def _mount(self, stamp: int) -> None:
        if not self._mounted:
            self._mounted = True
            mounted = self._build.transform(stamp, BODY, OPTICAL, BODY_FROM_OPTICAL)
            self._add(stamp, "/tf_static", mounted)

    def _make(self, kind: str, **values: Any) -> Any:
        return self._store.types[kind.replace("/", "/msg/")](**values)

    def _add(self, stamp: int, topic: str, message: tuple[str, Any]) -> None:
        kind, content = message[0].replace("/", "/msg/"), message[1]
        if topic not in self._channels:
            text, _ = self._store.generate_msgdef(kind, ros_version=2)
            schema = self._writer.register_schema(kind, "ros2msg", text.encode())
            self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)
        data = bytes(self._store.serialize_cdr(content, kind))
        self._writer.add_message(self._channels[topic], stamp, data, stamp)
