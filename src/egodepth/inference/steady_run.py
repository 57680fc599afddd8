"""A run's depth, made steady along the camera's motion as frames arrive."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from egodepth.core.errors import require
from egodepth.data.sequence import Frame, Sequence, time_per_frame
from egodepth.geometry.camera import Camera
from egodepth.inference.odometry.tracker import FrameMotion, Odometry, OdometrySettings
from egodepth.inference.pose_scale import scale_of_poses
from egodepth.inference.steady import SteadyDepth, SteadySettings
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run

MIN_POSED_SHARE = 0.9
"""Smallest share of the frames that must have poses for these to be used in place of odometry."""
MAX_TRACKED = 10_000
"""Number of frames after which odometry starts again, so that its poses take no more memory."""


class SteadyRun:
    """Predicts steady depth of frames in their order, from the past alone and in constant memory.

    Attributes:
        motion: of the last frame, if odometry runs along.
    """

    def __init__(
        self,
        run: Run,
        camera: Camera,
        settings: SteadySettings | None = None,
        *,
        poses: dict[int, np.ndarray] | None = None,
        gap: int | None = None,
    ):
        """Start before the first frame.

        Args:
            run: trained networks.
            camera: of the frames.
            settings: of the filter.
            poses: ``world_from_camera`` (4, 4) by frame number, in the run's unit; None to run odometry along.
            gap: frames between the two of a pair given to PoseNet; by default as in its training.
        """
        require(settings, (SteadySettings, type(None)), "settings", "SteadySettings")
        self.run, self.camera, self._poses, self._gap = run, camera, poses, gap
        self.motion: FrameMotion | None = None
        run.fit_size(camera.height, camera.width)
        size = run.settings.height, run.settings.width
        self._filter = SteadyDepth(camera.to(torch.float32).resize(*size), settings)
        self._tracker = None if poses is not None else self._track_anew()
        self._tracked, self._segment, self._start = 0, 0, np.eye(4)

    @classmethod
    def of_sequence(
        cls, run: Run, sequence: Sequence, settings: SteadySettings | None = None
    ) -> "SteadyRun":
        """Make one for footage: with its own poses if nearly all frames have one, else with odometry. The
        poses' scale is found by how well a few frames agree, see :func:`scale_of_poses`.

        Args:
            run: trained networks.
            sequence: footage with a camera.
            settings: of the filter.
        """
        assert sequence.camera is not None
        frames, recorded = sequence.frames, sequence.world_from_camera
        gap = run.motion_gap.in_frames(time_per_frame(frames)) if run.has_motion else None
        if recorded is None or np.isfinite(recorded).all((1, 2)).mean() < MIN_POSED_SHARE:
            return cls(run, sequence.camera, settings, gap=gap)
        factor = scale_of_poses(
            sequence, recorded, lambda frame, size: run.depth(frame.image, size), frames.numbers
        )
        scaled = recorded.copy()
        scaled[:, :3, 3] *= factor
        return cls(
            run, sequence.camera, settings, poses=dict(zip(frames.numbers, scaled, strict=True))
        )

    def maps(
        self, frame: Frame, image: Tensor, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Depth (H, W) float32 of the next frame, in the run's unit, and the deviation of its log before the
        filter, if the run has confidence.

        Args:
            frame: the frame.
            image: (3, h, w), the frame as prepared for the networks.
            size: height and width of the result.

        Raises:
            NotFiniteError: the run predicts depth or motion that is not finite.
        """
        with naming(frame):
            depth, deviation = self.run.maps_of_frames(image[None], *image.shape[-2:])
        inverse = 1 / torch.from_numpy(depth[0])
        known = None if deviation is None else torch.from_numpy(deviation[0])
        steady = self._filter.update(inverse, image.cpu(), self._pose(frame), known)
        return 1 / _resized(steady, size), None if known is None else _resized(known, size)

    def _pose(self, frame: Frame) -> np.ndarray | None:
        if self._poses is not None:
            return self._poses.get(frame.number)
        assert self._tracker is not None
        if self._tracked >= MAX_TRACKED:
            self._filter.reset()
            self._tracker, self._tracked = self._track_anew(), 0
            if self.motion is not None:
                self._start = self.motion.world_from_camera
        self._tracked += 1
        motion = self._tracker.track(frame)
        motion = replace(motion, world_from_camera=self._start @ motion.world_from_camera)
        self.motion = motion
        if motion.segment != self._segment:
            # The motion from one segment to the next is unknown.
            self._filter.reset()
            self._segment = motion.segment
        return motion.world_from_camera if motion.trusted else None

    def _track_anew(self) -> Odometry:
        settings = OdometrySettings(loops=False)
        return Odometry(self.run, self.camera, settings, gap=self._gap)


def _resized(values: Tensor, size: tuple[int, int]) -> np.ndarray:
    found = F.interpolate(values[None, None], size, mode="bilinear", align_corners=False)
    resized: np.ndarray = found[0, 0].numpy()
    return resized
