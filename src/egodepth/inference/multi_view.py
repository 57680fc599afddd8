"""Depth of footage with a known trajectory: multi-view depth where frames agree, the network's elsewhere."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.core.prefetch import prefetch
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.sequence import Sequence, read_numbered
from egodepth.geometry.multi_view import (
    MIN_BASELINE,
    PosedViews,
    block_medians,
    comparison_scale,
    sources_by_baseline,
)
from egodepth.inference.arguments import footage_of
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run

DepthFrom = Literal["views", "network"]
"""Source of depth. ``views``: plane sweep over neighbouring frames where they agree, DepthNet elsewhere;
``network``: DepthNet alone."""
MAX_SOURCE_DISTANCE = 30
"""Largest distance in frames from a frame to a source, however slow the camera."""
NEAREST_PERCENTILE, NEAREST_FACTOR = 1, 0.5
"""Nearest depth to search: this percentile of DepthNet's depths of a frame, times this factor as a margin for
their errors."""
MIN_SCALE_SHARE = 0.05
"""Smallest share of pixels on which views agree that gives the scale of DepthNet's depth of a frame."""


class FrameDepth(NamedTuple):
    """Depth of a frame.

    Attributes:
        number: of the frame.
        image: (h, w, 3) uint8 at the size of the networks.
        depth: (h, w) float64 in the unit of the trajectory.
        agreed: (h, w) bool, where depth comes from views that agree.
        first_from_frame: (4, 4).
        deviation: (h, w), standard deviation of the log of DepthNet's depth; None if the run has no
            confidence.
    """

    number: int
    image: np.ndarray
    depth: np.ndarray
    agreed: np.ndarray
    first_from_frame: np.ndarray
    deviation: np.ndarray | None = None


def check_depth_from(depth: str) -> None:
    """Check that a word is a :data:`DepthFrom`.

    Raises:
        EgodepthError: it is not.
    """
    if depth not in get_args(DepthFrom):
        raise EgodepthError(f"depth must be {' or '.join(get_args(DepthFrom))}, got {depth!r}")


def frame_depths(
    run: Run,
    sequence: Sequence,
    trajectory: Trajectory,
    every: int,
    *,
    depth: DepthFrom = "views",
) -> Iterator[FrameDepth]:
    """Depth of every n-th frame that has a pose, in constant memory.

    Views are compared at up to twice the size of the networks and reduced by medians. Where they do not agree,
    DepthNet's depth is used, scaled to the depth that views agree on, since its scale may differ from the
    trajectory's. Frames with too few sources (footage of one or two frames, or a standing camera) have
    DepthNet's depth alone.

    Args:
        run: trained networks.
        sequence: footage with a camera.
        trajectory: of its frames.
        every: n, the step in frames.
        depth: source of depth.

    Raises:
        EgodepthError: ``depth`` is not a :data:`DepthFrom`.
    """
    check_depth_from(depth)
    sequence = footage_of(run, sequence)
    assert sequence.camera is not None
    posed = trajectory.by_number()
    if depth == "network":
        posed, every = dict(list(posed.items())[::every]), 1
    height, width = run.settings.height, run.settings.width
    frames = sequence.frames
    factor = comparison_scale((frames.height, frames.width), (height, width))
    size = (factor * height, factor * width)
    positions = {number: position for position, number in enumerate(posed)}
    waiting: dict[int, FrameDepth] = {}

    def read() -> Iterator[tuple[int, Tensor]]:
        for frame in prefetch(read_numbered(frames, posed)):
            position = positions[frame.number]
            if position % every == 0:
                with naming(frame):
                    predicted, deviation = run.maps(frame.image, (height, width))
                waiting[position] = FrameDepth(
                    frame.number, resize_frame(frame.image, height, width),
                    predicted.astype(np.float64), np.zeros((height, width), bool),
                    posed[frame.number], deviation,
                )  # fmt: skip
            image = resize_frame(frame.image, *size).transpose(2, 0, 1)
            yield position, torch.from_numpy(np.array(image))

    poses = np.array(list(posed.values())).reshape(-1, 4, 4)
    camera = sequence.camera.resize(*size).to(torch.device(run.device))
    views = PosedViews(read(), poses, camera, MAX_SOURCE_DISTANCE)
    wanted = range(0, len(posed), every)
    for position in progress.track(wanted, f"depth of {sequence.name}", len(wanted)):
        if views.read_to(position):
            own = waiting.pop(position)
            yield own if depth == "network" else _with_views(own, views, position, poses, factor)


def _with_views(
    own: FrameDepth, views: PosedViews, position: int, poses: np.ndarray, factor: int
) -> FrameDepth:
    """The frame with multi-view depth where views agree."""
    shortest = MIN_BASELINE * float(np.median(own.depth))
    nearest = NEAREST_FACTOR * float(np.percentile(own.depth, NEAREST_PERCENTILE))
    steps = range(1, MAX_SOURCE_DISTANCE + 1)
    found = views.agreed(
        position, lambda p: sources_by_baseline(poses[:, :3, 3], p, shortest, steps), nearest
    )
    if found is None:
        return own
    inverse = block_medians(found[0], factor)[0].double().cpu().numpy()
    agreed = np.isfinite(inverse)
    scale = 1.0
    if agreed.mean() >= MIN_SCALE_SHARE:
        scale = 1 / float(np.median(own.depth[agreed] * inverse[agreed]))
    depth = np.where(agreed, 1 / np.where(agreed, inverse, 1), own.depth * scale)
    return own._replace(depth=depth, agreed=agreed)
