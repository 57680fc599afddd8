"""Reading the footage of a training, with its cameras."""

import warnings
from pathlib import Path

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.suggestions import similar_path
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.footage.own_footage import (
    CAMERA_FILE,
)
from egodepth.data.sequence import Sequence
from egodepth.data.shards.reader import PREFIX, is_shards, open_shards
from egodepth.data.sources import is_address, read_sources
from egodepth.data.splits import get_split
from egodepth.runs.cameras import brings_camera, with_camera
from egodepth.settings.training import DataSettings


def read_training_sequences(data: DataSettings) -> list[Sequence]:
    """Read all sequences of the sources, and set the camera given in the settings where footage has none.

    Raises:
        EgodepthError: no sources, a wrong root, split or camera, or anything wrong with the footage.
    """
    if not data.sources:
        raise EgodepthError("nothing to train on: name a video or folder, or set --data.sources")
    if data.root is not None and not data.root.is_dir():
        meant = similar_path(data.root, Path.is_dir)
        raise EgodepthError(f"--data.root: there is no folder {data.root}{meant}")
    shards = [source.removeprefix(PREFIX) for source in data.sources if is_shards(source)]
    if shards:
        return _open_shards(shards, data)
    found = read_sources(data.sources, data.root)
    if data.split is not None:
        split = get_split(data.split)
        chosen = [split.numbers(s) != set() for s in found]
        rigs = {s.rig for s, is_in in zip(found, chosen, strict=True) if is_in and data.partner}
        if not any(chosen):
            names = ", ".join(s.name for s in found[:6])
            raise EgodepthError(f"--data.split {data.split} names no frame of {names}")
        found = [
            s for s, is_in in zip(found, chosen, strict=True) if is_in or (s.rig and s.rig in rigs)
        ]
    _check_typed_camera(found, data)
    return [with_camera(sequence, data) for sequence in found]


def _open_shards(uris: list[str], data: DataSettings) -> list[Sequence]:
    if len(uris) < len(data.sources):
        raise EgodepthError(
            "shards and other footage cannot train together: shard that footage, too"
        )
    typed = [name for name in ("camera", "focal", "fov") if getattr(data, name) is not None]
    if typed:
        raise EgodepthError(
            f"shards hold the camera of their footage: leave --data.{typed[0]} out, or give it to egodepth "
            "shard"
        )
    base = data.root or Path()
    places = [uri if is_address(uri) else str(base / uri) for uri in uris]
    return open_shards(places, data.cache or default_cache_folder(), data.shard_cache)


def _check_typed_camera(sequences: list[Sequence], data: DataSettings) -> None:
    """Check that the given camera fits all footage without one; warn about footage that has its own.

    Raises:
        EgodepthError: more than one camera setting, a focal length in pixels for frames of several sizes, or a
            horizontal field of view for both portrait and landscape frames.
    """
    typed = [name for name in ("camera", "focal", "fov") if getattr(data, name) is not None]
    if not typed:
        return
    if len(typed) > 1:
        raise EgodepthError(
            f"give only one of {' and '.join(f'--data.{name}' for name in typed)}: each defines the camera"
        )
    name, value = typed[0], getattr(data, typed[0])
    own = [s for s in sequences if brings_camera(s)]
    if own:
        warnings.warn(
            f"{own[0].name} brings its own camera ({own[0].camera_note or own[0].camera_from}), which --data."
            f"{name} does not replace",
            EgodepthWarning,
            stacklevel=3,
        )
    sizes = {(s.frames.width, s.frames.height): s.name for s in sequences if not brings_camera(s)}
    upright = {width > height for width, height in sizes if width != height}
    if (name == "focal" and len(sizes) > 1) or (name == "fov" and len(upright) > 1):
        some = ", ".join(f"{s} is {w}x{h}" for (w, h), s in list(sizes.items())[:3])
        meant = "in pixels of one size" if name == "focal" else "from the left to the right edge"
        raise EgodepthError(
            f"--data.{name} {value:g} is {meant}, but {some}: give --data.camera FILE, or put a {CAMERA_FILE} "
            "beside each"
        )
