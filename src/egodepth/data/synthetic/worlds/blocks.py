"""A town whose streets meet at right angles, driven through in loops, for odometry."""

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np

from egodepth.data.synthetic.rendered import RATE
from egodepth.data.synthetic.worlds import materials, outdoors
from egodepth.data.synthetic.worlds.blueprint import Blueprint
from egodepth.data.synthetic.worlds.houses import house
from egodepth.data.synthetic.worlds.lighting import Daylight, Lights
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.paths import rotation
from egodepth.data.synthetic.worlds.roads import lanes
from egodepth.data.synthetic.worlds.scene import Scene, turn_about_vertical
from egodepth.data.synthetic.worlds.town_route import (
    CRUISE,
    Grid,
    Path,
    draw_route,
    drive_along,
)
from egodepth.data.synthetic.worlds.town_traffic import add_traffic
from egodepth.data.synthetic.worlds.vehicles import vehicle
from egodepth.data.synthetic.worlds.weather import Weather, draw_weather

SMALL, MIDDLE = 1200, 5000
"""Numbers of frames up to which a town has three, and four, streets in each direction; longer drives have
five."""
TEXTURES = 5
"""Different textures of one choice."""
RING, CHAMFER, KERB = 60.0, 4.0, 0.13
"""Metres: depth of the blocks beyond the outer streets; what is cut off the corners of blocks; height of the
pavement."""
OUTSKIRTS, FAR = 120.0, 900.0
"""Metres by which the streets go on beyond the blocks, and to the edge of the ground."""
CORNER = 10.0
"""Metres from the corner of a block without anything at the kerb, for turns."""
DEEP = 9.0
"""Metres that houses around the corner of a block take up of its other side."""
CARS = 9
LIGHTS, MAX_TEXELS = 5, 500_000
"""Number of lights that the sun passes through, and texels of their maps."""
SWAY = 0.7
"""Metres that a tree's leaves stay away from the middle of the lane."""


def blocks(rng: Rng, frames: int) -> Blueprint:
    """Blocks of houses around which the camera drives, in loops to both sides that share streets."""
    size = 3 if frames <= SMALL else 4 if frames <= MIDDLE else 5
    grid = Grid.draw(rng, size)
    path = Path(grid, draw_route(rng, size, 2 + int(1.2 * frames * CRUISE / 52)))
    poses = drive_along(rng, path, frames, rng.uniform(1.3, 2.0))
    scene = Scene()
    p = Palette(scene, rng, TEXTURES)
    _ground(scene, rng, p, grid)
    density = rng.uniform(0.7, 0.95)
    for corners, streets in _blocks_of(grid):
        _block(scene, rng, p, grid, corners, streets, density)
    add_traffic(scene, rng, p, grid, poses, CARS)
    return Blueprint(scene, _weather(rng, frames), poses, rng.uniform(65, 90))


def _weather(rng: Rng, frames: int) -> Weather:
    """Weather by day, in which the sun moves and clouds pass."""
    weather = draw_weather(rng)
    while weather.is_night:
        weather = draw_weather(rng)
    old = weather.lights
    turn = rng.choice([-1, 1]) * np.radians(rng.uniform(40, 90)) / (LIGHTS - 1)
    later = [
        Daylight(
            old.sky * rng.uniform(0.8, 1.2),
            old.sun * rng.uniform(0.5, 1.2),
            rotation(turn * place, 0, 0) @ old.towards_sun,
        )
        for place in range(1, LIGHTS)
    ]
    weather.lights = Lights(
        old.sky, old.sun, old.towards_sun, max_texels=MAX_TEXELS, later=later,
        seconds=max(frames / RATE / (LIGHTS - 1), 1.0),
    )  # fmt: skip
    return weather


