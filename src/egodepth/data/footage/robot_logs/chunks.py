"""Bounds the memory that compressed chunks of recordings may take; a few kilobytes can unpack to gigabytes."""

import bz2
import io
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import IO, Any

MAX_CHUNK = 1 << 30
"""Largest size in bytes of an unpacked chunk; usual ones have some megabytes."""
_MCAP_MAGIC, _CHUNK = 8, 6
_CHUNK_HEAD = struct.Struct("<QQQII")
_FRAME_HEAD = 64
"""Bytes of compressed data in which zstd and LZ4 state the size of what follows."""
_RATIOS = {b"lz4": 255, b"zstd": 1 << 15}
"""How many bytes one of compressed data unpacks to at most, by their formats."""
_ZSTD_BLOCK = 1 << 17
"""Bytes that a block of zstd unpacks to at most (RFC 8878, 3.1.1.2.4)."""
_FILE_RATIO = 1000
"""How many times its size a whole bag may unpack to, beyond :data:`MAX_CHUNK`."""
_PIECE = 1 << 20


def check_mcap_chunks(file: IO[bytes], end: int, counted: tuple[bytes, ...] = (b"lz4",)) -> None:
    """Check what all chunks of an MCAP file unpack to, by their heads or, where those bind no reader, a count.

    Args:
        file: the file, or a stream of it that only goes forward; at most its magic has been read.
        end: its size in bytes.
        counted: compressions whose chunks the reader unpacks without a limit.

    Raises:
        ValueError: a chunk that is too large.
    """
    place = _MCAP_MAGIC
    while place + 9 <= end:
        file.seek(place)
        kind, length = struct.unpack("<BQ", file.read(9))
        if kind == _CHUNK and length >= _CHUNK_HEAD.size:
            _, _, size, _, name_length = _CHUNK_HEAD.unpack(file.read(_CHUNK_HEAD.size))
            name = file.read(min(name_length, 16))
            (packed,) = struct.unpack("<Q", file.read(8))
            head = file.read(_FRAME_HEAD)
            _require_size(max(size, _stated_size(name, head)))
            packed = min(packed, end)
            start = place + 9 + _CHUNK_HEAD.size + name_length + 8
            if name in counted and _may_be_large(name, file, start, packed):
                _require_size(packed)
                file.seek(start + len(head))
                _require_counted(name, head + file.read(max(packed - len(head), 0)), "chunk")
        place += 9 + length


def _may_be_large(compression: bytes, file: IO[bytes], start: int, packed: int) -> bool:
    """Whether a part of a file may unpack to more than :data:`MAX_CHUNK`, told without unpacking it."""
    if packed * _RATIOS[compression] <= MAX_CHUNK:
        return False
    return (
        compression != b"zstd"
        or not file.seekable()
        or _most_of_zstd(file, start, start + packed) > MAX_CHUNK
    )


def _most_of_zstd(file: IO[bytes], place: int, end: int) -> int:
    """Bytes that the frames of zstd in a part of a file unpack to at most, by the heads of their blocks."""
    import zstandard

    most = 0
    while place < end:
        file.seek(place)
        head = file.read(18)
        if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:  # a frame to be skipped
            place += 8 + int.from_bytes(head[4:8], "little")
            continue
        try:
            checked = zstandard.get_frame_parameters(head).has_checksum
            place += zstandard.frame_header_size(head)
        except zstandard.ZstdError:
            return most  # no reader gets beyond this place
        last = False
        while not last and place < end and most <= MAX_CHUNK:
            file.seek(place)
            block = int.from_bytes(file.read(3), "little")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            most += _ZSTD_BLOCK if kind == 2 else size
            place += 3 + (1 if kind == 1 else size)
        place += 4 * checked
        if most > MAX_CHUNK:
            break
    return most


def _require_counted(compression: bytes, data: bytes, what: str) -> None:
    """Unpack data without keeping them, and refuse more than :data:`MAX_CHUNK`."""
    if (
        len(data) * _RATIOS[compression] > MAX_CHUNK
        and _count(compression, io.BytesIO(data), MAX_CHUNK) > MAX_CHUNK
    ):
        raise ValueError(
            f"it has a {what} of more than {MAX_CHUNK / 1e9:.2g} GB; larger ones are not read"
        )


