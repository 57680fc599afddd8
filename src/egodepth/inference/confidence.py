"""Confidence of any run from any footage: how far its depth is off where many views agree on another."""

from collections.abc import Callable

import numpy as np

from egodepth.core.errors import EgodepthError, require
from egodepth.data.sequence import Sequence
from egodepth.inference.arguments import check_run, check_sequences
from egodepth.inference.multi_view import frame_depths
from egodepth.inference.odometry.track import track_sequence
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.confidence_fit import (
    MIN_KNOWN,
    STEPS,
    KnownFrame,
    learn_confidence,
    split_frames,
)
from egodepth.runs.run import Run

MAX_FRAMES = 60
"""Most frames of each sequence whose depth by many views is computed."""


def frames_by_views(run: Run, sequence: Sequence, trajectory: Trajectory) -> list[KnownFrame]:
    """Frames with their inverse depth by many views; 0 where these do not agree.

    Args:
        run: trained networks, which give the range of depth to search.
        sequence: footage.
        trajectory: of its frames.
    """
    every = max(1, -(-len(trajectory.poses) // MAX_FRAMES))
    known = []
    for found in frame_depths(run, sequence, trajectory, every, depth="views"):
        inverse = np.where(found.agreed, 1 / found.depth, 0).astype(np.float32)
        if found.agreed.sum() >= MIN_KNOWN:
            known.append(KnownFrame(found.image, inverse))
    return known


def add_confidence(
    run: Run,
    sequences: list[Sequence],
    steps: int = STEPS,
    *,
    track: Callable[[Run, Sequence], Trajectory] = track_sequence,
) -> None:
    """Learn the confidence of a run from footage, and write it into the run's folder.

    The camera is tracked, and the depth of frames is computed from many views; where these agree, they show how
    far the run's depth is off. A run that has confidence goes on from it. Load the run again to use it.

    Args:
        run: trained networks in a folder of their own.
        sequences: footage with a moving camera, best some that the run was not trained on.
        steps: steps of learning.
        track: how the camera is tracked.

    Raises:
        EgodepthError: ``builtin`` or a run on the hub, footage on which no views agree, or a file that can't be
            written.
    """
    check_run(run)
    check_sequences(sequences)
    require(steps, int, "steps", "a whole number")
    folder = run.folder
    if folder.is_builtin:
        raise EgodepthError(
            f"{folder.name} is not yours to change: name a folder for a copy with --out"
        )
    frames = [
        frame
        for sequence in sequences
        for frame in frames_by_views(run, sequence, track(run, sequence))
    ]
    if not frames:
        raise EgodepthError(
            f"no views of {sequences[0].name} agree on any depth, so that there is nothing to learn confidence "
            "from: give footage of a moving camera"
        )
    learned, held_out = split_frames(frames)
    learn_confidence(folder, run.depth_net, learned, held_out, steps, folder)
