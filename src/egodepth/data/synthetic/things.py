"""Things that stand in the worlds: each is built around its own origin, on the ground, looking to -z."""

from collections.abc import Callable

import numpy as np

from egodepth.data.synthetic import materials
from egodepth.data.synthetic.materials import Rng
from egodepth.data.synthetic.scene import Scene


class Palette:
    """The textures of one world: a few of each choice, made when they are first asked for."""

    def __init__(self, scene: Scene, rng: Rng, kinds: int = 3):
        """Args:
        scene: that keeps the textures.
        rng: draws them.
        kinds: different textures of one choice.
        """
        self._scene, self._rng, self._kinds = scene, rng, kinds
        self._made: dict[object, list[int]] = {}

    def __call__(self, choice: object) -> int:
        """The index of a texture: of a function of :mod:`.materials`, or of a tuple of them."""
        made = self._made.setdefault(choice, [])
        if len(made) < self._kinds:
            choices = choice if isinstance(choice, tuple) else (choice,)
            made.append(self._scene.add_texture(materials.pick(self._rng, choices)))
            return made[-1]
        return made[self._rng.integers(len(made))]


def car(s: Scene, rng: Rng, p: Palette) -> float:
    """A car, van or lorry, looking to +z. Its length in metres."""
    kind = rng.choice(["car", "van", "lorry"], p=[0.75, 0.15, 0.1])
    body, glass, tyre = p(materials.paint), p(_glass), p(_rubber)
    if kind == "lorry":
        length, width, tall = rng.uniform(6.5, 12), 2.4, rng.uniform(2.8, 3.8)
        s.block((width, tall - 0.9, length - 2.2), p((materials.paint, materials.metal, materials.poster)),
                (0, 0.9, -1.1), length)  # fmt: skip
        s.block((width - 0.1, 1.9, 1.9), body, (0, 0.6, length / 2 - 0.95), 3)
        s.block((width - 0.3, 0.75, 1.7), glass, (0, 1.6, length / 2 - 0.9), 3)
        s.block((width - 0.4, 0.5, length - 0.6), tyre, (0, 0.45, 0))
        outline, belt = None, 0.0
    else:
        length, width = rng.uniform(3.6, 4.9), rng.uniform(1.65, 1.9)
        high = rng.uniform(1.35, 1.6) if kind == "car" else rng.uniform(1.85, 2.3)
        hood = rng.uniform(0.16, 0.27) if kind == "car" else rng.uniform(0.05, 0.12)
        tail = rng.uniform(0.02, 0.2) if kind == "car" else 0.01
        belt = rng.uniform(0.85, 1.0) if kind == "car" else 1.2
        outline = [(0.0, 0.3), (0.01, belt), (tail, belt + 0.03), (tail + 0.07, high),
                   (1 - hood - 0.16, high), (1 - hood, belt), (0.985, belt - 0.15), (1.0, 0.32)]  # fmt: skip
    if outline is not None:
        covers = [body, body, glass, body, glass, body, body]
        points = np.array(outline) * (length, 1) - (length / 2, 0)
        for (z0, u0), (z1, u1), cover in zip(points[:-1], points[1:], covers, strict=True):
            i0, i1 = (width / 2 - max(0.0, u - belt) * 0.3 for u in (u0, u1))
            roof = np.array([(-i0, -u0, z0), (i0, -u0, z0), (i1, -u1, z1), (-i1, -u1, z1)])
            s.polygon(roof, np.array([(0, 0), (1, 0), (1, 0.3), (0, 0.3)]), cover, (0, -0.6, 0))
        for side in (-1, 1):
            low = [(z, u) for z, u in points if u <= belt + 0.04]
            face = np.array([(side * width / 2, -u, z) for z, u in low])
            s.polygon(face, face[:, [2, 1]] / 5, body, (0, -0.6, 0))
            top = [points[2], points[3], points[4], points[5]]
            face = np.array(
                [(side * (width / 2 - max(0.0, u - belt) * 0.3), -u, z) for z, u in top]
            )
            s.polygon(face, face[:, [2, 1]] / 5, glass, (0, -0.6, 0))
            post = float(points[3, 0] + rng.uniform(0.3, 0.6) * (points[4, 0] - points[3, 0]))
            bar = np.array([(side * (width / 2 - max(0.0, u - belt) * 0.3 + 0.005), -u, z)
                            for z, u in ((post, belt), (post, high), (post + 0.12, high), (post + 0.12, belt))])  # fmt: skip
            s.polygon(bar, bar[:, [2, 1]] / 5, body, (0, -0.6, 0))
        s.block((width - 0.1, 0.2, length - 0.2), tyre, (0, 0.12, 0))
    for z in (-0.31 * length, 0.31 * length):
        for side in (-1, 1):
            turns = np.arange(9) * 2 * np.pi / 9
            rim = np.stack([np.full(9, side * (width / 2 + 0.01)), -0.33 - 0.33 * np.sin(turns),
                            z + 0.33 * np.cos(turns)], 1)  # fmt: skip
            s.polygon(rim, np.zeros((9, 2)), tyre, (0, -0.4, z))
            hub = rim * 0.55 + 0.45 * rim.mean(0) + (side * 0.01, 0, 0)
            s.polygon(hub, np.zeros((9, 2)), p(_silver), (0, -0.4, z))
    for side in (-1, 1):
        for z, lamp in ((length / 2 + 0.01, p(_white)), (-length / 2 - 0.01, p(_red))):
            w = np.array([(side * (width / 2 - a), -u, z) for a, u in ((0.05, 0.6), (0.4, 0.6), (0.4, 0.75), (0.05, 0.75))])  # fmt: skip
            s.polygon(w, np.zeros((4, 2)), lamp, (0, -0.6, 0))
    return float(length)


