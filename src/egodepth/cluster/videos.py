"""Lists the videos of a batch, on disks, in object stores and on web servers."""

import os
import posixpath
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from egodepth.core.errors import EgodepthError, EgodepthWarning, require
from egodepth.core.file_store import file_system, matching_files
from egodepth.core.files import natural_order
from egodepth.core.suggestions import similar_path
from egodepth.data.sequence import unique_names
from egodepth.data.sources import is_address, is_pattern
from egodepth.data.video_lists import LIST, SUFFIXES, listed_lines, videos_in_store

Sources = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class Video:
    """A video of a batch.

    Attributes:
        name: unique in the batch; its results lie in a folder of this name.
        address: absolute path, or address of an object store.
        stamp: what changes with the video's content, see :func:`egodepth.cluster.stamps.stamped`.
        replaces: digest of the stamp of its earlier results, if it changed since.
    """

    name: str
    address: str
    stamp: str = ""
    replaces: str = ""

    @property
    def digest(self) -> str:
        """Short digest of the address, which tells videos of one name apart."""
        return sha256(self.address.encode(errors="surrogateescape")).hexdigest()[:12]

    @property
    def stamp_digest(self) -> str:
        """Short digest of the stamp; empty if there is none."""
        return sha256(self.stamp.encode()).hexdigest()[:8] if self.stamp else ""


def list_videos(
    sources: Sources,
    out: str = "",
    known: Mapping[str, str] | None = None,
) -> list[Video]:
    """List videos under unique names: those of their files, or, where several share one, the shortest
    distinct end of their paths.

    Args:
        sources: files, folders, patterns, or ``@FILE``, a list of them, as paths or addresses.
        out: where results lie; what is in its folders is left out, with a warning.
        known: names that videos already have, by the digests of their addresses.

    Raises:
        EgodepthError: nothing is there, or a store cannot be read.
    """
    given = checked_sources(sources)
    addresses = list(dict.fromkeys(a for source in given for a in _expand(source)))
    if not addresses:
        raise EgodepthError("there is no source; name videos, folders or patterns")
    if out:
        addresses = _outside(addresses, out)
    names = [PurePosixPath(urlsplit(a).path if is_address(a) else a).name for a in addresses]
    found = list(map(Video, unique_names(names, addresses), addresses))
    known = known or {}
    return [Video(known.get(video.digest, video.name), video.address) for video in found]


def checked_sources(sources: Sources) -> list[str]:
    """The sources, as texts.

    Raises:
        EgodepthError: they are something else.
    """
    require(sources, (str, Path, Iterable), "sources", "paths or addresses of videos, or patterns")
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    for source in given:
        require(source, (str, Path), "a source", "the path or address of a video, or a pattern")
    return [str(source) for source in given]


def _outside(addresses: list[str], out: str) -> list[str]:
    """Leave out what lies in the folders of a place of results: a pattern would find the results themselves."""
    if is_address(out):
        top = file_system(out)[1].rstrip("/")
        scheme = out.partition("://")[0]
        inside = [
            a.startswith(f"{scheme}://")
            and posixpath.dirname(file_system(a)[1]).startswith(f"{top}/")
            for a in addresses
        ]
    else:
        top = os.path.realpath(out)
        real = lru_cache(os.path.realpath)
        inside = [
            not is_address(a) and real(Path(a).parent).startswith(f"{top}{os.sep}")
            for a in addresses
        ]
    left = [a for a, is_inside in zip(addresses, inside, strict=True) if not is_inside]
    if not left:
        raise EgodepthError(
            f"all sources lie in folders below {out}, where results go ({addresses[0]}); name another place "
            "with --out"
        )
    if len(left) < len(addresses):
        first = addresses[inside.index(True)]
        warnings.warn(
            f"left out {len(addresses) - len(left)} sources below {out}, where results go; the first: {first}",
            EgodepthWarning,
            stacklevel=3,
        )
    return left


def _normal(path: str | Path) -> str:
    """A path without ``..`` and ``.``; where a link makes that another place, the place without links."""
    plain = os.path.normpath(Path(path).absolute())
    if plain == str(path):
        return plain
    real = os.path.realpath(path)
    return plain if os.path.realpath(plain) == real else real


def _normal_address(address: str) -> str:
    """An address of a web server without ``..``. In an object store, that is part of a name."""
    parts = urlsplit(address)
    if not address.startswith("http") or ".." not in PurePosixPath(parts.path).parts:
        return address
    return urlunsplit(parts._replace(path=posixpath.normpath(parts.path)))


def _expand(source: str, lists: tuple[str, ...] = ()) -> list[str]:
    """The videos of a source. A missing file of a list is listed too: its video fails alone."""
    source = source.removeprefix("file://")
    if source.startswith(LIST):
        return _expand_list(source.removeprefix(LIST), lists)
    if not is_address(source):
        path = Path(source).absolute()
        if path.is_file():
            return [_normal(path)]
        if not is_pattern(source) and not path.is_dir():
            if lists:
                return [_normal(path)]
            raise EgodepthError(
                f"there is no video or folder {source}{similar_path(Path(source))}; a batch takes video "
                "files, folders of them, patterns, addresses, or @FILE with one of these per line"
            )
        return [_normal(found) for found in natural_order(map(Path, _listed(str(path), source)))]
    pattern = is_pattern(source) and not source.startswith("http")  # ? starts the query of a URL
    if not pattern and not source.endswith("/"):
        return [_normal_address(source)]
    return sorted(_listed(source, source))


def _listed(address: str, source: str) -> list[str]:
    """The files that a pattern matches, or the videos in a folder."""
    files, path = file_system(address)
    files.invalidate_cache()  # of earlier batches of this process
    pattern = is_pattern(path) and not files.isdir(path)
    found = matching_files(address) if pattern else videos_in_store(files, path, source)
    found = [name for name in found if not PurePosixPath(name).name.startswith(".")]
    if not found:
        what = (
            "no files match"
            if is_pattern(path)
            else f"no videos ({' '.join(SUFFIXES[:5])} ...) are in"
        )
        raise EgodepthError(
            f"{what} {source}; images are for egodepth predict, a folder of them at a time"
        )
    return found


def _expand_list(address: str, lists: tuple[str, ...]) -> list[str]:
    place = address if is_address(address) else _normal(address)
    if place in lists:
        raise EgodepthError(f"the list {address} names itself; remove that line")
    found: list[str] = []
    for number, line in listed_lines(address):
        try:
            found += _expand(line, (*lists, place))
        except EgodepthError as error:
            raise EgodepthError(f"{address}, line {number}: {error}") from error
    return found
