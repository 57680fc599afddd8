"""Batches of snippets: raw, as loaded, and as passed to networks and losses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from egodepth.geometry.camera import Camera


@dataclass(frozen=True)
class RawBatch:
    """Batch as loaded, with frames as uint8.

    Attributes:
        frames: (S + 1, B, 3, H, W), the target first, then the sources in order of offset.
        matrix: (B, 3, 3) intrinsics at the size of the frames.
        step: index of the training step, which seeds the augmentation.
        frame_ids: (T + 1, B) ids of the target and its T temporal sources, unique among all clips.
        clips: (B,) index of each snippet's clip.
        parts: (B,) id of each snippet's part, unique among all clips; NO_PART for a rendered snippet without
            motion.
        motions: (T, B, 4, 4) ``source_from_target`` of the temporal sources, in metres or the unit of the
            snippet's part; None if unknown.
        partner_motion: (1, B, 4, 4) ``partner_from_target`` of the last source, in metres; None without a
            second camera.
        points: (B, P, 3) x, y and inverse depth of points in the target, in the unit of the part; zeros
            where unknown; None if no clip has any.
        static: (B, 1, H, W) static mask; None if no clip has one.
        dense: (B, 2, H, W) float16, inverse depth of the target in the unit of the part, 0 where unknown, and
            confidence; None if no clip has labels.
        weight: weight of this process's mean, so that the mean over processes equals that over all snippets;
            1 except for an uneven last batch.
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
        """Copy to a device, asynchronously."""
        return self._with_each(lambda values: values.to(device, non_blocking=True))

    def pin_memory(self) -> "RawBatch":
        """Copy to pinned memory, for asynchronous transfer to a GPU."""
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
        target: (B, 3, H, W) in [0, 1], for the losses.
        sources: (S, B, 3, H, W) in [0, 1], for the losses.
        target_input, sources_input: the same frames with colour jitter, for DepthNet and PoseNet.
        camera: camera of all frames, batch size B.
        motions: (T, B, 4, 4) ``source_from_target`` of the temporal sources; None if unknown.
        partner_motion: (1, B, 4, 4) ``partner_from_target`` of the last source; None without a second camera.
        points: (B, P, 3) x, y and inverse depth of points in the target, in the unit of ``motions``;
            zeros where unknown; None if there are none.
        static: (B, 1, H, W) static mask; None if there is none.
        dense: (B, 2, H, W) inverse depth of the target in the unit of ``motions``, 0 where unknown, and
            confidence; None if there are no labels.
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
        """Concatenate the given temporal motions, if any, with the partner's motion."""
        return torch.cat([m for m in (motions, self.partner_motion) if m is not None])
