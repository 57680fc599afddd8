"""Sky, sun and lamps baked into light maps, and a renderer that uses them."""

from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from egodepth.data.synthetic.ray_casting import Renderer
from egodepth.data.synthetic.worlds.scene import STATIC, Scene

SKY_DIRECTIONS = 20
"""Number of directions from which ambient light is sampled."""
MAX_TEXELS = 40_000
"""Maximum number of texels of all light maps of a scene, by default."""
MAX_SIDE = 96
"""Maximum number of texels along a side of a surface's light map."""
LIFT = 0.01
"""Height in metres above a surface at which its rays start."""
BOUNCE = 0.35
"""Light from directions in which the sky is occluded, relative to the sky's."""


@dataclass(frozen=True)
class Daylight:
    """Light of the sky and the sun.

    Attributes:
        sky: (3,) colour and strength of the ambient light.
        sun: (3,) colour and strength of the sun; zeros for none.
        towards_sun: (3,) unit vector towards the sun.
    """

    sky: np.ndarray
    sun: np.ndarray
    towards_sun: np.ndarray

    def until(self, other: "Daylight", share: float) -> "Daylight":
        """The light between this and another one."""
        sky, sun, way = (
            (1 - share) * a + share * b
            for a, b in (
                (self.sky, other.sky),
                (self.sun, other.sun),
                (self.towards_sun, other.towards_sun),
            )
        )
        return Daylight(sky, sun, way / np.linalg.norm(way))


@dataclass
class Lights:
    """Light sources of a scene.

    Attributes:
        sky: (3,) colour and strength of the ambient light.
        sun: (3,) colour and strength of the sun; zeros for none.
        towards_sun: (3,) unit vector towards the sun.
        lamps: position of each lamp, and its colour and strength at one metre.
        reach: distance in metres within which surfaces occlude ambient light.
        texel: size of a light map texel in metres.
        max_texels: maximum number of texels of all light maps; finer maps take seconds.
        later: how the light changes; evenly spaced over the time of the footage.
        seconds: from one light to the next.
    """

    sky: np.ndarray
    sun: np.ndarray
    towards_sun: np.ndarray
    lamps: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    reach: float = 8.0
    texel: float = 0.35
    max_texels: int = MAX_TEXELS
    later: list[Daylight] = field(default_factory=list)
    seconds: float = np.inf

    def course(self) -> list[Daylight]:
        """The light at the beginning, and all later ones."""
        return [Daylight(self.sky, self.sun, self.towards_sun), *self.later]


@dataclass(frozen=True)
class View:
    """A rendered view of a scene.

    Attributes:
        colour: (H, W, 3) float32, linear, at least 0.
        depth: (H, W) float32 along z at the pixel centres, in metres; 0 for sky.
        moving: (H, W) bool, mask of dynamic objects.
    """

    colour: np.ndarray
    depth: np.ndarray
    moving: np.ndarray


