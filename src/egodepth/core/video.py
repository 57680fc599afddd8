"""Writing MP4 videos."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.error import FFmpegError

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path


class VideoWriter:
    """An H.264 video that appears under its name when it is complete.

    A context manager; an error inside leaves no file.
    """

    def __init__(self, path: Path, rate: int = 10):
        self.path, self.rate = path, rate
        self._container: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._partial = self._stack.enter_context(atomic_path(self.path))
        return self

    def write(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8; odd sides lose their last row or column.

        Raises:
            EgodepthError: the file can't be written.
        """
        even = np.ascontiguousarray(image[: image.shape[0] & ~1, : image.shape[1] & ~1])
        try:
            if self._container is None:
                self._container = av.open(str(self._partial), "w", format="mp4")
                codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
                self._stream = self._container.add_stream(codec, rate=Fraction(self.rate))
                self._stream.height, self._stream.width = even.shape[:2]
                self._stream.pix_fmt = "yuv420p"
                if codec == "libx264":
                    self._stream.options = {"crf": "20", "preset": "veryfast"}
            for packet in self._stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")):
                self._container.mux(packet)
        except FFmpegError as error:
            raise EgodepthError(f"cannot write {self.path}: {error}") from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._container is not None:
                if error is None:
                    for packet in self._stream.encode():
                        self._container.mux(packet)
                self._container.close()
        except FFmpegError as failed:
            if error is None:
                error = EgodepthError(f"cannot write {self.path}: {failed}")
                self._stack.__exit__(type(error), error, None)
                raise error from failed
        self._stack.__exit__(kind, error, trace)
