"""Pieces of clips that make up the chunks of shards: each holds all frames of its snippets."""

from collections.abc import Iterator

import numpy as np

from egodepth.data.preparation.clips import Clip


def cut(clips: list[Clip], frames: int) -> Iterator[list[tuple[int, int, bool]]]:
    """Cut the clips of one rig, or a single clip, into pieces of about so many frames.

    The frames at the ends, which are sources of the next piece's targets, are in both, so that no snippet needs
    two chunks.

    Args:
        clips: clips with their strides.
        frames: frames per piece, all cameras together, without those that two pieces have.

    Yields:
        Index of the clip, position, and whether this piece is the frame's home, for each frame.
    """
    every = np.unique(np.concatenate([clip.numbers for clip in clips]))
    together = max(1, frames // len(clips))
    positions = [clip.positions for clip in clips]
    for first in range(0, len(every), together):
        numbers = every[first : first + together]
        piece: dict[tuple[int, int], bool] = {}
        for index, clip in enumerate(clips):
            around = [numbers - clip.stride, numbers, numbers + clip.stride]
            own = set(numbers.tolist())
            for number in np.unique(np.concatenate(around)).tolist():
                if number in positions[index]:
                    piece[index, positions[index][number]] = number in own
        yield [(*place, home) for place, home in sorted(piece.items())]
