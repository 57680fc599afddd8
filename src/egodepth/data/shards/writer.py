"""Writes prepared clips as LitData chunks."""

import json
import zlib
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import FileStore
from egodepth.data.preparation.clips import Clip
from egodepth.data.preparation.survey import Survey
from egodepth.data.shards.chunks import unit_file
from egodepth.data.shards.pieces import cut
from egodepth.data.shards.stored import encode, pack_clip, to_bytes

UNLIMITED = 1 << 40
"""Bytes after which LitData would end a chunk by itself."""
TRIED_FRAMES = 8
"""Frames by which the size of a JPEG is estimated."""


def require_litdata() -> None:
    """Check that LitData is installed.

    Raises:
        EgodepthError: it is not.
    """
    if find_spec("litdata") is None:
        raise EgodepthError(
            "shards need the package litdata; install it by: pip install 'egodepth[cluster]'"
        )


def write_unit(
    store: FileStore,
    key: str,
    clips: list[tuple[Clip, str, Survey | None]],
    *,
    codec: str,
    quality: int,
    chunk_bytes: int,
    notes: dict[str, Any],
) -> None:
    """Write the chunks of a unit, and last the file that describes it.

    Args:
        store: where to.
        key: name of the unit, with which the names of its files begin.
        clips: clips of one rig, or a single one, with their sources of motion and surveys.
        codec, quality: form of the frames, see :data:`.CODECS`, and quality of JPEG.
        chunk_bytes: size of a chunk.
        notes: values to store with the unit.

    Raises:
        EgodepthError: the store cannot be written.
    """
    from litdata.streaming.writer import BinaryWriter

    known = [_labelled(clip) for clip, *_ in clips]
    frames = _frames_per_chunk([clip for clip, *_ in clips], codec, quality, chunk_bytes)
    infos: list[dict[str, Any]] = []
    table: list[np.ndarray] = []
    with TemporaryDirectory(prefix="egodepth-shard-") as folder:
        writer = BinaryWriter(folder, chunk_bytes=UNLIMITED)
        count = 0
        for number, piece in enumerate(cut([clip for clip, *_ in clips], frames)):
            for index, position, _ in piece:
                clip = clips[index][0]
                labels = b""
                if known[index][position]:
                    assert clip.dense is not None
                    labels = np.asarray(clip.dense[position]).tobytes()
                # A tuple, since LitData writes dicts as Arrow tables wherever pyarrow is installed.
                frame = encode(clip.frames[position], codec, quality)
                writer.add_item(count, (index, position, frame, labels))
                count += 1
            path = Path(writer.write_chunk())
            writer._min_index = writer._max_index = (
                None  # as after a chunk that LitData ends itself
            )
            content = path.read_bytes()
            path.unlink()
            name = f"{key}-{number:05d}.bin"
            store.write(name, content)
            infos.append({
                "filename": name, "chunk_bytes": len(content), "chunk_size": len(piece), "dim": None,
                "checksum": zlib.crc32(content),
            })  # fmt: skip
            table.append(np.array(piece, np.int32))
        config = writer.get_config()
    facts: dict[str, Any] = {**notes, "chunks": infos, "config": config, "clips": []}
    arrays = {"table": np.concatenate(table)}
    for index, (clip, poses, survey) in enumerate(clips):
        packed, values = pack_clip(clip, poses, survey)
        facts["clips"].append(packed)
        arrays |= {f"{index}/{name}": value for name, value in values.items()}
        if known[index].any():
            arrays[f"{index}/known"] = known[index]
    store.write(unit_file(key), to_bytes(facts, arrays))


def _labelled(clip: Clip) -> np.ndarray:
    if clip.dense is None:
        return np.zeros(len(clip.frames), bool)
    return np.array([bool(labels[0].any()) for labels in clip.dense])


def _frames_per_chunk(clips: list[Clip], codec: str, quality: int, chunk_bytes: int) -> int:
    sizes = []
    for clip in clips:
        some = np.unique(np.linspace(0, len(clip.frames) - 1, TRIED_FRAMES).astype(int))
        frame = np.mean([len(encode(clip.frames[i], codec, quality)) for i in some])
        labels = 0 if clip.dense is None else clip.dense[0].nbytes
        sizes.append(float(frame) + labels)
    return max(1, int(chunk_bytes / np.mean(sizes)))


def index_of(units: list[dict[str, Any]]) -> bytes:
    """LitData's index of all chunks, by which its own ``StreamingDataset`` reads the shards too."""
    chunks = [
        {name: value for name, value in info.items() if name != "checksum"}
        for unit in units
        for info in unit["chunks"]
    ]
    return json.dumps({"chunks": chunks, "config": units[0]["config"]}).encode()
