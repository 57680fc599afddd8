"""Indoor objects: each is built around its own origin, on the ground, facing -z."""

import numpy as np

from egodepth.data.synthetic.worlds import materials, palette
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.outdoors import bin_or_box, person
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.scene import Scene


def table(s: Scene, rng: Rng, p: Palette) -> float:
    """A table or desk with objects on it."""
    w, h, d = rng.uniform(0.7, 2.0), rng.uniform(0.45, 0.8), rng.uniform(0.5, 1.0)
    top, legs = p(materials.FURNITURE), p(materials.FURNITURE)
    s.block((w, 0.04, d), top, (0, h - 0.04, 0))
    if rng.random() < 0.25:
        s.lathe([(0.3, 0), (0.05, 0.06), (0.05, h - 0.05)], legs)
    else:
        for x in (-1, 1):
            for z in (-1, 1):
                s.block((0.05, h - 0.04, 0.05), legs, (x * (w / 2 - 0.05), 0, z * (d / 2 - 0.05)))
    for _ in range(rng.integers(0, 6)):
        trinket(s, rng, p, (rng.uniform(-0.4, 0.4) * w, h, rng.uniform(-0.35, 0.35) * d))
    return float(0.55 * np.hypot(w, d))


def trinket(s: Scene, rng: Rng, p: Palette, at: tuple[float, float, float]) -> None:
    """A small object: a book, cup, bottle, box, screen or plant."""
    x, h, z = at
    kind, stuff = rng.integers(5), p(materials.THING)
    with s.placed(x, z, rng.uniform(0, 2 * np.pi), -h):
        if kind == 0:
            s.block(
                (rng.uniform(0.1, 0.4), rng.uniform(0.02, 0.3), rng.uniform(0.1, 0.3)),
                stuff,
                repeat_m=0.4,
            )
        elif kind == 1:
            r, t = rng.uniform(0.03, 0.1), rng.uniform(0.08, 0.3)
            s.lathe([(r, 0), (r * 1.1, 0.6 * t), (r * 0.5, t), (0.005, t)], stuff, sides=8)
        elif kind == 2:
            w = rng.uniform(0.3, 0.7)
            s.block((w, 0.6 * w, 0.04), p(palette.dark), (0, 0.12, 0))
            s.panel(0.94 * w, 0.54 * w, p(materials.poster), (0, 0.12 + 0.03 * w, -0.025))
            s.block((0.2, 0.12, 0.1), p(palette.dark))
        elif kind == 3:
            r = rng.uniform(0.05, 0.16)
            s.ball(rng, r, stuff, (0, r, 0), rng.choice([0, 0.2]))
        else:
            s.lathe([(0.07, 0), (0.1, 0.16)], p(materials.paint), sides=8)
            s.ball(rng, rng.uniform(0.1, 0.25), p(materials.foliage), (0, 0.32, 0), 0.4)


def chair(s: Scene, rng: Rng, p: Palette) -> float:
    """A chair or stool."""
    w, h, stuff, legs = (
        rng.uniform(0.36, 0.5),
        rng.uniform(0.4, 0.5),
        p(materials.FURNITURE),
        p(materials.FURNITURE),
    )
    s.block((w, 0.05, w), stuff, (0, h - 0.05, 0))
    for x in (-1, 1):
        for z in (-1, 1):
            s.block((0.04, h - 0.05, 0.04), legs, (x * (w / 2 - 0.03), 0, z * (w / 2 - 0.03)))
    if rng.random() < 0.8:
        s.block((w, rng.uniform(0.3, 0.55), 0.04), stuff, (0, h, w / 2 - 0.02))
    return float(0.75 * w)


def sofa(s: Scene, rng: Rng, p: Palette) -> float:
    """A sofa, armchair or bed."""
    w, d, stuff = rng.uniform(0.8, 2.3), rng.uniform(0.8, 1.0), p(materials.cloth)
    s.block((w, 0.42, d), stuff)
    s.block((w, rng.uniform(0.3, 0.5), 0.22), stuff, (0, 0.42, d / 2 - 0.11))
    for side in (-1, 1):
        s.block((0.18, 0.2, d), stuff, (side * (w / 2 - 0.09), 0.42, 0))
    for _ in range(rng.integers(0, 4)):
        s.ball(rng, 0.2, p(materials.cloth), (rng.uniform(-0.35, 0.35) * w, 0.55, 0.1), 0.1, 0.8)
    return float(0.55 * np.hypot(w, d))


