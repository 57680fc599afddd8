"""Training snippets: a target frame, its neighbours in time, and the camera."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import IterableDataset

from egodepth.core.errors import EgodepthError
from egodepth.data.augment import change_colours, flip_some, random_colour_matrices
from egodepth.data.frame_cache import cached_frames
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera

FLIP_PROBABILITY = JITTER_PROBABILITY = 0.5


@dataclass(frozen=True)
class RawBatch:
    """What the loader hands over: frames as they are cached.

    Attributes:
        frames: (S + 1, B, 3, H, W), the target first, then the sources in order of offset.
        matrix: (B, 3, 3) intrinsics at the size of the frames.
        step: index of the training step, from which the augmentation is seeded.
    """

    frames: UInt8[Tensor, "n b 3 h w"]
    matrix: Float[Tensor, "b 3 3"]
    step: int


@dataclass(frozen=True)
class SnippetBatch:
    """B snippets of one target and S sources.

    Attributes:
        target: (B, 3, H, W) in [0, 1], what the losses see.
        sources: (S, B, 3, H, W).
        target_input, sources_input: the same frames with jittered colours, what DepthNet and
            PoseNet see.
        camera: of all frames, batch size B.
    """

    target: Float[Tensor, "b 3 h w"]
    sources: Float[Tensor, "s b 3 h w"]
    target_input: Float[Tensor, "b 3 h w"]
    sources_input: Float[Tensor, "s b 3 h w"]
    camera: Camera


def augment(raw: RawBatch, seed: int, *, enabled: bool = True) -> SnippetBatch:
    """Frames as floats, flipped and jittered with chances decided by ``seed``."""
    frames = raw.frames.float() / 255
    height, width = frames.shape[-2:]
    camera = Camera(raw.matrix, height, width)
    inputs = frames
    if enabled:
        generator = torch.Generator().manual_seed(seed)
        count = frames.shape[1]
        chances = torch.rand(2, count, generator=generator)
        flips = (chances[0] < FLIP_PROBABILITY).to(frames.device)
        frames, camera = flip_some(frames, camera, flips)
        matrices = random_colour_matrices(count, generator)
        keep = chances[1] >= JITTER_PROBABILITY
        matrices[keep] = torch.eye(3, 4)
        inputs = change_colours(frames, matrices.to(frames.device))
    return SnippetBatch(frames[0], frames[1:], inputs[0], inputs[1:], camera)


class SnippetStream(IterableDataset[RawBatch]):
    """Batches of all snippets of some sequences, in an order fixed by the seed and the step.

    Every epoch is a new permutation; its last batch holds what is left. Starting at a later step
    gives the same batches from there on, which is what resuming needs.

    Attributes:
        seconds: time spent on making batches (the training waits for it) so far.
        cache_seconds: time spent on decoding frames that were not cached yet.
    """

    def __init__(
        self,
        sequences: list[Sequence],
        *,
        height: int,
        width: int,
        offsets: tuple[int, ...],
        batch_size: int,
        seed: int,
        cache_folder: Path,
        on_frame: Callable[[], None] = lambda: None,
    ):
        """Cache the frames and list the snippets.

        Args:
            sequences: footage with cameras.
            height, width: size to train at.
            offsets: sources relative to the target, in frame numbers, for example (-1, 1).
            batch_size: snippets a step.
            seed: fixes the order.
            cache_folder, on_frame: see :func:`cached_frames`.

        Raises:
            EgodepthError: a sequence without a camera, or no snippet at all.
        """
        self.offsets, self.batch_size, self.seed = offsets, batch_size, seed
        self.first_step, self.steps = 0, 0
        started = time.perf_counter()
        self._frames: list[np.ndarray] = []
        self._matrices: list[Tensor] = []
        snippets: list[tuple[int, ...]] = []
        for index, sequence in enumerate(sequences):
            if sequence.camera is None:
                raise EgodepthError(
                    f"{sequence.name} has no camera: give --data.focal (pixels), --data.fov "
                    "(degrees, left to right edge) or --data.camera FILE"
                )
            camera = sequence.camera.resize(height, width)
            frames, numbers = cached_frames(sequence, height, width, cache_folder, on_frame)
            self._frames.append(frames)
            self._matrices.append(camera.matrix.float())
            position = {int(number): i for i, number in enumerate(numbers)}
            for number, i in position.items():
                sources = [position.get(number + offset) for offset in offsets]
                if all(source is not None for source in sources):
                    snippets.append((index, i, *(s for s in sources if s is not None)))
        self.cache_seconds = time.perf_counter() - started
        self.seconds = 0.0
        if not snippets:
            raise EgodepthError(
                f"no training snippets: no frame has neighbours at offsets {offsets}; "
                "the footage is too short or --data.stride too large"
            )
        self._snippets = np.array(snippets)

    @property
    def frame_count(self) -> int:
        """Cached frames of all sequences."""
        return sum(len(frames) for frames in self._frames)

    @property
    def snippet_count(self) -> int:
        """Snippets in an epoch."""
        return len(self._snippets)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the partial last one included."""
        return -(-len(self._snippets) // self.batch_size)

    def batch(self, step: int) -> RawBatch:
        """The batch of a training step, whatever came before."""
        started = time.perf_counter()
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self._snippets))
        chosen = self._snippets[order[position * self.batch_size :][: self.batch_size]]
        frames = [
            np.stack([self._frames[snippet[0]][snippet[column]] for snippet in chosen])
            for column in range(1, 2 + len(self.offsets))
        ]
        matrix = torch.stack([self._matrices[snippet[0]] for snippet in chosen])
        raw = RawBatch(torch.from_numpy(np.stack(frames)), matrix, step)
        self.seconds += time.perf_counter() - started
        return raw

    def __iter__(self) -> Iterator[RawBatch]:
        for step in range(self.first_step, self.steps):
            yield self.batch(step)
