"""Recordings of kilobytes that unpack to much more are refused before they take memory or disk."""

import io
import shutil
import struct
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags")
pytest.importorskip("mcap")

import lz4.frame
import zstandard
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from tests.robot_logs import START, STEP, Log

import egodepth
from egodepth.core.errors import EgodepthError
from egodepth.data.footage.robot_logs import chunks

LIMIT = 1 << 22
BOMB = 1 << 26
"""Bytes that bombs unpack to: 16 times the limit, and a moment to make."""


def drive(height: int = 40, width: int = 64) -> Log:
    log = Log()
    for i in range(3):
        log.add_image(START + i * STEP, np.full((height, width, 3), 60 * i, np.uint8))
    return log


def bomb(compression: str) -> bytes:
    """Compressed zeros that state no size; zstd in two frames, the first of which is harmless."""
    if compression == "lz4":
        return bytes(lz4.frame.compress(bytes(BOMB), store_size=False))
    packed = io.BytesIO()
    whole = zstandard.ZstdCompressor(write_content_size=False)
    packed.write(zstandard.compress(bytes(100)) + whole.compress(bytes(BOMB)))
    return packed.getvalue()


def add_chunk(file: Path, compression: str, data: bytes) -> None:
    """Put a chunk that claims 1000 bytes before all others."""
    content = file.read_bytes()
    begin = 8 + 9 + struct.unpack("<Q", content[9:17])[0]
    chunk = struct.pack("<QQQII", START, START, 1000, 0, len(compression))
    chunk += compression.encode() + struct.pack("<Q", len(data)) + data
    record = b"\x06" + struct.pack("<Q", len(chunk)) + chunk
    file.write_bytes(content[:begin] + record + content[begin:])


def write(path: Path, mode: str, log: Log, plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
    writer = Writer2(path, version=9, storage_plugin=plugin)
    writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        log._fill(writer)
    return path


def count_frames(path: Path) -> int:
    (sequence,) = egodepth.read_source(path)
    return len(list(sequence.frames.at()))


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_CHUNK", LIMIT)


@pytest.mark.parametrize(
    ("kind", "compression"),
    [("single.mcap", "lz4"), ("ros2_mcap", "lz4"), ("ros2_mcap", "zstd")],
)
def test_chunks_of_unstated_size_are_counted(kind: str, compression: str, tmp_path: Path) -> None:
    path = drive().write(tmp_path, kind)
    file = path if path.is_file() else next(path.glob("*.mcap"))
    add_chunk(file, compression, bomb(compression))
    with pytest.raises(EgodepthError, match=r"has a chunk of more than .* GB") as error:
        egodepth.read_source(path)
    assert "\n" not in str(error.value)


def test_chunks_are_checked_whatever_the_name_of_their_file(tmp_path: Path) -> None:
    path = drive().write(tmp_path, "ros2_mcap")
    file = next(path.glob("*.mcap"))
    add_chunk(file, "zstd", bomb("zstd"))
    file.rename(path / "renamed.bin")
    about = path / "metadata.yaml"
    about.write_text(about.read_text().replace(file.name, "renamed.bin"))
    with pytest.raises(EgodepthError, match=r"has a chunk of more than .* GB"):
        egodepth.read_source(path)


@pytest.mark.parametrize("plugin", StoragePlugin)
@pytest.mark.parametrize("mode", ["MESSAGE", "FILE"])
def test_messages_and_files_that_unpack_to_much_are_refused(
    mode: str, plugin: StoragePlugin, tmp_path: Path
) -> None:
    assert count_frames(write(tmp_path / "good", mode, drive(), plugin)) == 3
    path = write(tmp_path / "bomb", mode, drive(2000, 3000), plugin)
    expected = {"MESSAGE": "has a message of more than", "FILE": "over 1000 times their size"}
    with pytest.raises(EgodepthError, match=expected[mode]) as error:
        count_frames(path)
    assert "\n" not in str(error.value)


def test_chunks_within_compressed_files_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", "FILE", drive())
    (packed,) = (p for p in path.iterdir() if p.suffix != ".yaml")
    inner = tmp_path / "inner.mcap"
    inner.write_bytes(zstandard.ZstdDecompressor().stream_reader(packed.read_bytes()).read())
    add_chunk(inner, "zstd", bomb("zstd"))
    packed.write_bytes(zstandard.compress(inner.read_bytes()))
    with pytest.raises(EgodepthError, match=r"has a chunk of more than .* GB"):
        egodepth.read_source(path)


def test_compressed_files_need_space_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "bag", "FILE", drive(400, 640))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100_000))
    with pytest.raises(EgodepthError, match=r"free in .*; set TMPDIR"):
        egodepth.read_source(path)


def test_usual_chunks_are_not_unpacked_to_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise AssertionError("a chunk was unpacked")

    path = write(tmp_path / "bag", "STORAGE", drive())
    file = next(path.glob("*.mcap"))
    with file.open("rb") as opened:
        monkeypatch.setattr(chunks, "_count", refuse)
        chunks.check_mcap_chunks(opened, file.stat().st_size, (b"zstd",))


def test_frames_of_zstd_are_bounded_by_their_blocks() -> None:
    noise = np.random.default_rng(0).bytes(300_000)
    frames = (
        zstandard.compress(noise)
        + zstandard.compress(bytes(500_000))
        + bytes.fromhex("502a4d1803000000aabbcc")
    )
    frames += zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(
        noise
    )
    most = chunks._most_of_zstd(io.BytesIO(frames), 0, len(frames))
    assert 1_100_000 <= most <= 1_100_000 + 10 * (1 << 17)


def test_chunks_below_the_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_CHUNK", 1 << 17)  # so low that they are counted
    assert count_frames(write(tmp_path / "bag", "STORAGE", drive())) == 3
