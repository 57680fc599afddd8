"""Cars that drive through a town along its streets, and never into the camera or each other."""

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from egodepth.data.synthetic.rendered import RATE
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.scene import Scene
from egodepth.data.synthetic.worlds.town_route import HEADINGS, Grid
from egodepth.data.synthetic.worlds.vehicles import vehicle

AWAY = 150.0
"""Distance in metres beyond the outer crossings at which cars appear and disappear."""
CLEAR_AHEAD, CLEAR_ASIDE = 11.0, 3.2
"""Space in metres that a car keeps free along and across its direction, from middle to middle."""
RETRY, PAUSE = 1.5, 15.0
"""Seconds between attempts to set out, and the most of them between two trips."""
HIDDEN = 40.0
"""Metres below the ground at which cars wait."""


@dataclass(frozen=True)
class Trip:
    """A drive straight through the town.

    Attributes:
        begin, end: seconds.
        start: (2,) x, z.
        heading: index into HEADINGS.
        speed: in metres per second.
    """

    begin: float
    end: float
    start: np.ndarray
    heading: int
    speed: float

    def at(self, time: np.ndarray) -> np.ndarray:
        """Positions x, z (n, 2) at times (n,)."""
        return self.start + (self.speed * (time - self.begin))[:, None] * HEADINGS[self.heading]


@dataclass
class Driver:
    """The trips of one car, in order."""

    trips: list[Trip] = field(default_factory=list)

    def pose(self, time: float) -> np.ndarray:
        """Pose world_from_car (4, 4)."""
        number = max(bisect_right(self.trips, time, key=lambda trip: trip.begin) - 1, 0)
        trip = self.trips[number]
        on_the_way = trip.begin <= time <= trip.end
        x, z = trip.at(np.array([time if on_the_way else (trip.begin + trip.end) / 2]))[0]
        return _pose(x, z, trip.heading, 0.0 if on_the_way else HIDDEN)


def add_traffic(
    scene: Scene, rng: Rng, p: Palette, grid: Grid, poses: np.ndarray, count: int
) -> None:
    """Add cars that drive through the town, one trip after the other, for as long as the camera does.

    Args:
        scene: scene to add them to.
        rng: random generator.
        p: textures of the world.
        grid: streets.
        poses: (N, 4, 4) of the camera.
        count: number of cars.
    """
    ahead = np.arctan2(poses[:, 0, 2], poses[:, 2, 2])
    taken = [(poses[:, [0, 2], 3], np.stack([np.sin(ahead), np.cos(ahead)], 1))]
    duration = len(poses) / RATE
    for _ in range(count):
        driver = Driver()
        where, way = np.full((len(poses), 2), np.inf), np.ones((len(poses), 2))
        time = -float(rng.uniform(0, 60))
        while time < duration:
            trip = _draw_trip(rng, grid, time)
            frames = slice(
                max(0, int(np.ceil(trip.begin * RATE))), max(0, int(trip.end * RATE) + 1)
            )
            places = trip.at(np.arange(len(poses))[frames] / RATE)
            u = HEADINGS[trip.heading]
            if any(_meet(places, u, other[frames], w[frames]) for other, w in taken):
                time += RETRY
                continue
            driver.trips.append(trip)
            where[frames], way[frames] = places, u
            time = trip.end + float(rng.uniform(1, PAUSE))
        if driver.trips:
            taken.append((where, way))
            _add_car(scene, rng, p, driver)


def _draw_trip(rng: Rng, grid: Grid, time: float) -> Trip:
    heading = int(rng.integers(4))
    u, right = HEADINGS[heading], HEADINGS[(heading + 1) % 4]
    along, across = (grid.zs, grid.xs) if heading % 2 == 0 else (grid.xs, grid.zs)
    street = float(across[rng.integers(len(across))])
    length = float(along[-1] - along[0]) + 2 * AWAY
    first = along[0] - AWAY if u.sum() > 0 else along[-1] + AWAY
    start = first * np.abs(u) + street * np.abs(right) + grid.lane * right
    speed = float(rng.uniform(6, 10))
    return Trip(time, time + length / speed, start, heading, speed)


def _meet(places: np.ndarray, u: np.ndarray, others: np.ndarray, ways: np.ndarray) -> bool:
    """Whether a car that drives in direction ``u`` comes too close to another (n, 2) with directions (n, 2)."""
    with np.errstate(invalid="ignore"):
        gap = others - places
        close = np.zeros(len(gap), bool)
        for way in (np.broadcast_to(u, gap.shape), ways):
            ahead = np.abs((gap * way).sum(1))
            aside = np.abs(gap[:, 0] * way[:, 1] - gap[:, 1] * way[:, 0])
            close |= (ahead < CLEAR_AHEAD) & (aside < CLEAR_ASIDE)
    return bool(close.any())


def _add_car(scene: Scene, rng: Rng, p: Palette, driver: Driver) -> None:
    # Its light is that of the middle of its first trip.
    first = driver.trips[0]
    x, z = first.at(np.array([(first.begin + first.end) / 2]))[0]
    back = np.linalg.inv(_pose(x, z, first.heading, 0.0))
    with (
        scene.moving(lambda time: driver.pose(time) @ back),
        scene.placed(x, z, first.heading * np.pi / 2),
    ):
        vehicle(scene, rng, p)


def _pose(x: float, z: float, heading: int, y: float) -> np.ndarray:
    pose = np.eye(4)
    u, right = HEADINGS[heading], HEADINGS[(heading + 1) % 4]
    pose[[0, 2], 0], pose[[0, 2], 2] = right, u
    pose[:3, 3] = x, y, z
    return pose
