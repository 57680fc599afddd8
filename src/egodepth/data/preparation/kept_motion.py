"""Poses and points that were found before a training, kept in the cache."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from egodepth.core.errors import EgodepthWarning
from egodepth.data.footage.cache import read_or_make
from egodepth.data.preparation.clips import Clip, KnownMotion, SparsePoints
from egodepth.geometry.camera import Camera


def kept_motion(clip: Clip, path: Path, find: Callable[[], dict[str, np.ndarray]]) -> Clip:
    """A copy of the clip with poses, sparse points and camera.

    Args:
        clip: the clip.
        path: of a file of the cache; made if it is not there.
        find: returns what to keep: ``world_from_camera`` (N, 4, 4), ``part`` (N,), ``point_frame`` (P,)
            ascending, ``pixels`` (P, 2) and ``inverse_depth`` (P,), ``matrix`` (3, 3), both at the size of the
            footage, and ``notes``, which are warned of.
    """

    def make(partial: Path) -> None:
        # By its name, NumPy would add .npz where a link leads elsewhere.
        with partial.open("wb") as file:
            np.savez(file, **find())  # type: ignore[arg-type]

    def read() -> dict[str, np.ndarray]:
        with np.load(path) as stored:
            return dict(stored)

    found = read_or_make(path, make, read)
    for note in found["notes"]:
        warnings.warn(f"{clip.sequence.name}: {note}", EgodepthWarning, stacklevel=3)
    height, width = clip.frames.shape[-2:]
    size = (clip.sequence.frames.height, clip.sequence.frames.width)
    full = Camera(torch.from_numpy(found["matrix"]).float(), *size)
    scale = np.array([width / size[1], height / size[0]])
    frames, starts = np.unique(found["point_frame"], return_index=True)
    ends = [*starts[1:], len(found["point_frame"])]
    points = {
        int(frame): SparsePoints(
            (found["pixels"][start:end] + 0.5) * scale - 0.5, found["inverse_depth"][start:end]
        )
        for frame, start, end in zip(frames, starts, ends, strict=True)
    }
    motion = KnownMotion(found["world_from_camera"], found["part"], points)
    return replace(clip, camera=full.resize(height, width), motion=motion)
