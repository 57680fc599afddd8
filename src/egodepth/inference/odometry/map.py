"""The map: what is kept of all key frames of a video, and the loops between them."""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from egodepth.geometry import se3, sim3
from egodepth.geometry.camera import Camera
from egodepth.geometry.pose_graph import Edges, join_segments, optimize, select_loops
from egodepth.inference.odometry.place_store import MAX_BYTES, PlaceStore
from egodepth.inference.odometry.places import Place, Recognition, recognize

MAX_PENDING = 8
"""Key frames that wait for the second thread, beyond which tracking waits for it."""
MAX_LOOPS = 1000
"""Loops that are compared with each other, each with each; of more, evenly spaced ones are taken."""
MIN_APART = 10
"""Key frames between two of a loop; nearer ones share the window."""
CANDIDATES = 3
"""Key frames with the most similar summaries that are compared with a new one."""
STEP_DEVIATION, STEP_FLOOR = (0.002, 0.02, 0.003), 0.0015
"""Standard deviations of the motion between consecutive key frames: radians, share of the motion, log scale; of
the translation, this share of the median depth is added. The scale is DepthNet's, which varies from place to
place but does not drift: at 0.03 a town with 200 right loops had twice the error of one with 8."""
LOOP_DEVIATION, LOOP_GROWTH = (0.01, 0.02, 0.1), 0.1
"""Standard deviations of a loop: radians, share of the median depth, log scale; of the translation, this share
is added, since wide baselines feel the errors of depth."""


@dataclass(frozen=True)
class Loop:
    """Two key frames of the same place.

    Attributes:
        first, second: numbers of the key frames.
        found: how the place was recognised.
    """

    first: int
    second: int
    found: Recognition


@dataclass(frozen=True)
class ClosedLoop:
    """A loop as users see it.

    Attributes:
        frames: numbers of its two frames.
        inliers: matches of local features that agree with it.
        agreement: correlation of the two images.
        drift_degrees, drift, drift_scale: by how much the live trajectory was off: rotation, translation in the
            run's unit, and factor of the scale.
        error_degrees, error, error_scale: what is left of it.
    """

    frames: tuple[int, int]
    inliers: int
    agreement: float
    drift_degrees: float
    drift: float
    drift_scale: float
    error_degrees: float
    error: float
    error_scale: float


@dataclass(frozen=True)
class Correction:
    """The map after its loops are closed.

    Attributes:
        world_from_key: (K, 4, 4) float64 similarities; their scale is what a key frame's unit has become.
        part: (K,) which of the paths each belongs to that no loop joins; each has a world of its own.
        loops: the loops that were closed.
        drift, error: (L, 7) of each loop before and after: axis-angle, translation, log scale.
        rejected: number of recognised places that others contradict or none supports.
    """

    world_from_key: Tensor
    part: Tensor
    loops: list[Loop] = field(default_factory=list)
    drift: Tensor = field(default_factory=lambda: torch.zeros(0, 7))
    error: Tensor = field(default_factory=lambda: torch.zeros(0, 7))
    rejected: int = 0


