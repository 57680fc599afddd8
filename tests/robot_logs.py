"""Recordings of robots, as tests make them: by rosbags, whatever reads them."""

from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

START = 1_700_000_000_123_456_789
"""Header stamp of the first image, nanoseconds."""
STEP = 100_000_000
"""Nanoseconds between images."""
DELAY = 7_000_000
"""Nanoseconds after its header stamp at which a message is recorded."""
KINDS = ("ros1.bag", "ros2_sqlite", "ros2_mcap", "single.mcap")
VIDEO = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
ODOMETRY = (
    "builtin_interfaces/Time timestamp\nstring frame_id\nstring child_frame_id\n"
    "geometry_msgs/Pose pose\n"
)
FOXGLOVE = {"foxglove_msgs/CompressedVideo": VIDEO, "foxglove_msgs/Odometry": ODOMETRY}


class Log:
    """Messages of one version of ROS, to be written as a recording."""

    def __init__(self, ros: int = 2):
        self.ros = ros
        self.store = get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_HUMBLE)
        if ros == 1:
            transforms = "geometry_msgs/TransformStamped[] transforms\n"
            self.store.register(get_types_from_msg(transforms, "tf2_msgs/msg/TFMessage"))
        for name, text in FOXGLOVE.items() if ros == 2 else ():
            self.store.register(get_types_from_msg(text, name.replace("/", "/msg/")))
        self.messages: list[tuple[str, str, int, Any]] = []

    def make(self, kind: str, **values: Any) -> Any:
        """A message with some fields, by their names in ROS 2, and all others empty."""
        full = kind.replace("/", "/msg/") if "/msg/" not in kind else kind
        made: dict[str, Any] = {}
        for name, node in self.store.fielddefs[full][1]:
            made[name] = values.get(name.lower()) if name.lower() in values else self._empty(node)
        return self.store.types[full](**made)

    def _empty(self, node: Any) -> Any:
        what, detail = node[0].name, node[1]
        if what == "NAME":
            return self.make(detail)
        if what == "BASE":
            return {"string": "", "bool": False}.get(detail[0], 0)
        inner, length = detail
        if inner[0].name != "BASE" or inner[1][0] == "string":
            return []
        return np.zeros(length if what == "ARRAY" else 0, inner[1][0])

    def header(self, stamp: int, frame: str = "") -> Any:
        time = self.make("builtin_interfaces/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return self.make("std_msgs/Header", stamp=time, frame_id=frame)

    def add(self, topic: str, kind: str, stamp: int, **values: Any) -> None:
        """Add a message with a header."""
        frame = values.pop("frame", "")
        if kind in FOXGLOVE:
            header = self.header(stamp)
            message = self.make(kind, timestamp=header.stamp, frame_id=frame, **values)
        else:
            message = self.make(kind, header=self.header(stamp, frame), **values)
        self.messages.append((topic, kind, stamp + DELAY, message))

    def add_image(
        self, stamp: int, image: np.ndarray, encoding: str = "rgb8", *, topic: str = "/camera/image_raw",
        frame: str = "camera_optical", padding: int = 0, big: bool = False,
    ) -> None:  # fmt: skip
        height, width = image.shape[:2]
        rows = image.reshape(height, -1).astype(image.dtype.newbyteorder(">" if big else "<"))
        rows = np.ascontiguousarray(rows).view(np.uint8)
        rows = np.pad(rows, ((0, 0), (0, padding)))
        self.add(topic, "sensor_msgs/Image", stamp, frame=frame, height=height, width=width,
                 encoding=encoding, step=rows.shape[1], is_bigendian=int(big), data=rows.ravel())  # fmt: skip

    def add_camera(
        self, stamp: int, size: tuple[int, int], focal: float, distortion: list[float] | None = None,
        model: str = "plumb_bob", *, topic: str = "/camera/camera_info", frame: str = "camera_optical",
    ) -> None:  # fmt: skip
        height, width = size
        k = np.array([focal, 0, width / 2 - 0.5, 0, focal, height / 2 - 0.5, 0, 0, 1.0])
        p = np.column_stack([(k * [0.9, 1, 1, 1, 0.9, 1, 1, 1, 1]).reshape(3, 3), np.zeros(3)])
        self.add(topic, "sensor_msgs/CameraInfo", stamp, frame=frame, height=height, width=width,
                 distortion_model=model, d=np.array(distortion or [], np.float64), k=k,
                 r=np.eye(3).ravel(), p=p.ravel())  # fmt: skip

    def transform(
        self, stamp: int, parent: str, child: str, position: Any, quaternion: Any = (0, 0, 0, 1)
    ) -> Any:
        moved = self.make("geometry_msgs/Transform", translation=self.vector(position),
                          rotation=self.quaternion(quaternion))  # fmt: skip
        return self.make("geometry_msgs/TransformStamped", header=self.header(stamp, parent),
                         child_frame_id=child, transform=moved)  # fmt: skip

    def add_tf(self, stamp: int, *transforms: Any, static: bool = False) -> None:
        message = self.make("tf2_msgs/TFMessage", transforms=list(transforms))
        topic = "/tf_static" if static else "/tf"
        self.messages.append((topic, "tf2_msgs/TFMessage", stamp + DELAY, message))

    def vector(self, position: Any, kind: str = "Vector3") -> Any:
        x, y, z = map(float, position)
        return self.make(f"geometry_msgs/{kind}", x=x, y=y, z=z)

    def quaternion(self, values: Any) -> Any:
        x, y, z, w = map(float, values)
        return self.make("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w)

    def pose(self, position: Any, quaternion: Any = (0, 0, 0, 1)) -> Any:
        return self.make("geometry_msgs/Pose", position=self.vector(position, "Point"),
                         orientation=self.quaternion(quaternion))  # fmt: skip

    def write(self, folder: Path, kind: str) -> Path:
        """Write a recording of one of KINDS, and return its path."""
        path = folder / kind
        folder.mkdir(exist_ok=True, parents=True)
        if kind == "ros1.bag":
            with Writer1(path) as writer:
                self._fill(writer)
            return path
        plugin = StoragePlugin.SQLITE3 if kind == "ros2_sqlite" else StoragePlugin.MCAP
        whole = path.with_suffix("")
        with Writer2(whole, version=9, storage_plugin=plugin) as writer:
            self._fill(writer)
        return (whole / f"{whole.name}.mcap").rename(path) if kind == "single.mcap" else path

    def _fill(self, writer: Any) -> None:
        connections: dict[str, Any] = {}
        serialize = self.store.serialize_ros1 if self.ros == 1 else self.store.serialize_cdr
        for topic, kind, time, message in sorted(self.messages, key=lambda m: m[2]):
            full = kind.replace("/", "/msg/")
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, full, typestore=self.store)
            writer.write(connections[topic], time, serialize(message, full))


def ros_of(kind: str) -> int:
    """Version of ROS of a kind of recording."""
    return 1 if kind == "ros1.bag" else 2
