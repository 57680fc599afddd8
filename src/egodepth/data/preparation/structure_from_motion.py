"""Poses, camera and sparse points of a clip from COLMAP's incremental structure from motion.

pycolmap is imported on use, since it has no wheels for some machines.
"""

import copy
import itertools
import math
import shutil
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.core.prefetch import prefetch
from egodepth.core.temporary import temporary_folder
from egodepth.data.footage.cache import cache_file
from egodepth.data.preparation.clips import Clip, KnownMotion
from egodepth.data.preparation.feature_matching import FeatureFinder, FrameFeatures, match_frames
from egodepth.data.preparation.frame_registration import KeyFrame, Registered, register_frames
from egodepth.data.preparation.kept_motion import kept_motion
from egodepth.data.preparation.shared_camera import colmap_camera, focal_doubt, share_camera
from egodepth.data.sequence import read_numbered
from egodepth.geometry.camera import Camera

MIN_KEY_FRAMES = 8
"""Smallest number of key frames in a clip and in a part of the reconstruction; smaller parts are dropped."""
WORST_ERROR = 2.0
"""Mean reprojection error in pixels above which a point is dropped."""
GROWTH = 1.3
"""Factor by which frames or points grow from one global bundle adjustment to the next."""
GLOBAL_REFINEMENTS, LOCAL_REFINEMENTS = 2, 1
"""Rounds of a global and of a local bundle adjustment, each without the outliers of the last one."""
METHOD = 8
"""Version of the method, part of the cache key: raise it when results change."""
SEEDS = (0, 1)
"""Random seeds of the mapping attempts, of which the best is kept. COLMAP's choice of initial frames and
outliers decides whether the scale drifts where frames share few points, as in a turn; bundle adjustment cannot
repair that later."""
MAX_SHARE_UNPLACED = 0.02
"""Share of frames by which an attempt may fall short of the most complete one and still be chosen."""
# By default COLMAP starts from a pair with a triangulation angle of 16 degrees and no forward motion. With
# forward motion there is no such pair, and the defaults find nothing.
DRIVING_ANGLE = 4.0


class NothingReconstructedError(EgodepthError):
    """Structure from motion failed, or registered too few frames."""


def find_colmap() -> ModuleType | None:
    """Import pycolmap with its log output turned off; None if it is not installed."""
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        import pycolmap
    except ImportError:
        return None
    # Importing it installs a SIGTERM handler that prints a C++ stack trace.
    if on_termination is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_termination)
    # Ceres logs errors that COLMAP recovers from; real failures of COLMAP raise exceptions.
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    return pycolmap


def require_colmap() -> ModuleType:
    """Import pycolmap.

    Raises:
        EgodepthError: it is not installed.
    """
    colmap = find_colmap()
    if colmap is None:
        raise EgodepthError(
            "poses from structure from motion need pycolmap: pip install pycolmap, or use --data.poses aligned "
            "or network"
        )
    return colmap


def reconstruct(clip: Clip, folder: Path) -> Clip:
    """A copy of the clip with poses and sparse points.

    COLMAP places every ``stride``-th frame, and :mod:`.frame_registration` the others. The focal length is
    refined only if the user gave a field of view, and kept if refinement is in doubt (:func:`focal_doubt`):
    under straight forward motion it is not observable, and on 24 frames of a rendered street it came out 0.36
    times as long. The result is cached in ``folder``.

    Args:
        clip: the clip.
        folder: cache folder.

    Raises:
        EgodepthError: pycolmap is missing, or broken frames.
        NothingReconstructedError: nothing could be reconstructed.
    """
    sequence = clip.sequence
    assert sequence.camera is not None
    key = (
        f"{sequence.frames.fingerprint} {clip.stride} {sequence.camera.matrix.tolist()} "
        f"{sequence.camera_from == 'fov'} {METHOD}{clip.static_digest}"
    )
    return kept_motion(clip, cache_file(folder, key, "-sfm.npz"), lambda: _run_colmap(clip))


