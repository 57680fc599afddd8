"""Visual odometry: frames are aligned to key frames, and key frames are adjusted in a sliding window. A map of
all key frames recognises places that come again, and closes loops.

DepthNet gives key frames their depth, and thereby the whole video one scale. Alignment and bundle adjustment
make the motion agree with the images, which PoseNet's motion does only roughly.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egodepth.core.errors import require
from egodepth.data.preparation.static_mask import resize_mask
from egodepth.data.sequence import Frame
from egodepth.geometry import se3
from egodepth.geometry.bundle_points import normalized_brightness, select_points
from egodepth.geometry.camera import Camera
from egodepth.geometry.ground import ground_height
from egodepth.geometry.key_frame_window import (
    FIXED_KEY_FRAMES,
    KEY_FRAMES,
    POINT_CELL,
    STRONG_DEPTH_PRIOR,
    WEAK_DEPTH_PRIOR,
    KeyFrameWindow,
)
from egodepth.geometry.pyramid import image_pyramid
from egodepth.inference.arguments import check_camera, check_run
from egodepth.inference.odometry.frame_alignment import (
    REDUCTIONS,
    SeenFrame,
    TrackedKeyFrame,
    align_from,
    median_flow,
    refine,
    scale_by_points,
)
from egodepth.inference.odometry.history import Entry, History, Part
from egodepth.inference.odometry.map import ClosedLoop, KeyFrameMap
from egodepth.inference.odometry.place_store import MAX_BYTES
from egodepth.inference.odometry.places import feature_image
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run

UNKNOWN_MOTIONS = (0.05, 0.1, 0.2)
"""Forward and backward motions that are tried as initial guesses, as shares of the median depth."""
MAX_PARALLAX, MIN_OVERLAP = 0.03, 0.7
"""A frame becomes a key frame if the last key frame's points have moved by this share of the image's width in
the median, or if it sees no more than this share of them."""
MIN_AGREEMENT = 0.3
"""Smallest correlation of an aligned frame with the last key frame at its points, in normalised brightness. It
is at least 0.49 in footage that goes on, and at most 0.08 after a cut, where smoothed images alone can still
agree by their sky and road."""
SURE_AGREEMENT = 0.45
"""Correlation above which a pose refined from constant motion needs no coarse alignment. Where both were
computed, it was at least 0.48, and the coarse alignment led to the same pose."""
MAX_FAILURES = 3
"""Consecutive frames that fail to align after which tracking goes on in a new segment."""


@dataclass(frozen=True)
class OdometrySettings:
    """Settings of visual odometry.

    Attributes:
        key_frames: number of key frames in the window.
        loops: whether to recognise places and close loops.
        trust_depth: whether DepthNet's depth is a strong prior in bundle adjustment; by default only if it was
            learned with motion from more than PoseNet.
        map_bytes: memory of the map, beyond which its oldest key frames are on disk.
        mask: static mask of footage (bonnet, watermark, borders), which is ignored: ``none``, ``auto`` to look
            for it in 100 frames or more, or an image file whose black pixels are masked.
    """

    key_frames: int = KEY_FRAMES
    loops: bool = True
    trust_depth: bool | None = None
    map_bytes: int = MAX_BYTES
    mask: str = "none"


@dataclass(frozen=True)
class _Latest:
    """The latest frame with a pose.

    Attributes:
        number: of the frame.
        entry: of the history.
        pose: (4, 4) ``camera_from_world`` when it came.
        alone: whether it starts a segment.
    """

    number: int
    entry: Entry
    pose: Tensor
    alone: bool


@dataclass(frozen=True)
class FrameMotion:
    """Pose of a frame, as estimated when it arrives.

    Attributes:
        frame: the frame.
        world_from_camera: (4, 4) float64, in the frame of the first camera and the run's unit; a new segment
            starts where the last one ended, since the motion between them is unknown.
        key_frame: whether it became a key frame.
        trusted: whether it could be aligned; if not, its pose is the last known one.
        segment: from 0, number of the part of the footage that was tracked without a break.
    """

    frame: Frame
    world_from_camera: np.ndarray
    key_frame: bool
    trusted: bool
    segment: int = 0


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
        ground: bool = False,
        static: np.ndarray | None = None,
    ):
        """Start before the first frame.

        Args:
            run: trained networks.
            camera: of the frames.
            settings: of the method.
            gap: frames between the two of a pair given to PoseNet; by default as in its training.
            ground: whether to look for the ground, for :meth:`camera_heights`.
            static: (h, w) bool of any size, static mask (bonnet, watermark, borders), which is ignored.
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
        self._static: Tensor | None = None
        if static is not None:
            own = resize_mask(static, self.camera.height, self.camera.width)
            self._static = torch.from_numpy(own)
        self._window: KeyFrameWindow[TrackedKeyFrame] = KeyFrameWindow(
            self.camera, self.settings.key_frames, self.bundle
        )
        self._history = History(
            KeyFrameMap(self.camera, self.settings.map_bytes) if self.settings.loops else None
        )
        self._ground, self._segment, self._failures = ground, 0, 0
        self._latest: _Latest | None = None
        self._step: Tensor | None = None
        self._recent: deque[tuple[Tensor, Entry | None]] = deque(
            maxlen=gap or run.motion_gap.frames
        )

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
        contrast = normalized_brightness(image[None])[0].cpu()
        seen = SeenFrame(frame, image, contrast, levels)
        found = self._track(seen) if self._window.frames else None
        is_key = found is not None and found[1]
        if found is None:
            self._failures += 1
            is_key = self._restart(seen)
        return self._remember(seen, found[0] if found else None, is_key)

    def _restart(self, seen: SeenFrame) -> bool:
        """Start a segment with a frame that could not be aligned if there is none, or the last one is lost;
        return whether that was done."""
        first = self._latest is None
        # A new segment counts once a second frame was aligned to its first, which may be black.
        on_trial = self._segment > 0 and self._latest is not None and self._latest.alone
        if not (first or on_trial or self._failures >= MAX_FAILURES):
            return False
        if on_trial:
            self._history.drop_key()
        else:
            self._settle(self._window.frames)
            self._segment += 0 if first else 1
        self._window.frames = []
        self._recent.clear()
        self._step, self._failures = None, 0
        self._add_key_frame(seen, self._latest.pose if self._latest else torch.eye(4), None)
        return True

    def _remember(self, seen: SeenFrame, pose: Tensor | None, is_key: bool) -> FrameMotion:
        """Add a frame to the history, with its pose unless it could not be aligned."""
        keys, entry, before = self._window.frames, None, self._latest
        starts = is_key and pose is None
        if starts:
            pose = keys[-1].camera_from_world
        if pose is not None:
            last_key = se3.inverse(keys[-1].camera_from_world)
            entry = (len(self._history.key_poses) - 1, se3.rigid(pose @ last_key))
            self._step = None
            if before is not None and not starts:
                motion = se3.rigid(pose @ se3.inverse(self._history.absolute(before.entry)))
                share = torch.tensor(1 / max(seen.frame.number - before.number, 1))
                self._step = se3.part_of(motion, share)
            self._latest = _Latest(seen.frame.number, entry, pose, alone=starts)
            self._failures = 0
        self._history.add(entry)
        self._recent.append((seen.image, entry))
        assert self._latest is not None
        world_from_camera = se3.inverse(self._latest.pose).double().numpy()
        known = entry is not None and not (starts and self._segment > 0)
        return FrameMotion(seen.frame, world_from_camera, is_key, known, self._segment)

    def finish(self) -> None:
        """Look for loops in the newest key frames too, which the window still holds."""
        self._settle(self._window.frames)

    def _settle(self, frames: list[TrackedKeyFrame]) -> None:
        """Add key frames to the map."""
        for key in frames:
            if key.features is not None and self._history.map is not None:
                segment = self._history.segments[key.number]
                self._history.map.submit(key.place(self.camera, self._static), segment)
                key.features = None

    def trajectory(self) -> np.ndarray:
        """Poses ``first_from_frame`` (N, 4, 4), float64, of all frames so far, with loops closed; NaN for
        frames outside of the longest of :meth:`parts`."""
        return self._history.trajectory()

    def live_trajectory(self) -> np.ndarray:
        """Poses as :meth:`trajectory` has them, but before loops were closed; NaN outside of the segment that
        gives it most frames."""
        return self._history.live_trajectory()

    def parts(self) -> list[Part]:
        """The paths that no recognised place joins, the longest first. Frames that could not be aligned are in
        none."""
        return self._history.parts()

    def key_points(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Points of the key frames that the map has, see :meth:`finish`: frame number, pixels (M, 2) at the
        size of the networks' input, and depths (M,) in the unit of :meth:`parts`."""
        return self._history.key_points()

    @property
    def map(self) -> KeyFrameMap | None:
        """The map of key frames that have left the window; None without loops."""
        return self._history.map

    @property
    def loops(self) -> list[ClosedLoop]:
        """The loops that are closed so far."""
        return self._history.loops

    @property
    def rejected_loops(self) -> int:
        """Number of recognised places that others contradict or none supports."""
        return self._history.correction().rejected

    @property
    def key_frames(self) -> int:
        """Number of key frames so far."""
        return len(self._history.key_poses)

    def camera_heights(self) -> list[float | None]:
        """Height of each key frame's camera above the ground, in the unit of the trajectory; None where no
        ground was found, or looked for."""
        return self._history.camera_heights()

    def _track(self, seen: SeenFrame) -> tuple[Tensor, bool] | None:
        """Pose of a frame, and whether it became a key frame; None if it could not be aligned."""
        assert self._latest is not None
        key = self._window.frames[-1]
        before = self._history.absolute(self._latest.entry)
        constant, agree = None, 0.0
        if self._step is not None:
            count = min(max(seen.frame.number - self._latest.number, 1), MAX_FAILURES)
            constant = _times(self._step, count) @ before
            pose, weights, agree = refine(self._window, seen.contrast, constant)
        if agree < SURE_AGREEMENT:
            guesses = self._guesses(seen.image, key, before, constant)
            start = align_from(guesses, seen.levels, key, self.camera, self._static)
            pose, weights, agree = refine(self._window, seen.contrast, start)
        if agree < MIN_AGREEMENT:
            return None
        own = weights[-1]
        share = (own > 0).float().sum() / key.points.valid.sum()
        flow = median_flow(key, pose, self.camera)
        if flow < MAX_PARALLAX * self.camera.width and share > MIN_OVERLAP:
            return pose, False
        self._add_key_frame(seen, pose, weights)
        self._adjust()
        return self._window.frames[-1].camera_from_world, True

    def _guesses(
        self, image: Tensor, key: TrackedKeyFrame, before: Tensor, constant: Tensor | None
    ) -> list[Tensor]:
        """Initial poses of a frame, given the pose ``before`` it: constant motion, PoseNet's motion, no motion,
        and forward and backward motions by shares of the depth."""
        guesses = [] if constant is None else [constant]
        earlier, entry = self._recent[0] if self._recent else (image, None)
        if self.run.has_motion and entry is not None:
            guesses.append(self._by_network(image, earlier, entry))
        guesses.append(before)
        depth = float((1 / key.inverse_depth).median())
        for share in UNKNOWN_MOTIONS:
            for sign in (-1, 1):
                guess = torch.eye(4)
                guess[2, 3] = sign * share * depth
                guesses.append(guess @ before)
        return guesses

    def _by_network(self, image: Tensor, earlier: Tensor, entry: Entry) -> Tensor:
        """Pose from PoseNet's motion from an earlier image over the gap it was trained with; at the start, from
        the first frame by a share of that motion."""
        motion = self.run.motions_of_frames(earlier[None], image[None])[0]
        share = torch.tensor(len(self._recent) / (self._recent.maxlen or 1))
        moved = se3.part_of(torch.from_numpy(motion).float(), share)
        return moved @ self._history.absolute(entry)

    def _adjust(self) -> None:
        """Adjust the window with its oldest key frames fixed."""
        full = len(self._window.frames) == self.settings.key_frames
        # The first key frames can still improve, since others do not support their depth yet.
        self._window.adjust(FIXED_KEY_FRAMES if full else 1)
        for key in self._window.frames:
            self._history.key_poses[key.number] = key.camera_from_world
            self._history.scales[key.number] = float(key.log_scale)

    def _add_key_frame(self, seen: SeenFrame, pose: Tensor, weights: Tensor | None) -> None:
        depth, summary = self.run.depth_and_summary(seen.image[None], *seen.image.shape[-2:])
        inverse = 1 / torch.from_numpy(depth[0])
        points = select_points(seen.contrast, inverse, self.camera, POINT_CELL, self._static)
        scale = scale_by_points(self._window, inverse, pose, weights)
        image = None if self._history.map is None else feature_image(seen.frame.image)
        dropped = self._window.add(
            TrackedKeyFrame(
                len(self._history.key_poses), seen.contrast, points, pose, scale,
                torch.zeros_like(points.inverse_depth[0]), seen.levels, inverse, seen.image, summary[0],
                image,
            )
        )  # fmt: skip
        self._settle(dropped)
        above_ground = ground_height(inverse, self.camera) if self._ground else None
        self._history.add_key(seen.frame.number, self._segment, pose, float(scale), above_ground)


def _times(motion: Tensor, count: float) -> Tensor:
    """A motion so many times, or a share of it."""
    return motion if count == 1 else se3.part_of(motion, torch.tensor(float(count)))
