"""Drives through the streets of a town: a route over its crossings, and the path of the camera along it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice, product

import numpy as np

from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.paths import rotation, waves

HEADINGS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
"""Directions x, z of the headings; the next is a right turn."""
CRUISE, TURN_SPEED, SLOWING = 0.75, 0.45, 12.0
"""Metres per frame on straight roads and in turns, and the distance in metres over which the speed changes."""
RIGHT_RADIUS, LEFT_RADIUS = 8.0, 10.0
"""Smallest radius in metres of turns to either side."""
SAMPLE = 0.05
"""Metres between the samples of a turn."""


@dataclass(frozen=True)
class Grid:
    """Streets of a town that meet at right angles; traffic drives on the right.

    Attributes:
        xs, zs: (n,) positions in metres of the streets along z and of those along x, ascending.
        half: half of the width of a street in metres.
        lane: offset of a lane from the middle of the street in metres.
        walk: width of the pavement in metres.
    """

    xs: np.ndarray
    zs: np.ndarray
    half: float
    lane: float
    walk: float

    @classmethod
    def draw(cls, rng: Rng, size: int) -> "Grid":
        """Draw ``size`` streets in both directions."""
        half = rng.uniform(5.4, 6.2)
        xs, zs = (np.concatenate([[0], np.cumsum(rng.uniform(52, 76, size - 1))]) for _ in "xz")
        return cls(xs, zs, half, 0.38 * half, rng.uniform(2.8, 4.5))

    def crossing(self, place: tuple[int, int]) -> np.ndarray:
        """Position x, z of a crossing."""
        return np.array([self.xs[place[0]], self.zs[place[1]]])


@dataclass(frozen=True)
class Route:
    """A way from crossing to crossing.

    Attributes:
        start: first crossing.
        headings: index into HEADINGS of the street after each crossing.
    """

    start: tuple[int, int]
    headings: list[int]


def draw_route(rng: Rng, size: int, count: int) -> Route:
    """Draw a route of at least ``count`` streets between crossings, from 3 by 3 crossings on.

    It goes round one to four blocks, drives the first streets of that loop again, and goes on to a loop in the
    other direction, of which the street that it is in is a part.
    """
    assert size >= 3
    start, headings = (1, 1), [int(rng.integers(4))]
    place = _next(start, headings[0])
    clockwise = bool(rng.random() < 0.5)
    rest: Iterator[int] = iter(())
    while len(headings) < count:
        options = list(_loops(place, headings[-1], size, 1 if clockwise else -1))
        if options:
            loop = options[rng.integers(len(options))]
            rest = cycle(loop)
            steps = list(islice(rest, len(loop) + int(rng.integers(1, 3))))
            clockwise = not clockwise
        else:  # no block lies on the other side: the last loop goes on
            steps = [next(rest)]
        for heading in steps:
            headings.append(heading)
            place = _next(place, heading)
    return Route(start, headings)


def _next(place: tuple[int, int], heading: int) -> tuple[int, int]:
    x, z = HEADINGS[heading]
    return place[0] + int(x), place[1] + int(z)


def _loops(place: tuple[int, int], heading: int, size: int, turn: int) -> Iterator[list[int]]:
    """Headings of the loops that lead from a crossing, which was reached with some heading, through the same
    street again; ``turn`` is 1 for turns to the right, -1 to the left."""
    for along, across, done in product((1, 2), (1, 2), (0, 1)):
        if done >= along or along + across > size:
            continue
        counts = (along - 1 - done, across, along, across, done + 1)
        loop = [
            (heading + turn * side) % 4 for side, number in enumerate(counts) for _ in range(number)
        ]
        here, inside = place, True
        for step in loop:
            here = _next(here, step)
            inside &= all(0 <= value < size for value in here)
        if inside:
            yield loop


class Path:
    """The middle of the lane along a route, by arc length.

    Attributes:
        length: in metres.
    """

    def __init__(self, grid: Grid, route: Route):
        """Lay the path, from the middle of the first street to the middle of the last."""
        u = HEADINGS[route.headings[0]]
        place = _next(route.start, route.headings[0])
        side = grid.lane * HEADINGS[(route.headings[0] + 1) % 4]
        points = [(grid.crossing(route.start) + grid.crossing(place)) / 2 + side]
        yaws, turns = [route.headings[0] * np.pi / 2], []
        for before, after in zip(route.headings[:-1], route.headings[1:], strict=True):
            turn = (after - before + 1) % 4 - 1
            if turn:
                shape, angles = _turn(RIGHT_RADIUS if turn > 0 else LEFT_RADIUS)
                u, right = HEADINGS[before], HEADINGS[(before + 1) % 4]
                corner = grid.crossing(place) + grid.lane * (right + HEADINGS[(after + 1) % 4])
                begin = corner - shape[-1, 1] * u
                turns.append((len(points), len(points) + len(shape) - 1))
                points += list(begin + turn * shape[:, :1] * right + shape[:, 1:] * u)
                yaws += list(yaws[-1] + turn * angles)
            place = _next(place, after)
        before = route.headings[-1]
        u, side = HEADINGS[before], grid.lane * HEADINGS[(before + 1) % 4]
        middle = (grid.crossing(place) + grid.crossing(_next(place, (before + 2) % 4))) / 2
        points.append(middle + side)
        yaws.append(yaws[-1])
        self._points, self._yaws = np.array(points), np.array(yaws)
        steps = np.linalg.norm(np.diff(self._points, axis=0), axis=1)
        self._s = np.concatenate([[0], np.cumsum(steps)])
        self.length = float(self._s[-1])
        self._turns = self._s[np.array(turns, int).reshape(-1, 2)]

    def at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position x, z, and yaw."""
        x, z = (np.interp(s, self._s, values) for values in self._points.T)
        return x, z, np.interp(s, self._s, self._yaws)

    def speed(self, s: float) -> float:
        """Metres per frame: less in turns, and before and after them."""
        begin, end = self._turns.T
        gap = float(np.maximum(np.maximum(begin - s, s - end), 0).min(initial=SLOWING))
        return TURN_SPEED + (CRUISE - TURN_SPEED) * gap / SLOWING


