"""Rendered worlds of many kinds, with exact depth, poses and camera, from a seed.

A world is a sequence like any other, named by kind and seed: ``synthetic:room:7``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np

from egodepth.data.sequence import Sequence
from egodepth.data.synthetic.rendered import RATE, RenderedFrames
from egodepth.data.synthetic.worlds.blocks import blocks
from egodepth.data.synthetic.worlds.blueprint import Blueprint
from egodepth.data.synthetic.worlds.interiors import corridor, hall, room, stairs
from egodepth.data.synthetic.worlds.lighting import LitRenderer, View
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.places import shapes, yard
from egodepth.data.synthetic.worlds.roads import country, motorway, town
from egodepth.geometry.camera import Camera

KINDS: dict[str, Callable[[Rng, int], Blueprint]] = {
    kind.__name__: kind
    for kind in (town, country, motorway, yard, room, corridor, hall, stairs, shapes, blocks)
}
"""Functions that generate a world of each kind, given the number of frames."""

FRAMES, HEIGHT, WIDTH = 100, 96, 320
LONG = {"blocks": 3000}
"""Number of frames of the kinds that are longer when they are read as footage."""
_VERSION = 1
"""Version in the name of the frame cache; increase it when the images change."""


@dataclass(frozen=True)
class Film:
    """Photometric properties of a camera.

    Attributes:
        exposure: factor of the brightness.
        balance: (3,) white balance, factors of the colours.
        gamma: exponent of the tone curve.
        vignette: fraction of light lost in the corners.
        blur: standard deviation in pixels.
        noise: standard deviation at full brightness.
    """

    exposure: float
    balance: np.ndarray
    gamma: float
    vignette: float
    blur: float
    noise: float

    @classmethod
    def draw(cls, rng: Rng, brightness: float, *, night: bool) -> "Film":
        """Draw a random film for a world of some mean brightness."""
        level = rng.uniform(0.28, 0.5) * (0.6 if night else 1)
        return cls(
            exposure=level / max(brightness, 1e-3),
            balance=np.exp(rng.normal(0, 0.05, 3)).astype(np.float32),
            gamma=rng.uniform(0.75, 1.15),
            vignette=rng.choice([0.0, rng.uniform(0, 0.4)]),
            blur=rng.choice([0.0, rng.uniform(0.3, 0.9)]),
            noise=rng.uniform(0.002, 0.05 if night else 0.025),
        )

    def develop(self, colour: np.ndarray, rng: Rng) -> np.ndarray:
        """Convert linear colours (H, W, 3) to an image (H, W, 3) uint8."""
        height, width = colour.shape[:2]
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        light: np.ndarray = colour * (self.exposure * self.balance)
        if self.vignette:
            light = light * (1 - self.vignette * (x**2 + y**2) / 2)[..., None].astype(np.float32)
        if self.blur:
            light = cv2.GaussianBlur(light, (0, 0), self.blur)
        # Highlights are compressed towards white instead of being clipped.
        light = np.where(light > 0.7, 0.7 + 0.3 * np.tanh((light - 0.7) / 0.3), light)
        light = np.maximum(light, 0) ** self.gamma
        scatter = rng.standard_normal(light.shape, dtype=np.float32)
        light = light + self.noise * np.sqrt(light + 0.05) * scatter
        return (np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8)


class World(RenderedFrames):
    """Frames of one world, rendered on demand."""

    def __init__(
        self, kind: str, seed: int, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH
    ):
        """Define the world; nothing is built yet.

        Args:
            kind: one of :data:`KINDS`.
            seed: determines everything else.
            frames: number of frames.
            height, width: image size in pixels.
        """
        super().__init__(seed, frames, height, width)
        self.kind = kind
        self._number = list(KINDS).index(kind)

    @cached_property
    def _blueprint(self) -> Blueprint:
        return KINDS[self.kind](np.random.default_rng([self.seed, self._number, 1]), self._count)

    @property
    def world_from_camera(self) -> np.ndarray:
        """Poses (N, 4, 4)."""
        return self._blueprint.poses

    @cached_property
    def camera(self) -> Camera:
        """Camera of all frames. The field of view is along the longer side, for portrait images too."""
        longer = max(self.height, self.width)
        focal = longer / 2 / np.tan(np.radians(self._blueprint.fov) / 2)
        return Camera.from_parameters(
            focal, focal, (self.width - 1) / 2, (self.height - 1) / 2, self.height, self.width
        )

    @property
    def fingerprint(self) -> str:
        return f"{self.kind}-{_VERSION}-{self.seed}-{self._count}-{self.height}x{self.width}"

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Render the image (H, W, 3) uint8, depth (H, W) float32 in metres, and mask of dynamic objects (H, W)
        bool."""
        view = self._renderer.view(self.world_from_camera[index], index / RATE)
        noise = np.random.default_rng([self.seed, self._number, 3, index])
        return self._film.develop(self._hazy(view), noise), view.depth, view.moving

    def _hazy(self, view: View) -> np.ndarray:
        weather = self._blueprint.weather
        if not np.isfinite(weather.haze):
            return view.colour
        share = np.where(
            view.depth > 0, 1 - np.exp(-view.depth / weather.haze), 1 - np.exp(-600 / weather.haze)
        )
        hazy: np.ndarray = view.colour + share[..., None] * (weather.haze_colour - view.colour)
        return hazy.astype(np.float32)

    @cached_property
    def _renderer(self) -> LitRenderer:
        plan = self._blueprint
        matrix = self.camera.matrix.numpy().astype(np.float64)
        rng = np.random.default_rng([self.seed, self._number, 2])
        return LitRenderer(
            plan.scene, plan.weather.sky, plan.weather.lights, matrix, self.height, self.width, rng
        )

    @cached_property
    def _film(self) -> Film:
        levels = []
        for i in (0, self._count // 2):
            view = self._renderer.view(self.world_from_camera[i], i / RATE)
            # Cameras expose for the scene rather than for the sky.
            weight = np.where(view.depth > 0, 1.0, 0.3)
            levels.append((self._hazy(view).mean(-1) * weight).sum() / weight.sum())
        rng = np.random.default_rng([self.seed, self._number, 4])
        return Film.draw(rng, float(np.mean(levels)), night=self._blueprint.weather.is_night)


def read_world(kind: str, seed: int, frames: int | None = None) -> Sequence:
    """Return the world of a kind and a seed as a sequence with depth and poses; by default of FRAMES frames, or
    as many as LONG says."""
    frames = LONG.get(kind, FRAMES) if frames is None else frames
    world = World(kind, seed, frames)
    depth = {index: partial(world.depth, index) for index in range(frames)}
    return Sequence(f"{kind}-{seed}", world, world.camera, world.world_from_camera, depth)
