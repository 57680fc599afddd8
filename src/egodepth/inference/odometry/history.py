"""What odometry remembers of all frames: their poses relative to key frames, in segments that loops join."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egodepth.geometry import se3, sim3
from egodepth.inference.odometry.map import ClosedLoop, Correction, KeyFrameMap

MIN_PART_FRAMES = 5
"""Fewest frames of a path that is kept beside the longest one."""

Entry = tuple[int, Tensor]
"""Number of a key frame, and ``frame_from_key`` (4, 4)."""


@dataclass(frozen=True)
class Part:
    """A path whose poses are known relative to each other.

    Attributes:
        frames: (N,) indices of its frames, ascending.
        poses: (N, 4, 4) float64 ``first_from_frame``.
    """

    frames: np.ndarray
    poses: np.ndarray


class History:
    """Poses of all frames and key frames. Those of a segment share a world; segments are joined by loops."""

    def __init__(self, key_frame_map: KeyFrameMap | None):
        """Start empty.

        Args:
            key_frame_map: holds the key frames that have left the window; None without loops.
        """
        self.map = key_frame_map
        self.key_poses: list[Tensor] = []
        self.scales: list[float] = []
        self.key_frames: list[int] = []
        self.segments: list[int] = []
        self._heights: list[float | None] = []
        self._frames: list[Entry | None] = []
        self._corrected: tuple[tuple[int, int], Correction, list[Part]] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def add_key(
        self, frame: int, segment: int, pose: Tensor, scale: float, height: float | None
    ) -> None:
        """Add a key frame.

        Args:
            frame: its frame number.
            segment: that it belongs to.
            pose: (4, 4) ``camera_from_world``, in the world of the segment.
            scale: log scale of its inverse depth.
            height: of the camera above the ground, by the predicted depth; None if no ground was found.
        """
        self.key_frames.append(frame)
        self.segments.append(segment)
        self.key_poses.append(pose)
        self.scales.append(scale)
        self._heights.append(height)

    def drop_key(self) -> None:
        """Remove the last key frame, which must not be in the map, and the poses of frames relative to it."""
        number = len(self.key_poses) - 1
        for values in (self.key_frames, self.segments, self.key_poses, self.scales, self._heights):
            values.pop()
        for place in reversed(range(len(self))):
            entry = self._frames[place]
            if entry is not None:
                if entry[0] != number:
                    break
                self._frames[place] = None

    def add(self, entry: Entry | None) -> None:
        """Add a frame; None if it has no pose."""
        self._frames.append(entry)

    def absolute(self, entry: Entry) -> Tensor:
        """``camera_from_world`` (4, 4) of a frame, in the world of its segment."""
        key, frame_from_key = entry
        return frame_from_key @ self.key_poses[key]

    def parts(self) -> list[Part]:
        """The paths with loops closed, the longest first. Frames that could not be aligned are in none."""
        return list(self._current()[1]) if self.key_poses else []

    def _find_parts(self, correction: Correction) -> list[Part]:
        world_from_key, part = correction.world_from_key, correction.part
        found = []
        for number in part.unique().tolist():
            keys = (part == number).tolist()
            entries = [(i, e) for i, e in enumerate(self._frames) if e is not None and keys[e[0]]]
            if not entries:
                continue
            first = world_from_key[entries[0][1][0]]
            key_of_frame = torch.tensor([key for _, (key, _) in entries])
            steps = torch.stack([step for _, (_, step) in entries]).double()
            moved = sim3.rigid(
                sim3.inverse(first) @ world_from_key[key_of_frame] @ se3.inverse(steps)
            )
            moved[:, :3, 3] *= sim3.scale_of(first)
            found.append(Part(np.array([i for i, _ in entries]), moved.numpy()))
        found.sort(key=lambda part: -len(part.frames))
        return found[:1] + [part for part in found[1:] if len(part.frames) >= MIN_PART_FRAMES]

    def trajectory(self) -> np.ndarray:
        """Poses ``first_from_frame`` (N, 4, 4), float64, of all frames with loops closed; NaN outside of the
        longest path."""
        poses = np.full((len(self), 4, 4), np.nan)
        for part in self.parts()[:1]:
            poses[part.frames] = part.poses
        return poses

    def live_trajectory(self) -> np.ndarray:
        """Poses as :meth:`trajectory` has them, but before loops were closed; NaN outside of the segment that
        gives it most frames."""
        poses = np.full((len(self), 4, 4), np.nan)
        for part in self.parts()[:1]:
            known = [(int(i), entry) for i in part.frames if (entry := self._frames[i]) is not None]
            segment = torch.tensor([self.segments[entry[0]] for _, entry in known])
            longest = int(segment.mode().values)
            kept = [
                pair for pair, own in zip(known, segment.tolist(), strict=True) if own == longest
            ]
            absolute = torch.stack([self.absolute(entry) for _, entry in kept]).double()
            poses[[i for i, _ in kept]] = (absolute[0] @ se3.inverse(absolute)).numpy()
        return poses

    def key_points(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Points of the key frames in the map: frame number, pixels (M, 2) at the size of the networks' input,
        and adjusted depths (M,) in the unit of :meth:`parts`."""
        if self.map is None or not self.key_poses:
            return
        units = sim3.scale_of(self.correction().world_from_key).tolist()
        for number in range(len(self.map)):
            place = self.map.places[number]
            pixels = np.stack([place.x, place.y], 1)[place.valid].astype(np.float64)
            yield self.key_frames[number], pixels, units[number] * place.point_depth()[place.valid]

    @property
    def loops(self) -> list[ClosedLoop]:
        """The loops that are closed so far."""
        return [] if self.map is None else self.map.describe(self.correction(), self.key_frames)

    def correction(self) -> Correction:
        """Poses of all key frames with loops closed."""
        return self._current()[0]

    def _current(self) -> tuple[Correction, list[Part]]:
        """The correction and the paths, which are kept until another frame or key frame comes."""
        state = len(self), 0 if self.map is None else len(self.map)
        if self._corrected is None or self._corrected[0] != state:
            poses, segments = torch.stack(self.key_poses), torch.tensor(self.segments)
            if self.map is None:
                correction = Correction(se3.inverse(poses.double()), segments)
            else:
                correction = self.map.correct(poses, segments)
            self._corrected = state, correction, self._find_parts(correction)
        return self._corrected[1:]

    def camera_heights(self) -> list[float | None]:
        """Height of each key frame's camera above the ground, in the unit of the trajectory; None where no
        ground was found."""
        units = sim3.scale_of(self.correction().world_from_key).tolist()
        return [
            None if height is None else height / math.exp(scale) * unit
            for height, scale, unit in zip(self._heights, self.scales, units, strict=True)
        ]
