"""Reads an image topic of a recording, its camera and its poses, as a sequence."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from egodepth.core.allowed import got
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.suggestions import did_you_mean
from egodepth.data.footage.camera_formats.matrices import from_matrix
from egodepth.data.footage.camera_formats.values import Calibration
from egodepth.data.footage.robot_logs.frames import RecordedFrames
from egodepth.data.footage.robot_logs.pictures import COMPRESSED, RAW, is_depth
from egodepth.data.footage.robot_logs.recording import (
    Recording,
    frame_of,
    open_recording,
    stamp_of,
)
from egodepth.data.footage.robot_logs.transforms import (
    PoseSamples,
    TransformTree,
    transforms_of,
)
from egodepth.data.sequence import Sequence

IMAGES = (*RAW, *COMPRESSED)
CAMERAS = ("sensor_msgs/CameraInfo", "foxglove/CameraCalibration")
POSES = (
    "nav_msgs/Odometry", "geometry_msgs/PoseStamped", "geometry_msgs/PoseWithCovarianceStamped",
    "foxglove/PoseInFrame", "foxglove/Odometry",
)  # fmt: skip
TRANSFORMS = (
    "tf2_msgs/TFMessage", "tf/tfMessage", "foxglove/FrameTransform", "foxglove/FrameTransforms",
    "geometry_msgs/TransformStamped",
)  # fmt: skip
FIXES = ("sensor_msgs/NavSatFix", "foxglove/LocationFix")
"""Types of messages by what they are read for."""
SIDE_BY_SIDE = 0.02
"""Largest rotation in radians at which two frames have the same axes."""
MAX_LISTED = 8
"""Maximum number of topics that a message lists."""


def read_recording(path: Path, topics: Iterable[str] = ()) -> tuple[Sequence, Calibration | None]:
    """Read an image topic of a recording.

    Its frames have their header stamps as times and names. Poses come from TF, or else from a topic of odometry
    that TF connects with the camera.

    Args:
        path: an MCAP file, a ROS 1 bag, or the folder of a ROS 2 bag.
        topics: topics to read where there are several, each for what its type means: images, camera, or poses.

    Returns:
        The sequence without its camera, and the calibration in the recording, None if there is none.

    Raises:
        EgodepthError: a broken recording, no image topic or several, an unknown topic, or a camera of an
            unknown lens model.
    """
    recording = open_recording(path)
    named = _named(recording, topics)
    image = _image_topic(recording, [t for t in named if recording.topics[t] in IMAGES])
    others = [t for t in named if t != image and recording.topics[t] not in (*CAMERAS, *POSES)]
    if others:
        raise EgodepthError(
            f"{path}: {others[0]} holds {recording.topics[others[0]]}, which is neither camera nor poses"
        )
    found = _scan(recording, image)
    frames = RecordedFrames(recording, image, found.images)
    info = _camera_topic(recording, image, found, named)
    calibration = calibration_of(path, image, info, found.cameras[info]) if info else None
    if calibration is not None:
        _warn_of_other_size(f"{path}#{info}", calibration, frames)
    frame = found.image_frame or (frame_of(found.cameras[info][0]) if info else "")
    place = (path.parent.resolve() / path.name).as_posix()
    sequence = Sequence(
        path.name, frames, place=f"{place}#{image}" if named else place,
        world_from_camera=_poses(path, found, frame, frames.stamps, named),
    )  # fmt: skip
    return sequence, calibration


@dataclass
class _Found:
    """What the messages of a recording say, except the images themselves.

    Attributes:
        images: time of recording and header stamp of each image.
        image_frame: coordinate frame of the first image.
        cameras: camera messages that differ, by topic.
        poses: stamped poses by topic.
        bodies: frame that the poses of a topic are of; empty if unknown.
        tree: the tree of frames.
    """

    images: list[tuple[int, int]] = field(default_factory=list)
    image_frame: str = ""
    cameras: dict[str, list[Any]] = field(default_factory=dict)
    poses: dict[str, PoseSamples] = field(default_factory=dict)
    bodies: dict[str, str] = field(default_factory=dict)
    tree: TransformTree = field(default_factory=TransformTree)


def _named(recording: Recording, topics: Iterable[str]) -> list[str]:
    named = [topic if topic in recording.topics else f"/{topic.strip('/ ')}" for topic in topics]
    for topic in named:
        if topic not in recording.topics:
            raise EgodepthError(
                f"{recording.path} has no topic {got(topic)}; "
                f"{did_you_mean(topic, list(recording.topics), list_topics(recording.topics))}"
            )
    return named


def list_topics(topics: dict[str, str]) -> str:
    """What a recording holds, in words."""
    return f"it holds {_some([f'{topic} ({kind})' for topic, kind in topics.items()])}"


def _some(names: list[str]) -> str:
    """Up to :data:`MAX_LISTED` names, in order, and how many more there are."""
    some = ", ".join(name[:80] for name in sorted(names)[:MAX_LISTED])
    return some + (f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else "")


def _image_topic(recording: Recording, named: list[str]) -> str:
    path = recording.path
    if len(named) > 1:
        raise EgodepthError(f"{path}: name one image topic, not {' and '.join(named)}")
    if named:
        return named[0]
    topics = [topic for topic, kind in recording.topics.items() if kind in IMAGES]
    if len(topics) > 1:
        topics = [m.topic for m in recording.first(topics) if not is_depth(m.decode())]
    if not topics:
        raise EgodepthError(f"{path} has no image topic; {list_topics(recording.topics)}")
    if len(topics) > 1:
        raise EgodepthError(
            f"{path} has {len(topics)} image topics ({_some(topics)}); name one, as "
            f"'{path}#{min(topics)}'"
        )
    return topics[0]


def _scan(recording: Recording, image: str) -> _Found:
    """Read all messages of the topics of interest once."""
    found = _Found()
    kinds = recording.topics
    wanted = [t for t, kind in kinds.items() if kind in (*CAMERAS, *POSES, *TRANSFORMS)]
    for message in recording.messages([image, *wanted]):
        content, topic = message.decode(), message.topic
        if topic == image:
            found.image_frame = found.image_frame or frame_of(content)
            found.images.append((message.time, stamp_of(content)))
        elif kinds[topic] in CAMERAS:
            known = found.cameras.setdefault(topic, [])
            if not known or _tree(known[-1]) != _tree(content):
                known.append(content)
        elif kinds[topic] in POSES:
            _add_pose(found, topic, content)
        else:
            for transform in transforms_of(content):
                static = "static" in topic
                found.tree.add(transform, stamp_of(transform), static=static)
    _warn_of_odd_poses(recording.path, [*found.poses.values(), *found.tree.samples])
    return found


def _warn_of_odd_poses(path: Path, samples: list[PoseSamples]) -> None:
    left_out = sum(s.left_out for s in samples)
    if left_out:
        count = left_out + sum(len(s.stamps) for s in samples)
        warnings.warn(
            f"{path}: {left_out} of {count} poses and transforms are left out: they are not finite, nowhere on "
            "Earth, or their quaternion has another length than 1",
            EgodepthWarning,
            stacklevel=5,
        )


def _warn_of_other_size(where: str, calibration: Calibration, frames: RecordedFrames) -> None:
    """Warn of a camera of another size than the images, with which its focal length is scaled: right if images
    were resized, wrong if the driver tells an old size."""
    camera, size = calibration.camera, f"{frames.width}x{frames.height}"
    if (camera.height, camera.width) != (frames.height, frames.width):
        warnings.warn(
            f"{where} is of images of {camera.width}x{camera.height}, these have {size}: its focal length is "
            "scaled with them",
            EgodepthWarning,
            stacklevel=4,
        )


def _add_pose(found: _Found, topic: str, content: Any) -> None:
    pose = content.pose
    pose = getattr(pose, "pose", pose)  # one with a covariance
    found.poses.setdefault(topic, PoseSamples()).add(
        stamp_of(content), pose.position, pose.orientation
    )
    # Foxglove's Odometry calls it body_frame_id in Protobuf.
    body = getattr(content, "child_frame_id", "") or getattr(content, "body_frame_id", "")
    found.bodies[topic] = str(body).lstrip("/")


def _tree(message: Any) -> dict[str, Any]:
    """A camera message as the keys and values of ROS's camera_info files."""
    tree: dict[str, Any] = {
        name: [float(v) for v in getattr(message, name.lower(), getattr(message, name, ()))]
        for name in ("K", "D", "P")
    }
    tree["distortion_model"] = str(message.distortion_model) if any(tree["D"]) else ""
    tree |= {name: int(getattr(message, name)) for name in ("width", "height")}
    tree |= {n: int(getattr(message, n, 0)) for n in ("binning_x", "binning_y")}
    roi = getattr(message, "roi", None)
    tree["roi"] = {n: int(getattr(roi, n, 0)) for n in ("x_offset", "y_offset", "width", "height")}
    return tree


