"""Keep the places of a map in bounded memory: beyond a limit, the oldest are on disk."""

import pickle
import tempfile
import warnings
from typing import IO

from egodepth.core.errors import EgodepthWarning
from egodepth.inference.odometry.places import Place

MAX_BYTES = 500_000_000
"""Memory of all places, about 5,000 of them."""


class PlaceStore:
    """Places by number, the newest of them in memory."""

    def __init__(self, max_bytes: int = MAX_BYTES):
        """Start empty.

        Args:
            max_bytes: memory to use.
        """
        self.bytes, self.bytes_on_disk = 0, 0
        self._most = max_bytes
        self._places: list[Place | tuple[int, int]] = []
        self._written = 0
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Place:
        place = self._places[number]
        if isinstance(place, Place):
            return place
        assert self._file is not None
        start, length = place
        self._file.seek(start)
        loaded = pickle.loads(
            self._file.read(length)
        )  # written below, in a file that nobody else can open
        assert isinstance(loaded, Place)
        return loaded

    def append(self, place: Place) -> None:
        """Add a place, and move the oldest ones to disk if memory is used up."""
        self._places.append(place)
        self.bytes += place.bytes
        while self.bytes > self._most and self._written < len(self) - 1:
            oldest = self._places[self._written]
            assert isinstance(oldest, Place)
            try:
                entry = self._write(pickle.dumps(oldest, pickle.HIGHEST_PROTOCOL))
            except OSError as error:
                warnings.warn(
                    f"the map of key frames stays in memory, since {tempfile.gettempdir()} cannot be written: "
                    f"{error.strerror}; TMPDIR chooses another folder",
                    EgodepthWarning,
                    stacklevel=2,
                )
                self._most = 1 << 62
                return
            self._places[self._written] = entry
            self._written += 1
            self.bytes -= oldest.bytes

    def _write(self, data: bytes) -> tuple[int, int]:
        """Append to the file; return where and how much."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="egodepth_map_")  # noqa: SIM115
        start = self.bytes_on_disk
        self._file.seek(start)
        self._file.write(data)
        self._file.flush()
        self.bytes_on_disk += len(data)
        return start, len(data)
