"""Opens shards for a training."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import FileStore
from egodepth.core.files import reading
from egodepth.core.world import World
from egodepth.data.sequence import Sequence, with_unique_names
from egodepth.data.shards.chunks import ChunkInfo, Chunks, unit_file
from egodepth.data.shards.stored import (
    VERSION,
    StoredFrames,
    facts_from_bytes,
    from_bytes,
    unpack_clip,
)

PREFIX = "shards:"
MANIFEST, CLIPS, INDEX = "egodepth.json", "clips.zip", "index.json"
"""Files beside the chunks: what they are and how they were made, the clips, LitData's index."""
NEEDED = (
    "height", "width", "frames", "data", "clip_count", "frame_count", "chunk_count", "bytes", "date",
)  # fmt: skip
"""Values of the manifest that trainings use."""
AGAIN = "delete it, and run egodepth shard again with all sources"


def is_shards(source: str) -> bool:
    """Whether a source of a training is shards, as in ``shards:s3://bucket/drives``."""
    return source.startswith(PREFIX)


def read_manifest(store: FileStore) -> dict[str, Any]:
    """Read what shards are and how they were made.

    Raises:
        EgodepthError: there are no finished shards, or they are of another version.
    """
    found = manifest_if_there(store)
    if found is None:
        raise EgodepthError(
            f"there are no finished shards at {store.uri} (no {MANIFEST}); egodepth shard writes them, and "
            "goes on where it was interrupted"
        )
    return found


def manifest_if_there(store: FileStore) -> dict[str, Any] | None:
    """As :func:`read_manifest`; None if there are no finished shards.

    Raises:
        EgodepthError: the store cannot be read, the file is broken, or the shards are of another version.
    """
    content = store.read_if_there(MANIFEST)
    if content is None:
        return None
    place = f"{store.uri}/{MANIFEST}"
    with reading(place, "the description of the shards", AGAIN):
        found: dict[str, Any] = json.loads(content)
        version = found["version"]
    if version != VERSION:
        raise EgodepthError(
            f"the shards at {store.uri} are of version {version}, this egodepth reads {VERSION}: shard again"
        )
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise EgodepthError(
            f"the description of the shards {place} is broken: it lacks {missing[0]}; {AGAIN}"
        )
    return found


def open_shards(uris: list[str], folder: Path, gigabytes: float) -> list[Sequence]:
    """Open shards.

    Args:
        uris: paths or addresses, without the prefix.
        folder: cache folder; chunks from object stores are kept in a folder within.
        gigabytes: bound of these chunks on this machine, shared among its processes.

    Returns:
        Their sequences, see :func:`.stored_clip`.

    Raises:
        EgodepthError: there are no shards, they cannot be read, or have different sizes.
    """
    stores = [FileStore(uri) for uri in _each_once(uris)]
    manifests = [read_manifest(store) for store in stores]
    sizes = {(found["height"], found["width"]) for found in manifests}
    if len(sizes) > 1:
        some = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise EgodepthError(f"shards of several sizes ({some}) cannot train together")
    infos: list[ChunkInfo] = []
    units: list[tuple[dict[str, Any], dict[str, np.ndarray], int, dict[str, Any]]] = []
    for store, manifest in zip(stores, manifests, strict=True):
        for facts, arrays in _read_units(store):
            units.append((facts, arrays, len(infos), manifest))
            infos += [
                ChunkInfo(store, c["filename"], c["chunk_bytes"], c["checksum"])
                for c in facts["chunks"]
            ]
    digest = hashlib.sha256(" ".join(store.uri for store in stores).encode()).hexdigest()[:16]
    processes = World.of_environment().local_size
    chunks = Chunks(infos, folder / "shards" / digest, int(gigabytes * 1e9), processes)
    sequences = [
        sequence
        for facts, arrays, first, made in units
        for sequence in _sequences(facts, arrays, first, made, chunks)
    ]
    return with_unique_names(sequences)


def is_whole(store: FileStore, key: str, sizes: dict[str, int]) -> bool | None:
    """Whether a unit's file can be read, and its chunks have their sizes; None if there is no such unit.

    Args:
        store: the shards.
        key: of the unit.
        sizes: of the files that are there, see :meth:`.FileStore.sizes`.
    """
    content = store.read_if_there(unit_file(key))
    if content is None:
        return None
    try:
        chunks = facts_from_bytes(content)["chunks"]
        return all(sizes.get(chunk["filename"]) == chunk["chunk_bytes"] for chunk in chunks)
    except Exception:  # nearly any, for damaged bytes
        return False


def _each_once(uris: list[str]) -> list[str]:
    """Paths and addresses without those that mean the same shards as an earlier one."""
    found: dict[str, str] = {}
    for uri in uris:
        place = FileStore(uri).uri
        place = place if "://" in place else os.path.realpath(place)
        if place in found:
            progress.note(f"the shards {uri} are named twice, and count once")
        found.setdefault(place, uri)
    return list(found.values())


def _read_units(store: FileStore) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    content = store.read(CLIPS)
    return [from_bytes(unit) for unit in unzip_units(store, content).values()]


def unzip_units(store: FileStore, content: bytes) -> dict[str, bytes]:
    """The content of the units' files in the file of all clips, by key.

    Raises:
        EgodepthError: it is broken.
    """
    with (
        reading(f"{store.uri}/{CLIPS}", "the clips of the shards", AGAIN),
        zipfile.ZipFile(io.BytesIO(content)) as files,
    ):
        return {name.removesuffix(".npz"): files.read(name) for name in files.namelist()}


def _sequences(
    facts: dict[str, Any], arrays: dict[str, np.ndarray], first: int, made: dict[str, Any], chunks: Chunks
) -> list[Sequence]:  # fmt: skip
    """The sequences of a unit, whose first chunk has this number."""
    codec, size = made["frames"], (made["height"], made["width"])
    counts = [chunk["chunk_size"] for chunk in facts["chunks"]]
    chunk = np.repeat(np.arange(len(counts), dtype=np.int32) + first, counts)
    item = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    found = []
    for index, packed in enumerate(facts["clips"]):
        prefix = f"{index}/"
        values = {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
        mine = arrays["table"][:, 0] == index
        position, is_home = arrays["table"][mine, 1], arrays["table"][mine, 2] > 0
        count = len(values["numbers"])
        homes, items = np.zeros(count, np.int32), np.zeros(count, np.int32)
        homes[position[is_home]], items[position[is_home]] = (
            chunk[mine][is_home],
            item[mine][is_home],
        )
        copies: dict[int, list[tuple[int, int]]] = {}
        for row in np.flatnonzero(~is_home):
            copies.setdefault(int(position[row]), []).append(
                (int(chunk[mine][row]), int(item[mine][row]))
            )
        frames = StoredFrames(chunks, homes, items, copies, (count, 3, *size), codec)
        dense = None
        if "known" in values:
            dense = StoredFrames(
                chunks, homes, items, copies, (count, 2, *size), codec, values["known"]
            )
        found.append(unpack_clip(packed, values, frames, dense, made))
    return found
