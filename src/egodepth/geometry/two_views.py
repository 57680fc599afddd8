"""Rotation and parallax between two views, without depth."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8
from numpy import ndarray

CORNERS = 400
CORNER_QUALITY, CORNER_SPACING = 0.01, 4
WINDOW, PYRAMID_LEVELS = 11, 4
RETURN = 0.5
"""A corner tracked forwards and backwards must return within this many pixels."""
MIN_TRACKED_CORNERS = 20
INLIER_PIXELS = 0.5
MIN_FLOW = 0.1
"""Pixels; smaller motions cannot be told from noise."""
FINE_CORNERS, FINE_SPACING, FINE_WINDOW, FINE_RETURN = 500, 8, 21, 0.3
"""For images of full size, where a corner's place matters to a part of a pixel."""
RANSAC_SEED = 0


class ImageMotion(NamedTuple):
    """Camera motion between two images.

    Attributes:
        flow: median motion of the corners, as a share of the image's width.
        rotation: radians.
        parallax: median motion that is left without the rotation, as a share of the width.
    """

    flow: float
    rotation: float
    parallax: float


class TwoViews(NamedTuple):
    """What two images tell of the camera's motion.

    Attributes:
        tracked: share of the first image's corners that are found in the second.
        motion: None where these are fewer than twenty.
    """

    tracked: float
    motion: ImageMotion | None


def compare_views(
    first: UInt8[ndarray, "h w"],
    second: UInt8[ndarray, "h w"],
    matrix: Float64[ndarray, "3 3"],
    excluded: Bool[ndarray, "h w"] | None = None,
) -> TwoViews | None:
    """Track corners (pyramidal Lucas-Kanade) and split their motion by the essential matrix
    (Nister's five points in RANSAC).

    Args:
        first, second: grey images.
        matrix: intrinsics of both.
        excluded: pixels that belong to the camera, where no corners are taken.

    Returns:
        None where there are fewer than twenty corners, of which nothing can be said.
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
    # Of the two rotations that an essential matrix holds, one is half a turn away.
    left, angle = min(
        _without_turn(rays, after, matrix, rotation)
        for rotation in cv2.decomposeEssentialMat(essential)[:2]
    )
    return TwoViews(tracked, ImageMotion(flow / width, angle, min(left, flow) / width))


def track_both_ways(
    first: UInt8[ndarray, "h w"], second: UInt8[ndarray, "h w"]
) -> tuple[Float64[ndarray, "n 2"], Float64[ndarray, "n 2"]]:
    """Corners of the first image, and where they are in the second; those alone that are found again on
    the way back. Finer than :func:`compare_views`, for images of full size."""
    corners = cv2.goodFeaturesToTrack(first, FINE_CORNERS, CORNER_QUALITY, FINE_SPACING)
    if corners is None:
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
    """Median motion in pixels that a rotation leaves, and its angle."""
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
