"""Adapts calibrations, which are valid for one image size, to resized images."""

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Frames
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import camera_problem

FARTHEST_OFF_CENTRE = 0.15
"""Largest distance of a principal point from the image centre, as a share of the image size."""


def calibrated_camera(
    fx: float, fy: float, cx: float, cy: float, height: int, width: int, where: object
) -> Camera:
    """The camera of a data set's calibration.

    Args:
        fx, fy, cx, cy: in pixels.
        height, width: size of the images that it is for.
        where: path of the calibration or the images, for the message.

    Raises:
        EgodepthError: numbers that are not finite, or that no camera has.
    """
    problem = camera_problem(fx, fy, cx, cy, height, width)
    if problem:
        raise EgodepthError(f"{where}: the calibration {problem}; download it again")
    return Camera.from_parameters(fx, fy, cx, cy, height, width)


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


def centred_camera(
    fx: float, fy: float, cx: float, cy: float, height: int, width: int, where: object
) -> Camera:
    """Like :func:`calibrated_camera`, for a calibration that does not state its image size: the principal point
    tells whether it is right.

    Raises:
        EgodepthError: also if the principal point is far from the image centre.
    """
    if off_centre(cx, cy, height, width) > FARTHEST_OFF_CENTRE and min(fx, fy) > 0:
        raise EgodepthError(
            f"{where}: the images are {width}x{height}, and the principal point of the calibration is "
            f"({cx:.0f}, {cy:.0f}): they were resized or cropped; use the original images"
        )
    return calibrated_camera(fx, fy, cx, cy, height, width, where)
