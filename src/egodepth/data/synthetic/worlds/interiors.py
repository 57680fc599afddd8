"""Indoor worlds."""

import numpy as np

from egodepth.data.synthetic.worlds import materials, palette
from egodepth.data.synthetic.worlds.blueprint import Blueprint
from egodepth.data.synthetic.worlds.furniture import ROOM, STORE
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.outdoors import person
from egodepth.data.synthetic.worlds.palette import Palette, Thing
from egodepth.data.synthetic.worlds.paths import Spine, drive, wander
from egodepth.data.synthetic.worlds.scene import Scene, turn_about_vertical
from egodepth.data.synthetic.worlds.weather import Weather, indoor_light

Size = tuple[float, float, float]
"""Width (x), depth (z) and height in metres."""
ATTEMPTS = 20
"""Positions tried for an object before it is left out."""
CLEARANCE = 0.2
"""Minimum distance in metres between camera and objects."""
MAX_LAMPS = 12
STEPS = 26
"""Number of steps of a flight of stairs."""


def room(rng: Rng, frames: int) -> Blueprint:
    """A furnished room."""
    size = (rng.uniform(3, 8), rng.uniform(3, 8), rng.uniform(2.3, 3.4))
    reach = (0.17 * size[0], 0.25, 0.17 * size[1])
    height, period = rng.uniform(0.8, 1.7), rng.uniform(60, 240)
    look, pitch = rng.choice([0.6, 2.0, 4.0]), rng.uniform(-0.35, 0.05)
    poses = wander(rng, frames, reach, height, period, look, pitch)
    return _furnished(rng, poses, size, ROOM, int(rng.integers(12, 40)), rng.uniform(50, 80))


def corridor(rng: Rng, frames: int) -> Blueprint:
    """A walk along a corridor."""
    size = (rng.uniform(1.4, 3.5), rng.uniform(12, 40), rng.uniform(2.2, 3.5))
    spine = Spine(rng, size[1], 0.0)
    speed = min(rng.uniform(0.05, 0.25), 0.7 * size[1] / frames)
    poses = drive(rng, spine, frames, speed, 0.0, rng.uniform(0.5, 1.7))
    poses[:, 2, 3] -= size[1] * 0.45
    count, fov = int(rng.integers(6, 26)), rng.uniform(50, 90)
    return _furnished(rng, poses, size, (*ROOM, person), count, fov)


def hall(rng: Rng, frames: int) -> Blueprint:
    """A warehouse or workshop."""
    size = (rng.uniform(10, 30), rng.uniform(12, 40), rng.uniform(4, 9))
    reach = (0.25 * size[0], 0.3, 0.25 * size[1])
    height, period = rng.uniform(0.6, 2.5), rng.uniform(200, 500)
    look, pitch = rng.choice([0.6, 3.0]), rng.uniform(-0.2, 0.1)
    poses = wander(rng, frames, reach, height, period, look, pitch)
    return _furnished(rng, poses, size, STORE, int(rng.integers(40, 110)), rng.uniform(50, 90))


def stairs(rng: Rng, frames: int) -> Blueprint:
    """A climb up a flight of stairs."""
    scene = Scene()
    p = Palette(scene, rng)
    tread, rise, wide = rng.uniform(0.26, 0.36), rng.uniform(0.14, 0.2), rng.uniform(1.2, 4)
    stuff = p((materials.concrete, materials.wood, materials.marble, materials.tiles))
    for i in range(STEPS):
        scene.block((wide, (i + 1) * rise, tread), stuff, (0, 0, 1 + (i + 0.5) * tread), 2.0)
    end, top = 1 + STEPS * tread, STEPS * rise
    scene.block((wide, top, 5.0), stuff, (0, 0, end + 2.5), 2.0)
    size = (wide + rng.choice([0.0, 2.0]), end + 11, top + 3.0)
    box_inside(scene, rng, p, size, p(materials.WALL), (end - 1) / 2)
    if rng.random() < 0.6:
        rail = p(materials.metal)
        for i in range(0, STEPS, 2):
            post = (wide / 2 - 0.08, (i + 1) * rise, 1 + (i + 0.5) * tread)
            scene.block((0.03, 0.95, 0.03), rail, post)
    along = np.minimum(rng.uniform(0.02, 0.09) * np.arange(frames), end + 1) - 1.5
    poses = wander(
        rng,
        frames,
        (0.25 * wide, 0.05, 0.0),
        rng.uniform(1.2, 1.7),
        80,
        0.35,
        rng.uniform(-0.4, 0.2),
    )
    # The camera starts facing the stairs.
    facing = poses[0, :3, 2]
    poses[:, :3, :3] = turn_about_vertical(-np.arctan2(facing[0], facing[2])) @ poses[:, :3, :3]
    poses[:, 2, 3] += along
    poses[:, 1, 3] -= np.clip((along - 1) / tread, 0, STEPS) * rise
    weather = indoor_light(rng)
    for share in (0.05, 0.5, 0.95):
        place = np.array([0, -(top * share + 2.6), end * share])
        weather.lights.lamps.append((place, np.ones(3) * rng.uniform(2, 5)))
    return Blueprint(scene, weather, poses, rng.uniform(50, 80))


