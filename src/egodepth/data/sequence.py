"""What every data set is read into."""

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Literal, NamedTuple, Protocol, SupportsFloat

import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning, require_positive
from egodepth.core.files import natural_order
from egodepth.data.pixels import (
    OWN_RANGE,
    NotFiniteError,
    ValueRange,
    is_deep,
    open_image,
    read_values,
    upright_size,
)
from egodepth.geometry.camera import WIDEST_FOV, Camera, too_wide

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
RANGE_FRAMES = 64
"""Frames, evenly spread, that the range of a sequence's values is found from."""


class Frame(NamedTuple):
    """One image of a sequence.

    Attributes:
        number: the frame's number in its data set; neighbours in time differ by one.
        time: seconds; None where nothing tells times, as of a folder of images.
        image: (H, W, 3) uint8, RGB.
        name: of its image file, without the suffix; empty where it comes from none.
    """

    number: int
    time: float | None
    image: np.ndarray
    name: str = ""

    @property
    def stem(self) -> str:
        """What files about the frame are called, see :func:`stem_of`."""
        return stem_of(self.name or str(self.number))


def stem_of(name: str) -> str:
    """What a file about a frame is called: like the frame, whose number has ten digits if that is all."""
    return f"{int(name):010d}" if name.isdecimal() else name


class Frames(Protocol):
    """Frames in order of time, all of one size.

    Attributes:
        height, width: size in pixels.
        seekable: whether any frame can be read at once, from several threads.
        fingerprint: changes whenever the frames do; names the cache.
    """

    height: int
    width: int
    seekable: bool

    @property
    def fingerprint(self) -> str: ...

    @property
    def numbers(self) -> list[int]:
        """Frame numbers, see :class:`Frame`."""
        ...

    @property
    def times(self) -> np.ndarray | None:
        """(N,) seconds; None where nothing tells them."""
        ...

    def __len__(self) -> int:
        """Number of frames; for a video, as its container tells it."""
        ...

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        """Yield the frames at ascending positions, or all of them.

        Raises:
            EgodepthError: a broken frame or one of another size, named by its path. Broken frames of a
                video are left out: look at the numbers.
        """
        ...


def frame_names(frames: Frames) -> list[str]:
    """What the image files of frames are called, see :class:`Frame`; empty words for frames of none."""
    names: list[str] = getattr(frames, "names", [""] * len(frames))
    return names


CameraFrom = Literal["given", "metadata", "fov", "guess", "estimate"]


