"""Depth of footage, frame by frame in batches, as single images or steady."""

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from egodepth.core import progress
from egodepth.core.prefetch import prefetch
from egodepth.data.sequence import Frame, Sequence
from egodepth.inference.odometry.motion_chain import Prepared
from egodepth.inference.steady import SteadySettings
from egodepth.inference.steady_run import SteadyRun
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run
from egodepth.runs.unit import Unit

BATCH = 4


class Maps(NamedTuple):
    """Depth (H, W), and the deviation of its log if the run has confidence."""

    depth: np.ndarray
    deviation: np.ndarray | None


def depth_stream(
    run: Run, sequence: Sequence, unit: Unit, steady: SteadySettings | bool
) -> Iterator[Prepared[Maps]]:
    """Yield frames prepared for the networks, with what is predicted of them; arguments as of
    :func:`egodepth.inference.predict.predict_sequence`."""
    filtered = None
    if steady:
        settings = None if steady is True else steady
        filtered = SteadyRun.of_sequence(run, sequence, settings)
    batches = prefetch(_batches(sequence.frames.at()))
    with progress.phase(f"predicting {sequence.name}", len(sequence.frames)) as phase:
        for frames in batches:
            prepared = torch.stack([run.prepare(frame.image) for frame in frames])
            size = frames[0].image.shape[:2]
            if filtered is None:
                found = _maps(run, frames, prepared, size)
            else:
                pairs = zip(frames, prepared, strict=True)
                found = [Maps(*filtered.maps(*pair, size)) for pair in pairs]
            for maps in found:
                maps.depth[:] *= np.float32(unit.factor)
            yield from map(Prepared, frames, prepared, found)
            phase.advance(len(frames))


def _maps(run: Run, frames: list[Frame], prepared: Tensor, size: tuple[int, int]) -> list[Maps]:
    with naming(*frames):
        depth, deviation = run.maps_of_frames(prepared, *size)
    return list(map(Maps, depth, repeat(None) if deviation is None else deviation))


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