def _ground(scene: Scene, rng: Rng, p: Palette, grid: Grid) -> None:
    """Add streets, crossings, and the fields around the town."""
    fields = np.array([(-FAR, 0.3, -FAR), (FAR, 0.3, -FAR), (FAR, 0.3, FAR), (-FAR, 0.3, FAR)])
    grass = p((materials.grass, materials.soil, materials.gravel))
    scene.polygon(fields, fields[:, [0, 2]] / 10, grass, (0, 50, 0))
    reach = grid.half + CHAMFER
    asphalt, stripes = p(materials.asphalt), scene.add_texture(_zebra(rng))
    for x, z in product(grid.xs, grid.zs):
        _flat(scene, x - reach, x + reach, z - reach, z + reach, 0, asphalt, 6, 6)
    surfaces = [scene.add_texture(lanes(rng, 2 * grid.half)) for _ in range(TEXTURES)]
    for across, along, upright in ((grid.xs, grid.zs, True), (grid.zs, grid.xs, False)):
        out = RING + OUTSKIRTS
        for place in across:
            surface = surfaces[rng.integers(TEXTURES)]
            ends = [
                along[0] - out,
                along[0] - out / 2,
                *along,
                along[-1] + out / 2,
                along[-1] + out,
            ]
            for begin, end in pairwise(ends):
                low, high = (v + sign * reach * (v in along) for v, sign in ((begin, 1), (end, -1)))
                left, right = place - grid.half, place + grid.half
                _strip(scene, low, high, left, right, surface, 12.0, upright=upright)
                for crossing, edge, sign in ((begin, low, 1), (end, high, -1)):
                    if crossing in along:
                        near, far = sorted((edge, edge + sign * 2.5))
                        _strip(
                            scene, near, far, left, right, stripes, 2.5, up=0.01, upright=upright
                        )


def _zebra(rng: Rng) -> np.ndarray:
    """A pedestrian crossing, with its stripes along the columns."""
    image = materials.asphalt(rng)
    bars = np.arange(image.shape[1]) % 22 < 11
    image[12:-12, bars] = 0.25 * image[12:-12, bars] + 0.6
    return np.clip(image, 0, 1)


def _strip(
    scene: Scene, begin: float, end: float, left: float, right: float, texture: int,
    tile: float, *, upright: bool, up: float = 0.0,
) -> None:  # fmt: skip
    """Add a piece of street along z (``upright``) or x, the texture's columns across it."""
    corners = [(left, begin), (right, begin), (right, end), (left, end)]
    flat = np.array([(a, -up, b) if upright else (b, -up, a) for a, b in corners])
    far = (end - begin) / tile
    scene.polygon(
        flat, np.array([(0, 0), (1, 0), (1, far), (0, far)]), texture, flat[0] + (0, 1, 0)
    )


def _flat(
    scene: Scene, x0: float, x1: float, z0: float, z1: float, up: float, texture: int,
    wide: float, deep: float,
) -> None:  # fmt: skip
    flat = np.array([(x0, -up, z0), (x1, -up, z0), (x1, -up, z1), (x0, -up, z1)])
    scene.polygon(flat, flat[:, [0, 2]] / (wide, deep), texture, flat[0] + (0, 1, 0))


def _blocks_of(grid: Grid) -> Iterator[tuple[tuple[float, ...], tuple[bool, ...]]]:
    """Bounds (x0, x1, z0, z1) of each block, and which of its sides lie at a street."""

    def spans(lines: np.ndarray) -> list[tuple[float, float, bool, bool]]:
        low = [lines[0] - RING, *(lines + grid.half)]
        high = [*(lines - grid.half), lines[-1] + RING]
        last = len(lines)
        return [(a, b, i > 0, i < last) for i, (a, b) in enumerate(zip(low, high, strict=True))]

    for (x0, x1, west, east), (z0, z1, south, north) in product(spans(grid.xs), spans(grid.zs)):
        yield (x0, x1, z0, z1), (south, east, north, west)


