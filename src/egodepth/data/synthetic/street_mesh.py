"""Triangles, textures and lighting of the synthetic street."""

import itertools

import numpy as np
from numpy.typing import ArrayLike

from egodepth.data.synthetic import textures as paint
from egodepth.data.synthetic.ray_casting import Renderer, SceneMesh, Vector

KERB, BUILDING_LINE, LANE, PATH_EDGE = 6.0, 9.0, 1.75, 13.0
"""Metres from the middle of a street."""
KERB_HEIGHT = 0.15
"""Height in metres of the pavement above the road (y = 0)."""
GROUND_DENSITY, FACADE_DENSITY = 16, 20
"""Texture pixels per metre."""


class Baked(list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]):
    """Quads whose own textures include baked lighting: (texture, origin, right, down)."""

    def quad(
        self, mesh: SceneMesh, origin: Vector, right: Vector, down: Vector,
        texture: np.ndarray,
    ) -> None:  # fmt: skip
        index = mesh.add_texture(texture)
        mesh.quad(origin, right, down, index)
        self.append((index, np.array(origin, float), np.array(right, float), np.array(down, float)))


def build_street(rng: np.random.Generator, mesh: SceneMesh, reach: float) -> Baked:
    """Fill ``mesh`` with a crossroads whose arms are ``reach`` metres long."""
    baked = Baked()
    shared = {
        "leaves": [mesh.add_texture(paint.leaves(rng)) for _ in range(3)],
        "metal": [mesh.add_texture(paint.plain(rng, (0.35, 0.37, 0.38)))],
        "bark": [mesh.add_texture(paint.plain(rng, (0.30, 0.24, 0.18), 0.15))],
        "tyre": [mesh.add_texture(paint.plain(rng, (0.06, 0.06, 0.06)))],
        "glass": [mesh.add_texture(paint.plain(rng, (0.13, 0.16, 0.19), 0.02))],
        "kerb": [mesh.add_texture(paint.plain(rng, (0.50, 0.50, 0.48), 0.05, 64))],
        "wall": [
            mesh.add_texture(paint.wall(rng, 96, 96, (0.6, 0.55, 0.5), i == 0)) for i in range(3)
        ],
    }
    size = round(2 * KERB * GROUND_DENSITY)
    baked.quad(
        mesh, (-KERB, 0, KERB), (2 * KERB, 0, 0), (0, 0, -2 * KERB), paint.asphalt(rng, size, size)
    )
    for arm in range(4):
        _arm(rng, mesh, baked, shared, reach, np.round(_turn(arm)).astype(float))
    return baked


def _turn(quarters: int) -> np.ndarray:
    """Rotation about the vertical axis by quarter turns."""
    c, s = np.cos(quarters * np.pi / 2), np.sin(quarters * np.pi / 2)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _arm(
    rng: np.random.Generator, mesh: SceneMesh, baked: Baked, shared: dict[str, list[int]],
    reach: float, turn: np.ndarray,
) -> None:  # fmt: skip
    """Build one arm of the crossroads along +z and rotate it into place."""
    length = reach - KERB
    first = len(mesh.corners)
    started = len(baked)
    road = paint.asphalt(rng, round(length * GROUND_DENSITY), round(2 * KERB * GROUND_DENSITY))
    _mark_lanes(road)
    baked.quad(mesh, (-KERB, 0, reach), (2 * KERB, 0, 0), (0, 0, -length), road)
    for side in (-1, 1):
        _roadside(rng, mesh, baked, shared, reach, side)
    end = paint.facade(rng, 12, 2 * PATH_EDGE, FACADE_DENSITY)
    baked.quad(mesh, (-PATH_EDGE, -12, reach), (2 * PATH_EDGE, 0, 0), (0, 12, 0), end)
    mesh.corners[first:] = np.stack(mesh.corners[first:]) @ turn.T
    for i in range(started, len(baked)):
        index, *vectors = baked[i]
        baked[i] = (index, *(turn @ vector for vector in vectors))


