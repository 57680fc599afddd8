"""Anti-aliased rendering of textured triangles with exact depth; Embree casts the rays."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

Vector = np.ndarray | Sequence[float]
"""Three numbers."""
SUBSAMPLES = np.array(
    [(-0.375, -0.125), (-0.125, 0.375), (0.125, -0.375), (0.375, 0.125)], np.float32
)
"""Sample positions in a pixel: a rotated grid with four different offsets along each axis."""


@dataclass
class SceneMesh:
    """A mesh of textured triangles, built piece by piece.

    Attributes:
        corners: (n, 3, 3) positions in the world, metres.
        texels: (n, 3, 2) texture coordinates in units of the texture, repeating.
        texture: (n,) indices into ``textures``.
        surface: (n,) surface numbers, shared by coplanar triangles of a face; edges separate different numbers.
    """

    textures: list[np.ndarray] = field(default_factory=list)
    corners: list[np.ndarray] = field(default_factory=list)
    texels: list[np.ndarray] = field(default_factory=list)
    texture: list[int] = field(default_factory=list)
    surface: list[int] = field(default_factory=list)

    def add_texture(self, texture: np.ndarray) -> int:
        """Add a texture and return its index."""
        self.textures.append(texture)
        return len(self.textures) - 1

    def polygon(self, corners: np.ndarray, texels: np.ndarray, texture: int) -> None:
        """Add a convex planar polygon as a fan of triangles, one surface."""
        count, number = len(corners) - 2, len(self.corners)
        fan = np.array([(0, i, i + 1) for i in range(1, count + 1)])
        self.corners.extend(np.asarray(corners)[fan])
        self.texels.extend(np.asarray(texels)[fan])
        self.texture.extend([texture] * count)
        self.surface.extend([number] * count)

    def facets(self, corners: np.ndarray, texels: np.ndarray, texture: int) -> None:
        """Add triangles (n, 3, 3) with texels (n, 3, 2), a surface each."""
        first = len(self.corners)
        self.corners.extend(corners)
        self.texels.extend(texels)
        self.texture.extend([texture] * len(corners))
        self.surface.extend(range(first, first + len(corners)))

    def quad(
        self, origin: Vector, right: Vector, down: Vector, texture: int,
        repeat: tuple[float, float] = (1.0, 1.0),
    ) -> None:  # fmt: skip
        """Add a parallelogram; texture columns run along ``right``, rows along ``down``."""
        o, r, d = (np.asarray(vector, float) for vector in (origin, right, down))
        s, t = repeat
        self.polygon(np.stack([o, o + r, o + r + d, o + d]),
                     np.array([[0, 0], [s, 0], [s, t], [0, t]]), texture)  # fmt: skip

    def box(self, low: Vector, high: Vector, texture: int, repeat_m: float = 1.0) -> None:
        """Add an axis-aligned box without its bottom (largest y); the texture repeats every ``repeat_m``
        metres."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        w, h, d = x1 - x0, y1 - y0, z1 - z0
        for origin, right, size in (
            ((x0, y0, z0), (w, 0, 0), w), ((x1, y0, z1), (-w, 0, 0), w),
            ((x1, y0, z0), (0, 0, d), d), ((x0, y0, z1), (0, 0, -d), d),
        ):  # fmt: skip
            self.quad(origin, right, (0, h, 0), texture, (size / repeat_m, h / repeat_m))
        self.quad((x0, y0, z0), (w, 0, 0), (0, 0, d), texture, (w / repeat_m, d / repeat_m))


