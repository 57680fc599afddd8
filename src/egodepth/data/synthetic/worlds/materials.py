"""Materials of the worlds: random tileable textures (H, W, 3) float32 in [0, 1]."""

import itertools
from collections.abc import Callable

import cv2
import numpy as np

Rng = np.random.Generator
SIDE = 256
"""Side of a tile in pixels."""
Colour = np.ndarray


def colour(
    rng: Rng, saturation: tuple[float, float], value: tuple[float, float], hue: float | None = None
) -> Colour:
    """Random RGB colour (3,) of a hue in [0, 1); any hue if None."""
    h = rng.random() if hue is None else (hue + rng.normal(0, 0.03)) % 1
    s, v = rng.uniform(*saturation), rng.uniform(*value)
    ramp = np.abs((h + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    found: Colour = v * (1 - s + s * np.clip(ramp, 0, 1))
    return found


def clouds(
    rng: Rng, cell: float, octaves: int = 4, side: int = SIDE, stretch: float = 1.0
) -> np.ndarray:
    """Tileable fractal noise (side, side) of roughly unit standard deviation; ``cell`` is the width of the
    largest blobs in pixels, ``stretch`` their ratio of width to height."""
    total = np.zeros((side, side), np.float32)
    power = 0.0
    for octave in range(octaves):
        rows = int(np.clip(round(side / cell * 2**octave * stretch), 2, side))
        columns = int(np.clip(round(side / cell * 2**octave), 2, side))
        grid = rng.standard_normal((rows, columns)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        weight = 0.62**octave
        size = (round(side * (columns + 4) / columns), round(side * (rows + 4) / rows))
        large = cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
        top, left = round(2 * side / rows), round(2 * side / columns)
        total += weight * large[top : top + side, left : left + side]
        power += weight**2
    return total / np.sqrt(power) * 1.3


def grain(rng: Rng, side: int = SIDE) -> np.ndarray:
    """White noise (side, side)."""
    return rng.standard_normal((side, side)).astype(np.float32)


def tinted(shade: np.ndarray, tint: Colour) -> np.ndarray:
    """Multiply brightness (H, W) with a colour, to (H, W, 3) in [0, 1]."""
    return np.clip(shade[..., None] * tint, 0, 1).astype(np.float32)


def blended(weight: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Blend two textures: ``one`` where the weight is 0, ``other`` where it is 1."""
    w = np.clip(weight, 0, 1)[..., None]
    return (one * (1 - w) + other * w).astype(np.float32)


def asphalt(rng: Rng) -> np.ndarray:
    """Grey, grainy asphalt with stains, cracks and patches."""
    shade = 1 + 0.10 * clouds(rng, 120, 3) + rng.uniform(0.04, 0.12) * grain(rng)
    if rng.random() < 0.6:
        shade -= 0.25 * _cracks(rng, rng.uniform(40, 110), 0.9)
    for _ in range(rng.integers(0, 3)):
        top, left, h, w = (int(v) for v in rng.integers(20, 120, 4))
        shade[top : top + h, left : left + w] *= rng.uniform(0.75, 1.1)
    return tinted(shade, rng.uniform(0.16, 0.42) * (1 + rng.uniform(-0.04, 0.04, 3)))


def concrete(rng: Rng) -> np.ndarray:
    """Concrete slabs with joints."""
    shade = 1 + 0.07 * clouds(rng, 90) + 0.03 * grain(rng)
    if rng.random() < 0.6:
        gap = SIDE // int(rng.integers(1, 4))
        shade[::gap] *= 0.7
        shade[:, ::gap] *= 0.7
    return tinted(shade, rng.uniform(0.4, 0.72) * np.array([1.02, 1.0, rng.uniform(0.9, 1.0)]))


def paving(rng: Rng) -> np.ndarray:
    """Paving stones in courses."""
    return _courses(rng, int(rng.integers(5, 14)), int(rng.integers(4, 14)),
                    colour(rng, (0.0, 0.25), (0.4, 0.7), 0.08), rng.uniform(0.05, 0.16))  # fmt: skip


def bricks(rng: Rng) -> np.ndarray:
    """A brick wall."""
    rows = int(rng.integers(10, 26))
    return _courses(rng, rows, rows // 3, colour(rng, (0.25, 0.6), (0.35, 0.65), 0.03), 0.14)


def tiles(rng: Rng) -> np.ndarray:
    """Glazed tiles in one or two colours."""
    count = int(rng.integers(3, 10))
    cell = SIDE // count
    tint = np.ones((count, count, 1)) * colour(rng, (0, 0.4), (0.5, 0.95))
    if rng.random() < 0.4:
        tint[(np.add.outer(np.arange(count), np.arange(count)) % 2) == 1] = colour(
            rng, (0, 0.5), (0.1, 0.9)
        )
    tint = tint * (1 + 0.03 * rng.standard_normal((count, count, 1)))
    image = np.kron(tint, np.ones((cell, cell, 1)))
    image = np.pad(image, ((0, SIDE - count * cell), (0, SIDE - count * cell), (0, 0)), mode="wrap")
    line, joint = max(1, cell // 20), rng.uniform(0.3, 0.9)
    for offset in range(line):
        image[offset::cell] = joint
        image[:, offset::cell] = joint
    return np.clip(image, 0, 1).astype(np.float32)


def plaster(rng: Rng) -> np.ndarray:
    """Painted or raw plaster, often with hardly any texture."""
    amount = rng.choice([0.006, 0.02, 0.05])
    shade = 1 + amount * clouds(rng, 100) + 0.5 * amount * grain(rng)
    return tinted(shade, colour(rng, (0.0, 0.35), (0.55, 0.95)))


def wallpaper(rng: Rng) -> np.ndarray:
    """Wallpaper with stripes or a repeating pattern."""
    ground, figure = colour(rng, (0, 0.4), (0.5, 0.95)), colour(rng, (0, 0.6), (0.2, 0.9))
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi / SIDE)
    n, m = rng.integers(2, 12, 2)
    kind = rng.integers(3)
    if kind == 0:
        pattern = np.sin(n * x)
    elif kind == 1:
        pattern = np.sin(n * x) * np.sin(m * y)
    else:
        pattern = np.sin(n * x + np.sin(m * y)) + 0.3 * np.sin(m * x - n * y)
    sharp = np.clip(pattern * rng.uniform(1, 8), 0, 1) * rng.uniform(0.2, 1)
    return blended(
        sharp, tinted(1 + 0.02 * grain(rng), ground), tinted(np.ones((SIDE, SIDE)), figure)
    )


def grass(rng: Rng) -> np.ndarray:
    """A lawn or meadow with bare patches."""
    blades = (
        0.5 + 0.16 * grain(rng) + 0.12 * clouds(rng, 12, 3, stretch=0.5) + 0.12 * clouds(rng, 90, 3)
    )
    image = tinted(blades, colour(rng, (0.4, 0.7), (0.55, 1.0), rng.uniform(0.16, 0.3)))
    return blended(clouds(rng, 110) - rng.uniform(0.3, 1.6), image, soil(rng))


def soil(rng: Rng) -> np.ndarray:
    """Earth, sand or gravel."""
    shade = 1 + 0.12 * clouds(rng, 60, 5) + rng.uniform(0.05, 0.2) * grain(rng)
    return tinted(shade, colour(rng, (0.1, 0.45), (0.35, 0.7), 0.09))


def gravel(rng: Rng) -> np.ndarray:
    """Pebbles."""
    shade = 1 - 0.6 * _cracks(rng, rng.uniform(8, 18), 0.8) + 0.12 * clouds(rng, 14, 2)
    return tinted(shade, colour(rng, (0.0, 0.25), (0.4, 0.75), 0.09))


def planks(rng: Rng) -> np.ndarray:
    """Boards side by side, with the grain along the rows."""
    count = int(rng.integers(2, 9))
    edges = np.linspace(0, SIDE, count + 1).astype(int)
    image = wood(rng)
    for low, high in itertools.pairwise(edges):
        image[low:high] = np.roll(image[low:high], rng.integers(SIDE), 1) * rng.uniform(0.8, 1.15)
        image[low : low + 2] *= 0.55
        image[low:high, rng.integers(SIDE)] *= 0.6
    return np.clip(image, 0, 1)


def wood(rng: Rng) -> np.ndarray:
    """Wood grain."""
    shade = 1 + 0.12 * clouds(rng, 150, 5, stretch=9) + 0.03 * grain(rng)
    return tinted(shade, colour(rng, (0.2, 0.65), (0.3, 0.85), 0.075))


def cloth(rng: Rng) -> np.ndarray:
    """Plain, striped or checked cloth."""
    ground, figure = colour(rng, (0, 0.8), (0.1, 0.9)), colour(rng, (0, 0.8), (0.1, 0.9))
    kind, n = rng.integers(4), int(rng.integers(2, 14))
    wave = np.sin(np.arange(SIDE) * 2 * np.pi * n / SIDE) > rng.uniform(-0.5, 0.7)
    weight = np.zeros((SIDE, SIDE))
    weight += 0.5 * wave if kind >= 1 else 0
    weight += 0.5 * wave[:, None] if kind >= 2 else 0
    weave = 1 + 0.05 * grain(rng) + 0.04 * clouds(rng, 60)
    return blended(weight, tinted(weave, ground), tinted(weave, figure))


def carpet(rng: Rng) -> np.ndarray:
    """Carpet, plain or patterned."""
    image = (
        cloth(rng)
        if rng.random() < 0.4
        else tinted(np.ones((SIDE, SIDE)), colour(rng, (0, 0.5), (0.15, 0.7)))
    )
    return np.clip(
        image * (1 + 0.14 * grain(rng) + 0.05 * clouds(rng, 70))[..., None], 0, 1
    ).astype(np.float32)


def metal(rng: Rng) -> np.ndarray:
    """Painted or bare metal, sometimes rusty or corrugated."""
    image = tinted(
        1 + 0.02 * grain(rng) + 0.03 * clouds(rng, 120, 3, stretch=6),
        colour(rng, (0, 0.7), (0.15, 0.85)),
    )
    if rng.random() < 0.3:
        image = blended(
            clouds(rng, 60) - 0.9, image, tinted(1 + 0.2 * grain(rng), np.array([0.42, 0.24, 0.14]))
        )
    if rng.random() < 0.3:
        image = (
            image
            * (0.8 + 0.2 * np.sin(np.arange(SIDE) * 2 * np.pi * rng.integers(4, 16) / SIDE))[
                :, None
            ]
        )
    return image.astype(np.float32)


def paint(rng: Rng) -> np.ndarray:
    """Paint of a single colour, without texture."""
    return tinted(1 + 0.01 * grain(rng), colour(rng, (0.0, 0.9), (0.08, 0.95)))


def foliage(rng: Rng) -> np.ndarray:
    """Light and dark leaves."""
    shade = 0.5 + 0.22 * clouds(rng, 30, 5) + 0.15 * grain(rng)
    return tinted(
        shade.clip(0.08, 1.2),
        colour(rng, (0.35, 0.8), (0.35, 0.8), rng.choice([0.24, 0.27, 0.31, 0.13])),
    )


def bark(rng: Rng) -> np.ndarray:
    """Tree bark with furrows along the columns."""
    shade = 1 + 0.3 * clouds(rng, 40, 4, stretch=0.2) + 0.1 * grain(rng)
    return tinted(shade, colour(rng, (0.1, 0.45), (0.2, 0.5), 0.08))


def marble(rng: Rng) -> np.ndarray:
    """Veined stone."""
    veins = np.abs(clouds(rng, 120, 5))
    return tinted(
        1 - 0.35 * np.exp(-6 * veins) + 0.02 * grain(rng), colour(rng, (0, 0.2), (0.3, 0.95))
    )


def poster(rng: Rng) -> np.ndarray:
    """A printed poster with shapes, lines of text and a gradient."""
    image = np.ones((SIDE, SIDE, 3), np.float32) * colour(rng, (0, 0.6), (0.3, 1)).astype(
        np.float32
    )
    image *= np.linspace(1, rng.uniform(0.3, 1.1), SIDE, dtype=np.float32)[:, None, None]
    for _ in range(rng.integers(2, 8)):
        tint = tuple(float(v) for v in colour(rng, (0, 1), (0, 1)))
        centre = tuple(int(v) for v in rng.integers(0, SIDE, 2))
        if rng.random() < 0.5:
            cv2.circle(image, centre, int(rng.integers(8, 80)), tint, -1, cv2.LINE_AA)
        else:
            size = rng.integers(10, 120, 2)
            cv2.rectangle(
                image, centre, (centre[0] + int(size[0]), centre[1] + int(size[1])), tint, -1
            )
    ink = tuple(float(v) for v in colour(rng, (0, 0.4), (0, 0.3)))
    for row in range(int(rng.integers(20, 120)), SIDE - 20, int(rng.integers(9, 30))):
        for left in range(20, SIDE - 30, 24):
            if rng.random() < 0.8:
                cv2.rectangle(
                    image, (left, row), (left + int(rng.integers(8, 22)), row + 4), ink, -1
                )
    return np.clip(image, 0, 1)


def books(rng: Rng) -> np.ndarray:
    """Book spines on four shelves."""
    image = np.full((SIDE, SIDE, 3), 0.08, np.float32)
    for shelf in range(4):
        low = shelf * SIDE // 4
        left = 0
        while left < SIDE:
            width, height = int(rng.integers(4, 16)), int(rng.integers(38, 60))
            image[low + 62 - height : low + 62, left : left + width] = colour(
                rng, (0, 0.9), (0.1, 0.9)
            )
            image[low + 62 - height // 2 : low + 66 - height // 2, left : left + width] *= 0.6
            image[low + 62 - height : low + 62, left] *= 0.5
            left += width
        image[low + 60 : low + 64] = (0.45, 0.33, 0.22)
    return image


def facade(rng: Rng) -> np.ndarray:
    """A facade of four storeys with four bays of windows."""
    image = rng.choice(np.array([plaster, bricks, concrete]))(rng)
    image = image * rng.uniform(0.8, 1.05)
    cell = SIDE // 4
    w, h = int(cell * rng.uniform(0.3, 0.75)), int(cell * rng.uniform(0.35, 0.75))
    trim, glass = colour(rng, (0, 0.3), (0.5, 0.95)), colour(rng, (0.05, 0.4), (0.08, 0.4), 0.58)
    for row in range(4):
        for column in range(4):
            top, left = row * cell + (cell - h) // 2, column * cell + (cell - w) // 2
            image[top - 2 : top + h + 2, left - 2 : left + w + 2] = trim
            pane = glass * np.linspace(rng.uniform(0.8, 2.2), rng.uniform(0.5, 1), h)[:, None, None]
            image[top : top + h, left : left + w] = pane
            if rng.random() < 0.35:
                drop = int(h * rng.uniform(0.2, 1))
                image[top : top + drop, left : left + w] = colour(rng, (0, 0.3), (0.4, 0.9))
            image[top : top + h, left + w // 2] = trim
    if rng.random() < 0.5:
        image[::cell] *= 0.7
    return np.clip(image, 0, 1).astype(np.float32)


def mosaic(rng: Rng) -> np.ndarray:
    """An abstract mix of a few colours, with the variation of photographs."""
    image = tinted(np.ones((SIDE, SIDE)), colour(rng, (0, 0.8), (0.1, 0.9)))
    for _ in range(rng.integers(1, 4)):
        edge = rng.uniform(1, 12) * (
            clouds(rng, rng.uniform(20, 150), int(rng.integers(1, 6))) - rng.uniform(-0.5, 1)
        )
        image = blended(
            edge, image, tinted(1 + 0.1 * grain(rng), colour(rng, (0, 0.8), (0.1, 0.9)))
        )
    return image


GROUND: tuple[Callable[[Rng], np.ndarray], ...] = (concrete, paving, asphalt, soil, gravel, grass)
FLOOR = (planks, tiles, carpet, concrete, marble, planks)
WALL = (plaster, plaster, wallpaper, bricks, concrete, plaster, planks)
HOUSE = (facade, facade, bricks, plaster, concrete)
FURNITURE = (wood, paint, metal, cloth, wood, marble, plaster)
THING = (paint, cloth, metal, wood, mosaic, poster, bricks, tiles, foliage, marble)


def pick(rng: Rng, choices: tuple[Callable[[Rng], np.ndarray], ...]) -> np.ndarray:
    """Make a texture of one of several materials."""
    return choices[rng.integers(len(choices))](rng)


def _courses(rng: Rng, rows: int, columns: int, tint: Colour, spread: float) -> np.ndarray:
    """Stones in rows, every second row shifted by half a stone, with joints."""
    shade = np.ones((SIDE, SIDE), np.float32)
    ys = np.linspace(0, SIDE, rows + 1).astype(int)
    xs = np.linspace(0, SIDE, columns + 1).astype(int)
    joint = rng.choice([0.55, 0.75, 1.3])
    for row in range(rows):
        band = np.ones((ys[row + 1] - ys[row], SIDE), np.float32)
        for column in range(columns):
            band[:, xs[column] : xs[column + 1]] *= 1 + spread * rng.standard_normal()
            band[:, xs[column]] = joint
        shade[ys[row] : ys[row + 1]] = np.roll(band, SIDE // columns // 2 * (row % 2), 1)
        shade[ys[row]] = joint
    return tinted(shade * (1 + 0.05 * clouds(rng, 80) + 0.05 * grain(rng)), tint)


def _cracks(rng: Rng, cell: float, width: float) -> np.ndarray:
    """Tileable cracks (SIDE, SIDE) in [0, 1]: the borders of Voronoi cells of random points."""
    count = max(4, int((SIDE / cell) ** 2))
    seeds = rng.uniform(0, SIDE, (count, 2))
    marks = np.full((SIDE * 2, SIDE * 2), 255, np.uint8)
    half = SIDE // 2
    for shift in np.mgrid[-1:2, -1:2].reshape(2, -1).T:
        spots = (seeds + shift * SIDE + half).astype(int)
        spots = spots[((spots >= 0) & (spots < 2 * SIDE)).all(1)]
        marks[spots[:, 1], spots[:, 0]] = 0
    _, labels = cv2.distanceTransformWithLabels(
        marks, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # A point has a different label in each copy of the tile, so that borders between copies are kept.
    labels = labels.astype(np.float32)[half : half + SIDE + 1, half : half + SIDE + 1]
    edge = (np.diff(labels, axis=0)[:, :-1] != 0) | (np.diff(labels, axis=1)[:-1] != 0)
    found: np.ndarray = np.clip(cv2.GaussianBlur(edge.astype(np.float32), (0, 0), width) * 2, 0, 1)
    return found