def _mark_lanes(road: np.ndarray) -> None:
    """Draw dashes along the middle, a line at each parking lane, and a stop line at the crossing (last row)."""
    rows, columns = road.shape[:2]
    paint_colour = np.array([0.80, 0.80, 0.76])
    on = (np.arange(rows) // (3 * GROUND_DENSITY)) % 2 == 0
    middle = columns // 2
    road[on, middle - 1 : middle + 1] = paint_colour
    for offset in (3.7, -3.7):
        column = middle + round(offset * GROUND_DENSITY)
        road[:, column : column + 2] = 0.7 * paint_colour + 0.3 * road[:, column : column + 2]
    stop = rows - 2 * GROUND_DENSITY
    road[stop : stop + GROUND_DENSITY // 2, middle - round(3.5 * GROUND_DENSITY) : middle] = (
        paint_colour
    )


def _roadside(
    rng: np.random.Generator, mesh: SceneMesh, baked: Baked, shared: dict[str, list[int]],
    reach: float, side: int,
) -> None:  # fmt: skip
    start = KERB if side > 0 else PATH_EDGE
    density = 12
    rows, columns = round((reach - start) * density), round((PATH_EDGE - KERB) * density)
    slabs = paint.pavement(rng, rows, columns, slab=density // 2)
    baked.quad(mesh, (side * KERB, -KERB_HEIGHT, reach), (side * (PATH_EDGE - KERB), 0, 0),
               (0, 0, -(reach - start)), slabs)  # fmt: skip
    kerb = shared["kerb"][0]
    corner, down = (side * KERB, -KERB_HEIGHT, KERB), (0, KERB_HEIGHT, 0)
    mesh.quad(corner, (0, 0, reach - KERB), down, kerb, (reach, 1))
    mesh.quad(corner, (side * 7, 0, 0), down, kerb, (7, 1))
    _houses(rng, mesh, baked, shared, reach, side)
    z = KERB + rng.uniform(4, 9)
    while z < reach - 7:
        if rng.random() < 0.72:
            _car(rng, mesh, shared, side * rng.uniform(4.7, 4.95), z, int(rng.choice([-1, 1])))
        z += rng.uniform(5.2, 7.5)
    z = KERB + rng.uniform(2, 6)
    while z < reach - 3:
        kind = rng.random()
        x = side * (KERB + rng.uniform(0.5, 0.8))
        if kind < 0.45:
            _tree(rng, mesh, shared, side * (KERB + 1.0), z)
        elif kind < 0.75:
            _lamp(mesh, shared, x, z, side)
        elif kind < 0.9:
            mesh.box((x - 0.2, -1.25, z), (x + 0.2, -KERB_HEIGHT, z + 0.5), shared["metal"][0])
        z += rng.uniform(5, 11)


def _houses(
    rng: np.random.Generator, mesh: SceneMesh, baked: Baked, shared: dict[str, list[int]],
    reach: float, side: int,
) -> None:  # fmt: skip
    z = BUILDING_LINE
    while z < reach - 2:
        corner = z == BUILDING_LINE
        width = min(rng.uniform(9 if corner else 7, 16), reach - z)
        height = 9.0 if corner else rng.uniform(5.5, 15)
        x = BUILDING_LINE + (rng.uniform(0, 1.5) if rng.random() < 0.4 and not corner else 0.0)
        kind = rng.random()
        if kind < 0.10 and not corner:
            hedge = 1.0 + rng.uniform(0, 1)
            mesh.box((min(side * x, side * (x + 1)), -hedge, z), (max(side * x, side * (x + 1)), 0, z + width),
                     shared["leaves"][0], 1.6)  # fmt: skip
            _tree(rng, mesh, shared, side * (x + 2.5), z + width / 2)
        else:
            if kind < 0.32:
                texture = paint.blank_wall(rng, round(height * 6), round(width * 6))
            else:
                texture = paint.facade(rng, height, width, FACADE_DENSITY)
            far, near = (z, z + width) if side < 0 else (z + width, z)
            baked.quad(mesh, (side * x, -height, near), (0, 0, far - near), (0, height, 0), texture)
            flank = shared["wall"][rng.integers(3)]
            # The first house of each arm stands at the corner; the next arm builds its other side.
            # Side walls of neighbours are 4 cm apart, since coinciding faces flicker.
            for edge in (z + width - 0.02,) if corner else (z + 0.02, z + width - 0.02):
                mesh.quad(
                    (side * x, -height, edge),
                    (side * 9, 0, 0),
                    (0, height, 0),
                    flank,
                    (2, height / 4),
                )
            mesh.quad((side * x, -height, z), (side * 9, 0, 0), (0, 0, width), flank)
        z += width + (rng.uniform(1.5, 4) if rng.random() < 0.25 else 0.0)


def _car(
    rng: np.random.Generator,
    mesh: SceneMesh,
    shared: dict[str, list[int]],
    x: float,
    z: float,
    way: int,
) -> None:
    """Build a parked car: an extruded outline with a cabin that tapers towards the roof."""
    colour = paint.CAR_PAINT[rng.integers(len(paint.CAR_PAINT))]
    side_texture = mesh.add_texture(paint.car_side(rng, colour))
    body = mesh.add_texture(paint.plain(rng, colour, 0.02))
    glass, tyre = shared["glass"][0], shared["tyre"][0]
    tall = rng.uniform(0.95, 1.2)
    outline = np.array([(0.0, 0.3), (0.04, 0.9), (0.3, 0.98), (0.75, 1.40), (2.55, 1.45),
                        (3.15, 0.98), (4.15, 0.84), (4.28, 0.55), (4.3, 0.3)])  # fmt: skip
    outline[:, 1] *= tall
    belt, half, length = 0.96 * tall, 0.87, 4.3

    def place(outline: ArrayLike, across: ArrayLike) -> np.ndarray:
        """Corners of points (along, up)."""
        along, up = np.moveaxis(np.asarray(outline, float), -1, 0)
        inset = np.maximum(0.0, up - belt) * 0.4
        sideways = x + np.asarray(across) * (half - inset)
        return np.stack([sideways, -up, z + way * (along - length / 2)], axis=-1)

    covers = [body, body, glass, body, glass, body, body, body]
    for (a0, u0), (a1, u1), cover in zip(outline[:-1], outline[1:], covers, strict=True):
        roof = place([(a0, u0), (a1, u1), (a1, u1), (a0, u0)], (-1, -1, 1, 1))
        mesh.polygon(roof, np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), cover)
        for across in (-1.0, 1.0):
            low0, low1 = min(u0, belt), min(u1, belt)
            bands = [((a0, 0.25), (a1, 0.25), (a1, low1), (a0, low0))]
            if max(u0, u1) > belt:
                bands.append(((a0, low0), (a1, low1), (a1, u1), (a0, u0)))
            for band in bands:
                texels = np.array([(a / length, 1 - u / (1.45 * tall)) for a, u in band])
                mesh.polygon(place(band, across), texels, side_texture)
    for along in (0.82, 3.45):
        turns = np.arange(10) * 2 * np.pi / 10
        rim = np.stack([along + 0.32 * np.cos(turns), 0.32 + 0.32 * np.sin(turns)], 1)
        for across in (-1.02, 1.02):
            mesh.polygon(place(rim, across), rim, tyre)
            hub = np.array([along, 0.32]) + 0.55 * (rim - [along, 0.32])
            mesh.polygon(place(hub, across * 1.01), rim, shared["metal"][0])
        treads = np.stack([rim, np.roll(rim, 1, 0), np.roll(rim, 1, 0), rim], axis=1)
        for tread in place(treads, (-1.02, -1.02, 1.02, 1.02)):
            mesh.polygon(tread, np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), tyre)


