"""Detects the static mask: image regions fixed to the camera, such as a bonnet, watermark or black borders."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from egodepth.core.errors import EgodepthError
from egodepth.core.files import reading
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.pixels import open_image, read_values
from egodepth.data.preparation.clips import Clip
from egodepth.data.sequence import Sequence

SAMPLES = 64
"""Number of evenly spaced frames that are examined."""
MIN_FRAMES_FOR_STATIC_MASK = 100
"""Shorter clips get no mask: on a short straight drive, everything far ahead stays in place, and so does a car
driving ahead."""
COHERENT = 0.8
"""Smallest ratio of the magnitude of a pixel's mean gradient to its mean gradient magnitude: static edges keep
theirs, those of moving things cancel."""
MIN_SLOPE = 3.0
"""Smallest mean gradient of an edge in grey levels per pixel."""
STEADY = 0.3
"""Pixels that change less than this share of the typical change at moving edges are steady."""
MIN_AREA_SHARE = 0.003
"""Share of the image below which a region is ignored."""
MIN_EDGE_SHARE = 0.02
"""Share of a region that must be static edges: sky is steady too, but has none."""
MIN_FOOT_SHARE = 0.2
"""Share of the lower image border that a region with fewer static edges must cover."""
MIN_OUTLINE_SHARE = 0.5
"""Share of such a region's outline that must be static edges, or of its surroundings that must be moving: a
bonnet ends abruptly, smooth asphalt does not."""
USUAL = 0.8
"""Surroundings that change more than this share of the typical change at moving edges count as moving."""
MIN_PIXELS = 20_000
"""Smaller frames get no mask: in them, most of a street moves by less than a pixel."""
MAX_AREA_SHARE = 0.6
"""Share of the image above which the mask is discarded, as from a camera that stands still."""


def find_static_mask(clip: Clip) -> np.ndarray | None:
    """Detect the static mask (h, w) bool of a clip; None if there is none.

    Edges with the same gradient in all frames belong to something fixed to the camera (Dekel et al., "On the
    effectiveness of visible watermarks", CVPR 2017). Together with steady pixels around them they form regions.
    """
    frames = clip.frames
    if len(frames) < MIN_FRAMES_FOR_STATIC_MASK or frames[0][0].size < MIN_PIXELS:
        return None
    return _detect(np.stack([frames[i].mean(0, dtype=np.float32) for i in _sampled(len(frames))]))


def find_mask_of_footage(sequence: Sequence, height: int, width: int) -> np.ndarray | None:
    """Like :func:`find_static_mask`, for footage that is no clip: its frames are resized to height x width, and
    only those that are examined are read."""
    count = len(sequence.frames)
    if count < MIN_FRAMES_FOR_STATIC_MASK or height * width < MIN_PIXELS:
        return None
    images = (
        resize_frame(frame.image, height, width).mean(2, dtype=np.float32)
        for frame in sequence.frames.at(_sampled(count))
    )
    return _detect(np.stack(list(images)))


def choose_mask(sequence: Sequence, mask: str, height: int, width: int) -> np.ndarray | None:
    """The static mask (height, width) bool that a setting asks for; None without one.

    Args:
        sequence: footage.
        mask: ``none``, ``auto`` to look for it, or an image file whose black pixels are masked.

    Raises:
        EgodepthError: see :func:`read_mask`.
    """
    if mask == "none":
        return None
    if mask == "auto":
        return find_mask_of_footage(sequence, height, width)
    return read_mask(Path(mask), height, width)


def _sampled(count: int) -> list[int]:
    """Positions of the frames that are examined, of so many."""
    return np.unique(np.linspace(0, count - 1, SAMPLES).astype(int)).tolist()


def _detect(grey: np.ndarray) -> np.ndarray | None:
    """The static mask (h, w) bool of grey images (N, h, w); None if there is none."""
    across = np.stack([cv2.Scharr(image, cv2.CV_32F, 1, 0) / 32 for image in grey])
    down = np.stack([cv2.Scharr(image, cv2.CV_32F, 0, 1) / 32 for image in grey])
    slope = np.hypot(across, down).mean(0)
    stays = np.hypot(across.mean(0), down.mean(0))
    edges = (slope > MIN_SLOPE) & (stays > COHERENT * slope)
    change = np.abs(grey - np.median(grey, axis=0)).mean(0)
    moving = change[(slope > MIN_SLOPE) & ~edges]
    if len(moving) == 0:
        return None
    steady = change < STEADY * float(np.median(moving))
    near = cv2.dilate(edges.astype(np.uint8), np.ones((3, 3), np.uint8))
    together = (near.astype(bool) | steady).astype(np.uint8)
    together = cv2.morphologyEx(together, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    together = cv2.morphologyEx(together, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    regions, labels, facts, _ = cv2.connectedComponentsWithStats(together, connectivity=4)
    mask = np.zeros(edges.shape, bool)
    for region in range(1, regions):
        inside = labels == region
        area = int(facts[region, cv2.CC_STAT_AREA])
        # Ground at the lower border moves most: a steady region with an outline there is a bonnet.
        if area < MIN_AREA_SHARE * mask.size or inside.all():
            continue
        at_foot = inside[-1].mean() >= MIN_FOOT_SHARE
        outline, beside = _rims(inside)
        ends = (near[outline].mean(), (change[beside] > USUAL * np.median(moving)).mean())
        bonnet = at_foot and max(ends) >= MIN_OUTLINE_SHARE
        fixed = bonnet or edges[inside].sum() >= MIN_EDGE_SHARE * area
        if fixed:
            mask |= inside
    return mask if 0 < mask.mean() < MAX_AREA_SHARE else None


def _rims(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the outermost pixels of a region (h, w) and of those three or four pixels outside of it."""

    def grown(pixels: int) -> np.ndarray:
        size = (2 * pixels + 1, 2 * pixels + 1)
        return cv2.dilate(region.astype(np.uint8), np.ones(size, np.uint8)) > 0

    inner = cv2.erode(np.pad(region, 1, mode="edge").astype(np.uint8), np.ones((3, 3), np.uint8))
    return region & (inner[1:-1, 1:-1] == 0), grown(4) & ~grown(2)


def resize_mask(static: np.ndarray, height: int, width: int) -> np.ndarray:
    """A static mask (h, w) bool at another size."""
    size = (width, height)
    resized = cv2.resize(static.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return resized.astype(bool)


def read_mask(path: Path, height: int, width: int) -> np.ndarray:
    """Read a static mask (height, width) bool from an image of any size, in which masked pixels are black.

    Raises:
        EgodepthError: not an image, or a mask of all pixels or of none.
    """
    try:
        with open_image(path) as image, reading(path, "the image"):
            values = read_values(image)
    except EgodepthError as error:
        raise EgodepthError(
            f"mask: cannot read {path}: {error}; give an image whose black pixels are left out, "
            "auto or none"
        ) from error
    levels = values.reshape(*values.shape[:2], -1).mean(2, dtype=np.float32)
    levels *= 255 / (255 if values.dtype == np.uint8 else max(float(levels.max()), 1e-9))
    resized = Image.fromarray(levels).resize((width, height), Image.Resampling.BOX)
    mask = np.asarray(resized) < 128
    if mask.all() or not mask.any():
        raise EgodepthError(
            f"mask: {path} is all {'black' if mask.all() else 'white'}; black is left out, "
            "white is used"
        )
    return mask
