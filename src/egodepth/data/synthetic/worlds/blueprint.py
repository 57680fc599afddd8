"""A generated world before it is rendered."""

from dataclasses import dataclass

import numpy as np

from egodepth.data.synthetic.worlds.scene import Scene
from egodepth.data.synthetic.worlds.weather import Weather


@dataclass
class Blueprint:
    """A random world of some kind, ready to be rendered.

    Attributes:
        scene: mesh of the world.
        weather: light, sky and haze.
        poses: (N, 4, 4) world_from_camera.
        fov: field of view along the longer side of the image, in degrees.
    """

    scene: Scene
    weather: Weather
    poses: np.ndarray
    fov: float
