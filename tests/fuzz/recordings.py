"""Recordings of robots whose messages, records or tables are wrong, though the file as such is whole."""

import io
import json
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mcap import records
from mcap.reader import NonSeekingReader
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from PIL import Image
from rosbags.rosbag1 import Writer as BagWriter
from tests.fuzz.breaks import TREE, Break
from tests.robot_logs import START, STEP, Log, ros_of

KINDS = ("ros1.bag", "ros2_sqlite", "single.mcap")
SIZE = (24, 40)
FRAMES = 6
ODD_FLOATS = (
    float("nan"),
    float("inf"),
    -float("inf"),
    1e308,
    -1e308,
    1e-308,
    0.0,
    -1.0,
    1e30,
    1e9,
    -7.5,
)
ODD_TEXTS = (
    "", "/", "rgb8", "mono16", "32FC1", "nv21", "bayer_xxxx8", "bayer_", "16UC1", "map", "base", "optical",
    "\n", "a b", "x" * 5000, "\x00", "é", "h264", "jpeg", "png", "rgb8; jpeg compressed bgr8",
    "16UC1; compressedDepth", "plumb_bob", "equidistant", "rational_polynomial", "double_sphere", "..", "%s",
)  # fmt: skip
MESSAGE: dict[str, Callable[[Log, np.random.Generator], None]] = {}
"""Breaks of messages before they are written."""
SOURCE_FILE = "source.json"
"""Holds the topics after the recording's name; it is replaced with the recording."""


def picture(rng: np.random.Generator) -> np.ndarray:
    """A picture of noise."""
    return rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def make_log(kind: str, form: str = "raw") -> Log:
    """A drive with images, camera, TF, odometry and positions; images are ``raw``, ``deep`` or in a format."""
    log, rng = Log(ros_of(kind)), np.random.default_rng(0)
    mounted = log.transform(START, "base", "optical", (0, 0, 1), (-0.5, 0.5, -0.5, 0.5))
    log.add_tf(START - STEP, mounted, static=True)
    for i in range(FRAMES):
        stamp = START + i * STEP
        if form == "raw":
            log.add_image(stamp, picture(rng), frame="optical", padding=i % 2)
        elif form == "deep":
            log.add_image(
                stamp, picture(rng)[..., 0].astype(np.uint16) * 200, "mono16", frame="optical"
            )
        else:
            buffer = io.BytesIO()
            Image.fromarray(picture(rng)).save(buffer, form)
            data = np.frombuffer(buffer.getvalue(), np.uint8)
            log.add("/camera/image_raw", "sensor_msgs/CompressedImage", stamp, frame="optical",
                    format=f"rgb8; {form} compressed bgr8", data=data)  # fmt: skip
        log.add_camera(stamp, SIZE, 30.0, [-0.2, 0.05, 0.001, -0.001, 0.0], frame="optical")
        log.add_tf(stamp, log.transform(stamp, "map", "base", (i, 0, 0)))
        inner = log.make("geometry_msgs/PoseWithCovariance", pose=log.pose((i, 0.1 * i * i, 0)))
        log.add(
            "/odom", "nav_msgs/Odometry", stamp, frame="odom", child_frame_id="base", pose=inner
        )
        log.add("/fix", "sensor_msgs/NavSatFix", stamp, latitude=48 + i * 1e-5, longitude=11.0)
    return log


def _leaves(node: Any, found: list[tuple[Any, str]], depth: int = 0) -> None:
    """Fields of a message and of those within it."""
    for name in getattr(node, "__dataclass_fields__", ()):
        if name.startswith("__"):
            continue
        value = getattr(node, name)
        if hasattr(value, "__dataclass_fields__"):
            _leaves(value, found, depth + 1)
        elif isinstance(value, list) and value and hasattr(value[0], "__dataclass_fields__"):
            found.append((node, name))
            _leaves(value[0], found, depth + 1)
        else:
            found.append((node, name))


