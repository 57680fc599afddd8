"""Recognise a place: what is kept of a key frame, and the relative pose of two that show the same place."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from egodepth.data.preparation.static_mask import resize_mask
from egodepth.geometry import se3, sim3
from egodepth.geometry.bundle import (
    BundleSettings,
    BundleState,
    Window,
    adjust,
    agreement,
)
from egodepth.geometry.bundle_points import BundlePoints, make_points, normalized_brightness
from egodepth.geometry.camera import Camera

MAX_FEATURES, FEATURE_WIDTH = 500, 640
"""Local features per key frame, and largest width in pixels of the image they are found in."""
MIN_CONTRAST = 0.01
"""Smallest contrast of a feature. OpenCV's own 0.04 leaves 95 features of a hazy street at 320x96, of which too
few match when it is passed again; this leaves 260."""
MAX_RATIO = 0.8
"""Largest ratio of the distances of the best and the second-best match of a feature."""
MIN_INLIERS, MIN_INLIER_SHARE, REPROJECTION = 25, 0.35, 2.0
"""Fewest matches that one pose explains, their smallest share of all matches, and largest error in pixels of
the networks' input."""
MAX_TURN_DIFFERENCE, MAX_SHIFT_DIFFERENCE, MAX_SCALE_DIFFERENCE = 0.05, 0.1, 0.2
"""Largest differences of the poses by the depth of the one and of the other key frame: radians, share of the
median depth, log scale."""
MIN_AGREEMENT = 0.4
"""Smallest correlation of the images, in both directions, at the pose found."""
NEAR = 5
"""Points of bundle adjustment whose median correction a local feature gets."""
REFINEMENT = BundleSettings(iterations=8, scale_deviation=0.3, factor_deviation=0.1)


@dataclass(frozen=True)
class Features:
    """Local features of an image (SIFT).

    Attributes:
        pixels: (N, 2) float32 x, y, in the networks' input.
        descriptors: (N, 128) uint8.
        inverse_depth: (N,) float16, as predicted.
    """

    pixels: np.ndarray
    descriptors: np.ndarray
    inverse_depth: np.ndarray

    @classmethod
    def find(
        cls, grey: np.ndarray, inverse_depth: np.ndarray, static: np.ndarray | None = None
    ) -> "Features":
        """Find the features of a :func:`feature_image` with its predicted inverse depth (h, w), outside of a
        static mask (h, w)."""
        moving = None
        if static is not None:
            moving = (~resize_mask(static, *grey.shape)).astype(np.uint8)
        finder = cv2.SIFT.create(MAX_FEATURES, contrastThreshold=MIN_CONTRAST)
        found, descriptors = finder.detectAndCompute(grey, moving)
        if descriptors is None:
            return cls(
                np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8), np.zeros(0, np.float16)
            )
        height, width = inverse_depth.shape
        scale = np.array([width / grey.shape[1], height / grey.shape[0]])
        pixels = (np.array([point.pt for point in found]) + 0.5) * scale - 0.5
        x, y = np.clip(np.rint(pixels), 0, [width - 1, height - 1]).astype(int).T
        return cls(
            pixels.astype(np.float32), descriptors.astype(np.uint8),
            inverse_depth[y, x].astype(np.float16),
        )  # fmt: skip

    def match(self, other: "Features") -> np.ndarray:
        """Indices (P, 2) of mutually nearest features of both that are nearer than the second-nearest."""
        if min(len(self.pixels), len(other.pixels)) < 2:
            return np.zeros((0, 2), int)
        first, second = (_root(f.descriptors) for f in (self, other))
        similarity = first @ second.T
        nearest, back = similarity.argmax(1), similarity.argmax(0)
        best = np.partition(similarity, -2, axis=1)[:, -2:]
        distance = np.sqrt(np.clip(2 - 2 * best, 0, None))
        own = np.arange(len(first))
        kept = (back[nearest] == own) & (distance[:, 1] < MAX_RATIO * distance[:, 0])
        return np.stack([own[kept], nearest[kept]], 1)