class LitRenderer(Renderer):
    """A renderer of a lit scene with moving parts, with one pinhole camera."""

    def __init__(
        self, scene: Scene, sky: np.ndarray, lights: Lights, matrix: np.ndarray, height: int,
        width: int, rng: np.random.Generator,
    ):  # fmt: skip
        """Bake the light maps.

        Args:
            scene: scene to render.
            sky: panorama, see :class:`Renderer`.
            lights: light sources.
            matrix, height, width: camera.
            rng: rotates the directions of the ambient light.
        """
        # Moving triangles come last, so that the static ones keep one acceleration structure.
        order = np.argsort(np.array(scene.part) != STATIC, kind="stable")
        for name in ("corners", "texels", "texture", "surface", "outward", "part"):
            values = getattr(scene, name)
            setattr(scene, name, [values[i] for i in order])
        super().__init__(scene, sky, matrix, height, width)
        edges = np.stack(scene.corners)[:, 1:] - np.stack(scene.corners)[:, :1]
        kept = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) > 1e-9
        self.lights, self.motions = lights, scene.motions
        self.part = np.array(scene.part)[kept]
        self.still = int((self.part == STATIC).sum())
        self.outward = np.stack(scene.outward)[kept]
        self._texel_rows = np.stack(scene.texels)[kept]
        self._rest = self.corners.copy()
        self.scene = EmbreeScene()
        TriangleMesh(self.scene, self.corners[: self.still])
        self._movers: EmbreeScene | None = None
        self._lock = Lock()
        self._textures = scene.textures
        self.pack_textures(scene.textures)
        self._bake(rng)
        self._lit_at: int | None = None
        self._light_up(0.0)
        self._place(0.0)

    def view(self, world_from_camera: np.ndarray, time: float = 0.0) -> View:
        """Render a view at a time in seconds. One thread at a time: what moves has one place."""
        with self._lock:
            self._place(time)
            self._light_up(time)
            image, depth, triangle = self._look(world_from_camera)
            moving = ((triangle >= 0) & (self.part[triangle] != STATIC)).reshape(depth.shape)
            if self._movers is not None and self._day.sun.any():
                self._cast_shadows(image, triangle, depth.ravel(), world_from_camera)
        return View(image.reshape(self.height, self.width, 3), depth.astype(np.float32), moving)

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        triangle, distance = super().cast(origins, directions)
        if self._movers is None:
            return triangle, distance
        hits = self._movers.run(
            np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32),
            output=True,
        )  # fmt: skip
        nearer = (hits["primID"] >= 0) & ((triangle < 0) | (hits["tfar"] < distance))
        return (
            np.where(nearer, hits["primID"] + self.still, triangle),
            np.where(nearer, hits["tfar"], distance),
        )

    def _place(self, time: float) -> None:
        """Move the moving parts to their poses at a time in seconds."""
        if not self.motions:
            return
        for number, motion in enumerate(self.motions):
            own = np.flatnonzero(self.part == number)
            pose = motion(time)
            self.corners[own] = self._rest[own] @ pose[:3, :3].T + pose[:3, 3]
        movers = slice(self.still, None)
        self._movers = EmbreeScene()
        TriangleMesh(self._movers, self.corners[movers])
        texels = self._texel_rows[movers]
        sizes = np.array([t.shape[1::-1] for t in self._textures], float)[self.texture[movers]]
        self._planes[movers] = self._planes_of(self.corners[movers], texels * sizes[:, None])
        self._light_planes[movers] = self._planes_of(
            self.corners[movers], self._light_texels[movers]
        )[:, :2]

    def _light_up(self, time: float) -> None:
        """Set the light of a time in seconds, in whole ones: blending all maps takes milliseconds."""
        if self._lit_at == (second := int(time)):
            return
        self._lit_at = second
        number, share = divmod(second / self.lights.seconds, 1.0)
        first = min(int(number), len(self._course) - 1)
        after = min(first + 1, len(self._course) - 1)
        self._day, light = self._course[first], self._maps[first]
        if after != first and share:
            self._day = self._day.until(self._course[after], share)
            light = light + np.float32(share) * (self._maps[after] - light)
        self._light = light.view(np.complex128).ravel()

    def _cast_shadows(
        self, image: np.ndarray, triangle: np.ndarray, distance: np.ndarray,
        world_from_camera: np.ndarray,
    ) -> None:  # fmt: skip
        """Darken static surfaces in the shadow of moving parts to the sky's share of the light."""
        still = np.flatnonzero((triangle >= 0) & (triangle < self.still))
        m = world_from_camera[:3, :3] @ np.linalg.inv(self.matrix)
        rays = self.pixels[still] @ m[:, :2].T + m[:, 2]
        points = (
            world_from_camera[:3, 3] + rays * distance[still, None] + LIFT * self._day.towards_sun
        )
        assert self._movers is not None
        hits = self._movers.run(
            np.ascontiguousarray(points, np.float32),
            np.ascontiguousarray(np.broadcast_to(self._day.towards_sun, points.shape), np.float32),
            output=True,
        )
        dark = still[hits["primID"] >= 0]
        sky, sun = self._day.sky, self._day.sun
        image[dark] *= sky / (sky + sun * max(0.2, -self._day.towards_sun[1]))

    def _bake(self, rng: np.random.Generator) -> None:
        """Bake the light maps of all surfaces, each over a bounding rectangle in its plane."""
        normal = self.outward / np.linalg.norm(self.outward, axis=1, keepdims=True)
        along = self._rest[:, 1] - self._rest[:, 0]
        surfaces, first = np.unique(self.surface, return_index=True)
        number = np.searchsorted(surfaces, self.surface)
        u = along[first] / np.linalg.norm(along[first], axis=1, keepdims=True)
        v = np.cross(normal[first], u)
        origin = self._rest[first, 0]
        offsets = self._rest - origin[number][:, None]
        a = (offsets * u[number][:, None]).sum(-1)
        b = (offsets * v[number][:, None]).sum(-1)
        low = np.full((len(surfaces), 2), np.inf)
        high = np.full((len(surfaces), 2), -np.inf)
        for values, axis in ((a, 0), (b, 1)):
            np.minimum.at(low[:, axis], number, values.min(1))
            np.maximum.at(high[:, axis], number, values.max(1))
        size = np.maximum(high - low, 1e-3)
        texel = self.lights.texel
        while True:
            cells = np.clip(np.ceil(size / texel).astype(int) + 1, 1, MAX_SIDE)
            cells[(size < texel).all(1)] = 1
            if cells.prod(1).sum() <= self.lights.max_texels:
                break
            texel *= 1.25
        count = cells.prod(1)
        starts = np.concatenate([[0], np.cumsum(count)])
        owner = np.repeat(np.arange(len(surfaces)), count)
        within = np.arange(starts[-1]) - starts[owner]
        column, row = within % cells[owner, 0], within // cells[owner, 0]
        # Texels are sampled at their centres, inside the edges: a sample in a corner gets no light.
        steps = np.stack([(column + 0.5) / cells[owner, 0], (row + 0.5) / cells[owner, 1]], 1)
        spot = low[owner] + steps * size[owner]
        points = origin[owner] + spot[:, :1] * u[owner] + spot[:, 1:] * v[owner]
        self._course = self.lights.course()
        found = self._light_at(points, normal[first][owner], rng)
        # Four numbers per texel, which NumPy gathers faster than three: see pack_textures.
        self._maps = np.ones((len(found), len(points) + 1, 4), np.float32)
        self._maps[:, :-1, :3] = found
        self._cells, self._starts = cells[number], starts[number]
        scale = cells / size
        self._light_texels = np.stack(
            [(a - low[number, :1]) * scale[number, :1], (b - low[number, 1:]) * scale[number, 1:]],
            -1,
        )
        self._light_planes = self._planes_of(self._rest, self._light_texels)[:, :2]

    def _light_at(
        self, points: np.ndarray, normals: np.ndarray, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Light (n, 3) that falls on points, for each light of the course."""
        lights = self.lights
        start = points + LIFT * normals
        facing = np.zeros(len(points))
        open_sky = np.zeros(len(points))
        for direction in _directions(SKY_DIRECTIONS, rng):
            cosine = normals @ direction
            own = np.flatnonzero(cosine > 0.05)
            blocked = self._blocked(start[own], direction, lights.reach)
            facing[own] += cosine[own]
            open_sky[own] += cosine[own] * np.where(blocked, BOUNCE, 1.0)
        ambient = open_sky / np.maximum(facing, 1e-6)
        found = [ambient[:, None] * day.sky for day in self._course]
        for light, day in zip(found, self._course, strict=True):
            if not day.sun.any():
                continue
            cosine = normals @ day.towards_sun
            own = np.flatnonzero(cosine > 0)
            lit = ~self._blocked(start[own], day.towards_sun, np.inf)
            light[own] += (cosine[own] * lit)[:, None] * day.sun
        for place, strength in lights.lamps:
            way = place - points
            gap = np.linalg.norm(way, axis=1)
            way = way / gap[:, None]
            cosine = np.einsum("ij,ij->i", normals, way)
            own = np.flatnonzero((cosine > 0) & (gap < 30))
            triangle, distance = Renderer.cast(self, start[own], way[own])
            lit = (triangle < 0) | (distance > gap[own] - 0.15)
            for light in found:
                light[own] += (cosine[own] * lit / (0.3 + gap[own] ** 2))[:, None] * strength
        return found

    def _blocked(self, start: np.ndarray, direction: np.ndarray, reach: float) -> np.ndarray:
        triangle, distance = Renderer.cast(self, start, np.broadcast_to(direction, start.shape))
        return (triangle >= 0) & (distance < reach)

    def _planes_of(self, corners: np.ndarray, texels: np.ndarray) -> np.ndarray:
        kept, self.corners = self.corners, corners
        try:
            return self._texture_planes(texels)
        finally:
            self.corners = kept

    def _homographies(
        self, triangles: np.ndarray, world_from_pixel: np.ndarray, position: np.ndarray
    ) -> np.ndarray:
        """Homographies of the texture and two rows for the light map, with a common last row: (n, 15)."""
        planes = self._planes[triangles]
        rows = np.concatenate([planes[:, :2], self._light_planes[triangles]], 1)
        gap = -(planes[:, 2, :3] @ position + planes[:, 2, 3])
        per_direction = planes[:, 2, :3] @ world_from_pixel
        at_camera = rows[:, :, :3] @ position + rows[:, :, 3]
        found = at_camera[:, :, None] * per_direction[:, None] + gap[:, None, None] * (
            rows[:, :, :3] @ world_from_pixel
        )
        scale = (np.abs(per_direction).max(1) + 1e-12)[:, None, None]
        ordered = np.concatenate([found[:, :2], per_direction[:, None], found[:, 2:]], 1)
        return (ordered / scale).astype(np.float32).reshape(-1, 15)

    def _shade(
        self, owners: np.ndarray, positions: np.ndarray, share: np.ndarray,
        homographies: np.ndarray, world_from_pixel: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        colours = super()._shade(owners, positions, share, homographies, world_from_pixel)
        solid = np.flatnonzero(owners >= 0)
        colours[solid] *= self._fetch_light(owners[solid], positions[solid], homographies)
        return colours

    def _fetch_light(
        self, owner: np.ndarray, positions: np.ndarray, homographies: np.ndarray
    ) -> np.ndarray:
        """Bilinear lookup in the light maps, (n, 3)."""
        x, y = positions[:, 0], positions[:, 1]
        h = np.ascontiguousarray(homographies[owner, 6:].T)
        w = 1 / (h[0] * x + h[1] * y + h[2])
        columns, rows = self._cells[owner].T
        a = ((h[3] * x + h[4] * y + h[5]) * w - 0.5).clip(0, columns - 1)
        b = ((h[6] * x + h[7] * y + h[8]) * w - 0.5).clip(0, rows - 1)
        left, top = a.astype(np.int32), b.astype(np.int32)
        fa, fb = (a - left)[:, None], (b - top)[:, None]
        right, below = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
        start = self._starts[owner]
        upper, lower = start + top * columns, start + below * columns

        def texels(index: np.ndarray) -> np.ndarray:
            return self._light.take(index).view(np.float32).reshape(-1, 4)

        above = texels(upper + left) * (1 - fa) + texels(upper + right) * fa
        beneath = texels(lower + left) * (1 - fa) + texels(lower + right) * fa
        found: np.ndarray = above * (1 - fb) + beneath * fb
        return found[:, :3].astype(np.float32)


def _directions(count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (count, 3) distributed evenly over the sphere along a spiral, with a random rotation."""
    steps = np.arange(count) + 0.5
    height = 1 - 2 * steps / count
    turn = np.pi * (1 + 5**0.5) * steps + rng.uniform(0, 2 * np.pi)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], 1)
