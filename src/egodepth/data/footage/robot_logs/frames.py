"""Frames of an image topic of a recording."""

import hashlib
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import reading
from egodepth.data.footage.robot_logs.pictures import (
    decode_video,
    read_picture_message,
    video_codec,
    warn_of_encoding,
)
from egodepth.data.footage.robot_logs.recording import Message, Recording
from egodepth.data.image_files import sampled_range
from egodepth.data.pixels import ValueRange
from egodepth.data.sequence import Frame

NEAR = 32
"""Messages that are skipped rather than read anew from a later place, and those kept for other threads."""
MAX_JITTER = 10**9
"""Largest step back of header stamps, in nanoseconds, that is late arrival and not another drive."""


class RecordedFrames:
    """Frames of an image topic, in the order of their header stamps, which are their times.

    Images of more than 8 bits per channel are scaled to 8 bits by one value range for all, which a warning
    states. Frames of a video stream (H.264) that cannot be decoded are skipped with a warning.

    Attributes:
        stamps: header stamps in nanoseconds, ascending.
        topic: the topic.
    """

    def __init__(self, recording: Recording, topic: str, found: list[tuple[int, int]]):
        """Read the size from the first image that can be decoded.

        Args:
            recording: the recording.
            topic: an image topic with messages.
            found: time of recording and header stamp of each message of the topic, in their order.

        Raises:
            EgodepthError: unknown encodings, no image that can be decoded, or stamps that jump back.
        """
        self._recording, self.topic = recording, topic
        self._logged = np.array([time for time, _ in found], np.int64)
        stamps = self._checked([stamp for _, stamp in found])
        self.stamps, self._places = np.unique(stamps, return_index=True)
        if len(self.stamps) < len(stamps):
            warnings.warn(
                f"{self._where}: {len(stamps) - len(self.stamps)} images have the header stamp of another and "
                "are left out",
                EgodepthWarning,
                stacklevel=4,
            )
        self.times = self.stamps / 1e9
        self.numbers = list(range(len(self.stamps)))
        self.names = [str(stamp) for stamp in self.stamps]
        self._lock, self._range_lock = Lock(), Lock()
        self._next = 0
        self._messages: Iterator[Message] = iter(())
        self._kept: deque[tuple[int, Message]] = deque(maxlen=NEAR)
        self._range: ValueRange | None = None
        with reading(self._where, "the images"):
            first = self._message(int(self._places[0]))
            warn_of_encoding(first, topic)
            self._codec = video_codec(first)
            self.seekable = self._codec is None and recording.indexed
            self.height = self.width = 0
            if self._codec is None:
                values = read_picture_message(first)
            else:
                _, values = next(self._decode_video(), (0, np.empty((0, 0, 3), np.uint8)))
                if not values.size:
                    raise ValueError(f"no frame of its {self._codec} stream can be decoded")
        self._deep = values.dtype != np.uint8
        self.height, self.width = values.shape[:2]

    @property
    def _where(self) -> str:
        return f"{self._recording.path}#{self.topic}"

    def _checked(self, stamps: list[int]) -> list[int]:
        """The header stamps, or the times of recording, with a warning, if the headers have none."""
        if not any(stamps):
            warnings.warn(
                f"{self._where}: the headers have no stamps; the times are those of recording",
                EgodepthWarning,
                stacklevel=5,
            )
            return self._logged.tolist()
        latest = np.maximum.accumulate(stamps)
        back = latest - np.array(stamps, np.int64)
        if back.max() > MAX_JITTER:
            place = int(np.argmax(back > MAX_JITTER))
            raise EgodepthError(
                f"{self._where}: the header stamps jump back by {back[place] / 1e9:.3g} s at image {place}, so "
                "that the order of the images is unknown; split the recording there"
            )
        return stamps

    @property
    def fingerprint(self) -> str:
        path = self._recording.path
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        states = [(p.resolve(), p.stat()) for p in files if p.is_file()]
        text = " ".join(f"{p} {s.st_size} {s.st_mtime_ns}" for p, s in states)
        levels = self.value_range if self._deep else ""
        return hashlib.sha256(f"{text} {self.topic} {levels}".encode()).hexdigest()

    @property
    def value_range(self) -> ValueRange:
        """Values of images of more than 8 bits that map to black and white, from up to 64 frames.

        Raises:
            EgodepthError: a broken image.
        """
        with self._range_lock:
            if self._range is None:
                self._range = sampled_range(self._values, len(self), self._where)
            return self._range

    def __len__(self) -> int:
        return len(self.stamps)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        if self._codec is not None:
            yield from self._video_at(indices)
            return
        for index in range(len(self)) if indices is None else indices:
            yield self._frame(index, self._values(index))

    def _frame(self, index: int, values: np.ndarray) -> Frame:
        image = self.value_range(values) if self._deep else values
        return Frame(index, float(self.times[index]), image, self.names[index])

    def _values(self, index: int) -> np.ndarray:
        with reading(self._where, "the images"):
            values = read_picture_message(self._message(int(self._places[index])))
        self._check_size(index, values)
        return values

    def _check_size(self, index: int, values: np.ndarray) -> None:
        height, width = values.shape[:2]
        if self.height and (height, width) != (self.height, self.width):
            raise EgodepthError(
                f"{self._where}: the size of the images changes at image {index}, from "
                f"{self.width}x{self.height} to {width}x{height}; split the recording there"
            )

    def _message(self, place: int) -> Any:
        """The message at a place in the order of recording, decoded; for any thread."""
        with self._lock:
            for kept, message in self._kept:
                if kept == place:
                    return message.decode()
            if not self._next <= place <= self._next + NEAR:
                time = self._logged[place]
                self._next = int(np.searchsorted(self._logged, time))
                self._messages = self._recording.messages([self.topic], int(time))
            elif self._next == 0:
                self._messages = self._recording.messages([self.topic])
            while True:
                found = next(self._messages, None)
                if found is None:
                    raise ValueError("it has fewer messages than when it was opened")
                self._next += 1
                if self._next - 1 == place:
                    return found.decode()
                self._kept.append((self._next - 1, found))

    def _decode_video(self) -> Iterator[tuple[int, np.ndarray]]:
        assert self._codec is not None
        messages = self._recording.messages([self.topic])
        return decode_video(self._codec, ((i, m.decode()) for i, m in enumerate(messages)))

    def _video_at(self, indices: Iterable[int] | None) -> Iterator[Frame]:
        places = {int(place): index for index, place in enumerate(self._places)}
        wanted = None if indices is None else set(indices)
        last = (
            max(places)
            if wanted is None
            else max((int(self._places[i]) for i in wanted), default=-1)
        )
        read = 0
        with reading(self._where, "the images"):
            for place, values in self._decode_video():
                index = places.get(place)
                if index is not None and (wanted is None or index in wanted):
                    self._check_size(index, values)
                    read += 1
                    yield self._frame(index, values)
                if place >= last:
                    break
        if wanted is None and read < len(self):
            warnings.warn(
                f"{self._where}: {len(self) - read} of {len(self)} frames cannot be decoded and were left out",
                EgodepthWarning,
                stacklevel=3,
            )
