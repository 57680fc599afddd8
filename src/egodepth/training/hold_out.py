"""Frames that are held out of a training: depth does not learn from them, so that they show how far it is off.

The confidence is calibrated on them, and a training that starts from a run is compared with its start on them.
"""

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.settings.training import TrainSettings
from egodepth.training.snippets import SnippetStream
from egodepth.training.start import is_compared
from egodepth.training.start_comparison import MAX_TARGETS

SHARE = 1 / 16
"""Share of the footage that is held out."""
MIN_STRIDES = 40
"""Shortest footage, in strides, of which this share is held out."""
MAX_BLOCK, MIN_BLOCKS, MAX_BLOCKS = 3, 4, 40
"""Longest block of frames held out together, in strides, so that the sources of its middle frame are held out,
too; fewest blocks, unless they are of one frame; and most blocks."""
MIN_EVERY = 5
"""At most one in this many frames is held out."""


def hold_out(
    settings: TrainSettings, stream: SnippetStream
) -> tuple[SnippetStream, SnippetStream | None]:
    """Hold out what a training needs, see :func:`hold_out_blocks`.

    Args:
        settings: of the training; one of FeatureNet alone holds nothing out.
        stream: all snippets.
    """
    if settings.method == "features":
        return stream, None
    return hold_out_blocks(stream, MAX_TARGETS if is_compared(settings) else 0)


def hold_out_blocks(
    stream: SnippetStream, at_least: int = 0
) -> tuple[SnippetStream, SnippetStream | None]:
    """Hold out short blocks of frames, evenly spaced over the footage. The cameras of a rig, whose images show
    the same, are held out together. What is held out depends on the footage alone: a resumed training, and all
    processes of one, hold out the same frames.

    Args:
        stream: snippets.
        at_least: number of snippets to hold out even of short footage, but at most one in MIN_EVERY.

    Returns:
        The snippets to train on, and those held out; all and None where the footage is too short.
    """
    strides, place = _moments(stream)
    total, cameras = float(strides.sum()), len(place) / len(strides)
    wanted = SHARE * total if total >= MIN_STRIDES else 0.0
    wanted = max(wanted, min(at_least / cameras, total / MIN_EVERY))
    if wanted == 0 or stream.snippet_count < 2 * MIN_EVERY:
        return stream, None
    block = min(max(1, int(wanted / MIN_BLOCKS)), MAX_BLOCK)
    period = total / min(max(1, round(wanted / block)), MAX_BLOCKS)
    from_middle = (strides.cumsum() - strides / 2) % period - period / 2
    held = (-block / 2 <= from_middle) & (from_middle < block / 2)
    return stream.split(held[place])


def hold_out_every(stream: SnippetStream, every: int) -> tuple[SnippetStream, SnippetStream]:
    """Hold out every ``every``-th snippet, however short the footage.

    Returns:
        The snippets to train on, and those held out.

    Raises:
        EgodepthError: fewer than two snippets.
    """
    count = stream.snippet_count
    if count < 2:
        raise EgodepthError(
            "the footage has one snippet, and none to hold out: refining needs four frames or more"
        )
    return stream.split(np.arange(count) % every == min(every, count) // 2)


def _moments(stream: SnippetStream) -> tuple[np.ndarray, np.ndarray]:
    """The moments at which there are targets, in order: for each, how many strides it lasts; and the moment of
    each snippet."""
    first: dict[str | int, int] = {}
    rigs = [first.setdefault(c.sequence.rig or i, i) for i, c in enumerate(stream.clips)]
    keys = [(rigs[clip], stream.clips[clip].numbers[target]) for clip, target in stream.targets]
    moments, place = np.unique(np.array(keys), axis=0, return_inverse=True)
    lasts = np.array([1 / clip.stride for clip in stream.clips])
    return lasts[moments[:, 0]], place.ravel()