def box_inside(
    scene: Scene, rng: Rng, p: Palette, size: Size, wall: int, middle: float = 0.0
) -> None:
    """Add floor, ceiling and walls, seen from inside, centred at z = ``middle``."""
    wide, deep, high = size
    w, d = wide / 2, deep / 2
    tops = (materials.plaster, materials.plaster, materials.tiles, materials.planks)
    tile = rng.uniform(1.0, 3.0)
    for up, texture, behind in ((0.0, p(materials.FLOOR), 5.0), (high, p(tops), -5.0)):
        face = np.array(
            [
                (-w, -up, middle - d),
                (w, -up, middle - d),
                (w, -up, middle + d),
                (-w, -up, middle + d),
            ]
        )
        scene.polygon(face, face[:, [0, 2]] / tile, texture, (0, -up + behind, middle))
    other = p(materials.WALL) if rng.random() < 0.3 else wall
    for x, z, texture in ((0, 1, wall), (0, -1, wall), (1, 0, other), (-1, 0, wall)):
        long = wide if z else deep
        foot = np.array([x * w, 0, z * d + middle])
        along = np.array([abs(z), 0, abs(x)]) * long / 2
        top = foot - (0, high, 0)
        face = np.stack([top - along, top + along, foot + along, foot - along])
        texels = np.array([(0, 0), (long, 0), (long, high), (0, high)]) / rng.uniform(1.5, 3.0)
        scene.polygon(face, texels, texture, foot + np.array([5 * x, -1, 5 * z]))


def _furnished(
    rng: Rng, poses: np.ndarray, size: Size, choices: tuple[Thing, ...], count: int, fov: float
) -> Blueprint:
    """A box-shaped room with objects that keep clear of the camera's path."""
    scene = Scene()
    p = Palette(scene, rng)
    box_inside(scene, rng, p, size, p(materials.WALL))
    way = poses[:: max(1, len(poses) // 60), :3, 3][:, [0, 2]]
    # Middle and length of each wall, and the yaw of objects that stand against it.
    wide, deep, _ = size
    walls = [(0.0, deep / 2, wide, 0.0), (0.0, -deep / 2, wide, np.pi),
             (wide / 2, 0.0, deep, np.pi / 2), (-wide / 2, 0.0, deep, -np.pi / 2)]  # fmt: skip
    taken: list[tuple[float, float, float]] = []
    for _ in range(count):
        draft = Scene()
        draft.textures = scene.textures
        radius = choices[rng.integers(len(choices))](draft, rng, p)
        wall = walls[rng.integers(4)] if rng.random() < 0.65 else None
        for _ in range(ATTEMPTS):
            x, z, yaw = _spot(rng, size, wall, radius)
            clear = np.hypot(way[:, 0] - x, way[:, 1] - z).min() > radius + CLEARANCE
            free = all(np.hypot(x - a, z - b) > 0.75 * (radius + r) for a, b, r in taken)
            if clear and free:
                taken.append((x, z, radius))
                scene.append(draft, x, z, yaw)
                break
    for wall in walls:
        _decorate(scene, rng, p, wall, size[2])
    weather = indoor_light(rng)
    _hang_lamps(scene, rng, p, weather, size)
    return Blueprint(scene, weather, poses, fov)


def _spot(
    rng: Rng, size: Size, wall: tuple[float, float, float, float] | None, radius: float
) -> tuple[float, float, float]:
    """Draw x, z and yaw of an object: against a wall, or anywhere."""
    if wall is None:
        x, z = rng.uniform(-0.45, 0.45, 2) * size[:2]
        return x, z, rng.uniform(0, 2 * np.pi)
    x, z, long, yaw = wall
    shift = rng.uniform(-0.5, 0.5) * max(0.1, long - 2 * radius)
    back = min(radius * 0.75, 0.6) + 0.05
    c, s = np.cos(yaw), np.sin(yaw)
    return x + shift * c - back * s, z - shift * s - back * c, yaw


def _decorate(
    scene: Scene, rng: Rng, p: Palette, wall: tuple[float, float, float, float], high: float
) -> None:
    """Add pictures, a door or a window to a wall."""
    x, z, long, yaw = wall
    with scene.placed(x, z, yaw, inner=(0, -1, 1)):
        for _ in range(rng.integers(0, 4)):
            w, h = rng.uniform(0.3, 1.4), rng.uniform(0.3, 1.2)
            at = (
                rng.uniform(-0.42, 0.42) * (long - w),
                rng.uniform(0.8, max(0.9, high - h - 0.2)),
                -0.03,
            )
            scene.panel(w, h, p((materials.poster, materials.mosaic, materials.wood)), at)
        if rng.random() < 0.4:
            at = (rng.uniform(-0.4, 0.4) * (long - 1), 0, -0.02)
            scene.panel(0.9, 2.05, p((materials.wood, materials.paint)), at)
        if rng.random() < 0.35:
            w, h = rng.uniform(0.8, 2.0), rng.uniform(0.8, 1.4)
            shift = rng.uniform(-0.35, 0.35) * max(0.1, long - w)
            scene.panel(w + 0.12, h + 0.12, p(materials.paint), (shift, 0.84, -0.02))
            scene.panel(w, h, p(palette.window), (shift, 0.9, -0.025))


def _hang_lamps(scene: Scene, rng: Rng, p: Palette, weather: Weather, size: Size) -> None:
    """Add lamps in a grid below the ceiling."""
    wide, deep, high = size
    spacing = rng.uniform(2.5, 6)
    tint = np.array([1.0, rng.uniform(0.8, 1.0), rng.uniform(0.6, 1.05)])
    strength = rng.uniform(0.5, 1.3) * high**1.3 * tint
    for x in np.arange(-wide / 2 + min(spacing, wide) / 2, wide / 2, spacing):
        for z in np.arange(-deep / 2 + min(spacing, deep) / 2, deep / 2, spacing):
            if len(weather.lights.lamps) == MAX_LAMPS:
                return
            place = np.array([x, -(high - 0.35), z]) + rng.normal(0, 0.1, 3)
            weather.lights.lamps.append((place, strength))
            scene.block((0.5, 0.05, 0.5), p(palette.white), (x, high - 0.06, z))
