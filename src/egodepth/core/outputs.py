"""Output folders, and checks of destinations before the work starts."""

import copy
import os
import warnings
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import (
    read_text,
    require_name,
    require_writable_kind,
    visible,
    write_error,
)
from egodepth.core.locks import Hold
from egodepth.core.temporary import remove_leftovers

LIST = "files.txt"
HEAD = "# written by egodepth, "


class _Earlier(NamedTuple):
    """Names of the files of earlier results in a folder."""

    folder: Path
    names: list[str]


class OutputFolder:
    """An output folder that keeps a list of its own files.

    Every file is listed in ``files.txt`` before it is written. New results of the same kind first remove the
    listed files, and only those, so that old and new results never mix; other files in the way raise an error.

    Attributes:
        path: the folder.
        seconds: spent on writing frames.
    """

    seconds = 0.0

    def __init__(self, path: Path, kind: str, hold: Hold | None = None):
        """Look for earlier results.

        Args:
            path: folder; created with its first file.
            kind: kind of results, in words.
            hold: keeps other processes from writing there as long as this object lives.

        Raises:
            EgodepthError: the folder contains results of another kind.
        """
        self.path, self._root, self._kind = path, path, kind
        self._folders, self._hold = {path}, hold
        self._earlier = [_Earlier(path, self._listed())] if (path / LIST).exists() else []

    def each(self, names: list[str]) -> list[Self]:
        """Return a folder for each of several results: this folder for a single one, else subfolders."""
        return [self] if len(names) == 1 else [self.within(name) for name in names]

    def within(self, name: str) -> Self:
        """Return a subfolder that shares the list of files."""
        inner = copy.copy(self)  # shares the sets of known folders and earlier files
        inner.path = self.path / name
        self._earlier += OutputFolder(inner.path, self._kind)._earlier
        return inner

    def file(self, name: str) -> Path:
        """Return the path of a file to write, and list it.

        Raises:
            EgodepthError: the path or its folder is occupied by files that are not listed, a file of an earlier
                result can't be removed, or the list can't be written.
        """
        while self._earlier:
            self._remove(self._earlier.pop(0))
        path = self.path / name
        if path.parent not in self._folders:
            other = next(iter(visible(path.parent)), None)
            self._check(other, f"no earlier {self._kind} wrote")
            self._folders.update(path.parents)
        self._check(path if path.exists() else None, f"no earlier {self._kind} wrote")
        self._add(path.relative_to(self._root).as_posix())
        return path

    def _add(self, name: str) -> None:
        listing = self._root / LIST
        size = listing.stat().st_size if listing.exists() else 0
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            start = "" if size else f"{HEAD}{self._kind}\n"
            with listing.open("a", encoding="utf-8") as file:
                file.write(f"{start}{name}\n")
        except OSError as error:
            with suppress(OSError):  # take back what was written
                if size:
                    os.truncate(listing, size)
                else:
                    listing.unlink()
            raise write_error(listing, error) from error

    def _check(self, other: Path | None, why: str) -> None:
        if other is not None:
            raise EgodepthError(f"{other} is there, which {why}; name another folder with --out")

    def _listed(self) -> list[str]:
        listing = self.path / LIST
        head, *names = read_text(listing, "the list of files").splitlines() or [""]
        if not head.startswith(HEAD):
            self._check(listing, "is no list of egodepth's")
        if head != HEAD + self._kind:
            self._check(listing, f"lists the files of an earlier {head.removeprefix(HEAD)}")
        return [n for n in names if ".." not in PurePosixPath(n).parts and not n.startswith("/")]

    def _remove(self, earlier: "_Earlier") -> None:
        top, names = earlier
        files = [path for n in names if (path := top / n).is_file()]
        try:
            for path in [*files, top / LIST]:
                path.unlink()
            for folder in sorted(
                {p for n in names for p in PurePosixPath(n).parents}, reverse=True
            ):
                place = top / folder
                remove_leftovers(place)
                if str(folder) != "." and place.is_dir() and not any(place.iterdir()):
                    place.rmdir()
        except OSError as error:
            raise EgodepthError(
                f"cannot remove the earlier {self._kind} in {top}: {error}"
            ) from error
        if files:
            warnings.warn(
                f"removed the {len(files)} files of an earlier {self._kind} in {top}",
                EgodepthWarning, stacklevel=3,
            )  # fmt: skip


def check_destination(path: Path, suffixes: tuple[str, ...] = (), *, folder: bool = False) -> None:
    """Check that results can be written, before the work starts.

    Args:
        path: file or folder to write.
        suffixes: allowed suffixes of a file, in lower case; empty for any.
        folder: whether ``path`` is a folder.

    Raises:
        EgodepthError: another suffix, a file or folder in the way, or no permission to write.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        wanted = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise EgodepthError(f"cannot write {path}: its name must end in {wanted}")
    require_name(path, "an output")
    require_writable_kind(path)
    if path.exists() and path.is_dir() != folder:
        raise EgodepthError(
            f"cannot write {path}: there is a {'file' if folder else 'folder'} of that name"
        )
    place = path if folder else path.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise EgodepthError(f"cannot write {path}: {place} is a file, not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise EgodepthError(f"cannot write {path}: no permission to write in {place}")
