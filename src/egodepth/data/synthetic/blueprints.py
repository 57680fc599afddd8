"""The kinds of worlds: each draws a scene, its light and a way through it from a random generator."""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from egodepth.data.synthetic import materials, things
from egodepth.data.synthetic.lighting import Lights
from egodepth.data.synthetic.materials import Rng
from egodepth.data.synthetic.paths import Spine, drive, wander
from egodepth.data.synthetic.scene import Scene
from egodepth.data.synthetic.things import Palette

RATE = 10.0
"""Frames per second."""


@dataclass
class Blueprint:
    """A world before it is drawn.

    Attributes:
        scene, lights: what is there.
        sky: panorama, see :class:`~egodepth.data.synthetic.ray_casting.Renderer`.
        poses: (N, 4, 4) world_from_camera.
        fov: horizontal field of view, degrees.
        haze: metres at which two thirds of the light are the haze's; infinite for none.
        haze_colour: (3,).
        night: whether the camera is short of light.
    """

    scene: Scene
    lights: Lights
    sky: np.ndarray
    poses: np.ndarray
    fov: float
    haze: float = np.inf
    haze_colour: np.ndarray = field(default_factory=lambda: np.array([0.75, 0.78, 0.82]))
    night: bool = False


def town(rng: Rng, frames: int) -> Blueprint:
    """A street between houses."""
    return _road(rng, frames, houses=rng.uniform(0.5, 1.0), width=rng.uniform(5.5, 11), bend=rng.choice([0.0, 0.012, 0.035]),
                 hills=0.0, speed=rng.uniform(0.2, 0.9), traffic=rng.uniform(0, 1.5), kerb=0.13)  # fmt: skip


def country(rng: Rng, frames: int) -> Blueprint:
    """A road through fields and woods."""
    return _road(rng, frames, houses=rng.choice([0.0, 0.1]), width=rng.uniform(4, 8), bend=rng.uniform(0.0, 0.02),
                 hills=rng.uniform(0, 0.05), speed=rng.uniform(0.4, 1.6), traffic=rng.uniform(0, 0.6), kerb=0.0)  # fmt: skip


def motorway(rng: Rng, frames: int) -> Blueprint:
    """A wide road with barriers, on which cars drive about as fast as the camera."""
    return _road(rng, frames, houses=0.0, width=rng.uniform(12, 20), bend=rng.uniform(0, 0.004), hills=rng.uniform(0, 0.02),
                 speed=rng.uniform(1.0, 2.5), traffic=rng.uniform(0.5, 3), kerb=0.0, barriers=True)  # fmt: skip


