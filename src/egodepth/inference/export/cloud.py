"""Point clouds from depth and trajectory, and their files."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from egodepth.core.errors import EgodepthError, require_positive
from egodepth.core.files import atomic_path
from egodepth.core.outputs import check_destination
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera, pixel_grid
from egodepth.inference.arguments import footage_of
from egodepth.inference.multi_view import DepthFrom, FrameDepth, frame_depths
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.confidence import no_confidence
from egodepth.runs.run import Run

AGREEMENT = 0.05
"""Largest relative difference between the depths of two frames at a valid point."""
MAX_UNCONFIRMED_DEVIATION = 0.2
"""Largest deviation of DepthNet's log depth at a valid point on which views do not agree, for runs with
confidence. These may then differ by their deviation from the other frame's depth."""
MAX_BEND = 0.1
"""Largest second difference of inverse depth between neighbouring pixels, relative to it: 0 on every plane,
large at object borders, where views agree on depths between foreground and background."""
MAX_MEDIAN_DEPTHS = 10.0
"""Largest depth of a point in median depths of its frame; beyond is sky, or depth is too uncertain."""


@dataclass(frozen=True)
class Cloud:
    """A coloured point cloud.

    Attributes:
        points: (N, 3) float32, in the frame of the first camera and the unit of the trajectory.
        colours: (N, 3) uint8.
    """

    points: np.ndarray
    colours: np.ndarray

    def scaled(self, factor: float) -> "Cloud":
        """The cloud in another unit."""
        return replace(self, points=self.points * np.float32(factor))


class DepthView(NamedTuple):
    """Depth of a frame, with a mask of the valid pixels.

    Attributes:
        number: of the frame.
        image: (h, w, 3) uint8 at the size of the networks.
        depth: (h, w) float64 in the run's unit.
        valid: (h, w) bool; not too far away, and consistent with neighbouring frames.
        first_from_frame: (4, 4).
        camera: for that size.
        deviation: (h, w), standard deviation of the log of DepthNet's depth; None if the run has no
            confidence.
    """

    number: int
    image: np.ndarray
    depth: np.ndarray
    valid: np.ndarray
    first_from_frame: np.ndarray
    camera: Camera
    deviation: np.ndarray | None = None


def consistent_views(
    run: Run,
    sequence: Sequence,
    trajectory: Trajectory,
    every: int = 5,
    *,
    depth: DepthFrom = "views",
    max_deviation: float | None = None,
) -> Iterator[DepthView]:
    """Depth of every n-th frame with a mask of valid pixels.

    Where neighbouring frames agree, pixels are valid except at object borders. The others are valid where the
    next of the returned frames (for the last, the previous one) sees the same depth, a test that smooth depth
    edges of a network and dynamic objects fail, and where the run is sure of it, if it has confidence. A single
    frame cannot be compared and is valid. Pixels that are too far away are never valid.

    Args:
        run: trained networks.
        sequence: footage; without a camera of its own, it gets the run's.
        trajectory: of its frames.
        every: n, the step in frames.
        depth: source of depth, see :func:`egodepth.inference.multi_view.frame_depths`.
        max_deviation: largest standard deviation of the log of DepthNet's depth at a valid pixel, also where
            views agree; by default any.

    Raises:
        EgodepthError: ``depth`` is not a :data:`DepthFrom`, or see :func:`check_max_deviation`.
    """
    check_max_deviation(run, max_deviation)
    sequence = footage_of(run, sequence)
    frames = frame_depths(run, sequence, trajectory, every, depth=depth)
    before: FrameDepth | None = None
    waiting: FrameDepth | None = None
    for frame in frames:
        if waiting is not None:
            yield _view(waiting, frame, sequence, max_deviation)
        before, waiting = waiting, frame
    if waiting is not None:
        yield _view(waiting, before, sequence, max_deviation)


def check_max_deviation(run: Run, max_deviation: float | None) -> None:
    """Check that a run can leave out what it is unsure of.

    Raises:
        EgodepthError: a run without confidence, or a deviation that is no positive number.
    """
    if max_deviation is None:
        return
    require_positive(max_deviation, "max_deviation")
    if not run.has_confidence:
        raise no_confidence(run.folder)


