"""Order of the training samples: a pure function of seed and step, whatever the number of processes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from egodepth.data.shards.chunks import Chunks

LANES = 64
"""Largest number of lanes, between which the chunks of a sharded training are divided."""


@dataclass(frozen=True)
class Lanes:
    """Division of the samples of a sharded training, so that a process needs few chunks at a time.

    Chunks are dealt to lanes in random order. A lane shuffles the samples of ``window`` chunks at a time, and
    batches take one sample of each lane in turn. Processes whose number divides ``count`` share no lane, and
    read no chunk of another one.

    Attributes:
        chunk_of: (N,) chunk of each sample.
        count: number of lanes.
        window: chunks of a lane whose samples are shuffled together.
    """

    chunk_of: np.ndarray
    count: int
    window: int


def lanes_for(chunks: Chunks, chunk_of: np.ndarray) -> Lanes | None:
    """Lanes whose windows take up half of the bytes that the chunks may; the other half is for those to come.
    None if all chunks fit, so that samples are shuffled as those of local footage."""
    sizes = chunks.sizes
    if sum(sizes) <= chunks.bound:
        return None
    fits = max(1, int(chunks.bound / 2 / max(sizes)))
    count = min(LANES, 1 << (fits.bit_length() - 1))
    return Lanes(chunk_of, count, max(1, fits // count))


class SampleOrder:
    """Batches of samples. Every epoch is a new permutation, whose last batch may be smaller.

    Attributes:
        rows: samples, as indices into a table.
        history: pairs of the first step and the number of processes from there on. A training that is resumed
            by another number goes on with the samples that its epoch has not seen.
    """

    def __init__(
        self,
        rows: np.ndarray,
        seed: int,
        batch_size: int,
        rank: int,
        ranks: int,
        lanes: Lanes | None = None,
        history: tuple[tuple[int, int], ...] = (),
    ):
        """Args:
        rows: samples.
        seed: random seed of the order.
        batch_size: samples per step and process.
        rank, ranks: rank of this process, and world size.
        lanes: division into lanes; None shuffles all samples together.
        history: see the class; by default this number of processes from the first step.
        """
        self.rows, self.history = rows, history or ((0, ranks),)
        self._seed, self._batch_size, self._rank, self._ranks = seed, batch_size, rank, ranks
        self._lanes = lanes
        self.of_epoch = lru_cache(2)(self._of_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch, including a partial last one. A remainder smaller than one sample per
        process is merged into the previous batch."""
        return self._batches_of(len(self.rows), self._ranks)

    def of(self, rows: np.ndarray) -> "SampleOrder":
        """The order of some of the samples alone."""
        return SampleOrder(
            rows, self._seed, self._batch_size, self._rank, self._ranks, self._lanes, self.history
        )

    def mine(self, step: int) -> tuple[np.ndarray, float]:
        """Return the samples of this process in a step, and the weight of their mean, so that the mean over
        processes equals that over all samples."""
        epoch, taken, ranks = self._place(step)
        order, together = self.of_epoch(epoch), self._batch_size * ranks
        left = len(order) - taken
        last = self._batches_of(left, ranks) == 1
        rows = order[taken : None if last else taken + together]
        contiguous = self._lanes is None
        mine = np.array_split(rows, ranks)[self._rank] if contiguous else rows[self._rank :: ranks]
        weight = len(mine) * ranks / len(rows)
        # Fewer are left than processes where their number changed; one that counts for nothing stands in.
        return (mine if len(mine) else rows[:1]), weight

    def _place(self, step: int) -> tuple[int, int, int]:
        """Epoch of a step, number of its samples that earlier steps have taken, and number of processes."""
        epoch = taken = 0
        for index, (first, ranks) in enumerate(self.history):
            end = self.history[index + 1][0] if index + 1 < len(self.history) else step
            left = min(end, step) - first
            rest = self._batches_of(len(self.rows) - taken, ranks)
            if left < rest:
                taken += left * self._batch_size * ranks
            else:
                epochs, left = divmod(left - rest, self._batches_of(len(self.rows), ranks))
                epoch, taken = epoch + 1 + epochs, left * self._batch_size * ranks
            if end > step:
                break
        return epoch, taken, ranks

    def _batches_of(self, count: int, ranks: int) -> int:
        together = self._batch_size * ranks
        left = count % together
        return max(1, count // together + (left >= ranks))

    def _of_epoch(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch])
        lanes = self._lanes
        if lanes is None:
            return self.rows[rng.permutation(len(self.rows))]
        chunks = lanes.chunk_of[self.rows]
        present, place = np.unique(chunks, return_inverse=True)
        turn = rng.permutation(len(present))[place]
        lane, turn = turn % lanes.count, turn // lanes.count
        # Windows of different lanes end at different times, so that chunks are fetched evenly.
        window = (turn + lane % lanes.window) // lanes.window
        order = np.lexsort((rng.random(len(chunks)), window, lane))
        lane = lane[order]
        starts = np.flatnonzero(np.diff(lane, prepend=-1))
        within = np.arange(len(lane)) - np.repeat(starts, np.diff([*starts, len(lane)]))
        return self.rows[order[np.argsort(within * lanes.count + lane, kind="stable")]]