@dataclass(frozen=True)
class Sequence:
    """Footage of one camera.

    Attributes:
        name: unique within its data set.
        frames: the images.
        camera: intrinsics at the size of the frames; None where unknown.
        camera_from: what the camera is known by: the data set or its files (``given``), what the camera
            wrote into its images or video (``metadata``), a field of view that somebody said (``fov``),
            nothing at all (``guess``), or the footage itself (``estimate``).
        camera_note: of a camera file, its format and path in words; else empty.
        world_from_camera: (N, 4, 4) float64, one pose a frame, NaN where a frame has none; None where there
            are none.
        metric_poses: whether the poses are in metres; one's own are in a unit that nobody knows, unless their
            camera.yaml says so.
        depth: ground truth by position in ``frames``: functions that read (H, W) float32 metres,
            0 where there is none. It may have another size than the frames, which shows the same.
        improved_depth: a better ground truth, where the data set has two (KITTI raw).
        lidar_forward: what published evaluations on KITTI raw take for depth: the distances of the same
            points along the LiDAR's forward axis, about 0.27 m more than the camera's z.
        opened: whether a run has given it its camera (``Run.open``).
        place: absolute path or address of one's own footage, see :func:`with_unique_names`; empty for data
            sets.
        ground: least and greatest y in the world of the poses of level ground; None where unknown.
        camera_name: ``left`` or ``right`` for stereo rigs.
        rig: sequences of one rig share this name, and their frame numbers; empty for one camera.
        rig_from_camera: (4, 4) float64 in metres, the camera's place in its rig.
    """

    name: str
    frames: Frames
    camera: Camera | None = None
    world_from_camera: np.ndarray | None = None
    depth: Mapping[int, Callable[[], np.ndarray]] = field(default_factory=dict)
    camera_name: str = "left"
    rig: str = ""
    rig_from_camera: np.ndarray = field(default_factory=lambda: np.eye(4))
    camera_from: CameraFrom = "given"
    improved_depth: Mapping[int, Callable[[], np.ndarray]] = field(default_factory=dict)
    lidar_forward: Mapping[int, Callable[[], np.ndarray]] = field(default_factory=dict)
    metric_poses: bool = True
    place: str = ""
    camera_note: str = ""
    opened: bool = False
    ground: tuple[float, float] | None = None

    def ground_truth(
        self, kind: Literal["depth", "improved", "lidar_forward"]
    ) -> Mapping[int, Callable[[], np.ndarray]]:
        """One of ``depth``, ``improved_depth`` and ``lidar_forward``."""
        truths = {"improved": self.improved_depth, "lidar_forward": self.lidar_forward}
        return truths.get(kind, self.depth)

    def with_fov(self, degrees: float) -> "Sequence":
        """The same with a camera that sees ``degrees`` from left to right edge, if it brings none.

        Raises:
            EgodepthError: not between 0 and WIDEST_FOV, or more than that from top to bottom.
        """
        is_number = isinstance(degrees, SupportsFloat) and not isinstance(degrees, bool)
        if not is_number or not 0 < float(degrees) <= WIDEST_FOV:
            raise EgodepthError(
                f"a field of view must be between 0 and {WIDEST_FOV:g} degrees, got {degrees!r}"
            )
        if self.camera is not None:
            return self
        size = (self.frames.height, self.frames.width)
        camera = Camera.from_field_of_view(float(degrees), *size)
        self._check_view(camera, f"a horizontal field of view of {degrees:g} degrees")
        return replace(self, camera=camera, camera_from="fov")

    def with_focal(self, focal: float, camera_from: CameraFrom = "given") -> "Sequence":
        """The same with a camera of square pixels, focal length in pixels, centred.

        Raises:
            EgodepthError: not above 0, or so short that it sees more than WIDEST_FOV.
        """
        is_number = isinstance(focal, SupportsFloat) and not isinstance(focal, bool)
        if not is_number or not 0 < float(focal) < math.inf:
            raise EgodepthError(f"a focal length must be above 0 pixels, got {focal!r}")
        height, width = self.frames.height, self.frames.width
        centre = ((width - 1) / 2, (height - 1) / 2)
        camera = Camera.from_parameters(float(focal), float(focal), *centre, height, width)
        self._check_view(camera, f"a focal length of {focal:g}")
        return replace(self, camera=camera, camera_from=camera_from)

    def _check_view(self, camera: Camera, given: str) -> None:
        fx, fy = camera.focal_and_centre[:2].tolist()
        wide = too_wide(fx, fy, camera.height, camera.width)
        if wide:
            raise EgodepthError(
                f"{self.name}: {given} gives {wide}; focal lengths are in pixels of the frames, "
                f"{camera.width}x{camera.height}"
            )

    def with_fps(self, fps: float) -> "Sequence":
        """The same at ``fps`` frames per second, whatever times its frames bring.

        Raises:
            EgodepthError: no number above zero.
        """
        require_positive(fps, "frames per second")
        return replace(self, frames=TimedFrames(self.frames, fps))

    @property
    def camera_guessed(self) -> bool:
        """Whether nobody measured the camera."""
        return self.camera_from in ("fov", "guess")


