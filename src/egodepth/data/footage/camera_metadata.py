"""Focal lengths that cameras write into their files."""

import math
from collections.abc import Mapping
from pathlib import Path

from PIL import ExifTags, Image

DIAGONAL_35MM = math.hypot(36, 24)
"""Millimetres; focal lengths that are equivalent for 35 mm film see the same along the diagonal."""
INCH, CENTIMETRE = 2, 3
SIDES = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_MILLIMETRES = {INCH: 25.4, CENTIMETRE: 10.0}


def exif_focal(path: Path) -> float | None:
    """Focal length in pixels of an image file by its EXIF data: the one equivalent for 35 mm film, else
    that of the lens with the sensor's resolution; None where it tells neither."""
    try:
        with Image.open(path) as image:
            height, width = (
                image.height,
                image.width,
            )  # as stored; turning leaves focal lengths alone
            tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except (OSError, ValueError, SyntaxError):
        return None
    equivalent = _number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if equivalent:
        return focal_of_equivalent(equivalent, height, width)
    focal = _number(tags.get(ExifTags.Base.FocalLength))
    resolution = _number(tags.get(ExifTags.Base.FocalPlaneXResolution))
    unit = tags.get(ExifTags.Base.FocalPlaneResolutionUnit, INCH)
    if not focal or not resolution or unit not in _MILLIMETRES:
        return None
    # The resolution is that of the picture as it was taken, which may have been made smaller since.
    # Programs that turn pictures leave the sides' names alone.
    taken = max((_number(tags.get(side)) or 0 for side in SIDES), default=0) or max(height, width)
    return focal * resolution / _MILLIMETRES[unit] * max(height, width) / taken


def container_focal(metadata: Mapping[str, str], height: int, width: int) -> float | None:
    """Focal length in pixels by what a video's container tells (QuickTime's key of phones)."""
    for key, value in metadata.items():
        if key.lower().endswith("focal_length.35mm_equivalent"):
            equivalent = _number(value)
            return focal_of_equivalent(equivalent, height, width) if equivalent else None
    return None


def focal_of_equivalent(millimetres: float, height: int, width: int) -> float:
    """Focal length in pixels of one that is equivalent for 35 mm film."""
    return millimetres / DIAGONAL_35MM * math.hypot(height, width)


def _number(value: object) -> float | None:
    """A number above zero; some cameras write 0, or 0/0, for unknown."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
