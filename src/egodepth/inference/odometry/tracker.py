"""Visual odometry: frames are aligned to key frames, and key frames are adjusted in a sliding window. A map of
all key frames recognises places that come again, and closes loops.

DepthNet gives key frames their depth, and thereby the whole video one scale. Alignment and bundle adjustment
make the motion agree with the images, which PoseNet's motion does only roughly.
"""

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from egodepth.core.errors import require
from egodepth.data.sequence import Frame
from egodepth.geometry import se3, sim3
from egodepth.geometry.alignment import AlignSettings, align
from egodepth.geometry.alignment_residual import State
from egodepth.geometry.bundle import (
    BundleState,
    Window,
    adjust,
    normalized_brightness,
    select_points,
)
from egodepth.geometry.camera import Camera
from egodepth.geometry.ground import ground_height
from egodepth.geometry.key_frame_window import (
    FIXED_KEY_FRAMES,
    KEY_FRAMES,
    POINT_CELL,
    STRONG_DEPTH_PRIOR,
    WEAK_DEPTH_PRIOR,
    KeyFrame,
    KeyFrameWindow,
)
from egodepth.geometry.pyramid import image_pyramid, make_levels
from egodepth.inference.arguments import check_camera, check_run
from egodepth.inference.odometry.map import ClosedLoop, Correction, KeyFrameMap
from egodepth.inference.odometry.places import Place, make_place
from egodepth.runs.run import Run, naming

MIN_INLIER_WEIGHT, MIN_SCALE_POINTS = 0.5, 20
"""Smallest weight of a point that counts as an inlier, and fewest inliers that give a scale."""
REDUCTIONS = (8, 4)
"""Reductions at which a frame is aligned to a key frame; the window's points refine its pose."""
ALIGNMENT = AlignSettings(brightness=True, iterations=15, tolerance=0.05)
REFINE_ITERATIONS = 5
UNKNOWN_MOTIONS = (0.05, 0.1, 0.2)
"""Forward and backward motions that are tried as initial guesses, as shares of the median depth."""
MAX_PARALLAX, MIN_OVERLAP = 0.03, 0.7
"""A frame becomes a key frame if the last key frame's points have moved by this share of the image's width in
the median, or if it sees no more than this share of them."""


@dataclass(frozen=True)
class OdometrySettings:
    """Settings of visual odometry.

    Attributes:
        key_frames: number of key frames in the window.
        loops: whether to recognise places and close loops.
        trust_depth: whether DepthNet's depth is a strong prior in bundle adjustment; by default only if it was
            learned with motion from more than PoseNet.
    """

    key_frames: int = KEY_FRAMES
    loops: bool = True
    trust_depth: bool | None = None


@dataclass
class _KeyFrame(KeyFrame):
    """A key frame that frames are aligned to.

    Attributes:
        levels: images (3, h, w) at REDUCTIONS.
        inverse_depth: (H, W), predicted.
        place: what the map keeps of it, if there is one.
    """

    levels: list[Tensor]
    inverse_depth: Tensor
    place: Place | None


@dataclass(frozen=True)
class FrameMotion:
    """Pose of a frame, as estimated when it arrives.

    Attributes:
        frame: the frame.
        world_from_camera: (4, 4) float64, in the frame of the first camera and the run's unit.
        key_frame: whether it became a key frame.
        trusted: whether it could be aligned; if not, its pose is based on a guess, such as constant motion.
    """

    frame: Frame
    world_from_camera: np.ndarray
    key_frame: bool
    trusted: bool


