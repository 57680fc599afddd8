"""Visual odometry: frames aligned to key frames, key frames adjusted together in a sliding window.

DepthNet gives the key frames their depth, and with it one scale along the whole video; alignment and
bundle adjustment make the motion agree with the images, which PoseNet's guess does only roughly.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from egodepth.data.sequence import Frame
from egodepth.geometry import se3
from egodepth.geometry.alignment import AlignSettings, State, align
from egodepth.geometry.bundle import (
    BundleSettings,
    BundleState,
    Points,
    Window,
    adjust,
    select_points,
)
from egodepth.geometry.camera import Camera
from egodepth.inference.align import make_levels, make_maps
from egodepth.inference.run import Run


@dataclass(frozen=True)
class OdometrySettings:
    """How trajectories are found.

    Attributes:
        key_frames: in the window.
        fixed: oldest key frames of the window, which no longer move.
        parallax: share of the image's width that the points move by, in the median, between a key
            frame and the next.
        overlap: share of a key frame's points that a frame must see, or it becomes a key frame.
        cell: side in pixels of the cells that have one point each.
        bundle: of the window.
    """

    key_frames: int = 7
    fixed: int = 2
    parallax: float = 0.03
    overlap: float = 0.7
    cell: int = 7
    bundle: BundleSettings = BundleSettings(brightness=False)


@dataclass
class _KeyFrame:
    """What the window knows of a key frame."""

    number: int
    map: Tensor
    levels: list[Tensor]
    inverse_depth: Tensor
    points: Points
    camera_from_world: Tensor
    log_scale: Tensor
    log_gain: Tensor
    bias: Tensor
    factor: Tensor


@dataclass(frozen=True)
class FrameMotion:
    """Where a frame was seen from, as far as it is known when it comes.

    Attributes:
        frame: the frame.
        world_from_camera: (4, 4) float64, in the frame of the first camera and the run's unit.
        key_frame: whether it became one.
        trusted: whether it could be aligned; where not, it goes on as before.
    """

    frame: Frame
    world_from_camera: np.ndarray
    key_frame: bool
    trusted: bool


class Odometry:
    """Poses of frames that come one after the other; memory does not grow but for 4x4 poses."""

    def __init__(self, run: Run, camera: Camera, settings: OdometrySettings | None = None):
        """Start anew.

        Args:
            run: trained networks.
            camera: of the frames.
            settings: of the method.
        """
        self.run, self.settings = run, settings or OdometrySettings()
        self.camera = camera.to(torch.float32).resize(run.settings.height, run.settings.width)
        self._window: list[_KeyFrame] = []
        self._key_poses: list[Tensor] = []
        self._frames: list[tuple[int, Tensor]] = []
        self._step = torch.eye(4)
        self._previous: Tensor | None = None

    @torch.inference_mode()
    def track(self, frame: Frame) -> FrameMotion:
        """Where the next frame was seen from."""
        image = self.run.prepare(frame.image)
        levels = [m[0] for m in make_maps(image[None], None)]
        if not self._window:
            self._add_key_frame(image, levels, torch.eye(4), 0.0, 0.0)
            pose, trusted, is_key = torch.eye(4), True, True
        else:
            pose, trusted, is_key = self._track(image, levels)
        last_key = self._window[-1].camera_from_world
        before = self._absolute(self._frames[-1]) if self._frames else pose
        self._frames.append((len(self._key_poses) - 1, se3.rigid(pose @ se3.inverse(last_key))))
        self._step = se3.rigid(pose @ se3.inverse(before))
        self._previous = image
        world_from_camera = se3.inverse(pose).double().numpy()
        return FrameMotion(frame, world_from_camera, is_key, trusted)

    def trajectory(self) -> np.ndarray:
        """(N, 4, 4) float64 ``first_from_frame`` of all frames so far, as they are known by now."""
        poses = torch.stack([self._absolute(entry) for entry in self._frames])
        return se3.inverse(poses.double()).numpy()

    def _absolute(self, entry: tuple[int, Tensor]) -> Tensor:
        key, frame_from_key = entry
        return frame_from_key @ self._key_poses[key]

    def _track(self, image: Tensor, levels: list[Tensor]) -> tuple[Tensor, bool, bool]:
        key = self._window[-1]
        starts = [self._step @ self._absolute(self._frames[-1])]
        if self.run.has_motion:
            assert self._previous is not None
            motion = self.run.motions_of_frames(self._previous[None], image[None])[0]
            starts.append(torch.from_numpy(motion).float() @ self._absolute(self._frames[-1]))
        count = len(starts)
        start = torch.stack([s @ se3.inverse(key.camera_from_world) for s in starts])
        depth = (key.inverse_depth * key.log_scale.exp()).expand(count, -1, -1)
        target = [m.expand(count, -1, -1, -1) for m in key.levels]
        source = [m.expand(count, -1, -1, -1) for m in levels]
        camera = Camera(
            self.camera.matrix.expand(count, 3, 3), self.camera.height, self.camera.width
        )
        pyramid = make_levels(target, source, depth, camera)[:-1]
        found = align(pyramid, State.start(start), AlignSettings(brightness=True, iterations=15, tolerance=0.05))
        import os
        if os.environ.get('VERB'): print('   ', found.cost.tolist(), found.seen.tolist(), found.agreement.tolist(), found.converged.tolist())
        best = int(torch.where(found.trusted, found.cost, found.cost + 1e3).argmin())
        trusted = bool(found.trusted[best])
        relative = found.state.source_from_target[best] if trusted else start[0]
        pose = relative @ key.camera_from_world
        pose, gain, bias, weights = self._refine(image, pose)
        settings = self.settings
        own = weights[0, -1]
        seen = (own > 0).float().sum() / key.points.valid.sum()
        flow = self._flow(key, pose)
        if flow < settings.parallax * self.camera.width and seen > settings.overlap and trusted:
            return pose, trusted, False
        self._add_key_frame(image, levels, pose, gain, bias)
        self._adjust()
        return self._window[-1].camera_from_world, trusted, True

    def _flow(self, key: _KeyFrame, pose: Tensor) -> float:
        """Median motion in pixels of the key frame's points."""
        rays = key.points.rays[0, :, 0]
        points = rays / (key.points.inverse_depth[0] * (key.log_scale + key.factor).exp())[:, None]
        moved = se3.transform(pose @ se3.inverse(key.camera_from_world), points)
        ahead = moved[:, 2] > 0
        flow = (self.camera.project(moved) - self.camera.project(rays)).norm(dim=1)[ahead]
        return float(flow.median()) if len(flow) else float("inf")

    def _refine(self, image: Tensor, pose: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pose that agrees with the points of all key frames, which stay where they are."""
        count = len(self._window)
        last = self._window[-1]
        state = self._state()
        state = BundleState(
            torch.cat([state.camera_from_world, pose[None]]),
            torch.cat([state.log_scale, torch.zeros(1)]),
            torch.cat([state.log_gain, last.log_gain[None]]),
            torch.cat([state.bias, last.bias[None]]),
            state.factor,
        )
        window = Window(self._points(), local_contrast(image)[None], torch.tensor([count]), self.camera)
        free = torch.arange(count + 1) == count
        bundle = replace(self.settings.bundle, iterations=6)
        state, weights = adjust(window, state, free, bundle, solve_points=False)
        return se3.rigid(state.camera_from_world[-1]), state.log_gain[-1], state.bias[-1], weights

    def _adjust(self) -> None:
        """Solve the window; its oldest key frames stay."""
        count = len(self._window)
        free = torch.arange(count) >= min(self.settings.fixed, count - 1)
        maps = torch.stack([key.map for key in self._window])
        window = Window(self._points(), maps, torch.arange(count), self.camera)
        state, _ = adjust(window, self._state(), free, self.settings.bundle)
        for i, key in enumerate(self._window):
            key.camera_from_world = se3.rigid(state.camera_from_world[i])
            key.log_scale, key.log_gain = state.log_scale[i], state.log_gain[i]
            key.bias, key.factor = state.bias[i], state.factor[i]
            self._key_poses[key.number] = key.camera_from_world

    def _state(self) -> BundleState:
        keys = self._window
        return BundleState(
            torch.stack([k.camera_from_world for k in keys]),
            torch.stack([k.log_scale for k in keys]),
            torch.stack([k.log_gain for k in keys]),
            torch.stack([k.bias for k in keys]),
            torch.stack([k.factor for k in keys]),
        )

    def _points(self) -> Points:
        return Points.stack([k.points for k in self._window])

    def _add_key_frame(
        self, image: Tensor, levels: list[Tensor], pose: Tensor, gain: Tensor | float, bias: Tensor | float
    ) -> None:
        height, width = image.shape[-2:]
        depth = self.run.depth_of_frames(image[None], height, width)
        inverse = 1 / torch.from_numpy(depth[0])
        points = select_points(local_contrast(image), inverse, self.camera, self.settings.cell)
        scale = self._window[-1].log_scale if self._window else torch.tensor(0.0)
        self._window.append(_KeyFrame(
            len(self._key_poses), local_contrast(image), levels, inverse, points, pose, scale,
            torch.as_tensor(gain), torch.as_tensor(bias), torch.zeros_like(points.inverse_depth[0]),
        ))  # fmt: skip
        self._key_poses.append(pose)
        del self._window[: -self.settings.key_frames]


def local_contrast(image: Tensor, radius: int = 7, floor: float = 0.03) -> Tensor:
    """The image less its local mean, over its local deviation: free of exposure and vignetting."""
    size = 2 * radius + 1
    padded = torch.nn.functional.pad(image[None], [radius] * 4, mode="reflect")
    mean = torch.nn.functional.avg_pool2d(padded, size, 1)
    square = torch.nn.functional.avg_pool2d(padded.square(), size, 1)
    variance = (square - mean.square()).clamp(min=0).mean(1, keepdim=True)
    return ((image[None] - mean) / (variance + floor**2).sqrt())[0]


def track_frames(odometry: Odometry, frames: Iterable[Frame]) -> Iterator[FrameMotion]:
    """Poses of frames while they come."""
    for frame in frames:
        yield odometry.track(frame)
