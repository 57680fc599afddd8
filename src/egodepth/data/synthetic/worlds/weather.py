"""Light, sky and haze."""

from dataclasses import dataclass

import cv2
import numpy as np

from egodepth.data.synthetic.worlds import materials
from egodepth.data.synthetic.worlds.lighting import Lights
from egodepth.data.synthetic.worlds.materials import Rng


@dataclass
class Weather:
    """Light, sky and haze of a world.

    Attributes:
        lights: sky, sun and lamps.
        sky: panorama, see :class:`~egodepth.data.synthetic.ray_casting.Renderer`.
        haze: distance in metres at which two thirds of the light come from the haze; infinite for none.
        haze_colour: (3,) colour of the haze.
        is_night: whether there is little light.
    """

    lights: Lights
    sky: np.ndarray
    haze: float
    haze_colour: np.ndarray
    is_night: bool


def indoor_light(rng: Rng) -> Weather:
    """Dim ambient light; lamps are added separately."""
    ambient = np.ones(3) * rng.uniform(0.12, 0.45)
    lights = Lights(
        ambient, np.zeros(3), np.array([0.0, -1, 0]), reach=rng.uniform(0.6, 1.6), texel=0.15
    )
    return Weather(lights, np.ones((2, 4, 3), np.float32), np.inf, np.ones(3), is_night=False)


def draw_weather(rng: Rng) -> Weather:
    """Draw random weather: clear, overcast, low sun, or night; sometimes hazy."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(12, 70))
    kind = rng.choice(["clear", "overcast", "low", "night"], p=[0.5, 0.3, 0.12, 0.08])
    if kind == "low":
        elevation = 0.15
    sun = np.array(
        [
            np.cos(elevation) * np.sin(azimuth),
            -np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ]
    )
    blue, warm = np.array([0.85, 0.95, 1.1]), np.array([1.1, 1.0, 0.85])
    cover = 0.0
    if kind == "clear":
        lights = Lights(blue * rng.uniform(0.25, 0.5), warm * rng.uniform(0.6, 1.3), sun)
        zenith, horizon, cover = (
            np.array([0.25, 0.45, 0.8]),
            np.array([0.75, 0.84, 0.93]),
            rng.uniform(0, 0.6),
        )
    elif kind == "overcast":
        lights = Lights(np.ones(3) * rng.uniform(0.6, 1.0), np.zeros(3), sun)
        zenith, horizon, cover = (
            np.array([0.68, 0.71, 0.76]),
            np.array([0.85, 0.86, 0.88]),
            rng.uniform(0, 0.4),
        )
    elif kind == "low":
        lights = Lights(
            blue * rng.uniform(0.25, 0.4), np.array([1.3, 0.9, 0.55]) * rng.uniform(0.6, 1.2), sun
        )
        zenith, horizon, cover = (
            np.array([0.3, 0.42, 0.68]),
            np.array([0.98, 0.75, 0.5]),
            rng.uniform(0, 0.5),
        )
    else:
        lights = Lights(np.array([0.05, 0.055, 0.075]), np.zeros(3), sun)
        zenith, horizon = np.array([0.01, 0.012, 0.02]), np.array([0.05, 0.045, 0.05])
    hazy = rng.random() < 0.35 and kind != "night"
    haze = float(np.exp(rng.uniform(np.log(60), np.log(600)))) if hazy else np.inf
    return Weather(
        lights,
        _panorama(rng, zenith, horizon, float(cover)),
        haze,
        horizon,
        is_night=kind == "night",
    )


def _panorama(rng: Rng, zenith: np.ndarray, horizon: np.ndarray, cover: float) -> np.ndarray:
    """Sky panorama over azimuth (columns) and elevation 90 to 0 degrees (rows), with clouds, and distant hills
    or roofs."""
    height, width = 128, 1024
    share = (np.linspace(1, 0, height) ** 0.6)[:, None, None]
    image = (horizon * (1 - share) + zenith * share) * np.ones((1, width, 1))
    puffs = np.tile(cv2.resize(materials.clouds(rng, 80, 5, stretch=3), (512, height)), (1, 2))
    white = np.clip(cover + 0.45 * puffs, 0, 1)[..., None] * (0.9 if cover > 0 else 0.0)
    image = image * (1 - white) + white * np.clip(horizon * 1.15, 0, 1)
    if rng.random() < 0.6:
        ridge = 3 + 2.5 * np.tile(materials.clouds(rng, 120, 4)[0], 4)
        rows = np.arange(height)[:, None] >= height - ridge
        image[rows] = horizon * rng.uniform(0.45, 0.9)
    return np.clip(image, 0, 1).astype(np.float32)
