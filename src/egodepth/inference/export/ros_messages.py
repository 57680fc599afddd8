"""Builds the ROS and Foxglove messages of depth, cameras, clouds and poses.

Coordinate frames follow REP 103 and 105: ``odom`` is the world, with the axes of the first ``camera_link``;
``camera_link`` has x forward, y left, z up; ``camera_optical_frame`` is the same camera with x right, y down, z
forward. Depth and clouds are in the optical frame.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy.spatial.transform import Rotation

from egodepth.geometry.camera import Camera

ODOM, BODY, OPTICAL = "odom", "camera_link", "camera_optical_frame"
BODY_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
MAX_CLOUD_POINTS = 100_000
"""Largest number of points of a cloud; pixels of larger images are left out in equal steps."""
MILLIMETRES = 1000
DepthEncoding = Literal["32FC1", "16UC1"]
Make = Callable[..., Any]
"""Makes a message from the name of its type, as ``sensor_msgs/Image``, and its fields."""


def odom_from_body(first_from_frame: np.ndarray) -> np.ndarray:
    """Pose (4, 4) of the camera_link in odom, from the camera's pose in the frame of the first camera."""
    return BODY_FROM_OPTICAL @ first_from_frame @ BODY_FROM_OPTICAL.T


def depth_values(depth: np.ndarray, encoding: DepthEncoding) -> np.ndarray:
    """Depth (H, W) in metres as 32FC1, or as 16UC1 in millimetres, 0 beyond its range."""
    if encoding == "32FC1":
        return np.ascontiguousarray(depth, "<f4")
    steps = np.rint(depth.astype(np.float64) * MILLIMETRES)
    return np.where((steps > 0) & (steps <= 65535), steps, 0).astype("<u2")