def _view(
    frame: FrameDepth, other: FrameDepth | None, sequence: Sequence, max_deviation: float | None
) -> DepthView:
    """The view of a frame, valid where views agree or another frame sees the same depth."""
    assert sequence.camera is not None
    camera = sequence.camera.resize(*frame.depth.shape).to(torch.float64)
    deviation = frame.deviation
    usable = frame.depth < MAX_MEDIAN_DEPTHS * np.median(frame.depth)
    if max_deviation is not None and deviation is not None:
        usable &= deviation <= max_deviation
    view = DepthView(
        frame.number, frame.image, frame.depth, usable, frame.first_from_frame, camera, deviation
    )
    if other is None:
        return view
    other_from_this = np.linalg.inv(other.first_from_frame) @ view.first_from_frame
    off = _difference(unproject_view(view), other_from_this, other.depth, camera)
    limit = AGREEMENT if deviation is None else np.maximum(AGREEMENT, deviation)
    confirmed = off.reshape(usable.shape) < limit
    if deviation is not None:
        confirmed &= deviation < MAX_UNCONFIRMED_DEVIATION
    smooth = bend(frame.depth) < MAX_BEND
    return view._replace(valid=usable & np.where(frame.agreed, smooth, confirmed))


def bend(depth: np.ndarray) -> np.ndarray:
    """Relative second difference of inverse depth (h, w) at each pixel, see MAX_BEND."""
    inverse = 1 / depth
    around = np.pad(inverse, 1, mode="edge")
    down = around[2:, 1:-1] + around[:-2, 1:-1] - 2 * inverse
    across = around[1:-1, 2:] + around[1:-1, :-2] - 2 * inverse
    return np.maximum(np.abs(down), np.abs(across)) / inverse


def unproject_view(view: DepthView) -> np.ndarray:
    """Unproject all pixels to points (h * w, 3), float64, in the frame of the view's camera."""
    height, width = view.depth.shape
    pixels = pixel_grid(height, width, view.camera.matrix)
    return view.camera.unproject(pixels, torch.from_numpy(view.depth.ravel())).numpy()


def fuse_cloud(
    run: Run,
    sequence: Sequence,
    trajectory: Trajectory,
    every: int = 5,
    *,
    depth: DepthFrom = "views",
    max_deviation: float | None = None,
) -> Cloud:
    """Fuse the valid points of :func:`consistent_views` (same arguments) into a cloud in the trajectory's unit.

    Raises:
        EgodepthError: no valid points.
    """
    points, colours = [], []
    views = consistent_views(
        run, sequence, trajectory, every, depth=depth, max_deviation=max_deviation
    )
    for view in views:
        keep, pose = view.valid.ravel(), view.first_from_frame
        points.append(unproject_view(view)[keep] @ pose[:3, :3].T + pose[:3, 3])
        colours.append(view.image.reshape(-1, 3)[keep])
    cloud = Cloud(np.concatenate(points).astype(np.float32), np.concatenate(colours))
    if len(cloud.points) == 0:
        raise EgodepthError(nothing_agrees(max_deviation))
    return cloud.scaled(trajectory.unit.factor)


def nothing_agrees(max_deviation: float | None) -> str:
    """Why there are no points, in words."""
    if max_deviation is None:
        return "no point is at the same depth in two frames; is the trajectory right?"
    return f"no point is as sure as {max_deviation:g}; give a larger --max_deviation"


def _difference(
    points: np.ndarray, other_from_this: np.ndarray, other_depth: np.ndarray, camera: Camera
) -> np.ndarray:
    """How far the depths of points (N, 3) are from those that another frame sees there, relative to these;
    infinite outside of it."""
    moved = points @ other_from_this[:3, :3].T + other_from_this[:3, 3]
    ahead = moved[:, 2] > 0
    pixels = camera.project(torch.from_numpy(np.where(ahead[:, None], moved, 1.0))).numpy()
    x, y = np.rint(pixels).astype(np.int64).T
    inside = ahead & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    seen = other_depth[y.clip(0, camera.height - 1), x.clip(0, camera.width - 1)]
    return np.where(inside, np.abs(moved[:, 2] / seen - 1), np.inf)


def write_ply(path: str | Path, cloud: Cloud, comment: str = "") -> None:
    """Write a binary PLY file with x y z as float32, red green blue as bytes, and a comment in its header.

    Raises:
        EgodepthError: a suffix other than .ply, or a file that cannot be written.
    """
    check_destination(Path(path), (".ply",))
    rows = np.empty(
        len(cloud.points), [(n, "<f4") for n in "xyz"] + [(n, "u1") for n in ("r", "g", "b")]
    )
    for i, name in enumerate("xyz"):
        rows[name] = cloud.points[:, i]
    for i, name in enumerate("rgb"):
        rows[name] = cloud.colours[:, i]
    names = [f"property float {n}" for n in "xyz"]
    names += [f"property uchar {n}" for n in ("red", "green", "blue")]
    comments = [f"comment {comment}"] if comment else []
    head = [
        "ply",
        "format binary_little_endian 1.0",
        *comments,
        f"element vertex {len(rows)}",
        *names,
    ]
    with atomic_path(path) as partial:
        partial.write_bytes(("\n".join([*head, "end_header"]) + "\n").encode() + rows.tobytes())
