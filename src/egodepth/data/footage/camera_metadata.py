"""Focal lengths from the metadata of images and videos."""

import math
from collections.abc import Mapping
from pathlib import Path

from PIL import ExifTags, Image

DIAGONAL_35MM = math.hypot(36, 24)
"""Diagonal of 35 mm film in millimetres; an equivalent focal length has the same diagonal field of view."""
INCH, CENTIMETRE = 2, 3
SIDES = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_MILLIMETRES = {INCH: 25.4, CENTIMETRE: 10.0}


def exif_focal(path: Path) -> float | None:
    """Focal length in pixels from an image's EXIF data; None if unknown.

    Taken from the 35 mm equivalent, or else from the focal length and the resolution of the focal plane.
    """
    try:
        with Image.open(path) as image:
            height, width = (
                image.height,
                image.width,
            )  # as stored; rotating an image does not change its focal length
            tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # Pillow raises anything for broken EXIF data, which only tell a focal length
        return None
    equivalent = _number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if equivalent:
        return focal_of_equivalent(equivalent, height, width)
    focal = _number(tags.get(ExifTags.Base.FocalLength))
    resolution = _number(tags.get(ExifTags.Base.FocalPlaneXResolution))
    unit = tags.get(ExifTags.Base.FocalPlaneResolutionUnit, INCH)
    if not focal or not resolution or unit not in _MILLIMETRES:
        return None
    # The resolution is that of the original image, which may have been shrunk since.
    # Programs that rotate images do not swap the EXIF width and height.
    taken = max((_number(tags.get(side)) or 0 for side in SIDES), default=0) or max(height, width)
    return focal * resolution / _MILLIMETRES[unit] * max(height, width) / taken


def container_focal(metadata: Mapping[str, str], height: int, width: int) -> float | None:
    """Focal length in pixels from a video's metadata (a QuickTime key that phones write); None if unknown."""
    for key, value in metadata.items():
        if key.lower().endswith("focal_length.35mm_equivalent"):
            equivalent = _number(value)
            return focal_of_equivalent(equivalent, height, width) if equivalent else None
    return None


def focal_of_equivalent(millimetres: float, height: int, width: int) -> float:
    """Convert a 35 mm equivalent focal length in millimetres to pixels."""
    return millimetres / DIAGONAL_35MM * math.hypot(height, width)


def _number(value: object) -> float | None:
    """The value as a number above zero, else None; some cameras write 0, or 0/0, for unknown."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) and number > 0 else None