def _camera_topic(recording: Recording, image: str, found: _Found, named: list[str]) -> str | None:
    """The camera topic that was named, that stands beside the images by ROS's names, or that alone is of the
    images' coordinate frame; None without."""
    chosen = [t for t in named if recording.topics[t] in CAMERAS]
    if chosen:
        return chosen[0]
    parts = image.split("/")
    beside = ["/".join([*parts[:n], "camera_info"]) for n in range(len(parts), 0, -1)][:3]
    near = [topic for topic in beside if topic in found.cameras]
    if near:
        return near[0]
    frame = found.image_frame
    alike = [t for t, messages in found.cameras.items() if frame and frame_of(messages[0]) == frame]
    return alike[0] if len(alike) == 1 else None


def calibration_of(
    path: Path | str, image: str, topic: str, messages: list[Any]
) -> Calibration | None:
    """The calibration in camera messages, None, with a warning, if the camera was not calibrated.

    Args:
        path: of the recording, for messages.
        image: topic of the images; those of rectified ones have the camera of the projection matrix.
        topic: of the messages.
        messages: those that differ, oldest first; the first is used.

    Raises:
        EgodepthError: an unknown lens model, or impossible values.
    """
    where = f"{path}#{topic}"
    tree = _tree(messages[0])
    if len(messages) > 1:
        warnings.warn(
            f"{where} changes during the recording, {len(messages) - 1} times; the first camera is used",
            EgodepthWarning,
            stacklevel=4,
        )
    if not any(tree["K"]):
        warnings.warn(
            f"{where} is of a camera that was not calibrated (K is 0); it is not used",
            EgodepthWarning,
            stacklevel=4,
        )
        return None
    projection = tree.pop("P")
    if "rect" in image.rsplit("/", 1)[-1] or "image_rect" in image:  # by P, and without distortion
        if any(projection):
            tree["K"] = [v for row in range(3) for v in projection[4 * row : 4 * row + 3]]
        tree |= {"D": [], "distortion_model": ""}
    calibration = from_matrix(Path(where), tree, "ROS camera_info")
    return replace(calibration, source=f"camera_info {where}")