class Renderer:
    """A renderer of a mesh with one pinhole camera at any pose."""

    def __init__(
        self, mesh: SceneMesh, sky: np.ndarray, matrix: np.ndarray, height: int, width: int
    ):
        """Build the acceleration structure; call :meth:`pack_textures` before rendering.

        Args:
            mesh: the scene.
            sky: panorama (rows: elevation from 90 to 0 degrees, columns: azimuth).
            matrix: (3, 3) intrinsics, pixel centres at whole numbers.
            height, width: image size.
        """
        corners = np.stack(mesh.corners)
        edges = corners[:, 1:] - corners[:, :1]
        some = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) > 1e-9
        self.corners = corners[some].astype(np.float32)
        self.surface = np.array(mesh.surface)[some]
        self.texture = np.array(mesh.texture)[some]
        self.light = np.ones(len(self.corners), np.float32)
        self.scene = EmbreeScene()
        TriangleMesh(self.scene, self.corners)
        self.matrix, self.height, self.width, self.sky = matrix, height, width, sky
        y, x = np.mgrid[:height, :width].astype(np.float32)
        self.pixels = np.stack([x.ravel(), y.ravel()], 1)
        sizes = np.array([t.shape[1::-1] for t in mesh.textures], np.float64)[self.texture]
        self._planes = self._texture_planes(np.stack(mesh.texels)[some] * sizes[:, None])

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the first hits of rays: triangle (-1 for none) and distance in units of the direction."""
        hits = self.scene.run(
            np.ascontiguousarray(origins, np.float32),
            np.ascontiguousarray(directions, np.float32),
            output=True,
        )
        return hits["primID"], hits["tfar"]

    def render(self, world_from_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Render the image (H, W, 3) uint8 and depth along z at the pixel centres (H, W) float32, 0 for sky."""
        image, depth, _ = self._look(world_from_camera)
        levels = (image * 255 + 0.5).astype(np.uint8).reshape(self.height, self.width, 3)
        return levels, depth

    def _look(self, world_from_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Render colour (H W, 3) float32, depth along z (H, W), and the triangle at each pixel (H W,)."""
        world_from_pixel = world_from_camera[:3, :3] @ np.linalg.inv(self.matrix)
        position = world_from_camera[:3, 3]
        triangle, distance = self._cast_pixels(self.pixels, world_from_pixel, position)
        depth = np.where(triangle >= 0, distance, 0).reshape(self.height, self.width)
        edge = np.flatnonzero(self._edges(triangle))
        around = (self.pixels[edge, None] + SUBSAMPLES).reshape(-1, 2)
        edge_triangle, _ = self._cast_pixels(around, world_from_pixel, position)
        seen = np.zeros(len(self.corners) + 1, bool)
        seen[triangle] = seen[edge_triangle] = True
        seen[-1] = False
        visible = np.flatnonzero(seen)
        found = self._homographies(visible, world_from_pixel, position)
        homographies = np.empty((len(self.corners), found.shape[1]), np.float32)
        homographies[visible] = found
        kind = np.where(self._stretched(triangle, homographies), 1, 0)
        kind[edge] = 2
        plain, inner = np.flatnonzero(kind == 0), np.flatnonzero(kind == 1)
        count = len(SUBSAMPLES)
        inside = (self.pixels[inner, None] + SUBSAMPLES).reshape(-1, 2)
        owners = np.concatenate([triangle[plain], np.repeat(triangle[inner], count), edge_triangle])
        positions = np.concatenate([self.pixels[plain], inside, around])
        share = np.full(len(owners), 1 / count**2, np.float32)
        share[: len(plain)] = 1
        colours = self._shade(owners, positions, share, homographies, world_from_pixel)
        image = np.empty((len(self.pixels), 3), np.float32)
        image[plain] = colours[: len(plain)]
        c = colours[len(plain) :].reshape(-1, count, 3)
        image[np.concatenate([inner, edge])] = (c[:, 0] + c[:, 1] + c[:, 2] + c[:, 3]) / count
        return image, depth, triangle

    def _cast_pixels(
        self, pixels: np.ndarray, world_from_pixel: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        # Rays have unit length along the camera's z, so distance equals depth.
        m = world_from_pixel.astype(np.float32)
        directions = pixels @ m[:, :2].T + m[:, 2]
        return self.cast(np.broadcast_to(position.astype(np.float32), directions.shape), directions)

    def _edges(self, triangle: np.ndarray) -> np.ndarray:
        """Mask of pixels with a neighbour on another surface."""
        surface = np.where(triangle >= 0, self.surface[triangle], -1).reshape(
            self.height, self.width
        )
        edges = np.zeros_like(surface, bool)
        across = surface[:, 1:] != surface[:, :-1]
        edges[:, 1:] |= across
        edges[:, :-1] |= across
        down = surface[1:] != surface[:-1]
        edges[1:] |= down
        edges[:-1] |= down
        return edges.ravel()

    def _texture_planes(self, texels: np.ndarray) -> np.ndarray:
        """Texture coordinates s and t as affine functions of a point in the plane, and the plane equation:
        (n, 3, 4) float64."""
        a, b, c = (self.corners[:, i].astype(np.float64) for i in range(3))
        u, v = b - a, c - a
        normal = np.cross(u, v)
        squared = (normal**2).sum(1, keepdims=True)
        along_u, along_v = np.cross(v, normal) / squared, np.cross(normal, u) / squared
        du, dv = texels[:, 1] - texels[:, 0], texels[:, 2] - texels[:, 0]
        gradient = du[:, :, None] * along_u[:, None] + dv[:, :, None] * along_v[:, None]
        offset = texels[:, 0] - (gradient @ a[:, :, None])[..., 0]
        planes = np.zeros((len(a), 3, 4))
        planes[:, :2, :3], planes[:, :2, 3] = gradient, offset
        planes[:, 2, :3], planes[:, 2, 3] = normal, -(normal * a).sum(1)
        return planes

    def _homographies(
        self, triangles: np.ndarray, world_from_pixel: np.ndarray, position: np.ndarray
    ) -> np.ndarray:
        """Homographies (n, 9) float32 from image position (x, y, 1) to homogeneous texture position.

        The ray position + z d meets the plane n p + e = 0 at z = -(n position + e) / (n d).
        """
        planes = self._planes[triangles]
        gradient, offset = planes[:, :2, :3], planes[:, :2, 3]
        gap = -(planes[:, 2, :3] @ position + planes[:, 2, 3])
        per_direction = planes[:, 2, :3] @ world_from_pixel
        start = gradient @ position + offset
        rows = start[:, :, None] * per_direction[:, None] + gap[:, None, None] * (
            gradient @ world_from_pixel
        )
        homographies = np.concatenate([rows, per_direction[:, None]], 1)
        scale = np.abs(per_direction).max(1) + 1e-12
        return (homographies / scale[:, None, None]).astype(np.float32).reshape(-1, 9)

    def _stretched(self, triangle: np.ndarray, homographies: np.ndarray) -> np.ndarray:
        """Mask of pixels whose footprint on the texture is more than twice as long as wide."""
        stretched = np.zeros(len(triangle), bool)
        solid = np.flatnonzero(triangle >= 0)
        _, _, shorter, longer = self._footprint(homographies[triangle[solid]], self.pixels[solid])
        stretched[solid] = longer > np.maximum(4 * shorter, 1)
        return stretched

    @staticmethod
    def _footprint(
        h: np.ndarray, positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Texture position (s, t), and the shorter and longer texel step of a pixel, squared."""
        x, y = positions[:, 0], positions[:, 1]
        h = np.ascontiguousarray(h.T)
        w = 1 / (h[6] * x + h[7] * y + h[8])
        s = (h[0] * x + h[1] * y + h[2]) * w
        t = (h[3] * x + h[4] * y + h[5]) * w
        step_x = ((h[0] - s * h[6]) ** 2 + (h[3] - t * h[6]) ** 2) * w * w
        step_y = ((h[1] - s * h[7]) ** 2 + (h[4] - t * h[7]) ** 2) * w * w
        return s, t, np.minimum(step_x, step_y), np.maximum(step_x, step_y)

    def _shade(
        self, owners: np.ndarray, positions: np.ndarray, share: np.ndarray,
        homographies: np.ndarray, world_from_pixel: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """Colours (n, 3) at image positions; ``share`` is the squared fraction of the pixel that each covers
        along the longer side of its footprint."""
        colours = np.empty((len(owners), 3), np.float32)
        sky = np.flatnonzero(owners < 0)
        colours[sky] = self._sky_colours(positions[sky], world_from_pixel)
        solid = np.flatnonzero(owners >= 0)
        owner = owners[solid]
        s, t, shorter, longer = self._footprint(homographies[owner], positions[solid])
        blur = np.maximum(shorter, longer * share[solid])
        level = (0.5 * np.log2(np.maximum(blur, 1)) + 0.3).astype(np.int32)
        colours[solid] = self._fetch(self.texture[owner], level, s, t) * self.light[owner, None]
        return colours

    def _sky_colours(self, positions: np.ndarray, world_from_pixel: np.ndarray) -> np.ndarray:
        d = positions @ world_from_pixel[:, :2].T + world_from_pixel[:, 2]
        rows, columns = self.sky.shape[:2]
        elevation = np.arctan2(-d[:, 1], np.hypot(d[:, 0], d[:, 2]))
        row = ((1 - elevation / (np.pi / 2)) * (rows - 1)).clip(0, rows - 1).astype(int)
        column = ((np.arctan2(d[:, 0], d[:, 2]) / (2 * np.pi)) % 1 * columns).astype(int) % columns
        return self.sky[row, column]

    def pack_textures(self, textures: list[np.ndarray]) -> None:
        """Compute the mip levels of all textures, in one flat array; required before rendering."""
        self._levels = 9
        parts, sizes, offsets, total = [], [], [], 0
        for texture in textures:
            level = texture.astype(np.float32)
            for _ in range(self._levels):
                sizes.append(level.shape[:2])
                offsets.append(total)
                parts.append(level.reshape(-1, 3))
                total += len(parts[-1])
                level = _halve(level)
        padded = np.zeros((total, 4), np.float32)
        padded[:, :3] = np.concatenate(parts)
        # One 16-byte element per texel: NumPy gathers these several times faster than short rows.
        self._texels = padded.view(np.complex128).ravel()
        # Columns, rows, start and scales of each level. Starts below 2^24 are exact in float32.
        rows, columns = np.array(sizes, np.float32).T
        full = np.arange(len(sizes)) // self._levels * self._levels
        self._shapes = np.stack(
            [columns, rows, offsets, columns / columns[full], rows / rows[full]], 1
        ).astype(np.float32)

    def _fetch(
        self, texture: np.ndarray, level: np.ndarray, s: np.ndarray, t: np.ndarray
    ) -> np.ndarray:
        """Bilinear, repeating texture lookup at positions in texels of level 0."""
        entry = texture * self._levels + np.minimum(level, self._levels - 1)
        shape = self._shapes.take(entry, axis=0)
        columns, rows, offset = shape[:, 0], shape[:, 1], shape[:, 2].astype(np.int32)
        x = s * shape[:, 3] - 0.5
        y = t * shape[:, 4] - 0.5
        x0, y0 = np.floor(x), np.floor(y)
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]
        left, top = x0 - columns * np.floor(x0 / columns), y0 - rows * np.floor(y0 / rows)
        right = np.where(left + 1 >= columns, 0, left + 1).astype(np.int32)
        bottom = np.where(top + 1 >= rows, 0, top + 1)
        left = left.astype(np.int32)
        upper = offset + (top * columns).astype(np.int32)
        lower = offset + (bottom * columns).astype(np.int32)

        def texels(index: np.ndarray) -> np.ndarray:
            return self._texels.take(index).view(np.float32).reshape(-1, 4)

        above, below = texels(upper + left), texels(lower + left)
        above += (texels(upper + right) - above) * fx
        below += (texels(lower + right) - below) * fx
        above += (below - above) * fy
        return above[:, :3]


def _halve(level: np.ndarray) -> np.ndarray:
    """The next mip level: means of 2x2 texels; odd sides lose their last row or column."""
    for axis in (0, 1):
        length = level.shape[axis]
        if length > 1:
            even, odd = range(0, length - 1, 2), range(1, length, 2)
            level = (level.take(even, axis) + level.take(odd, axis)) / 2
    return level
