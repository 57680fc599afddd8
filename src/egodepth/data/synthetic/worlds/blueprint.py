"""A world before it is drawn."""

from dataclasses import dataclass

import numpy as np

from egodepth.data.synthetic.worlds.scene import Scene
from egodepth.data.synthetic.worlds.weather import Weather


@dataclass
class Blueprint:
    """What a kind of world draws from a random generator.

    Attributes:
        scene: what is there.
        weather: what lights it.
        poses: (N, 4, 4) world_from_camera.
        fov: field of view along the longer side of the image, degrees.
    """

    scene: Scene
    weather: Weather
    poses: np.ndarray
    fov: float
