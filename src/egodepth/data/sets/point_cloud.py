"""Point clouds from laser scanners, and their projection to depth maps."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from egodepth.core.files import reading
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import FARTHEST_DEPTH
from egodepth.geometry.z_buffer import z_buffer

PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
OCCLUSION_MARGIN = 0.05
"""A point is occluded if a neighbour in the image is closer to the camera by this share."""
OCCLUDER_WINDOW = 5
"""Side in pixels of the square around a point in which others may occlude it."""


def read_ply(path: Path) -> np.ndarray:
    """Read the vertices (N, 3) float64 of a PLY file, ascii or binary; the last file is kept in memory.

    Raises:
        EgodepthError: a missing file, or not a PLY file with vertices.
    """
    with reading(path, "the point cloud"):
        state = path.stat()
        return _read_vertices(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read_vertices(path: Path, changed: int, size: int) -> np.ndarray:
    """The vertices of a file that was changed at this time and has this size."""
    with path.open("rb") as file:
        count, names, types, encoding = _read_header(file)
        if encoding == "ascii":
            table = np.loadtxt(file, max_rows=count, ndmin=2)
            vertices = np.stack([table[:, names.index(axis)] for axis in "xyz"], axis=1)
        else:
            order = "<" if "little" in encoding else ">"
            kinds = [(n, order + PLY_TYPES[t]) for n, t in zip(names, types, strict=True)]
            row = np.dtype(kinds)
            content = file.read()
            there = min(count, len(content) // row.itemsize)
            rows = np.frombuffer(content, row, there)
            vertices = np.stack([rows[axis] for axis in "xyz"], axis=1)
        if len(vertices) != count or not count:
            raise ValueError(f"{len(vertices)} of {count} points are there")
        if not (np.abs(vertices) <= FARTHEST_DEPTH).all():
            raise ValueError("it holds coordinates that are not finite, or impossibly large")
        return vertices.astype(np.float64)


def _read_header(file: object) -> tuple[int, list[str], list[str], str]:
    """Number of vertices, names and types of their properties, and encoding."""
    count, names, types, encoding, element = 0, [], [], "", ""
    line = file.readline().decode("ascii", "replace").strip()  # type: ignore[attr-defined]
    if line != "ply":
        raise ValueError("it does not begin with `ply`")
    while line != "end_header":
        raw = file.readline()  # type: ignore[attr-defined]
        if not raw:
            raise ValueError("its header does not end")
        line = raw.decode("ascii", "replace").strip()
        words = line.split()
        if words[:1] == ["format"]:
            encoding = words[1]
        elif words[:1] == ["element"]:
            element = words[1]
            if element == "vertex":
                count = int(words[2])
        elif words[:1] == ["property"] and element == "vertex":
            types.append(words[1])
            names.append(words[2])
    return count, names, types, encoding


def depth_of_cloud(points: np.ndarray, camera_from_world: np.ndarray, camera: Camera) -> np.ndarray:
    """Project points (N, 3) to a sparse depth map (H, W) float32, 0 where there are none.

    The nearest point per pixel wins. Points with clearly closer neighbours are dropped, since they are seen
    through the gaps of a surface in front.
    """
    moved = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    moved = moved[moved[:, 2] > 0]
    homogeneous = moved @ camera.matrix.double().numpy().T
    pixels = np.rint(homogeneous[:, :2] / homogeneous[:, 2:]).astype(np.int64)
    depth = z_buffer(pixels, moved[:, 2], camera.height, camera.width)
    far = np.where(depth > 0, depth, np.float32(np.inf))
    nearest = cv2.erode(far, np.ones((OCCLUDER_WINDOW, OCCLUDER_WINDOW), np.uint8))
    return np.where(depth <= (1 + OCCLUSION_MARGIN) * nearest, depth, 0).astype(np.float32)
