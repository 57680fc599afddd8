"""Mesh of whole footage: the depth of many frames, fused into signed distances."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from skimage.measure import marching_cubes

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path
from egodepth.core.outputs import check_destination
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera
from egodepth.inference.export.cloud import (
    DepthView,
    consistent_views,
    nothing_agrees,
    unproject_view,
)
from egodepth.inference.multi_view import DepthFrom
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.run import Run

MAX_VOXELS = 24_000_000
TRUNCATION, UNCERTAIN = 4.0, 0.1
"""Truncation distance: this many voxels or this share of the depth, whichever is more. It must exceed the
differences between the depths of two frames, or each frame makes a surface of its own."""
COARSEST = 0.01
"""Default voxel size over median depth; depth is not finer than that."""
FARTHEST_MESHED = 3.0
"""Largest depth used, in median depths of its frame; beyond, depth is too noisy for a surface."""
COVERED = 0.99
"""Share of the points along each axis that lie in the volume; the rest are outliers."""
STL_HEADER = 80
"""Length in bytes."""
MESH_SUFFIXES = (".ply", ".obj", ".glb", ".stl")


@dataclass(frozen=True)
class Mesh:
    """A coloured triangle mesh.

    Attributes:
        vertices: (V, 3) float32, in the frame of the first camera.
        faces: (T, 3) int64.
        colours: (V, 3) uint8.
        voxel: side length of the voxels it was made with.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    voxel: float

    def scaled(self, factor: float) -> "Mesh":
        """The mesh in another unit."""
        vertices = self.vertices * np.float32(factor)
        return Mesh(vertices, self.faces, self.colours, self.voxel * factor)


class Volume:
    """Truncated signed distances on a grid (Curless and Levoy, "A volumetric method for building complex
    models from range images", SIGGRAPH 1996): each voxel keeps the weighted mean over frames of its signed
    distance to the surface."""

    def __init__(self, low: np.ndarray, high: np.ndarray, voxel: float):
        """Make an empty volume.

        Args:
            low, high: (3,) corners.
            voxel: side length of a voxel, in the same unit.
        """
        self.low, self.voxel = torch.from_numpy(np.asarray(low, np.float32)), voxel
        self.shape = tuple(int(n) for n in np.maximum(2, np.ceil((high - low) / voxel)))
        self.distance = torch.ones(self.shape)
        self.weight = torch.zeros(self.shape)
        self.colour = torch.zeros((*self.shape, 3))

    def add(
        self, depth: torch.Tensor, valid: torch.Tensor, image: torch.Tensor, camera: Camera,
        camera_from_world: torch.Tensor,
    ) -> None:  # fmt: skip
        """Integrate one frame, slab by slab to save memory.

        Args:
            depth: (h, w) along z.
            valid: (h, w) bool, pixels to use.
            image: (h, w, 3) from 0 to 255.
            camera: for that size.
            camera_from_world: (4, 4).
        """
        height, width = depth.shape
        y, z = torch.meshgrid(*(torch.arange(n) for n in self.shape[1:]), indexing="ij")
        fx, fy, cx, cy = camera.focal_and_centre.float()
        # Sampled at the nearest pixel: at depth edges, bilinear sampling would add false surfaces.
        data = torch.where(valid, depth, 0.0).float()
        for x in range(self.shape[0]):
            centres = torch.stack([torch.full_like(y, x), y, z], dim=-1) * self.voxel + self.low
            moved = centres @ camera_from_world[:3, :3].T.float() + camera_from_world[:3, 3].float()
            ahead = moved[..., 2] > self.voxel
            scale = 1 / moved[..., 2].clamp(min=self.voxel)
            u = (fx * moved[..., 0] * scale + cx).round().long()
            v = (fy * moved[..., 1] * scale + cy).round().long()
            inside = ahead & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            if not inside.any():
                continue
            u, v = u.clamp(0, width - 1), v.clamp(0, height - 1)
            seen = data[v, u]
            truncation = (UNCERTAIN * seen).clamp(min=TRUNCATION * self.voxel)
            signed = (seen - moved[..., 2]) / truncation
            valid = inside & (seen > 0) & (signed > -1)
            # The error of depth grows with its square.
            weight = torch.where(valid, 1 / seen.clamp(min=self.voxel).square(), 0.0)
            total = self.weight[x] + weight
            share = weight / total.clamp(min=1e-12)
            self.distance[x].lerp_(signed.clamp(max=1), share)
            self.colour[x].lerp_(image[v, u].float(), share[..., None])
            self.weight[x] = total

    def mesh(self) -> Mesh:
        """Extract the surface of zero distance by marching cubes.

        Raises:
            EgodepthError: no surface was found.
        """
        known = self.weight > 0
        # Only cells whose corners were all observed are used.
        corners = F.max_pool3d(-known.float()[None, None], 2, stride=1)[0, 0] < -0.5
        # skimage looks up a cell's mask at the corner with the largest indices.
        mask = F.pad(corners, (1, 0, 1, 0, 1, 0)).numpy()
        try:
            vertices, faces, _, _ = marching_cubes(
                self.distance.numpy(), 0.0, mask=mask, allow_degenerate=False
            )
        except (ValueError, RuntimeError) as error:
            raise EgodepthError(
                "no surface was found: no two frames agree on one; is the trajectory right?"
            ) from error
        place = torch.from_numpy(np.rint(vertices).astype(np.int64))
        colours = self.colour[place[:, 0], place[:, 1], place[:, 2]].round().clamp(0, 255)
        points = vertices * self.voxel + self.low.numpy()
        return Mesh(
            points.astype(np.float32), faces.astype(np.int64), colours.byte().numpy(), self.voxel
        )