class Odometry:
    """Online visual odometry, frame by frame; memory grows by one 4x4 pose per frame, and by a
    :class:`~egodepth.inference.odometry.places.Place` per key frame if it closes loops."""

    def __init__(
        self,
        run: Run,
        camera: Camera,
        settings: OdometrySettings | None = None,
        *,
        gap: int | None = None,
    ):
        """Start before the first frame.

        Args:
            run: trained networks.
            camera: of the frames.
            settings: of the method.
            gap: frames between the two of a pair given to PoseNet; by default as in its training.
        """
        check_run(run)
        check_camera(camera)
        require(settings, (OdometrySettings, type(None)), "settings", "OdometrySettings")
        self.run, self.settings = run, settings or OdometrySettings()
        trust = self.settings.trust_depth
        self.bundle = (
            STRONG_DEPTH_PRIOR
            if (run.sound_motion if trust is None else trust)
            else WEAK_DEPTH_PRIOR
        )
        self.camera = camera.to(torch.float32).resize(run.settings.height, run.settings.width)
        self._window: KeyFrameWindow[_KeyFrame] = KeyFrameWindow(
            self.camera, self.settings.key_frames, self.bundle
        )
        self._map = KeyFrameMap(self.camera) if self.settings.loops else None
        self._corrected: tuple[tuple[int, int], Correction] | None = None
        self._key_poses: list[Tensor] = []
        self._key_frames: list[int] = []
        self._scales: list[float] = []
        self._heights: list[float | None] = []
        self._frames: list[tuple[int, Tensor]] = []
        self._step: Tensor | None = None
        self._recent: deque[Tensor] = deque(maxlen=gap or run.motion_gap.frames)

    @torch.inference_mode()
    def track(self, frame: Frame) -> FrameMotion:
        """Estimate the pose of the next frame.

        Raises:
            NotFiniteError: the run predicts depth or motion that is not finite.
        """
        with naming(frame):
            return self._next(frame)

    def _next(self, frame: Frame) -> FrameMotion:
        image = self.run.prepare(frame.image)
        levels = [m[0].cpu() for m in image_pyramid(image[None], REDUCTIONS)]
        if not self._window.frames:
            contrast = normalized_brightness(image[None])[0].cpu()
            self._add_key_frame(frame, image, contrast, levels, torch.eye(4), None)
            pose, trusted, is_key = torch.eye(4), True, True
        else:
            pose, trusted, is_key = self._track(frame, image, levels)
        last_key = self._window.frames[-1].camera_from_world
        before = self._absolute(self._frames[-1]) if self._frames else pose
        self._frames.append((len(self._key_poses) - 1, se3.rigid(pose @ se3.inverse(last_key))))
        known = trusted and len(self._frames) > 1
        self._step = se3.rigid(pose @ se3.inverse(before)) if known else None
        self._recent.append(image)
        world_from_camera = se3.inverse(pose).double().numpy()
        return FrameMotion(frame, world_from_camera, is_key, trusted)

    def finish(self) -> None:
        """Look for loops in the newest key frames too, which the window still holds."""
        self._settle(self._window.frames)

    def _settle(self, frames: list[_KeyFrame]) -> None:
        """Add key frames to the map."""
        for key in frames:
            if key.place is not None and self._map is not None:
                key.place.settle(float(key.log_scale), key.factor)
                self._map.add(key.place)
                key.place = None

    def trajectory(self) -> np.ndarray:
        """Poses ``first_from_frame`` (N, 4, 4), float64, of all frames so far, with loops closed."""
        world_from_key = self._correction().world_from_key
        first = sim3.inverse(world_from_key[0])
        poses = [
            first @ world_from_key[key] @ se3.inverse(frame_from_key.double())
            for key, frame_from_key in self._frames
        ]
        scale = sim3.scale_of(world_from_key[0])
        moved = sim3.rigid(torch.stack(poses))
        moved[:, :3, 3] *= scale
        return moved.numpy()

    def live_trajectory(self) -> np.ndarray:
        """Poses ``first_from_frame`` (N, 4, 4), float64, of all frames so far, without loops."""
        poses = torch.stack([self._absolute(entry) for entry in self._frames])
        return se3.inverse(poses.double()).numpy()

    @property
    def loops(self) -> list[ClosedLoop]:
        """The loops that are closed so far."""
        return [] if self._map is None else self._map.describe(self._correction(), self._key_frames)

    @property
    def rejected_loops(self) -> int:
        """Number of recognised places that others contradict or none supports."""
        return self._correction().rejected

    def _correction(self) -> Correction:
        poses = torch.stack(self._key_poses)
        if self._map is None:
            return Correction(se3.inverse(poses.double()))
        state = len(self._frames), len(self._map)
        if self._corrected is None or self._corrected[0] != state:
            self._corrected = state, self._map.correct(poses)
        return self._corrected[1]

    @property
    def key_frames(self) -> int:
        """Number of key frames so far."""
        return len(self._key_poses)

    def camera_heights(self) -> list[float | None]:
        """Height of each key frame's camera above the ground, in the unit of the trajectory; None where no
        ground was found."""
        units = sim3.scale_of(self._correction().world_from_key).tolist()
        return [
            None if height is None else height / math.exp(scale) * unit
            for height, scale, unit in zip(self._heights, self._scales, units, strict=True)
        ]

    def _absolute(self, entry: tuple[int, Tensor]) -> Tensor:
        key, frame_from_key = entry
        return frame_from_key @ self._key_poses[key]

    def _track(
        self, frame: Frame, image: Tensor, levels: list[Tensor]
    ) -> tuple[Tensor, bool, bool]:
        key = self._window.frames[-1]
        pose, trusted = self._align(image, levels, key)
        contrast = normalized_brightness(image[None])[0].cpu()
        pose, weights = self._refine(contrast, pose)
        own = weights[0, -1]
        seen = (own > 0).float().sum() / key.points.valid.sum()
        flow = self._flow(key, pose)
        if flow < MAX_PARALLAX * self.camera.width and seen > MIN_OVERLAP and trusted:
            return pose, trusted, False
        self._add_key_frame(frame, image, contrast, levels, pose, weights)
        self._adjust()
        return self._window.frames[-1].camera_from_world, trusted, True

    def _align(self, image: Tensor, levels: list[Tensor], key: _KeyFrame) -> tuple[Tensor, bool]:
        """Align a frame to a key frame; return its pose and whether to trust it. Starts from constant motion,
        and if that is unknown or fails, from all guesses."""
        before = self._absolute(self._frames[-1])
        if self._step is not None:
            pose, trusted = self._align_from([self._step @ before], levels, key)
            if trusted:
                return pose, trusted
        return self._align_from(self._guesses(image, key, before), levels, key)

    def _align_from(
        self, starts: list[Tensor], levels: list[Tensor], key: _KeyFrame
    ) -> tuple[Tensor, bool]:
        """Align from several starts and return the best result, or the first start if none can be trusted."""
        count = len(starts)
        start = torch.stack([s @ se3.inverse(key.camera_from_world) for s in starts])
        depth = (key.inverse_depth * key.log_scale.exp()).expand(count, -1, -1)
        target = [m.expand(count, -1, -1, -1) for m in key.levels]
        source = [m.expand(count, -1, -1, -1) for m in levels]
        matrix = self.camera.matrix.expand(count, 3, 3)
        camera = Camera(matrix, self.camera.height, self.camera.width)
        found = align(make_levels(target, source, depth, camera), State.start(start), ALIGNMENT)
        best = int(torch.where(found.trusted, found.cost, found.cost + 1e3).argmin())
        trusted = bool(found.trusted[best])
        relative = found.state.source_from_target[best] if trusted else start[0]
        return relative @ key.camera_from_world, trusted

    def _guesses(self, image: Tensor, key: _KeyFrame, before: Tensor) -> list[Tensor]:
        """Initial poses of a frame, given the pose ``before`` it: constant motion, PoseNet's motion, no motion,
        and forward and backward motions by shares of the depth."""
        guesses = [] if self._step is None else [self._step @ before]
        if self.run.has_motion:
            guesses.append(self._by_network(image))
        guesses.append(before)
        depth = float((1 / key.inverse_depth).median())
        for share in UNKNOWN_MOTIONS:
            for sign in (-1, 1):
                guess = torch.eye(4)
                guess[2, 3] = sign * share * depth
                guesses.append(guess @ before)
        return guesses

    def _by_network(self, image: Tensor) -> Tensor:
        """Pose from PoseNet's motion over the gap it was trained with; at the start, from the first frame by a
        share of that motion."""
        count = len(self._recent)
        motion = self.run.motions_of_frames(self._recent[0][None], image[None])[0]
        share = torch.tensor(count / (self._recent.maxlen or 1))
        moved = se3.part_of(torch.from_numpy(motion).float(), share)
        return moved @ self._absolute(self._frames[-count])

    def _flow(self, key: _KeyFrame, pose: Tensor) -> float:
        """Median displacement of the key frame's points in pixels."""
        rays = key.points.rays[0, :, 0]
        points = rays / (key.points.inverse_depth[0] * (key.log_scale + key.factor).exp())[:, None]
        moved = se3.transform(pose @ se3.inverse(key.camera_from_world), points)
        ahead = moved[:, 2] > 0
        flow = (self.camera.project(moved) - self.camera.project(rays)).norm(dim=1)[ahead]
        return float(flow.median()) if len(flow) else float("inf")

    def _refine(self, contrast: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Refine a pose with the points of all key frames, which are fixed; also return the points' weights."""
        count = len(self._window.frames)
        state = self._window.state()
        state = BundleState(
            torch.cat([state.camera_from_world, pose[None]]),
            torch.cat([state.log_scale, torch.zeros(1)]),
            state.factor,
        )
        window = Window(self._window.points(), contrast[None], torch.tensor([count]), self.camera)
        free = torch.arange(count + 1) == count
        bundle = replace(self.bundle, iterations=REFINE_ITERATIONS)
        state, weights = adjust(window, state, free, bundle, solve_points=False)
        return se3.rigid(state.camera_from_world[-1]), weights

    def _adjust(self) -> None:
        """Adjust the window with its oldest key frames fixed."""
        full = len(self._window.frames) == self.settings.key_frames
        # The first key frames can still improve, since others do not support their depth yet.
        self._window.adjust(FIXED_KEY_FRAMES if full else 1)
        for key in self._window.frames:
            self._key_poses[key.number] = key.camera_from_world
            self._scales[key.number] = float(key.log_scale)

    def _scale_by_points(
        self, inverse_depth: Tensor, pose: Tensor, weights: Tensor | None
    ) -> Tensor:
        """Log scale that fits DepthNet's inverse depth of a new key frame to the known points, in the median.
        DepthNet's scale can change by a third within a curve."""
        if weights is None:
            return torch.tensor(0.0)
        state, points = self._window.state(), self._window.points()
        inverse = points.inverse_depth * (state.log_scale[:, None] + state.factor).exp()
        here = points.rays[:, :, 0] / inverse[..., None]
        motion = pose @ se3.inverse(state.camera_from_world)
        moved = se3.transform(motion, here)[weights[0] > MIN_INLIER_WEIGHT]
        if len(moved) < MIN_SCALE_POINTS:
            return self._window.frames[-1].log_scale
        x, y = self.camera.project(moved).round().long().unbind(-1)
        height, width = inverse_depth.shape
        predicted = inverse_depth[y.clamp(0, height - 1), x.clamp(0, width - 1)]
        return -(predicted * moved[:, 2]).log().median()

    def _add_key_frame(
        self,
        frame: Frame,
        image: Tensor,
        contrast: Tensor,
        levels: list[Tensor],
        pose: Tensor,
        weights: Tensor | None,
    ) -> None:
        height, width = image.shape[-2:]
        depth = self.run.depth_of_frames(image[None], height, width)
        inverse = 1 / torch.from_numpy(depth[0])
        points = select_points(contrast, inverse, self.camera, POINT_CELL)
        scale = self._scale_by_points(inverse, pose, weights)
        place = None
        if self._map is not None:
            place = make_place(self.run, frame.image, image, inverse, points, self.camera)
        dropped = self._window.add(_KeyFrame(
            len(self._key_poses), contrast, points, pose, scale,
            torch.zeros_like(points.inverse_depth[0]), levels, inverse, place,
        ))  # fmt: skip
        self._settle(dropped)
        self._key_poses.append(pose)
        self._key_frames.append(frame.number)
        self._scales.append(float(scale))
        self._heights.append(ground_height(inverse, self.camera))
