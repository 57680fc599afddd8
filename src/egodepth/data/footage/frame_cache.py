"""Caches resized frames as memory-mapped arrays, so that training never waits for decoding."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.core.files import reading
from egodepth.data.footage.cache import cache_file, read_or_make
from egodepth.data.sequence import Frames, Sequence


def default_cache_folder() -> Path:
    """Default cache folder: ``$XDG_CACHE_HOME/egodepth/frames``, or ``~/.cache/egodepth/frames``."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    with reading("~", "the home folder"):
        return (Path(chosen) if chosen else Path.home() / ".cache") / "egodepth" / "frames"


def cached_frames(
    sequence: Sequence,
    height: int,
    width: int,
    folder: Path,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a sequence resized with an anti-aliasing filter and cached on first use.

    The cache is keyed by the names, sizes and modification times of the files, and by the target size.

    Args:
        sequence: the footage.
        height, width: target size.
        folder: cache folder.

    Returns:
        (N, 3, height, width) uint8, memory-mapped, and the N frame numbers.

    Raises:
        EgodepthError: a broken frame (nothing is cached then), or a folder that can't be written.
    """
    key = f"{sequence.frames.fingerprint} {height}x{width}"
    path = cache_file(folder, key, "-frames.npy")

    def make(partial: Path) -> None:
        _write_frames(partial, sequence, height, width)

    def read() -> tuple[np.ndarray, np.ndarray]:
        frames = np.load(path, mmap_mode="r")
        with path.open("rb") as file:
            file.seek(frames.offset + frames.nbytes)
            return frames, np.load(file)

    return read_or_make(path, make, read)


def resize_frame(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 to (height, width, 3) with an anti-aliased Lanczos filter."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def _write_frames(path: Path, sequence: Sequence, height: int, width: int) -> None:
    """Stream frames into an .npy file, writing its fixed-length header last, and their numbers after them."""
    numbers: list[int] = []
    with path.open("wb") as file:
        _write_header(file, 0, height, width)
        frames = _resized(sequence.frames, height, width)
        for number, resized in progress.track(
            frames, f"reading {sequence.name}", len(sequence.frames)
        ):
            file.write(resized.transpose(2, 0, 1).tobytes())
            numbers.append(number)
        if not numbers:
            raise EgodepthError(f"{sequence.name} holds no frames")
        np.save(file, np.array(numbers))
        file.seek(0)
        _write_header(file, len(numbers), height, width)


def _write_header(file: object, count: int, height: int, width: int) -> None:
    # NumPy pads the header so that a longer first dimension still fits in place.
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, height, width)}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]


def _resized(frames: Frames, height: int, width: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield frame numbers and resized images; seekable frames are decoded by one thread per core."""
    if not frames.seekable:
        for frame in frames.at():
            yield frame.number, resize_frame(frame.image, height, width)
        return

    def work(index: int) -> tuple[int, np.ndarray]:
        frame = next(frames.at([index]))
        return frame.number, resize_frame(frame.image, height, width)

    workers = os.cpu_count() or 1
    pending: deque[Future[tuple[int, np.ndarray]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index in range(len(frames)):
                pending.append(pool.submit(work, index))
                if len(pending) > 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