def _odd(value: Any, rng: np.random.Generator) -> Any:
    """An odd value that can be serialized where another stood."""
    if isinstance(value, str):
        return ODD_TEXTS[int(rng.integers(len(ODD_TEXTS)))]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        odd = ODD_FLOATS[int(rng.integers(len(ODD_FLOATS)))]
        changed = value.copy() if len(value) else np.ones(5)
        if rng.integers(2):
            changed[int(rng.integers(len(changed)))] = odd
        elif len(value) not in (9, 12, 36) and rng.integers(2):  # not of a fixed size
            changed = np.full(int(rng.choice([0, 1, 3, 6, 8, 14, 3000])), odd)
        else:
            changed[:] = odd
        return changed
    if isinstance(value, np.ndarray):
        choices = [
            value[:0],
            value[:-1],
            value[:7],
            np.tile(value, 2),
            value[::-1].copy(),
            value * 0,
        ]
        return choices[int(rng.integers(len(choices)))].astype(value.dtype)
    if isinstance(value, list):
        return value[:0] if rng.integers(2) else value * 3
    if isinstance(value, bool):
        return not value
    return ODD_FLOATS[int(rng.integers(len(ODD_FLOATS)))] if isinstance(value, float) else int(
        rng.choice([0, 1, 2, 3, 127, 255, 1 << 15, (1 << 31) - 1, (1 << 32) - 1])
    )  # fmt: skip


def _add(
    function: Callable[[Log, np.random.Generator], None],
) -> Callable[[Log, np.random.Generator], None]:
    MESSAGE[function.__name__] = function
    return function


def _some(log: Log, rng: np.random.Generator) -> list[Any]:
    """One message, or all of a topic."""
    topics = sorted({m[0] for m in log.messages})
    topic = topics[int(rng.integers(len(topics)))]
    chosen = [m[3] for m in log.messages if m[0] == topic]
    return chosen if rng.integers(2) else [chosen[int(rng.integers(len(chosen)))]]


@_add
def odd_field(log: Log, rng: np.random.Generator) -> None:
    messages = _some(log, rng)
    found: list[tuple[Any, str]] = []
    _leaves(messages[0], found)
    place = int(rng.integers(len(found)))
    odd = _odd(getattr(*found[place]), rng)
    for message in messages:
        found = []
        _leaves(message, found)
        if place < len(found):
            setattr(*found[place], odd)


@_add
def odd_stamps(log: Log, rng: np.random.Generator) -> None:
    choice = int(rng.integers(6))
    seconds = rng.permutation(FRAMES)
    for i, message in enumerate(_some(log, rng)):
        for header in [
            getattr(t, "header", None) for t in getattr(message, "transforms", [message])
        ]:
            if header is None:
                continue
            stamp = header.stamp
            stamp.sec = [0, 5, (1 << 31) - 1, int(seconds[i % FRAMES]), 1000 - i, stamp.sec][choice]
            stamp.nanosec = [0, 5, (1 << 32) - 1, 0, 0, (1 << 32) - 1][choice]


@_add
def topic_gone(log: Log, rng: np.random.Generator) -> None:
    gone = _some(log, rng)
    log.messages = [m for m in log.messages if not any(m[3] is g for g in gone)]


@_add
def topic_renamed(log: Log, rng: np.random.Generator) -> None:
    topics = sorted({m[0] for m in log.messages})
    old = topics[int(rng.integers(len(topics)))]
    new = str(
        rng.choice(
            ["", "/", "a b", "\n", "/" + "x" * 3000, "/é", *topics, "/camera//image_raw", "/*"]
        )
    )
    kinds = {m[0]: m[1] for m in log.messages}
    if kinds.get(new, kinds[old]) == kinds[old]:
        log.messages = [(new if t == old else t, *rest) for t, *rest in log.messages]  # type: ignore[misc]


@_add
def size_changes(log: Log, rng: np.random.Generator) -> None:
    images = [m[3] for m in log.messages if m[0] == "/camera/image_raw"]
    if hasattr(images[0], "height"):
        image = images[int(rng.integers(len(images)))]
        image.height, image.width = (
            int(rng.choice([0, 1, 12, 65536])),
            int(rng.choice([0, 1, 20, 65536])),
        )
        image.step = int(rng.choice([0, 1, 60, 120, (1 << 32) - 1]))


@_add
def odd_tree(log: Log, rng: np.random.Generator) -> None:
    pairs = [
        [("base", "base")], [("optical", "base")], [("a", "b"), ("b", "a")], [("x", "optical")], [("", "base")],
        [(f"f{i}", f"f{i + 1}") for i in range(3000)] + [("f3000", "map")],
    ]  # fmt: skip
    chosen = pairs[int(rng.integers(len(pairs)))]
    moved = [log.transform(START, *pair, (1, 2, 3)) for pair in chosen]
    log.add_tf(START, *moved, static=bool(rng.integers(2)))


