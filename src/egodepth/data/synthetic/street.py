"""A synthetic drive through a street canyon, with exact depth, poses and camera, from a seed.

The scene is a crossroads whose four arms are lined with houses, blank walls, parked cars, trees and lamp
posts. The camera drives up one arm, turns at the crossing and drives on. Only the camera moves.
"""

from functools import cached_property, partial

import numpy as np

from egodepth.data.sequence import Sequence
from egodepth.data.synthetic import textures as paint
from egodepth.data.synthetic.ray_casting import Renderer, SceneMesh
from egodepth.data.synthetic.rendered import RenderedFrames
from egodepth.data.synthetic.street_mesh import KERB_HEIGHT, LANE, build_street, paint_light
from egodepth.geometry.camera import Camera

FRAMES, HEIGHT, WIDTH = 200, 96, 320
FOCAL = 0.58
"""Focal length over image width, as in KITTI."""
_VERSION = 3
"""Version in the name of the frame cache; increase it when the images change."""

CAMERA_HEIGHT, CRUISE, TURN_SPEED, TURN_LENGTH = 1.6, 0.75, 0.48, 36.0
"""Metres, metres per frame. The turn is wide enough for a speed that still gives parallax."""
WEAVE, WEAVE_LENGTH = 0.3, 8.0
"""Lateral amplitude in metres, and wavelength in metres per radian, of the car's weaving."""


class StreetDrive(RenderedFrames):
    """Frames of one drive, rendered on demand."""

    def __init__(self, seed: int, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH):
        """Define the drive; nothing is rendered yet.

        Args:
            seed: determines the street, the direction of the turn, and the swaying of the car.
            frames: number of frames; determines the length of the street.
            height, width: image size in pixels.
        """
        super().__init__(seed, frames, height, width)
        self.camera = Camera.from_parameters(
            FOCAL * width, FOCAL * width, (width - 1) / 2, (height - 1) / 2, height, width
        )
        self.right_turn = bool(np.random.default_rng([seed, 1]).random() < 0.5)
        self.world_from_camera = _drive(np.random.default_rng([seed, 2]), frames, self.right_turn)

    @property
    def fingerprint(self) -> str:
        return f"street-{_VERSION}-{self.seed}-{self._count}-{self.height}x{self.width}"

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Render the image (H, W, 3) uint8 and depth (H, W) float32 of one frame."""
        return self._renderer.render(self.world_from_camera[index])

    @cached_property
    def _renderer(self) -> Renderer:
        rng = np.random.default_rng([self.seed, 3])
        reach = float(np.abs(self.world_from_camera[:, :3, 3]).max()) + 20
        mesh = SceneMesh()
        baked = build_street(rng, mesh, reach)
        matrix = self.camera.matrix.numpy().astype(np.float64)
        renderer = Renderer(mesh, paint.sky(rng), matrix, self.height, self.width)
        azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 60))
        sun = np.array([np.cos(elevation) * np.sin(azimuth), -np.sin(elevation),
                        np.cos(elevation) * np.cos(azimuth)])  # fmt: skip
        paint_light(renderer, mesh, baked, sun)
        return renderer


def read_street(seed: int, frames: int = FRAMES) -> Sequence:
    """Return the drive of a seed as a sequence with depth and poses."""
    drive = StreetDrive(seed, frames)
    depth = {index: partial(drive.depth, index) for index in range(frames)}
    ground = (-KERB_HEIGHT - 0.01, 0.01)  # one centimetre of tolerance for rounding
    return Sequence(
        f"street-{seed}", drive, drive.camera, drive.world_from_camera, depth, ground=ground
    )


def _drive(rng: np.random.Generator, frames: int, right_turn: bool) -> np.ndarray:
    """Poses ``world_from_camera`` (N, 4, 4): straight, a quarter turn at the crossing, straight.

    The turn always crosses the oncoming lane: for a right turn, traffic drives on the left.
    """
    side = 1 if right_turn else -1
    straight = max(0.0, (frames - TURN_LENGTH / TURN_SPEED) / 2 * CRUISE - 3)
    distance, along = -straight, np.empty(frames)
    for i in range(frames):
        along[i] = distance
        gap = max(0.0, -distance, distance - TURN_LENGTH)
        distance += TURN_SPEED + (CRUISE - TURN_SPEED) * min(1.0, gap / 12)
    time = np.arange(frames)
    phase = rng.uniform(0, 2 * np.pi, 4)
    angle, x, z = _turn_path(along)
    weave = along / WEAVE_LENGTH + phase[3]
    x, z = x + WEAVE * np.sin(weave) * np.cos(angle), z - WEAVE * np.sin(weave) * np.sin(angle)
    yaw = angle + np.arctan(WEAVE / WEAVE_LENGTH * np.cos(weave))
    x, yaw = side * (x - LANE), side * yaw + 0.006 * np.sin(time / 17 + phase[0])
    pitch = 0.003 * np.sin(time / 3.1 + phase[1]) + 0.002 * np.sin(time / 7 + phase[2])
    poses = np.tile(np.eye(4), (frames, 1, 1))
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    turn, tilt = np.tile(np.eye(3), (2, frames, 1, 1))
    turn[:, 0, 0], turn[:, 0, 2], turn[:, 2, 0], turn[:, 2, 2] = cy, sy, -sy, cy
    tilt[:, 1, 1], tilt[:, 1, 2], tilt[:, 2, 1], tilt[:, 2, 2] = cp, -sp, sp, cp
    poses[:, :3, :3] = turn @ tilt
    poses[:, 0, 3] = x
    poses[:, 1, 3] = -CAMERA_HEIGHT + 0.012 * np.sin(time / 2.7 + phase[1])
    poses[:, 2, 3] = z
    return poses


def _turn_path(along: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heading and position in a right turn that starts at ``along`` = 0 m, heading for +z.

    As when a driver turns the wheel, the curvature rises over the first quarter of the turn and falls over
    the last.
    """
    s = np.linspace(0, TURN_LENGTH, 1001)
    curvature = np.clip(4 * np.minimum(s, s[::-1]) / TURN_LENGTH, 0, 1)
    heading = np.cumsum(curvature) - curvature / 2
    heading *= np.pi / 2 / curvature.sum()
    step = s[1]
    x, z = (np.concatenate([[0], np.cumsum(f(heading[:-1]) * step)]) for f in (np.sin, np.cos))
    angle = np.interp(along, s, heading)
    before, after = np.minimum(along, 0), np.maximum(along - TURN_LENGTH, 0)
    start = LANE - z[-1]
    return angle, np.interp(along, s, x) + after, start + before + np.interp(along, s, z)
