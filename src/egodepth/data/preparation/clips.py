"""Footage at the size of the training, and what is known of its motion before the training starts."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.data.footage.frame_cache import cached_frames
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera

MIN_SIDE = 16
"""Pixels of an image that depth can be learned from at all."""
NO_PART = -1


@dataclass(frozen=True)
class SparsePoints:
    """Points of structure from motion that are seen in a frame, with their depth.

    Attributes:
        pixels: (P, 2) x, y.
        inverse_depth: (P,) along z.
    """

    pixels: np.ndarray
    inverse_depth: np.ndarray


@dataclass(frozen=True)
class KnownMotion:
    """Poses that were there before the training.

    Attributes:
        world_from_camera: (N, 4, 4) float64; the identity where ``part`` says that the pose is unknown.
        part: (N,) frames of one part share a world and a unit; NO_PART where the pose is unknown.
        points: by position of the frame, at the size of the training, in the unit of the poses.
    """

    world_from_camera: np.ndarray
    part: np.ndarray
    points: dict[int, SparsePoints]

    @classmethod
    def unknown(cls, count: int) -> "KnownMotion":
        """Of so many frames, none has a pose."""
        return cls(np.tile(np.eye(4), (count, 1, 1)), np.full(count, NO_PART), {})

    @classmethod
    def given(cls, sequence: Sequence) -> "KnownMotion":
        """The poses of a data set, in metres.

        Raises:
            EgodepthError: it has none.
        """
        if sequence.world_from_camera is None:
            raise EgodepthError(f"{sequence.name} has no poses; use --data.poses network")
        poses = sequence.world_from_camera
        known = np.isfinite(poses).all((1, 2))
        return cls(
            np.where(known[:, None, None], poses, np.eye(4)), np.where(known, 0, NO_PART), {}
        )


@dataclass(frozen=True)
class Clip:
    """One sequence as the training reads it.

    Attributes:
        sequence: where it comes from.
        frames: (N, 3, h, w) uint8, memory-mapped.
        numbers: (N,) frame numbers.
        camera: at the size of the frames.
        stride: frames between target and sources in time.
        excluded_pairs: pairs of positions that show no parallax, or a cut between them.
        motion: what is known of it.
        targets: numbers of the frames that may be targets; None for all.
        static: (h, w) bool, pixels that belong to the camera (bonnet, watermark, borders); None for none.
        dense: (N, 2, h, w) float16, memory-mapped: inverse depth in the unit of the frame's part, 0 where
            unknown, and confidence between 0 and 1; None where nothing made it.
    """

    sequence: Sequence
    frames: np.ndarray
    numbers: np.ndarray
    camera: Camera
    stride: int = 1
    excluded_pairs: frozenset[tuple[int, int]] = frozenset()
    motion: KnownMotion | None = None
    targets: frozenset[int] | None = None
    static: np.ndarray | None = None
    dense: np.ndarray | None = None

    @property
    def positions(self) -> dict[int, int]:
        """Position of each frame by its number."""
        return {int(number): i for i, number in enumerate(self.numbers)}

    @property
    def static_digest(self) -> str:
        """Of the mask, for names of what depends on it; empty without one."""
        return "" if self.static is None else hashlib.sha256(self.static.tobytes()).hexdigest()

    @property
    def is_used(self) -> bool:
        """Whether any frame may be a target."""
        return self.targets is None or len(self.targets) > 0

    def pairs(self, stride: int) -> list[tuple[int, int]]:
        """Positions of all frames that are ``stride`` frames apart, the earlier one first."""
        positions = self.positions
        return [
            (i, positions[number + stride])
            for number, i in positions.items()
            if number + stride in positions
        ]


def read_clips(
    sequences: list[Sequence],
    height: int,
    width: int,
    folder: Path,
) -> list[Clip]:
    """Sequences at the size of the training; frames are decoded where the cache has them not.

    Args:
        sequences: footage with cameras.
        height, width: size to train at.
        folder: see :func:`cached_frames`.

    Raises:
        EgodepthError: a sequence without a camera, images that are too small, or broken frames.
    """
    clips = []
    for sequence in sequences:
        if sequence.camera is None:
            raise EgodepthError(
                f"{sequence.name} has no camera: give --data.focal (pixels), --data.fov "
                "(degrees, left to right edge) or --data.camera FILE"
            )
        if min(sequence.camera.height, sequence.camera.width) < MIN_SIDE:
            raise EgodepthError(
                f"the images of {sequence.name} are {sequence.camera.width}x{sequence.camera.height} pixels; "
                f"depth needs at least {MIN_SIDE} on either side"
            )
        frames, numbers = cached_frames(sequence, height, width, folder)
        clips.append(Clip(sequence, frames, numbers, sequence.camera.resize(height, width)))
    return clips
