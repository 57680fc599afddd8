"""Batches of snippets: as they are loaded, and as the networks and losses see them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from egodepth.geometry.camera import Camera


@dataclass(frozen=True)
class RawBatch:
    """What the loader hands over: frames as they are cached.

    Attributes:
        frames: (S + 1, B, 3, H, W), the target first, then the sources in order of offset.
        matrix: (B, 3, 3) intrinsics at the size of the frames.
        step: index of the training step, from which the augmentation is seeded.
        frame_ids: (T + 1, B) of the target and its T sources in time, unique among all clips.
        clips: (B,) the snippet's clip.
        parts: (B,) and its part, unique among all clips; NO_PART where a rendered snippet has no motion.
        motions: (T, B, 4, 4) ``source_from_target`` of the sources in time, in metres or the unit of the
            snippet's part; None where PoseNet has to find them.
        partner_motion: (1, B, 4, 4) ``partner_from_target``, the last source's, in metres; None without a
            second camera.
        points: (B, P, 3) x, y and inverse depth of points of the target, in the unit of the part; zeros
            where none are known; None where no clip has any.
        static: (B, 1, H, W) pixels that belong to the camera; None where no clip has any.
        dense: (B, 2, H, W) float16, inverse depth of the target in the unit of the part, 0 where unknown, and
            confidence; None where no clip has any.
        weight: of this process's mean, so that the mean over processes is that over all snippets; 1 but
            for an uneven last batch.
    """

    frames: UInt8[Tensor, "n b 3 h w"]
    matrix: Float[Tensor, "b 3 3"]
    step: int
    frame_ids: Int64[Tensor, "t b"]
    clips: Int64[Tensor, "b"]
    parts: Int64[Tensor, "b"]
    motions: Float[Tensor, "t b 4 4"] | None = None
    partner_motion: Float[Tensor, "1 b 4 4"] | None = None
    points: Float[Tensor, "b p 3"] | None = None
    static: Bool[Tensor, "b 1 h w"] | None = None
    dense: Float[Tensor, "b 2 h w"] | None = None
    weight: float = 1.0

    def to(self, device: torch.device) -> "RawBatch":
        """Move to a device, without waiting for it."""
        return self._with_each(lambda values: values.to(device, non_blocking=True))

    def pin_memory(self) -> "RawBatch":
        """In memory from which a GPU takes it without waiting."""
        return self._with_each(Tensor.pin_memory)

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> "RawBatch":
        values: dict[str, Any] = {
            name: change(value) if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }
        return RawBatch(**values)


@dataclass(frozen=True)
class SnippetBatch:
    """B snippets of one target and S sources.

    Attributes:
        target: (B, 3, H, W) in [0, 1], what the losses see.
        sources: (S, B, 3, H, W).
        target_input, sources_input: the same frames with jittered colours, what DepthNet and
            PoseNet see.
        camera: of all frames, batch size B.
        motions: (T, B, 4, 4) ``source_from_target`` of the sources in time; None where PoseNet has to find
            them.
        partner_motion: (1, B, 4, 4) ``partner_from_target``, the last source's; None without a second camera.
        points: (B, P, 3) x, y and inverse depth of points of the target, in the unit of ``motions``;
            zeros where none are known; None where there are none.
        static: (B, 1, H, W) pixels that belong to the camera; None where there are none.
        dense: (B, 2, H, W) inverse depth of the target in the unit of ``motions``, 0 where unknown, and
            confidence; None where none is known.
    """

    target: Float[Tensor, "b 3 h w"]
    sources: Float[Tensor, "s b 3 h w"]
    target_input: Float[Tensor, "b 3 h w"]
    sources_input: Float[Tensor, "s b 3 h w"]
    camera: Camera
    motions: Float[Tensor, "t b 4 4"] | None = None
    partner_motion: Float[Tensor, "1 b 4 4"] | None = None
    points: Float[Tensor, "b p 3"] | None = None
    static: Bool[Tensor, "b 1 h w"] | None = None
    dense: Float[Tensor, "b 2 h w"] | None = None

    def with_partner(self, motions: Tensor | None) -> Float[Tensor, "s b 4 4"]:
        """Motions of all sources: given ones in time, where there are any, and the partner's."""
        return torch.cat([m for m in (motions, self.partner_motion) if m is not None])
