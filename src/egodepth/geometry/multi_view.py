"""Depth that several posed frames of a video agree on."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from egodepth.geometry.camera import Camera
from egodepth.geometry.moving_ahead import depth_moving_ahead
from egodepth.geometry.plane_sweep import (
    Describe,
    agreeing_views,
    local_contrast,
    parallax,
    sweep_depth,
)

SOURCES_PER_SIDE = 2
MIN_BASELINE = 0.01
"""Smallest baseline of a frame and its nearest source, over the median depth; also the least difference to the
baseline of the next source."""
TOLERANCE, MIN_AGREEING = 0.1, 2
"""Largest difference of log depth at which two views agree, and how many views must."""
MIN_PARALLAX = 1.0
"""Smallest parallax in pixels, in the source where it is largest, at which depth is known."""
MAX_SCALE = 2
"""How many times larger than the wanted maps views are compared, if the footage is large enough."""
MIN_BLOCK_SHARE = 0.5
"""Smallest share of known pixels in a block that a smaller map's pixel is made from."""


def comparison_scale(native: tuple[int, int], wanted: tuple[int, int]) -> int:
    """How many times larger than the wanted maps views are compared; sizes are (height, width)."""
    return MAX_SCALE if min(native[0] / wanted[0], native[1] / wanted[1]) >= 1.5 else 1


def sources_by_baseline(
    centres: Float[ndarray, "n 3"], position: int, shortest: float, steps: range
) -> list[int]:
    """Choose the source frames of a frame by their baselines: in each direction, the first frame whose baseline
    exceeds ``shortest``, then the first whose baseline is longer by as much again.

    Args:
        centres: of the cameras; NaN where a frame cannot be a source, which ends the search.
        position: of the frame.
        shortest: useful baseline, in the unit of the centres; a shorter one shows too little parallax.
        steps: numbers of frames to look ahead and back, ascending.

    Returns:
        Positions of the sources, ascending; at most SOURCES_PER_SIDE in each direction.
    """
    found = []
    for direction in (-1, 1):
        wanted, taken = shortest, 0
        for step in steps:
            other = position + direction * step
            if not 0 <= other < len(centres) or np.isnan(centres[other]).any():
                break
            baseline = float(np.linalg.norm(centres[other] - centres[position]))
            if baseline > wanted:
                found.append(other)
                taken, wanted = taken + 1, baseline + shortest
            if taken == SOURCES_PER_SIDE:
                break
    return sorted(found)


