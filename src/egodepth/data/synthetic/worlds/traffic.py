"""Dynamic objects: vehicles on a road, and pedestrians."""

import numpy as np

from egodepth.data.synthetic.rendered import RATE
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.outdoors import person
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.paths import Spine
from egodepth.data.synthetic.worlds.scene import Motion, Scene
from egodepth.data.synthetic.worlds.vehicles import vehicle


def add_vehicles(
    scene: Scene,
    rng: Rng,
    p: Palette,
    spine: Spine,
    count: int,
    speed: float,
    lane: float,
    frames: int,
) -> None:
    """Add vehicles that drive in both directions.

    Args:
        scene: scene to add them to.
        rng: random generator.
        p: textures of the world.
        spine: centre line of the road.
        count: maximum number of vehicles.
        speed: speed of the camera in metres per frame.
        lane: offset of the camera's lane in metres from the centre line.
        frames: number of frames that the camera drives for.
    """
    taken = [(0.0, lane)]
    for _ in range(count):
        backwards = bool(rng.random() < 0.4)
        offset = -lane if backwards else lane
        start = float(rng.uniform(6, min(spine.length, 60 + frames * speed)))
        if any(abs(start - s) < 9 and abs(offset - o) < 1.5 for s, o in taken):
            continue
        taken.append((start, offset))
        # Vehicles in the camera's lane are hardly slower than the camera, so that it does not hit them.
        rate = RATE * speed * (rng.uniform(0.6, 1.4) if backwards else rng.uniform(0.95, 1.3))
        x, z, up, yaw = spine.at(start, offset)
        motion = _along(spine, start, offset, -rate if backwards else rate)
        with scene.moving(motion), scene.placed(x, z, yaw + np.pi * backwards, -up):
            vehicle(scene, rng, p)


def add_walkers(
    scene: Scene, rng: Rng, p: Palette, spine: Spine, count: int, beside: float, reach: float
) -> None:
    """Add pedestrians who walk along a road or across it, starting at ``beside`` metres or more from its
    middle."""
    for _ in range(count):
        side = rng.choice([-1, 1])
        x, z, up, yaw = spine.at(
            float(rng.uniform(8, reach)), side * (beside + rng.uniform(0.6, 1.6))
        )
        across = rng.random() < 0.25
        heading = yaw - side * np.pi / 2 if across else yaw + np.pi * (rng.random() < 0.5)
        add_walker(scene, rng, p, (x, z, up + 0.1), heading)


def add_walker(
    scene: Scene, rng: Rng, p: Palette, spot: tuple[float, float, float], heading: float
) -> None:
    """Add a pedestrian who walks straight ahead from ``spot`` (x, z, height)."""
    pace = rng.uniform(0.5, 1.7) * np.array([np.sin(heading), 0, np.cos(heading)])

    def walk(time: float) -> np.ndarray:
        pose = np.eye(4)
        pose[:3, 3] = pace * time
        return pose

    with scene.moving(walk), scene.placed(spot[0], spot[1], heading, -spot[2]):
        person(scene, rng, p)


def _along(spine: Spine, start: float, offset: float, rate: float) -> Motion:
    """Motion along a road at ``rate`` metres per second; backwards if negative."""
    backwards = rate < 0
    back = np.linalg.inv(spine.pose(start, offset, backwards))

    def motion(time: float) -> np.ndarray:
        along = float(np.clip(start + rate * time, -29, spine.length + 29))
        return spine.pose(along, offset, backwards) @ back

    return motion
