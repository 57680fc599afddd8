"""Reads the newest frame of a camera or stream, dropping those that arrive while one is processed."""

import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from egodepth.core.errors import EgodepthError
from egodepth.core.files import require_regular
from egodepth.core.suggestions import similar_path
from egodepth.core.video import video_address
from egodepth.data.footage.video_file import pixel_aspect, upright
from egodepth.data.sequence import Frame

PATIENCE = 10.0
"""Timeout in seconds; a source that sends no frame for this long counts as lost."""
_DEVICES = {"Linux": ("v4l2", "/dev/video{}"), "Darwin": ("avfoundation", "{}"),
            "Windows": ("dshow", "video={}")}  # fmt: skip


class LiveCamera:
    """Frames of a camera device or stream as they arrive.

    Attributes:
        seen: number of frames received so far, including dropped ones.
    """

    def __init__(self, source: str):
        """Open the source.

        Args:
            source: number of a camera device (0 is the first), path of a device file, address of a stream
                with ``://``, or a video file, which is played in real time.

        Raises:
            EgodepthError: the source can't be opened, or has no video.
        """
        self.source, self.seen = source, 0
        name, options = source, {}
        kind = None
        if source.isdigit() or source.startswith("/dev/"):
            if platform.system() not in _DEVICES:
                raise EgodepthError(
                    f"camera devices are not known on {platform.system()}; give the address of a stream"
                )
            kind, pattern = _DEVICES[platform.system()]
            name = pattern.format(source) if source.isdigit() else source
        elif "://" in source:
            options = {"timeout": str(int(PATIENCE * 1e6))}
        else:
            require_regular(source, "the video")
            name = video_address(source)
        try:
            self._container: Any = av.open(name, format=kind, options=options, timeout=PATIENCE)
            self._stream = self._container.streams.video[0]
        except (FFmpegError, IndexError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it holds no video"
            missing = isinstance(error, FileNotFoundError) and "://" not in source
            hint = (similar_path(source, Path.is_file) if missing else "") or (
                "; give the number of a camera (0 is the first), the address of a stream, or a video file"
            )
            raise EgodepthError(f"cannot open {source}: {reason}{hint}") from error
        self._paced = kind is None and "://" not in source
        self._newest: Frame | None = None
        self._fresh = False
        self._ended, self._problem = False, ""
        self._change = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame each time, until the source ends.

        Raises:
            EgodepthError: the source failed, or sent no frame for PATIENCE seconds.
        """
        while True:
            with self._change:
                found = self._change.wait_for(lambda: self._ended or self._fresh, PATIENCE)
                newest = self._newest
                fresh, self._fresh = self._fresh, False
                if newest is None or not fresh:
                    if self._ended and not self._problem:
                        return
                    reason = self._problem or f"no frame came for {PATIENCE:.0f} s"
                    raise EgodepthError(f"{self.source} broke off: {reason}" if found or newest
                                        else f"{self.source} gives nothing: {reason}")  # fmt: skip
            yield newest

    def close(self) -> None:
        """Stop reading."""
        self._ended = True

    def _read(self) -> None:
        started = time.perf_counter()
        first: float | None = None
        aspect = pixel_aspect(self._stream)
        try:
            for number, decoded in enumerate(self._container.decode(self._stream)):
                if self._ended:
                    break
                moment = float(decoded.time or 0.0)
                first = moment if first is None else first
                if self._paced:
                    time.sleep(max(0.0, moment - first - (time.perf_counter() - started)))
                frame = Frame(number, time.perf_counter() - started, upright(decoded, aspect))
                with self._change:
                    self.seen, self._newest, self._fresh = number + 1, frame, True
                    self._change.notify_all()
        except FFmpegError as error:
            self._problem = error.strerror or str(error)
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()
            self._container.close()
