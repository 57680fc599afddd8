"""Frames of a video, whatever FFmpeg makes of it."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import EOFError as EndOfFile
from av.error import FFmpegError

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.video import reason, video_address
from egodepth.data.footage.camera_metadata import container_focal
from egodepth.data.sequence import Frame


class VideoFile:
    """Frames of the first video stream of a file or an address, decoded in order.

    Frames are upright as the container's rotation flag has it, their pixels are made square, and their times
    are those of the container, so that a variable frame rate is no matter; a bare stream (.h264) has no
    times. Broken frames are left out, and told when the whole video has been read; of interlaced frames one
    field is taken, since the other was seen at another time. A change of the frames' size is an error.
    """

    seekable = False
    focal: float | None
    """In pixels, as the container tells it."""

    def __init__(self, path: Path | str):
        """Scan the packets, and decode the first frame for the size.

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
        """Sound frames and their numbers; one that fails does not end the others."""
        places = {stamp: i for i, stamp in enumerate(self._stamps)}
        last = -1
        try:
            with av.open(video_address(self.path)) as container:
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
                        # Without time stamps frames are counted.
                        index = places.get(frame.pts or 0, -1) if places else last + 1
                        if frame.is_corrupt or not last < index < len(self):
                            continue
                        last = index
                        yield index, frame
        except (FFmpegError, IndexError) as error:
            raise self._error(error) from error

    def _scan(self) -> tuple[list[int], int, float, dict[str, str]]:
        """Time stamps of all frames in order (none where the container has none), how many frames there are,
        the seconds of a stamp's unit, and the metadata."""
        stamps: list[int] = []
        count, complete = 0, True
        try:
            with av.open(video_address(self.path)) as container:
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
                    pass  # a torn end: what is there is read
        except (FFmpegError, IndexError) as error:
            raise self._error(error) from error
        ordered = sorted(set(stamps)) if complete and unit else []
        return ordered, len(ordered) or count, unit, metadata

    def _error(self, error: FFmpegError | IndexError) -> EgodepthError:
        return EgodepthError(f"cannot read the video {self.path}: {reason(error)}")


def pixel_aspect(stream: Any) -> float:
    """Width over height of a video stream's pixels, 1 where it says nothing."""
    return float(stream.sample_aspect_ratio or 1)


def upright(frame: av.VideoFrame, aspect: float = 1.0) -> np.ndarray:
    """The image (H, W, 3), turned as the container's flag asks, and of square pixels: those of another
    :func:`pixel_aspect` are widened or heightened, so that nothing of the image is lost."""
    image: np.ndarray = frame.to_ndarray(format="rgb24")
    rows, columns = image.shape[:2]
    size = (round(columns * max(aspect, 1)), round(rows / min(aspect, 1)))
    if frame.interlaced_frame:
        image = image[::2]
    if size != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
