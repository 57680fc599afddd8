"""Poses of a clip from egodepth's own odometry, with its loops closed."""

import hashlib
from pathlib import Path

import numpy as np

from egodepth.core import progress
from egodepth.core.prefetch import prefetch
from egodepth.data.footage.cache import cache_file
from egodepth.data.preparation.clips import Clip, KnownMotion
from egodepth.data.preparation.kept_motion import kept_motion
from egodepth.data.preparation.structure_from_motion import NothingReconstructedError
from egodepth.data.sequence import time_per_frame
from egodepth.inference.odometry.tracker import Odometry
from egodepth.runs.run import Run

MIN_FRAMES = 8
"""Smallest number of frames of a path that is used."""
METHOD = 2
"""Version of the method, part of the cache key: raise it when results change."""


def track(run: Run, clip: Clip, folder: Path) -> Clip:
    """A copy of the clip with poses of all frames, and points of the key frames.

    Frames share a part if they were tracked without a break, or if a place that was recognised joins them. The
    unit of each part is about that of the run's depth. The result is cached in ``folder``.

    Args:
        run: whose depth odometry uses.
        clip: the clip.
        folder: cache folder.

    Raises:
        EgodepthError: broken frames.
        NothingReconstructedError: the camera is lost everywhere.
    """
    sequence = clip.sequence
    assert sequence.camera is not None
    run.fit_size(sequence.frames.height, sequence.frames.width)
    size = run.settings.height, run.settings.width
    key = (
        f"{sequence.frames.fingerprint} {sequence.camera.matrix.tolist()} {size} {_digest(run)} "
        f"{METHOD}{clip.static_digest}"
    )
    return kept_motion(clip, cache_file(folder, key, "-slam.npz"), lambda: _track(run, clip))


def _digest(run: Run) -> str:
    weights = hashlib.sha256()
    for value in run.depth_net.state_dict().values():
        weights.update(value.float().cpu().numpy().tobytes())
    return weights.hexdigest()


def _track(run: Run, clip: Clip) -> dict[str, np.ndarray]:
    sequence, places = clip.sequence, clip.positions
    assert sequence.camera is not None
    gap = run.motion_gap.in_frames(time_per_frame(sequence.frames)) if run.has_motion else None
    odometry = Odometry(run, sequence.camera, gap=gap, static=clip.static)
    numbers = []
    frames, name = prefetch(sequence.frames.at()), f"tracking {sequence.name}"
    for frame in progress.track(frames, name, len(sequence.frames)):
        odometry.track(frame)
        numbers.append(frame.number)
    odometry.finish()
    motion = KnownMotion.unknown(len(clip.frames))
    paths = [path for path in odometry.parts() if len(path.frames) >= MIN_FRAMES]
    if not paths:
        raise NothingReconstructedError(
            f"odometry of {sequence.name} lost the camera: it followed no {MIN_FRAMES} frames"
        )
    for number, path in enumerate(paths):
        own = [places[numbers[frame]] for frame in path.frames]
        motion.world_from_camera[own] = path.poses
        motion.part[own] = number
    return _with_points(odometry, clip, motion)


def _with_points(odometry: Odometry, clip: Clip, motion: KnownMotion) -> dict[str, np.ndarray]:
    """What :func:`kept_motion` keeps."""
    camera, size = odometry.camera, (clip.sequence.frames.width, clip.sequence.frames.height)
    scale = np.array([size[0] / camera.width, size[1] / camera.height])
    frames, pixels, inverse = [np.zeros(0, int)], [np.zeros((0, 2))], [np.zeros(0)]
    for number, where, depth in odometry.key_points():
        position = clip.positions[number]
        if motion.part[position] >= 0 and len(depth):
            frames.append(np.full(len(depth), position))
            pixels.append((where + 0.5) * scale - 0.5)
            inverse.append(1 / depth)
    assert clip.sequence.camera is not None
    return {
        "world_from_camera": motion.world_from_camera, "part": motion.part,
        "point_frame": np.concatenate(frames), "pixels": np.concatenate(pixels),
        "inverse_depth": np.concatenate(inverse),
        "matrix": clip.sequence.camera.matrix.double().numpy(), "notes": np.array([], dtype=str),
    }  # fmt: skip
