"""Opens recordings of robots (MCAP files, ROS 1 and ROS 2 bags) and reads their messages."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from egodepth.core.errors import EgodepthError
from egodepth.core.files import reading, visible
from egodepth.data.footage.robot_logs.chunks import (
    bound_bag_chunks,
    bound_bag_messages,
    check_folder,
    check_mcap_chunks,
)

SUFFIXES = (".mcap", ".bag", ".db3")
"""Suffixes of recordings that are files."""
METADATA = "metadata.yaml"
"""In the folder of a ROS 2 bag."""
HINTS = {
    ".mcap": "`mcap recover` may save what is whole",
    ".bag": "`rosbag reindex` may save what is whole",
    ".db3": "`ros2 bag reindex` may help",
    "": "`ros2 bag reindex` may help",
}
"""What to do about broken recordings, by suffix."""


class Message(NamedTuple):
    """A message of a recording.

    Attributes:
        topic: its topic.
        time: when it was recorded, in nanoseconds.
        decode: parses it, into an object with the fields of its type.
    """

    topic: str
    time: int
    decode: Callable[[], Any]


class Recording(Protocol):
    """A recording.

    Attributes:
        path: file, or folder of a ROS 2 bag.
        topics: types of messages by topic, such as ``sensor_msgs/Image`` or ``foxglove/RawImage``.
        indexed: whether reading can start anywhere in it.
    """

    path: Path
    topics: dict[str, str]
    indexed: bool

    def messages(self, topics: Collection[str], start: int | None = None) -> Iterator[Message]:
        """Yield the messages of some topics in the order of time, from ``start`` (nanoseconds) on.

        Raises:
            EgodepthError: a broken recording.
        """
        ...

    def first(self, topics: Collection[str]) -> Iterator[Message]:
        """Yield the first message of each topic, as far as there is one.

        Raises:
            EgodepthError: a broken recording.
        """
        ...


def is_recording(path: Path) -> bool:
    """Whether a path is a recording, by its suffix or, of a folder, its content."""
    if not path.is_dir():
        return path.suffix.lower() in SUFFIXES
    return (path / METADATA).is_file() or any(p.suffix in SUFFIXES for p in visible(path))


def split_topics(source: str) -> tuple[str, list[str]]:
    """Split ``PATH#/TOPIC,/TOPIC`` into the path and the topics; none without ``#/``, or if all is a path."""
    exists = os.path.exists(source)  # noqa: PTH110  since Path.exists raises for long names
    found = None if exists else re.fullmatch(r"(.*?)#(/.*)", source, re.S)
    return (found[1].rstrip("/"), found[2].split(",")) if found else (source, [])


def open_recording(path: Path) -> Recording:
    """Open a recording.

    Raises:
        EgodepthError: a broken recording, one without messages, a folder of several, or the packages that
            read them are missing.
    """
    if path.is_dir() and not (path / METADATA).is_file():
        inner = next(p for p in visible(path) if p.suffix in SUFFIXES)
        raise EgodepthError(
            f"the folder {path} holds recordings and no {METADATA} that would make it one ROS 2 bag; name a "
            f"file, as {inner}, or all of them, as '{path}/*{inner.suffix}'"
        )
    require_robotics("recordings of robots")
    with reading(path, "the recording", HINTS[path.suffix.lower() if path.is_file() else ""]):
        if path.is_file() and path.stat().st_size == 0:
            raise ValueError("it is empty")
        is_mcap = path.suffix.lower() == ".mcap" and path.is_file()
        recording = _Mcap(path) if is_mcap else _Bag(path)
    if not recording.topics:
        raise EgodepthError(f"the recording {path} holds no messages")
    return recording


def require_robotics(what: str) -> None:
    """Check that the packages of the extra ``robotics`` are installed.

    Raises:
        EgodepthError: they are not.
    """
    try:
        import mcap  # noqa: F401
        import rosbags  # noqa: F401
    except ImportError as error:
        raise EgodepthError(
            f"{what} need the packages rosbags and mcap; install them by: pip install 'egodepth[robotics]'"
        ) from error


def _type_name(name: str) -> str:
    """Name of a type in one form: ``sensor_msgs/msg/Image`` becomes ``sensor_msgs/Image``."""
    package, *_, kind = re.split("[/.]", name) if re.search("[/.]", name) else ("", name)
    return f"{'foxglove' if package == 'foxglove_msgs' else package}/{kind}"


class _BagPath(type(Path())):  # type: ignore[misc]  # in Python 3.11, Path itself cannot be inherited from
    """A path that formats as part of a URI, since rosbags opens SQLite files as ``f"file:{path}?..."``, where
    ``?``, ``#`` and ``%`` in a name would end it or change it."""

    def __format__(self, form: str) -> str:
        return quote(os.fsencode(self))


