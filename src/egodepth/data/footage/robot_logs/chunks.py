"""Bounds the memory that compressed chunks of recordings may take; a few kilobytes can unpack to gigabytes."""

import bz2
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

MAX_CHUNK = 1 << 30
"""Largest size in bytes of an unpacked chunk; usual ones have some megabytes."""
_MCAP_MAGIC, _CHUNK = 8, 6
_CHUNK_HEAD = struct.Struct("<QQQII")
_FRAME_HEAD = 64
"""Bytes of compressed data in which zstd and LZ4 state the size of what follows."""


def check_mcap_chunks(file: IO[bytes]) -> None:
    """Check what all chunks of an MCAP file claim to unpack to; reads their heads only.

    Raises:
        ValueError: a chunk that is too large.
    """
    end = file.seek(0, os.SEEK_END)
    place = _MCAP_MAGIC
    while place + 9 <= end:
        file.seek(place)
        kind, length = struct.unpack("<BQ", file.read(9))
        if kind == _CHUNK and length >= _CHUNK_HEAD.size:
            _, _, size, _, name_length = _CHUNK_HEAD.unpack(file.read(_CHUNK_HEAD.size))
            name = file.read(min(name_length, 16))
            file.seek(8, os.SEEK_CUR)
            _require_size(max(size, _stated_size(name, file.read(_FRAME_HEAD))))
        place += 9 + length


def _stated_size(compression: bytes, head: bytes) -> int:
    """Size that compressed data state for themselves, 0 if they do not."""
    if compression == b"zstd":
        import zstandard

        try:
            size = zstandard.get_frame_parameters(head).content_size
        except zstandard.ZstdError:
            return 0
        return 0 if size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR) else size
    if compression == b"lz4":
        import lz4.frame

        try:
            return int(lz4.frame.get_frame_info(head)["content_size"])
        except RuntimeError:
            return 0
    return 0


def _require_size(size: int) -> None:
    if size > MAX_CHUNK:
        raise ValueError(
            f"it has a chunk of {size / 1e9:.3g} GB; at most {MAX_CHUNK / 1e9:.2g} GB are read"
        )


def bound_bag_chunks(reader: Any) -> None:
    """Let a reader of a ROS 1 bag refuse chunks that unpack to more than :data:`MAX_CHUNK`.

    Args:
        reader: an opened :class:`rosbags.rosbag1.Reader`.
    """
    for place, chunk in reader.chunks.items():
        reader.chunks[place] = chunk._replace(decompressor=_bounded(chunk.decompressor))


def _bounded(unpack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    from lz4.frame import LZ4FrameDecompressor

    kinds: dict[str, Callable[[], Any]] = {"bz2": bz2.BZ2Decompressor, "lz4": LZ4FrameDecompressor}
    make = next((kind for name, kind in kinds.items() if name in unpack.__module__), None)
    if make is None:
        return unpack  # not compressed

    def bounded(data: bytes) -> bytes:
        unpacker = make()
        unpacked: bytes = unpacker.decompress(data, MAX_CHUNK)
        if not unpacker.eof:
            raise ValueError(
                f"it has a chunk that is damaged, or of more than {MAX_CHUNK / 1e9:.2g} GB"
            )
        return unpacked

    return bounded


def check_folder(path: Path) -> None:
    """Check the chunks of the MCAP files of a ROS 2 bag.

    Raises:
        ValueError: a chunk that is too large.
    """
    for file in sorted(path.glob("*.mcap")):
        with file.open("rb") as opened:
            check_mcap_chunks(opened)
