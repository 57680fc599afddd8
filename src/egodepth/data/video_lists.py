"""Lists of videos: those of a folder, and those that a text file names."""

from pathlib import Path, PurePosixPath
from typing import Any

from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import file_system, is_stored, reason_of, repeated
from egodepth.core.files import natural_order
from egodepth.data.footage.robot_logs.recording import is_recording
from egodepth.data.image_files import list_images
from egodepth.data.sources import is_address

SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv",
    ".3gp", ".insv", ".lrv", ".h264", ".264", ".hevc", ".mcap", ".bag",
)  # fmt: skip
"""Files of a folder that are taken for videos; any file that is named or matched by a pattern is."""
LIST = "@"
"""Start of the name of a text file with one source per line."""


def videos_of_folder(source: str, root: Path | None = None) -> list[str]:
    """Videos in a folder that is no footage itself; none for any other source.

    Args:
        source: path, or address of an object store that ends with ``/``.
        root: folder that a relative path starts from.

    Raises:
        EgodepthError: a store cannot be listed.
    """
    if is_stored(source):
        found = videos_in_store(*file_system(source), source) if source.endswith("/") else []
        return sorted(name for name in found if not PurePosixPath(name).name.startswith("."))
    folder = Path(root or "") / source
    if (
        not folder.is_dir()
        or (folder / "images").is_dir()
        or is_recording(folder)
        or list_images(folder)
    ):
        return []
    files = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return [str(p) for p in natural_order(p for p in files if p.name.lower().endswith(SUFFIXES))]


def videos_in_store(files: Any, path: str, source: str) -> list[str]:
    """Paths or addresses of the videos directly in a folder of a file system of fsspec.

    Args:
        files, path: file system and folder.
        source: what the folder was named as.

    Raises:
        EgodepthError: it cannot be listed.
    """
    try:
        found = repeated(lambda: files.ls(path, detail=True))
    except Exception as error:
        raise EgodepthError(f"cannot list {source}: {reason_of(error)}") from error
    names = [
        info["name"] for info in found
        if info["type"] == "file" and info["name"].lower().endswith(SUFFIXES)
    ]  # fmt: skip
    return [str(files.unstrip_protocol(name)) for name in names] if is_address(source) else names


def listed_lines(address: str) -> list[tuple[int, str]]:
    """Numbers and sources of the lines of a text file; ``#`` begins a comment, unless it begins a file's name.

    Raises:
        EgodepthError: it cannot be read.
    """
    files, path = file_system(address)
    try:
        text = files.cat_file(path).decode("utf-8-sig")
    except Exception as error:
        raise EgodepthError(
            f"cannot read the list of videos {address}: {reason_of(error)}"
        ) from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [(n, line) for n, line in lines if line and (line[0] != "#" or Path(line).is_file())]
