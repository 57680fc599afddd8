"""Registers the frames between key frames of structure from motion: the points of the key frames on either side
are tracked into them, and their pose is solved from these 2D-3D correspondences."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8
from numpy import ndarray

WINDOW, PYRAMID_LEVELS, LEVELS_FROM_GUESS = 21, 4, 1
"""Lucas-Kanade tracking: side of the window in pixels, and the coarser pyramid levels used without and with an
initial guess that is good to a few pixels."""
MAX_RETURN = 0.5
"""Largest forward-backward error of a tracked point in pixels."""
MAX_DRIFT = 3.0
"""Largest distance in pixels between a point tracked frame by frame and tracked directly from its key frame."""
MAX_POINTS = 500
"""Number of points tracked per key frame; a pose needs no more."""
MIN_INLIERS, MIN_INLIER_SHARE, MAX_RESIDUAL = 30, 0.5, 3.0
"""Inliers that a pose needs, as a number and as a share of the points, and their largest residual in pixels."""
MAX_WIDTH = 1280
"""Width in pixels to which larger images are shrunk for tracking."""
SEED = 0


@dataclass(frozen=True)
class KeyFrame:
    """A key frame with its visible points.

    Attributes:
        part: index of its part of the reconstruction.
        pixels: (P, 2) x, y of the points.
        points: (P, 3) in the world frame of the part.
    """

    part: int
    pixels: Float64[ndarray, "p 2"]
    points: Float64[ndarray, "p 3"]


class Registered(NamedTuple):
    """A frame with a solved pose.

    Attributes:
        position: position of the frame.
        part: index of its part of the reconstruction.
        camera_from_world: (4, 4).
        pixels, points: (P, 2) and (P, 3), its visible points.
    """

    position: int
    part: int
    camera_from_world: Float64[ndarray, "4 4"]
    pixels: Float64[ndarray, "p 2"]
    points: Float64[ndarray, "p 3"]


class _Tracks(NamedTuple):
    key: KeyFrame
    distance: int
    pixels: ndarray
    points: ndarray


def register_frames(
    images: Iterator[tuple[int, UInt8[ndarray, "h w"]]],
    keys: dict[int, KeyFrame],
    reach: int,
    colmap: ModuleType,
    matrix: Float64[ndarray, "3 3"],
) -> Iterator[Registered]:
    """Yield the frames between key frames whose pose can be solved, in order.

    At most ``reach`` images are kept in memory.

    Args:
        images: positions and grey images of all frames, in order.
        keys: key frames by position.
        reach: largest number of frames over which points are tracked.
        colmap: pycolmap.
        matrix: intrinsics.
    """
    tracks: dict[int, list[_Tracks]] = {}
    recent: deque[tuple[int, ndarray]] = deque(maxlen=reach)
    forward: _Follower | None = None
    camera: Any = None
    shrink = 1.0
    for position, full in images:
        if camera is None:
            shrink = min(1.0, MAX_WIDTH / full.shape[1])
            size = (round(full.shape[1] * shrink), round(full.shape[0] * shrink))
            camera = _colmap_camera(colmap, matrix, full.shape, shrink)
        image = full if shrink == 1 else cv2.resize(full, size, interpolation=cv2.INTER_AREA)
        if position not in keys:
            tracks[position] = []
            recent.append((position, image))
            if forward is not None and position - forward.position <= reach:
                tracks[position].append(forward.follow(position, image))
        else:
            key = keys[position]
            back = _Follower(position, image, key, shrink)
            for earlier, seen in reversed(recent):
                if position - earlier <= reach:
                    tracks[earlier].append(back.follow(earlier, seen))
            yield from _solve_all(tracks, colmap, camera, shrink)
            tracks, recent = {}, deque(maxlen=reach)
            forward = _Follower(position, image, key, shrink)
    if camera is not None:
        yield from _solve_all(tracks, colmap, camera, shrink)


class _Follower:
    """Tracks the points of a key frame through the frames after or before it."""

    def __init__(self, position: int, image: ndarray, key: KeyFrame, shrink: float):
        chosen = np.random.default_rng(SEED).permutation(len(key.pixels))[:MAX_POINTS]
        self.position, self.key = position, key
        self._image = self._last = image
        self._start = ((key.pixels[chosen] + 0.5) * shrink - 0.5).astype(np.float32)
        self._points = key.points[chosen]
        self._now, self._alive = self._start.copy(), np.ones(len(chosen), bool)

    def follow(self, position: int, image: ndarray) -> _Tracks:
        """Track the points into the next frame."""
        alive = np.flatnonzero(self._alive)
        found = np.zeros(len(alive), bool)
        tracked = self._now[alive]
        if len(alive):
            tracked, on_way = _track(self._last, image, tracked, tracked, PYRAMID_LEVELS)
            # Directly from the key frame, so that errors do not accumulate.
            start = self._start[alive]
            direct, seen = _track(self._image, image, start, tracked, LEVELS_FROM_GUESS)
            back, returned = _track(image, self._image, direct, start, LEVELS_FROM_GUESS)
            error = np.linalg.norm(back - start, axis=1)
            drift = np.linalg.norm(direct - tracked, axis=1)
            found = on_way & seen & returned & (error < MAX_RETURN) & (drift < MAX_DRIFT)
            self._now[alive] = np.where(found[:, None], direct, tracked)
            self._alive[alive] = on_way
            tracked = direct
        self._last = image
        return _Tracks(
            self.key,
            abs(position - self.position),
            tracked[found].astype(np.float64),
            self._points[alive[found]],
        )


def _track(
    first: ndarray, second: ndarray, places: ndarray, guess: ndarray, levels: int
) -> tuple[ndarray, Bool[ndarray, "p"]]:
    tracked, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, places[:, None], guess[:, None].copy(), winSize=(WINDOW, WINDOW),
        maxLevel=levels, flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    tracked = tracked[:, 0]
    limit = np.array(second.shape[::-1]) - 1
    inside = ((tracked >= 0) & (tracked <= limit)).all(1)
    return tracked, (found[:, 0] == 1) & inside


def _solve_all(
    tracks: dict[int, list[_Tracks]], colmap: ModuleType, camera: Any, shrink: float
) -> Iterator[Registered]:
    for position, found in tracks.items():
        by_distance = sorted(found, key=lambda seen: seen.distance)
        for part in dict.fromkeys(seen.key.part for seen in by_distance):
            own = [seen for seen in by_distance if seen.key.part == part]
            pixels = np.concatenate([seen.pixels for seen in own])
            points = np.concatenate([seen.points for seen in own])
            solved = _solve(pixels, points, colmap, camera)
            if solved is not None:
                pose, inliers = solved
                full = (pixels[inliers] + 0.5) / shrink - 0.5
                yield Registered(position, part, pose, full, points[inliers])
                break


def _solve(
    pixels: ndarray, points: ndarray, colmap: ModuleType, camera: Any
) -> tuple[ndarray, ndarray] | None:
    """Solve for the pose (4, 4) and its inliers (P,); None if there are too few inliers."""
    if len(pixels) < MIN_INLIERS:
        return None
    options = colmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error, options.ransac.random_seed = MAX_RESIDUAL, SEED
    found = colmap.estimate_and_refine_absolute_pose(pixels + 0.5, points, camera, options)
    if found is None:
        return None
    pose = np.vstack([found["cam_from_world"].matrix(), [0, 0, 0, 1]])
    seen = points @ pose[:3, :3].T + pose[:3, 3]
    fx, fy, cx, cy = camera.params
    projected = seen[:, :2] / np.where(seen[:, 2:] > 0, seen[:, 2:], np.nan) * [fx, fy] + [cx, cy]
    with np.errstate(invalid="ignore"):
        inliers = np.linalg.norm(projected - 0.5 - pixels, axis=1) < MAX_RESIDUAL
    if inliers.sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * len(pixels)):
        return None
    return pose, inliers


def _colmap_camera(
    colmap: ModuleType, matrix: ndarray, size: tuple[int, ...], shrink: float
) -> Any:
    """COLMAP camera for shrunk images; its top-left pixel centre is (0.5, 0.5), so intrinsics simply scale."""
    height, width = (round(side * shrink) for side in size)
    x, y = width / size[1], height / size[0]
    params = [
        matrix[0, 0] * x,
        matrix[1, 1] * y,
        (matrix[0, 2] + 0.5) * x,
        (matrix[1, 2] + 0.5) * y,
    ]
    return colmap.Camera(model="PINHOLE", width=width, height=height, params=params)
