"""Align a frame to the key frames of odometry's window."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from egodepth.data.sequence import Frame
from egodepth.geometry import se3
from egodepth.geometry.alignment import AlignSettings, align
from egodepth.geometry.alignment_residual import State
from egodepth.geometry.bundle import BundleState, Window, adjust, agreement
from egodepth.geometry.camera import Camera
from egodepth.geometry.key_frame_window import KeyFrame, KeyFrameWindow
from egodepth.geometry.pyramid import make_levels
from egodepth.inference.odometry.places import Place, make_place

MIN_INLIER_WEIGHT, MIN_SCALE_POINTS = 0.5, 20
"""Smallest weight of a point that counts as an inlier, and fewest inliers that give a scale."""
REDUCTIONS = (8, 4)
"""Reductions at which a frame is aligned to a key frame; the window's points refine its pose."""
ALIGNMENT = AlignSettings(brightness=True, iterations=15, tolerance=0.05)
REFINE_ITERATIONS = 5


@dataclass
class TrackedKeyFrame(KeyFrame):
    """A key frame that frames are aligned to.

    Attributes:
        levels: images (3, h, w) at REDUCTIONS.
        inverse_depth: (H, W), predicted.
        prepared: (3, h, w), input of the networks.
        summary: (D,), see :class:`~egodepth.inference.odometry.places.Place`.
        features: image in which the map finds local features; None if there is no map, or it has them.
    """

    levels: list[Tensor]
    inverse_depth: Tensor
    prepared: Tensor
    summary: np.ndarray
    features: np.ndarray | None

    def place(self, camera: Camera) -> Callable[[], Place]:
        """A function that makes what the map keeps of it, from what is known now."""
        assert self.features is not None
        image, log_scale, factor = self.features, float(self.log_scale), self.factor

        def make() -> Place:
            place = make_place(
                self.summary, image, self.prepared, self.inverse_depth, self.points, camera
            )
            place.settle(log_scale, factor)
            return place

        return make


@dataclass(frozen=True)
class SeenFrame:
    """A frame that is being tracked.

    Attributes:
        frame: the frame.
        image: (3, h, w), input of the networks.
        contrast: (1, h, w) of normalised brightness.
        levels: images (3, h, w) at REDUCTIONS.
    """

    frame: Frame
    image: Tensor
    contrast: Tensor
    levels: list[Tensor]


def align_from(
    starts: list[Tensor], levels: list[Tensor], key: TrackedKeyFrame, camera: Camera
) -> tuple[Tensor, bool]:
    """Align from several starts and return the best result, or the first start if none can be trusted."""
    count = len(starts)
    start = torch.stack([s @ se3.inverse(key.camera_from_world) for s in starts])
    depth = (key.inverse_depth * key.log_scale.exp()).expand(count, -1, -1)
    target = [m.expand(count, -1, -1, -1) for m in key.levels]
    source = [m.expand(count, -1, -1, -1) for m in levels]
    cameras = Camera(camera.matrix.expand(count, 3, 3), camera.height, camera.width)
    found = align(make_levels(target, source, depth, cameras), State.start(start), ALIGNMENT)
    best = int(torch.where(found.trusted, found.cost, found.cost + 1e3).argmin())
    trusted = bool(found.trusted[best])
    relative = found.state.source_from_target[best] if trusted else start[0]
    return relative @ key.camera_from_world, trusted


def median_flow(key: TrackedKeyFrame, pose: Tensor, camera: Camera) -> float:
    """Median displacement of the key frame's points in pixels."""
    rays = key.points.rays[0, :, 0]
    points = rays / (key.points.inverse_depth[0] * (key.log_scale + key.factor).exp())[:, None]
    moved = se3.transform(pose @ se3.inverse(key.camera_from_world), points)
    ahead = moved[:, 2] > 0
    flow = (camera.project(moved) - camera.project(rays)).norm(dim=1)[ahead]
    return float(flow.median()) if len(flow) else float("inf")


def refine(
    key_frames: KeyFrameWindow[TrackedKeyFrame], contrast: Tensor, pose: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Refine a pose with the points of all key frames, which are fixed; also return the points' weights,
    and the correlation with the last key frame."""
    count = len(key_frames.frames)
    state = key_frames.state()
    state = BundleState(
        torch.cat([state.camera_from_world, pose[None]]),
        torch.cat([state.log_scale, torch.zeros(1)]),
        state.factor,
    )
    window = Window(key_frames.points(), contrast[None], torch.tensor([count]), key_frames.camera)
    free = torch.arange(count + 1) == count
    bundle = replace(key_frames.settings, iterations=REFINE_ITERATIONS)
    state, weights = adjust(window, state, free, bundle, solve_points=False)
    agree = float(agreement(window, state)[0, -1])
    return se3.rigid(state.camera_from_world[-1]), weights, agree


def scale_by_points(
    key_frames: KeyFrameWindow[TrackedKeyFrame],
    inverse_depth: Tensor,
    pose: Tensor,
    weights: Tensor | None,
) -> Tensor:
    """Log scale that fits DepthNet's inverse depth of a new key frame to the known points, in the median.
    DepthNet's scale can change by a third within a curve."""
    if weights is None:
        return torch.tensor(0.0)
    state, points = key_frames.state(), key_frames.points()
    inverse = points.inverse_depth * (state.log_scale[:, None] + state.factor).exp()
    here = points.rays[:, :, 0] / inverse[..., None]
    motion = pose @ se3.inverse(state.camera_from_world)
    moved = se3.transform(motion, here)[weights[0] > MIN_INLIER_WEIGHT]
    if len(moved) < MIN_SCALE_POINTS:
        return key_frames.frames[-1].log_scale
    x, y = key_frames.camera.project(moved).round().long().unbind(-1)
    height, width = inverse_depth.shape
    predicted = inverse_depth[y.clamp(0, height - 1), x.clamp(0, width - 1)]
    return -(predicted * moved[:, 2]).log().median()
