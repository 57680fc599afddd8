"""Cityscapes: stereo footage of streets in German cities, with disparity.

Layout: ``leftImg8bit_sequence`` (or ``leftImg8bit``, single frames), ``rightImg8bit_sequence``, ``camera`` and
``disparity``, each with SPLIT/CITY/CITY_SEQUENCE_FRAME_*. https://www.cityscapes-dataset.com
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_json, reading, visible
from egodepth.data.image_files import ImageFiles, list_images, read_depth_png
from egodepth.data.sequence import ChangedFrames, Crop, Sequence
from egodepth.data.sets.missing_items import MissingItems
from egodepth.data.sets.native_size import (
    FARTHEST_OFF_CENTRE,
    centred_camera,
    off_centre,
    resized_camera,
)
from egodepth.geometry.camera import Camera

HEIGHT, WIDTH = 1024, 2048
KEPT_HEIGHT = 0.75
"""Share of the image height that is kept, above the bonnet, as in Zhou et al. and later work."""
FRAMES_PER_SECOND = 17.0
GAP = 5
"""Largest step between frame numbers within a snippet; one drive may contain several snippets."""
SIDES = (("left", "leftImg8bit"), ("right", "rightImg8bit"))
LONGEST_BASELINE = 10.0
"""Metres by which two cameras of one car are apart at most."""
DISPARITY_STEPS = 256
"""A disparity of d pixels is stored as 256 d + 1; 0 means unknown."""


def read_cityscapes(root: Path) -> list[Sequence]:
    """Read Cityscapes as one sequence per 30-frame snippet and side, or as single frames without snippets.

    The lowest quarter of the images, which shows the bonnet, is cut off.

    Raises:
        EgodepthError: no images, or a broken camera file.
    """
    missing = MissingItems("cityscapes", root)
    sequences = []
    for side, kind in SIDES:
        folder = next(
            (root / n for n in (f"{kind}_sequence", kind) if (root / n).is_dir()), root / kind
        )
        for city in [p for part in visible(folder) for p in visible(part) if p.is_dir()]:
            sequences += _read_city(city, side, root, missing)
    if not any(s.camera_name == "left" for s in sequences):
        raise EgodepthError(
            f"no Cityscapes images with a camera under {root}: expected files like "
            "leftImg8bit_sequence/train/aachen/aachen_000000_000019_leftImg8bit.png and "
            f"camera/train/aachen/aachen_000000_000019_camera.json{_detail(missing)}"
        )
    missing.warn()
    return sequences


def _detail(missing: MissingItems) -> str:
    return "; " + "; ".join(missing.lines) if missing.lines else ""


def _read_city(folder: Path, side: str, root: Path, missing: MissingItems) -> list[Sequence]:
    split, city = folder.parent.name, folder.name
    snippets: dict[tuple[str, int], list[tuple[int, Path]]] = defaultdict(list)
    for path in list_images(folder):
        words = path.stem.split("_")
        if len(words) < 4 or not (words[-3].isdecimal() and words[-2].isdecimal()):
            missing.add("images of another name, left out", path)
            continue
        number = int(words[-2])
        known = snippets[words[-3], 0]
        start = 0
        while known and number > known[-1][0] + GAP:
            start += 1
            known = snippets[words[-3], start]
        known.append((number, path))
    cameras = _files(root / "camera" / split / city, "_camera.json")
    disparities = _files(root / "disparity" / split / city, "_disparity.png")
    sequences = []
    for (drive, start), frames in snippets.items():
        numbers = [number for number, _ in frames]
        mine = [key for key in cameras if key[0] == drive]
        name = f"{split}/{city}_{drive}" + (f"_{start}" if start else "")
        if not mine:
            missing.add("snippets without a camera file, left out", f"{name} ({side})")
            continue
        nearest = min(mine, key=lambda key: abs(key[1] - numbers[len(numbers) // 2]))
        values = _read_camera(cameras[nearest])
        images = ImageFiles(
            [path for _, path in frames], numbers, np.array(numbers) / FRAMES_PER_SECOND
        )
        camera = _camera_of(values, images, folder)
        crop = Crop(camera, 0, 0, round(KEPT_HEIGHT * images.height), images.width)
        rig_from_camera = np.eye(4)
        rig_from_camera[0, 3] = values["baseline"] if side == "right" else 0.0
        depth: dict[int, Callable[[], np.ndarray]] = {}
        if side == "left":
            depth = {
                index: partial(_read_depth, disparities[drive, number], values)
                for index, number in enumerate(numbers)
                if (drive, number) in disparities
            }
        sequences.append(Sequence(
            name=f"{name}/{side}", frames=ChangedFrames(images, crop), camera=crop.camera,
            depth=depth, camera_name=side, rig=name, rig_from_camera=rig_from_camera,
        ))  # fmt: skip
    return sequences


def _files(folder: Path, ending: str) -> dict[tuple[str, int], Path]:
    """Files of a folder by drive and frame number."""
    names = {
        path: path.name.removesuffix(ending).split("_")
        for path in visible(folder)
        if path.name.endswith(ending)
    }
    return {
        (words[-2], int(words[-1])): path
        for path, words in names.items()
        if len(words) > 2 and words[-1].isdecimal()
    }


def _read_camera(path: Path) -> dict[str, float]:
    with reading(path, "the camera file"):
        values = read_json(path, "the camera file")
        inner = values["intrinsic"]
        numbers = {name: float(inner[name]) for name in ("fx", "fy", "u0", "v0")}
        numbers["baseline"] = float(values["extrinsic"]["baseline"])
        if not 0 < numbers["baseline"] < LONGEST_BASELINE:
            raise ValueError(f"a baseline of {numbers['baseline']:g} metres")
        return numbers


def _camera_of(values: dict[str, float], images: ImageFiles, where: Path) -> Camera:
    """Camera at the size of the images.

    The file does not state its image size. Of the original size and that of the images, the one whose centre is
    closer to the principal point is assumed.
    """
    fx, fy, cx, cy = (values[name] for name in ("fx", "fy", "u0", "v0"))
    sizes = [(images.height, images.width), (HEIGHT, WIDTH)]
    height, width = min(sizes, key=lambda size: off_centre(cx, cy, *size))
    if off_centre(cx, cy, height, width) > FARTHEST_OFF_CENTRE:
        height, width = sizes[0]
    return resized_camera(centred_camera(fx, fy, cx, cy, height, width, where), images, where)


def _read_depth(path: Path, camera: dict[str, float]) -> np.ndarray:
    """Depth from a disparity map, without the bonnet: focal length times baseline over disparity."""
    disparity = read_depth_png(path, 1.0) - 1
    pixels = disparity / DISPARITY_STEPS
    known = pixels > 0
    depth = np.zeros_like(pixels)
    depth[known] = camera["fx"] * camera["baseline"] / pixels[known]
    return depth[: round(KEPT_HEIGHT * len(depth))]
