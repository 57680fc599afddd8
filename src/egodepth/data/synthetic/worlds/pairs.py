"""Pairs of frames of ever new worlds, with exact depth and motion, for pretraining.

Depth and translation are in the unit of a canonical camera: metres times CANONICAL_FOCAL over the focal length
in pixels. What has one size in the image and one in the world then has one depth, whatever the field of view.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from egodepth.data.synthetic.worlds.world import World

CANONICAL_FOCAL = 180.0
"""Pixels."""
SIZES = {(96, 320): 0.4, (192, 256): 0.25, (128, 224): 0.25, (224, 128): 0.1}
"""Height and width of the images, and how often they are drawn."""
KIND_SHARES = {
    "town": 0.22, "country": 0.12, "motorway": 0.08, "yard": 0.13, "room": 0.19, "corridor": 0.06,
    "hall": 0.07, "stairs": 0.03, "shapes": 0.10,
}  # fmt: skip
"""How often a world of each kind is drawn."""
HELD_OUT_SEEDS = 10**9
"""Worlds of seeds from here on are never trained on."""
FRAMES, PAIRS = 60, 14
"""Of one world."""
MAX_GAP = 5
"""Frames between those of a pair, at most."""
MAX_DEPTH = 100.0
"""In the canonical unit; the sky counts as lying there."""
NEAREST = 0.11
"""Depth in the canonical unit below which something is right before the lens, and the pair is left out."""


@dataclass(frozen=True)
class Pair:
    """Two frames of a world, in order of time.

    Attributes:
        images: of both, RGB.
        inverse_depth: of both, in the canonical unit; 0 for sky.
        motion: ``second_from_first``, translation in the canonical unit; None where nothing tells it, since
            the principal point was moved.
    """

    images: UInt8[ndarray, "2 h w 3"]
    inverse_depth: Float[ndarray, "2 h w"]
    motion: Float[ndarray, "4 4"] | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.images.shape[1:3]
        return height, width

    def resized(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> "Pair":
        """A part of both images, enlarged or shrunk, also unevenly.

        Args:
            box: top, left, height and width of the part.
            size: height and width to bring it to.
        """
        if box == (0, 0, *self.size) and size == self.size:
            return self
        top, left, height, width = box
        part = np.s_[top : top + height, left : left + width]
        # What is twice as large in the image lies at half the canonical depth.
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
        return Pair(images, (inverse * factor).astype(np.float16), motion)


def world_of(seed: int, number: int) -> World:
    """A world of the stream that a seed starts."""
    rng = np.random.default_rng([seed, number])
    kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    height, width = list(SIZES)[rng.choice(len(SIZES), p=list(SIZES.values()))]
    return World(kind, int(rng.integers(HELD_OUT_SEEDS)), FRAMES, height, width)


def world_pairs(seed: int, number: int) -> Iterator[Pair]:
    """Pairs of a world of the stream that a seed starts."""
    world = world_of(seed, number)
    rng = np.random.default_rng([seed, number, 1])
    for _ in range(PAIRS):
        first = int(rng.integers(0, FRAMES - MAX_GAP))
        pair = pair_of(world, first, first + int(rng.integers(1, MAX_GAP + 1)))
        if pair.inverse_depth.max() < 1 / NEAREST:
            yield pair


def pair_of(world: World, first: int, second: int) -> Pair:
    """Two frames of a world."""
    unit = CANONICAL_FOCAL / float(world.camera.matrix[0, 0])
    images, depths = zip(*(world.render(index)[:2] for index in (first, second)), strict=True)
    depth = unit * np.stack(depths)
    poses = world.world_from_camera
    motion = np.linalg.inv(poses[second]) @ poses[first]
    motion[:3, 3] *= unit
    known = depth > 0
    inverse = np.where(known, 1 / np.maximum(np.where(known, depth, 1), 1e-3), 0)
    return Pair(np.stack(images), inverse.astype(np.float16), motion)
