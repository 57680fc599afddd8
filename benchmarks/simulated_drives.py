"""Matches of tracked corners as a drive on a motorway, or another motion of a camera, would give them.

Not rendered: points of a road with its sides are projected into pairs of views, with the errors that trackers
have (noise that grows with the flow, outliers), cars that move by themselves, a body that pitches and rolls, a
camera that is not mounted exactly ahead, a principal point off the middle, a rolling shutter, and radial
distortion that nobody corrected.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.spatial.transform import Rotation

from egodepth.data.preparation.unknown_camera import PAIRS, STEPS, WANTED_FLOW
from egodepth.data.synthetic.street import CAMERA_HEIGHT, CRUISE, StreetDrive
from egodepth.data.synthetic.street_mesh import LANE
from egodepth.geometry.camera import Camera
from egodepth.geometry.self_calibration import CornerMatches

WIDTH, HEIGHT, FRAMES, RATE = 960, 540, 221, 25.0
CORNERS, FEW = 250, 40
"""Per pair of views, before those that leave the image; and to find out how far apart the views are."""
MOTORWAY = ("straight", "lane changes", "slight bends")
DECIDABLE = ("town", "hand-held")
RENDERED = ("straight", "lane changes", "turn")
RENDERED_FRAMES, RENDERED_HEIGHT, RENDERED_WIDTH = 110, 216, 384


class Drive(NamedTuple):
    """A simulated drive.

    Attributes:
        matches: pixels in both views, of each pair of views.
        focal: the true focal length in pixels.
        height, width: of the images.
    """

    matches: list[CornerMatches]
    focal: float
    height: int
    width: int


def simulate(
    kind: str, fov: float, seed: int, *, width: int = WIDTH, height: int = HEIGHT, k1: float | None = None
) -> Drive:  # fmt: skip
    """The matches of a drive.

    Args:
        kind: one of MOTORWAY or DECIDABLE.
        fov: horizontal field of view in degrees.
        seed: of everything that varies from drive to drive.
        width, height: of the images in pixels.
        k1: radial distortion; by default a small one that varies.
    """
    rng = np.random.default_rng([seed, sorted(MOTORWAY + DECIDABLE).index(kind), round(fov)])
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    camera = _Camera(rng, focal, width, height, k1)
    motion = _HandHeld(rng) if kind == "hand-held" else _Car(rng, kind)
    scene = _Room(rng) if kind == "hand-held" else _Road(rng, motion, kind == "town")
    matches, first = [], 0
    for start in np.unique(np.linspace(0, FRAMES - 2, PAIRS).astype(int)):
        for place, step in enumerate(STEPS[first:], first):
            last = step == STEPS[-1] or start + step + 1 >= FRAMES
            times = start / RATE, (start + step) / RATE
            few = _pair(rng, camera, motion, scene, *times, FEW)
            flow = np.linalg.norm(few[1] - few[0], axis=1)
            if last or (len(flow) > FEW / 4 and np.median(flow) > WANTED_FLOW * width):
                matches.append(_pair(rng, camera, motion, scene, *times, CORNERS))
                first = max(place - 1, 0)
                break
    return Drive(matches, focal, height, width)


class RenderedDrive(StreetDrive):
    """The synthetic street with another lens: straight on, with a change of lane, or round its corner."""

    def __init__(self, kind: str, fov: float, seed: int):
        """Fix the drive; nothing is rendered yet.

        Args:
            kind: one of RENDERED.
            fov: horizontal field of view in degrees.
            seed: of street and sway.
        """
        super().__init__(seed, RENDERED_FRAMES, RENDERED_HEIGHT, RENDERED_WIDTH)
        self.kind = kind
        focal = self.width / 2 / np.tan(np.radians(fov) / 2)
        cx, cy = (self.width - 1) / 2, (self.height - 1) / 2
        self.camera = Camera.from_parameters(focal, focal, cx, cy, self.height, self.width)
        if kind != "turn":
            self.world_from_camera = _along_the_street(np.random.default_rng(seed), kind)

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}-{self.kind}-{float(self.camera.matrix[0, 0])}"


def _along_the_street(rng: np.random.Generator, kind: str) -> ndarray:
    """``world_from_camera`` (N, 4, 4) towards the crossing, at most up to it."""
    count, time = RENDERED_FRAMES, np.arange(RENDERED_FRAMES) / RATE
    z = CRUISE * (np.arange(count) - count - 10)
    phase = np.clip((np.arange(count) - 30) / 40, 0, 1)
    aside = 2 * LANE * (phase - np.sin(2 * np.pi * phase) / (2 * np.pi))
    x = LANE - (aside if kind == "lane changes" else 0 * aside)
    yaw = np.arctan(np.gradient(x, z))
    pitch, roll = (_Sway(rng, np.radians(0.2), 0.6, 2)(time) for _ in range(2))
    poses = np.tile(np.eye(4), (count, 1, 1))
    body = Rotation.from_euler("xz", np.column_stack([pitch, roll]))
    poses[:, :3, :3] = (Rotation.from_rotvec(np.outer(yaw, [0, 1, 0])) * body).as_matrix()
    poses[:, :3, 3] = np.column_stack([x, np.full(count, -CAMERA_HEIGHT), z])
    return poses


class _Camera:
    def __init__(
        self, rng: np.random.Generator, focal: float, width: int, height: int, k1: float | None
    ):
        self.focal, self.width, self.height = focal, width, height
        off = np.clip(rng.normal(0, 0.005, 2), -0.01, 0.01) * width
        self.centre = np.array([(width - 1) / 2, (height - 1) / 2]) + off
        # Of the length at the image's corner, so that it is as likely for all focal lengths.
        corner = np.hypot(width, height) / 2 / focal
        self.k1 = np.clip(rng.normal(0, 0.004), -0.008, 0.008) / corner**2 if k1 is None else k1
        self.readout = rng.uniform(0, 0.02)

    def project(self, points: ndarray) -> ndarray:
        """Pixels (N, 2) of points in camera axes."""
        rays = points[:, :2] / np.maximum(points[:, 2:], 1e-6)
        return self.focal * rays * (1 + self.k1 * (rays**2).sum(1, keepdims=True)) + self.centre

    def rays(self, pixels: ndarray) -> ndarray:
        """(N, 3), z = 1."""
        bent = (pixels - self.centre) / self.focal
        straight = bent
        for _ in range(10):
            straight = bent / (1 + self.k1 * (straight**2).sum(1, keepdims=True))
        return np.column_stack([straight, np.ones(len(pixels))])

    def delay(self, pixels: ndarray) -> ndarray:
        """Seconds after the middle row."""
        return self.readout * (pixels[:, 1] / self.height - 0.5)


class _Sway:
    """A sum of a few sines, as a body sways on its springs."""

    def __init__(self, rng: np.random.Generator, deviation: float, slowest: float, fastest: float):
        self.rate = 2 * np.pi * rng.uniform(slowest, fastest, 4)
        self.phase = rng.uniform(0, 2 * np.pi, 4)
        self.size = deviation * rng.dirichlet(np.ones(4)) ** 0.5 * 2**0.5

    def __call__(self, time: ndarray) -> ndarray:
        return (self.size * np.sin(time[:, None] * self.rate + self.phase)).sum(1)


class _Car:
    """Where the camera is: x right, y down, z along the road at its start."""

    def __init__(self, rng: np.random.Generator, kind: str):
        end = FRAMES / RATE
        self.time = np.linspace(-1, end + 1, 4001)
        step = self.time[1] - self.time[0]
        self.speed = rng.uniform(6, 9) if kind == "town" else rng.uniform(24, 34)
        curvature = np.zeros_like(self.time)
        if kind == "lane changes":
            for _ in range(rng.integers(1, 3)):
                length, begin = rng.uniform(3.5, 6), rng.uniform(0, end - 4)
                phase = (self.time - begin) / length
                inside = (phase > 0) & (phase < 1)
                # The sideways acceleration of a smooth change by one lane.
                aside = rng.choice([-3.5, 3.5]) * 2 * np.pi / length**2 * np.sin(2 * np.pi * phase)
                curvature += np.where(inside, aside / self.speed**2, 0)
        elif kind == "slight bends":
            begin, length = rng.uniform(0, end / 2), rng.uniform(2, 5)
            sign, radius = rng.choice([-1, 1]), np.exp(rng.uniform(np.log(350), np.log(1500)))
            ramp = np.clip((self.time - begin) / 1.5, 0, 1) - np.clip(
                (self.time - begin - 1.5 - length) / 1.5, 0, 1
            )
            curvature += sign * ramp / radius
        elif kind == "town":
            begin, radius, length = rng.uniform(1, 5), rng.uniform(9, 14), 0.0
            length = np.pi / 2 * radius / self.speed + 0.8
            ramp = np.clip((self.time - begin) / 0.8, 0, 1) - np.clip(
                (self.time - begin - length) / 0.8, 0, 1
            )
            curvature += rng.choice([-1, 1]) * ramp / radius
        weave = _Sway(rng, 0.0003 if kind != "town" else 0.002, 0.05, 0.2)
        curvature += weave(self.time)
        self.heading = np.cumsum(curvature) * step * self.speed
        self.x = np.cumsum(np.sin(self.heading)) * step * self.speed
        self.z = np.cumsum(np.cos(self.heading)) * step * self.speed
        self.ahead = rng.uniform(1.2, 2.2)
        """Metres from the rear axle, about which the car turns, to the camera."""
        angles = np.radians(rng.normal(0, [2.5, 1.5, 0.7]))
        self.mount = Rotation.from_euler("xyz", angles)
        rough = rng.uniform(0.5, 1.5)
        self.pitch = _Sway(rng, np.radians(0.2) * rough, 0.8, 2)
        self.roll = _Sway(rng, np.radians(0.2) * rough, 0.6, 1.8)
        self.yaw = _Sway(rng, np.radians(0.05) * rough, 0.5, 2)
        self.heave = _Sway(rng, 0.012 * rough, 0.8, 2)
        self.height = rng.uniform(1.2, 1.5)

    def pose(self, time: ndarray) -> tuple[ndarray, ndarray]:
        """World from camera."""
        heading, x, z = (np.interp(time, self.time, y) for y in (self.heading, self.x, self.z))
        place = np.column_stack(
            [
                x + self.ahead * np.sin(heading),
                -self.height + self.heave(time),
                z + self.ahead * np.cos(heading),
            ]
        )
        yaw = Rotation.from_rotvec(np.outer(heading + self.yaw(time), [0, 1, 0]))
        body = Rotation.from_euler("xz", np.column_stack([self.pitch(time), self.roll(time)]))
        return (yaw * body * self.mount).as_matrix(), place


class _HandHeld:
    """A camera that is carried and looks around."""

    def __init__(self, rng: np.random.Generator):
        self.turn = [_Sway(rng, np.radians(d), 0.1, 0.5) for d in (10, 20, 4)]
        self.shake = [_Sway(rng, np.radians(0.4), 1, 3) for _ in range(3)]
        self.move = [_Sway(rng, d, 0.05, 0.3) for d in (0.6, 0.15, 0.6)]

    def pose(self, time: ndarray) -> tuple[ndarray, ndarray]:
        angles = [
            turn(time) + shake(time) for turn, shake in zip(self.turn, self.shake, strict=True)
        ]
        return Rotation.from_rotvec(np.column_stack(angles)).as_matrix(), np.column_stack(
            [move(time) for move in self.move]
        )


class _Road:
    """Road, barriers or houses, what is far, and other cars."""

    def __init__(self, rng: np.random.Generator, car: _Car, town: bool):
        self.car, self.town = car, town
        self.aside = rng.uniform(5, 9, 2) if town else rng.uniform([4, 7], [9, 25])
        self.tall = rng.uniform(4, 10, 2) if town else rng.uniform(0.8, 8, 2)
        self.far = rng.uniform(0.05, 0.25)
        count = rng.integers(0, 3) if town else rng.integers(1, 5)
        self.cars = [
            (
                rng.choice([-3.5, 0.0, 3.5]) if not town else -3.0,
                rng.uniform(8, 60),
                rng.normal(0, 2.5) if not town else -2 * car.speed,
                rng.integers(8, 30),
            )
            for _ in range(count)
        ]

    def seen(
        self, rng: np.random.Generator, camera: _Camera, time: float, corners: int
    ) -> tuple[ndarray, ndarray, ndarray]:
        """Pixels, depths along the axis, and velocities in the world of corners at a time."""
        pixels = rng.uniform([0, 0], [camera.width, camera.height], (3 * corners, 2))
        rotation, place = self.car.pose(np.array([time]))
        heading = np.interp(time, self.car.time, self.car.heading)
        world_from_road = Rotation.from_rotvec([0, heading, 0]).as_matrix()
        rays = camera.rays(pixels) @ rotation[0].T @ world_from_road
        with np.errstate(divide="ignore", invalid="ignore"):
            ground = np.where(rays[:, 1] > 1e-3, -place[0, 1] / rays[:, 1], np.inf)
            wall = np.where(rays[:, 0] > 0, self.aside[1] / rays[:, 0], -self.aside[0] / rays[:, 0])
        # Uneven sides: the same direction meets a tree here, and a post farther on there.
        wall = np.abs(wall) * rng.uniform(0.7, 1.4, len(wall))
        top = -(place[0, 1] + wall * rays[:, 1])
        tall = np.where(rays[:, 0] > 0, self.tall[1], self.tall[0]) * rng.uniform(0.2, 1, len(wall))
        distance = np.where(top < tall, np.minimum(ground, wall), ground)
        horizon = (rays[:, 1] < 0.02) & (rays[:, 1] > -0.12) & (distance > 80)
        distance = np.where(horizon, rng.uniform(80, 1500, len(wall)), distance)
        limit = 60 if self.town else 150
        good = np.isfinite(distance) & (
            (distance < limit) | (horizon & (rng.random(len(wall)) < self.far * 4))
        )
        # Asphalt has few corners.
        good &= (distance < ground) | (rng.random(len(wall)) < 0.3)
        pixels, distance = pixels[good][:corners], distance[good][:corners]
        velocity = np.zeros((len(pixels), 3))
        for aside, ahead, speed, count in self.cars:
            away = ahead + speed * time if not self.town else 60 + (speed * time) % 60 - 55
            if not 5 < away < 120:
                continue
            box = np.column_stack(
                [
                    aside + rng.uniform(-0.9, 0.9, count),
                    rng.uniform(-1.5, -0.3, count),
                    away + rng.choice([0.0, 3.5], count, p=[0.7, 0.3]),
                ]
            )
            points = (box @ world_from_road.T - place[0] * [0, 1, 0]) @ rotation[0]
            seen = camera.project(points)
            inside = (
                (points[:, 2] > 1)
                & (seen > 0).all(1)
                & (seen < [camera.width, camera.height]).all(1)
            )
            moves = world_from_road[:, 2] * (speed / 2 if self.town else speed + self.car.speed)
            pixels = np.concatenate([pixels, seen[inside]])
            distance = np.concatenate([distance, points[inside, 2]])
            velocity = np.concatenate([velocity, np.tile(moves, (inside.sum(), 1))])
        return pixels, distance, velocity


class _Room:
    """Points at all distances from one to six metres."""

    def __init__(self, rng: np.random.Generator):
        self.near = rng.uniform(1, 2)

    def seen(
        self, rng: np.random.Generator, camera: _Camera, time: float, corners: int
    ) -> tuple[ndarray, ndarray, ndarray]:
        pixels = rng.uniform([0, 0], [camera.width, camera.height], (corners, 2))
        return pixels, self.near * rng.uniform(1, 4, corners), np.zeros((corners, 3))


class _View:
    """A camera while its rows are read out, with the velocities that it has in their middle."""

    def __init__(self, camera: _Camera, motion: "_Car | _HandHeld", time: float):
        rotations, places = motion.pose(time + np.array([-0.005, 0, 0.005]))
        self.rotation, self.place = rotations[1], places[1]
        self.velocity = (places[2] - places[0]) / 0.01
        self.turning = Rotation.from_matrix(rotations[0].T @ rotations[2]).as_rotvec() / 0.01

    def world(self, points: ndarray, delay: ndarray) -> ndarray:
        turned = points + np.cross(self.turning * delay[:, None], points)
        return turned @ self.rotation.T + self.place + self.velocity * delay[:, None]

    def local(self, points: ndarray, delay: ndarray) -> ndarray:
        turned = (points - self.place - self.velocity * delay[:, None]) @ self.rotation
        return turned - np.cross(self.turning * delay[:, None], turned)


def _pair(
    rng: np.random.Generator, camera: _Camera, motion: _Car | _HandHeld, scene: _Road | _Room,
    first_time: float, second_time: float, corners: int,
) -> CornerMatches:  # fmt: skip
    first, depth, velocity = scene.seen(rng, camera, first_time, corners)
    began, view = camera.delay(first), _View(camera, motion, first_time)
    points = view.world(camera.rays(first) * depth[:, None], began)
    second, view = first, _View(camera, motion, second_time)
    for _ in range(3):
        ended = camera.delay(second)
        moved = points + velocity * (second_time - first_time + ended - began)[:, None]
        local = view.local(moved, ended)
        second = np.clip(camera.project(local), -camera.width, 2 * camera.width)
    inside = (
        (local[:, 2] > 0.5) & (second > 0).all(1) & (second < [camera.width, camera.height]).all(1)
    )
    first, second = first[inside], second[inside]
    flow = np.linalg.norm(second - first, axis=1, keepdims=True)
    size = (0.1 + 0.005 * flow) * camera.width / WIDTH
    noise = rng.standard_t(5, second.shape) * size
    lost = rng.random(len(second)) < 0.04
    noise[lost] = rng.normal(0, 0.01 * camera.width, (lost.sum(), 2))
    return first, second + noise