def _turn(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points x, z (n, 2) and angles (n,) of a quarter turn to the right, from the origin along z. The curvature
    rises over its first quarter, and falls over its last, as when a driver turns the wheel."""
    length = radius * np.pi / 2 / 0.75
    s = np.linspace(0, 1, round(length / SAMPLE) + 1)
    middle = (s[1:] + s[:-1]) / 2
    curvature = np.clip(4 * np.minimum(middle, 1 - middle), 0, 1)
    angles = np.concatenate([[0], np.cumsum(curvature)]) * (np.pi / 2) / curvature.sum()
    heading = (angles[1:] + angles[:-1]) / 2
    step = length * s[1]
    points = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], 1) * step, axis=0)
    points = np.concatenate([np.zeros((1, 2)), points])
    return points * points[-1].mean() / points[-1], angles


def drive_along(rng: Rng, path: Path, frames: int, height: float) -> np.ndarray:
    """Slightly unsteady poses world_from_camera (frames, 4, 4) along a path, at some height in metres."""
    along = np.zeros(frames)
    pace = 1 + waves(rng, frames, 0.15, 90)
    for i in range(1, frames):
        along[i] = along[i - 1] + pace[i] * path.speed(along[i - 1])
    x, z, yaw = path.at(along)
    drift = waves(rng, frames, 0.3, 60)
    x, z = x + drift * np.cos(yaw), z - drift * np.sin(yaw)
    slip = np.gradient(drift) / np.maximum(np.gradient(along), 0.05)
    yaw = yaw + np.arctan(slip) + waves(rng, frames, 0.015, 40)
    pitch = waves(rng, frames, 0.006, 9) + rng.uniform(-0.05, 0.02)
    roll, bounce = waves(rng, frames, 0.006, 15), waves(rng, frames, 0.015, 7)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    for i in range(frames):
        poses[i, :3, :3] = rotation(yaw[i], pitch[i], roll[i])
        poses[i, :3, 3] = x[i], -(height + bounce[i]), z[i]
    return poses
