"""Features of a video's key frames, matched with those of the key frames before, in a database of COLMAP.

SIFT by OpenCV and descriptors compared by one matrix product take less time than COLMAP's own extraction and
matching. COLMAP verifies the matches.
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
"""Of a frame, at most; the time of matching grows with their square."""
OFFSETS = tuple(range(1, 16))
"""How many key frames back each key frame is matched with. With seven of these in place of all, poses drifted
by 4.6 % of the path on a rendered street of 200 frames, where they drift by 0.5 %."""
MAX_WIDTH = 1280
"""Of the images that features are found in."""
MIN_CONTRAST = 0.02
"""Of a feature, as COLMAP sets it; OpenCV's own limit finds too few."""
MAX_ANGLE_RATIO = 0.8
"""Of the angle between matching descriptors to that of the second-best match."""
MAX_ANGLE = 0.7
"""Radians between matching descriptors."""
MIN_MATCHES = 15
"""Of a pair of frames that is kept; COLMAP's own limit."""
MAX_STILL_FLOW = 0.5
"""Pixels, median of a frame, below which the camera stands still."""
SEED = 0


class FrameFeatures(NamedTuple):
    """What is found in a frame.

    Attributes:
        pixels: (P, 2) x, y; the centre of the top-left pixel is (0, 0).
        descriptors: (P, 128) square roots of normalized SIFT, unit vectors.
    """

    pixels: Float64[ndarray, "p 2"]
    descriptors: Float32[Tensor, "p 128"]


class FeatureFinder:
    """SIFT features of frames of one size."""

    def __init__(self, static: Bool[ndarray, "h w"] | None = None):
        """Args:
        static: pixels that belong to the camera, at any size; no feature is taken from there.
        """
        self._sift = cv2.SIFT.create(
            nfeatures=FEATURES, contrastThreshold=MIN_CONTRAST, enable_precise_upscale=True
        )
        self._moving = None if static is None else (~static).astype(np.uint8)

    def find(self, image: UInt8[ndarray, "h w"]) -> FrameFeatures:
        """Features of a grey image."""
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
    """Indices of features that are each other's best match, and clearly better than the first one's
    second-best."""
    if len(first.pixels) < 2 or len(second.pixels) < 2:
        return np.zeros((0, 2), np.uint32)
    likeness = first.descriptors @ second.descriptors.T
    (best, other), (partner, _) = (found.T for found in likeness.topk(2, dim=1))
    # The maximum of each column; where in the column it lies takes fifteen times as long to find.
    is_mutual = best >= likeness.amax(0)[partner]
    angle, other_angle = best.clamp(max=1).acos(), other.clamp(max=1).acos()
    good = is_mutual & (angle < MAX_ANGLE_RATIO * other_angle) & (angle < MAX_ANGLE)
    chosen = good.nonzero()[:, 0]
    return torch.stack([chosen, partner[chosen]], dim=1).numpy().astype(np.uint32)


def match_frames(
    frames: Iterable[tuple[str, FrameFeatures]], database: Path, camera: Any, colmap: ModuleType
) -> dict[str, str]:
    """Write features of key frames, and their verified matches, into a new database of COLMAP.

    A frame in which the camera still stands where it stood in the last key frame is no key frame: many alike
    let COLMAP's poses drift, and nothing more is seen in them. Holds the features of ``max(OFFSETS)`` frames.

    Args:
        frames: names and features, in order of time.
        database: file to write.
        camera: COLMAP's, of all frames.
        colmap: pycolmap.

    Returns:
        Of each frame that is left out since the camera stands still, the key frame that it resembles.
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
