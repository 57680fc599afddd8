"""Files of shards on a disk or in an object store, with repeated requests."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path

T = TypeVar("T")
TRIES = 8
"""Requests for one file before it is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before the first repeated request, doubled each time up to the longest."""
PERMANENT = (FileNotFoundError, PermissionError, NotImplementedError, EgodepthError)
"""Errors that no repetition mends."""


class Store:
    """The files below a path or an address.

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
        self.uri = uri.rstrip("/") or uri
        self.folder = None if "://" in uri else Path(uri)
        self.requests = self.failures = self.bytes = 0
        self._lock = Lock()
        self._files: Any = None
        if self.folder is None:
            import fsspec

            try:
                self._files, self._root = fsspec.core.url_to_fs(self.uri)
            except ImportError as error:
                raise EgodepthError(
                    f"{uri} needs another package ({error}); pip install 'egodepth[cluster]'"
                ) from error
            except ValueError as error:
                raise EgodepthError(f"{uri}: {error}") from error

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            EgodepthError: it is missing, or cannot be read, after TRIES requests.
        """
        if self.folder is not None:
            path = self.folder / name
            return self._tried(path.read_bytes, f"cannot read {path}")
        found: bytes = self._tried(
            lambda: self._files.cat_file(f"{self._root}/{name}"), f"cannot read {self.uri}/{name}"
        )
        return found

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

    def _tried(self, request: Callable[[], T], failed: str) -> T:
        for tried in range(TRIES):
            if tried:
                time.sleep(min(FIRST_PAUSE * 2 ** (tried - 1), LONGEST_PAUSE))
            try:
                found = request()
            except Exception as error:
                permanent = isinstance(error, PERMANENT) or self.folder is not None
                if permanent or tried == TRIES - 1:
                    reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
                    often = "" if permanent else f" ({TRIES} requests failed)"
                    raise EgodepthError(f"{failed}{often}: {reason}") from error
                with self._lock:
                    self.requests, self.failures = self.requests + 1, self.failures + 1
                continue
            with self._lock:
                self.requests += 1
                self.bytes += len(found) if isinstance(found, bytes) else 0
            return found
        raise AssertionError
