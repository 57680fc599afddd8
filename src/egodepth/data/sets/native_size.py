"""Adapts calibrations, which are valid for one image size, to resized images."""

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Frames
from egodepth.geometry.camera import Camera

FARTHEST_OFF_CENTRE = 0.15
"""Largest distance of a principal point from the image centre, as a share of the image size."""


def resized_camera(camera: Camera, frames: Frames, where: object) -> Camera:
    """The camera of images that may have been resized.

    Args:
        camera: camera at the size of the original images.
        frames: the images.
        where: path of the images, for the message.

    Raises:
        EgodepthError: images of another aspect ratio, as after stretching or cropping.
    """
    if not camera.has_aspect_of(frames.height, frames.width):
        raise EgodepthError(
            f"{where}: the images are {frames.width}x{frames.height}, and the calibration is for "
            f"{camera.width}x{camera.height}; use the original images, or resized ones of that aspect ratio"
        )
    return camera.resize(frames.height, frames.width)


def off_centre(cx: float, cy: float, height: int, width: int) -> float:
    """Distance of a principal point from the image centre, as a share of the size; the larger of x and y."""
    return max(abs(cx + 0.5 - width / 2) / width, abs(cy + 0.5 - height / 2) / height)


def check_centre(camera: Camera, where: object) -> Camera:
    """Check the image size of a calibration by its principal point, and return the camera.

    Raises:
        EgodepthError: the principal point is far from the image centre.
    """
    *_, cx, cy = camera.focal_and_centre.tolist()
    if off_centre(cx, cy, camera.height, camera.width) > FARTHEST_OFF_CENTRE:
        raise EgodepthError(
            f"{where}: the images are {camera.width}x{camera.height}, and the principal point of the "
            f"calibration is ({cx:.0f}, {cy:.0f}): they were resized or cropped; use the original images"
        )
    return camera