class PosedViews:
    """Multi-view depth of posed frames, one after another; caches what later frames need.

    Attributes:
        swept: positions of the frames whose depth was computed so far, as targets or as sources.
    """

    def __init__(
        self,
        images: Iterator[tuple[int, UInt8[Tensor, "3 h w"]]],
        world_from_camera: Float[ndarray, "n 4 4"],
        camera: Camera,
        reach: int,
        describe: Describe = local_contrast,
    ):
        """Start before the first frame.

        Args:
            images: (position, image) in ascending order; a frame without an image is neither target nor source.
            world_from_camera: poses of all positions.
            camera: of the images; its device does the work.
            reach: largest distance in positions from a frame to a source.
            describe: maps from images to the features that are compared.
        """
        self._describe = describe
        self.swept: list[int] = []
        self._stream, self._poses, self._reach = images, world_from_camera, reach
        self._device = camera.matrix.device
        matrix = camera.matrix.float().reshape(1, 3, 3)
        self._camera = Camera(matrix, camera.height, camera.width)
        self._last: float = -1
        self._images: dict[int, Tensor] = {}
        self._depths: dict[int, Tensor] = {}

    def read_to(self, position: int) -> bool:
        """Read the stream up to a frame, keeping the images; return whether that frame has one."""
        while self._last < position:
            self._last, image = next(self._stream, (math.inf, None))
            if image is not None:
                self._images[int(self._last)] = image
        return position in self._images

    @torch.inference_mode()
    def agreed(
        self, position: int, sources_of: Callable[[int], list[int]], nearest: float
    ) -> tuple[Float[Tensor, "1 h w"], Int64[Tensor, "1 h w"]] | None:
        """Inverse depth of a frame: the mean of its own and those of the agreeing sources, NaN where fewer than
        MIN_AGREEING agree.

        Args:
            position: of the frame; positions must ascend from call to call.
            sources_of: returns the positions of a frame's sources; called for the frame and its sources.
            nearest: smallest expected depth, in the unit of the poses.

        Returns:
            Inverse depth, and the number of agreeing sources; None if the frame has too few sources.
        """
        for kept in (self._images, self._depths):
            for old in [p for p in kept if p < position - 2 * self._reach]:
                del kept[old]
        own = self._depth(position, sources_of, nearest)
        others = [(s, self._depth(s, sources_of, nearest)) for s in sources_of(position)]
        views = [(s, depth) for s, depth in others if depth is not None]
        if own is None or len(views) < MIN_AGREEING:
            return None
        motions = torch.stack([self._motion_to(s, position) for s, _ in views])
        other_depths = torch.stack([depth for _, depth in views])
        agree, given = agreeing_views(own, other_depths, motions, self._camera, TOLERANCE)
        # A car ahead that keeps its distance looks infinitely far away, and all views agree on that.
        moved = parallax(own, motions, self._camera).amax(0)
        count = agree.sum(0).masked_fill(moved < MIN_PARALLAX, 0)
        fused = (own + (given * agree).sum(0)) / (1 + count)
        return torch.where(count >= MIN_AGREEING, fused, torch.nan), count

    @torch.inference_mode()
    def ahead(
        self, position: int, sources: list[int], agreed: Float[Tensor, "1 h w"]
    ) -> Float[Tensor, "1 h w"]:
        """Inverse depth of objects that move with the camera, NaN elsewhere; see :func:`depth_moving_ahead`.

        Args:
            position: of a frame that :meth:`agreed` was called for.
            sources: of the frame.
            agreed: inverse depth returned by :meth:`agreed`.
        """
        motions = torch.stack([self._motion_to(s, position) for s in sources])
        return depth_moving_ahead(self._depths[position], agreed, motions, self._camera)

    def _depth(
        self, position: int, sources_of: Callable[[int], list[int]], nearest: float
    ) -> Tensor | None:
        """Inverse depth of a frame from its sources, cached; None if it has no sources or no image."""
        if position not in self._depths:
            sources = [s for s in sources_of(position) if self.read_to(s)]
            if not sources or not self.read_to(position):
                return None
            self.swept.append(position)
            images = torch.stack([self._image(p) for p in [*sources, position]])
            self._depths[position] = sweep_depth(
                images[-1], images[:-1],
                torch.stack([self._motion_to(s, position) for s in sources]), self._camera,
                torch.tensor([nearest], device=self._device),
                tuple(int(s > position) for s in sources), self._describe,
            )  # fmt: skip
        return self._depths[position]

    def _motion_to(self, source: int, target: int) -> Tensor:
        """Motion ``source_from_target``, (1, 4, 4)."""
        motion = np.linalg.inv(self._poses[source]) @ self._poses[target]
        return torch.from_numpy(motion)[None].float().to(self._device)

    def _image(self, position: int) -> Tensor:
        """Image (1, 3, h, w) in [0, 1]."""
        return self._images[position][None].to(self._device).float() / 255


def block_medians(values: Float[Tensor, "b h w"], factor: int) -> Float[Tensor, "b h2 w2"]:
    """Downsample by an integer factor to the medians of square blocks, NaN where too few pixels are known."""
    squares = blocks(values, factor)
    known = squares.isfinite().float().mean(-1) >= MIN_BLOCK_SHARE
    return squares.nanmedian(-1).values.where(known, torch.nan)


def blocks(values: Float[Tensor, "b h w"], factor: int) -> Float[Tensor, "b h2 w2 n"]:
    """Square blocks with a side of ``factor`` pixels, flattened in the last dimension."""
    rows = values.unfold(1, factor, factor).unfold(2, factor, factor)
    return rows.flatten(-2)