def _tree(
    rng: np.random.Generator, mesh: SceneMesh, shared: dict[str, list[int]], x: float, z: float
) -> None:
    """Build a tree: a trunk and a crown of a few lumpy balls."""
    height = rng.uniform(2.2, 3.0)
    _prism(mesh, x, z, 0.13, 0.15, height + 0.8, shared["bark"][0])
    leaves = shared["leaves"][rng.integers(3)]
    for _ in range(rng.integers(3, 6)):
        centre = np.array([x, -height - 1.0, z]) + rng.uniform(-0.8, 0.8, 3)
        _ball(rng, mesh, centre, rng.uniform(0.8, 1.5), leaves)


def _ball(
    rng: np.random.Generator, mesh: SceneMesh, centre: np.ndarray, radius: float, texture: int
) -> None:
    rings, segments = 7, 10
    tilt, turn = np.linspace(0, np.pi, rings), np.arange(segments + 1) * 2 * np.pi / segments
    lumps = radius * rng.uniform(0.75, 1.15, (rings, segments + 1, 1))
    lumps[:, -1] = lumps[:, 0]
    points = np.stack([np.outer(np.sin(tilt), np.cos(turn)), np.outer(np.cos(tilt), np.ones_like(turn)),
                       np.outer(np.sin(tilt), np.sin(turn))], -1) * lumps + centre  # fmt: skip
    points[0], points[-1] = points[0, 0], points[-1, 0]
    start = rng.random(2)
    ring, segment = (places.reshape(-1, 1) for places in np.mgrid[: rings - 1, :segments])
    # Two triangles of each patch.
    i, j = ring + np.array([0, 0, 1, 0, 1, 1]), segment + np.array([0, 1, 1, 0, 1, 0])
    texels = start + np.stack([j, i], -1) / 8
    mesh.facets(points[i, j].reshape(-1, 3, 3), texels.reshape(-1, 3, 2), texture)