def _count(compression: bytes, packed: IO[bytes], limit: int) -> int:
    """Size in bytes that data unpack to, as far as they are whole; counting ends beyond the limit."""
    size = 0
    # The reader says what is wrong with damaged data, and gets no further in them.
    with suppress(EOFError, RuntimeError, _zstd_error()):
        stream = _unpacking(compression, packed)
        while size <= limit and (piece := stream.read(_PIECE)):
            size += len(piece)
    return size


def _unpacking(compression: bytes, packed: IO[bytes]) -> Any:
    if compression == b"lz4":
        import lz4.frame

        return lz4.frame.open(packed)
    import zstandard

    # rosbags takes windows of any size and several frames, so the count does, too.
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    return unpacker.stream_reader(packed, read_across_frames=True, closefd=False)


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError


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
        # In pieces: LZ4's reserves at once what it may return at most.
        unpacked = bytearray(unpacker.decompress(data, _PIECE))
        while not (unpacker.eof or unpacker.needs_input) and len(unpacked) <= MAX_CHUNK:
            unpacked += unpacker.decompress(b"", _PIECE)
        if not unpacker.eof or len(unpacked) > MAX_CHUNK:
            raise ValueError(
                f"it has a chunk that is damaged, or of more than {MAX_CHUNK / 1e9:.2g} GB"
            )
        return bytes(unpacked)

    return bounded


def bound_bag_messages(reader: Any) -> None:
    """Let a reader of a ROS 2 bag refuse messages, each compressed, that unpack to more than :data:`MAX_CHUNK`.

    Args:
        reader: an opened :class:`rosbags.rosbag2.Reader`.
    """
    if reader.compression_mode == "message":
        for storage in reader.storage.storages:
            storage.messages = _checked(storage.messages)


def _checked(messages: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def checked(*chosen: Any) -> Iterator[Any]:
        for connection, time, data in messages(*chosen):
            _require_counted(b"zstd", data, "message")
            yield connection, time, data

    return checked


def check_folder(path: Path) -> None:
    """Check what the files of a ROS 2 bag and their chunks unpack to.

    Raises:
        ValueError: a chunk that is too large, or files that are, or that the disk has no space for.
    """
    files, packed = _files_of(path)
    sizes = _require_space(files) if packed else [file.stat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        with file.open("rb") as opened:
            content = _unpacking(b"zstd", opened) if packed else opened
            if size >= _MCAP_MAGIC and content.read(_MCAP_MAGIC).startswith(b"\x89MCAP"):
                check_mcap_chunks(content, size, (b"lz4", b"zstd"))


def _files_of(path: Path) -> tuple[list[Path], bool]:
    """The files of a ROS 2 bag, and whether they are compressed as a whole; none if rosbags will refuse it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = (path / "metadata.yaml").read_text()
        about = YAML(typ="safe").load(text)["rosbag2_bagfile_information"]
        files = [path / PurePath(name).name for name in about["relative_file_paths"]]
        packed = about.get("compression_mode", "").lower() == "file"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError):
        return [], False
    return [file for file in files if file.is_file()], packed


def _require_space(files: list[Path]) -> list[int]:
    """Sizes of files once unpacked, which rosbags does into a temporary folder.

    Raises:
        ValueError: they are too large.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    largest = max(MAX_CHUNK, _FILE_RATIO * sum(file.stat().st_size for file in files))
    sizes: list[int] = []
    for file in files:
        with file.open("rb") as opened:
            sizes.append(_count(b"zstd", opened, min(free, largest) - sum(sizes)))
        if sum(sizes) > largest:
            raise ValueError(
                f"its files unpack to more than {largest / 1e9:.2g} GB, over {_FILE_RATIO} times their size"
            )
        if sum(sizes) > free:
            raise ValueError(
                f"its files unpack to more than the {free / 1e9:.2g} GB that are free in {folder}; set TMPDIR "
                "to a folder on a larger disk"
            )
    return sizes