def feature_image(image: np.ndarray) -> np.ndarray:
    """The grey image (h, w), at most FEATURE_WIDTH wide, in which features of (H, W, 3) uint8 are found."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if grey.shape[1] > FEATURE_WIDTH:
        size = (FEATURE_WIDTH, round(grey.shape[0] * FEATURE_WIDTH / grey.shape[1]))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return grey


def _root(descriptors: np.ndarray) -> np.ndarray:
    """RootSIFT: Arandjelovic and Zisserman, CVPR 2012."""
    values = descriptors.astype(np.float32)
    rooted: np.ndarray = np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1))
    return rooted


@dataclass
class Place:
    """What is kept of a key frame to recognise its place.

    Attributes:
        grey: (h, w) uint8, at the size of the networks' input.
        summary: (D,) float16, similar for images of the same place; see :meth:`Run.depth_and_summary`.
        features: local features.
        x, y: (M,) uint16 pixels of the points of bundle adjustment.
        inverse_depth: (M,) float16 of them, as predicted, and adjusted once the key frame has left the window.
        valid: (M,) bool.
        log_scale: adjusted log scale of all inverse depth.
    """

    grey: np.ndarray
    summary: np.ndarray
    features: Features
    x: np.ndarray
    y: np.ndarray
    inverse_depth: np.ndarray
    valid: np.ndarray
    log_scale: float = 0.0

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = (*vars(self).values(), *vars(self.features).values())
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    @property
    def median_depth(self) -> float:
        """Median depth of the points."""
        return float(np.exp(-self.log_scale) / np.median(self.inverse_depth.astype(np.float64)))

    def settle(self, log_scale: float, factor: Tensor) -> None:
        """Keep the adjusted depth: its log scale, and the log factors (M,) of the points, which also correct
        the local features near them."""
        self.log_scale = log_scale
        known = np.stack([self.x, self.y], 1)[self.valid].astype(np.float32)
        if len(known) and len(self.features.pixels):
            _, near = KDTree(known).query(self.features.pixels, k=NEAR)
            change = np.median(factor.numpy()[self.valid][near], axis=1)
            inverse = self.features.inverse_depth.astype(np.float32) * np.exp(change)
            self.features = replace(self.features, inverse_depth=inverse.astype(np.float16))
        adjusted = self.inverse_depth.astype(np.float32) * factor.exp().numpy()
        self.inverse_depth = adjusted.astype(np.float16)

    def map(self) -> Tensor:
        """(1, h, w) of normalised brightness."""
        grey = torch.from_numpy(self.grey).float() / 255
        return normalized_brightness(grey.expand(1, 3, -1, -1))[0]

    def points(self, image: Tensor, camera: Camera, factor: float) -> BundlePoints:
        """Points of bundle adjustment, with their inverse depth times a factor."""
        x, y = (torch.from_numpy(v.astype(np.int64)) for v in (self.x, self.y))
        inverse = torch.from_numpy(self.inverse_depth.astype(np.float32)) * factor
        return make_points(image, inverse, x, y, torch.from_numpy(self.valid), camera)

    def point_depth(self) -> np.ndarray:
        """(M,) float64 of the points of bundle adjustment, scaled."""
        depth: np.ndarray = np.exp(-self.log_scale) / self.inverse_depth.astype(np.float64)
        return depth

    def depth(self) -> np.ndarray:
        """(N,) float64 of the local features, scaled."""
        depth: np.ndarray = np.exp(-self.log_scale) / self.features.inverse_depth.astype(np.float64)
        return depth


def make_place(
    summary: np.ndarray,
    image: np.ndarray,
    prepared: Tensor,
    inverse_depth: Tensor,
    points: BundlePoints,
    camera: Camera,
    static: np.ndarray | None = None,
) -> Place:
    """What to keep of a new key frame.

    Args:
        summary: (D,), see :class:`Place`.
        image: see :func:`feature_image`.
        prepared: (3, h, w) in [0, 1], the input of the networks.
        inverse_depth: (h, w), predicted.
        points: of the key frame.
        camera: for the size of the networks' input.
        static: (h, w) bool, static mask.
    """
    grey = prepared.mean(0).mul(255).round().byte().cpu().numpy()
    pixels = camera.project(points.rays[0, :, 0]).round().numpy().astype(np.uint16)
    features = Features.find(image, inverse_depth.numpy(), static)
    return Place(
        grey, summary.astype(np.float16), features, pixels[:, 0], pixels[:, 1],
        points.inverse_depth[0].numpy().astype(np.float16), points.valid[0].numpy(),
    )  # fmt: skip


@dataclass(frozen=True)
class Recognition:
    """Two key frames that show the same place.

    Attributes:
        first_from_second: (4, 4) float64 similarity, between the units of their depths.
        inliers: matches of local features that agree with it.
        agreement: correlation of the images, in the direction where it is smaller.
        depth: median depth of the matches, in the unit of the first.
    """

    first_from_second: Tensor
    inliers: int
    agreement: float
    depth: float


def recognize(first: Place, second: Place, camera: Camera) -> Recognition | None:
    """Find the relative pose of two key frames, or None if they do not certainly show the same place.

    The depth of each must give the same pose of the other, by the local features alone, and the images must
    agree at that pose once it is adjusted to them.

    Args:
        first, second: the key frames.
        camera: of both, at the size of the networks' input.
    """
    pairs = first.features.match(second.features)
    if len(pairs) < MIN_INLIERS:
        return None
    rays = [
        _rays(f.pixels[column], camera)
        for f, column in zip((first.features, second.features), pairs.T, strict=True)
    ]
    depths = [p.depth()[column] for p, column in zip((first, second), pairs.T, strict=True)]
    there = _pose(rays[0] * depths[0][:, None], rays[1][:, :2], camera)
    again = _pose(rays[1] * depths[1][:, None], rays[0][:, :2], camera)
    if there is None or again is None:
        return None
    (second_from_first, inner), (back, inner_back) = there, again
    both = inner & inner_back
    if both.sum() < MIN_INLIERS:
        return None
    seen = (rays[0] * depths[0][:, None])[both] @ second_from_first[2, :3] + second_from_first[2, 3]
    scale = float(np.median(seen / depths[1][both]))
    depth = float(np.median(depths[0][both]))
    if scale <= 0:
        return None
    back = back.copy()
    back[:3, 3] *= scale
    if not _near(back @ second_from_first, depth):
        return None
    return _refine(first, second, camera, second_from_first, scale, depth, int(both.sum()))


def _rays(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 3) viewing rays with z = 1, float64."""
    fx, fy, cx, cy = camera.focal_and_centre.double().numpy()
    x, y = pixels.astype(np.float64).T
    return np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], 1)


