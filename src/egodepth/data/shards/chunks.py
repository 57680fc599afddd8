"""Chunks of shards: read in place from a disk, or through a bounded local cache from an object store."""

import hashlib
import mmap
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import FileStore
from egodepth.core.files import atomic_path
from egodepth.core.locks import Hold, hold

UNITS = "units"
"""Folder of the files that describe finished units."""
FETCHERS = 8
"""Chunks that are fetched at the same time."""
STEPS_AHEAD = 4096
"""Steps for which chunks are fetched in advance, if they fit."""
REPEATS = 3
"""How often a chunk that arrives damaged is fetched."""
FIELDS = 4
"""Values of an item: index of its clip, position, frame, dense labels."""


@dataclass(frozen=True)
class ChunkInfo:
    """A chunk file.

    Attributes:
        store: store that has it.
        name: name of the file.
        size, checksum: its bytes and their CRC-32.
    """

    store: FileStore
    name: str
    size: int
    checksum: int

    @property
    def place(self) -> str:
        """Path or address of the file."""
        return f"{self.store.uri}/{self.name}"

    @property
    def mended_by(self) -> str:
        """What to do about a damaged file."""
        unit = unit_file(self.name.rpartition("-")[0])
        return f"copy it again, or delete {self.store.uri}/{unit} and run egodepth shard again"


def unit_file(key: str) -> str:
    """Name of the file that describes a finished unit."""
    return f"{UNITS}/{key}.npz"