def _road(
    rng: Rng, frames: int, *, houses: float, width: float, bend: float, hills: float, speed: float,
    traffic: float, kerb: float, barriers: bool = False,
) -> Blueprint:  # fmt: skip
    scene = Scene()
    p = Palette(scene, rng)
    ahead = 140.0 if houses else 200.0
    spine = Spine(rng, frames * speed * 1.3 + ahead, bend, hills)
    lane = width * (0.25 if width < 12 else rng.choice([0.125, 0.375])) * rng.choice([-1, 1])
    poses = drive(rng, spine, frames, speed, lane, rng.uniform(1.1, 2.2))
    half = width / 2
    road = scene.add_texture(_lanes(rng, width))
    verge = p(materials.GROUND if houses else (materials.grass, materials.soil, materials.grass))
    field_ = p((materials.grass, materials.soil, materials.gravel))
    walk = rng.uniform(1.5, 4.0) if houses else rng.uniform(1.0, 6.0)
    step = 6.0
    strips = [(-half, half, 0.0, 0.0, road, width, 12.0)]
    for side in (-1, 1):
        strips += [
            (side * half, side * half, 0.0, kerb, p(materials.concrete), 1.0, 4.0),
            (side * half, side * (half + walk), kerb, kerb + (0 if houses else rng.uniform(-0.3, 0.3)), verge, 3.0, 3.0),
            (side * (half + walk), side * (half + walk + 30), kerb, kerb + (0 if houses else rng.uniform(-2, 4)), field_, 8.0, 8.0),
        ]  # fmt: skip
    for s in np.arange(-24.0, spine.length, step):
        ends = (s, min(s + step, spine.length))
        for left, right, low, high, texture, across_m, along_m in strips:
            if left == right and high == low:
                continue
            points, texels = [], []
            for place in ends:
                for offset, up in ((left, low), (right, high)):
                    x, z, base, _ = spine.at(place, offset)
                    points.append((x, -(base + up), z))
                    across = (offset - left) / across_m if left != right else up / across_m
                    texels.append((across, -place / along_m))
            order = [0, 1, 3, 2]
            below = np.mean(points, 0) + (0.0, 5.0, 0.0)
            if left == right:
                below = np.array(points).mean(0) + np.sign(left) * np.array(
                    [np.cos(spine.at(s)[3]), 0.5, -np.sin(spine.at(s)[3])]
                )
            scene.polygon(np.array(points)[order], np.array(texels)[order], texture, below)
    far = 900.0
    base = np.array([(-far, 3.0, -far), (far, 3.0, -far), (far, 3.0, far), (-far, 3.0, far)])
    scene.polygon(base, base[:, [0, 2]] / 10, field_, (0, 50, 0))
    for side in (-1, 1):
        if houses:
            _row_of_houses(scene, rng, p, spine, side, half + walk, houses)
        elif barriers or rng.random() < 0.25:
            _barrier(scene, rng, p, spine, side * (half + 0.4))
        s = float(rng.uniform(-20, 0))
        gap = rng.uniform(4, 14)
        while s < spine.length:
            choices = (
                things.STREET
                if houses
                else (things.tree, things.bush, things.tree, things.sign, things.tree)
            )
            thing = choices[rng.integers(len(choices))]
            offset = half + (
                rng.uniform(0.5, max(0.6, walk - 0.4))
                if houses
                else walk + rng.uniform(0, 12) ** 1.2
            )
            x, z, up, yaw = spine.at(s, side * offset)
            turn = (
                yaw
                + (np.pi if side > 0 else 0) * (thing is things.lamp_post)
                + (rng.normal(0, 0.2))
            )
            with scene.placed(x, z, turn, -(up + kerb)):
                thing(scene, rng, p)
            s += rng.uniform(0.4, 1.6) * gap
        if houses and width > 6 and rng.random() < 0.75:
            s = float(rng.uniform(-20, 0))
            dense = rng.uniform(0.3, 0.95)
            while s < spine.length:
                if rng.random() < dense:
                    x, z, up, yaw = spine.at(s, side * (half - 1.1))
                    with scene.placed(
                        x, z, yaw + np.pi * (rng.random() < 0.5) + rng.normal(0, 0.02), -up
                    ):
                        things.car(scene, rng, p)
                s += rng.uniform(5.2, 8.0)
    _traffic(scene, rng, p, spine, width, traffic, speed, lane, frames)
    look = _weather(rng, indoors=False)
    if look["night"]:
        for s in np.arange(0.0, spine.length, 28.0):
            x, z, up, _ = spine.at(s, half + 0.5)
            look["lights"].lamps.append(
                (np.array([x, -(up + 6.0), z]), np.array([16.0, 13.0, 8.0]))
            )
    return Blueprint(scene, poses=poses, fov=rng.uniform(50, 95), **look)


