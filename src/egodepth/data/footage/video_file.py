"""Reads the frames of any video that FFmpeg can decode."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import reading
from egodepth.core.video import video_address
from egodepth.data.footage.camera_metadata import container_focal
from egodepth.data.sequence import Frame


@contextmanager
def open_video(source: Path | str) -> Iterator[InputContainer]:
    """Open a video file or address; it has at least one video stream.

    Raises:
        EgodepthError: not a video, or anything that is raised while it is read.
    """
    with reading(source, "the video"):
        address = video_address(source)
        with av.open(address, metadata_errors="replace") as container:
            if not container.streams.video:
                raise ValueError("it has no video stream")
            yield container


class VideoFile:
    """Frames of the first video stream of a file or address, decoded in order.

    Frames are rotated upright by the container's rotation flag and resampled to square pixels. Times are
    those of the container, so a variable frame rate is fine; a raw stream (.h264) has no times. Broken frames
    are skipped, with a warning once the whole video has been read. Of interlaced frames only one field is
    used, since the other was exposed at another time. A change of the frame size is an error.
    """

    seekable = False
    focal: float | None
    """Focal length in pixels from the container's metadata; None if unknown."""

    def __init__(self, path: Path | str):
        """Scan the packets and decode the first frame to find the size.

        Args:
            path: a file, or an address with ``://``.

        Raises:
            EgodepthError: not a video, or one without frames.
        """
        self.path = path
        self.height = self.width = 0
        self._pixel_aspect = 1.0
        self._stamps, self._count, unit, metadata = self._scan()
        self._times = unit * (np.array(self._stamps) - self._stamps[0]) if self._stamps else None
        first = next(self.at(), None)
        if first is None:
            raise EgodepthError(f"the video {path} holds no frames that can be decoded")
        self.height, self.width = first.image.shape[:2]
        self.focal = container_focal(metadata, self.height, self.width)

    @property
    def fingerprint(self) -> str:
        text = f"{self.path} {len(self)} {self._stamps[-1:]}"
        if isinstance(self.path, Path):
            state = self.path.stat()
            text = f"{self.path.resolve()} {state.st_size} {state.st_mtime_ns}"
        stretched = f" {self._pixel_aspect}" if self._pixel_aspect != 1 else ""
        return hashlib.sha256(f"{text} upright{stretched}".encode()).hexdigest()

    @property
    def numbers(self) -> list[int]:
        return list(range(len(self)))

    @property
    def times(self) -> np.ndarray | None:
        return self._times

    def __len__(self) -> int:
        return self._count

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        wanted = None if indices is None else set(indices)
        if wanted is not None and not wanted:
            return
        last = len(self) if wanted is None else max(wanted)
        read = interlaced = 0
        for index, frame in self._decode():
            if index > last:
                return
            read, interlaced = read + 1, interlaced + bool(frame.interlaced_frame)
            if wanted is None or index in wanted:
                time = None if self._times is None else float(self._times[index])
                yield Frame(index, time, self._image(index, frame))
            if index == last:
                return
        if wanted is None:
            self._warn(read, interlaced)

    def _image(self, index: int, frame: av.VideoFrame) -> np.ndarray:
        image = upright(frame, self._pixel_aspect)
        height, width = image.shape[:2]
        if self.height and (height, width) != (self.height, self.width):
            raise EgodepthError(
                f"the video {self.path}: the size of the frames changes at frame {index}, from "
                f"{self.width}x{self.height} to {width}x{height}; cut it there, or scale it to one size"
            )
        return image

    def _warn(self, read: int, interlaced: int) -> None:
        found = []
        if read < len(self):
            found.append(f"{len(self) - read} of {len(self)} frames are broken and were left out")
        if interlaced:
            found.append(f"{interlaced} frames are interlaced, of which one field was taken")
        if found:
            warnings.warn(
                f"the video {self.path}: {'; '.join(found)}", EgodepthWarning, stacklevel=3
            )

    def _decode(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield frame numbers and intact frames, skipping those that fail to decode."""
        places = {stamp: i for i, stamp in enumerate(self._stamps)}
        last = -1
        with open_video(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                    frames = [] if packet is None else packet.decode()
                except EndOfFile:
                    return
                except FFmpegError:
                    continue
                if packet is None:
                    return
                for frame in frames:
                    # Without time stamps, count the frames.
                    index = places.get(frame.pts or 0, -1) if places else last + 1
                    if frame.is_corrupt or not last < index < len(self):
                        continue
                    last = index
                    yield index, frame

    def _scan(self) -> tuple[list[int], int, float, dict[str, str]]:
        """Scan the packets: sorted time stamps of all frames (empty without any), number of frames, seconds
        per unit of a time stamp, and metadata."""
        stamps: list[int] = []
        count, complete = 0, True
        with open_video(self.path) as container:
            stream = container.streams.video[0]
            self._pixel_aspect = pixel_aspect(stream)
            unit = float(stream.time_base or 0)
            metadata = {**container.metadata, **stream.metadata}
            try:
                for packet in container.demux(stream):
                    if not packet.size or packet.is_discard:
                        continue
                    count += 1
                    if packet.pts is None:
                        complete = False
                    else:
                        stamps.append(packet.pts)
            except FFmpegError:
                pass  # a truncated file: use what is there
        ordered = sorted(set(stamps)) if complete and unit else []
        return ordered, len(ordered) or count, unit, metadata


MAX_SAMPLE_ASPECT = 10.0
"""Largest ratio of a pixel's sides; a damaged file may claim any, and so an image of any size."""


def pixel_aspect(stream: Any) -> float:
    """Pixel aspect ratio (width over height) of a video stream, 1 if it is not specified.

    Raises:
        ValueError: a ratio that no camera has.
    """
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / MAX_SAMPLE_ASPECT <= aspect <= MAX_SAMPLE_ASPECT:
        raise ValueError(f"its pixels are {aspect:g} times as wide as high")
    return aspect


def upright(frame: av.VideoFrame, aspect: float = 1.0) -> np.ndarray:
    """The image (H, W, 3), rotated by the container's flag and enlarged to square pixels.

    The image is only ever stretched, never shrunk, so that no detail is lost.
    """
    image: np.ndarray = frame.to_ndarray(format="rgb24")
    rows, columns = image.shape[:2]
    size = (round(columns * max(aspect, 1)), round(rows / min(aspect, 1)))
    if frame.interlaced_frame:
        image = image[::2]
    if size != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
