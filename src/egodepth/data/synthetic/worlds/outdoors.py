"""Outdoor objects: each is built around its own origin, on the ground, facing -z."""

import numpy as np

from egodepth.data.synthetic.worlds import materials, palette
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.scene import Scene


def tree(s: Scene, rng: Rng, p: Palette) -> float:
    """Add a broad-leaved tree, a fir or a palm-like tree; returns its radius."""
    kind, high = rng.random(), rng.uniform(3, 11)
    leaves, bark = p(materials.foliage), p(materials.bark)
    if kind < 0.3:
        radius = high * rng.uniform(0.16, 0.28)
        s.tube(0.04 * high * 0.6, 0, high * 0.3, bark, sides=6)
        layers = int(rng.integers(2, 5))
        for layer in range(layers):
            low = high * (0.12 + 0.75 * layer / layers)
            wide = radius * (1 - 0.7 * layer / layers)
            s.lathe([(wide, low), (wide * 0.5, low + 0.2 * high), (0.02, low + 0.42 * high)], leaves, sides=9,
                    lumps=1 + 0.25 * rng.uniform(-1, 1, (3, 9)))  # fmt: skip
        return float(radius)
    trunk = high * rng.uniform(0.25, 0.5)
    s.lathe(
        [(0.03 * high, 0), (0.02 * high, trunk), (0.012 * high, trunk + 0.2 * high)], bark, sides=7
    )
    wide = high * rng.uniform(0.18, 0.32)
    for _ in range(rng.integers(3, 8)):
        spot = rng.uniform(-1, 1, 3) * wide * 0.8
        s.ball(
            rng,
            wide * rng.uniform(0.5, 0.95),
            leaves,
            (spot[0], trunk + 0.25 * high + spot[1], spot[2]),
            0.3,
        )
    return float(1.5 * wide)


def bush(s: Scene, rng: Rng, p: Palette) -> float:
    """Add a shrub; returns its radius."""
    wide, leaves = rng.uniform(0.4, 1.3), p(materials.foliage)
    for _ in range(rng.integers(2, 5)):
        spot = rng.uniform(-0.6, 0.6, 2) * wide
        s.ball(rng, wide * rng.uniform(0.4, 0.8), leaves, (spot[0], 0.3 * wide, spot[1]), 0.35)
    return float(1.4 * wide)


def person(s: Scene, rng: Rng, p: Palette) -> float:
    """Add a person who walks towards +z; returns the radius."""
    tall = rng.uniform(1.5, 1.95)
    shirt, trousers, skin, hair = (
        p(materials.cloth),
        p(materials.cloth),
        p(palette.skin),
        p(palette.dark),
    )
    step = rng.uniform(0.0, 0.3)
    for side in (-1, 1):
        s.lathe([(0.07, 0), (0.085, 0.5 * tall)], trousers, (side * 0.1, side * step * 0.5), 6)
        s.lathe(
            [(0.045, 0.45 * tall), (0.06, 0.8 * tall)], shirt, (side * 0.25, -side * step * 0.4), 6
        )
    s.lathe(
        [(0.17, 0.46 * tall), (0.18, 0.65 * tall), (0.2, 0.8 * tall), (0.07, 0.85 * tall)],
        shirt,
        sides=8,
    )
    s.ball(rng, 0.11, skin, (0, 0.92 * tall, 0), 0, 1.2)
    s.ball(rng, 0.115, hair, (0, 0.95 * tall, -0.02), 0, 0.9)
    return 0.4


def lamp_post(s: Scene, rng: Rng, p: Palette) -> float:
    """A street lamp with its arm towards +x."""
    high, arm, grey = rng.uniform(4, 8), rng.uniform(0, 2), p(materials.metal)
    s.tube(0.08, 0, high, grey, sides=6)
    s.block((arm + 0.3, 0.1, 0.12), grey, (arm / 2, high - 0.05, 0))
    s.block((0.6, 0.12, 0.25), p(palette.white), (arm, high - 0.1, 0))
    return 0.15


def sign(s: Scene, rng: Rng, p: Palette) -> float:
    """A traffic sign or notice board on a post."""
    high, grey = rng.uniform(1.8, 2.8), p(materials.metal)
    s.tube(0.035, 0, high, grey, sides=6)
    sides, radius = int(rng.choice([3, 4, 8, 14])), rng.uniform(0.25, 0.45)
    turns = np.arange(sides) * 2 * np.pi / sides + rng.choice([0, np.pi / sides])
    disc = np.stack([np.cos(turns), np.sin(turns)], 1)
    for z, texture in ((-0.05, p(materials.poster)), (0.05, grey)):
        face = np.concatenate([radius * disc + (0, -high), np.full((sides, 1), z)], 1)
        s.polygon(face, disc / 2 + 0.5, texture, (0, -high, 0))
    return 0.3


def bin_or_box(s: Scene, rng: Rng, p: Palette) -> float:
    """A litter bin, cabinet, crate or bollard."""
    w, h, d = rng.uniform(0.3, 1.1), rng.uniform(0.4, 1.5), rng.uniform(0.3, 0.9)
    if rng.random() < 0.5:
        s.lathe(
            [(w * 0.4, 0), (w * 0.5, h * 0.9), (w * 0.45, h), (0.01, h)],
            p(materials.metal),
            sides=9,
        )
    else:
        s.block(
            (w, h, d), p((materials.metal, materials.planks, materials.paint)), repeat_m=max(w, h)
        )
    return float(0.7 * max(w, d))


def bench(s: Scene, rng: Rng, p: Palette) -> float:
    """A wooden bench."""
    long, boards, legs = rng.uniform(1.2, 2.2), p(materials.wood), p(materials.metal)
    s.block((long, 0.06, 0.45), boards, (0, 0.42, 0))
    s.block((long, 0.35, 0.05), boards, (0, 0.5, 0.22))
    for side in (-1, 1):
        s.block((0.06, 0.42, 0.4), legs, (side * 0.4 * long, 0, 0))
    return float(0.5 * long)


STREET = (lamp_post, sign, bin_or_box, tree, bush, bench, sign, lamp_post, person, tree)
"""Objects beside a street."""
ROADSIDE = (tree, bush, tree, sign, tree)
