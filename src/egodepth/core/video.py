"""Writing MP4 videos, and addresses of files for FFmpeg."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.error import FFmpegError

from egodepth.core.files import atomic_path, write_error
from egodepth.core.memory import require_memory

DEFAULT_RATE = 10.0
"""Frames per second of videos made from frames without times."""
ENCODER_FRAMES = 60
"""Frames for which memory is required before x264 begins, which crashes without."""
TICKS = 60_000
"""Clock ticks per second: a multiple of all common frame rates, 29.97 included. MPEG-4 allows up to 65,535."""


def video_address(source: Path | str) -> str:
    """Address of a file or URL (with ``://``) for FFmpeg, which would take a colon in a file name for a
    protocol."""
    return str(source) if "://" in str(source) else f"file:{source}"


class VideoWriter:
    """Context manager that writes an H.264 video (MPEG-4 without libx264).

    The file appears under its name when it is complete; an error inside leaves no file.
    """

    def __init__(self, path: Path, rate: float = DEFAULT_RATE):
        """Write to ``path``; frames without times are shown at ``rate`` frames per second."""
        self.path, self.rate = path, rate
        self._container: Any = None
        self._first: float | None = None
        self._last, self._step = -1, round(TICKS / rate)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._partial = self._stack.enter_context(atomic_path(self.path))
        return self

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Add a frame (H, W, 3) uint8; sides of odd length lose their last row or column.

        The last frame is shown as long as the one before it.

        Args:
            image: the frame.
            time: time in seconds, later than that of the previous frame.

        Raises:
            EgodepthError: the file can't be written.
        """
        even = np.ascontiguousarray(image[: image.shape[0] & ~1, : image.shape[1] & ~1])
        try:
            if self._container is None:
                require_memory(ENCODER_FRAMES * even.nbytes)
                self._container = av.open(video_address(self._partial), "w", format="mp4")
                codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
                self._stream = self._container.add_stream(codec, rate=round(self.rate))
                self._stream.codec_context.time_base = Fraction(1, TICKS)
                self._stream.codec_context.max_b_frames = 0  # packets leave in order of time
                self._stream.height, self._stream.width = even.shape[:2]
                self._stream.pix_fmt = "yuv420p"
                if codec == "libx264":
                    self._stream.options = {"crf": "20", "preset": "veryfast"}
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame.pts, frame.time_base = self._ticks(time), Fraction(1, TICKS)
            self._mux(self._stream.encode(frame))
        except FFmpegError as error:
            raise write_error(self.path, _as_os_error(error)) from error

    def _ticks(self, time: float | None) -> int:
        """Return the time stamp of the next frame, in ticks."""
        place = self._last + self._step if self._last >= 0 else 0
        if time is not None:
            self._first = time if self._first is None else self._first
            place = max(round((time - self._first) * TICKS), self._last + 1)
        if self._last >= 0:
            self._step = place - self._last
        self._last = place
        return place

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._step  # only matters for the last packet
            self._container.mux(packet)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._container is not None:
                if error is None:
                    self._mux(self._stream.encode())
                self._container.close()
        except FFmpegError as failed:
            if error is None:
                error = write_error(self.path, _as_os_error(failed))
                self._stack.__exit__(type(error), error, None)
                raise error from failed
        self._stack.__exit__(kind, error, trace)


def _as_os_error(error: FFmpegError) -> OSError:
    return OSError(error.errno, reason(error))


def reason(error: FFmpegError | OSError | IndexError) -> str:
    """Return why FFmpeg failed, without the error number and the path."""
    if isinstance(error, IndexError):
        return "it has no video stream"
    return getattr(error, "strerror", None) or str(error)
