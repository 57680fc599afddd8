"""Footage at training size, with the motion that is known before training."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.data.footage.frame_cache import cached_frames
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import pose_jumps

MIN_SIDE = 16
"""Smallest side in pixels of images that depth can be learned from."""
MIN_FOCAL_CHANGE = 1e-3
"""Relative change of the focal length from which it counts as refined."""
NO_PART = -1


@dataclass(frozen=True)
class SparsePoints:
    """Points from structure from motion that are visible in a frame, with their depth.

    Attributes:
        pixels: (P, 2) x, y.
        inverse_depth: (P,) inverse z.
    """

    pixels: np.ndarray
    inverse_depth: np.ndarray


@dataclass(frozen=True)
class KnownMotion:
    """Poses that are known before training.

    Attributes:
        world_from_camera: (N, 4, 4) float64; the identity where the pose is unknown.
        part: (N,) index of the reconstruction; frames of one part share a world frame and a unit. NO_PART
            where the pose is unknown.
        points: sparse points by frame position, at training size and in the unit of the poses.
    """

    world_from_camera: np.ndarray
    part: np.ndarray
    points: dict[int, SparsePoints]

    @classmethod
    def unknown(cls, count: int) -> "KnownMotion":
        """Motion of ``count`` frames without poses."""
        return cls(np.tile(np.eye(4), (count, 1, 1)), np.full(count, NO_PART), {})

    @classmethod
    def given(cls, sequence: Sequence) -> "KnownMotion":
        """The poses that come with a sequence; where they jump, a new part begins.

        Raises:
            EgodepthError: it has none.
        """
        if sequence.world_from_camera is None:
            raise EgodepthError(f"{sequence.name} has no poses; use --data.poses network")
        poses = sequence.world_from_camera
        known = np.isfinite(poses).all((1, 2))
        jumps = pose_jumps(poses, np.array(sequence.frames.numbers))
        part = np.cumsum(np.isin(np.arange(len(poses)), jumps))
        return cls(
            np.where(known[:, None, None], poses, np.eye(4)), np.where(known, part, NO_PART), {}
        )


@dataclass(frozen=True)
class Clip:
    """One sequence as training reads it.

    Attributes:
        sequence: the original sequence.
        frames: (N, 3, h, w) uint8, memory-mapped.
        numbers: (N,) frame numbers.
        camera: intrinsics at the size of ``frames``.
        stride: number of frames from a target to its temporal sources.
        excluded_pairs: pairs of positions without parallax, or with a cut between them.
        motion: known poses and points, if any.
        targets: numbers of the frames that may be targets; None for all.
        static: (h, w) bool, static mask (bonnet, watermark, borders); None if there is none.
        dense: (N, 2, h, w) float16, memory-mapped: inverse depth in the unit of the frame's part, 0 where
            unknown, and confidence between 0 and 1; None without labels.
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
        """Hash of the static mask for cache keys; empty without a mask."""
        return "" if self.static is None else hashlib.sha256(self.static.tobytes()).hexdigest()

    @property
    def is_used(self) -> bool:
        """Whether any frame may be a target."""
        return self.targets is None or len(self.targets) > 0

    def refined_focal(self) -> tuple[float, float] | None:
        """Focal lengths before and after refinement, in pixels of the footage; None if it was not refined."""
        before = self.sequence.camera
        assert before is not None
        focals = (
            float(before.matrix[0, 0]),
            float(self.camera.matrix[0, 0]) * before.width / self.camera.width,
        )
        return focals if abs(focals[1] / focals[0] - 1) > MIN_FOCAL_CHANGE else None

    def pairs(self, stride: int) -> list[tuple[int, int]]:
        """Positions of all pairs of frames that are ``stride`` frames apart, the earlier one first."""
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
    """Read sequences at training size; frames are decoded unless they are cached.

    Args:
        sequences: footage with cameras.
        height, width: training size.
        folder: cache folder, see :func:`cached_frames`.

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
