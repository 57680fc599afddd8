"""Units of footage to shard: single clips and rigs, with keys that depend on all that their shards hold."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, one_line
from egodepth.core.file_store import file_system, is_stored, matching_files
from egodepth.core.files import natural_order
from egodepth.data.footage.own_footage import CAMERA_FILE
from egodepth.data.footage.robot_logs.recording import split_topics
from egodepth.data.image_files import IMAGE_SUFFIXES
from egodepth.data.sources import DATA_SETS, is_address, is_pattern, read_source
from egodepth.data.video_lists import LIST, listed_lines, videos_of_folder
from egodepth.settings.training import DataSettings, TrainSettings


@dataclass(frozen=True)
class Unit:
    """A clip or a rig to shard.

    Attributes:
        source: source that has it.
        place: the same for all names of a source, see :func:`place_of`.
        names: its sequences; empty for all of the source.
        key: name of its files, which depends on everything that they do.
    """

    source: str
    place: str
    names: tuple[str, ...]
    key: str

    @property
    def title(self) -> str:
        """The source and the names."""
        return " ".join([self.source, *self.names])


def list_units(settings: TrainSettings, decided: dict[str, Any]) -> list[Unit]:
    """Clips and rigs of all sources, each once; videos and folders are not opened yet.

    Args:
        settings: settings with the sources.
        decided: everything besides the footage that the shards depend on.

    Raises:
        EgodepthError: no files match a pattern, or a data set cannot be read.
    """
    found: list[Unit] = []
    named: dict[str, str] = {}
    for source in settings.data.sources:
        for each in _matches(source, settings.data.root):
            place = place_of(each, settings.data.root)
            if place in named:
                progress.note(one_line(f"{each} is named twice, and counts once"))
                continue
            named[place] = each
            found += _units_of(each, place, settings.data, decided)
    return found


def _units_of(
    source: str, place: str, data: DataSettings, decided: dict[str, Any]
) -> Iterator[Unit]:
    files = [_digest_of(path) for path in _files_of(data)]

    def unit(names: tuple[str, ...], stamp: object) -> Unit:
        text = f"{place} {names} {stamp} {files} {sorted(decided.items())}"
        return Unit(source, place, names, hashlib.sha256(text.encode()).hexdigest()[:20])

    if not _is_set(source):
        yield unit((), _stamp(source, data.root))
        return
    rigs: dict[str, list[Any]] = {}
    for sequence in read_source(source, data.root):
        rigs.setdefault(sequence.rig or f" {sequence.name}", []).append(sequence)
    for sequences in rigs.values():
        names = tuple(sequence.name for sequence in sequences)
        cameras = [None if s.camera is None else s.camera.matrix.tolist() for s in sequences]
        yield unit(names, [*(s.frames.fingerprint for s in sequences), cameras])


def place_of(source: str, root: Path | None) -> str:
    """A source by its absolute path, so that it is the same under all of its names."""
    if is_address(source) and not source.startswith("file://"):
        return source
    path, topics = split_topics(source.removeprefix("file://"))
    kind, colon, where = source.partition(":")
    if kind == "synthetic":
        return source
    if kind in DATA_SETS and colon:
        return f"{kind}:{os.path.realpath(Path(root or '') / where)}"
    place = os.path.realpath(Path(root or "") / path)
    return f"{place}#{','.join(topics)}" if topics else place


def _is_set(source: str) -> bool:
    """Whether a source may hold several sequences."""
    kind = source.partition(":")[0]
    return kind in (*DATA_SETS, "synthetic") or is_pattern(source)


def _matches(source: str, root: Path | None, lists: tuple[str, ...] = ()) -> list[str]:
    """The files that a pattern matches, a list names or a folder of videos holds; any other source, and a
    pattern of images, as it is."""
    if source.startswith(LIST):
        address = source.removeprefix(LIST)
        place = place_of(address, None)
        if place in lists:
            raise EgodepthError(f"the list {address} names itself; remove that line")
        lines = listed_lines(address)
        return [each for _, line in lines for each in _matches(line, root, (*lists, place))]
    videos = videos_of_folder(source, root)
    if videos:
        return videos
    pattern, topics = split_topics(source)
    if is_stored(source) and is_pattern(source):
        found = matching_files(source)
        if not found:
            raise EgodepthError(f"no files match {source}")
        return found
    if is_address(source) or not is_pattern(pattern) or (Path(root or "") / source).exists():
        return [source]
    local = natural_order(Path(p) for p in glob(str(Path(root or "") / pattern), recursive=True))  # noqa: PTH207
    if topics or not local or any(path.suffix.lower() in IMAGE_SUFFIXES for path in local):
        return [source]
    return [str(path.absolute()) for path in local]


def _files_of(data: DataSettings) -> list[Path]:
    """Files that the settings name: camera, mask and split."""
    cameras = [] if data.camera is None else [data.camera, *data.camera.parent.glob("cameras/*")]
    return [*sorted(cameras), Path(data.mask), Path(data.split or "")]


def _digest_of(path: Path) -> str:
    """Digest of the content of a file; empty if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _stamp(source: str, root: Path | None) -> str:
    """Size and time of a file, and its camera, so that a changed one is sharded again; of a folder, those of
    its files."""
    path = Path(root or "") / split_topics(source.removeprefix("file://"))[0]
    if is_stored(source):
        return _stamp_in_store(source)
    if (is_address(source) and not source.startswith("file://")) or not path.exists():
        return ""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = [(p.name, s.st_size, s.st_mtime_ns) for p in files if (s := p.stat())]
    camera = _digest_of(path.parent / CAMERA_FILE)
    return hashlib.sha256(repr((found, camera)).encode()).hexdigest()


def _stamp_in_store(source: str) -> str:
    stamps = []
    for address in (source, f"{source.rpartition('/')[0]}/{CAMERA_FILE}"):
        with suppress(
            Exception
        ):  # the copy will say what is wrong; most videos have no camera beside them
            files, place = file_system(address)
            stamps.append(str(files.checksum(place)))
    return " ".join(stamps)