@_add
def odd_data(log: Log, rng: np.random.Generator) -> None:
    """Images that are no images, or that claim to be huge."""
    from tests.fuzz.breaks import PNG

    images = [m[3] for m in log.messages if m[0] == "/camera/image_raw"]
    if not hasattr(images[0], "format"):
        for image in images:
            image.data = image.data[:0]
        return
    path = Path("odd.png")
    Image.fromarray(picture(rng)).save(path)
    list(PNG.values())[int(rng.integers(len(PNG)))](path, rng)
    choices = [
        path.read_bytes(),
        rng.bytes(500),
        b"",
        bytes(images[0].data)[:100],
        b"GIF89a" + bytes(50),
    ]
    odd = np.frombuffer(choices[int(rng.integers(len(choices)))], np.uint8)
    for image in images if rng.integers(2) else images[:1]:
        image.data = odd


@_add
def many_topics(log: Log, rng: np.random.Generator) -> None:
    for i in range(12):
        log.add_camera(START, SIZE, 30.0 + i, topic=f"/c{i}/camera_info", frame="optical")
        log.add_image(START, picture(rng), topic=f"/c{i}/image_raw")


def _write(log: Log, folder: Path, kind: str) -> None:
    for path in (folder / kind, (folder / kind).with_suffix("")):
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    log.write(folder, kind)


def _of_message(kind: str, change: Callable[[Log, np.random.Generator], None]) -> Break:
    def apply(path: Path, rng: np.random.Generator) -> None:
        log = make_log(kind, str(rng.choice(["raw", "raw", "deep", "png", "jpeg"])))
        for _ in range(int(rng.integers(1, 3))):
            change(log, rng)
        try:
            _write(log, path.parent, kind)
        except Exception as error:  # the writer refuses it
            raise ValueError(str(error)) from error

    return apply


def odd_topics(path: Path, rng: np.random.Generator) -> None:
    """Name topics that are none, or of other types."""
    odd = [
        "#/camera/image_raw", "#/nothing", "#/odom", "#/camera/image_raw,/odom", "#/fix", "#/", "#", "#/,",
        "#/camera/image_raw,/camera/image_raw", "#/tf", "#/odom,/odom",
        "#/camera/image_raw,/camera/camera_info", "#/\n", "#/" + "x" * 5000, "#/camera/image_raw#/odom", "#/é",
        "#camera/image_raw", "#/camera/image_raw,",
    ]  # fmt: skip
    path.write_text(json.dumps(odd[int(rng.integers(len(odd)))]))


def raw_messages(path: Path, rng: np.random.Generator) -> None:
    """Messages of the right type whose bytes are cut, noise, or claim endless arrays."""
    kind = _kind_of(path)
    log = make_log(kind, str(rng.choice(["raw", "png"])))
    topics = sorted({m[0] for m in log.messages})
    broken = topics[int(rng.integers(len(topics)))]
    place, choice = int(rng.integers(0, 60)), int(rng.integers(5))

    def change(data: bytes) -> bytes:
        return [
            data[: len(data) // 2], b"", data[:place] + rng.bytes(8) + data[place + 8 :],
            data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :], data + bytes(100),
        ][choice]  # fmt: skip

    store = log.store
    name = "serialize_ros1" if log.ros == 1 else "serialize_cdr"
    serialize = getattr(store, name)
    wrong = {id(m[3]) for m in log.messages if m[0] == broken}
    setattr(
        store,
        name,
        lambda m, t: change(bytes(serialize(m, t))) if id(m) in wrong else serialize(m, t),
    )
    _write(log, path.parent, kind)


