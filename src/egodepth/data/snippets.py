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
from egodepth.data.augment import (
    change_colours,
    flip_motions,
    flip_some,
    random_colour_matrices,
)
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
        motions: (S, B, 4, 4) ``source_from_target`` in metres; NaN where PoseNet has to find it.
        step: index of the training step, from which the augmentation is seeded.
    """

    frames: UInt8[Tensor, "n b 3 h w"]
    matrix: Float[Tensor, "b 3 3"]
    motions: Float[Tensor, "s b 4 4"]
    step: int

    def to(self, device: torch.device) -> "RawBatch":
        """Move to a device, without waiting for it."""
        frames, matrix, motions = (
            tensor.to(device, non_blocking=True)
            for tensor in (self.frames, self.matrix, self.motions)
        )
        return RawBatch(frames, matrix, motions, self.step)


@dataclass(frozen=True)
class SnippetBatch:
    """B snippets of one target and S sources.

    Attributes:
        target: (B, 3, H, W) in [0, 1], what the losses see.
        sources: (S, B, 3, H, W).
        target_input, sources_input: the same frames with jittered colours, what DepthNet and
            PoseNet see.
        camera: of all frames, batch size B.
        motions: (S, B, 4, 4) ``source_from_target`` in metres; NaN where PoseNet has to find it.
    """

    target: Float[Tensor, "b 3 h w"]
    sources: Float[Tensor, "s b 3 h w"]
    target_input: Float[Tensor, "b 3 h w"]
    sources_input: Float[Tensor, "s b 3 h w"]
    camera: Camera
    motions: Float[Tensor, "s b 4 4"]


def augment(raw: RawBatch, seed: int, *, enabled: bool = True) -> SnippetBatch:
    """Frames as floats, flipped and jittered with chances decided by ``seed``."""
    frames = raw.frames.float() / 255
    height, width = frames.shape[-2:]
    camera = Camera(raw.matrix, height, width)
    inputs, motions = frames, raw.motions
    if enabled:
        generator = torch.Generator().manual_seed(seed)
        count = frames.shape[1]
        chances = torch.rand(2, count, generator=generator)
        flips = (chances[0] < FLIP_PROBABILITY).to(frames.device)
        frames, camera = flip_some(frames, camera, flips)
        motions = flip_motions(motions, flips)
        matrices = random_colour_matrices(count, generator)
        keep = chances[1] >= JITTER_PROBABILITY
        matrices[keep] = torch.eye(3, 4)
        inputs = change_colours(frames, matrices.to(frames.device))
    return SnippetBatch(frames[0], frames[1:], inputs[0], inputs[1:], camera, motions)


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
        partner: bool = False,
        known_poses: bool = False,
        on_frame: Callable[[], None] = lambda: None,
    ):
        """Cache the frames and list the snippets.

        Args:
            sequences: footage with cameras.
            height, width: size to train at.
            offsets: sources relative to the target, in frame numbers, for example (-1, 1).
            batch_size: snippets a step.
            seed: fixes the order.
            partner: the other camera of a stereo rig is a source too, the last one.
            known_poses: give the motions between frames from the sequences' poses.
            cache_folder, on_frame: see :func:`cached_frames`.

        Raises:
            EgodepthError: a sequence without a camera, or no snippet at all.
        """
        self.offsets, self.batch_size, self.seed = offsets, batch_size, seed
        self.first_step, self.steps = 0, 0
        started = time.perf_counter()
        self._sequences, self._partner = sequences, partner
        self._frames: list[np.ndarray] = []
        self._matrices: list[Tensor] = []
        positions: list[dict[int, int]] = []
        for sequence in sequences:
            if sequence.camera is None:
                raise EgodepthError(
                    f"{sequence.name} has no camera: give --data.focal (pixels), --data.fov "
                    "(degrees, left to right edge) or --data.camera FILE"
                )
            camera = sequence.camera.resize(height, width)
            frames, numbers = cached_frames(sequence, height, width, cache_folder, on_frame)
            self._frames.append(frames)
            self._matrices.append(camera.matrix.float())
            positions.append({int(number): i for i, number in enumerate(numbers)})
        self._poses = [_poses(s) if known_poses else None for s in sequences]
        self._partners = [self._find_partner(i) if partner else i for i in range(len(sequences))]
        snippets: list[tuple[int, ...]] = []
        for index, position in enumerate(positions):
            for number, i in position.items():
                sources = [position.get(number + offset) for offset in offsets]
                if partner:
                    sources.append(positions[self._partners[index]].get(number))
                if all(source is not None for source in sources):
                    snippets.append((index, i, *(s for s in sources if s is not None)))
        self.cache_seconds = time.perf_counter() - started
        self.seconds = 0.0
        if not snippets:
            raise EgodepthError(
                f"no training snippets: no frame has neighbours at offsets {offsets}"
                + (" and its other camera's frame" if partner else "")
                + "; the footage is too short or --data.stride too large"
            )
        self._snippets = np.array(snippets)

    def _find_partner(self, index: int) -> int:
        sequence = self._sequences[index]
        for other, candidate in enumerate(self._sequences):
            same_rig = sequence.rig and candidate.rig == sequence.rig
            if same_rig and candidate.camera_name != sequence.camera_name:
                if not torch.allclose(self._matrices[index], self._matrices[other], atol=0.5):
                    raise EgodepthError(
                        f"{sequence.name} and {candidate.name} have different intrinsics; stereo "
                        "training needs a rectified pair"
                    )
                return other
        raise EgodepthError(
            f"{sequence.name} has no second camera; stereo training needs both in the sources"
        )

    @property
    def frames_a_snippet(self) -> int:
        """Target and sources."""
        return 1 + len(self.offsets) + self._partner

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
        raw = self._gather(order[position * self.batch_size :][: self.batch_size], step)
        self.seconds += time.perf_counter() - started
        return raw

    def snippet_near(self, sequence: int, frame: int) -> RawBatch:
        """The snippet, as a batch of one, whose target is nearest to a frame of a sequence.

        Args:
            sequence: its position among the sequences.
            frame: the frame's position in its sequence; the first and last have no snippet of
                their own.
        """
        own = np.flatnonzero(self._snippets[:, 0] == sequence)
        if len(own) == 0:
            raise EgodepthError(f"{self._sequences[sequence].name} is too short for a snippet")
        nearest = np.argmin(np.abs(self._snippets[own, 1] - frame))
        return self._gather(own[nearest : nearest + 1], 0)

    def _gather(self, rows: np.ndarray, step: int) -> RawBatch:
        chosen = self._snippets[rows]
        own = 2 + len(self.offsets)
        frames = [
            np.stack([self._frames[snippet[0]][snippet[column]] for snippet in chosen])
            for column in range(1, own)
        ]
        if self._partner:
            frames.append(np.stack([self._frames[self._partners[s[0]]][s[own]] for s in chosen]))
        matrix = torch.stack([self._matrices[snippet[0]] for snippet in chosen])
        motions = np.stack([self._motions(snippet) for snippet in chosen], axis=1)
        return RawBatch(
            torch.from_numpy(np.stack(frames)), matrix, torch.from_numpy(motions).float(), step
        )

    def _motions(self, snippet: np.ndarray) -> np.ndarray:
        """(S, 4, 4) ``source_from_target``, NaN where unknown."""
        index, target = int(snippet[0]), int(snippet[1])
        motions = np.full((len(self.offsets) + self._partner, 4, 4), np.nan)
        poses = self._poses[index]
        if poses is not None:
            for row in range(len(self.offsets)):
                motions[row] = np.linalg.inv(poses[snippet[2 + row]]) @ poses[target]
        if self._partner:
            partner = self._sequences[self._partners[index]]
            motions[-1] = (
                np.linalg.inv(partner.rig_from_camera) @ self._sequences[index].rig_from_camera
            )
        return motions

    def __iter__(self) -> Iterator[RawBatch]:
        for step in range(self.first_step, self.steps):
            yield self.batch(step)


def _poses(sequence: Sequence) -> np.ndarray:
    if sequence.world_from_camera is None:
        raise EgodepthError(f"{sequence.name} has no poses; use --data.poses network")
    return sequence.world_from_camera
