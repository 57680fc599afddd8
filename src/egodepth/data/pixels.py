"""Reads image files of any pixel format as upright 8-bit RGB."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import reading, require_name
from egodepth.core.suggestions import similar_path

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow modes with one channel of more than 8 bits."""
ORIENTATION = 0x0112
"""EXIF and TIFF tag for the orientation of an image."""
SAMPLED_PIXELS = 100_000
"""Pixels per frame, about, from which the value range of a sequence is estimated."""
MAX_MEGAPIXELS = 150
"""Largest size of an image; the header of a small file may claim any size."""
OWN_RANGE = "of this image alone; as a frame of a folder it is scaled from the range of all frames"
"""Part of the warning about a single image of more than 8 bits."""
OUTLIERS = 0.1
"""Percentage of values at either end that may be outliers, such as dead pixels."""


def open_image(path: Path) -> Image.Image:
    """Open an image file and read its header.

    Raises:
        EgodepthError: a missing file, not an image, or a file with several images.
    """
    require_name(path, "an image")
    if not path.exists():
        raise EgodepthError(f"there is no image {path}{similar_path(path, Path.is_file)}")
    with reading(path, "the image"):
        try:
            image = Image.open(path)
        except UnidentifiedImageError as error:
            raise ValueError("it is in no format that can be read") from error
        if image.width * image.height > MAX_MEGAPIXELS * 10**6:
            raise ValueError(
                f"it claims {image.width}x{image.height} pixels; at most {MAX_MEGAPIXELS} megapixels are read"
            )
        # JPEGs from phones may also contain a preview or a depth map (MPO).
        pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if pictures > 1:
        form = f"{'multi-page' if image.format == 'TIFF' else 'animated'} {image.format}"
        image.close()
        raise EgodepthError(
            f"{path} holds {pictures} pictures ({form}), not one; save them as a video or as a folder of "
            "images"
        )
    return image


def is_deep(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits per channel, or floating-point values."""
    return image.mode in DEEP_MODES or ";16" in str(getattr(image, "tile", ""))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an image after rotating it upright."""
    if image.format == "TIFF":
        _load(image)  # Pillow rotates TIFFs itself on loading
    turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def _load(image: Image.Image) -> None:
    if isinstance(image, ImageFile.ImageFile) and image.format == "TIFF":
        # Pillow memory-maps files whose name it knows, and misreads those that it has to rotate.
        image.filename = ""
    image.load()


def read_values(image: Image.Image) -> np.ndarray:
    """Pixels of an image, rotated upright: (H, W, 3) uint8 RGB.

    Images of more than 8 bits keep their type, as (H, W) or (H, W, 3) RGB.

    Raises:
        Exception: a broken file; read it within :func:`egodepth.core.files.reading`.
    """
    deep_colour = is_deep(image) and image.mode not in DEEP_MODES
    if deep_colour:  # Pillow would reduce them to 8 bits
        values = _read_deep_colour(image)
        # OpenCV rotates TIFFs itself.
        orientation = 1 if image.format == "TIFF" else image.getexif().get(ORIENTATION, 1)
    else:
        _load(image)
        orientation = image.getexif().get(ORIENTATION, 1)
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        values = np.asarray(image if image.mode in DEEP_MODES else image.convert("RGB"))
    return _upright(values, orientation)


def _read_deep_colour(image: Image.Image) -> np.ndarray:
    assert isinstance(image, ImageFile.ImageFile)
    assert image.fp is not None
    place = image.fp.tell()
    image.fp.seek(0)
    file = np.frombuffer(image.fp.read(), np.uint8)
    image.fp.seek(place)
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        values = cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(before)
    if values is None:
        raise ValueError("its 16-bit colours can't be decoded")
    return values if values.ndim == 2 else values[..., 2::-1]


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(values[:: -1 if down else 1, :: -1 if across else 1])


class NotFiniteError(ValueError):
    """An image has infinite or NaN values."""


@dataclass(frozen=True)
class ValueRange:
    """Value range of images of more than 8 bits per channel.

    Attributes:
        low, high: values that map to black and to white.
    """

    low: float
    high: float

    @classmethod
    def of(cls, images: Iterable[np.ndarray]) -> "ValueRange":
        """The value range of some images without outliers.

        Raises:
            NotFiniteError: a value that is not finite.
        """
        samples = []
        for image in images:
            step = max(1, image.size // SAMPLED_PIXELS) | 1  # odd, so as not to sample one column
            samples.append(image.reshape(-1)[::step].astype(np.float64))
        values = np.concatenate(samples)
        if not np.isfinite(values).all():
            raise NotFiniteError("holds values that are not finite; a picture has none")
        low, high = np.percentile(values, [OUTLIERS, 100 - OUTLIERS])
        if high == low:
            return cls(float(values.min()), float(values.max()))
        margin = (high - low) / 2
        return cls(float(max(values.min(), low - margin)), float(min(values.max(), high + margin)))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Scale (H, W) or (H, W, 3) to (H, W, 3) uint8."""
        span = (self.high - self.low) or 1.0
        levels = np.clip(np.nan_to_num(image.astype(np.float64) - self.low) / span, 0, 1) * 255
        levels = np.rint(levels).astype(np.uint8)
        return levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)

    def __str__(self) -> str:
        return f"{self.low:.6g} to {self.high:.6g}"


def read_picture(image: Image.Image) -> np.ndarray:
    """Pixels of a Pillow image, rotated upright: (H, W, 3) uint8.

    An image of more than 8 bits is scaled by its own value range, which a warning states.

    Raises:
        EgodepthError: a broken image, or values that are not finite.
    """
    with reading(getattr(image, "filename", ""), "the image"):
        values = read_values(image)
        if values.dtype == np.uint8:
            return values
        levels = ValueRange.of([values])
    warnings.warn(
        f"an image of more than 8 bits: values {levels} become black to white, the range {OWN_RANGE}",
        EgodepthWarning, stacklevel=3,
    )  # fmt: skip
    return levels(values)