def shelf(s: Scene, rng: Rng, p: Palette) -> float:
    """Shelves with books or other objects."""
    w, h, d, stuff = (
        rng.uniform(0.6, 2.2),
        rng.uniform(0.9, 2.3),
        rng.uniform(0.25, 0.5),
        p(materials.FURNITURE),
    )
    if rng.random() < 0.35:
        s.block((w, h, d), stuff)
        tiles = (max(1, round(w)), max(1, round(h / 1.3)))
        s.panel(0.96 * w, 0.96 * h, p(materials.books), (0, 0.02 * h, -d / 2 - 0.005), tiles)
        return float(0.55 * w)
    for side in (-1, 1):
        s.block((0.03, h, d), stuff, (side * w / 2, 0, 0))
    s.block((w, h, 0.02), stuff, (0, 0, d / 2))
    count = int(rng.integers(2, 6))
    for level in range(count + 1):
        up = h * level / count
        s.block((w, 0.03, d), stuff, (0, max(0.0, up - 0.03), 0))
        if level < count:
            for _ in range(rng.integers(0, 4)):
                trinket(s, rng, p, (rng.uniform(-0.4, 0.4) * w, up, rng.uniform(-0.2, 0.2) * d))
    return float(0.55 * w)


def cupboard(s: Scene, rng: Rng, p: Palette) -> float:
    """A cupboard, fridge or radiator."""
    w, h, d, stuff = (
        rng.uniform(0.5, 1.8),
        rng.uniform(0.6, 2.2),
        rng.uniform(0.3, 0.7),
        p(materials.FURNITURE),
    )
    s.block((w, h, d), stuff, repeat_m=max(w, h))
    doors = int(rng.integers(1, 4))
    for door in range(doors):
        x = (door + 0.5) * w / doors - w / 2
        s.panel(0.9 * w / doors, 0.9 * h, stuff, (x, 0.05 * h, -d / 2 - 0.012))
        s.block(
            (0.02, 0.15, 0.03), p(palette.silver), (x + 0.3 * w / doors, 0.5 * h, -d / 2 - 0.02)
        )
    return float(0.55 * np.hypot(w, d))


def pile(s: Scene, rng: Rng, p: Palette) -> float:
    """A stack of crates or drums."""
    up, wide = 0.0, rng.uniform(0.4, 1.2)
    for _ in range(rng.integers(1, 5)):
        high, stuff = (
            rng.uniform(0.25, 0.9),
            p((materials.planks, materials.metal, materials.paint, materials.poster)),
        )
        with s.placed(
            rng.normal(0, 0.04),
            rng.normal(0, 0.04),
            rng.normal(0, 0.15),
            -up,
            inner=(0, -high / 2, 0),
        ):
            if rng.random() < 0.3:
                s.tube(wide / 2, 0, high, stuff, sides=10)
            else:
                s.block((wide, high, wide * rng.uniform(0.6, 1)), stuff, repeat_m=wide)
        up += high
    return float(0.7 * wide)


def shape(s: Scene, rng: Rng, p: Palette) -> float:
    """An abstract body."""
    stuff, size = p(materials.THING), np.exp(rng.uniform(np.log(0.15), np.log(2.0)))
    kind = rng.integers(5)
    if kind == 0:
        w, h, d = size * rng.uniform(0.3, 1.5, 3)
        s.block((w, h, d), stuff, repeat_m=size)
    elif kind == 1:
        s.ball(rng, size / 2, stuff, (0, size / 2, 0), rng.choice([0, 0.3]))
    elif kind == 2:
        radius, high, sides = rng.uniform(0.1, 0.5), rng.uniform(0.5, 2.5), int(rng.integers(3, 12))
        s.tube(size * radius, 0, size * high, stuff, sides=sides, repeat_m=size)
    elif kind == 3:
        s.lathe(
            [
                (size * rng.uniform(0.05, 0.6), size * h)
                for h in np.linspace(0, rng.uniform(0.6, 2), 5)
            ],
            stuff,
        )
    else:
        s.lathe(
            [(size * 0.5, 0), (0.01, size * rng.uniform(0.6, 2))],
            stuff,
            sides=int(rng.integers(3, 10)),
        )
    return float(0.9 * size)


ROOM = (table, chair, sofa, shelf, cupboard, chair, bin_or_box, shape, table, shelf)
STORE = (pile, pile, shelf, cupboard, bin_or_box, person, shape)
