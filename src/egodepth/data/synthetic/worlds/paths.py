"""Camera paths through the worlds."""

import numpy as np

from egodepth.data.synthetic.worlds.materials import Rng


class Spine:
    """Centre line of a road or corridor with arc length s, 0 at the origin, sampled every metre.

    Attributes:
        length: length in metres.
    """

    def __init__(self, rng: Rng, length: float, bend: float, hills: float = 0.0):
        """Draw a random line.

        Args:
            rng: generator to draw the bends from.
            length: length in metres; the line extends 30 m beyond both ends.
            bend: maximum curvature in 1 / m.
            hills: maximum slope.
        """
        self.length = length
        self._s = np.arange(-30.0, length + 31.0)
        waves = rng.uniform(25, 120, 2), rng.uniform(0, 2 * np.pi, 2)
        curvature = bend * sum(np.sin(self._s / w + p) for w, p in zip(*waves, strict=True)) / 2
        yaw = np.cumsum(curvature)
        self._yaw = yaw - np.interp(0, self._s, yaw)
        x, z = np.cumsum(np.sin(self._yaw)), np.cumsum(np.cos(self._yaw))
        self._x, self._z = x - np.interp(0, self._s, x), z - np.interp(0, self._s, z)
        wave, phase = rng.uniform(25, 70), rng.uniform(0, 2 * np.pi)
        rise = hills * wave * (np.sin(self._s / wave + phase) - np.sin(phase))
        self._height = rise

    def at(self, s: float, offset: float = 0.0) -> tuple[float, float, float, float]:
        """Return x, z, height and yaw at a point ``offset`` metres to the right of the line."""
        x, z, up, yaw = (
            float(np.interp(s, self._s, v)) for v in (self._x, self._z, self._height, self._yaw)
        )
        return x + offset * np.cos(yaw), z - offset * np.sin(yaw), up, yaw

    def pose(self, s: float, offset: float = 0.0, backwards: bool = False) -> np.ndarray:
        """Pose (4, 4) at a point ``offset`` metres to the right of the line, looking along it."""
        x, z, up, yaw = self.at(s, offset)
        slope = np.arctan(self.at(s + 1)[2] - self.at(s - 1)[2]) / 2
        turn = rotation(yaw + np.pi * backwards, -slope if backwards else slope, 0)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, (x, -up, z)
        return pose


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation world_from_camera (3, 3); yaw to the right, pitch up, roll clockwise, in radians."""
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    bank = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return turn @ tilt @ bank


def waves(rng: Rng, frames: int, size: float, period: float) -> np.ndarray:
    """Smooth random oscillation (frames,) of at most ``size``; ``period`` of the slowest wave in frames."""
    time = np.arange(frames)
    total = np.zeros(frames)
    for share, faster in ((0.6, 1.0), (0.3, 2.3), (0.1, 4.1)):
        length = period / faster * rng.uniform(0.8, 1.25)
        total += share * np.sin(2 * np.pi * time / length + rng.uniform(0, 2 * np.pi))
    return size * total


def drive(
    rng: Rng, spine: Spine, frames: int, speed: float, lane: float, height: float
) -> np.ndarray:
    """Slightly unsteady poses world_from_camera (frames, 4, 4) along a road; ``speed`` in metres per frame."""
    speeds = speed * (1 + waves(rng, frames, 0.3, 80))
    along = np.concatenate([[0], np.cumsum(speeds)[:-1]])
    drift = lane + waves(rng, frames, 0.35, 60)
    yaw = waves(rng, frames, 0.02, 40)
    pitch, roll = (
        waves(rng, frames, 0.008, 9) + rng.uniform(-0.08, 0.03),
        waves(rng, frames, 0.008, 15),
    )
    bounce = waves(rng, frames, 0.02, 7)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    slip = np.gradient(drift) / np.maximum(speeds, 0.05)
    for i in range(frames):
        base = spine.pose(along[i], drift[i])
        poses[i, :3, :3] = base[:3, :3] @ rotation(yaw[i] + np.arctan(slip[i]), pitch[i], roll[i])
        poses[i, :3, 3] = base[:3, 3] - (0, height + bounce[i], 0)
    return poses


def wander(
    rng: Rng, frames: int, reach: tuple[float, float, float], height: float, period: float,
    look: float, pitch: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """Poses world_from_camera (frames, 4, 4) of a hand-held or flying camera around the origin.

    Args:
        rng: generator to draw the path from.
        frames: number of frames.
        reach: maximum displacement in metres along x, height and z.
        height: mean height in metres.
        period: period of the slowest wave in frames.
        look: maximum yaw to either side in radians; beyond pi the camera looks all around.
        pitch: mean pitch in radians, upwards.
    """
    x, up, z = (waves(rng, frames, r, period) for r in reach)
    yaw = rng.uniform(0, 2 * np.pi) + waves(rng, frames, look, 1.4 * period)
    tilt = pitch + waves(rng, frames, 0.22, 0.8 * period)
    roll = waves(rng, frames, 0.1, 0.7 * period) + rng.normal(0, 0.03)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    for i in range(frames):
        poses[i, :3, :3] = rotation(yaw[i], tilt[i], roll[i])
        poses[i, :3, 3] = x[i], -(height + up[i]), z[i]
    return poses
