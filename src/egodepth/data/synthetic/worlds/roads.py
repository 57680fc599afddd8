"""Worlds for driving."""

from dataclasses import dataclass

import cv2
import numpy as np

from egodepth.data.synthetic.worlds import materials, outdoors
from egodepth.data.synthetic.worlds.blueprint import Blueprint
from egodepth.data.synthetic.worlds.houses import row_of_houses
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.paths import Spine, drive
from egodepth.data.synthetic.worlds.scene import Scene
from egodepth.data.synthetic.worlds.traffic import add_vehicles, add_walkers
from egodepth.data.synthetic.worlds.vehicles import vehicle
from egodepth.data.synthetic.worlds.weather import draw_weather

FAR = 900.0
"""Distance in metres to the edge of the ground."""
STEP = 6.0
"""Length in metres of a piece of road."""
BEHIND = -24.0
"""Start of the road in metres along it; the camera starts at 0."""
WIDE = 12.0
"""Minimum width in metres of a road with more than one lane per direction."""


@dataclass(frozen=True)
class Road:
    """Properties of a road.

    Attributes:
        width: width in metres.
        bend: maximum curvature in 1 / m.
        hills: maximum slope.
        speed: speed of the camera in metres per frame.
        traffic: number of vehicles relative to the usual one.
        houses: share of the roadside with houses; 0 for fields and woods.
        kerb: height of the pavement in metres.
        barriers: whether there are guard rails or walls.
    """

    width: float
    bend: float
    hills: float
    speed: float
    traffic: float
    houses: float = 0.0
    kerb: float = 0.0
    barriers: bool = False


def town(rng: Rng, frames: int) -> Blueprint:
    """A street between houses."""
    return _world(rng, frames, Road(
        width=rng.uniform(5.5, 11), bend=rng.choice([0.0, 0.012, 0.035]), hills=0.0,
        speed=rng.uniform(0.2, 0.9), traffic=rng.uniform(0, 1.5), houses=rng.uniform(0.5, 1.0), kerb=0.13,
    ))  # fmt: skip


def country(rng: Rng, frames: int) -> Blueprint:
    """A road through fields and woods."""
    return _world(rng, frames, Road(
        width=rng.uniform(4, 8), bend=rng.uniform(0.0, 0.02), hills=rng.uniform(0, 0.05),
        speed=rng.uniform(0.4, 1.6), traffic=rng.uniform(0, 0.6), barriers=bool(rng.random() < 0.25),
    ))  # fmt: skip


def motorway(rng: Rng, frames: int) -> Blueprint:
    """A wide road with barriers and cars that drive about as fast as the camera."""
    return _world(rng, frames, Road(
        width=rng.uniform(12, 20), bend=rng.uniform(0, 0.004), hills=rng.uniform(0, 0.02),
        speed=rng.uniform(1.0, 2.5), traffic=rng.uniform(0.5, 3), barriers=True,
    ))  # fmt: skip


def _world(rng: Rng, frames: int, road: Road) -> Blueprint:
    scene = Scene()
    p = Palette(scene, rng)
    ahead = 140.0 if road.houses else 200.0
    spine = Spine(rng, frames * road.speed * 1.3 + ahead, road.bend, road.hills)
    lanes = [0.125, 0.375] if road.width >= WIDE else [0.25]
    lane = float(road.width * rng.choice(lanes) * rng.choice([-1, 1]))
    poses = drive(rng, spine, frames, road.speed, lane, rng.uniform(1.1, 2.2))
    walk = rng.uniform(1.5, 4.0) if road.houses else rng.uniform(1.0, 6.0)
    _ground(scene, rng, p, spine, road, walk)
    for side in (-1, 1):
        if road.houses:
            row_of_houses(scene, rng, p, spine, side, road.width / 2 + walk, road.houses)
        if road.barriers:
            _barrier(scene, rng, p, spine, side * (road.width / 2 + 0.4))
        _roadside(scene, rng, p, spine, road, side, walk)
        if road.houses and road.width > 6 and rng.random() < 0.75:
            _parked(scene, rng, p, spine, side * (road.width / 2 - 1.1), rng.uniform(0.3, 0.95))
    add_vehicles(scene, rng, p, spine, rng.poisson(4 * road.traffic), road.speed, lane, frames)
    if road.width < WIDE:
        add_walkers(scene, rng, p, spine, rng.poisson(2), road.width / 2, 40 + frames * road.speed)
    weather = draw_weather(rng)
    if weather.is_night:
        for s in np.arange(0.0, spine.length, 28.0):
            x, z, up, _ = spine.at(s, road.width / 2 + 0.5)
            place = np.array([x, -(up + 6.0), z])
            weather.lights.lamps.append((place, np.array([16.0, 13.0, 8.0])))
    return Blueprint(scene, weather, poses, rng.uniform(50, 95))