def fuse_mesh(
    run: Run,
    sequence: Sequence,
    trajectory: Trajectory,
    every: int = 5,
    voxel: float | None = None,
    *,
    depth: DepthFrom = "views",
    max_deviation: float | None = None,
) -> Mesh:
    """Fuse the depth of every n-th frame into a mesh in the trajectory's unit.

    Args:
        run, sequence, trajectory, every, depth, max_deviation: as in
            :func:`egodepth.inference.export.cloud.consistent_views`.
        voxel: side length of a voxel, in the trajectory's unit; by default COARSEST times the median depth,
            or larger where MAX_VOXELS require it.

    Raises:
        EgodepthError: no camera, no surface, or voxels that need too much memory.
    """
    found = consistent_views(
        run, sequence, trajectory, every, depth=depth, max_deviation=max_deviation
    )
    views = [_near(view) for view in found]
    points = [
        unproject_view(v)[v.valid.ravel()] @ v.first_from_frame[:3, :3].T
        + v.first_from_frame[:3, 3]
        for v in views
    ]
    together = np.concatenate([p[:: max(1, len(p) // 4096)] for p in points])
    if len(together) == 0:
        raise EgodepthError(f"no surface was found: {nothing_agrees(max_deviation)}")
    low, high = np.quantile(together, [(1 - COVERED) / 2, (1 + COVERED) / 2], axis=0)
    finest = float(np.prod(np.maximum(high - low, 1e-6)) / MAX_VOXELS) ** (1 / 3)
    usual = COARSEST * float(np.median([np.median(view.depth) for view in views]))
    factor = trajectory.unit.factor
    if voxel is not None and voxel < finest * factor:
        raise EgodepthError(
            f"voxels of {voxel:g} are too small for a scene this large: the smallest are "
            f"{finest * factor:.3g}, lengths in {trajectory.unit}; use larger ones, or --sequence and shorter "
            "footage"
        )
    largest = float((high - low).max()) * factor
    if voxel is not None and voxel > largest:
        raise EgodepthError(
            f"voxels of {voxel:g} are larger than the whole scene, {largest:.3g} wide, lengths in "
            f"{trajectory.unit}; use smaller ones"
        )
    voxel = voxel / factor if voxel else max(finest, usual)
    volume = Volume(low - TRUNCATION * voxel, high + TRUNCATION * voxel, voxel)
    for view in progress.track(views, f"fusing depth of {sequence.name}", len(views)):
        volume.add(
            torch.from_numpy(view.depth), torch.from_numpy(view.valid),
            torch.from_numpy(view.image.copy()), view.camera,
            torch.from_numpy(np.linalg.inv(view.first_from_frame)),
        )  # fmt: skip
    with progress.phase("marching cubes"):
        return volume.mesh().scaled(factor)


def _near(view: DepthView) -> DepthView:
    close = view.depth < FARTHEST_MESHED * np.median(view.depth)
    return view._replace(valid=view.valid & close)


def write_mesh(path: Path, mesh: Mesh, comment: str = "") -> None:
    """Write a mesh as .ply, .obj, .glb or .stl, with a comment in its header (in .glb, the mesh's
    ``extras.comment``).

    Raises:
        EgodepthError: another suffix, or a file that cannot be written.
    """
    check_destination(path, MESH_SUFFIXES)
    import trimesh

    made = trimesh.Trimesh(
        mesh.vertices, mesh.faces, vertex_colors=mesh.colours, process=False
    )  # fmt: skip
    kind = path.suffix[1:].lower()
    made.metadata.update({"comment": comment} if comment else {})  # in .glb
    options = {"header": comment} if comment and kind == "obj" else {}
    content = made.export(file_type=kind, **options)
    data = content.encode() if isinstance(content, str) else bytes(content)
    if comment and kind == "ply":
        first = b"format binary_little_endian 1.0\n"
        data = data.replace(first, first + f"comment {comment}\n".encode(), 1)
    elif comment and kind == "stl":
        data = comment.encode()[:STL_HEADER].ljust(STL_HEADER) + data[STL_HEADER:]
    with atomic_path(path) as partial:
        partial.write_bytes(data)
