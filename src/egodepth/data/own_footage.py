"""One's own footage: a folder of images or a video file."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import yaml
from av.error import FFmpegError

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text
from egodepth.data.sequence import IMAGE_SUFFIXES, Frame, ImageFiles, Sequence, list_images
from egodepth.geometry.camera import Camera


class VideoFile:
    """Frames of the first video stream of a file that FFmpeg reads, decoded in order."""

    def __init__(self, path: Path):
        """Open the file and decode its first frame for the size.

        Raises:
            EgodepthError: not a video, or one without frames.
        """
        self.path = path
        self._count = self._count_packets()
        first = next(self.at([0]), None)
        if first is None:
            raise EgodepthError(f"the video {path} holds no frames that can be decoded")
        self.height, self.width = first.image.shape[:2]

    @property
    def fingerprint(self) -> str:
        state = self.path.stat()
        text = f"{self.path.resolve()} {state.st_size} {state.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return self._count

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        wanted = None if indices is None else list(indices)
        try:
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                rate = float(stream.average_rate or 10)
                for index, frame in enumerate(container.decode(stream)):
                    if wanted is not None and (not wanted or index > wanted[-1]):
                        return
                    if wanted is None or index in wanted:
                        time = frame.time if frame.time is not None else index / rate
                        yield Frame(index, float(time), frame.to_ndarray(format="rgb24"))
        except (FFmpegError, IndexError) as error:
            raise self._error(error) from error

    def _count_packets(self) -> int:
        try:
            with av.open(str(self.path)) as container:
                return sum(1 for packet in container.demux(video=0) if packet.size)
        except (FFmpegError, IndexError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> EgodepthError:
        reason = "it has no video stream" if isinstance(error, IndexError) else error
        return EgodepthError(f"cannot read the video {self.path}: {reason}")


def read_footage(path: Path) -> Sequence:
    """A folder of images (ordered by name) or a video file, without a camera.

    Raises:
        EgodepthError: nothing there, an empty folder, or no video.
    """
    if path.is_dir():
        images = list_images(path)
        if not images:
            raise EgodepthError(
                f"the folder {path} holds no images ({' '.join(IMAGE_SUFFIXES)}); name a folder "
                "of frames, a video file, or a data set as KIND:ROOT"
            )
        return Sequence(path.name, ImageFiles(images))
    if not path.exists():
        raise EgodepthError(f"there is no file or folder {path}")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Sequence(path.name, ImageFiles([path]))
    return Sequence(path.name, VideoFile(path))


def read_camera(path: Path) -> Camera:
    """A camera file: YAML with fx, fy, cx, cy in pixels, and the width and height they hold for.

    Pixel centres lie at whole numbers, the top-left one at (0, 0).

    Raises:
        EgodepthError: a missing file, missing or unknown names, values that are no numbers.
    """
    names = ("fx", "fy", "cx", "cy", "width", "height")
    try:
        values = yaml.safe_load(read_text(path, "the camera file"))
    except yaml.YAMLError as error:
        raise EgodepthError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    values = values if isinstance(values, dict) else {}
    missing = [name for name in names if name not in values]
    if missing:
        raise EgodepthError(
            f"the camera file {path} lacks {', '.join(missing)}; it needs one line each for "
            f"{', '.join(names)}, like `fx: 721.5`"
        )
    try:
        fx, fy, cx, cy, width, height = (float(values[name]) for name in names)
    except (TypeError, ValueError) as error:
        raise EgodepthError(
            f"the camera file {path} holds something else than numbers: {error}"
        ) from error
    if not (np.isfinite([fx, fy, cx, cy]).all() and min(fx, fy, width, height) > 0):
        raise EgodepthError(f"the camera file {path}: fx, fy, width and height must be above 0")
    return Camera.from_parameters(fx, fy, cx, cy, int(height), int(width))