def cloud_grid(
    depth: np.ndarray, image: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Points (h, w, 3) float32 in the optical frame and their colours (h, w, 3) uint8, of every n-th pixel
    across and down, so that there are at most MAX_CLOUD_POINTS."""
    height, width = depth.shape
    step = max(1, int(np.ceil(np.sqrt(height * width / MAX_CLOUD_POINTS))))
    fx, fy, cx, cy = camera.resize(height, width).focal_and_centre.double().tolist()
    y, x = np.mgrid[0:height:step, 0:width:step]
    z = depth[::step, ::step]
    points = np.stack([(x - cx) / fx * z, (y - cy) / fy * z, z], axis=-1)
    return points.astype("<f4"), image[::step, ::step]


class RosMessages:
    """Builds messages of ROS 2.

    Attributes:
        make: makes a message.
        optical: name of the camera's optical frame.
    """

    def __init__(self, make: Make, optical: str = OPTICAL):
        self.make, self.optical = make, optical

    def stamp(self, nanoseconds: int) -> Any:
        """A time."""
        seconds, rest = divmod(nanoseconds, 10**9)
        return self.make("builtin_interfaces/Time", sec=seconds, nanosec=rest)

    def header(self, nanoseconds: int, frame: str) -> Any:
        """A header."""
        return self.make("std_msgs/Header", stamp=self.stamp(nanoseconds), frame_id=frame)

    def depth(self, stamp: int, depth: np.ndarray, encoding: DepthEncoding) -> tuple[str, Any]:
        """A depth image, with the name of its type, as all that follow."""
        values = depth_values(depth, encoding)
        height, width = values.shape
        return "sensor_msgs/Image", self.make(
            "sensor_msgs/Image", header=self.header(stamp, self.optical), height=height, width=width,
            encoding=encoding, is_bigendian=0, step=width * values.itemsize,
            data=values.ravel().view(np.uint8),
        )  # fmt: skip

    def camera(self, stamp: int, camera: Camera) -> tuple[str, Any]:
        """An undistorted camera."""
        matrix, projection = camera_matrices(camera)
        none = self.make("sensor_msgs/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0,
                         do_rectify=False)  # fmt: skip
        return "sensor_msgs/CameraInfo", self.make(
            "sensor_msgs/CameraInfo", header=self.header(stamp, self.optical), height=camera.height,
            width=camera.width, distortion_model="plumb_bob", d=np.zeros(5), k=matrix,
            r=np.eye(3).ravel(), p=projection, binning_x=0, binning_y=0, roi=none,
        )  # fmt: skip

    def cloud(self, stamp: int, points: np.ndarray, colours: np.ndarray) -> tuple[str, Any]:
        """A coloured cloud (h, w, 3) in the optical frame."""
        height, width, _ = points.shape
        rows = np.zeros((height, width), [(n, "<f4") for n in "xyz"] + [("rgb", "<u4")])
        for i, name in enumerate("xyz"):
            rows[name] = points[..., i]
        red, green, blue = colours.astype(np.uint32).transpose(2, 0, 1)
        rows["rgb"] = red << 16 | green << 8 | blue
        layout = [
            self.make("sensor_msgs/PointField", name=name, offset=4 * i, datatype=7, count=1)
            for i, name in enumerate(("x", "y", "z", "rgb"))
        ]
        return "sensor_msgs/PointCloud2", self.make(
            "sensor_msgs/PointCloud2", header=self.header(stamp, self.optical), height=height, width=width,
            fields=layout, is_bigendian=False, point_step=16, row_step=16 * width,
            data=rows.ravel().view(np.uint8), is_dense=True,
        )  # fmt: skip

    def pose(self, pose: np.ndarray) -> Any:
        """A pose (4, 4)."""
        return self.make(
            "geometry_msgs/Pose", position=self._xyz("geometry_msgs/Point", pose),
            orientation=self._quaternion(pose),
        )  # fmt: skip

    def _xyz(self, kind: str, pose: np.ndarray) -> Any:
        return self.make(kind, **dict(zip("xyz", pose[:3, 3].tolist(), strict=True)))

    def _quaternion(self, pose: np.ndarray) -> Any:
        values = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
        return self.make("geometry_msgs/Quaternion", **dict(zip("xyzw", values, strict=True)))

    def transform(self, stamp: int, parent: str, child: str, pose: np.ndarray) -> tuple[str, Any]:
        """A transform ``parent_from_child``."""
        moved = self.make(
            "geometry_msgs/Transform", translation=self._xyz("geometry_msgs/Vector3", pose),
            rotation=self._quaternion(pose),
        )  # fmt: skip
        single = self.make(
            "geometry_msgs/TransformStamped", header=self.header(stamp, parent), child_frame_id=child,
            transform=moved,
        )  # fmt: skip
        return "tf2_msgs/TFMessage", self.make("tf2_msgs/TFMessage", transforms=[single])

    def path(self, stamps: list[int], poses: list[np.ndarray]) -> tuple[str, Any]:
        """The whole path of the camera_link in odom."""
        stamped = [
            self.make("geometry_msgs/PoseStamped", header=self.header(s, ODOM), pose=self.pose(p))
            for s, p in zip(stamps, poses, strict=True)
        ]
        return "nav_msgs/Path", self.make(
            "nav_msgs/Path", header=self.header(stamps[-1], ODOM), poses=stamped
        )

    def odometry(self, stamp: int, pose: np.ndarray) -> tuple[str, Any]:
        """The pose (4, 4) of the optical frame in odom; covariance and speed are unknown."""
        unknown = self.make(
            "geometry_msgs/PoseWithCovariance", pose=self.pose(pose), covariance=np.zeros(36)
        )
        zero = self.make("geometry_msgs/Vector3", x=0.0, y=0.0, z=0.0)
        twist = self.make("geometry_msgs/Twist", linear=zero, angular=zero)
        # By the convention of ROS's IMU messages, -1 marks what is unknown.
        still = self.make(
            "geometry_msgs/TwistWithCovariance", twist=twist, covariance=-np.eye(6).ravel()
        )
        return "nav_msgs/Odometry", self.make(
            "nav_msgs/Odometry", header=self.header(stamp, ODOM), child_frame_id=self.optical,
            pose=unknown, twist=still,
        )  # fmt: skip


class FoxgloveMessages(RosMessages):
    """Builds messages of Foxglove's schemas, as ROS 2 messages of the package foxglove_msgs."""

    def depth(self, stamp: int, depth: np.ndarray, encoding: DepthEncoding) -> tuple[str, Any]:
        """See :class:`RosMessages`."""
        values = depth_values(depth, encoding)
        height, width = values.shape
        return "foxglove_msgs/RawImage", self.make(
            "foxglove_msgs/RawImage", timestamp=self.stamp(stamp), frame_id=self.optical, width=width,
            height=height, encoding=encoding, step=width * values.itemsize,
            data=values.ravel().view(np.uint8),
        )  # fmt: skip

    def camera(self, stamp: int, camera: Camera) -> tuple[str, Any]:
        """See :class:`RosMessages`."""
        matrix, projection = camera_matrices(camera)
        return "foxglove_msgs/CameraCalibration", self.make(
            "foxglove_msgs/CameraCalibration", timestamp=self.stamp(stamp), frame_id=self.optical,
            width=camera.width, height=camera.height, distortion_model="", d=np.zeros(0), k=matrix,
            r=np.eye(3).ravel(), p=projection,
        )  # fmt: skip

    def cloud(self, stamp: int, points: np.ndarray, colours: np.ndarray) -> tuple[str, Any]:
        """See :class:`RosMessages`."""
        names = ("red", "green", "blue", "alpha")
        rows = np.zeros(points.shape[:2], [(n, "<f4") for n in "xyz"] + [(n, "u1") for n in names])
        for i, name in enumerate("xyz"):
            rows[name] = points[..., i]
        for i, name in enumerate(names):
            rows[name] = colours[..., i] if i < 3 else 255
        layout = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7)]
        layout += [(name, 12 + i, 1) for i, name in enumerate(names)]
        return "foxglove_msgs/PointCloud", self.make(
            "foxglove_msgs/PointCloud", timestamp=self.stamp(stamp), frame_id=self.optical,
            pose=self.pose(np.eye(4)), point_stride=16, data=rows.ravel().view(np.uint8),
            fields=[self.make("foxglove_msgs/PackedElementField", name=n, offset=o, type=t)
                    for n, o, t in layout],
        )  # fmt: skip

    def transform(self, stamp: int, parent: str, child: str, pose: np.ndarray) -> tuple[str, Any]:
        """See :class:`RosMessages`."""
        return "foxglove_msgs/FrameTransform", self.make(
            "foxglove_msgs/FrameTransform", timestamp=self.stamp(stamp), parent_frame_id=parent,
            child_frame_id=child, translation=self._xyz("geometry_msgs/Vector3", pose),
            rotation=self._quaternion(pose),
        )  # fmt: skip

    def path(self, stamps: list[int], poses: list[np.ndarray]) -> tuple[str, Any]:
        """See :class:`RosMessages`."""
        return "foxglove_msgs/PosesInFrame", self.make(
            "foxglove_msgs/PosesInFrame", timestamp=self.stamp(stamps[-1]), frame_id=ODOM,
            poses=[self.pose(pose) for pose in poses],
        )  # fmt: skip


def camera_matrices(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """K (9,) and P (12,) of a camera, float64."""
    matrix = camera.matrix.double().numpy()
    return matrix.ravel(), np.column_stack([matrix, np.zeros(3)]).ravel()