def _lamp(mesh: SceneMesh, shared: dict[str, list[int]], x: float, z: float, side: int) -> None:
    metal = shared["metal"][0]
    _prism(mesh, x, z, 0.07, 0.0, 5.5, metal)
    reach = sorted((x, x - side * 1.4))
    mesh.box((reach[0], -5.55, z - 0.05), (reach[1], -5.45, z + 0.05), metal)
    mesh.box((reach[0] - 0.1, -5.5, z - 0.12), (reach[0] + 0.5, -5.38, z + 0.12), metal)


def _prism(
    mesh: SceneMesh, x: float, z: float, radius: float, bottom: float, top: float, texture: int
) -> None:
    turns = np.arange(7) * 2 * np.pi / 6
    rim = np.stack([x + radius * np.cos(turns), np.zeros(7), z + radius * np.sin(turns)], 1)
    for a, b in itertools.pairwise(rim):
        mesh.quad(a - (0, top, 0), b - a, np.array([0, top - bottom, 0]), texture, (0.2, top))


def paint_light(renderer: Renderer, mesh: SceneMesh, baked: Baked, sun: np.ndarray) -> None:
    """Bake sunlight and shadows into the baked textures; every other triangle gets a single brightness."""
    for index, origin, right, down in baked:
        texture = mesh.textures[index]
        rows = max(2, round(float(np.linalg.norm(down)) * 4))
        columns = max(2, round(float(np.linalg.norm(right)) * 4))
        t, s = np.mgrid[:rows, :columns].reshape(2, -1)
        points = (
            origin + ((s + 0.5) / columns)[:, None] * right + ((t + 0.5) / rows)[:, None] * down
        )
        lit = _sunlight(renderer, points, np.cross(right, down), sun).reshape(rows, columns)
        lit = paint.resize(lit, *texture.shape[:2])
        mesh.textures[index] = np.clip(texture * lit[..., None], 0, 1).astype(np.float32)
    corners = renderer.corners
    edges = corners[:, 1:] - corners[:, :1]
    light = _sunlight(renderer, corners.mean(1), np.cross(edges[:, 0], edges[:, 1]), sun)
    own_light = np.isin(renderer.texture, [index for index, *_ in baked])
    renderer.light = np.where(own_light, 1, light).astype(np.float32)
    renderer.pack_textures(mesh.textures)


def _sunlight(
    renderer: Renderer, points: np.ndarray, normals: np.ndarray, sun: np.ndarray
) -> np.ndarray:
    """Brightness of points on two-sided faces, from sky, sun and shadow."""
    normals = np.broadcast_to(normals, points.shape)
    facing = normals @ sun / (np.linalg.norm(normals, axis=1) + 1e-12)
    triangle, _ = renderer.cast(points + 0.02 * sun, np.broadcast_to(sun, points.shape))
    return 0.55 + 0.65 * np.abs(facing) * (triangle < 0)