class _Bag:
    """A ROS 1 bag, or a ROS 2 bag with its ``metadata.yaml`` or as a single ``.db3``."""

    indexed = True

    def __init__(self, path: Path):
        self.path = path
        check_folder(path)
        with self._reader() as reader:
            counts = {name: topic.msgcount for name, topic in reader.topics.items()}
            self.topics = {
                c.topic: _type_name(c.msgtype) for c in reader.connections if counts[c.topic]
            }

    def _reader(self) -> Any:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore

        return AnyReader([_BagPath(self.path)], default_typestore=get_typestore(Stores.ROS2_HUMBLE))

    def messages(self, topics: Collection[str], start: int | None = None) -> Iterator[Message]:
        """See :class:`Recording`."""
        with self._opened() as reader:
            yield from self._of(reader, topics, start)

    def first(self, topics: Collection[str]) -> Iterator[Message]:
        """See :class:`Recording`."""
        with self._opened() as reader:
            for topic in topics:
                yield from islice(self._of(reader, [topic], None), 1)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        hint = HINTS[self.path.suffix.lower() if self.path.is_file() else ""]
        with reading(self.path, "the recording", hint), self._reader() as reader:
            bound = bound_bag_messages if reader.is2 else bound_bag_chunks
            bound(reader.readers[0])
            yield reader

    def _of(self, reader: Any, topics: Collection[str], start: int | None) -> Iterator[Message]:
        chosen = [c for c in reader.connections if c.topic in topics]
        store = reader.typestore
        decode = store.deserialize_cdr if reader.is2 else store.deserialize_ros1
        # Without connections, all topics would be read.
        for connection, time, raw in reader.messages(chosen, start=start) if chosen else ():
            yield Message(connection.topic, time, partial(decode, raw, connection.msgtype))


class _Mcap:
    """An MCAP file with messages of ROS 1, of ROS 2, or in Protobuf."""

    def __init__(self, path: Path):
        from mcap.reader import NonSeekingReader, SeekingReader

        self.path = path
        self._decoders: dict[int, Callable[[bytes], Any]] = {}
        with path.open("rb") as file:
            check_mcap_chunks(file, path.stat().st_size)
            file.seek(0)
            summary = SeekingReader(file).get_summary()
            self.indexed = summary is not None and bool(summary.chunk_indexes)
            if summary is None or not summary.channels:
                file.seek(0)
                whole = NonSeekingReader(file, validate_crcs=True)
                pairs = [(c, s) for s, c, _ in whole.iter_messages(log_time_order=False)]
            else:
                counts = summary.statistics and summary.statistics.channel_message_counts
                pairs = [
                    (channel, summary.schemas.get(channel.schema_id))
                    for channel in summary.channels.values()
                    if counts is None or counts.get(channel.id)
                ]
        self.topics = {c.topic: _type_name(s.name) for c, s in pairs if s is not None}

    def messages(self, topics: Collection[str], start: int | None = None) -> Iterator[Message]:
        """See :class:`Recording`."""
        from mcap.reader import NonSeekingReader, SeekingReader

        with reading(self.path, "the recording", HINTS[".mcap"]), self.path.open("rb") as file:
            kind = SeekingReader if self.indexed else NonSeekingReader
            reader = kind(file, validate_crcs=True)
            for schema, channel, message in reader.iter_messages(list(topics), start_time=start):
                if channel.id not in self._decoders:
                    self._decoders[channel.id] = _decoder(schema, channel)
                decode = partial(self._decoders[channel.id], message.data)
                yield Message(channel.topic, message.log_time, decode)

    def first(self, topics: Collection[str]) -> Iterator[Message]:
        """See :class:`Recording`."""
        for topic in topics:
            yield from islice(self.messages([topic]), 1)


def _decoder(schema: Any, channel: Any) -> Callable[[bytes], Any]:
    """The function that parses the messages of a channel of an MCAP file.

    Raises:
        ValueError: an encoding that is not read.
    """
    if channel.message_encoding == "protobuf":
        return _protobuf_decoder(schema)
    if channel.message_encoding not in ("cdr", "ros1"):
        raise ValueError(
            f"the topic {channel.topic} is encoded as {channel.message_encoding!r}; read are cdr (ROS 2), "
            "ros1 and protobuf"
        )
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    name = re.sub(r"^(\w+)/(\w+)$", r"\1/msg/\2", schema.name)
    text = schema.data.decode()
    types: dict[str, Any] = {}
    if schema.encoding == "ros2idl":
        for part in re.split(r"^=+\nIDL: .*\n", text, flags=re.M):
            types |= get_types_from_idl(part) if part.strip() else {}
    else:
        types = get_types_from_msg(text, name)
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    decode = store.deserialize_cdr if channel.message_encoding == "cdr" else store.deserialize_ros1
    return lambda raw: decode(raw, name)


def _protobuf_decoder(schema: Any) -> Callable[[bytes], Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    files = {f.name: f for f in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file}
    pool = descriptor_pool.DescriptorPool()

    def add(name: str) -> None:
        file = files.pop(name, None)
        if file is not None:
            for needed in file.dependency:
                add(needed)
            pool.Add(file)

    while files:
        add(next(iter(files)))
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
    return kind.FromString


def stamp_of(message: Any) -> int:
    """The header stamp of a message, in nanoseconds."""
    header = getattr(message, "header", message)
    stamp = header.stamp if hasattr(header, "stamp") else header.timestamp
    if hasattr(stamp, "nanosec"):
        return int(stamp.sec) * 10**9 + int(stamp.nanosec)
    return int(stamp.seconds) * 10**9 + int(stamp.nanos)


def frame_of(message: Any) -> str:
    """The coordinate frame that a message's header names; empty if it names none."""
    return str(getattr(message, "header", message).frame_id).lstrip("/")
