"""Outdoor worlds for a hand-held or flying camera, and an abstract world."""

import numpy as np

from egodepth.data.synthetic.worlds import materials
from egodepth.data.synthetic.worlds.blueprint import Blueprint
from egodepth.data.synthetic.worlds.furniture import pile, shape, table
from egodepth.data.synthetic.worlds.houses import house
from egodepth.data.synthetic.worlds.interiors import box_inside
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.outdoors import bench, bin_or_box, bush, lamp_post, person, tree
from egodepth.data.synthetic.worlds.palette import Palette, Thing
from egodepth.data.synthetic.worlds.paths import wander
from egodepth.data.synthetic.worlds.scene import Scene
from egodepth.data.synthetic.worlds.traffic import add_walker
from egodepth.data.synthetic.worlds.vehicles import vehicle
from egodepth.data.synthetic.worlds.weather import draw_weather, indoor_light

YARD: tuple[Thing, ...] = (
    tree, bush, bench, pile, bin_or_box, person, shape, lamp_post, table, vehicle,
)  # fmt: skip
FAR = 500.0
"""Distance in metres to the edge of the ground."""


def yard(rng: Rng, frames: int) -> Blueprint:
    """A yard, park or square, seen by a hand-held camera or from the air."""
    scene = Scene()
    p = Palette(scene, rng)
    size = rng.uniform(8, 40)
    flies = rng.random() < 0.35
    height = rng.uniform(2, 14) if flies else rng.uniform(0.8, 1.8)
    pitch = rng.uniform(-0.8, -0.15) if flies else rng.uniform(-0.25, 0.05)
    reach = (0.3 * size, 0.15 * height, 0.3 * size)
    period, look = rng.uniform(150, 500), rng.choice([0.6, 3.0])
    poses = wander(rng, frames, reach, height, period, look, pitch)
    ground = np.array([(-FAR, 0, -FAR), (FAR, 0, -FAR), (FAR, 0, FAR), (-FAR, 0, FAR)])
    texels = ground[:, [0, 2]] / rng.uniform(2, 6)
    scene.polygon(ground, texels, p(materials.GROUND), (0, 50, 0))
    if rng.random() < 0.7:
        _border(scene, rng, p, size)
    way = poses[:: max(1, frames // 60), :3, 3][:, [0, 2]]
    for _ in range(rng.integers(30, 110)):
        thing = YARD[rng.integers(len(YARD))]
        spot = way[rng.integers(len(way))] + rng.normal(0, 1, 2) * rng.uniform(1.5, 0.8 * size)
        clear = 3.6 if thing in (tree, vehicle) else 1.2
        if np.hypot(*(way - spot).T).min() < clear:
            continue
        with scene.placed(spot[0], spot[1], rng.uniform(0, 2 * np.pi)):
            thing(scene, rng, p)
    for _ in range(rng.poisson(0.8)):
        x, z = rng.uniform(-0.8, 0.8, 2) * size
        add_walker(scene, rng, p, (x, z, 0.0), rng.uniform(0, 2 * np.pi))
    return Blueprint(scene, draw_weather(rng), poses, rng.uniform(50, 95))


def _border(scene: Scene, rng: Rng, p: Palette, size: float) -> None:
    """Add houses, walls, fences or hedges on most sides."""
    for side in range(4):
        if rng.random() < 0.15:
            continue
        yaw, wide = side * np.pi / 2, rng.uniform(0.6, 1.9) * size
        with scene.placed(size * np.sin(yaw), size * np.cos(yaw), yaw):
            if rng.random() < 0.6:
                house(scene, rng, p, wide, 8)
            else:
                stuff = p(
                    (materials.bricks, materials.planks, materials.foliage, materials.plaster)
                )
                scene.block((wide, rng.uniform(1, 3), 0.4), stuff, repeat_m=2.5)


def shapes(rng: Rng, frames: int) -> Blueprint:
    """Floating bodies of all sizes in front of walls, without any familiar objects."""
    scene = Scene()
    p = Palette(scene, rng, 6)
    size = np.exp(rng.uniform(np.log(3), np.log(30)))
    high, reach = rng.uniform(0.7, 1.5) * size, 0.12 * size
    period, look = rng.uniform(80, 250), rng.choice([0.5, 3.0])
    poses = wander(rng, frames, (reach, reach, reach), 0.5 * size, period, look)
    wall = p((materials.mosaic, materials.wallpaper, *materials.WALL))
    box_inside(scene, rng, p, (2 * size, 2 * size, high), wall)
    way = poses[:: max(1, frames // 40), :3, 3]
    for _ in range(rng.integers(60, 180)):
        spot = rng.uniform(-1, 1, 3) * (size, high / 2, size) - (0, high / 2, 0)
        scale = np.exp(rng.uniform(np.log(0.03), np.log(0.25))) * size
        if np.linalg.norm(way - spot, axis=1).min() < 1.3 * scale + 0.04 * size:
            continue
        with scene.placed(spot[0], spot[2], rng.uniform(0, 2 * np.pi), spot[1], scale):
            shape(scene, rng, p)
    weather = indoor_light(rng)
    weather.lights.sky = np.ones(3) * rng.uniform(0.3, 0.8)
    for _ in range(rng.integers(1, 4)):
        spot = rng.uniform(-0.7, 0.7, 3) * (size, 0.4 * high, size) - (0, 0.6 * high, 0)
        strength = rng.uniform(0.1, 0.5) * size**2 * materials.colour(rng, (0, 0.3), (0.8, 1))
        weather.lights.lamps.append((spot, strength))
    return Blueprint(scene, weather, poses, rng.uniform(45, 100))
