"""How still depth is: each depth map, moved to the next frame by the camera's motion, against the next one.

It needs no ground truth. The score alone can be lowered by depth without borders, so it is shown beside the
share of pixels on depth edges and, where there is ground truth, beside the errors of depth and edges.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from egodepth.core.errors import EgodepthError
from egodepth.evaluation.shape import depth_edges
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import reproject, sample_on_surfaces

MIN_OCCLUDER_RATIO = 1.1
"""Smallest ratio of a point's depth to that of a point which lands within a pixel of it, by which it is
hidden."""
MIN_COMPARED_SHARE = 0.05
"""Smallest share of the pixels that must be seen in the next frame for a pair to be scored."""
STEEP_PERCENTILE = 99
"""Percentile of the steps between neighbouring pixels that counts as the step at borders."""


def log_depth_change(
    depth: Float[Tensor, "h w"],
    next_depth: Float[Tensor, "h w"],
    next_from_frame: Float[Tensor, "4 4"],
    camera: Camera,
) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """Log ratio, pixel by pixel of the first frame, of the next frame's depth to the depth that the motion
    takes this frame's point to; and where it is known.

    Left out are points that leave the picture, points without depth, and points hidden by others of their own
    frame, whatever the next frame's depth says. The next frame's depth is interpolated on surfaces, where
    inverse depth is nearly linear, and taken from the nearest pixel at edges.

    Args:
        depth, next_depth: along z, in the unit of the translation; infinite or NaN where unknown.
        next_from_frame: motion of the camera.
        camera: of both frames, unbatched.
    """
    known = depth.isfinite() & (depth > 0)
    one = Camera(camera.matrix[None], camera.height, camera.width)
    filled = torch.where(known, depth, 1)
    pixels, z, inside = reproject(filled[None], next_from_frame[None], one, one)
    valid = known & inside[0]
    inverse = torch.where(next_depth.isfinite() & (next_depth > 0), 1 / next_depth, torch.nan)
    seen = sample_on_surfaces(inverse, pixels[0])
    valid &= seen.isfinite() & ~_hidden(pixels[0], z[0], valid)
    change = -(seen * z[0]).log()
    return torch.where(valid, change, 0), valid


def _hidden(
    pixels: Float[Tensor, "h w 2"], z: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]
) -> Bool[Tensor, "h w"]:
    """Which points have a clearly nearer one within a pixel of where they land."""
    height, width = z.shape
    x, y = pixels.round().long().unbind(-1)
    place = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten()
    nearest = torch.full_like(z, torch.inf).flatten()
    nearest.scatter_reduce_(0, place, torch.where(valid, z, torch.inf).flatten(), "amin")
    around = -F.max_pool2d(-nearest.view(1, 1, height, width), 3, 1, 1)
    return z > MIN_OCCLUDER_RATIO * around.flatten()[place].view(height, width)


@dataclass(frozen=True)
class PairStillness:
    """Flicker from one frame to the next.

    Attributes:
        median, p95: of the absolute log ratio, see :func:`log_depth_change`.
        scale: median log ratio, with its sign.
        compared: share of the pixels that were compared.
        edges: share of the first frame's pixels on depth edges.
        step: STEEP_PERCENTILE of the log ratios of neighbouring depths in the first frame, how sharp borders
            are.
    """

    median: float
    p95: float
    scale: float
    compared: float
    edges: float
    step: float


def score_pair(
    depth: Float[np.ndarray, "h w"],
    next_depth: Float[np.ndarray, "h w"],
    next_from_frame: Float[np.ndarray, "4 4"],
    camera: Camera,
) -> PairStillness | None:
    """Score two depth maps; arguments as of :func:`log_depth_change`. None if too few pixels can be
    compared."""
    a, b, motion = (
        torch.from_numpy(np.array(values, np.float64))
        for values in (depth, next_depth, next_from_frame)
    )
    change, valid = log_depth_change(a, b, motion, camera.to(torch.float64))
    share = float(valid.double().mean())
    if share < MIN_COMPARED_SHARE:
        return None
    found = change[valid].numpy()
    size = np.abs(found)
    known = np.isfinite(depth) & (np.asarray(depth) > 0)
    return PairStillness(
        float(np.median(size)), float(np.percentile(size, 95)), float(np.median(found)), share,
        float(depth_edges(np.asarray(depth), known).mean()), _step(np.asarray(depth), known),
    )  # fmt: skip


def _step(depth: Float[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]) -> float:
    logs = np.log(np.where(known, depth, 1))
    steps = [np.abs(np.diff(logs, axis=axis)) for axis in (0, 1)]
    both = [known[1:] & known[:-1], known[:, 1:] & known[:, :-1]]
    found = np.concatenate([step[pair] for step, pair in zip(steps, both, strict=True)])
    return float(np.percentile(found, STEEP_PERCENTILE)) if len(found) else 0.0


def summarize_stillness(pairs: Iterable[PairStillness]) -> dict[str, Any]:
    """Means over pairs: ``flicker_median`` and ``flicker_p95``, of the absolute log ratio;
    ``scale_step_spread``, the standard deviation over pairs of the median log ratio; ``compared``, the share
    of pixels that were compared; ``edge_share``, the share of pixels on depth edges; ``edge_step``, how sharp
    borders are, see :class:`PairStillness`; and ``pairs``, their number.

    Raises:
        EgodepthError: no pairs.
    """
    rows = list(pairs)
    if not rows:
        raise EgodepthError(
            "no two neighbouring frames see the same: too few pixels of one, moved by the trajectory, are in "
            "the picture of the next; is the trajectory that of this footage?"
        )
    mean = {name: math.fsum(getattr(p, name) for p in rows) / len(rows) for name in
            ("median", "p95", "compared", "edges", "step")}  # fmt: skip
    return {
        "flicker_median": mean["median"], "flicker_p95": mean["p95"],
        "scale_step_spread": float(np.std([p.scale for p in rows])),
        "compared": mean["compared"], "edge_share": mean["edges"], "edge_step": mean["step"],
        "pairs": len(rows),
    }  # fmt: skip
