"""Parts of the footage that snippets stay within, and labels."""

from dataclasses import dataclass

import numpy as np

from egodepth.data.preparation.clips import NO_PART, Clip


@dataclass(frozen=True)
class LabelRound:
    """Dense labels made during training.

    Attributes:
        first_step: first step that uses them.
        dense: labels of each clip, see :attr:`Clip.dense`; None for a clip without labels.
        factors: factor of each clip's inverse depths that converts them to DepthNet's unit.
    """

    first_step: int
    dense: list[np.ndarray | None]
    factors: list[float]


def has_label(labels: np.ndarray, target: int) -> bool:
    """Whether a frame has dense labels."""
    known = getattr(labels, "known", None)  # of shards, which are not read to find out
    return bool(labels[target, 0].any() if known is None else known[target])


def number_parts(clips: list[Clip]) -> list[int]:
    """Id of each clip's first part; cameras of the same rig share their motion and parts."""
    first: dict[str | int, int] = {}
    count, numbers = 0, []
    for index, clip in enumerate(clips):
        if clip.motion is None:
            numbers.append(0)
            continue
        key = clip.sequence.rig or index
        if key not in first:
            first[key] = count
            count += int(clip.motion.part.max()) + 1
        numbers.append(first[key])
    return numbers


def usable(clip: Clip, target: int, source: int) -> bool:
    """Whether a pair is not excluded and, if poses are known, both frames are in the same part."""
    if (min(target, source), max(target, source)) in clip.excluded_pairs:
        return False
    if clip.motion is None:
        return True
    part = clip.motion.part
    return bool(part[target] == part[source] != NO_PART)