def rewritten(path: Path, rng: np.random.Generator) -> None:
    """An MCAP file with other schemas, encodings, times or channels, in any form of the format."""
    file = path.parent / "single.mcap"
    found = list(NonSeekingReader(io.BytesIO(file.read_bytes())).iter_messages())
    out, choice = io.BytesIO(), int(rng.integers(12))
    writer = McapWriter(
        out, chunk_size=int(rng.choice([100, 10_000, 1 << 20])), use_chunking=bool(rng.integers(3)),
        compression=list(CompressionType)[int(rng.integers(len(CompressionType)))],
        use_statistics=bool(rng.integers(2)), use_summary_offsets=bool(rng.integers(2)),
        repeat_channels=bool(rng.integers(4)), repeat_schemas=bool(rng.integers(4)),
        enable_crcs=bool(rng.integers(2)),
    )  # fmt: skip
    writer.start("ros2", "fuzz")
    ids: dict[int, int] = {}
    for number, (schema, channel, message) in enumerate(found):
        assert schema is not None
        if channel.id not in ids:
            texts = [
                schema.data, b"", b"Missing field\n", b"uint8[4000000000] data\n", b"\xff\xfe\x00",
                b"string a\n" * 9999,
                schema.data.replace(b"float64", b"uint8"), schema.data.replace(b"[]", b"[3]"), schema.data[:40],
                b"pkg/Self inner\n===\nMSG: pkg/Self\npkg/Self inner\n", b"string<=2 frame_id\n", b"int32 A=\n",
            ]  # fmt: skip
            text = texts[choice] if rng.random() < 0.4 else schema.data
            form = str(
                rng.choice(
                    ["ros2msg", "ros2msg", "ros2msg", "ros2idl", "", "protobuf", "jsonschema"]
                )
            )
            encoding = str(rng.choice(["cdr", "cdr", "cdr", "cdr", "ros1", "protobuf", "json", ""]))
            one = 0 if rng.random() < 0.05 else writer.register_schema(schema.name, form, text)
            ids[channel.id] = writer.register_channel(channel.topic, encoding, one)
        time = [message.log_time, 0, (1 << 64) - 1, 1 << 63, number, message.log_time][choice % 6]
        writer.add_message(ids[channel.id], time, message.data, time)
    writer.finish()
    file.write_bytes(out.getvalue())


def record_changed(path: Path, rng: np.random.Generator) -> None:
    """A record of an MCAP file with another operation, an absurd length, or gone."""
    file = path.parent / "single.mcap"
    content = file.read_bytes()
    places, place = [], 8
    while place + 9 < len(content) - 8:
        places.append(place)
        place += 9 + struct.unpack_from("<Q", content, place + 1)[0]
    place = places[int(rng.integers(len(places)))]
    length = struct.unpack_from("<Q", content, place + 1)[0]
    choice = int(rng.integers(6))
    if choice == 0:
        new = bytes([int(rng.integers(0, 256))]) + content[place + 1 :]
    elif choice == 1:
        new = content[place + 9 + length :]
    elif choice == 2:
        new = content[place : place + 9 + length] + content[place:]
    else:
        odd = int(rng.choice([0, 1, 2**31, 2**40, 2**62])) if choice < 5 else length - 1
        new = content[place : place + 1] + struct.pack("<Q", odd) + content[place + 9 :]
    file.write_bytes(content[:place] + new)


def chunk_bomb(path: Path, rng: np.random.Generator) -> None:
    """A chunk of kilobytes that unpacks to gigabytes, or claims to."""
    import bz2

    import lz4.frame
    import zstandard

    kind = _kind_of(path)
    gigabytes = 3
    if kind == "single.mcap":
        file = path.parent / kind
        content = file.read_bytes()
        chunks = [r for r in StreamReader(io.BytesIO(content), emit_chunks=True).records
                  if isinstance(r, records.Chunk)]  # fmt: skip
        name = str(rng.choice(["zstd", "lz4"]))
        if name == "zstd":
            whole = zstandard.ZstdCompressor().compressobj(
                size=gigabytes << 30 if rng.integers(2) else -1
            )
        else:
            whole = lz4.frame.LZ4FrameCompressor()
        data = whole.begin() if name == "lz4" else b""
        data += (
            b"".join(whole.compress(bytes(1 << 24)) for _ in range(gigabytes << 6)) + whole.flush()
        )
        start = content.index(chunks[0].data) - 8
        head = 9 + 8 + 8 + 8 + 4 + 4 + len(chunks[0].compression)
        begin = start - head
        claimed = gigabytes << 30 if rng.integers(2) else 1000
        chunk = struct.pack("<QQQII", chunks[0].message_start_time, chunks[0].message_end_time,
                            claimed, 0, len(name))  # fmt: skip
        chunk += name.encode() + struct.pack("<Q", len(data)) + data
        new = b"\x06" + struct.pack("<Q", len(chunk)) + chunk
        file.write_bytes(content[:begin] + new + content[start + 8 + len(chunks[0].data) :])
        return
    if kind == "ros1.bag":
        log = make_log(kind)
        bomb = bz2.BZ2Compressor(1)
        data = b"".join(bomb.compress(bytes(1 << 24)) for _ in range(6)) + bomb.flush()
        file = path.parent / kind
        file.unlink()
        writer = BagWriter(file)
        writer.set_compression(BagWriter.CompressionFormat.BZ2)
        writer.compressor = lambda _: data
        with writer:
            log._fill(writer)
        return
    tables(path, rng)


