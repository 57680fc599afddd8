"""Make3D: 134 outdoor test images with low-resolution laser depth.

Layout: ``Test134/img-*.jpg`` and ``Gridlaserdata/depth_sph_corr-*.mat``, 55x305 samples that cover the
whole image. http://make3d.cs.cornell.edu/data.html
"""

from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat  # type: ignore[attr-defined]

from egodepth.core.errors import EgodepthError
from egodepth.core.files import find, reading
from egodepth.data.image_files import ImageFiles, require_depth
from egodepth.data.sequence import ChangedFrames, Crop, Sequence
from egodepth.data.sets.missing_items import MissingItems
from egodepth.geometry.camera import Camera

GRID = (55, 305)
KEPT_ROWS = 21
"""Number of central laser rows (of 55) that are kept: they cover the central 2:1 crop of the image on which
Godard et al. and later work evaluate networks trained on wide images."""
FOV = 60.0
"""Horizontal field of view in degrees; a guess, as the data set has no camera and scoring depth needs none."""


def read_make3d(root: Path) -> list[Sequence]:
    """Read the test images that have laser depth, as one sequence cropped to the central strip.

    Raises:
        EgodepthError: no images, or images of several sizes.
    """
    images = {path.stem.removeprefix("img-"): path for path in find(root, "img-*.jpg")}
    lasers = {
        path.stem.removeprefix("depth_sph_corr-"): path
        for path in find(root, "depth_sph_corr-*.mat")
    }
    names = sorted(set(images) & set(lasers))
    if not names:
        raise EgodepthError(
            f"no Make3D images with depth under {root}: expected pairs like "
            "Test134/img-math7-p-282t0.jpg and Gridlaserdata/depth_sph_corr-math7-p-282t0.mat"
        )
    missing = MissingItems("make3d", root)
    missing.add("images without laser depth, left out", *sorted(set(images) - set(lasers)))
    missing.warn()
    frames = ImageFiles([images[name] for name in names])
    height, width = frames.height, frames.width
    camera = Camera.from_field_of_view(FOV, height, width)
    strip = min(height, width // 2)
    crop = Crop(camera, (height - strip) // 2, 0, strip, width)
    return [Sequence(
        "test134", ChangedFrames(frames, crop), crop.camera, camera_from="fov",
        depth={i: partial(_read_laser, lasers[name]) for i, name in enumerate(names)},
    )]  # fmt: skip


def _read_laser(path: Path) -> np.ndarray:
    with reading(path, "the laser depth"):
        depth = loadmat(path)["Position3DGrid"][..., 3]
        if depth.shape != GRID or depth.dtype.kind not in "fiu":
            raise ValueError(f"it is {depth.shape} {depth.dtype}, not {GRID} numbers")
        require_depth(depth)
    top = (GRID[0] - KEPT_ROWS) // 2
    return depth[top : top + KEPT_ROWS].astype(np.float32)