def _lanes(rng: Rng, width: float) -> np.ndarray:
    """A road surface with markings, rows along the road: 12 m a tile, columns across its whole width."""
    choices = (materials.asphalt, materials.asphalt, materials.asphalt, materials.concrete)
    fine = np.tile(materials.pick(rng, choices), (2, max(1, round(width / 6)), 1))
    image = cv2.resize(fine, (256, 384), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.85:
        mark = np.float32(rng.uniform(0.55, 0.9)) * np.array(
            [1, 1, rng.choice([1.0, 0.6], p=[0.85, 0.15])], np.float32
        )
        stroke = max(1, round(0.13 / width * 256))
        lanes = max(2, round(width / 3.6))
        for line in range(lanes + 1):
            edge = line in (0, lanes)
            column = int(np.clip(line / lanes * 256, 3, 252 - stroke)) + (
                rng.integers(0, 4) if edge else 0
            )
            rows = (
                slice(None)
                if edge or rng.random() < 0.2
                else slice(0, int(384 * rng.uniform(0.25, 0.6)))
            )
            if not edge or rng.random() < 0.7:
                patch = image[rows, column : column + stroke]
                image[rows, column : column + stroke] = 0.2 * patch + 0.8 * mark
    for column in rng.integers(20, 236, 2):
        image[:, column - 8 : column + 8] *= rng.uniform(0.85, 1.1)
    return np.clip(image, 0, 1)


def _row_of_houses(
    scene: Scene, rng: Rng, p: Palette, spine: Spine, side: int, offset: float, density: float
) -> None:
    s = -22.0
    while s < spine.length:
        wide, deep = rng.uniform(5, 18), rng.uniform(6, 10)
        kind = rng.random()
        back = offset + (rng.uniform(0, 4) if rng.random() < 0.4 else 0.0)
        x, z, up, yaw = spine.at(s + wide / 2, side * back)
        # In its own frame a house looks to -z, towards the road.
        with scene.placed(x, z, yaw + side * np.pi / 2, -up):
            if kind < density:
                house(scene, rng, p, wide - 0.1, deep)
            elif kind < density + 0.2:
                high = rng.uniform(0.8, 2.5)
                stuff = p(
                    (
                        materials.bricks,
                        materials.planks,
                        materials.foliage,
                        materials.plaster,
                        materials.metal,
                    )
                )
                scene.block((wide, high, rng.uniform(0.1, 0.8)), stuff, (0, 0, 0.5), 2.5)
            else:
                for _ in range(rng.integers(0, 4)):
                    with scene.placed(rng.uniform(-0.5, 0.5) * wide, rng.uniform(1, 8)):
                        (things.tree if rng.random() < 0.7 else things.bush)(scene, rng, p)
        s += wide + (rng.uniform(0, 6) if rng.random() < 0.3 else 0)


def house(scene: Scene, rng: Rng, p: Palette, wide: float, deep: float) -> None:
    """A house that looks to -z from z = 0, with a flat or a gabled roof, a door, perhaps a shop."""
    storeys = int(rng.choice([1, 2, 2, 3, 4, 5, 7]))
    high, stuff = 3.0 * storeys + rng.uniform(0, 1), p(materials.HOUSE)
    # Four storeys of 3 m are one tile.
    scene.block(
        (wide, high, deep), stuff, (0, 0, deep / 2), 12.0, p((materials.concrete, materials.gravel))
    )
    if rng.random() < 0.6 and storeys < 5:
        roof, rise = (
            p((materials.tiles, materials.bricks, materials.metal, materials.planks)),
            rng.uniform(1.2, 3.5),
        )
        eaves = 0.3
        w, front, rear = wide / 2 + eaves, -eaves, deep + eaves
        ridge = [(-w, -high - rise, deep / 2), (w, -high - rise, deep / 2)]
        for z in (front, rear):
            face = np.array([ridge[0], ridge[1], (w, -high + 0.1, z), (-w, -high + 0.1, z)])
            scene.polygon(face, face[:, [0, 1]] / 4, roof, (0, -high, deep / 2))
        for x in (-wide / 2, wide / 2):
            gable = np.array([(x, -high, 0), (x, -high - rise, deep / 2), (x, -high, deep)])
            scene.polygon(gable, gable[:, [2, 1]] / 12, stuff, (0, -high, deep / 2))
    if rng.random() < 0.5:
        scene.panel(
            1.0,
            2.1,
            p((materials.wood, materials.paint)),
            (rng.uniform(-0.35, 0.35) * wide, 0, -0.03),
        )
    if rng.random() < 0.35:
        scene.panel(
            0.9 * wide,
            2.6,
            p((materials.poster, things._glass)),
            (0, 0.3, -0.02),
            (max(1, round(wide / 5)), 1),
        )
        scene.block(
            (0.95 * wide, 0.5, 0.9), p((materials.cloth, materials.paint)), (0, 2.9, -0.45), 2
        )
    if storeys > 2 and rng.random() < 0.4:
        for floor in range(1, storeys):
            scene.block(
                (min(wide * 0.5, 4), 1.0, 1.0),
                p((materials.concrete, materials.metal)),
                (rng.uniform(-0.2, 0.2) * wide, 3 * floor, -0.5),
                3,
            )


def _barrier(scene: Scene, rng: Rng, p: Palette, spine: Spine, offset: float) -> None:
    """A guard rail or a wall along the road."""
    high, low = (rng.uniform(0.7, 0.9), 0.45) if rng.random() < 0.6 else (rng.uniform(0.8, 4), 0.0)
    stuff = p((materials.metal, materials.concrete))
    for s in np.arange(-24.0, spine.length, 6.0):
        points = []
        for place in (s, s + 6.0):
            x, z, up, _ = spine.at(place, offset)
            points += [(x, -(up + high), z), (x, -(up + low), z)]
        face = np.array(points)[[0, 2, 3, 1]]
        x, z, up, _ = spine.at(s, offset + np.sign(offset))
        scene.polygon(face, np.array([(0, 0), (2, 0), (2, 0.3), (0, 0.3)]), stuff, (x, -up, z))
        if low:
            x, z, up, yaw = spine.at(s, offset)
            with scene.placed(x, z, yaw, -up):
                scene.block((0.12, high, 0.12), stuff)


def _traffic(
    scene: Scene, rng: Rng, p: Palette, spine: Spine, width: float, density: float, speed: float,
    lane: float, frames: int,
) -> None:  # fmt: skip
    """Cars that drive both ways, and people who walk across."""
    count = rng.poisson(4 * density)
    taken = [(0.0, lane)]
    for _ in range(count):
        backwards = bool(rng.random() < 0.4)
        side = -np.sign(lane) if backwards else np.sign(lane)
        offset = side * abs(lane)
        start = float(rng.uniform(6, min(spine.length, 60 + frames * speed)))
        if any(abs(start - s) < 9 and abs(offset - o) < 1.5 for s, o in taken):
            continue
        taken.append((start, offset))
        # Ahead in one's own lane nobody is slower for long.
        rate = RATE * speed * (rng.uniform(0.6, 1.4) if backwards else rng.uniform(0.95, 1.3))
        rest = spine.pose(start, offset, backwards)
        back = np.linalg.inv(rest)

        def motion(time: float, start: float = start, offset: float = offset, rate: float = rate,
                   backwards: bool = backwards, back: np.ndarray = back) -> np.ndarray:  # fmt: skip
            along = start + (-1 if backwards else 1) * rate * time
            return (
                spine.pose(float(np.clip(along, -29, spine.length + 29)), offset, backwards) @ back
            )

        x, z, up, yaw = spine.at(start, offset)
        with scene.moving(motion), scene.placed(x, z, yaw + np.pi * backwards, -up):
            things.car(scene, rng, p)
    for _ in range(rng.poisson(2) if width < 12 else 0):
        start, side = float(rng.uniform(8, 40 + frames * speed)), rng.choice([-1, 1])
        x, z, up, yaw = spine.at(start, side * (width / 2 + rng.uniform(0.6, 1.6)))
        pace = np.array([np.sin(yaw), 0, np.cos(yaw)]) * rng.uniform(0.8, 1.8) * rng.choice([-1, 1])
        if rng.random() < 0.25:
            pace = np.array([np.cos(yaw), 0, -np.sin(yaw)]) * -side * rng.uniform(0.8, 1.5)

        def walk(time: float, pace: np.ndarray = pace) -> np.ndarray:
            pose = np.eye(4)
            pose[:3, 3] = pace * time
            return pose

        with (
            scene.moving(walk),
            scene.placed(x, z, float(np.arctan2(pace[0], pace[2])), -(up + 0.1)),
        ):
            things.person(scene, rng, p)


def room(rng: Rng, frames: int) -> Blueprint:
    """A furnished room."""
    size = (rng.uniform(3, 8), rng.uniform(3, 8), rng.uniform(2.3, 3.4))
    reach = (0.17 * size[0], 0.25, 0.17 * size[1])
    poses = wander(
        rng,
        frames,
        reach,
        rng.uniform(0.8, 1.7),
        rng.uniform(60, 240),
        rng.choice([0.6, 2.0, 4.0]),
        rng.uniform(-0.35, 0.05),
    )
    return _indoors(rng, poses, size, things.ROOM, int(rng.integers(12, 40)), rng.uniform(50, 80))


def corridor(rng: Rng, frames: int) -> Blueprint:
    """A long passage that one walks along."""
    size = (rng.uniform(1.4, 3.5), rng.uniform(12, 40), rng.uniform(2.2, 3.5))
    spine = Spine(rng, size[1], 0.0)
    speed = min(rng.uniform(0.05, 0.25), 0.7 * size[1] / frames)
    poses = drive(rng, spine, frames, speed, 0.0, rng.uniform(0.5, 1.7))
    poses[:, 2, 3] -= size[1] * 0.45
    return _indoors(
        rng,
        poses,
        size,
        (*things.ROOM, things.person),
        int(rng.integers(2, 12)),
        rng.uniform(50, 90),
    )


def hall(rng: Rng, frames: int) -> Blueprint:
    """A warehouse or workshop."""
    size = (rng.uniform(10, 30), rng.uniform(12, 40), rng.uniform(4, 9))
    reach = (0.25 * size[0], 0.3, 0.25 * size[1])
    poses = wander(
        rng,
        frames,
        reach,
        rng.uniform(0.6, 2.5),
        rng.uniform(200, 500),
        rng.choice([0.6, 3.0]),
        rng.uniform(-0.2, 0.1),
    )
    return _indoors(rng, poses, size, things.STORE, int(rng.integers(40, 110)), rng.uniform(50, 90))


def stairs(rng: Rng, frames: int) -> Blueprint:
    """A flight of stairs that one climbs."""
    tread, rise, wide = rng.uniform(0.26, 0.36), rng.uniform(0.14, 0.2), rng.uniform(1.2, 4)
    count = 26
    scene = Scene()
    p = Palette(scene, rng)
    stuff, wall = (
        p((materials.concrete, materials.wood, materials.marble, materials.tiles)),
        p(materials.WALL),
    )
    for i in range(count):
        scene.block((wide, (i + 1) * rise, tread), stuff, (0, 0, 1 + (i + 0.5) * tread), 2.0)
    end = 1 + count * tread
    top = count * rise
    scene.block((wide, top, 5.0), stuff, (0, 0, end + 2.5), 2.0)
    _box_inside(
        scene,
        rng,
        p,
        (wide + rng.choice([0.0, 2.0]), end + 11, top + 3.0),
        wall,
        (0, 0, (end - 1) / 2),
    )
    if rng.random() < 0.6:
        rail = p(materials.metal)
        for i in range(0, count, 2):
            with scene.placed(wide / 2 - 0.08, 1 + (i + 0.5) * tread, 0, -(i + 1) * rise):
                scene.block((0.03, 0.95, 0.03), rail)
    speed = rng.uniform(0.02, 0.09)
    along = np.minimum(speed * np.arange(frames), end + 1)
    poses = wander(
        rng,
        frames,
        (0.25 * wide, 0.05, 0.0),
        rng.uniform(1.2, 1.7),
        80,
        0.35,
        rng.uniform(-0.4, 0.2),
    )
    facing = poses[0, :3, :3] @ (0, 0, 1)
    yaw = -np.arctan2(facing[0], facing[2])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    poses[:, :3, :3] = turn @ poses[:, :3, :3]
    poses[:, 2, 3] += along - 1.5
    poses[:, 1, 3] -= np.clip((along - 1.5 - 1) / tread, 0, count) * rise
    look = _weather(rng, indoors=True)
    for share in (0.05, 0.5, 0.95):
        look["lights"].lamps.append(
            (np.array([0, -(top * share + 2.6), end * share]), np.ones(3) * rng.uniform(2, 5))
        )
    return Blueprint(scene, poses=poses, fov=rng.uniform(50, 80), **look)


def _indoors(
    rng: Rng, poses: np.ndarray, size: tuple[float, float, float], choices: tuple[things.Thing, ...], count: int,
    fov: float,
) -> Blueprint:  # fmt: skip
    wide, deep, high = size
    scene = Scene()
    p = Palette(scene, rng)
    _box_inside(scene, rng, p, size, p(materials.WALL), (0, 0, 0))
    sides = [(wide, 0.0, deep / 2, 0.0), (wide, 0.0, -deep / 2, np.pi), (deep, wide / 2, 0.0, np.pi / 2), (deep, -wide / 2, 0.0, -np.pi / 2)]  # fmt: skip
    way = poses[:: max(1, len(poses) // 60), :3, 3][:, [0, 2]]
    taken: list[tuple[float, float, float]] = []
    for _ in range(count):
        thing = choices[rng.integers(len(choices))]
        first, parts = len(scene.corners), len(scene.outward)
        long, x, z, yaw = sides[rng.integers(4)]
        against = rng.random() < 0.65
        draft = Scene()
        draft.textures = scene.textures
        radius = thing(draft, np.random.default_rng(rng.integers(2**31)), p)
        for _ in range(20):
            if against:
                shift, back = (
                    rng.uniform(-0.5, 0.5) * max(0.1, long - 2 * radius),
                    min(radius * 0.75, 0.6) + 0.05,
                )
                c, s = np.cos(yaw), np.sin(yaw)
                spot = (x + shift * c - back * s, z - shift * s - back * c)
                turn = yaw
            else:
                spot = (rng.uniform(-0.45, 0.45) * wide, rng.uniform(-0.45, 0.45) * deep)
                turn = rng.uniform(0, 2 * np.pi)
            clear = np.hypot(way[:, 0] - spot[0], way[:, 1] - spot[1]).min() > radius + 0.2
            free = all(
                np.hypot(spot[0] - a, spot[1] - b) > 0.75 * (radius + r) for a, b, r in taken
            )
            if clear and free:
                taken.append((*spot, radius))
                _paste(scene, draft, spot, turn)
                break
        assert len(scene.corners) - first == len(scene.outward) - parts
    for long, x, z, yaw in sides:
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
                scene.panel(
                    0.9,
                    2.05,
                    p((materials.wood, materials.paint)),
                    (rng.uniform(-0.4, 0.4) * (long - 1), 0, -0.02),
                )
            if rng.random() < 0.35:
                w, h = rng.uniform(0.8, 2.0), rng.uniform(0.8, 1.4)
                at = (rng.uniform(-0.35, 0.35) * max(0.1, long - w), 0.9, -0.025)
                scene.panel(w + 0.12, h + 0.12, p(materials.paint), (at[0], at[1] - 0.06, -0.02))
                scene.panel(w, h, p(_window), at)
    look = _weather(rng, indoors=True)
    spacing = rng.uniform(2.5, 6)
    strength = (
        rng.uniform(0.5, 1.3)
        * high**1.3
        * np.array([1.0, rng.uniform(0.8, 1.0), rng.uniform(0.6, 1.05)])
    )
    for a in np.arange(-wide / 2 + min(spacing, wide) / 2, wide / 2, spacing):
        for b in np.arange(-deep / 2 + min(spacing, deep) / 2, deep / 2, spacing):
            place = np.array([a, -(high - 0.35), b]) + rng.normal(0, 0.1, 3)
            look["lights"].lamps.append((place, strength))
            with scene.placed(a, b):
                scene.block((0.5, 0.05, 0.5), p(things._white), (0, high - 0.06, 0))
    del look["lights"].lamps[12:]
    return Blueprint(scene, poses=poses, fov=fov, **look)


def _paste(scene: Scene, draft: Scene, spot: tuple[float, float], yaw: float) -> None:
    """Add a thing that was built alone."""
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    shift = np.array([spot[0], 0, spot[1]])
    offset = len(scene.corners)
    scene.corners += [corners @ turn.T + shift for corners in draft.corners]
    scene.outward += [turn @ normal for normal in draft.outward]
    scene.texels += draft.texels
    scene.texture += draft.texture
    scene.part += draft.part
    scene.surface += [surface + offset for surface in draft.surface]


def _box_inside(
    scene: Scene,
    rng: Rng,
    p: Palette,
    size: tuple[float, float, float],
    wall: int,
    middle: tuple[float, float, float],
) -> None:
    """Floor, ceiling and walls, seen from within."""
    (wide, deep, high), (x, y, z) = size, middle
    floor, ceiling = (
        p(materials.FLOOR),
        p((materials.plaster, materials.plaster, materials.tiles, materials.planks)),
    )
    w, d = wide / 2, deep / 2
    tile = rng.uniform(1.0, 3.0)
    for up, texture, behind in ((0.0, floor, 5.0), (high, ceiling, -5.0)):
        face = np.array(
            [
                (x - w, y - up, z - d),
                (x + w, y - up, z - d),
                (x + w, y - up, z + d),
                (x - w, y - up, z + d),
            ]
        )
        scene.polygon(face, face[:, [0, 2]] / tile, texture, (x, y - up + behind, z))
    other = p(materials.WALL) if rng.random() < 0.3 else wall
    for dx, dz, texture in ((0, 1, wall), (0, -1, wall), (1, 0, other), (-1, 0, wall)):
        long = wide if dz else deep
        a = np.array([x + dx * w, 0, z + dz * d])
        along = np.array([abs(dz), 0, abs(dx)]) * long / 2
        face = np.stack(
            [a - along - (0, high, 0), a + along - (0, high, 0), a + along, a - along]
        ) + (0, y, 0)
        uv = np.array([(0, 0), (long, 0), (long, high), (0, high)]) / rng.uniform(1.5, 3.0)
        scene.polygon(face, uv, texture, a + (5 * dx, -1, 5 * dz))


def yard(rng: Rng, frames: int) -> Blueprint:
    """A yard, park or square: on foot, held by hand, or from the air."""
    scene = Scene()
    p = Palette(scene, rng)
    size = rng.uniform(8, 40)
    flies = rng.random() < 0.35
    height = rng.uniform(2, 14) if flies else rng.uniform(0.8, 1.8)
    pitch = rng.uniform(-0.8, -0.15) if flies else rng.uniform(-0.25, 0.05)
    poses = wander(
        rng,
        frames,
        (0.3 * size, 0.15 * height, 0.3 * size),
        height,
        rng.uniform(150, 500),
        rng.choice([0.6, 3.0]),
        pitch,
    )
    ground = p(materials.GROUND)
    far = 500.0
    face = np.array([(-far, 0, -far), (far, 0, -far), (far, 0, far), (-far, 0, far)], float)
    scene.polygon(face, face[:, [0, 2]] / rng.uniform(2, 6), ground, (0, 50, 0))
    way = poses[:: max(1, frames // 60), :3, 3][:, [0, 2]]
    around = rng.random() < 0.7
    for side in range(4):
        yaw = side * np.pi / 2
        if around and rng.random() < 0.85:
            wide = rng.uniform(0.6, 1.9) * size
            with scene.placed(size * np.sin(yaw), size * np.cos(yaw), yaw):
                if rng.random() < 0.6:
                    house(scene, rng, p, wide, 8)
                else:
                    stuff = p(
                        (materials.bricks, materials.planks, materials.foliage, materials.plaster)
                    )
                    scene.block((wide, rng.uniform(1, 3), 0.4), stuff, repeat_m=2.5)
    for _ in range(rng.integers(30, 110)):
        thing = things.YARD[rng.integers(len(things.YARD))]
        near = way[rng.integers(len(way))]
        spot = near + rng.normal(0, 1, 2) * rng.uniform(1.5, 0.8 * size)
        if np.hypot(*(way - spot).T).min() < 1.2 + 2.4 * (thing in (things.tree, things.car)):
            continue
        with scene.placed(spot[0], spot[1], rng.uniform(0, 2 * np.pi)):
            thing(scene, rng, p)
    for _ in range(rng.poisson(0.8)):
        spot, heading = rng.uniform(-0.8, 0.8, 2) * size, rng.uniform(0, 2 * np.pi)
        pace = rng.uniform(0.5, 1.6) * np.array([np.sin(heading), 0, np.cos(heading)])

        def walk(time: float, pace: np.ndarray = pace) -> np.ndarray:
            pose = np.eye(4)
            pose[:3, 3] = pace * time
            return pose

        with scene.moving(walk), scene.placed(spot[0], spot[1], heading):
            things.person(scene, rng, p)
    return Blueprint(scene, poses=poses, fov=rng.uniform(50, 95), **_weather(rng, indoors=False))


def shapes(rng: Rng, frames: int) -> Blueprint:
    """Bodies of all sizes in the air, before walls: nothing that one could know by heart."""
    scene = Scene()
    p = Palette(scene, rng, 6)
    size = np.exp(rng.uniform(np.log(3), np.log(30)))
    reach = 0.12 * size
    poses = wander(
        rng, frames, (reach, reach, reach), 0.5 * size, rng.uniform(80, 250), rng.choice([0.5, 3.0])
    )
    high = rng.uniform(0.7, 1.5) * size
    _box_inside(
        scene,
        rng,
        p,
        (2 * size, 2 * size, high),
        p((materials.mosaic, materials.wallpaper, *materials.WALL)),
        (0, 0, 0),
    )
    way = poses[:: max(1, frames // 40), :3, 3]
    for _ in range(rng.integers(60, 180)):
        spot = rng.uniform(-1, 1, 3) * (size, high / 2, size) - (0, high / 2, 0)
        scale = np.exp(rng.uniform(np.log(0.03), np.log(0.25))) * size
        if np.linalg.norm(way - spot, axis=1).min() < 1.3 * scale + 0.04 * size:
            continue
        with scene.placed(spot[0], spot[2], rng.uniform(0, 2 * np.pi), spot[1], scale):
            things.shape(scene, rng, p)
    look = _weather(rng, indoors=True)
    look["lights"].sky = np.ones(3) * rng.uniform(0.3, 0.8)
    for _ in range(rng.integers(1, 4)):
        place = np.array(
            [
                rng.uniform(-0.7, 0.7) * size,
                -rng.uniform(0.3, 0.9) * high,
                rng.uniform(-0.7, 0.7) * size,
            ]
        )
        look["lights"].lamps.append(
            (place, rng.uniform(0.1, 0.5) * size**2 * materials.colour(rng, (0, 0.3), (0.8, 1)))
        )
    return Blueprint(scene, poses=poses, fov=rng.uniform(45, 100), **look)


def _window(rng: Rng) -> np.ndarray:
    """A window by day: sky over something green or grey, with a bar."""
    image = materials.tinted(
        np.linspace(1.0, 0.75, 64)[:, None] * np.ones(64), np.array([0.85, 0.93, 1.0])
    )
    low = int(rng.integers(24, 60))
    image[low:] = materials.colour(rng, (0, 0.5), (0.3, 0.8), 0.3)
    image[:, 31:33] = image[31:33] = 0.85
    return image


def _weather(rng: Rng, *, indoors: bool) -> dict[str, object]:
    """Light, sky and haze."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(12, 70))
    sun = np.array(
        [
            np.cos(elevation) * np.sin(azimuth),
            -np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ]
    )
    if indoors:
        sky_light = np.ones(3) * rng.uniform(0.12, 0.45)
        lights = Lights(sky_light, np.zeros(3), sun, reach=rng.uniform(0.6, 1.6), texel=0.15)
        return {"lights": lights, "sky": np.ones((2, 4, 3), np.float32), "night": False}
    kind = rng.choice(["clear", "overcast", "low", "night"], p=[0.5, 0.3, 0.12, 0.08])
    blue, warm = np.array([0.85, 0.95, 1.1]), np.array([1.1, 1.0, 0.85])
    if kind == "clear":
        lights = Lights(blue * rng.uniform(0.25, 0.5), warm * rng.uniform(0.6, 1.3), sun)
        zenith, horizon, cover = (
            np.array([0.25, 0.45, 0.8]),
            np.array([0.75, 0.84, 0.93]),
            rng.uniform(0, 0.6),
        )
    elif kind == "overcast":
        lights = Lights(np.ones(3) * rng.uniform(0.6, 1.0), np.zeros(3), sun)
        zenith, horizon, cover = (
            np.array([0.68, 0.71, 0.76]),
            np.array([0.85, 0.86, 0.88]),
            rng.uniform(0, 0.4),
        )
    elif kind == "low":
        sun = sun * (1, 0, 1) / np.cos(elevation) * np.cos(0.15) - (0, np.sin(0.15), 0)
        lights = Lights(
            blue * rng.uniform(0.25, 0.4), np.array([1.3, 0.9, 0.55]) * rng.uniform(0.6, 1.2), sun
        )
        zenith, horizon, cover = (
            np.array([0.3, 0.42, 0.68]),
            np.array([0.98, 0.75, 0.5]),
            rng.uniform(0, 0.5),
        )
    else:
        lights = Lights(np.array([0.05, 0.055, 0.075]), np.zeros(3), sun)
        zenith, horizon, cover = np.array([0.01, 0.012, 0.02]), np.array([0.05, 0.045, 0.05]), 0.0
    haze = (
        float(np.exp(rng.uniform(np.log(60), np.log(600))))
        if rng.random() < 0.35 and kind != "night"
        else np.inf
    )
    return {"lights": lights, "sky": _sky(rng, zenith, horizon, float(cover)), "night": kind == "night",
            "haze": haze, "haze_colour": horizon}  # fmt: skip


def _sky(rng: Rng, zenith: np.ndarray, horizon: np.ndarray, cover: float) -> np.ndarray:
    """Panorama over azimuth (columns) and elevation 90 to 0 degrees (rows), with clouds, and hills or roofs far away."""
    height, width = 128, 1024
    share = (np.linspace(1, 0, height) ** 0.6)[:, None, None]
    image = (horizon * (1 - share) + zenith * share) * np.ones((1, width, 1))
    small = materials.clouds(rng, 80, 5, stretch=3)
    puffs = np.tile(cv2.resize(small, (512, height)), (1, 2))
    white = np.clip(cover + 0.45 * puffs, 0, 1)[..., None] * (0.9 if cover > 0 else 0.0)
    image = image * (1 - white) + white * np.clip(horizon * 1.15, 0, 1)
    if rng.random() < 0.6:
        ridge = 3 + 2.5 * np.tile(materials.clouds(rng, 120, 4)[0], 4)
        rows = np.arange(height)[:, None] >= height - ridge
        image[rows] = horizon * rng.uniform(0.45, 0.9)
    return np.clip(image, 0, 1).astype(np.float32)


KINDS: dict[str, Callable[[Rng, int], Blueprint]] = {
    kind.__name__: kind
    for kind in (town, country, motorway, yard, room, corridor, hall, stairs, shapes)
}