def with_unique_names(sequences: list[Sequence]) -> list[Sequence]:
    """The same, each under a name of its own: footage whose name is another's too is named by the end of its
    path, as long as it must be, so that ``a/frames`` and ``b/frames`` stay apart. Names of data sets stay."""
    counts = Counter(s.name for s in sequences)
    tails = [PurePosixPath(s.place).parts[::-1] for s in sequences]
    named: list[Sequence] = []
    for sequence, tail in zip(sequences, tails, strict=True):
        name = sequence.name
        if counts[name] > 1 and sequence.place:
            others = [other for other in tails if other != tail]
            length = next(
                (n for n in range(1, len(tail)) if all(o[:n] != tail[:n] for o in others)),
                len(tail),
            )
            name = "/".join(tail[:length][::-1])
            again = sum(s.place == sequence.place for s in named)
            name += f"-{again + 1}" if again else ""  # the very same footage, named twice
        named.append(replace(sequence, name=name))
    return named


def time_per_frame(frames: Frames) -> float | None:
    """Median seconds from one frame number to the next; None without times, and for a single frame."""
    if frames.times is None:
        return None
    steps = np.diff(frames.times) / np.maximum(np.diff(frames.numbers), 1)
    return float(np.median(steps)) if len(steps) and np.median(steps) > 0 else None


def read_numbered(frames: Frames, numbers: Iterable[int]) -> Iterator[Frame]:
    """Frames by their numbers, ascending; broken frames of a video are missing.

    Raises:
        EgodepthError: see :meth:`Frames.at`.
    """
    places = {number: i for i, number in enumerate(frames.numbers)}
    return frames.at([places[int(number)] for number in numbers])


