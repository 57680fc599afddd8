"""Procedural textures of the synthetic street: (H, W, 3) float32 in [0, 1], row 0 at the top."""

import numpy as np
import torch
import torch.nn.functional as F

Rng = np.random.Generator

PLASTER = ((0.83, 0.76, 0.62), (0.76, 0.62, 0.48), (0.66, 0.70, 0.71), (0.86, 0.83, 0.78),
           (0.72, 0.50, 0.42), (0.62, 0.66, 0.56), (0.80, 0.68, 0.52))  # fmt: skip
BRICK = ((0.55, 0.29, 0.22), (0.48, 0.33, 0.27), (0.62, 0.42, 0.32))
CAR_PAINT = ((0.75, 0.76, 0.78), (0.12, 0.13, 0.15), (0.45, 0.08, 0.08), (0.12, 0.20, 0.42),
             (0.55, 0.57, 0.58), (0.85, 0.85, 0.83), (0.20, 0.32, 0.25))  # fmt: skip


def resize(texture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (h, w) or (h, w, c) smoothly."""
    planes = torch.from_numpy(np.atleast_3d(texture).astype(np.float32)).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, (height, width), mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).numpy().reshape(height, width, *texture.shape[2:])


def noise(rng: Rng, height: int, width: int, cell: float, octaves: int = 4) -> np.ndarray:
    """Fractal noise of roughly unit amplitude; ``cell`` is the size of the largest blobs in pixels."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1)
        rows, columns = (max(2, round(side / size) + 1) for side in (height, width))
        total += resize(rng.standard_normal((rows, columns)), height, width) / 1.6**octave
    return total


def asphalt(rng: Rng, height: int, width: int) -> np.ndarray:
    """Road surface with repair patches and lengthwise cracks."""
    grey = (
        0.34
        + 0.018 * noise(rng, height, width, 60, 6)
        + 0.022 * rng.standard_normal((height, width))
    )
    for _ in range(height * width // 60_000 + 2):
        h, w = int(rng.integers(20, 90)), int(rng.integers(15, 60))
        top, left = rng.integers(0, max(1, height - h)), rng.integers(0, max(1, width - w))
        grey[top : top + h, left : left + w] += rng.uniform(-0.09, 0.05)
    for _ in range(height * width // 40_000 + 2):
        column = np.cumsum(rng.normal(0, 0.8, height)) + rng.uniform(0, width)
        rows = np.arange(height)
        keep = (column >= 0) & (column < width) & (noise(rng, height, 1, 80, 1)[:, 0] > 0.3)
        grey[rows[keep], column[keep].astype(int)] -= 0.12
    return _tinted(grey, (1.0, 1.0, 1.03))


def pavement(rng: Rng, height: int, width: int, slab: int) -> np.ndarray:
    """Paving slabs of ``slab`` pixels, each slightly different."""
    rows, columns = height // slab + 1, width // slab + 1
    tiles = 0.58 + 0.045 * rng.standard_normal((rows, columns))
    grey = np.kron(tiles, np.ones((slab, slab)))[:height, :width]
    grey = grey + 0.02 * rng.standard_normal((height, width)) + 0.03 * noise(rng, height, width, 90)
    grey[::slab] -= 0.14
    grey[:, ::slab] -= 0.14
    return _tinted(grey, (1.02, 1.0, 0.95))


def wall(rng: Rng, height: int, width: int, colour: tuple[float, ...], brick: bool) -> np.ndarray:
    """Stained plaster, or courses of bricks."""
    shade = (
        1 + 0.04 * noise(rng, height, width, 50, 5) + 0.02 * rng.standard_normal((height, width))
    )
    streaks = np.repeat(noise(rng, 1, width, 12, 3), height, 0)
    shade -= 0.025 * np.abs(streaks) * np.linspace(1, 0.2, height)[:, None]
    if brick:
        rows, columns = height // 3 + 1, width // 6 + 2
        courses = np.kron(1 + 0.10 * rng.standard_normal((rows, columns)), np.ones((3, 6)))
        for row in range(0, rows, 2):
            courses[3 * row : 3 * row + 3] = np.roll(courses[3 * row : 3 * row + 3], 3, axis=1)
        courses[::3] *= 1.12
        shade = shade * courses[:height, :width]
    return _tinted(shade, colour)


def blank_wall(rng: Rng, height: int, width: int) -> np.ndarray:
    """A large wall with hardly any texture: the hard case for photometric matching."""
    colour = np.array(PLASTER[rng.integers(len(PLASTER))]) * rng.uniform(0.85, 1.05)
    return _tinted(1 + 0.006 * noise(rng, height, width, 80, 2), tuple(colour))


def facade(rng: Rng, height_m: float, width_m: float, density: int) -> np.ndarray:
    """The front of a house: rows of windows, a ground floor with doors or shops, a cornice.

    Args:
        height_m, width_m: size in metres.
        density: pixels per metre.
    """
    height, width = round(height_m * density), round(width_m * density)
    brick = rng.random() < 0.4
    palette = BRICK if brick else PLASTER
    colour = tuple(np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.85, 1.1))
    image = wall(rng, height, width, colour, brick)
    floors, bays = (
        max(1, round((height_m - 1) / 3.1)),
        max(1, round(width_m / rng.uniform(2.2, 3.4))),
    )
    trim = np.clip(np.array(colour) * rng.uniform(1.15, 1.4), 0, 0.95)
    window = (rng.uniform(1.3, 1.8), rng.uniform(0.9, 1.4))
    shop = rng.random() < 0.5
    band = round(3.3 * density)
    if shop:
        image[height - band :] = _tinted(
            1 + 0.03 * noise(rng, band, width, 40), tuple(rng.uniform(0.2, 0.6, 3))
        )
    for floor in range(floors):
        for bay in range(bays):
            middle = (bay + 0.5) * width_m / bays
            if floor == 0 and shop:
                _window(rng, image, density, 2.3, middle, 1.9, 0.8 * width_m / bays, trim)
            elif floor == 0 and bay == bays // 2:
                _door(rng, image, density, middle)
            else:
                _window(rng, image, density, 2.5 + 3.1 * floor, middle, *window, trim)
    for level in (0.0, height_m - 3.4):
        row = round(level * density)
        image[row : row + max(2, density // 4)] = trim
        image[row + max(2, density // 4) : row + density // 2] *= 0.75
    return np.clip(image, 0, 1)


def _window(
    rng: Rng, image: np.ndarray, density: int, top_m: float, middle_m: float,
    height_m: float, width_m: float, trim: np.ndarray,
) -> None:  # fmt: skip
    """Paint a window whose top edge is ``top_m`` above the ground."""
    rows = image.shape[0]
    top, bottom = rows - round(top_m * density), rows - round((top_m - height_m) * density)
    left = round((middle_m - width_m / 2) * density)
    right = round((middle_m + width_m / 2) * density)
    if top < 2 or left < 1 or right >= image.shape[1]:
        return
    edge = max(1, density // 10)
    image[top - edge : bottom + 2 * edge, left - edge : right + edge] = trim
    image[bottom + edge : bottom + 2 * edge, left - edge : right + edge] *= 0.7
    glass = np.linspace(rng.uniform(0.25, 0.5), rng.uniform(0.08, 0.2), bottom - top)[:, None, None]
    pane = glass * np.array([0.85, 1.0, 1.15]) * np.ones((1, right - left, 1))
    if rng.random() < 0.45:
        drop = int((bottom - top) * rng.uniform(0.2, 0.9))
        pane[:drop] = np.array([0.8, 0.78, 0.72]) * rng.uniform(0.6, 1.0)
    image[top:bottom, left:right] = pane
    middle = (left + right) // 2
    image[top:bottom, middle : middle + edge] = trim
    image[top + (bottom - top) // 3, left:right] = trim


def _door(rng: Rng, image: np.ndarray, density: int, middle_m: float) -> None:
    rows = image.shape[0]
    left, right = round((middle_m - 0.6) * density), round((middle_m + 0.6) * density)
    top = rows - round(2.3 * density)
    image[max(top - 2, 0) :, max(left - 2, 0) : right + 2] *= 0.6
    image[max(top, 0) :, max(left, 0) : right] = rng.uniform(0.1, 0.5, 3)


def leaves(rng: Rng, size: int = 128) -> np.ndarray:
    """Foliage: clumps of light and dark green."""
    shade = 0.30 + 0.09 * noise(rng, size, size, 20, 5) + 0.05 * rng.standard_normal((size, size))
    return _tinted(shade.clip(0.05, 0.7), (0.75 + rng.uniform(-0.1, 0.2), 1.1, 0.45))


def car_side(rng: Rng, paint: tuple[float, ...], height: int = 58, width: int = 172) -> np.ndarray:
    """The side of a car, 40 pixels per metre: windows above the belt line, doors, wheel arches."""
    image = np.ones((height, width, 3), np.float32) * np.array(paint)
    image *= np.linspace(1.1, 0.7, height)[:, None, None]
    image[:20, 34:118] = (0.10, 0.12, 0.14)
    image[:20, 74:78] = paint
    for column in (40, 76, 112):
        image[20:46, column : column + 1] *= 0.5
    image[26:28, 66:72] = image[26:28, 102:108] = 0.75
    y, x = np.mgrid[:height, :width]
    for centre in (33, 138):
        image[(x - centre) ** 2 + (y - 45) ** 2 < 15**2] = 0.04
    image[24:29, 166:] = (0.9, 0.9, 0.8)
    image[24:30, :5] = (0.6, 0.05, 0.05)
    return image + 0.01 * rng.standard_normal((height, width, 1)).astype(np.float32)


def plain(rng: Rng, colour: tuple[float, ...], grain: float = 0.04, size: int = 32) -> np.ndarray:
    """One colour with a little grain."""
    return _tinted(1 + grain * rng.standard_normal((size, size)), colour)


def sky(rng: Rng, height: int = 128, width: int = 1024) -> np.ndarray:
    """Panorama over azimuth (columns) and elevation 0 to 90 degrees (rows, zenith first)."""
    elevation = np.linspace(1, 0, height)[:, None, None]
    clear = (
        np.array([0.78, 0.85, 0.92]) * (1 - elevation) + np.array([0.30, 0.50, 0.80]) * elevation
    )
    cloud = noise(rng, height, width, 90, 5)
    blend = np.hanning(width)[:, None]
    wrapped = cloud * blend.T + np.roll(cloud, width // 2, 1) * (1 - blend.T)
    cover = np.clip(0.35 * wrapped + 0.15, 0, 0.85)[..., None]
    return np.clip(clear * (1 - cover) + 0.95 * cover, 0, 1).astype(np.float32)


def _tinted(shade: np.ndarray, colour: tuple[float, ...]) -> np.ndarray:
    return np.clip(shade[..., None] * np.array(colour), 0, 1).astype(np.float32)