def _run_colmap(clip: Clip) -> dict[str, np.ndarray]:
    colmap = require_colmap()
    keys = range(0, len(clip.frames), clip.stride)
    apart = f" {clip.stride} apart" * (clip.stride > 1)
    if len(keys) < MIN_KEY_FRAMES:
        raise NothingReconstructedError(
            f"structure from motion needs {MIN_KEY_FRAMES} frames{apart}, and {clip.sequence.name} has "
            f"{len(keys)}"
        )
    with temporary_folder("sfm") as work:
        database = work / "database.db"
        assert clip.sequence.camera is not None
        frames = clip.sequence.frames
        camera = _colmap_camera(clip.sequence.camera, frames.height, frames.width, colmap)
        with closing(_features(clip, keys)) as features:
            still = match_frames(features, database, camera, colmap)
        count = len(keys) - len(still)
        if count < MIN_KEY_FRAMES:
            raise NothingReconstructedError(
                f"structure from motion needs {MIN_KEY_FRAMES} frames between which the camera moves, and "
                f"{clip.sequence.name} has {count} among {len(keys)}{apart}"
            )
        refine = clip.sequence.camera_from == "fov"
        notes = []
        models = _place(clip, database, count, colmap, refine_focal=refine)
        if refine and models:
            doubt = focal_doubt(list(models.values()), float(camera.params[0]))
            if doubt:
                notes = [doubt]
                refine = False
                models = _place(clip, database, count, colmap, refine_focal=False)
    if not models:
        raise NothingReconstructedError(
            f"structure from motion found no {MIN_KEY_FRAMES} frames of {clip.sequence.name} that it can place "
            f"together, of {count}{apart}"
        )
    largest_first = sorted(models.values(), key=lambda found: -found.num_reg_images())
    kept = largest_first
    if refine:
        with progress.phase(_named("adjusting the camera", clip)):
            kept, shared = share_camera(colmap, largest_first)
        notes += shared
    stands = {_position(name): _position(key) for name, key in still.items()}
    return _collect(clip, kept, stands, notes, colmap)


def _named(what: str, clip: Clip) -> str:
    return f"structure from motion of {clip.sequence.name}, {what}"


def _features(clip: Clip, keys: range) -> Generator[tuple[str, FrameFeatures]]:
    finder = FeatureFinder(clip.static)

    def found() -> Iterator[tuple[str, FrameFeatures]]:
        for position, image in _grey(clip, keys):
            yield f"{position:06d}.png", finder.find(image)

    # The next frame's features are found while this one's are matched.
    yield from progress.track(prefetch(found(), 2), _named("matching frames", clip), len(keys))


def _place(
    clip: Clip,
    database: Path,
    count: int,
    colmap: ModuleType,
    *,
    refine_focal: bool,
) -> dict[int, Any]:
    """Run incremental mapping several times and return the best attempt.

    Each attempt runs in its own thread, so that Ctrl-C can stop it. COLMAP uses a single thread per attempt,
    since its results are not deterministic otherwise.
    """
    options = colmap.IncrementalPipelineOptions(
        min_model_size=MIN_KEY_FRAMES, num_threads=1, extract_colors=False,
        ba_global_frames_ratio=GROWTH, ba_global_points_ratio=GROWTH,
        ba_global_max_refinements=GLOBAL_REFINEMENTS, ba_local_max_refinements=LOCAL_REFINEMENTS,
    )  # fmt: skip
    options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = refine_focal
    options.mapper.init_min_tri_angle = DRIVING_ANGLE
    options.mapper.init_max_forward_motion = 1.0
    done = itertools.count(1)
    token = colmap.CancellationToken()

    def attempt(seed: int) -> dict[int, Any]:
        own = copy.deepcopy(options)
        own.random_seed = seed
        folder = database.parent / f"attempt-{seed}-{refine_focal}"
        folder.mkdir()
        shutil.copy(database, folder)
        found: dict[int, Any] = colmap.incremental_mapping(
            folder / database.name, folder, folder, own,
            next_image_callback=lambda: phase.update(min(next(done), total)),
            cancellation_token=token,
        )  # fmt: skip
        return found

    total = len(SEEDS) * count
    with (
        progress.phase(_named("placing frames", clip), total) as phase,
        ThreadPoolExecutor(len(SEEDS)) as pool,
    ):
        try:
            return better_attempt(list(pool.map(attempt, SEEDS)))
        except BaseException:
            token.cancel()
            raise


