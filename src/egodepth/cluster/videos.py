"""Lists the videos of a batch, on disks, in object stores and on web servers."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from egodepth.core.errors import EgodepthError, require
from egodepth.core.file_store import file_system, matching_files
from egodepth.core.files import natural_order
from egodepth.core.suggestions import similar_path
from egodepth.data.sequence import unique_names
from egodepth.data.sources import is_address, is_pattern
from egodepth.data.video_lists import LIST, SUFFIXES, listed_lines, videos_in_store


@dataclass(frozen=True)
class Video:
    """A video of a batch.

    Attributes:
        name: unique in the batch; its results lie in a folder of this name.
        address: absolute path, or address of an object store.
    """

    name: str
    address: str

    @property
    def digest(self) -> str:
        """Short digest of the address, which tells videos of one name apart."""
        return sha256(self.address.encode(errors="surrogateescape")).hexdigest()[:12]


def list_videos(sources: str | Path | Iterable[str | Path]) -> list[Video]:
    """List videos under unique names: those of their files, or, where several share one, the shortest
    distinct end of their paths.

    Args:
        sources: files, folders, patterns, or ``@FILE``, a list of them, as paths or addresses.

    Raises:
        EgodepthError: nothing is there, or a store cannot be read.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    for source in given:
        require(source, (str, Path), "a source", "the path or address of a video, or a pattern")
    addresses = list(dict.fromkeys(a for source in given for a in _expand(str(source))))
    if not addresses:
        raise EgodepthError("there is no source; name videos, folders or patterns")
    names = [PurePosixPath(urlsplit(a).path if is_address(a) else a).name for a in addresses]
    return list(map(Video, unique_names(names, addresses), addresses))


def _expand(source: str) -> list[str]:
    source = source.removeprefix("file://")
    if source.startswith(LIST):
        return [a for line in listed_lines(source.removeprefix(LIST)) for a in _expand(line)]
    if not is_address(source):
        path = Path(source).absolute()
        if path.is_file():
            return [str(path)]
        if not is_pattern(source) and not path.is_dir():
            raise EgodepthError(
                f"there is no video or folder {source}{similar_path(Path(source))}; a batch takes video "
                "files, folders of them, patterns, addresses, or @FILE with one of these per line"
            )
        return [str(found) for found in natural_order(map(Path, _listed(str(path), source)))]
    pattern = is_pattern(source) and not source.startswith("http")  # ? starts the query of a URL
    if not pattern and not source.endswith("/"):
        return [source]
    return sorted(_listed(source, source))


def _listed(address: str, source: str) -> list[str]:
    """The files that a pattern matches, or the videos in a folder."""
    files, path = file_system(address)
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
