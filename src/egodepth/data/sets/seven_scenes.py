"""7-Scenes: hand-held Kinect sequences with depth and poses.

https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import find, natural_order, read_text, reading
from egodepth.data.image_files import ImageFiles, read_depth_png
from egodepth.data.sequence import Sequence
from egodepth.data.sets.missing_items import MissingItems
from egodepth.data.sets.names import name_of_folder
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import require_rigid
from egodepth.geometry.z_buffer import z_buffer

COLOUR_FOCAL, DEPTH_FOCAL = 525.0, 585.0
CENTRE = (320.0, 240.0)
HEIGHT, WIDTH = 480, 640
COLOUR_FROM_DEPTH = (-0.025, -0.005, 0.0)
"""Translation in metres, measured on edges, as the data set has no registration of depth to colour."""
FRAMES_PER_SECOND = 30.0
INVALID_DEPTH = (0, 65535)


def read_seven_scenes(root: Path) -> list[Sequence]:
    """Read every folder at or below ``root`` with ``frame-NNNNNN.color.png`` (or jpg) files.

    Poses and depth are optional; depth is registered to the colour camera.

    Raises:
        EgodepthError: no frames, frames of another size than 640x480, or a broken pose.
    """
    names = ("frame-*.color.png", "frame-*.color.jpg")
    folders = sorted({path.parent for name in names for path in find(root, name)})
    if not folders:
        raise EgodepthError(
            f"no 7-Scenes sequences under {root}: expected files like seq-01/frame-000000.color.png"
        )
    missing = MissingItems("seven_scenes", root)
    sequences = [_read_folder(folder, root, missing) for folder in folders]
    missing.warn()
    return sequences


def register_depth(depth: np.ndarray) -> np.ndarray:
    """Register depth (480, 640) in metres from the depth to the colour camera, 0 where unknown.

    The nearest point per pixel wins.
    """
    rows, columns = np.nonzero(depth)
    pixels = np.stack([columns, rows], axis=1)
    z = depth[rows, columns].astype(np.float64)[:, None]
    centre = np.array(CENTRE)
    points = np.hstack([(pixels - centre) / DEPTH_FOCAL * z, z]) + COLOUR_FROM_DEPTH
    projected = COLOUR_FOCAL * points[:, :2] / points[:, 2:] + centre
    return z_buffer(np.rint(projected).astype(np.int64), points[:, 2], HEIGHT, WIDTH)


def _read_folder(folder: Path, root: Path, missing: MissingItems) -> Sequence:
    paths = natural_order(folder.glob("frame-*.color.*"))
    numbers = [_number(path) for path in paths]
    frames = ImageFiles(paths, numbers, np.array(numbers) / FRAMES_PER_SECOND)
    if (frames.width, frames.height) != (WIDTH, HEIGHT):
        raise EgodepthError(
            f"{paths[0]} is {frames.width}x{frames.height}; frames of 7-Scenes are {WIDTH}x{HEIGHT}"
        )
    stems = [folder / path.name.split(".")[0] for path in paths]
    poses = [stem.with_suffix(".pose.txt") for stem in stems]
    depth: dict[int, Callable[[], np.ndarray]] = {
        index: partial(_read_depth, path)
        for index, stem in enumerate(stems)
        if (path := stem.with_suffix(".depth.png")).exists()
    }
    world_from_camera = np.stack([_read_pose(path) for path in poses])
    lost = np.isnan(world_from_camera).all((1, 2))
    if not lost.all():
        missing.add(
            "frames without a pose", *(poses[i].relative_to(root) for i in lost.nonzero()[0])
        )
    return Sequence(
        name=name_of_folder(folder, root),
        frames=frames,
        camera=Camera.from_parameters(COLOUR_FOCAL, COLOUR_FOCAL, *CENTRE, HEIGHT, WIDTH),
        world_from_camera=None if lost.all() else world_from_camera,
        depth=depth,
    )


def _number(path: Path) -> int:
    word = path.name.split(".")[0].removeprefix("frame-")
    if not word.isdecimal():
        raise EgodepthError(f"{path}: frames of 7-Scenes are named like frame-000000.color.png")
    return int(word)


def _read_pose(path: Path) -> np.ndarray:
    if not path.exists():
        return np.full((4, 4), np.nan)
    with reading(path, "the pose"):
        words = read_text(path, "the pose").split()
        if len(words) != 16:
            raise ValueError(f"it must hold 4x4 numbers, got {len(words)}")
        pose = np.array([float(word) for word in words]).reshape(4, 4)
    if not np.isfinite(pose[:3]).any():  # as trackers write it while they are lost
        return np.full((4, 4), np.nan)
    return require_rigid(pose, f"the pose {path}")


def _read_depth(path: Path) -> np.ndarray:
    depth = read_depth_png(path, 1000, INVALID_DEPTH)
    if depth.shape != (HEIGHT, WIDTH):
        raise EgodepthError(f"broken depth map {path}: its size is {depth.shape}")
    return register_depth(depth)