def tree(s: Scene, rng: Rng, p: Palette) -> float:
    """A broad-leaved tree, a fir, or a palm-like one; its radius."""
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
    """A shrub; its radius."""
    wide, leaves = rng.uniform(0.4, 1.3), p(materials.foliage)
    for _ in range(rng.integers(2, 5)):
        spot = rng.uniform(-0.6, 0.6, 2) * wide
        s.ball(rng, wide * rng.uniform(0.4, 0.8), leaves, (spot[0], 0.3 * wide, spot[1]), 0.35)
    return float(1.4 * wide)


def person(s: Scene, rng: Rng, p: Palette) -> float:
    """Somebody who walks to +z; the radius."""
    tall = rng.uniform(1.5, 1.95)
    shirt, trousers, skin, hair = p(materials.cloth), p(materials.cloth), p(_skin), p(_dark)
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
    """A street lamp whose arm reaches to +x."""
    high, arm, grey = rng.uniform(4, 8), rng.uniform(0, 2), p(materials.metal)
    s.tube(0.08, 0, high, grey, sides=6)
    s.block((arm + 0.3, 0.1, 0.12), grey, (arm / 2, high - 0.05, 0))
    s.block((0.6, 0.12, 0.25), p(_white), (arm, high - 0.1, 0))
    return 0.15


def sign(s: Scene, rng: Rng, p: Palette) -> float:
    """A traffic sign or notice on a post."""
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
    """A bench of boards."""
    long, boards, legs = rng.uniform(1.2, 2.2), p(materials.wood), p(materials.metal)
    s.block((long, 0.06, 0.45), boards, (0, 0.42, 0))
    s.block((long, 0.35, 0.05), boards, (0, 0.5, 0.22))
    for side in (-1, 1):
        s.block((0.06, 0.42, 0.4), legs, (side * 0.4 * long, 0, 0))
    return float(0.5 * long)


