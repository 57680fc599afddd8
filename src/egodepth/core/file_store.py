"""Files below a path, or below an address of an object store, with repeated requests."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path
from egodepth.core.temporary import temporary_folder

T = TypeVar("T")
STREAMED = ("http", "https", "file")
"""Protocols of addresses that FFmpeg reads by itself."""
TRIES = 8
"""Requests for one file before it is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before the first repeated request, doubled each time up to the longest."""
PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotImplementedError,
    EgodepthError,
)
"""Errors that no repetition mends."""


def file_system(address: str) -> tuple[Any, str]:
    """The file system (of fsspec) of a path or an address, and the path in it.

    Raises:
        EgodepthError: an unknown kind of address, or a missing package.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise EgodepthError(
            f"{address} needs another package ({error}); install it by: pip install 'egodepth[cluster]'"
        ) from error
    except Exception as error:  # of the packages of all stores
        raise EgodepthError(f"cannot open {address}: {reason_of(error)}") from error


def repeated(request: Callable[[], T], on_failure: Callable[[], None] = lambda: None) -> T:
    """Make a request to a store, and repeat it after errors that may pass."""
    for tried in range(TRIES - 1):
        try:
            return request()
        except PERMANENT:
            raise
        except Exception:
            on_failure()
        time.sleep(min(FIRST_PAUSE * 2**tried, LONGEST_PAUSE))
    return request()


def is_stored(address: str) -> bool:
    """Whether an address is of an object store, whose files have to be copied to be read as videos."""
    import fsspec

    protocol, found, _ = address.partition("://")
    return bool(found) and protocol not in STREAMED and protocol in fsspec.available_protocols()


def matching_files(pattern: str) -> list[str]:
    """Paths or addresses of the files that a pattern matches, in alphabetical order.

    Raises:
        EgodepthError: the store cannot be read.
    """
    files, path = file_system(pattern)
    try:
        found = repeated(lambda: files.glob(path, detail=True))
    except Exception as error:
        raise EgodepthError(f"cannot list {pattern}: {reason_of(error)}") from error
    names = sorted(name for name, info in found.items() if info["type"] == "file")
    return [str(files.unstrip_protocol(name)) for name in names] if "://" in pattern else names