class Chunks:
    """All chunks of a training.

    Attributes:
        sizes: bytes of each chunk.
        bound: bytes that the chunks in the local cache of a machine may take up, on which the order of the
            samples depends.
    """

    def __init__(self, infos: list[ChunkInfo], folder: Path, bound: int, processes: int = 1):
        """Args:
        infos: the chunks.
        folder: folder for the local cache of chunks from object stores. Each process takes a part of its own.
        bound: see the class.
        processes: number of processes on this machine, which share the bound.
        """
        self.sizes, self.bound = [info.size for info in infos], bound
        self._limit = bound // processes
        self._infos, self._folder = infos, folder
        self._held: Hold | None = None
        self._checked: set[int] = set()
        self._changed = threading.Condition()
        self._ready: OrderedDict[int, mmap.mmap] = OrderedDict()
        self._loading: dict[int, Future[mmap.mmap]] = {}
        self._left: set[int] = set()
        self._until: dict[int, int] = {}
        self._step = 0
        self._pool: ThreadPoolExecutor | None = None
        self._plan: object = None

    def item(self, chunk: int, index: int) -> list[memoryview]:
        """The serialized values of an item of a chunk. LitData's format: the number of items, their offsets,
        and for each item the sizes of its values and the values."""
        whole = memoryview(self._get(chunk))
        start = int.from_bytes(whole[4 + 4 * index : 8 + 4 * index], "little")
        sizes = np.frombuffer(whole, "<u4", FIELDS, start).tolist()
        values, place = [], start + 4 * FIELDS
        for size in sizes:
            values.append(whole[place : place + size])
            place += size
        return values

    def is_near(self, chunk: int) -> bool:
        """Whether a chunk can be read without waiting."""
        return chunk in self._ready

    @property
    def digest(self) -> str:
        """Digest of the content of all chunks."""
        sums = " ".join(f"{info.size}-{info.checksum}" for info in self._infos)
        return hashlib.sha256(sums.encode()).hexdigest()

    @property
    def stores(self) -> list[FileStore]:
        """The stores that have the chunks."""
        return list({info.store.uri: info.store for info in self._infos}.values())

    @property
    def fetched(self) -> str:
        """What was fetched from object stores, in words; empty if nothing was."""
        far = [store for store in self.stores if store.folder is None]
        requests, failures = (sum(s.requests for s in far), sum(s.failures for s in far))
        size = sum(store.bytes for store in far) / 1e6
        repeated = f", {failures} of which failed and were repeated" if failures else ""
        return f"fetched {size:.0f} MB in {requests} requests{repeated}" if requests else ""

    def follow(self, plan: Iterator[tuple[int, list[int]]]) -> None:
        """Fetch chunks in the background, in the order in which steps need them.

        Args:
            plan: steps with the chunks that each reads; replaces an earlier plan.
        """
        with self._changed:
            self._plan = plan
            self._until.clear()
            self._changed.notify_all()
        threading.Thread(target=self._fetch_along, args=(plan,), daemon=True).start()

    def reach(self, step: int) -> None:
        """Say that a step of the plan begins: chunks of earlier ones alone may be dropped."""
        with self._changed:
            self._step = step
            self._changed.notify_all()

    def stop(self) -> None:
        """Fetch nothing more in the background."""
        with self._changed:
            self._plan = None
            self._changed.notify_all()

    def _get(self, chunk: int) -> mmap.mmap:
        with self._changed:
            if chunk in self._ready:
                self._ready.move_to_end(chunk)
                return self._ready[chunk]
            future = self._start(chunk)
        return future.result()

    def _fetch_along(self, plan: Iterator[tuple[int, list[int]]]) -> None:
        for step, chunks in plan:
            for chunk in chunks:
                with self._changed:
                    self._until[chunk] = step
                    while self._plan is plan and not (
                        step <= self._step + STEPS_AHEAD and self._has_room(chunk)
                    ):
                        self._changed.wait()
                    if self._plan is not plan:
                        return
                    if chunk not in self._ready:
                        self._start(chunk)

    def _has_room(self, chunk: int) -> bool:
        """Whether a chunk is there, or fits in, if need be after dropping those that no known step needs."""
        if chunk in self._ready or chunk in self._loading:
            return True
        kept = {*self._ready, *self._loading, *self._left}
        room = self._limit - self.sizes[chunk] - sum(self.sizes[c] for c in kept - {chunk})
        for other in [c for c in (*self._left, *self._ready) if c not in {chunk, *self._loading}]:
            if room >= 0:
                break
            if self._until.get(other, -1) < self._step:
                room += self.sizes[other]
                self._drop(other)
        return room >= 0 or not (self._ready or self._loading)

    def _make_room(self, chunk: int) -> None:
        """Drop chunks for one that a step needs at once, although later steps may need them again."""
        taken = sum(self.sizes[c] for c in {*self._ready, *self._loading, *self._left})
        while self._ready and taken + self.sizes[chunk] > self._limit:
            other = next(iter(self._ready))
            taken -= self.sizes[other]
            self._drop(other)

    def _drop(self, chunk: int) -> None:
        self._ready.pop(chunk, None)  # the map is closed with its last view
        self._left.discard(chunk)
        if self._infos[chunk].store.folder is None:
            with suppress(OSError):
                self._place(chunk).unlink()

    def _start(self, chunk: int) -> "Future[mmap.mmap]":
        if chunk not in self._loading:
            if not self._has_room(chunk):
                self._make_room(chunk)
            self._pool = self._pool or ThreadPoolExecutor(FETCHERS)
            self._loading[chunk] = self._pool.submit(self._load, chunk)
        return self._loading[chunk]

    def _load(self, chunk: int) -> mmap.mmap:
        try:
            found = self._map(chunk)
            with self._changed:
                self._ready[chunk] = found
                self._left.discard(chunk)
            return found
        finally:
            with self._changed:
                del self._loading[chunk]
                self._changed.notify_all()

    def _map(self, chunk: int) -> mmap.mmap:
        info = self._infos[chunk]
        if info.store.folder is not None:
            path = info.store.folder / info.name
            if not path.exists() or path.stat().st_size != info.size:
                raise EgodepthError(
                    f"the chunk {path} is missing or incomplete; copy it again, or run egodepth shard again"
                )
            found = _mapped(path)
            if chunk not in self._checked and zlib.crc32(found) != info.checksum:
                raise EgodepthError(f"the chunk {path} is damaged; {info.mended_by}")
            self._checked.add(chunk)
            return found
        path = self._place(chunk)
        if not (path.exists() and _is_sound(path.read_bytes(), info)):
            self._fetch(info, path)
        return _mapped(path)

    def _fetch(self, info: ChunkInfo, path: Path) -> None:
        for _ in range(REPEATS):
            content = info.store.read(info.name)
            if _is_sound(content, info):
                with atomic_path(path) as partial:
                    partial.write_bytes(content)
                return
        raise EgodepthError(f"the chunk {info.place} is damaged; {info.mended_by}")

    def _place(self, chunk: int) -> Path:
        """Path of a chunk in the part of the local cache that this process holds."""
        with self._changed:
            if self._held is None:
                self._held, self._folder = _free_part(self._folder)
                self._find_left()
        return self._folder / self._infos[chunk].name

    def _find_left(self) -> None:
        """Find the chunks that earlier processes have left, and remove those beyond the limit."""
        numbers = {info.name: number for number, info in enumerate(self._infos)}
        room = self._limit
        for path in sorted(self._folder.glob("*.bin")):
            number = numbers.get(path.name)
            if number is None or self.sizes[number] > room:
                path.unlink(missing_ok=True)
            else:
                room -= self.sizes[number]
                self._left.add(number)


def _free_part(folder: Path) -> tuple[Hold, Path]:
    """The first part of a cache folder that no other process holds."""
    for number in count():
        part = folder / f"{number}"
        try:
            return hold(part, folder=True), part
        except EgodepthError:
            if not part.exists() or number > 1000:
                raise
    raise AssertionError


def _is_sound(content: bytes, info: ChunkInfo) -> bool:
    return len(content) == info.size and zlib.crc32(content) == info.checksum


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