class ImageChange(Protocol):
    """A change of images that does not change their camera's frame: a crop, or a lens undone.

    Attributes:
        camera: of the changed images.
        key: names it in the fingerprint of the cache.
    """

    camera: Camera
    key: str

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The changed image (h, w, 3) uint8."""
        ...


class ChangedFrames:
    """Frames that are changed as they are read.

    Attributes:
        change: what is done to each.
    """

    def __init__(self, frames: Frames, change: ImageChange):
        self._frames, self.change = frames, change
        self.height, self.width = change.camera.height, change.camera.width
        self.seekable, self.names = frames.seekable, frame_names(frames)

    @property
    def fingerprint(self) -> str:
        return f"{self._frames.fingerprint} {self.change.key}"

    @property
    def numbers(self) -> list[int]:
        return self._frames.numbers

    @property
    def times(self) -> np.ndarray | None:
        return self._frames.times

    def __len__(self) -> int:
        return len(self._frames)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        for frame in self._frames.at(indices):
            yield frame._replace(image=self.change(frame.image))


class TimedFrames:
    """Frames at a constant rate that somebody said."""

    def __init__(self, frames: Frames, fps: float):
        self._frames = frames
        self.height, self.width = frames.height, frames.width
        self.seekable, self.numbers = frames.seekable, frames.numbers
        self.names = frame_names(frames)
        self.times = (np.array(self.numbers) - self.numbers[0]) / fps

    @property
    def fingerprint(self) -> str:
        return self._frames.fingerprint

    def __len__(self) -> int:
        return len(self._frames)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        times = dict(zip(self.numbers, self.times.tolist(), strict=True))
        for frame in self._frames.at(indices):
            yield frame._replace(time=times[frame.number])


class Crop:
    """A window of the images."""

    def __init__(self, camera: Camera, top: int, left: int, height: int, width: int):
        self.camera = camera.crop(top, left, height, width)
        self._rows, self._columns = slice(top, top + height), slice(left, left + width)
        self.key = f"crop {top} {left} {height} {width}"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return image[self._rows, self._columns]


class ImageFiles:
    """Frames from image files, upright as their EXIF data have it; grey ones are repeated to three channels.

    Images of more than 8 bits per channel are scaled from the range of the whole sequence's values to 8
    bits, all by the same numbers, which a warning tells.
    """

    seekable = True

    def __init__(
        self, paths: list[Path], numbers: list[int] | None = None, times: np.ndarray | None = None
    ):
        """Take the paths in order of time; the size is read from the first.

        Args:
            paths: at least one image file.
            numbers: frame numbers; by default 0, 1, 2 and so on.
            times: seconds; None where nothing tells them.

        Raises:
            EgodepthError: no paths, or a first image that can't be read.
        """
        if not paths:
            raise EgodepthError("a sequence needs at least one image, got none")
        self.paths = paths
        self.numbers = numbers if numbers is not None else list(range(len(paths)))
        self.times = times
        names = [path.stem for path in paths]
        apart = len({stem_of(name) for name in names}) == len(names)
        self.names = names if apart else [""] * len(names)
        with open_image(paths[0]) as image:
            self._deep = is_deep(image)
            try:
                self.height, self.width = upright_size(image)
            except (OSError, SyntaxError, ValueError) as error:
                raise _broken(paths[0], error) from error
        self._range: ValueRange | None = None
        self._lock = Lock()

    @property
    def fingerprint(self) -> str:
        states = ((p, p.stat()) for p in self.paths)
        text = "\n".join(f"{p.resolve()} {s.st_size} {s.st_mtime_ns}" for p, s in states)
        levels = self.value_range if self._deep else ""
        return hashlib.sha256(f"{text} upright {levels}".encode()).hexdigest()

    @property
    def value_range(self) -> ValueRange:
        """Values of deep images that become black and white, found from up to 64 frames.

        Raises:
            EgodepthError: a broken image, or values that are not finite.
        """
        with self._lock:
            if self._range is None:
                places = np.linspace(0, len(self) - 1, min(len(self), RANGE_FRAMES)).astype(int)
                where = self.paths[0] if len(self) == 1 else self.paths[0].parent
                try:
                    self._range = ValueRange.of(self._values(int(i)) for i in np.unique(places))
                except NotFiniteError as error:
                    raise EgodepthError(f"{where} {error}") from error
                warnings.warn(
                    f"{where}: values of more than 8 bits, of which {self._range} become black to white"
                    + (f", the range {OWN_RANGE}" if len(self) == 1 else " in all frames"),
                    EgodepthWarning,
                    stacklevel=2,
                )
            return self._range

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        for index in range(len(self)) if indices is None else indices:
            time = None if self.times is None else float(self.times[index])
            yield Frame(self.numbers[index], time, self._read(index), self.names[index])

    def _read(self, index: int) -> np.ndarray:
        values = self._values(index)
        return self.value_range(values) if self._deep else values

    def _values(self, index: int) -> np.ndarray:
        path, first = self.paths[index], self.paths[0]
        with open_image(path) as image:
            try:
                deep, values = is_deep(image), read_values(image)
            except (OSError, SyntaxError, ValueError) as error:
                raise _broken(path, error) from error
        height, width = values.shape[:2]
        if (height, width) != (self.height, self.width):
            raise EgodepthError(
                f"frames of different sizes: {path} is {width}x{height}, "
                f"{first} is {self.width}x{self.height}; make them one size"
            )
        if deep != self._deep:
            kinds = [f"{p} has {'more than' if d else ''} 8 bits per channel".replace("  ", " ")
                     for p, d in ((path, deep), (first, self._deep))]  # fmt: skip
            raise EgodepthError(
                f"frames of different kinds: {', '.join(kinds)}; save them all alike"
            )
        return values


def _broken(path: Path, error: Exception) -> EgodepthError:
    return EgodepthError(f"broken image {path}: {error}; replace or remove it")


def read_depth_png(path: Path, units_a_metre: float, unknown: tuple[int, ...] = (0,)) -> np.ndarray:
    """Depth (H, W) float32 in metres, 0 where unknown, of a 16-bit image.

    Raises:
        EgodepthError: a missing or broken file, or one with several channels.
    """
    with open_image(path) as image:
        try:
            values = np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise EgodepthError(f"broken depth map {path}: {error}; replace it") from error
    if values.ndim != 2:
        raise EgodepthError(f"broken depth map {path}: it has {values.shape[2]} channels, not one")
    return np.where(np.isin(values, unknown), 0, values / units_a_metre).astype(np.float32)


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder in natural order of name, hidden ones left out; empty where there are none."""
    if not folder.is_dir():
        return []
    return natural_order(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
