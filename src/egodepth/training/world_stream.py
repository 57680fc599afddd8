"""Batches of rendered worlds, from a buffer that worker processes keep filling."""

import time
from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from egodepth.core import progress
from egodepth.core.schedule import Schedule
from egodepth.core.signals import ignore_signals
from egodepth.data.preparation.clips import NO_PART
from egodepth.data.synthetic.worlds.pairs import MAX_DEPTH, Pair, world_pairs
from egodepth.runs.confidence_fit import KnownFrame
from egodepth.training.batch import RawBatch

FIRST_WORLDS = 8
"""Number of worlds rendered before the first step."""
BUFFER = 400
"""Number of latest pairs kept for each size."""
WORLDS_AHEAD = 2
"""Number of worlds that each worker prefetches."""
ENLARGED, SMALLEST_PART = 0.35, 0.6
"""Probability of a random crop, and its minimum size relative to the image."""
UNEVEN = 0.3
"""Probability of drawing a pair of any size, resized to that of the batch, as footage is for a run."""
MAX_STRETCH = 2.6
"""Maximum factor by which this may change the aspect ratio."""
SKY_WEIGHT = 0.3
"""Weight of the depth of sky, which covers many pixels but teaches little."""


class Worlds(IterableDataset[list[Pair]]):
    """Frame pairs of consecutive worlds, one list per world, distributed among the workers."""

    def __init__(self, seed: int, first: int):
        """Args:
        seed: random seed of the worlds.
        first: number of the first world.
        """
        self.seed, self.first = seed, first

    def __iter__(self) -> Iterator[list[Pair]]:
        worker = get_worker_info()
        number = self.first + (worker.id if worker else 0)
        while True:
            yield list(world_pairs(self.seed, number))
            number += worker.num_workers if worker else 1


class WorldStream(IterableDataset[RawBatch]):
    """Batches of frame pairs of rendered worlds. Each pair is used several times, with different crops.

    The seed determines the worlds; a step's index and the number of worlds rendered so far determine its batch.
    A stream resumed at a later step fills its buffer with the next worlds, so its batches differ from those of
    an uninterrupted one.

    Attributes:
        schedule: schedule of the training; iteration ends at its last step.
        first_step: step at which iteration starts.
        worlds: number of the next world.
        seconds: total time spent waiting for batches.
        frames_per_snippet: number of frames per snippet: target and source.
    """

    frames_per_snippet = 2

    def __init__(self, *, batch_size: int, seed: int, draws: float, workers: int):
        """Args:
        batch_size: pairs per step.
        seed: random seed of worlds and crops.
        draws: average number of times that each pair is used.
        workers: number of rendering processes; 0 renders in the main process.
        """
        self.batch_size, self.seed, self.draws, self.workers = batch_size, seed, draws, workers
        self.schedule, self.first_step, self.worlds = Schedule(0), 0, 0
        self.seconds = 0.0
        self._buffers: dict[tuple[int, int], deque[Pair]] = {}

    def __iter__(self) -> Iterator[RawBatch]:
        loader = DataLoader(
            Worlds(self.seed, self.worlds), batch_size=None, num_workers=self.workers,
            collate_fn=_as_it_is, worker_init_fn=_begin_worker if self.workers else None,
            prefetch_factor=WORLDS_AHEAD if self.workers else None,
        )  # fmt: skip
        worlds = iter(loader)
        started = time.perf_counter()
        for _ in progress.track(range(FIRST_WORLDS), "rendering worlds", FIRST_WORLDS, "worlds"):
            self._take(next(worlds))
        owed, step = 0.0, self.first_step
        while step < self.schedule.total:  # the total may change meanwhile
            owed += self.batch_size / self.draws
            while owed > 0:
                owed -= self._take(next(worlds))
            raw = self.batch(step)
            self.seconds += time.perf_counter() - started
            yield raw
            started = time.perf_counter()
            step += 1

    def _take(self, pairs: list[Pair]) -> int:
        """Add the pairs of a world to the buffers; return their number."""
        self.worlds += 1
        for pair in pairs:
            self._buffers.setdefault(pair.size, deque(maxlen=BUFFER)).append(pair)
        return len(pairs)

    @property
    def pairs(self) -> list[Pair]:
        """The pairs rendered latest."""
        return [pair for buffer in self._buffers.values() for pair in buffer]

    def batch(self, step: int) -> RawBatch:
        """Return the batch of a training step, from the pairs rendered so far. The target is either the first
        or the second frame, for all pairs."""
        rng = np.random.default_rng([self.seed, step])
        known = self.pairs
        size = known[rng.integers(len(known))].size
        drawn = [_cut_out(_draw(rng, known, self._buffers[size], size), size, rng)
                 for _ in range(self.batch_size)]  # fmt: skip
        target = int(rng.integers(2))
        order = [target, 1 - target]
        images = np.stack([pair.images[order] for pair in drawn], axis=1)
        inverse = np.stack([pair.inverse_depth[target] for pair in drawn])
        sky = inverse <= 1 / MAX_DEPTH
        labels = [np.maximum(inverse, 1 / MAX_DEPTH), np.where(sky, SKY_WEIGHT, 1)]
        motions = [np.eye(4) if p.motion is None else p.motion for p in drawn]
        parts = [NO_PART if p.motion is None else 0 for p in drawn]
        motion = np.stack(motions if target == 0 else [np.linalg.inv(m) for m in motions])
        count = len(drawn)
        return RawBatch(
            frames=torch.from_numpy(images).permute(0, 1, 4, 2, 3).contiguous(),
            matrix=torch.from_numpy(np.stack([pair.matrix for pair in drawn])).float(),
            motions=torch.from_numpy(motion)[None].float(),
            step=step,
            frame_ids=torch.tensor(order)[:, None].expand(2, count),
            clips=torch.zeros(count, dtype=torch.int64),
            parts=torch.tensor(parts),
            dense=torch.from_numpy(np.stack(labels, axis=1).astype(np.float16)),
        )


def _draw(
    rng: np.random.Generator, known: list[Pair], fitting: deque[Pair], size: tuple[int, int]
) -> Pair:
    """Draw a pair of this size, or sometimes of another size with a similar aspect ratio."""
    pair = known[rng.integers(len(known))]
    stretch = size[1] / size[0] * pair.size[0] / pair.size[1]
    if rng.random() < UNEVEN and 1 / MAX_STRETCH < stretch < MAX_STRETCH:
        return pair
    return fitting[rng.integers(len(fitting))]


def _cut_out(pair: Pair, size: tuple[int, int], rng: np.random.Generator) -> Pair:
    """Resize a pair to this size, sometimes after a random crop."""
    height, width = pair.size
    top = left = 0
    if rng.random() < ENLARGED:
        share = rng.uniform(SMALLEST_PART, 1)
        high, wide = round(share * height), round(share * width)
        top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
        height, width = high, wide
    return pair.resized((top, left, height, width), size)


def frames_of_pairs(pairs: Iterable[Pair]) -> list[KnownFrame]:
    """Both frames of pairs of rendered worlds; the depth of sky is not known."""
    return [
        KnownFrame(image, np.where(inverse > 1 / MAX_DEPTH, inverse, 0).astype(np.float32))
        for pair in pairs
        for image, inverse in zip(pair.images, pair.inverse_depth, strict=True)
    ]


def _as_it_is(pairs: list[Pair]) -> list[Pair]:
    """Keep arrays as arrays: each tensor shared between processes would hold a file open."""
    return pairs


def _begin_worker(_: int) -> None:
    ignore_signals()  # which reach all processes of a terminal
    cv2.setNumThreads(1)
