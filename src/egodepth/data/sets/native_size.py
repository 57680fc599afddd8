"""Calibrations of data sets, which hold for images of one size, and images that were resized."""

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Frames
from egodepth.geometry.camera import Camera

FARTHEST_OFF_CENTRE = 0.15
"""Share of the image's size that a principal point may be away from the middle."""


def resized_camera(camera: Camera, frames: Frames, where: object) -> Camera:
    """The camera of images that were resized.

    Args:
        camera: at the size of the original images.
        frames: the images.
        where: what they are, for the message.

    Raises:
        EgodepthError: images of another aspect ratio: stretched, or cropped.
    """
    if not camera.has_aspect_of(frames.height, frames.width):
        raise EgodepthError(
            f"{where}: the images are {frames.width}x{frames.height}, and the calibration is for "
            f"{camera.width}x{camera.height}; use the original images, or resized ones of that aspect ratio"
        )
    return camera.resize(frames.height, frames.width)


def off_centre(cx: float, cy: float, height: int, width: int) -> float:
    """How far a principal point is from the middle of an image, as a share of its size."""
    return max(abs(cx + 0.5 - width / 2) / width, abs(cy + 0.5 - height / 2) / height)


def check_centre(camera: Camera, where: object) -> Camera:
    """The camera, where nothing but its principal point tells what image size it is for.

    Raises:
        EgodepthError: that lies far from the middle of the image.
    """
    *_, cx, cy = camera.focal_and_centre.tolist()
    if off_centre(cx, cy, camera.height, camera.width) > FARTHEST_OFF_CENTRE:
        raise EgodepthError(
            f"{where}: the images are {camera.width}x{camera.height}, and the principal point of the "
            f"calibration is ({cx:.0f}, {cy:.0f}): they were resized or cropped; use the original images"
        )
    return camera
