"""Load images for a run from files, Pillow images or arrays."""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.footage.own_footage import read_lens
from egodepth.data.image_files import ImageFiles
from egodepth.data.pixels import read_picture
from egodepth.evaluation.landscape import texture
from egodepth.runs.folder import RunFolder

ImageLike = str | Path | Image.Image | np.ndarray
"""A path, a Pillow image, or an array (H, W, 3) uint8, RGB."""
SUMMARY_SIZE = (12, 16)
"""Height and width of :func:`small_images`."""


def load_pair(
    first: ImageLike, second: ImageLike, run: RunFolder | None = None
) -> list[np.ndarray]:
    """Load two images as :func:`load_image` does, with a run that must fit them; two files of more than 8 bits
    are scaled from their common range, so that equal values stay equal.

    Raises:
        EgodepthError: as :func:`load_image`, or two files of different sizes.
    """
    if run is not None:
        warn_of_lens(first, run, stacklevel=4)
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


def load_sized(
    image: ImageLike, size: tuple[int, int] | None, run: RunFolder
) -> tuple[np.ndarray, tuple[int, int]]:
    """Load an image for a run as :func:`load_image` does, and the size of what is predicted of it: as given, or
    its own.

    Raises:
        EgodepthError: as :func:`load_image`, or a size that is not two whole numbers.
    """
    warn_of_lens(image, run, stacklevel=5)
    array = load_image(image)
    if size is not None and not _is_size(size):
        raise EgodepthError(f"size must be height and width in whole pixels, got {size!r}")
    return array, size or (array.shape[0], array.shape[1])


def _is_size(size: object) -> bool:
    two = isinstance(size, tuple | list) and len(size) == 2
    return two and all(isinstance(n, int | np.integer) and n > 0 for n in size)  # type: ignore[attr-defined]


def warn_of_lens(image: ImageLike, run: RunFolder, stacklevel: int) -> None:
    """Warn if an image file may have the lens distortion of a run's camera; ``stacklevel`` as in
    :func:`warnings.warn`, from here."""
    if isinstance(image, (str, Path)) and any(map(read_lens, run.camera_files().values())):
        warnings.warn(
            f"{image} is taken as it is, but the camera of {run} has lens distortion: "
            "where it took this image, open it by run.open(FILE) and give the frames of that",
            EgodepthWarning,
            stacklevel=stacklevel,
        )


def texture_at(
    image: np.ndarray, height: int, width: int, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Texture of an image (H, W, 3), computed at ``height`` x ``width`` and resized to ``size``, by default
    the image's own."""
    small = resize_frame(image, height, width)
    local = torch.from_numpy(texture(small.astype(np.float64) / 255))[None, None]
    return F.interpolate(local, size or image.shape[:2], mode="nearest-exact")[0, 0].numpy()


def blend_mirrored(inverse: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Blend inverse depth (H, W) with that of the mirrored image, mirrored back: their mean, but near the left
    and right edges only the one that sees more there (Godard et al., "Unsupervised monocular depth
    estimation with left-right consistency", CVPR 2017)."""
    across = np.linspace(0, 1, inverse.shape[1], dtype=inverse.dtype)
    left = 1 - np.clip(20 * (across - 0.05), 0, 1)
    right = left[::-1]
    return left * mirrored + right * inverse + (1 - left - right) * (inverse + mirrored) / 2


def small_images(frames: Tensor) -> Tensor:
    """Grey images (B, h w) of SUMMARY_SIZE of prepared frames (B, 3, H, W), to summarise them without an
    encoder."""
    return F.interpolate(frames.mean(1, keepdim=True), SUMMARY_SIZE, mode="area").flatten(1)
