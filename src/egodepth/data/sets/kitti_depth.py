"""KITTI depth: improved depth maps, accumulated from LiDAR scans and checked against stereo, and the depth
benchmark. http://www.cvlibs.net/datasets/kitti/eval_depth_all.php
"""

import re
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import find, read_text, reading
from egodepth.data.image_files import ImageFiles, list_images, read_depth_png
from egodepth.data.sequence import Sequence
from egodepth.data.sets.missing_items import MissingItems
from egodepth.data.sets.native_size import centred_camera
from egodepth.geometry.camera import Camera

STEPS = 256
"""Steps per metre in the depth maps."""
PLACES = ("", "data_depth_annotated", "../data_depth_annotated")
"""Possible locations of the archive's ``train`` and ``val`` folders, relative to the KITTI raw root."""


def find_improved_depth(
    root: Path, drive: str, camera: int, numbers: list[int]
) -> dict[int, Callable[[], np.ndarray]]:
    """Readers of a drive's improved depth maps by frame position; empty if there are none."""
    for place in PLACES:
        for split in ("train", "val"):
            folder = root / place / split / drive / "proj_depth" / "groundtruth"
            folder /= f"image_{camera:02d}"
            if folder.is_dir():
                paths = {i: folder / f"{number:010d}.png" for i, number in enumerate(numbers)}
                return {
                    i: partial(read_depth_png, path, STEPS)
                    for i, path in paths.items()
                    if path.exists()
                }
    return {}


def read_kitti_depth(root: Path) -> list[Sequence]:
    """Read the depth benchmark: one sequence per drive and camera, whose images are not consecutive in time.

    Reads the 1000 images of ``val_selection_cropped``, or ``test_depth_prediction_anonymous`` without depth.

    Raises:
        EgodepthError: no images.
    """
    folders = sorted(p.parent for p in find(root, "image") if (p.parent / "intrinsics").is_dir())
    if not folders:
        raise EgodepthError(
            f"no images of KITTI's depth benchmark under {root}: expected folders like "
            "val_selection_cropped/image and val_selection_cropped/intrinsics"
        )
    missing = MissingItems("kitti_depth", root)
    sequences = [s for folder in folders for s in _read_selection(folder, missing)]
    missing.warn()
    return sequences


def _read_selection(folder: Path, missing: MissingItems) -> list[Sequence]:
    groups: dict[tuple[str, ...], list[tuple[int, Path]]] = defaultdict(list)
    for path in list_images(folder / "image"):
        match = re.fullmatch(r"(.+_sync)_image_(\d+)_image_(0[23])", path.stem)
        if match:
            groups[match[1], match[3]].append((int(match[2]), path))
        elif path.stem.isdecimal():
            groups[()].append((int(path.stem), path))
        else:
            missing.add("images of another name, left out", path)
    sequences = []
    for key, images in groups.items():
        numbers = [number for number, _ in images]
        paths = [path for _, path in images]
        frames = ImageFiles(paths, numbers)
        depth: dict[int, Callable[[], np.ndarray]] = {}
        if key:
            truth = folder / "groundtruth_depth"
            maps = {
                i: truth / path.name.replace("_sync_image_", "_sync_groundtruth_depth_")
                for i, path in enumerate(paths)
            }
            depth = {i: partial(read_depth_png, m, STEPS) for i, m in maps.items() if m.exists()}
            missing.add("images without depth", *(paths[i] for i in maps if i not in depth))
        cameras = [_read_intrinsics(folder / "intrinsics" / f"{p.stem}.txt", frames) for p in paths]
        others = [
            path
            for path, camera in zip(paths, cameras, strict=True)
            if not camera.matrix.allclose(cameras[0].matrix, rtol=1e-3)
        ]
        missing.add("images whose intrinsics differ from the first one's, which are used", *others)
        drive, camera = key or ("anonymous", "02")
        sequences.append(Sequence(
            name=f"{folder.name}/{drive}/image_{camera}", frames=frames,
            camera=cameras[0],
            depth=depth, improved_depth=depth, camera_name="right" if camera == "03" else "left",
        ))  # fmt: skip
    return sequences


def _read_intrinsics(path: Path, frames: ImageFiles) -> Camera:
    with reading(path, "the file of intrinsics"):
        words = read_text(path, "the file of intrinsics").split()
        if len(words) != 9:
            raise ValueError(f"it must hold 3x3 numbers, got {len(words)}")
        k = np.array([float(word) for word in words]).reshape(3, 3)
    size = (frames.height, frames.width)
    where = frames.paths[0].parent
    return centred_camera(k[0, 0], k[1, 1], k[0, 2], k[1, 2], *size, where)
