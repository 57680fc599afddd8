"""Cars, vans and lorries."""

import numpy as np

from egodepth.data.synthetic.worlds import materials, palette
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.scene import Scene

WHEEL = 0.33
"""Radius of a wheel in metres."""


def vehicle(s: Scene, rng: Rng, p: Palette) -> float:
    """Add a car, van or lorry, facing +z; returns its length in metres."""
    kind = rng.choice(["car", "van", "lorry"], p=[0.75, 0.15, 0.1])
    length, width = _lorry(s, rng, p) if kind == "lorry" else _car(s, rng, p, is_van=kind == "van")
    _wheels(s, p, length, width)
    lamps = (length / 2 + 0.01, p(palette.white)), (-length / 2 - 0.01, p(palette.red))
    for side in (-1, 1):
        for z, lamp in lamps:
            corners = ((0.05, 0.6), (0.4, 0.6), (0.4, 0.75), (0.05, 0.75))
            face = np.array([(side * (width / 2 - inset), -up, z) for inset, up in corners])
            s.polygon(face, np.zeros((4, 2)), lamp, (0, -0.6, 0))
    return length


def _lorry(s: Scene, rng: Rng, p: Palette) -> tuple[float, float]:
    length, width, tall = float(rng.uniform(6.5, 12)), 2.4, rng.uniform(2.8, 3.8)
    body, glass, load = (
        p(materials.paint), p(palette.glass), p((materials.paint, materials.metal, materials.poster)),
    )  # fmt: skip
    s.block((width, tall - 0.9, length - 2.2), load, (0, 0.9, -1.1), length)
    s.block((width - 0.1, 1.9, 1.9), body, (0, 0.6, length / 2 - 0.95), 3)
    s.block((width - 0.3, 0.75, 1.7), glass, (0, 1.6, length / 2 - 0.9), 3)
    s.block((width - 0.4, 0.5, length - 0.6), p(palette.rubber), (0, 0.45, 0))
    return length, width


def _car(s: Scene, rng: Rng, p: Palette, *, is_van: bool) -> tuple[float, float]:
    """Add a car or van: an extruded outline with a cabin that tapers towards the roof."""
    body, glass = p(materials.paint), p(palette.glass)
    length, width = float(rng.uniform(3.6, 4.9)), float(rng.uniform(1.65, 1.9))
    high = rng.uniform(1.85, 2.3) if is_van else rng.uniform(1.35, 1.6)
    hood = rng.uniform(0.05, 0.12) if is_van else rng.uniform(0.16, 0.27)
    tail = 0.01 if is_van else rng.uniform(0.02, 0.2)
    belt = 1.2 if is_van else rng.uniform(0.85, 1.0)
    outline = [(0.0, 0.3), (0.01, belt), (tail, belt + 0.03), (tail + 0.07, high),
               (1 - hood - 0.16, high), (1 - hood, belt), (0.985, belt - 0.15), (1.0, 0.32)]  # fmt: skip
    points = np.array(outline) * (length, 1) - (length / 2, 0)

    def half(up: float) -> float:
        return width / 2 - max(0.0, up - belt) * 0.3

    covers = [body, body, glass, body, glass, body, body]
    for (z0, u0), (z1, u1), cover in zip(points[:-1], points[1:], covers, strict=True):
        a, b = half(u0), half(u1)
        strip = np.array([(-a, -u0, z0), (a, -u0, z0), (b, -u1, z1), (-b, -u1, z1)])
        s.polygon(strip, np.array([(0, 0), (1, 0), (1, 0.3), (0, 0.3)]), cover, (0, -0.6, 0))
    post = float(points[3, 0] + rng.uniform(0.3, 0.6) * (points[4, 0] - points[3, 0]))
    bar = [(post, belt), (post, high), (post + 0.12, high), (post + 0.12, belt)]
    low = [(z, up) for z, up in points if up <= belt + 0.04]
    for side in (-1, 1):
        for shape, cover, out in ((low, body, 0.0), (points[2:6], glass, 0.0), (bar, body, 0.005)):
            flat = shape is low
            insets = [width / 2 if flat else half(up) for _, up in shape]
            face = np.array(
                [(side * (x + out), -up, z) for x, (z, up) in zip(insets, shape, strict=True)]
            )
            s.polygon(face, face[:, [2, 1]] / 5, cover, (0, -0.6, 0))
    s.block((width - 0.1, 0.2, length - 0.2), p(palette.rubber), (0, 0.12, 0))
    return length, width


def _wheels(s: Scene, p: Palette, length: float, width: float) -> None:
    turns = np.arange(9) * 2 * np.pi / 9
    for z in (-0.31 * length, 0.31 * length):
        for side in (-1, 1):
            rim = np.stack([np.full(9, side * (width / 2 + 0.01)), -WHEEL - WHEEL * np.sin(turns),
                            z + WHEEL * np.cos(turns)], 1)  # fmt: skip
            s.polygon(rim, np.zeros((9, 2)), p(palette.rubber), (0, -0.4, z))
            hub = rim * 0.55 + 0.45 * rim.mean(0) + (side * 0.01, 0, 0)
            s.polygon(hub, np.zeros((9, 2)), p(palette.silver), (0, -0.4, z))