def _poses(
    path: Path, found: _Found, frame: str, stamps: np.ndarray, named: list[str]
) -> np.ndarray | None:
    """Poses (N, 4, 4) of the camera in the world, NaN where unknown; None if there are none, with a warning if
    there might be some."""
    tree = found.tree
    chosen = [topic for topic in named if topic in found.poses]
    problem = ""
    if not chosen and frame and tree.moves(frame):
        problem = tree.problem or _axes_problem(tree, frame)
        if not problem:
            return _known(tree.root_from(frame, stamps))
    topics = chosen or list(found.poses)
    if not problem and len(topics) > 1:
        problem = f"it has several topics of poses ({', '.join(sorted(topics))})"
    if not problem and topics:
        body = found.bodies[topics[0]]
        samples = found.poses[topics[0]].at(stamps)
        body_from_camera = tree.fixed(body, frame) if body and frame else None
        if body_from_camera is None and chosen:
            warnings.warn(
                f"{path}: the poses of {topics[0]} are taken for those of the camera's optical frame",
                EgodepthWarning,
                stacklevel=4,
            )
            body_from_camera = np.eye(4)
        if body_from_camera is not None:
            return _known(samples @ body_from_camera)
        problem = f"no static transform leads from the body of {topics[0]} to the camera"
    if problem:
        warnings.warn(
            f"{path}: no poses are read: {problem}; to read those of a topic, name it beside the images', as "
            f"'{path}#/IMAGES,/POSES'",
            EgodepthWarning,
            stacklevel=4,
        )
    return None


def _axes_problem(tree: TransformTree, frame: str) -> str:
    """Why the axes of the images' frame cannot be those of a camera, in words; empty if they can.

    By REP 103 a body's x points forward, an optical frame's z.
    """
    mounted = tree.mounted(frame)
    if mounted is None:
        return ""
    turned = np.arccos(np.clip((np.trace(mounted[:3, :3]) - 1) / 2, -1, 1))
    if turned > SIDE_BY_SIDE:
        return ""
    return (
        f"the frame of the images, {frame}, has the axes of the body that it is mounted on, not those of an "
        "optical frame (REP 103)"
    )


def _known(poses: np.ndarray) -> np.ndarray | None:
    return poses if np.isfinite(poses).all((1, 2)).any() else None
