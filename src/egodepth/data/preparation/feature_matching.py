"""Matches features between key frames of a video and writes them to a COLMAP database.

OpenCV's SIFT, and matching by one matrix product, are faster than COLMAP's own extraction and matching.
COLMAP verifies the matches.
"""

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8, UInt32
from numpy import ndarray
from torch import Tensor

FEATURES = 2048
"""Largest number of features per frame; matching time grows with its square."""
OFFSETS = tuple(range(1, 16))
"""Offsets of the earlier key frames that each key frame is matched with. On a rendered street of 200 frames,
poses drift by 0.5 % of the path; with only seven of these offsets it was 4.6 %."""
MAX_WIDTH = 1280
"""Width in pixels to which larger images are shrunk for feature detection."""
MIN_CONTRAST = 0.02
"""SIFT contrast threshold, as in COLMAP; with OpenCV's default too few features are found."""
MAX_ANGLE_RATIO = 0.8
"""Ratio test: largest ratio of the angle to the best match and the angle to the second-best match."""
MAX_ANGLE = 0.7
"""Largest angle between matching descriptors in radians."""
MIN_MATCHES = 15
"""Smallest number of matches for a pair of frames to be kept, as in COLMAP."""
MAX_STILL_FLOW = 0.5
"""Median flow in pixels below which the camera counts as standing still."""
SEED = 0


class FrameFeatures(NamedTuple):
    """Features of a frame.

    Attributes:
        pixels: (P, 2) x, y; the centre of the top-left pixel is (0, 0).
        descriptors: (P, 128) RootSIFT, unit vectors.
    """

    pixels: Float64[ndarray, "p 2"]
    descriptors: Float32[Tensor, "p 128"]


class FeatureFinder:
    """Detects SIFT features in frames."""

    def __init__(self, static: Bool[ndarray, "h w"] | None = None):
        """Args:
        static: static mask, of any size; no features are detected in it.
        """
        self._sift = cv2.SIFT.create(
            nfeatures=FEATURES, contrastThreshold=MIN_CONTRAST, enable_precise_upscale=True
        )
        self._moving = None if static is None else (~static).astype(np.uint8)

    def find(self, image: UInt8[ndarray, "h w"]) -> FrameFeatures:
        """Detect the features of a grey image."""
        shrink = min(1.0, MAX_WIDTH / image.shape[1])
        small = image
        if shrink < 1:
            small = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        mask = None
        if self._moving is not None:
            size = small.shape[::-1]
            mask = cv2.resize(self._moving, size, interpolation=cv2.INTER_NEAREST)
        keypoints, descriptors = self._sift.detectAndCompute(small, mask)
        if descriptors is None:
            return FrameFeatures(np.zeros((0, 2)), torch.zeros(0, 128))
        scale = np.array(image.shape[::-1]) / small.shape[::-1]
        pixels = (np.array([point.pt for point in keypoints], np.float64) + 0.5) * scale - 0.5
        total = np.maximum(descriptors.sum(1, keepdims=True), 1e-9)
        return FrameFeatures(pixels, torch.from_numpy(np.sqrt(descriptors / total)))


def match_features(first: FrameFeatures, second: FrameFeatures) -> UInt32[ndarray, "m 2"]:
    """Indices (M, 2) of features that are mutual best matches and pass the ratio test of the first frame."""
    if len(first.pixels) < 2 or len(second.pixels) < 2:
        return np.zeros((0, 2), np.uint32)
    likeness = first.descriptors @ second.descriptors.T
    (best, other), (partner, _) = (found.T for found in likeness.topk(2, dim=1))
    # Only the maximum of each column: its argmax would take fifteen times as long.
    is_mutual = best >= likeness.amax(0)[partner]
    angle, other_angle = best.clamp(max=1).acos(), other.clamp(max=1).acos()
    good = is_mutual & (angle < MAX_ANGLE_RATIO * other_angle) & (angle < MAX_ANGLE)
    chosen = good.nonzero()[:, 0]
    return torch.stack([chosen, partner[chosen]], dim=1).numpy().astype(np.uint32)


def match_frames(
    frames: Iterable[tuple[str, FrameFeatures]], database: Path, camera: Any, colmap: ModuleType
) -> dict[str, str]:
    """Write the features of key frames and their verified matches to a new COLMAP database.

    A frame is skipped if the camera has not moved since the last key frame: many similar frames let COLMAP's
    poses drift and add no information. The features of ``max(OFFSETS)`` frames are kept in memory.

    Args:
        frames: names and features in temporal order.
        database: file to write.
        camera: COLMAP camera of all frames.
        colmap: pycolmap.

    Returns:
        The key frame that each skipped frame resembles, by name.
    """
    still: dict[str, str] = {}
    last = ""
    options = colmap.TwoViewGeometryOptions()
    options.ransac.random_seed = SEED
    recent: deque[tuple[int, FrameFeatures]] = deque(maxlen=max(OFFSETS))
    with colmap.Database.open(database) as store:
        camera.camera_id = store.write_camera(camera)
        rig = colmap.Rig()
        rig.add_ref_sensor(camera.sensor_id)
        rig_id = store.write_rig(rig)
        for name, features in frames:
            found = [match_features(earlier, features) for _, earlier in list(recent)[-1:]]
            if found and _stands_still(recent[-1][1], features, found[0]):
                still[name] = last
                continue
            last = name
            image = colmap.Image(name=name, camera_id=camera.camera_id)
            image.image_id = store.write_image(image)
            frame = colmap.Frame()
            frame.rig_id = rig_id
            frame.add_data_id(image.data_id)
            store.write_frame(frame)
            own = features.pixels + 0.5
            store.write_keypoints(image.image_id, own.astype(np.float32))
            for offset in (offset for offset in OFFSETS if offset <= len(recent)):
                earlier_id, earlier = recent[-offset]
                matches = found[0] if offset == 1 else match_features(earlier, features)
                if len(matches) < MIN_MATCHES:
                    continue
                verified = colmap.estimate_calibrated_two_view_geometry(
                    camera, earlier.pixels + 0.5, camera, own, matches, options
                )
                store.write_matches(earlier_id, image.image_id, matches)
                store.write_two_view_geometry(earlier_id, image.image_id, verified)
            recent.append((image.image_id, features))
    return still


def _stands_still(first: FrameFeatures, second: FrameFeatures, matches: ndarray) -> bool:
    if len(matches) < MIN_MATCHES:
        return False
    moved = first.pixels[matches[:, 0]] - second.pixels[matches[:, 1]]
    return float(np.median(np.linalg.norm(moved, axis=1))) < MAX_STILL_FLOW
