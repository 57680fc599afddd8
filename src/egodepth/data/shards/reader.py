"""Opens shards for a training."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import FileStore
from egodepth.core.files import reading
from egodepth.core.world import World
from egodepth.data.sequence import Sequence, with_unique_names
from egodepth.data.shards.chunks import ChunkInfo, Chunks
from egodepth.data.shards.stored import VERSION, StoredFrames, from_bytes, unpack_clip

PREFIX = "shards:"
MANIFEST, CLIPS, INDEX = "egodepth.json", "clips.zip", "index.json"
"""Files beside the chunks: what they are and how they were made, the clips, LitData's index."""


def is_shards(source: str) -> bool:
    """Whether a source of a training is shards, as in ``shards:s3://bucket/drives``."""
    return source.startswith(PREFIX)


def read_manifest(store: FileStore) -> dict[str, Any]:
    """Read what shards are and how they were made.

    Raises:
        EgodepthError: there are no finished shards, or they are of another version.
    """
    if not store.has(MANIFEST):
        raise EgodepthError(
            f"there are no finished shards at {store.uri} (no {MANIFEST}); egodepth shard writes them, and "
            "goes on where it was interrupted"
        )
    with reading(f"{store.uri}/{MANIFEST}", "the description of the shards"):
        found: dict[str, Any] = json.loads(store.read(MANIFEST))
        version = found["version"]
    if version != VERSION:
        raise EgodepthError(
            f"the shards at {store.uri} are of version {version}, this egodepth reads {VERSION}: shard again"
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
    stores = [FileStore(uri) for uri in uris]
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


def _read_units(store: FileStore) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    content = store.read(CLIPS)
    with (
        reading(f"{store.uri}/{CLIPS}", "the clips of the shards"),
        zipfile.ZipFile(io.BytesIO(content)) as files,
    ):
        return [from_bytes(files.read(name)) for name in files.namelist()]


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
