"""Training snippets: a target frame, its neighbours in time, and the camera."""

import time
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from egodepth.core.errors import EgodepthError
from egodepth.core.prefetch import prefetch
from egodepth.core.schedule import Schedule
from egodepth.data.preparation.clips import NO_PART, Clip, SparsePoints
from egodepth.data.sequence import Sequence
from egodepth.data.shards.chunks import Chunks
from egodepth.training.batch import RawBatch
from egodepth.training.order import SampleOrder, lanes_for
from egodepth.training.snippet_parts import LabelRound, has_label, number_parts, usable

BATCHES_AHEAD = 4
"""Maximum number of batches beyond the current one that trainer and prefetching may have requested already."""
POINTS = 128
"""Number of known points that a step samples from each target."""


def find_partner(sequences: list[Sequence], index: int) -> int:
    """Return the index of the sequence taken by the other camera of a sequence's rig.

    Raises:
        EgodepthError: there is none.
    """
    sequence = sequences[index]
    for other, candidate in enumerate(sequences):
        same_rig = sequence.rig and candidate.rig == sequence.rig
        if same_rig and candidate.camera_name != sequence.camera_name:
            return other
    raise EgodepthError(
        f"{sequence.name} has no second camera; stereo training needs both in the sources"
    )


class SnippetStream(IterableDataset[RawBatch]):
    """Batches of all snippets of some clips, in an order determined by seed and step.

    Every epoch is a new permutation, whose last batch may be smaller. Starting at a later step gives the
    same batches from there on, as needed for resuming.

    Attributes:
        clips: clips from which snippets are taken.
        seconds: total time spent waiting for batches.
        schedule: schedule of the training; iteration ends at its last step.
        first_step: step at which iteration starts.
        labels_first: share of training that uses only snippets whose target has labels.
        label_rounds: labels made during training; the latest active round replaces the clips' own labels.
        chunks: chunks of the shards that the clips are read from; None for footage.
        prefetch: prepare batches in a background thread, in pinned memory for a GPU. On the CPU, this would
            only compete with the training step for cores.
    """

    def __init__(
        self,
        clips: list[Clip],
        *,
        directions: tuple[int, ...],
        batch_size: int,
        seed: int,
        partner: bool = False,
        rank: int = 0,
        ranks: int = 1,
        chunks: Chunks | None = None,
    ):
        """List the snippets.

        Args:
            clips: footage. If a clip's motion is known, snippets do not cross parts.
            directions: offsets of the sources from the target, in strides of the clip, for example (-1, 1).
            batch_size: snippets per step and process.
            seed: random seed of the order.
            partner: also use the other camera of the stereo rig, as the last source.
            rank, ranks: rank of this process, and world size. All ranks together see the batch that a
                single process with ``ranks`` times the batch size would.
            chunks: chunks of the shards that the clips are read from, if they are.

        Raises:
            EgodepthError: no snippets, fewer snippets than processes, or no second camera.
        """
        self.clips, self.directions = clips, directions
        self.batch_size, self.seed = batch_size, seed
        self.schedule, self.first_step, self.labels_first = Schedule(0), 0, 0.0
        self.seconds = 0.0
        self.label_rounds: list[LabelRound] = []
        self.prefetch = False
        self._partner, self._rank, self._ranks = partner, rank, ranks
        self._partners = [self._find_partner(i) if partner else i for i in range(len(clips))]
        self._first_frame = np.cumsum([0, *(len(clip.frames) for clip in clips)])
        self._first_part = number_parts(clips)
        snippets = [s for index in range(len(clips)) for s in self._snippets_of(index)]
        if not snippets:
            raise EgodepthError(
                f"no training snippets: no frame has neighbours at strides {directions} of "
                f"{', '.join(sorted({str(clip.stride) for clip in clips}))} frames"
                + (" and its other camera's frame" if partner else "")
                + "; the footage is too short, still, without poses where they must be known, outside of "
                "--data.split, or --data.stride too large"
            )
        if len(snippets) < ranks:
            raise EgodepthError(f"{len(snippets)} snippets are too few for {ranks} processes")
        self._snippets = np.array(snippets)
        self.chunks = chunks
        self.set_order(((0, ranks),))

    def set_order(self, history: tuple[tuple[int, int], ...]) -> None:
        """Set the numbers of processes of this training so far, see :class:`SampleOrder`."""
        lanes = None if self.chunks is None else lanes_for(self.chunks, self._homes())
        self._order = SampleOrder(
            np.arange(len(self._snippets)), self.seed, self.batch_size, self._rank, self._ranks, lanes, history
        )  # fmt: skip
        self.__dict__.pop("_labelled", None)

    @property
    def history(self) -> tuple[tuple[int, int], ...]:
        """Numbers of processes of this training, see :class:`SampleOrder`."""
        return self._order.history

    def resume(self, history: list[tuple[int, int]] | None) -> None:
        """Go on at ``first_step``, from a checkpoint with this history, see :class:`SampleOrder`; None for a
        checkpoint of an earlier version."""
        past = tuple((int(first), int(ranks)) for first, ranks in history or [(0, self._ranks)])
        if past[-1][1] != self._ranks:
            kept = tuple(each for each in past if each[0] < self.first_step)
            past = (*kept, (self.first_step, self._ranks))
        self.set_order(past)

    def _homes(self) -> np.ndarray:
        """Chunk of each snippet, which has all of its frames."""
        homes = np.concatenate([clip.frames.homes for clip in self.clips])  # type: ignore[attr-defined]
        clip, target = self._snippets[:, :2].T
        return homes[self._first_frame[clip] + target]

    def _snippets_of(self, index: int) -> Iterator[tuple[int, ...]]:
        """Yield the snippets of a clip: clip index, position of the target, positions of its sources."""
        clip = self.clips[index]
        positions = clip.positions
        others = self.clips[self._partners[index]].positions
        for number, target in positions.items():
            if clip.targets is not None and number not in clip.targets:
                continue
            sources = [positions.get(number + d * clip.stride) for d in self.directions]
            if any(s is None or not usable(clip, target, s) for s in sources):
                continue
            if self._partner:
                sources.append(others.get(number))
            if all(source is not None for source in sources):
                yield (index, target, *(s for s in sources if s is not None))

    def _find_partner(self, index: int) -> int:
        other = find_partner([clip.sequence for clip in self.clips], index)
        one, two = self.clips[index], self.clips[other]
        if not torch.allclose(one.camera.matrix, two.camera.matrix, atol=0.5):
            raise EgodepthError(
                f"{one.sequence.name} and {two.sequence.name} have different intrinsics: rectify them"
            )
        return other

    @property
    def frames_per_snippet(self) -> int:
        """Number of frames per snippet: target and sources."""
        return 1 + len(self.directions) + self._partner

    @property
    def frame_count(self) -> int:
        """Number of frames of all clips."""
        return int(self._first_frame[-1])

    def points_of_parts(self) -> list[list[tuple[Clip, int, SparsePoints]]]:
        """For each part, list clips and positions of the frames with known points, together with these points,
        in the unit of the part."""
        known: dict[int, list[tuple[Clip, int, SparsePoints]]] = {}
        for first, clip in zip(self._first_part, self.clips, strict=True):
            if clip.motion is None:
                continue
            for part in clip.motion.part[clip.motion.part != NO_PART]:
                known.setdefault(first + int(part), [])
            for position, points in clip.motion.points.items():
                part = first + int(clip.motion.part[position])
                known[part].append((clip, position, points))
        return [known.get(part, []) for part in range(max(known, default=-1) + 1)]

    @property
    def has_labels(self) -> bool:
        """Whether any clip has dense labels."""
        return any(clip.dense is not None for clip in self.clips)

    @property
    def snippet_count(self) -> int:
        """Number of snippets per epoch."""
        return len(self._snippets)

    @property
    def targets(self) -> np.ndarray:
        """Clip and position of each snippet's target (N, 2)."""
        return self._snippets[:, :2]

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch, see :class:`SampleOrder`."""
        return self._order.steps_per_epoch

    @cached_property
    def _labelled(self) -> SampleOrder | None:
        """Order of the snippets whose target has labels; None if these are too few."""
        dense = [clip.dense for clip in self.clips]
        known = [
            (labels := dense[clip]) is not None and has_label(labels, target)
            for clip, target in self._snippets[:, :2]
        ]
        rows = np.flatnonzero(known)
        return self._order.of(rows) if len(rows) >= self._ranks else None

    def _rows(self, step: int) -> tuple[np.ndarray, float]:
        """Snippets of this process in a step, and their weight."""
        on_labels = self.schedule.progress(step) < self.labels_first
        return ((self._labelled if on_labels else None) or self._order).mine(step)

    def batch(self, step: int) -> RawBatch:
        """Return the batch of a training step, independently of previous calls."""
        rows, weight = self._rows(step)
        return replace(self._gather(rows, step), weight=weight)

    def split(self, held: np.ndarray) -> "tuple[SnippetStream, SnippetStream]":
        """Split into two streams: without the snippets that are ``held`` (N,), and of these."""
        parts = copy(self), copy(self)
        for part, rows in zip(parts, (~held, held), strict=True):
            part._snippets = self._snippets[rows]
            part.set_order(self.history)
        return parts

    def in_order(self, size: int) -> Iterator[RawBatch]:
        """Yield all snippets once, in order, in batches of at most ``size``."""
        for first in range(0, len(self._snippets), size):
            rows = np.arange(first, min(first + size, len(self._snippets)))
            yield self._gather(rows, 0)

    def snippet_near(self, sequence: int, frame: int) -> RawBatch:
        """Return the snippet whose target is nearest to a frame of a sequence, as a batch of one.

        Args:
            sequence: index of the sequence.
            frame: position of the frame in its sequence; not every frame is a target, for example not the
                first and last.

        Raises:
            EgodepthError: the sequence has no snippets.
        """
        own = np.flatnonzero(self._snippets[:, 0] == sequence)
        if len(own) == 0:
            raise EgodepthError(f"{self.clips[sequence].sequence.name} is too short for a snippet")
        nearest = np.argmin(np.abs(self._snippets[own, 1] - frame))
        return self._gather(own[nearest : nearest + 1], 0)

    def _gather(self, rows: np.ndarray, step: int) -> RawBatch:
        chosen = self._snippets[rows]
        own = 2 + len(self.directions)
        frames = [
            np.stack([self.clips[snippet[0]].frames[snippet[column]] for snippet in chosen])
            for column in range(1, own)
        ]
        if self._partner:
            others = [self.clips[self._partners[s[0]]].frames[s[own]] for s in chosen]
            frames.append(np.stack(others))
        matrix = torch.stack([self.clips[s[0]].camera.matrix.float() for s in chosen])
        return RawBatch(
            frames=torch.from_numpy(np.stack(frames)),
            matrix=matrix,
            step=step,
            frame_ids=torch.from_numpy(chosen[:, 1:own].T + self._first_frame[chosen[:, 0]]),
            clips=torch.from_numpy(chosen[:, 0].copy()),
            parts=torch.tensor([self._part(snippet) for snippet in chosen]),
            motions=self._motions(chosen),
            partner_motion=self._partner_motion(chosen),
            points=self._points(chosen, step),
            static=self._static(chosen),
            dense=self._dense(chosen, step),
        )

    def _part(self, snippet: np.ndarray) -> int:
        motion = self.clips[snippet[0]].motion
        return 0 if motion is None else int(self._first_part[snippet[0]] + motion.part[snippet[1]])

    def _points(self, chosen: np.ndarray, step: int) -> Tensor | None:
        """Sample points (B, P, 3) of each target: x, y and inverse depth; zeros where a target has none, None
        if no clip has any."""
        if not any(clip.motion and clip.motion.points for clip in self.clips):
            return None
        rng = np.random.default_rng([self.seed, step])
        points = np.zeros((len(chosen), POINTS, 3), np.float32)
        for row, (clip, target) in enumerate(chosen[:, :2]):
            motion = self.clips[clip].motion
            found = motion.points.get(int(target)) if motion else None
            if found is not None:
                place = rng.integers(len(found.inverse_depth), size=POINTS)
                points[row] = np.column_stack([found.pixels[place], found.inverse_depth[place]])
        return torch.from_numpy(points)

    def _static(self, chosen: np.ndarray) -> Tensor | None:
        """Static masks (B, 1, H, W); None if no clip has one."""
        if all(clip.static is None for clip in self.clips):
            return None
        none = np.zeros(self.clips[0].frames.shape[2:], bool)
        masks = [self.clips[snippet[0]].static for snippet in chosen]
        return torch.from_numpy(
            np.stack([none if mask is None else mask for mask in masks])[:, None]
        )

    def _dense(self, chosen: np.ndarray, step: int) -> Tensor | None:
        """Dense labels (B, 2, H, W); None if no clip has any."""
        dense, factors = [clip.dense for clip in self.clips], [1.0] * len(self.clips)
        for made in self.label_rounds:
            if made.first_step <= step:
                dense, factors = made.dense, made.factors
        if all(labels is None for labels in dense):
            return None
        found = np.zeros((len(chosen), 2, *self.clips[0].frames.shape[2:]), np.float16)
        for row, (clip, target) in enumerate(chosen[:, :2]):
            labels = dense[clip]
            if labels is not None:
                found[row] = labels[target]
                found[row, 0] *= factors[clip]
        return torch.from_numpy(found)

    def _motions(self, chosen: np.ndarray) -> Tensor | None:
        """Motions (T, B, 4, 4) ``source_from_target`` of the temporal sources; None if unknown."""
        known = [self.clips[clip].motion for clip in chosen[:, 0]]
        if not self.directions or any(motion is None for motion in known):
            return None
        poses = [motion.world_from_camera for motion in known if motion is not None]
        motions = [
            [np.linalg.inv(world[snippet[2 + row]]) @ world[snippet[1]]
             for world, snippet in zip(poses, chosen, strict=True)]
            for row in range(len(self.directions))
        ]  # fmt: skip
        return torch.from_numpy(np.array(motions)).float()

    def _partner_motion(self, chosen: np.ndarray) -> Tensor | None:
        """Motions (1, B, 4, 4) ``partner_from_target``; None without a second camera."""
        if not self._partner:
            return None
        pairs = [(self.clips[self._partners[i]], self.clips[i]) for i in chosen[:, 0]]
        motions = [
            np.linalg.inv(partner.sequence.rig_from_camera) @ clip.sequence.rig_from_camera
            for partner, clip in pairs
        ]
        return torch.from_numpy(np.array([motions])).float()

    def _batches(self) -> Iterator[RawBatch]:
        step, chunks = self.first_step, self.chunks
        if chunks is not None:
            chunks.follow(self._needed(step))
        while step < self.schedule.total:  # the total may change meanwhile
            if chunks is not None:
                chunks.reach(step)
            yield self.batch(step)
            step += 1
        if chunks is not None:
            chunks.stop()

    def _needed(self, first: int) -> Iterator[tuple[int, list[int]]]:
        """Yield the steps from ``first`` on, with the chunks that each reads."""
        homes = self._homes()
        for step in count(first):
            if step >= self.schedule.total:
                return
            yield step, np.unique(homes[self._rows(step)[0]]).tolist()

    def __iter__(self) -> Iterator[RawBatch]:
        batches = self._batches()
        if self.prefetch:
            batches = prefetch((raw.pin_memory() for raw in batches), 2)
        while True:
            started = time.perf_counter()
            raw = next(batches, None)
            self.seconds += time.perf_counter() - started
            if raw is None:
                return
            yield raw
