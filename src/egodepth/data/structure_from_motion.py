"""Poses, camera and sparse points of a clip by COLMAP's incremental structure from motion.

pycolmap is optional: ``pip install egodepth[sfm]``.
"""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path
from egodepth.data.clips import NO_PART, Clip, KnownMotion, Points
from egodepth.data.sequence import read_numbered
from egodepth.geometry.camera import Camera

OVERLAP = 15
"""Frames that each frame is matched with."""
FEATURES = 4096
"""Of a frame, at most; the time of matching grows with their square."""
FEWEST_FRAMES = 8
"""A part of the reconstruction with fewer is left out."""
WORST_ERROR = 2.0
"""Mean reprojection error in pixels above which a point is left out."""
SEED = 0
# COLMAP's defaults start from a pair that sees points under 16 degrees and does not move forward. A
# camera that drives has no such pair, and the defaults find nothing.
DRIVING_ANGLE = 4.0


def find_colmap() -> ModuleType | None:
    """pycolmap, where it is installed."""
    try:
        import pycolmap
    except ImportError:
        return None
    return pycolmap


def reconstruct(
    clip: Clip, folder: Path, on_frame: Callable[[str, int, int], None] = lambda *_: None
) -> Clip:
    """The clip with poses and points; only every ``stride``-th frame has them. The focal length is
    refined where it was guessed: a camera that moves straight on does not show it, and of 24 frames of
    a rendered street it came out 1.7 times too long.

    What was found is kept in ``folder`` and read again the next time.

    Args:
        clip: footage.
        folder: for the result.
        on_frame: called with what is done and how far it is: frames done, and frames in all.

    Raises:
        EgodepthError: pycolmap is missing, broken frames, or a reconstruction that comes to nothing.
    """
    sequence = clip.sequence
    assert sequence.camera is not None
    key = (
        f"{sequence.frames.fingerprint} {clip.stride} {sequence.camera.matrix.tolist()} "
        f"{sequence.camera_guessed} {OVERLAP} {FEATURES}"
    )
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}-sfm.npz"
    if not path.exists():
        found = _run_colmap(clip, on_frame)
        with atomic_path(path) as partial:
            np.savez(partial, **found)  # type: ignore[arg-type]
    with np.load(path) as stored:
        return _with_result(clip, dict(stored))


def _with_result(clip: Clip, found: dict[str, np.ndarray]) -> Clip:
    height, width = clip.frames.shape[-2:]
    size = (clip.sequence.frames.height, clip.sequence.frames.width)
    full = Camera(torch.from_numpy(found["matrix"]).float(), *size)
    scale = np.array([width / size[1], height / size[0]])
    points = {}
    for frame in np.unique(found["point_frame"]):
        own = found["point_frame"] == frame
        points[int(frame)] = Points(
            (found["pixels"][own] + 0.5) * scale - 0.5, found["inverse_depth"][own]
        )
    motion = KnownMotion(found["world_from_camera"], found["part"], points)
    return replace(clip, camera=full.resize(height, width), motion=motion)