def _block(
    scene: Scene, rng: Rng, p: Palette, grid: Grid, corners: tuple[float, ...],
    streets: tuple[bool, ...], density: float,
) -> None:  # fmt: skip
    """Add a block: pavement, gardens, and what stands along its streets."""
    x0, x1, z0, z1 = corners
    c = CHAMFER
    outline = [(x0 + c, z0), (x1 - c, z0), (x1, z0 + c), (x1, z1 - c),
               (x1 - c, z1), (x0 + c, z1), (x0, z1 - c), (x0, z0 + c)]  # fmt: skip
    scene.prism(outline, 0, KERB, p(materials.concrete), 3.0, p(materials.GROUND))
    w, garden = grid.walk, p((materials.grass, materials.gravel, materials.grass))
    _flat(scene, x0 + w, x1 - w, z0 + w, z1 - w, KERB + 0.02, garden, 8, 8)
    middle = (x0 + x1) / 2, (z0 + z1) / 2
    sides = [(middle[0], z0, 0.0, x1 - x0), (x1, middle[1], -np.pi / 2, z1 - z0),
             (middle[0], z1, np.pi, x1 - x0), (x0, middle[1], np.pi / 2, z1 - z0)]  # fmt: skip
    for number, (x, z, yaw, length) in enumerate(sides):
        if not streets[number]:
            continue
        with scene.placed(x, z, yaw):
            # Houses of the sides along x stand between those of the other two.
            inset = w if number % 2 else w + DEEP
            _houses(scene, rng, p, length - 2 * inset, w, density)
            _at_the_kerb(scene, rng, p, length, grid)
            if rng.random() < 0.8:
                _parked(scene, rng, p, length, rng.uniform(0.2, 0.8))
        _trees(scene, rng, p, grid, (x, z, yaw), length)


def _houses(
    scene: Scene, rng: Rng, p: Palette, length: float, front: float, density: float
) -> None:
    """Add houses and walls along a side of a block, from end to end."""
    s = -length / 2
    while length / 2 - s > 4.5:
        wide = min(rng.uniform(6, 18), length / 2 - s)
        at_end = s == -length / 2 or wide == length / 2 - s
        back = front + (rng.uniform(0, 2.5) if rng.random() < 0.3 and not at_end else 0.0)
        with scene.placed(s + wide / 2, back, 0.0, -KERB):
            if at_end or rng.random() < density:
                house(scene, rng, p, wide - 0.1, rng.uniform(6, DEEP - 0.2))
            else:
                stuff = p(
                    (materials.bricks, materials.planks, materials.foliage, materials.plaster)
                )
                size = (wide, rng.uniform(0.8, 2.5), rng.uniform(0.1, 0.8))
                scene.block(size, stuff, (0, 0, 0.5), 2.5)
        s += wide


def _at_the_kerb(scene: Scene, rng: Rng, p: Palette, length: float, grid: Grid) -> None:
    """Add lamps, signs, benches and people along a side of a block."""
    things = [t for t in outdoors.STREET if t not in (outdoors.tree, outdoors.bush)]
    s, gap = CORNER - length / 2, rng.uniform(5, 12)
    while s < length / 2 - CORNER:
        thing = things[rng.integers(len(things))]
        # The arm of a lamp extends over the road.
        turn = np.pi / 2 if thing is outdoors.lamp_post else np.pi / 2 * rng.choice([-1, 1])
        with scene.placed(s, rng.uniform(0.6, grid.walk - 0.6), turn + rng.normal(0, 0.1), -KERB):
            thing(scene, rng, p)
        s += rng.uniform(0.5, 1.6) * gap


def _parked(scene: Scene, rng: Rng, p: Palette, length: float, share: float) -> None:
    """Add parked cars along a side of a block."""
    s = CORNER + 3 - length / 2
    while s < length / 2 - CORNER - 3:
        if rng.random() < share:
            turn = np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.02)
            with scene.placed(s, -1.1, turn):
                s += vehicle(scene, rng, p)
        s += rng.uniform(1.5, 8.0)


def _trees(
    scene: Scene, rng: Rng, p: Palette, grid: Grid, side: tuple[float, float, float], length: float
) -> None:
    """Add trees and bushes along a side of a block, whose leaves do not reach into the lane."""
    x, z, yaw = side
    s = CORNER - length / 2 + rng.uniform(0, 15)
    while s < length / 2 - CORNER:
        draft, beside = Scene(), rng.uniform(0.8, grid.walk - 0.4)
        radius = (outdoors.tree if rng.random() < 0.7 else outdoors.bush)(draft, rng, p)
        if radius < grid.half - grid.lane + beside - SWAY:
            at = turn_about_vertical(yaw) @ (s, 0, beside)
            scene.append(draft, x + at[0], z + at[2], rng.uniform(0, 2 * np.pi))
        s += rng.uniform(8, 30)
