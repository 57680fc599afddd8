"""Load images for a run from files, Pillow images or arrays."""

from pathlib import Path

import numpy as np
from PIL import Image

from egodepth.core.errors import EgodepthError
from egodepth.data.image_files import ImageFiles
from egodepth.data.pixels import read_picture

ImageLike = str | Path | Image.Image | np.ndarray
"""A path, a Pillow image, or an array (H, W, 3) uint8, RGB."""


def load_pair(first: ImageLike, second: ImageLike) -> list[np.ndarray]:
    """Load two images as :func:`load_image` does; two files of more than 8 bits are scaled from their common
    range, so that equal values stay equal.

    Raises:
        EgodepthError: as :func:`load_image`, or two files of different sizes.
    """
    if isinstance(first, (str, Path)) and isinstance(second, (str, Path)):
        return [frame.image for frame in ImageFiles([Path(first), Path(second)]).at()]
    return [load_image(first), load_image(second)]


def load_image(image: ImageLike) -> np.ndarray:
    """Load an image from a path, a Pillow image or an array, as (H, W, 3) uint8 RGB.

    Raises:
        EgodepthError: a missing or broken file, or an array of another shape or type.
    """
    if isinstance(image, (str, Path)):
        return next(ImageFiles([Path(image)]).at()).image
    if isinstance(image, Image.Image):
        return read_picture(image)
    if not isinstance(image, np.ndarray):
        raise EgodepthError(
            "an image must be a path, a Pillow image or an array (H, W, 3) uint8, got "
            f"{type(image).__name__}"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise EgodepthError(
            f"an image array must be (H, W, 3) uint8, got {image.shape} {image.dtype}"
        )
    if 0 in image.shape:
        raise EgodepthError(f"an image array must have pixels, got {image.shape}")
    return image
