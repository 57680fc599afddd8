"""Known poses of footage, brought to the unit of predicted depth."""

from collections.abc import Callable

import numpy as np
import torch

from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.sequence import Frame, Sequence
from egodepth.geometry.pose_scale import find_pose_scale

PLACES, STEPS = 12, (1, 4)
"""Number of frames that are compared, spread over the footage, and how many frames on the ones lie that they
are compared with: nearer ones fix the scale of fast motion, farther ones that of slow motion."""
MAX_WIDTH = 320
"""Width in pixels at which images are compared."""

DepthOf = Callable[[Frame, tuple[int, int]], np.ndarray]
"""Function that predicts the depth (H, W) of a frame at a size (height, width)."""


def working_size(sequence: Sequence, max_width: int) -> tuple[int, int]:
    """Height and width of the frames, reduced to ``max_width`` if they are wider."""
    height, width = sequence.frames.height, sequence.frames.width
    factor = min(1.0, max_width / width)
    return max(2, round(height * factor)), max(2, round(width * factor))


def scale_of_poses(
    sequence: Sequence, poses: np.ndarray, depth_of: DepthOf, numbers: list[int]
) -> float:
    """The factor on the poses' translations that brings them to the unit of depth, see :func:`find_pose_scale`.

    Args:
        sequence: footage with a camera.
        poses: (N, 4, 4) ``world_from_camera`` by position, NaN where there is none.
        depth_of: predicts depth.
        numbers: of the frames whose depth can be predicted.
    """
    assert sequence.camera is not None
    size = working_size(sequence, MAX_WIDTH)
    posed = np.isfinite(poses).all((1, 2))
    allowed = posed & np.isin(sequence.frames.numbers, numbers)
    pairs = []
    for step in STEPS:
        starts = np.flatnonzero(allowed[:-step] & posed[step:])
        chosen = (
            starts[np.unique(np.linspace(0, len(starts) - 1, PLACES).round().astype(int))]
            if len(starts)
            else []
        )
        pairs += [(int(start), int(start) + step) for start in chosen]
    if not pairs:
        return 1.0
    wanted = sorted({place for pair in pairs for place in pair})
    places = {sequence.frames.numbers[place]: place for place in wanted}
    images, depths = {}, {}
    begins = {start for start, _ in pairs}
    for frame in sequence.frames.at(wanted):
        place = places[frame.number]
        image = resize_frame(frame.image, *size).astype(np.float32).transpose(2, 0, 1) / 255
        images[place] = torch.from_numpy(image)
        if place in begins:
            depth = np.asarray(depth_of(frame, size), np.float32)
            depths[place] = torch.from_numpy(
                np.where(np.isfinite(depth), depth, 1e6).astype(np.float32)
            )
    pairs = [(a, b) for a, b in pairs if a in depths and b in images]
    if not pairs:
        return 1.0
    motions = np.stack([np.linalg.inv(poses[b]) @ poses[a] for a, b in pairs])
    return find_pose_scale(
        torch.stack([depths[a] for a, _ in pairs]), torch.stack([images[a] for a, _ in pairs]),
        torch.stack([images[b] for _, b in pairs]), torch.from_numpy(motions).float(),
        sequence.camera.to(torch.float32).resize(*size),
    )  # fmt: skip