@contextmanager
def local_copy(
    address: str, name: str, on_progress: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Copy a video of another file system to a temporary folder, with the camera file beside it.

    Args:
        address: of the video.
        name: of the copy.
        on_progress: called with each piece that arrives.

    Raises:
        EgodepthError: there is none, no room for it, or it can't be read.
    """
    files, path = file_system(address)
    with temporary_folder("video") as folder:
        file = folder / name
        try:
            size = repeated(lambda: files.size(path))
            free = shutil.disk_usage(folder).free
            if size is not None and size > free:
                raise EgodepthError(
                    f"{address} takes {size:,} bytes, and {folder.parent} has only {free:,} left; set "
                    "TMPDIR to a larger disk"
                )
            repeated(lambda: files.get_file(path, str(file), callback=copying(on_progress)))
        except FileNotFoundError as error:
            raise EgodepthError(f"there is no video {address}") from error
        except EgodepthError:
            raise
        except Exception as error:
            raise EgodepthError(f"cannot read {address}: {reason_of(error)}") from error
        if not address.startswith("http"):
            # Stores whose files nobody may list refuse to read one that is missing.
            with suppress(FileNotFoundError, PermissionError):
                camera = f"{path.rpartition('/')[0]}/camera.yaml"
                files.get_file(camera, str(folder / "camera.yaml"))
        yield file


def copying(on_progress: Callable[[], None]) -> Any:
    """The callback of fsspec that calls a function with each piece of a file."""
    from fsspec.callbacks import Callback

    return Callback(hooks={"piece": lambda *_, **__: on_progress()})


def reason_of(error: Exception) -> str:
    """An error's text on one line; its kind where it has none."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


class FileStore:
    """The files below a path or an address. Requests to a store are repeated if they fail.

    Attributes:
        uri: the path or address.
        folder: the path; None for an address.
        requests, failures, bytes: requests made, those that failed and were repeated, and bytes read.
    """

    def __init__(self, uri: str):
        """Connect to the store.

        Raises:
            EgodepthError: an unknown kind of address, or a package that it needs is missing.
        """
        self.uri = uri.removeprefix("file://").rstrip("/") or uri
        self.folder = None if "://" in self.uri else Path(self.uri)
        self.requests = self.failures = self.bytes = 0
        self._lock = Lock()
        if self.folder is None:
            self._files, self._root = file_system(self.uri)

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            EgodepthError: it is missing, or cannot be read, after TRIES requests.
        """
        return self._tried(lambda: self._content(name), f"cannot read {self.uri}/{name}")

    def read_if_there(self, name: str) -> bytes | None:
        """Read a file; None if there is none.

        Raises:
            EgodepthError: it cannot be read, after TRIES requests.
        """

        def content() -> bytes | None:
            try:
                return self._content(name)
            except FileNotFoundError:
                return None

        return self._tried(content, f"cannot read {self.uri}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which appears whole or not at all.

        Raises:
            EgodepthError: it cannot be written, after TRIES requests.
        """
        if self.folder is not None:
            with atomic_path(self.folder / name, durable=True) as partial:
                partial.write_bytes(content)
            return
        self._tried(
            lambda: self._files.pipe_file(f"{self._root}/{name}", content),
            f"cannot write {self.uri}/{name}",
        )

    def upload(self, path: Path, name: str, on_progress: Callable[[], None]) -> None:
        """Write a file of this machine to a store, as :meth:`write`.

        Args:
            path: the file.
            name: its name in the store.
            on_progress: called with each piece.
        """
        self._tried(
            lambda: self._files.put_file(
                str(path), f"{self._root}/{name}", callback=copying(on_progress)
            ),
            f"cannot write {self.uri}/{name}",
        )

    def has(self, name: str) -> bool:
        """Whether there is a file of this name.

        Raises:
            EgodepthError: the store cannot be asked.
        """
        if self.folder is not None:
            return (self.folder / name).exists()
        found: bool = self._tried(
            lambda: self._files.exists(f"{self._root}/{name}"), f"cannot read {self.uri}/{name}"
        )
        return found

    def sizes(self) -> dict[str, int]:
        """Bytes of the files directly below the path or address, by name.

        Raises:
            EgodepthError: the store cannot be asked.
        """
        return self._tried(self._listed_sizes, f"cannot list {self.uri}")

    def _listed_sizes(self) -> dict[str, int]:
        if self.folder is not None:
            found = list(self.folder.iterdir()) if self.folder.is_dir() else []
            return {path.name: path.stat().st_size for path in found if path.is_file()}
        self._files.invalidate_cache()  # other processes write there, too
        try:
            listed = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return {}
        self._files.invalidate_cache()
        return {e["name"].rpartition("/")[2]: e["size"] for e in listed if e["type"] == "file"}

    def remove(self, name: str) -> None:
        """Remove a file, if there is one.

        Raises:
            EgodepthError: it cannot be removed, after TRIES requests.
        """

        def removed() -> None:
            with suppress(FileNotFoundError):
                if self.folder is not None:
                    (self.folder / name).unlink()
                else:
                    self._files.rm_file(f"{self._root}/{name}")

        self._tried(removed, f"cannot remove {self.uri}/{name}")

    def _content(self, name: str) -> bytes:
        if self.folder is not None:
            return (self.folder / name).read_bytes()
        found: bytes = self._files.cat_file(f"{self._root}/{name}")
        return found

    def _tried(self, request: Callable[[], T], failed: str) -> T:
        try:
            found = request() if self.folder is not None else repeated(request, self._count_failure)
        except Exception as error:
            permanent = isinstance(error, PERMANENT) or self.folder is not None
            often = "" if permanent else f" ({TRIES} requests failed)"
            raise EgodepthError(f"{failed}{often}: {reason_of(error)}") from error
        with self._lock:
            self.requests += 1
            self.bytes += len(found) if isinstance(found, bytes) else 0
        return found

    def _count_failure(self) -> None:
        with self._lock:
            self.requests, self.failures = self.requests + 1, self.failures + 1