def _pose(
    points: np.ndarray, rays: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray] | None:
    """Pose (4, 4) of the camera that sees points (N, 3) along rays (N, 2), and which of them do."""
    error = REPROJECTION / float(camera.focal_and_centre[0])
    found, turn, shift, inner = cv2.solvePnPRansac(
        points, rays, np.eye(3), None, iterationsCount=300, reprojectionError=error,
        confidence=0.9999, flags=cv2.SOLVEPNP_SQPNP,
    )  # fmt: skip
    if not found or inner is None or len(inner) < max(MIN_INLIERS, MIN_INLIER_SHARE * len(points)):
        return None
    kept = np.zeros(len(points), bool)
    kept[inner.ravel()] = True
    turn, shift = cv2.solvePnPRefineLM(points[kept], rays[kept], np.eye(3), None, turn, shift)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
    return (pose, kept) if np.isfinite(pose).all() else None


def _near(motion: np.ndarray, depth: float) -> bool:
    """Whether a motion is almost none, for points at some depth."""
    angle = float(se3.rotation_angle(torch.from_numpy(motion[:3, :3])))
    shift = float(np.linalg.norm(motion[:3, 3]))
    return angle < MAX_TURN_DIFFERENCE and shift < MAX_SHIFT_DIFFERENCE * depth


def _refine(
    first: Place, second: Place, camera: Camera, second_from_first: np.ndarray, scale: float,
    depth: float, inliers: int,
) -> Recognition | None:  # fmt: skip
    """Adjust the pose, and the scale of the second's depth, to both images; None if they do not agree."""
    maps = torch.stack([first.map(), second.map()])
    points = BundlePoints.stack([
        first.points(maps[0], camera, float(np.exp(first.log_scale))),
        second.points(maps[1], camera, float(np.exp(second.log_scale)) / scale),
    ])  # fmt: skip
    window = Window(points, maps, torch.arange(2), camera)
    start = torch.stack([torch.eye(4), torch.from_numpy(second_from_first).float()])
    state = BundleState(start, torch.zeros(2), torch.zeros_like(points.inverse_depth))
    state, _ = adjust(window, state, torch.tensor([False, True]), REFINEMENT)
    motion = se3.rigid(state.camera_from_world[1].double())
    change = float(state.log_scale[1])
    moved = motion.numpy() @ np.linalg.inv(second_from_first)
    between = agreement(window, state)
    agree = float(min(between[0, 1], between[1, 0]))
    if agree < MIN_AGREEMENT or abs(change) > MAX_SCALE_DIFFERENCE or not _near(moved, depth):
        return None
    unit = torch.tensor(scale * np.exp(-change), dtype=torch.float64)
    return Recognition(sim3.scaled(se3.inverse(motion), unit), inliers, agree, depth)