def _run_colmap(clip: Clip, on_frame: Callable[[str, int, int], None]) -> dict[str, np.ndarray]:
    colmap = find_colmap()
    if colmap is None:
        raise EgodepthError(
            "poses from structure from motion need pycolmap: pip install 'egodepth[sfm]', or use "
            "--data.poses aligned"
        )
    colmap.logging.minloglevel = colmap.logging.ERROR
    positions = np.arange(0, len(clip.frames), clip.stride)
    with tempfile.TemporaryDirectory(prefix="egodepth-sfm-") as name:
        work = Path(name)
        images = work / "images"
        images.mkdir()
        places = clip.positions
        for frame in read_numbered(clip.sequence.frames, clip.numbers[positions]):
            index = places[frame.number]
            Image.fromarray(frame.image).convert("L").save(
                images / f"{index:06d}.png", compress_level=1
            )
            on_frame("writing frames", index // clip.stride + 1, len(positions))
        database = work / "database.db"
        reader = colmap.ImageReaderOptions(
            camera_model="SIMPLE_PINHOLE", camera_params=_colmap_parameters(clip)
        )
        colmap.set_random_seed(SEED)
        extraction = colmap.FeatureExtractionOptions()
        extraction.sift.max_num_features = FEATURES
        colmap.extract_features(
            database, images, camera_mode=colmap.CameraMode.SINGLE, reader_options=reader,
            extraction_options=extraction, device=colmap.Device.cpu,
        )  # fmt: skip
        colmap.match_sequential(
            database, pairing_options=colmap.SequentialPairingOptions(
                overlap=OVERLAP, quadratic_overlap=False
            ),
            device=colmap.Device.cpu,
        )  # fmt: skip
        options = colmap.IncrementalPipelineOptions(
            min_model_size=FEWEST_FRAMES, random_seed=SEED, extract_colors=False
        )
        guessed = clip.sequence.camera_guessed
        options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = guessed
        options.mapper.init_min_tri_angle = DRIVING_ANGLE
        options.mapper.init_max_forward_motion = 1.0
        done = [0]

        def tick() -> None:
            done[0] += 1
            on_frame("placing frames", min(done[0], len(positions)), len(positions))

        models = colmap.incremental_mapping(
            database, images, work, options, next_image_callback=tick
        )
    if not models:
        raise EgodepthError(
            f"structure from motion found nothing in {clip.sequence.name} ({len(positions)} frames, "
            f"{clip.stride} apart); use --data.poses aligned or network"
        )
    return _collect(clip, sorted(models.values(), key=lambda m: -m.num_reg_images()))


def _colmap_parameters(clip: Clip) -> str:
    """Focal length and centre for COLMAP, whose top-left pixel centre is (0.5, 0.5)."""
    assert clip.sequence.camera is not None
    fx, fy, cx, cy = clip.sequence.camera.focal_and_centre.tolist()
    return f"{(fx + fy) / 2},{cx + 0.5},{cy + 0.5}"


def _collect(clip: Clip, models: list[Any]) -> dict[str, np.ndarray]:
    count = len(clip.frames)
    poses = np.full((count, 4, 4), np.nan)
    part = np.full(count, NO_PART)
    frames, pixels, inverse = [], [], []
    for number, model in enumerate(models):
        if model.num_reg_images() < FEWEST_FRAMES:
            continue
        kept = {k: p.xyz for k, p in model.points3D.items() if p.error < WORST_ERROR}
        for image_id in model.reg_image_ids():
            image = model.image(image_id)
            index = int(image.name.split(".")[0])
            if part[index] != NO_PART:
                continue
            camera_from_world = image.cam_from_world().matrix()
            poses[index] = np.linalg.inv(np.vstack([camera_from_world, [0, 0, 0, 1]]))
            part[index] = number
            seen = [p for p in image.get_observation_points2D() if p.point3D_id in kept]
            if not seen:
                continue
            world = np.array([kept[p.point3D_id] for p in seen])
            depth = world @ camera_from_world[2, :3] + camera_from_world[2, 3]
            ahead = depth > 0
            frames.append(np.full(ahead.sum(), index))
            pixels.append(np.array([p.xy for p in seen])[ahead] - 0.5)
            inverse.append(1 / depth[ahead])
    if not frames:
        raise EgodepthError(
            f"structure from motion placed too few frames of {clip.sequence.name}; use --data.poses "
            "aligned or network"
        )
    focal, cx, cy = models[0].cameras[next(iter(models[0].cameras))].params
    matrix = np.array([[focal, 0, cx - 0.5], [0, focal, cy - 0.5], [0, 0, 1]])
    return {
        "matrix": matrix, "world_from_camera": poses, "part": part,
        "point_frame": np.concatenate(frames), "pixels": np.concatenate(pixels),
        "inverse_depth": np.concatenate(inverse),
    }  # fmt: skip
