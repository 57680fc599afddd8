"""Checks the image names of a folder for signs of a wrong order, gaps or unread formats."""

import re
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path

from egodepth.core.errors import EgodepthWarning
from egodepth.core.files import count_in_hex, visible

OTHER_PICTURES = (
    ".gif", ".apng", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".tga", ".exr", ".hdr", ".dng", ".pfm",
)  # fmt: skip
DAY_FIRST = re.compile(r"(?<![0-9])[0-9]{1,2}([-_.])[0-9]{1,2}\1(?:19|20)[0-9]{2}(?![0-9])")
"""A date with the year last."""


def check_names(images: list[Path]) -> None:
    """Warn if images may belong to several drives, be in the wrong order, or have gaps between them.

    Args:
        images: images of one folder, in natural order.
    """
    forms: dict[str, list[list[int]]] = {}
    for image in images:
        numbers = [int(word) for word in re.findall(r"[0-9]+", image.stem)]
        forms.setdefault(re.sub(r"[0-9]+", "*", image.stem), []).append(numbers)
    where, first = images[0].parent, next(iter(forms))
    twice = next((b for a, b in pairwise(images) if a.stem == b.stem), None)
    if twice is not None:
        warnings.warn(
            f"{where} holds several images called {twice.stem}, which may be one frame twice; a pattern takes "
            f"those of one format alone, like '{where}/*{twice.suffix}'",
            EgodepthWarning,
            stacklevel=4,
        )
    elif count_in_hex([image.stem for image in images]):
        return
    elif sum(len(named) > 1 for named in forms.values()) > 1:
        some = ", ".join(list(forms)[:3])
        warnings.warn(
            f"{where} holds images named in {len(forms)} ways ({some}), taken as one sequence in the order of "
            f"their names; a pattern takes those of one way alone, like '{where / first}.*'",
            EgodepthWarning,
            stacklevel=4,
        )
    elif len({date[0] for image in images for date in DAY_FIRST.finditer(image.stem)}) > 1:
        warnings.warn(
            f"the images in {where} are named by dates with the year last, as {images[0].name}, and taken in "
            "the order of their names, which may not be that of time; name them year-month-day",
            EgodepthWarning,
            stacklevel=4,
        )
    elif len(forms) == 1 and all(len(numbers) == 1 for numbers in forms[first]):
        steps = [b - a for (a,), (b,) in pairwise(forms[first])]
        usual, count = Counter(steps).most_common(1)[0] if steps else (0, 0)
        if len(steps) / 2 < count < len(steps):
            place = next(i for i, step in enumerate(steps) if step != usual)
            warnings.warn(
                f"the numbers of the images in {where} jump {len(steps) - count} times, first from "
                f"{images[place].name} to {images[place + 1].name}; the frames are taken as equally far apart "
                "in time",
                EgodepthWarning,
                stacklevel=4,
            )


def check_others(folder: Path) -> None:
    """Warn of images that are skipped because their format is not supported.

    Args:
        folder: image folder.
    """
    others = [p for p in visible(folder) if p.suffix.lower() in OTHER_PICTURES]
    if others:
        warnings.warn(
            f"{len(others)} files in {folder}, as {min(others).name}, are left out: a folder's frames are "
            "PNG, JPEG, BMP, WebP, PPM, PGM or TIFF",
            EgodepthWarning,
            stacklevel=4,
        )
