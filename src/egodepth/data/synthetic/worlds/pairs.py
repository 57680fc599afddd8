"""A stream of frame pairs from new worlds, with exact depth and motion, for pretraining.

Depth and translation are in the unit of a canonical camera: metres times CANONICAL_FOCAL over the focal length
in pixels. An object of given size in the world and in the image then has the same depth for any field of view.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from egodepth.data.synthetic.worlds.world import World
from egodepth.settings.model import FOOTAGE_SIZES

CANONICAL_FOCAL = 180.0
"""Focal length of the canonical camera in pixels."""
SIZES = dict(zip(FOOTAGE_SIZES, (0.4, 0.25, 0.25, 0.1), strict=True))
"""Probability of each image size (height, width)."""
KIND_SHARES = {
    "town": 0.22, "country": 0.12, "motorway": 0.08, "yard": 0.13, "room": 0.19, "corridor": 0.06,
    "hall": 0.07, "stairs": 0.03, "shapes": 0.10,
}  # fmt: skip
"""Probability of each kind of world."""
HELD_OUT_SEEDS = 10**9
"""First seed of the worlds that are never used for training."""
FRAMES, PAIRS = 60, 14
"""Number of frames and of pairs per world."""
MAX_GAP = 5
"""Maximum gap between the two frames of a pair."""
MAX_DEPTH = 100.0
"""Maximum depth in the canonical unit; the sky counts as this far."""
NEAREST = 0.11
"""Minimum depth in the canonical unit; pairs with anything closer to the camera are left out."""


@dataclass(frozen=True)
class Pair:
    """Two frames of a world, in order of time.

    Attributes:
        images: both images, RGB.
        inverse_depth: both inverse depth maps, in the canonical unit; 0 for sky.
        motion: ``second_from_first``, translation in the canonical unit; None if cropping moved the principal
            point, which makes it ambiguous.
        matrix: intrinsics of both.
    """

    images: UInt8[ndarray, "2 h w 3"]
    inverse_depth: Float[ndarray, "2 h w"]
    motion: Float[ndarray, "4 4"] | None
    matrix: Float[ndarray, "3 3"]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.images.shape[1:3]
        return height, width

    def resized(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> "Pair":
        """Crop both images and resize them, possibly changing the aspect ratio.

        Args:
            box: top, left, height and width of the crop.
            size: height and width to resize to.
        """
        if box == (0, 0, *self.size) and size == self.size:
            return self
        top, left, height, width = box
        part = np.s_[top : top + height, left : left + width]
        # Enlarging by a factor divides the canonical depth by it.
        factor = np.sqrt(size[0] * size[1] / (height * width))
        shape = (size[1], size[0])
        shrinks = size[0] * size[1] < height * width
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        images = np.stack(
            [cv2.resize(image[part], shape, interpolation=way) for image in self.images]
        )
        inverse = np.stack([
            cv2.resize(each[part].astype(np.float32), shape, interpolation=cv2.INTER_NEAREST)
            for each in self.inverse_depth
        ])  # fmt: skip
        motion = None
        if self.motion is not None and box == (0, 0, *self.size):
            motion = self.motion.copy()
            motion[:3, 3] /= factor
        # Centres of pixels are whole numbers.
        x, y = size[1] / width, size[0] / height
        moved = np.array([[x, 0, (0.5 - left) * x - 0.5], [0, y, (0.5 - top) * y - 0.5], [0, 0, 1]])
        return Pair(images, (inverse * factor).astype(np.float16), motion, moved @ self.matrix)


def world_of(seed: int, number: int) -> World:
    """The world with this number in the stream of a seed."""
    rng = np.random.default_rng([seed, number])
    kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    height, width = list(SIZES)[rng.choice(len(SIZES), p=list(SIZES.values()))]
    return World(kind, int(rng.integers(HELD_OUT_SEEDS)), FRAMES, height, width)


def world_pairs(seed: int, number: int) -> Iterator[Pair]:
    """Yield the pairs of the world with this number in the stream of a seed."""
    world = world_of(seed, number)
    rng = np.random.default_rng([seed, number, 1])
    for _ in range(PAIRS):
        first = int(rng.integers(0, FRAMES - MAX_GAP))
        pair = pair_of(world, first, first + int(rng.integers(1, MAX_GAP + 1)))
        if pair.inverse_depth.max() < 1 / NEAREST:
            yield pair


def pair_of(world: World, first: int, second: int) -> Pair:
    """Render two frames of a world as a pair."""
    unit = CANONICAL_FOCAL / float(world.camera.matrix[0, 0])
    images, depths = zip(*(world.render(index)[:2] for index in (first, second)), strict=True)
    depth = unit * np.stack(depths)
    poses = world.world_from_camera
    motion = np.linalg.inv(poses[second]) @ poses[first]
    motion[:3, 3] *= unit
    known = depth > 0
    inverse = np.where(known, 1 / np.maximum(np.where(known, depth, 1), 1e-3), 0)
    return Pair(
        np.stack(images), inverse.astype(np.float16), motion, world.camera.matrix.double().numpy()
    )