class KeyFrameMap:
    """All key frames of a video, in about 100 KB each. Places are looked for in a second thread, so that
    tracking goes on meanwhile; what is found does not depend on when."""

    def __init__(self, camera: Camera, max_bytes: int = MAX_BYTES):
        """Start an empty map.

        Args:
            camera: of all key frames, at the size of the networks' input.
            max_bytes: memory of the key frames, beyond which they are on disk.
        """
        self.camera = camera
        self.places = PlaceStore(max_bytes)
        self.loops: list[Loop] = []
        self._summaries = np.zeros((0, 0), np.float16)
        self._segments: list[int] = []
        self._depths: list[float] = []
        self._worker = ThreadPoolExecutor(1, "egodepth-map")
        self._pending: deque[Future[list[Loop]]] = deque()

    def __len__(self) -> int:
        self.wait()
        return len(self.places)

    def submit(self, make: Callable[[], Place], segment: int = 0) -> None:
        """Add a key frame of a segment in the second thread, in the order of the calls.

        Args:
            make: returns the key frame, with its depth settled.
            segment: that it belongs to.
        """
        while self._pending and (self._pending[0].done() or len(self._pending) >= MAX_PENDING):
            self._pending.popleft().result()
        self._pending.append(self._worker.submit(self._make, make, segment))

    def wait(self) -> None:
        """Wait until all submitted key frames are in the map; raise what went wrong there."""
        while self._pending:
            self._pending.popleft().result()

    @torch.inference_mode()
    def _make(self, make: Callable[[], Place], segment: int) -> list[Loop]:
        return self.add(make(), segment)

    def add(self, place: Place, segment: int = 0) -> list[Loop]:
        """Add a key frame of a segment, whose depth is settled; return the loops that it closes."""
        count = len(self.places)
        if count == len(self._summaries):
            larger = np.zeros((2 * count + 64, len(place.summary)), np.float16)
            larger[:count] = self._summaries[:count] if count else 0
            self._summaries = larger
        self._summaries[count] = place.summary
        self.places.append(place)
        self._segments.append(segment)
        self._depths.append(place.median_depth)
        found = [
            Loop(number, count, recognition)
            for number in self._similar(count)
            if (recognition := recognize(self.places[number], place, self.camera)) is not None
        ]
        self.loops += found
        return found

    def _similar(self, number: int) -> list[int]:
        """Key frames of other segments, or well before this one, with the most similar summaries."""
        segments = np.array(self._segments[:number])
        other = segments != self._segments[number]
        allowed = np.flatnonzero(other | (np.arange(number) < number - MIN_APART))
        if not len(allowed):
            return []
        known = self._summaries[: number + 1].astype(np.float32)
        known -= known.mean(0)
        known /= np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-12)
        order = np.argsort(-known[allowed] @ known[-1])[:CANDIDATES]
        return allowed[order].tolist()

    def correct(self, camera_from_world: Tensor, segments: Tensor) -> Correction:
        """Close the loops.

        Args:
            camera_from_world: (K, 4, 4) of all key frames, as tracked.
            segments: (K,) of each; segments have worlds of their own until a loop joins them.
        """
        self.wait()
        start = se3.inverse(camera_from_world.double())
        found = self.loops[:: -(-len(self.loops) // MAX_LOOPS) or 1]
        if not found:
            return Correction(start, segments)
        loops = _loop_edges(found)
        deviation = self._step_deviation(start)
        kept = select_loops(loops, start, deviation, segments)
        if not kept.any():
            return Correction(start, segments, rejected=len(found))
        closed = Edges(*(vars(loops)[name][kept] for name in vars(loops)))
        placed, part = join_segments(closed, start, segments)
        index = torch.arange(len(start))
        same = segments[1:] == segments[:-1]
        edges = Edges(
            torch.cat([index[:-1][same], closed.first]),
            torch.cat([index[1:][same], closed.second]),
            torch.cat([(se3.inverse(start[:-1]) @ start[1:])[same], closed.first_from_second]),
            torch.cat([deviation[same], closed.deviation]),
        )
        fixed = torch.stack([index == (part == number).int().argmax() for number in part.unique()])
        poses = optimize(edges, placed, fixed.any(0))
        for number in part.unique():
            # A unit in the middle of those of its key frames, as a network's depth has it.
            own = part == number
            middle = sim3.scale_of(poses[own]).median()
            poses[own] = sim3.scaled(torch.eye(4).double(), 1 / middle) @ poses[own]
        drift, error = (closed.errors(world) * closed.deviation for world in (placed, poses))
        chosen = [loop for loop, ok in zip(found, kept.tolist(), strict=True) if ok]
        return Correction(poses, part, chosen, drift, error, int((~kept).sum()))

    @staticmethod
    def describe(correction: Correction, frames: list[int]) -> list[ClosedLoop]:
        """The closed loops.

        Args:
            correction: of this map.
            frames: frame number of each key frame.
        """
        described = []
        for loop, *steps in zip(correction.loops, correction.drift, correction.error, strict=True):
            values = [
                value
                for step in steps
                for value in (
                    math.degrees(float(step[:3].norm())), float(step[3:6].norm()), math.exp(float(step[6])),
                )
            ]  # fmt: skip
            ends = frames[loop.first], frames[loop.second]
            described.append(ClosedLoop(ends, loop.found.inliers, loop.found.agreement, *values))
        return described

    def _step_deviation(self, start: Tensor) -> Tensor:
        """Standard deviations (K - 1, 7) of the motions between consecutive key frames."""
        depth = float(np.median(self._depths))
        length = (start[1:, :3, 3] - start[:-1, :3, 3]).norm(dim=1)
        return _deviation(STEP_DEVIATION, length + STEP_FLOOR / STEP_DEVIATION[1] * depth)


def _loop_edges(loops: list[Loop]) -> Edges:
    motions = torch.stack([loop.found.first_from_second for loop in loops])
    depth = torch.tensor([loop.found.depth for loop in loops], dtype=torch.float64)
    length = depth + LOOP_GROWTH / LOOP_DEVIATION[1] * motions[:, :3, 3].norm(dim=1)
    return Edges(
        torch.tensor([loop.first for loop in loops]),
        torch.tensor([loop.second for loop in loops]),
        motions, _deviation(LOOP_DEVIATION, length / sim3.scale_of(motions)),
    )  # fmt: skip


def _deviation(parts: tuple[float, float, float], length: Tensor) -> Tensor:
    """(E, 7): radians, share of a length (E,), log scale."""
    turn, shift, scale = parts
    one = torch.ones_like(length)
    return torch.stack([*[turn * one] * 3, *[shift * length] * 3, scale * one], 1)
