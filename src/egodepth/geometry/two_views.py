"""Rotation and parallax between two views, without depth."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from numpy import ndarray

CORNERS = 400
CORNER_QUALITY, CORNER_SPACING = 0.01, 4
WINDOW, PYRAMID_LEVELS = 11, 4
RETURN = 0.5
"""Pixels within which a corner tracked forwards and backwards must return."""
MIN_TRACKED_CORNERS = 20
INLIER_PIXELS = 0.5
MIN_FLOW = 0.1
"""Smallest median motion in pixels that can be told from noise."""
FINE_CORNERS, FINE_SPACING, FINE_WINDOW, FINE_RETURN = 500, 8, 21, 0.3
"""The same for full-size images, where subpixel accuracy matters."""
RANSAC_SEED = 0


class ImageMotion(NamedTuple):
    """Camera motion between two images.

    Attributes:
        flow: median motion of the corners, as a share of the image's width.
        rotation: angle in radians.
        parallax: median motion that remains without the rotation, as a share of the width.
    """

    flow: float
    rotation: float
    parallax: float


class TwoViews(NamedTuple):
    """Result of comparing two images.

    Attributes:
        tracked: share of the first image's corners that were tracked into the second.
        motion: of the camera; None if fewer than MIN_TRACKED_CORNERS were tracked.
    """

    tracked: float
    motion: ImageMotion | None


def compare_views(
    first: UInt8[ndarray, "h w"],
    second: UInt8[ndarray, "h w"],
    matrix: Float64[ndarray, "3 3"],
    excluded: Bool[ndarray, "h w"] | None = None,
) -> TwoViews | None:
    """Track corners (pyramidal Lucas-Kanade) and split their motion into rotation and parallax by the essential
    matrix (Nister's five-point algorithm in RANSAC).

    Args:
        first, second: grey images.
        matrix: intrinsics of both.
        excluded: pixels where no corners are detected, such as the ego-vehicle.

    Returns:
        The comparison; None if the first image has fewer than MIN_TRACKED_CORNERS corners.
    """
    width = first.shape[1]
    mask = None if excluded is None else (~excluded).astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(first, CORNERS, CORNER_QUALITY, CORNER_SPACING, mask=mask)
    if corners is None or len(corners) < MIN_TRACKED_CORNERS:
        return None
    moved, found_forward = _track(first, second, corners)
    back, found_back = _track(second, first, moved)
    returned = np.linalg.norm(back - corners, axis=-1)[:, 0] < RETURN
    good = found_forward & found_back & returned
    tracked = float(good.mean())
    if good.sum() < MIN_TRACKED_CORNERS:
        return TwoViews(tracked, None)
    before, after = (p[good, 0].astype(np.float64) for p in (corners, moved))
    flow = float(np.median(np.linalg.norm(after - before, axis=1)))
    without_turn = TwoViews(tracked, ImageMotion(flow / width, 0.0, flow / width))
    if flow < MIN_FLOW:
        return without_turn
    cv2.setRNGSeed(RANSAC_SEED)
    essential, _ = cv2.findEssentialMat(
        before, after, matrix, method=cv2.RANSAC, prob=0.999, threshold=INLIER_PIXELS
    )
    if essential is None or essential.shape != (3, 3):
        return without_turn
    rays = np.column_stack([before, np.ones(len(before))]) @ np.linalg.inv(matrix).T
    # An essential matrix has two rotations, half a turn apart.
    left, angle = min(
        _without_turn(rays, after, matrix, rotation)
        for rotation in cv2.decomposeEssentialMat(essential)[:2]
    )
    return TwoViews(tracked, ImageMotion(flow / width, angle, min(left, flow) / width))


def fine_corners(image: UInt8[ndarray, "h w"]) -> Float32[ndarray, "n 1 2"]:
    """Corners of a grey image for :func:`track_both_ways`."""
    corners = cv2.goodFeaturesToTrack(image, FINE_CORNERS, CORNER_QUALITY, FINE_SPACING)
    return np.empty((0, 1, 2), np.float32) if corners is None else corners


def track_both_ways(
    first: UInt8[ndarray, "h w"], second: UInt8[ndarray, "h w"], corners: Float32[ndarray, "n 1 2"]
) -> tuple[Float64[ndarray, "m 2"], Float64[ndarray, "m 2"]]:
    """Corners of the first image and their positions in the second, if tracking them back confirms them. More
    accurate than :func:`compare_views`, for full-size images."""
    if not len(corners):
        return np.empty((0, 2)), np.empty((0, 2))
    moved, found_forward = _track(first, second, corners, FINE_WINDOW)
    back, found_back = _track(second, first, moved, FINE_WINDOW)
    good = (
        found_forward & found_back & (np.linalg.norm(back - corners, axis=-1)[:, 0] < FINE_RETURN)
    )
    return corners[good, 0].astype(np.float64), moved[good, 0].astype(np.float64)


def _without_turn(
    rays: ndarray, after: ndarray, matrix: ndarray, rotation: ndarray
) -> tuple[float, float]:
    """Median motion in pixels that remains without a rotation, and the angle of that rotation."""
    angle = float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    turned = rays @ (matrix @ rotation).T
    ahead = turned[:, 2] > 0
    if not ahead.any():
        return np.inf, angle
    left = np.linalg.norm(after - turned[:, :2] / turned[:, 2:], axis=1)[ahead]
    return float(np.median(left)), angle


def _track(
    first: ndarray, second: ndarray, corners: ndarray, window: int = WINDOW
) -> tuple[ndarray, ndarray]:
    tracked, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, corners, corners.copy(), winSize=(window, window), maxLevel=PYRAMID_LEVELS
    )
    return tracked, found[:, 0] == 1