def table(s: Scene, rng: Rng, p: Palette) -> float:
    """A table or desk with what lies on it."""
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
    """Something small: a book, a cup, a bottle, a box, a screen, a plant."""
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
            s.block((w, 0.6 * w, 0.04), p(_dark), (0, 0.12, 0))
            s.panel(0.94 * w, 0.54 * w, p(materials.poster), (0, 0.12 + 0.03 * w, -0.025))
            s.block((0.2, 0.12, 0.1), p(_dark))
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
    """Shelves with books or things."""
    w, h, d, stuff = (
        rng.uniform(0.6, 2.2),
        rng.uniform(0.9, 2.3),
        rng.uniform(0.25, 0.5),
        p(materials.FURNITURE),
    )
    if rng.random() < 0.35:
        s.block((w, h, d), stuff)
        s.panel(0.96 * w, 0.96 * h, p(materials.books), (0, 0.02 * h, -d / 2 - 0.005), (max(1, round(w)), max(1, round(h / 1.3))))  # fmt: skip
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
    """A cupboard, fridge or radiator, with doors."""
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
        s.block((0.02, 0.15, 0.03), p(_silver), (x + 0.3 * w / doors, 0.5 * h, -d / 2 - 0.02))
    return float(0.55 * np.hypot(w, d))


def pile(s: Scene, rng: Rng, p: Palette) -> float:
    """Crates or drums on each other."""
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
    """Some body that is no particular thing."""
    stuff, size = p(materials.THING), np.exp(rng.uniform(np.log(0.15), np.log(2.0)))
    kind = rng.integers(5)
    if kind == 0:
        w, h, d = size * rng.uniform(0.3, 1.5, 3)
        s.block((w, h, d), stuff, repeat_m=size)
    elif kind == 1:
        s.ball(rng, size / 2, stuff, (0, size / 2, 0), rng.choice([0, 0.3]))
    elif kind == 2:
        s.tube(size * rng.uniform(0.1, 0.5), 0, size * rng.uniform(0.5, 2.5), stuff, sides=int(rng.integers(3, 12)), repeat_m=size)  # fmt: skip
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


Thing = Callable[[Scene, Rng, Palette], float]
STREET: tuple[Thing, ...] = (
    lamp_post,
    sign,
    bin_or_box,
    tree,
    bush,
    bench,
    sign,
    lamp_post,
    person,
    tree,
)
ROOM: tuple[Thing, ...] = (
    table,
    chair,
    sofa,
    shelf,
    cupboard,
    chair,
    bin_or_box,
    shape,
    table,
    shelf,
)
YARD: tuple[Thing, ...] = (
    tree,
    bush,
    bench,
    pile,
    bin_or_box,
    person,
    shape,
    lamp_post,
    table,
    car,
)
STORE: tuple[Thing, ...] = (pile, pile, shelf, cupboard, bin_or_box, person, shape)


def _plain(rng: Rng, tint: tuple[float, ...]) -> np.ndarray:
    return np.full((8, 8, 3), tint, np.float32) * np.float32(rng.uniform(0.85, 1.0))


def _glass(rng: Rng) -> np.ndarray:
    shade = np.linspace(rng.uniform(0.2, 0.5), 0.06, 32)[:, None] * np.ones(32)
    return materials.tinted(shade, np.array([0.85, 0.95, 1.0]))


def _rubber(rng: Rng) -> np.ndarray:
    return _plain(rng, (0.06, 0.06, 0.065))


def _silver(rng: Rng) -> np.ndarray:
    return _plain(rng, (0.6, 0.61, 0.63))


def _white(rng: Rng) -> np.ndarray:
    return _plain(rng, (0.95, 0.95, 0.9))


def _red(rng: Rng) -> np.ndarray:
    return _plain(rng, (0.7, 0.05, 0.05))


def _skin(rng: Rng) -> np.ndarray:
    return _plain(rng, tuple(np.array([0.85, 0.62, 0.5]) * rng.uniform(0.4, 1.05)))


def _dark(rng: Rng) -> np.ndarray:
    return _plain(rng, tuple(materials.colour(rng, (0, 0.5), (0.05, 0.3))))