def tables(path: Path, rng: np.random.Generator) -> None:
    """A ROS 2 bag whose database has odd values or tables."""
    folder = path.parent / "ros2_sqlite"
    database = next(folder.glob("*.db3"))
    odd = [
        "DROP TABLE messages", "DROP TABLE topics", "DELETE FROM messages", "DELETE FROM topics",
        "UPDATE messages SET data = NULL", "UPDATE messages SET data = 'text'", "UPDATE messages SET data = 5",
        "UPDATE messages SET timestamp = 'x'", "UPDATE messages SET timestamp = -5",
        "UPDATE topics SET type = 'x'",
        "UPDATE messages SET timestamp = 1e300", "UPDATE messages SET topic_id = 77",
        "UPDATE topics SET name = NULL",
        "UPDATE topics SET type = 'sensor_msgs/msg/Image'", "UPDATE topics SET serialization_format = 'json'",
        "UPDATE topics SET name = x'ff00'", "UPDATE schema SET schema_version = 99", "DELETE FROM schema",
        "UPDATE message_definitions SET encoded_message_definition = 'float64[4000000000] x'",
        "UPDATE message_definitions SET encoding = 'x'", "DELETE FROM message_definitions",
        "UPDATE messages SET data = zeroblob(100000000) WHERE id = 3",
        "UPDATE topics SET id = 1.5 WHERE id = 1",
        "ALTER TABLE messages RENAME COLUMN data TO content", "UPDATE messages SET data = substr(data, 1, 20)",
    ]  # fmt: skip
    connection = sqlite3.connect(database)
    try:
        connection.executescript(odd[int(rng.integers(len(odd)))])
    except sqlite3.Error as error:
        raise ValueError(str(error)) from error
    finally:
        connection.close()


def metadata(path: Path, rng: np.random.Generator) -> None:
    """A ROS 2 bag with another metadata.yaml."""
    file = path.parent / "ros2_sqlite" / "metadata.yaml"
    tree = yaml.safe_load(file.read_text())
    top = tree["rosbag2_bagfile_information"]
    changes: list[dict[str, Any]] = [
        {"compression_mode": "file", "compression_format": "zstd"}, {"relative_file_paths": []},
        {"compression_mode": "message", "compression_format": "zstd"}, {"storage_identifier": "mcap"},
        {"relative_file_paths": ["../../poses.db3"]}, {"relative_file_paths": top["relative_file_paths"] * 2},
        {"topics_with_message_count": []}, {"message_count": 0}, {"version": 1}, {"version": -1},
    ]  # fmt: skip
    choice = int(rng.integers(len(changes) + 6))
    if choice < len(changes):
        file.write_text(yaml.safe_dump({"rosbag2_bagfile_information": {**top, **changes[choice]}}))
    else:
        list(TREE.values())[int(rng.integers(len(TREE)))](file, rng)


def _kind_of(path: Path) -> str:
    return next(kind for kind in KINDS if (path.parent / kind).exists())


def breaks_of(kind: str) -> dict[str, Break]:
    """Breaks of a kind of recording; each is given the path of SOURCE_FILE beside it."""
    table = {name: _of_message(kind, change) for name, change in MESSAGE.items()}
    own = {
        "single.mcap": [rewritten, record_changed],
        "ros2_sqlite": [tables, metadata],
        "ros1.bag": [],
    }
    return table | {b.__name__: b for b in [odd_topics, raw_messages, chunk_bomb, *own[kind]]}
