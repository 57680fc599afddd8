"""The textures of one world, and plain textures of small parts."""

from collections.abc import Callable

import numpy as np

from egodepth.data.synthetic.worlds import materials
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.scene import Scene


class Palette:
    """The textures of one world: a few of each choice, made on demand."""

    def __init__(self, scene: Scene, rng: Rng, kinds: int = 3):
        """Start without textures.

        Args:
            scene: scene that stores the textures.
            rng: generator to draw them from.
            kinds: maximum number of different textures of one choice.
        """
        self._scene, self._rng, self._kinds = scene, rng, kinds
        self._made: dict[object, list[int]] = {}

    def __call__(self, choice: object) -> int:
        """Return the index of a texture made by a function such as those in :mod:`.materials`, or by one of a
        tuple of them."""
        made = self._made.setdefault(choice, [])
        if len(made) < self._kinds:
            choices = choice if isinstance(choice, tuple) else (choice,)
            made.append(self._scene.add_texture(materials.pick(self._rng, choices)))
            return made[-1]
        return made[self._rng.integers(len(made))]


def _plain(rng: Rng, tint: tuple[float, ...]) -> np.ndarray:
    return np.full((8, 8, 3), tint, np.float32) * np.float32(rng.uniform(0.85, 1.0))


def glass(rng: Rng) -> np.ndarray:
    """Glass of a vehicle or a shop: dark, lighter at the top."""
    shade = np.linspace(rng.uniform(0.2, 0.5), 0.06, 32)[:, None] * np.ones(32)
    return materials.tinted(shade, np.array([0.85, 0.95, 1.0]))


def rubber(rng: Rng) -> np.ndarray:
    """Rubber of tyres."""
    return _plain(rng, (0.06, 0.06, 0.065))


def silver(rng: Rng) -> np.ndarray:
    """Metal of hubs and handles."""
    return _plain(rng, (0.6, 0.61, 0.63))


def white(rng: Rng) -> np.ndarray:
    """White of lamps."""
    return _plain(rng, (0.95, 0.95, 0.9))


def red(rng: Rng) -> np.ndarray:
    """Red of rear lamps."""
    return _plain(rng, (0.7, 0.05, 0.05))


def skin(rng: Rng) -> np.ndarray:
    """Skin of people."""
    return _plain(rng, tuple(np.array([0.85, 0.62, 0.5]) * rng.uniform(0.4, 1.05)))


def dark(rng: Rng) -> np.ndarray:
    """Dark colour of hair and screens."""
    return _plain(rng, tuple(materials.colour(rng, (0, 0.5), (0.05, 0.3))))


def window(rng: Rng) -> np.ndarray:
    """A window by day: sky above something green or grey, with bars."""
    shade = np.linspace(1.0, 0.75, 64)[:, None] * np.ones(64)
    image = materials.tinted(shade, np.array([0.85, 0.93, 1.0]))
    image[int(rng.integers(24, 60)) :] = materials.colour(rng, (0, 0.5), (0.3, 0.8), 0.3)
    image[:, 31:33] = image[31:33] = 0.85
    return image


Thing = Callable[[Scene, Rng, Palette], float]
"""Function that builds an object around the origin, on the ground, facing -z, and returns its radius in
metres."""