def better_attempt(attempts: list[dict[int, Any]]) -> dict[int, Any]:
    """The reconstruction with the lowest reprojection error among those that register about the most frames.

    Args:
        attempts: reconstructions of the same frames, each a dict of COLMAP models by number.
    """
    placed = [sum(model.num_reg_images() for model in found.values()) for found in attempts]
    enough = (1 - MAX_SHARE_UNPLACED) * max(placed)

    def error(found: dict[int, Any]) -> float:
        errors = [point.error for model in found.values() for point in model.points3D.values()]
        return float(np.mean(errors)) if errors else math.inf

    return min(
        (found for found, count in zip(attempts, placed, strict=True) if count >= enough), key=error
    )


def _colmap_camera(camera: Camera, height: int, width: int, colmap: ModuleType) -> Any:
    model, parameters = colmap_camera(camera)
    found = colmap.Camera(model=model, width=width, height=height, params=parameters)
    # Even if guessed: without a prior, COLMAP estimates fundamental matrices, which planar scenes do not
    # determine.
    found.has_prior_focal_length = True
    return found


def _position(name: str) -> int:
    return int(name.split(".")[0])


def _collect(
    clip: Clip,
    models: list[Any],
    stands: dict[int, int],
    notes: list[str],
    colmap: ModuleType,
) -> dict[str, np.ndarray]:
    keys: dict[int, KeyFrame] = {}
    placed: list[Registered] = []
    for number, model in enumerate(models):
        if model.num_reg_images() < MIN_KEY_FRAMES:
            continue
        kept = {k: p.xyz for k, p in model.points3D.items() if p.error < WORST_ERROR}
        for image_id in model.reg_image_ids():
            image = model.image(image_id)
            index = _position(image.name)
            if index in keys:
                continue
            seen = [p for p in image.get_observation_points2D() if p.point3D_id in kept]
            pixels = np.array([p.xy for p in seen]).reshape(-1, 2) - 0.5
            points = np.array([kept[p.point3D_id] for p in seen]).reshape(-1, 3)
            keys[index] = KeyFrame(number, pixels, points)
            pose = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
            placed.append(Registered(index, number, pose, pixels, points))
    where = {seen.position: seen for seen in placed}
    for position, key in stands.items():
        if key in where:
            keys[position] = keys[key]
            placed.append(where[key]._replace(position=position))
    if not placed:
        raise NothingReconstructedError(
            f"structure from motion placed at most {max(m.num_reg_images() for m in models)} frames of "
            f"{clip.sequence.name} together, and {MIN_KEY_FRAMES} are needed"
        )
    params = next(iter(models[0].cameras.values())).params
    fx, fy, cx, cy = params if len(params) == 4 else (params[0], *params)
    matrix = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
    count = len(clip.frames)
    if len(placed) < count:
        name = _named("placing the frames between", clip)
        images = progress.track(_grey(clip, range(count)), name, count)
        placed += register_frames(images, keys, 2 * clip.stride - 1, colmap, matrix)
    return _as_arrays(count, placed) | {"matrix": matrix, "notes": np.array(notes, dtype=str)}


def _grey(clip: Clip, positions: range) -> Iterator[tuple[int, np.ndarray]]:
    """Yield positions and grey images at the original size of the footage."""
    frames = clip.sequence.frames
    if clip.frames.shape[-2:] == (frames.height, frames.width):
        for position in positions:
            image = clip.frames[position].transpose(1, 2, 0)
            yield position, cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        return
    places = clip.positions
    for frame in read_numbered(frames, clip.numbers[positions]):
        yield places[frame.number], cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)


def _as_arrays(count: int, placed: list[Registered]) -> dict[str, np.ndarray]:
    motion = KnownMotion.unknown(count)
    poses, part = motion.world_from_camera, motion.part
    frames, pixels, inverse = [], [], []
    for seen in sorted(placed, key=lambda p: p.position):
        poses[seen.position] = np.linalg.inv(seen.camera_from_world)
        part[seen.position] = seen.part
        depth = seen.points @ seen.camera_from_world[2, :3] + seen.camera_from_world[2, 3]
        in_front = depth > 0
        frames.append(np.full(in_front.sum(), seen.position))
        pixels.append(seen.pixels[in_front])
        inverse.append(1 / depth[in_front])
    return {
        "world_from_camera": poses, "part": part, "point_frame": np.concatenate(frames),
        "pixels": np.concatenate(pixels), "inverse_depth": np.concatenate(inverse),
    }  # fmt: skip