def _ground(scene: Scene, rng: Rng, p: Palette, spine: Spine, road: Road, walk: float) -> None:
    """Add road, kerbs, verges and fields: strips along the road, above a ground plane."""
    half, kerb = road.width / 2, road.kerb
    verge = p(
        materials.GROUND if road.houses else (materials.grass, materials.soil, materials.grass)
    )
    fields = p((materials.grass, materials.soil, materials.gravel))
    # Offsets and heights of both edges, texture, and size of its tile in metres across and along.
    strips = [(-half, half, 0.0, 0.0, scene.add_texture(lanes(rng, road.width)), road.width, 12.0)]
    for side in (-1, 1):
        near, far = side * half, side * (half + walk)
        rise, slope = (0.0, 0.0) if road.houses else (rng.uniform(-0.3, 0.3), rng.uniform(-2, 4))
        if kerb:
            strips.append((near, near, 0.0, kerb, p(materials.concrete), 1.0, 4.0))
        strips.append((near, far, kerb, kerb + rise, verge, 3.0, 3.0))
        strips.append((far, far + 30 * side, kerb + rise, kerb + slope, fields, 8.0, 8.0))
    for s in np.arange(BEHIND, spine.length, STEP):
        for left, right, low, high, texture, across_m, along_m in strips:
            corners, texels = [], []
            for place, offset, up in (
                (s, left, low),
                (s, right, high),
                (s + STEP, right, high),
                (s + STEP, left, low),
            ):
                x, z, base, _ = spine.at(place, offset)
                corners.append((x, -(base + up), z))
                across = offset - left if left != right else up
                texels.append((across / across_m, -place / along_m))
            middle = np.mean(corners, 0)
            yaw = spine.at(s)[3]
            out = (
                np.sign(left) * np.array([np.cos(yaw), 0, -np.sin(yaw)])
                if left == right
                else np.zeros(3)
            )
            scene.polygon(np.array(corners), np.array(texels), texture, middle + out + (0, 0.5, 0))
    plane = np.array([(-FAR, 3.0, -FAR), (FAR, 3.0, -FAR), (FAR, 3.0, FAR), (-FAR, 3.0, FAR)])
    scene.polygon(plane, plane[:, [0, 2]] / 10, fields, (0, 50, 0))


def lanes(rng: Rng, width: float) -> np.ndarray:
    """Road surface with markings; rows along the road, 12 m per tile, columns across its whole width."""
    choices = (materials.asphalt, materials.asphalt, materials.asphalt, materials.concrete)
    fine = np.tile(materials.pick(rng, choices), (2, max(1, round(width / 6)), 1))
    image = cv2.resize(fine, (256, 384), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.85:
        tint = np.array([1, 1, rng.choice([1.0, 0.6], p=[0.85, 0.15])], np.float32)
        mark = np.float32(rng.uniform(0.55, 0.9)) * tint
        stroke, lanes = max(1, round(0.13 / width * 256)), max(2, round(width / 3.6))
        for line in range(lanes + 1):
            edge = line in (0, lanes)
            if edge and rng.random() < 0.3:
                continue
            column = int(np.clip(line / lanes * 256, 3, 252 - stroke))
            solid = edge or rng.random() < 0.2
            rows = slice(None) if solid else slice(0, int(384 * rng.uniform(0.25, 0.6)))
            patch = image[rows, column : column + stroke]
            image[rows, column : column + stroke] = 0.2 * patch + 0.8 * mark
    for column in rng.integers(20, 236, 2):
        worn = slice(column - 8, column + 8)
        image[:, worn] = image[:, worn] * rng.uniform(0.85, 1.1)
    return np.clip(image, 0, 1)


def _roadside(
    scene: Scene, rng: Rng, p: Palette, spine: Spine, road: Road, side: int, walk: float
) -> None:
    """Add objects beside the road."""
    s, gap = float(rng.uniform(-20, 0)), rng.uniform(4, 14)
    choices = outdoors.STREET if road.houses else outdoors.ROADSIDE
    while s < spine.length:
        thing = choices[rng.integers(len(choices))]
        beside = (
            rng.uniform(0.5, max(0.6, walk - 0.4))
            if road.houses
            else walk + rng.uniform(0, 12) ** 1.2
        )
        x, z, up, yaw = spine.at(s, side * (road.width / 2 + beside))
        # The arm of a lamp extends over the road.
        turn = yaw + np.pi * (side > 0 and thing is outdoors.lamp_post) + rng.normal(0, 0.2)
        with scene.placed(x, z, turn, -(up + road.kerb)):
            thing(scene, rng, p)
        s += rng.uniform(0.4, 1.6) * gap


def _parked(scene: Scene, rng: Rng, p: Palette, spine: Spine, offset: float, share: float) -> None:
    """Add parked vehicles along one side."""
    s = float(rng.uniform(-20, 0))
    while s < spine.length:
        if rng.random() < share:
            x, z, up, yaw = spine.at(s, offset)
            with scene.placed(x, z, yaw + np.pi * (rng.random() < 0.5) + rng.normal(0, 0.02), -up):
                vehicle(scene, rng, p)
        s += rng.uniform(5.2, 8.0)


def _barrier(scene: Scene, rng: Rng, p: Palette, spine: Spine, offset: float) -> None:
    """Add a guard rail or a wall along the road."""
    is_rail = rng.random() < 0.6
    high, low = (rng.uniform(0.7, 0.9), 0.45) if is_rail else (rng.uniform(0.8, 4), 0.0)
    stuff = p((materials.metal, materials.concrete))
    for s in np.arange(BEHIND, spine.length, STEP):
        corners = []
        for place, up in ((s, high), (s + STEP, high), (s + STEP, low), (s, low)):
            x, z, base, _ = spine.at(place, offset)
            corners.append((x, -(base + up), z))
        x, z, up, _ = spine.at(s, offset + np.sign(offset))
        scene.polygon(
            np.array(corners), np.array([(0, 0), (2, 0), (2, 0.3), (0, 0.3)]), stuff, (x, -up, z)
        )
        if is_rail:
            x, z, up, yaw = spine.at(s, offset)
            with scene.placed(x, z, yaw, -up):
                scene.block((0.12, high, 0.12), stuff)
