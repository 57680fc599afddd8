"""A sliding window of key frames that are adjusted together."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.bundle import BundleSettings, BundleState, Window, adjust
from egodepth.geometry.bundle_points import BundlePoints
from egodepth.geometry.camera import Camera
from egodepth.geometry.resection import KnownPoints

KEY_FRAMES, FIXED_KEY_FRAMES = 7, 2
"""Key frames in the window, and how many of the oldest are fixed."""
POINT_CELL = 7
"""Side length in pixels of the cells of a key frame, each of which has one point."""
STRONG_DEPTH_PRIOR = BundleSettings(scale_deviation=0.1, factor_deviation=0.3)
WEAK_DEPTH_PRIOR = BundleSettings(scale_deviation=0.3, factor_deviation=1.0)
"""For depth whose scale may change by a third within a curve."""


@dataclass
class KeyFrame:
    """A key frame of the window.

    Attributes:
        number: of the frame, as its owner counts.
        map: (1, h, w) of normalised brightness.
        points: (1, M) points hosted by the frame, with their predicted inverse depth.
        camera_from_world: (4, 4).
        log_scale: adjusted log scale of the points' inverse depth.
        factor: (M,) adjusted log factors of the points' inverse depth.
    """

    number: int
    map: Tensor
    points: BundlePoints
    camera_from_world: Tensor
    log_scale: Tensor
    factor: Tensor


K = TypeVar("K", bound=KeyFrame)


class KeyFrameWindow(Generic[K]):
    """A window of the latest key frames.

    Attributes:
        camera: of all frames.
        most: maximum number of key frames; older ones are dropped.
        settings: of bundle adjustment.
        frames: the key frames, oldest first.
    """

    def __init__(self, camera: Camera, most: int, settings: BundleSettings):
        self.camera, self.most, self.settings = camera, most, settings
        self.frames: list[K] = []
        self._known: KnownPoints | None = None

    def add(self, frame: K) -> list[K]:
        """Add a key frame, and drop the oldest one if the window is full; return what was dropped."""
        self._known = None
        frames = [*self.frames, frame]
        self.frames = frames[-self.most :]
        return frames[: -self.most]

    def known_points(self) -> KnownPoints:
        """Points of all key frames in the world."""
        if self._known is None:
            self._known = KnownPoints.of(self._points(), self._state())
        return self._known

    def _points(self) -> BundlePoints:
        return BundlePoints.stack([frame.points for frame in self.frames])

    def _state(self) -> BundleState:
        """Current poses, scales and factors."""
        return BundleState(
            torch.stack([frame.camera_from_world for frame in self.frames]),
            torch.stack([frame.log_scale for frame in self.frames]),
            torch.stack([frame.factor for frame in self.frames]),
        )

    def adjust(self, fixed: int) -> None:
        """Adjust poses and depths of all but the ``fixed`` oldest key frames."""
        count = len(self.frames)
        if count <= fixed:
            return
        order = torch.arange(count)
        maps = torch.stack([frame.map for frame in self.frames])
        window = Window(self._points(), maps, order, self.camera)
        state, _ = adjust(window, self._state(), order >= fixed, self.settings)
        self._known = None
        for i, frame in enumerate(self.frames):
            frame.camera_from_world = se3.rigid(state.camera_from_world[i])
            frame.log_scale, frame.factor = state.log_scale[i], state.factor[i]
