"""Align a frame to the key frames of odometry's window."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egodepth.data.sequence import Frame
from egodepth.geometry import se3
from egodepth.geometry.alignment import AlignSettings, align
from egodepth.geometry.alignment_residual import State
from egodepth.geometry.bundle import BundleState, Window, agreement
from egodepth.geometry.camera import Camera
from egodepth.geometry.key_frame_window import KeyFrame, KeyFrameWindow
from egodepth.geometry.pyramid import make_levels
from egodepth.geometry.resection import resect
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

    def place(self, camera: Camera, static: Tensor | None) -> Callable[[], Place]:
        """A function that makes what the map keeps of it, from what is known now."""
        assert self.features is not None
        mask = None if static is None else static.numpy()
        image, log_scale, factor = self.features, float(self.log_scale), self.factor

        def make() -> Place:
            place = make_place(
                self.summary, image, self.prepared, self.inverse_depth, self.points, camera,
                mask,
            )  # fmt: skip
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
    starts: list[Tensor],
    levels: list[Tensor],
    key: TrackedKeyFrame,
    camera: Camera,
    static: Tensor | None = None,
) -> Tensor:
    """Align from several starts and return the best pose, or the first start if none can be trusted. A static
    mask (h, w) is ignored."""
    count = len(starts)
    start = torch.stack([s @ se3.inverse(key.camera_from_world) for s in starts])
    depth = (key.inverse_depth * key.log_scale.exp()).expand(count, -1, -1)
    target = [m.expand(count, -1, -1, -1) for m in key.levels]
    source = [m.expand(count, -1, -1, -1) for m in levels]
    cameras = Camera(camera.matrix.expand(count, 3, 3), camera.height, camera.width)
    masks = None if static is None else static.expand(count, 1, -1, -1)
    found = align(make_levels(target, source, depth, cameras, masks), State.start(start), ALIGNMENT)
    best = int(torch.where(found.trusted, found.cost, found.cost + 1e3).argmin())
    relative = found.state.source_from_target[best] if found.trusted[best] else start[0]
    return relative @ key.camera_from_world


def median_flow(key: TrackedKeyFrame, pose: Tensor, camera: Camera) -> float:
    """Median displacement of the key frame's points in pixels."""
    rays = key.points.rays[0, :, 0]
    points = rays / (key.points.inverse_depth[0] * (key.log_scale + key.factor).exp())[:, None]
    moved = se3.transform(pose @ se3.inverse(key.camera_from_world), points)
    ahead = moved[:, 2] > 0
    flow = (camera.project(moved) - camera.project(rays)).norm(dim=1)[ahead]
    return float(flow.median()) if len(flow) else float("inf")


def refine(
    window: KeyFrameWindow[TrackedKeyFrame], contrast: Tensor, pose: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Refine a pose with the points of all key frames, which are fixed; also return the points' weights (H, M),
    and the correlation with the last key frame."""
    pose, weights = resect(
        window.known_points(), contrast, window.camera, pose, iterations=REFINE_ITERATIONS
    )
    last = window.frames[-1]
    both = BundleState(
        torch.stack([last.camera_from_world, pose]), last.log_scale.expand(2), last.factor[None]
    )
    view = Window(last.points, contrast[None], torch.tensor([1]), window.camera)
    return pose, weights, float(agreement(view, both))


def scale_by_points(
    window: KeyFrameWindow[TrackedKeyFrame],
    inverse_depth: Tensor,
    pose: Tensor,
    weights: Tensor | None,
) -> Tensor:
    """Log scale that fits DepthNet's inverse depth of a new key frame to the known points, in the median.
    DepthNet's scale can change by a third within a curve."""
    if weights is None:
        return torch.tensor(0.0)
    central = window.known_points().position[:, 0, weights.flatten() > MIN_INLIER_WEIGHT]
    if central.shape[1] < MIN_SCALE_POINTS:
        return window.frames[-1].log_scale
    near = pose[:3] @ central
    x, y = window.camera.project(near.mT).round().long().unbind(-1)
    height, width = inverse_depth.shape
    predicted = inverse_depth[y.clamp(0, height - 1), x.clamp(0, width - 1)]
    return -(predicted * near[2] / central[3]).log().median()
