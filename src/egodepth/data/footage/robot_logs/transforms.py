"""Coordinate frames of a robot over time: the tree of ROS's TF messages, and poses between their stamps."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from egodepth.geometry.plausible import FARTHEST_POSITION, ROTATION_TOLERANCE

MAX_GAP = 1.0
"""Longest time in seconds between two stamped poses between which a pose is interpolated."""


@dataclass
class PoseSamples:
    """Stamped poses ``target_from_source``.

    Attributes:
        stamps: in nanoseconds.
        values: x y z of the translation, x y z w of the rotation.
        left_out: number of poses that cannot be.
    """

    stamps: list[int] = field(default_factory=list)
    values: list[tuple[float, ...]] = field(default_factory=list)
    left_out: int = 0

    def add(self, stamp: int, translation: object, rotation: object) -> None:
        """Add a pose of ROS's or Foxglove's fields; one that is not finite or no rigid motion is left out."""
        position = [float(getattr(translation, name)) for name in "xyz"]
        quaternion = [float(getattr(rotation, name)) for name in "xyzw"]
        rigid = abs(math.hypot(*quaternion) - 1) <= ROTATION_TOLERANCE
        if rigid and all(abs(value) <= FARTHEST_POSITION for value in position):
            self.stamps.append(stamp)
            self.values.append((*position, *quaternion))
        else:
            self.left_out += 1

    def last(self) -> np.ndarray:
        """The newest pose (4, 4)."""
        return _matrices(np.array(self.values[-1:]))[0]

    def at(self, stamps: np.ndarray) -> np.ndarray:
        """Poses (N, 4, 4) at stamps in nanoseconds; NaN before the first, after the last, and in gaps of more
        than MAX_GAP."""
        poses = np.full((len(stamps), 4, 4), np.nan)
        own, first = np.unique(np.array(self.stamps, np.int64), return_index=True)
        if not len(own):
            return poses
        values = np.array(self.values)[first]
        right = np.searchsorted(own, stamps).clip(0, len(own) - 1)
        left = np.where(own[right] == stamps, right, right - 1)
        known = (stamps >= own[0]) & (stamps <= own[-1])
        known[known] = (own[right[known]] - own[left[known]]) / 1e9 <= MAX_GAP
        if not known.any():
            return poses
        times, wanted = (own - own[0]) / 1e9, (stamps[known] - own[0]) / 1e9
        found = np.column_stack([np.interp(wanted, times, column) for column in values[:, :3].T])
        rotations = Rotation.from_quat(values[:, 3:])
        turned = Slerp(times, rotations)(wanted) if len(own) > 1 else rotations[[0] * len(wanted)]
        poses[known] = np.eye(4)
        poses[known, :3, :3], poses[known, :3, 3] = turned.as_matrix(), found
        return poses


def _matrices(values: np.ndarray) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(values), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(values[:, 3:]).as_matrix()
    poses[:, :3, 3] = values[:, :3]
    return poses


class TransformTree:
    """The tree of coordinate frames, each with the pose of its children over time.

    Attributes:
        problem: why it is no tree, in words; empty if it is one.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._parents: dict[str, str] = {}
        self._samples: dict[str, PoseSamples] = {}
        self._static: set[str] = set()

    def add(self, transform: object, stamp: int, *, static: bool) -> None:
        """Add a transform message of ROS (``parent_from_child``) or Foxglove."""
        if hasattr(transform, "header"):
            parent, inner = transform.header.frame_id, transform.transform  # type: ignore[attr-defined]
        else:
            parent, inner = transform.parent_frame_id, transform  # type: ignore[attr-defined]
        parent = parent.lstrip("/")
        child = transform.child_frame_id.lstrip("/")  # type: ignore[attr-defined]
        if self._parents.setdefault(child, parent) != parent and not self.problem:
            self.problem = f"the frame {child} has two parents, {self._parents[child]} and {parent}"
        if static:
            self._static.add(child)
        self._samples.setdefault(child, PoseSamples()).add(stamp, inner.translation, inner.rotation)

    @property
    def samples(self) -> list[PoseSamples]:
        """Samples of all frames."""
        return list(self._samples.values())

    def _chain(self, frame: str) -> list[str]:
        """The frame and its ancestors, as far as they are known."""
        chain = [frame]
        while chain[-1] in self._parents:
            parent = self._parents[chain[-1]]
            if parent in chain:
                self.problem = self.problem or f"its frames form a circle at {parent}"
                return [frame]
            chain.append(parent)
        return chain

    def moves(self, frame: str) -> bool:
        """Whether a frame moves relative to its root."""
        return any(child not in self._static for child in self._chain(frame)[:-1])

    def root(self, frame: str) -> str:
        """The root of a frame."""
        return self._chain(frame)[-1]

    def root_from(self, frame: str, stamps: np.ndarray) -> np.ndarray:
        """Poses (N, 4, 4) of a frame in its root at stamps in nanoseconds, NaN where they are unknown."""
        poses = np.tile(np.eye(4), (len(stamps), 1, 1))
        for child in self._chain(frame)[:-1]:
            poses = self._link(child, stamps) @ poses
        return poses

    def fixed(self, target: str, source: str) -> np.ndarray | None:
        """The pose (4, 4) of one frame in another that static transforms connect with it; None without."""
        up = self._fixed_ancestors(source)
        for ancestor, ancestor_from_target in self._fixed_ancestors(target).items():
            if ancestor in up:
                return np.linalg.inv(ancestor_from_target) @ up[ancestor]
        return None

    def mounted(self, frame: str) -> np.ndarray | None:
        """The fixed pose (4, 4) of a frame in the frame that moves; None if the frame itself moves."""
        ancestors = list(self._fixed_ancestors(frame).values())
        return ancestors[-1] if len(ancestors) > 1 else None

    def _fixed_ancestors(self, frame: str) -> dict[str, np.ndarray]:
        """Poses of a frame in itself and in the ancestors up to the first that moves."""
        chain, pose = self._chain(frame), np.eye(4)
        found = {frame: pose}
        for child, parent in pairwise(chain):
            if child not in self._static or not self._samples[child].values:
                break
            pose = self._samples[child].last() @ pose
            found[parent] = pose
        return found

    def _link(self, child: str, stamps: np.ndarray) -> np.ndarray:
        samples = self._samples[child]
        if child in self._static and samples.values:
            return np.tile(samples.last(), (len(stamps), 1, 1))
        return samples.at(stamps)


def transforms_of(message: object) -> Iterable[object]:
    """The single transforms of a message of ROS's TF or Foxglove's."""
    return getattr(message, "transforms", None) or (
        [message] if hasattr(message, "child_frame_id") else []
    )
