"""Poses of all frames, chained in constant memory from PoseNet's motions over the gap it was trained with."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from egodepth.core.errors import EgodepthWarning
from egodepth.data.sequence import Frame, Frames, time_per_frame
from egodepth.geometry import se3
from egodepth.runs.motion_gap import MotionGap
from egodepth.runs.not_finite import naming

MAX_GAP_RATIO = 1.5
"""Largest ratio, without a warning, of the time between neighbouring frames to that between PoseNet's training
pairs; paths may be too short by that ratio."""

T = TypeVar("T")
Motions = Callable[[Tensor, Tensor], np.ndarray]
"""Function that returns ``second_from_first`` (B, 4, 4) of pairs of prepared frames, like
``Run.motions_of_frames``."""


def gap_of(frames: Frames, trained: MotionGap) -> int:
    """The gap in frames between the pairs given to PoseNet on some footage. If neighbouring frames are farther
    apart than the trained gap, they are the pairs, with a warning."""
    seconds = time_per_frame(frames)
    if trained.seconds and seconds and seconds > MAX_GAP_RATIO * trained.seconds:
        warnings.warn(
            f"the frames are {seconds:.3g} s apart, PoseNet learned motions over {trained.seconds:.3g} s: "
            f"its path may be up to {seconds / trained.seconds:.1f} times too short; use footage with more "
            "frames per second, or egodepth odometry",
            EgodepthWarning,
            stacklevel=2,
        )
    return trained.in_frames(seconds)


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """A frame prepared for the networks.

    Attributes:
        frame: the frame.
        image: (3, h, w), input of the networks.
        result: passed through, for example the frame's depth.
    """

    frame: Frame
    image: Tensor
    result: T


def chain_poses(
    frames: Iterable[Prepared[T]], gap: int, motions: Motions, together: int = 1
) -> Iterator[tuple[Prepared[T], np.ndarray]]:
    """Yield frames with their ``first_from_frame``, in order, at most ``gap`` plus ``together`` frames late.

    Every ``gap``-th frame is placed by the motion from the previous one; frames between them are interpolated
    at constant velocity. The last frame is placed by the motion from the frame one gap before it. Footage
    shorter than the gap uses the motion from its first to its last frame, with a warning.

    Args:
        frames: in order of time.
        gap: in frame numbers.
        motions: called with batches of pairs that span up to about ``together`` frames.
        together: number of frames to collect for a batch, beyond the gap.
    """
    seen: deque[tuple[Prepared[T], np.ndarray]] = deque(maxlen=gap + 1)  # with poses
    waiting: list[Prepared[T]] = []
    ends: list[int] = []  # positions in ``waiting`` of the frames at the ends of the next motions
    for item in frames:
        if not seen:
            seen.append((item, np.eye(4)))
            yield seen[-1]
            continue
        waiting.append(item)
        start = waiting[ends[-1]] if ends else seen[-1][0]
        if item.frame.number - start.frame.number >= gap:
            ends.append(len(waiting) - 1)
        if len(ends) * gap >= together and ends:
            for placed in _place(seen[-1], waiting, ends, motions):
                seen.append(placed)
                yield placed
            waiting, ends = waiting[ends[-1] + 1 :], []
    if ends:
        for placed in _place(seen[-1], waiting, ends, motions):
            seen.append(placed)
            yield placed
        waiting = waiting[ends[-1] + 1 :]
    if not waiting:
        return
    last, (begin, pose) = waiting[-1], seen[-1]
    earlier = [entry for entry in seen if last.frame.number - entry[0].frame.number >= gap]
    anchor, anchor_pose = earlier[-1] if earlier else (begin, pose)
    if not earlier:
        warnings.warn(
            f"the footage holds {last.frame.number - begin.frame.number + 1} frames, PoseNet learned motions "
            f"over {gap}: the path may be several times too long",
            EgodepthWarning,
            stacklevel=2,
        )
    with naming(last.frame):
        motion = np.linalg.inv(motions(anchor.image[None], last.image[None])[0])
    whole = np.linalg.inv(pose) @ anchor_pose @ motion
    yield from _spread((begin, pose), waiting, whole)


def _place(
    start: tuple[Prepared[T], np.ndarray],
    waiting: list[Prepared[T]],
    ends: list[int],
    motions: Motions,
) -> Iterator[tuple[Prepared[T], np.ndarray]]:
    images = [start[0].image, *(waiting[end].image for end in ends)]
    with naming(*(waiting[end].frame for end in ends)):
        found = np.linalg.inv(motions(torch.stack(images[:-1]), torch.stack(images[1:])))
    begin = 0
    for end, motion in zip(ends, found, strict=True):
        for placed in _spread(start, waiting[begin : end + 1], motion):
            start = placed
            yield placed
        begin = end + 1


def _spread(
    start: tuple[Prepared[T], np.ndarray], frames: Sequence[Prepared[T]], motion: np.ndarray
) -> Iterator[tuple[Prepared[T], np.ndarray]]:
    """Place frames along the motion from ``start`` to the last of them, at constant velocity."""
    seen = [start[0].frame, *(item.frame for item in frames)]
    moments = np.array([frame.time for frame in seen], np.float64)  # NaN without times
    if not (np.diff(moments) > 0).all():
        moments = np.array([frame.number for frame in seen])
    shares = (moments[1:] - moments[0]) / (moments[-1] - moments[0])
    whole = torch.from_numpy(motion).expand(len(frames), 4, 4)
    way = se3.part_of(whole, torch.from_numpy(shares)).numpy()
    way[-1] = motion
    for item, part in zip(frames, way, strict=True):
        yield item, start[1] @ part
