"""The common form of all footage: frames with their camera, poses and ground-truth depth."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal, NamedTuple, Protocol, SupportsFloat

import numpy as np

from egodepth.core.errors import EgodepthError, require_positive
from egodepth.geometry.camera import Camera
from egodepth.geometry.limits import require_fov
from egodepth.geometry.plausible import camera_problem, impossible_view, pose_problem


class Frame(NamedTuple):
    """One image of a sequence.

    Attributes:
        number: frame number in the data set; consecutive frames differ by one.
        time: in seconds; None if unknown, as in a folder of images.
        image: (H, W, 3) uint8, RGB.
        name: name of the image file without its suffix; empty if there is no such file.
    """

    number: int
    time: float | None
    image: np.ndarray
    name: str = ""

    @property
    def stem(self) -> str:
        """File name, without suffix, of outputs for this frame; see :func:`stem_of`."""
        return stem_of(self.name or str(self.number))


def stem_of(name: str) -> str:
    """File name, without suffix, of outputs for a frame: its name; a number is padded to ten digits."""
    return f"{int(name):010d}" if name.isdecimal() else name


class Frames(Protocol):
    """Frames of one size in temporal order.

    Attributes:
        height, width: size in pixels.
        seekable: whether frames can be read in any order, and from several threads.
        fingerprint: changes whenever the frames change; part of the cache key.
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
        """(N,) seconds; None if unknown."""
        ...

    def __len__(self) -> int:
        """Number of frames; for a video, as listed by its container, including broken ones."""
        ...

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        """Yield the frames at the given positions, which must ascend, or all frames.

        Broken frames of a video are skipped, which shows in the frame numbers.

        Raises:
            EgodepthError: a broken image file, or a frame of another size.
        """
        ...


def frame_names(frames: Frames) -> list[str]:
    """Names of the frames, see :class:`Frame`; empty strings for frames without image files."""
    names: list[str] = getattr(frames, "names", [""] * len(frames))
    return names


def frame_stamps(frames: Frames) -> dict[int, int] | None:
    """Times of the frames in nanoseconds by frame number: header stamps of a recording to the last digit; None
    if there are no times."""
    stamps = getattr(frames, "stamps", None)
    if stamps is None and frames.times is not None:
        stamps = np.rint(np.asarray(frames.times) * 1e9).astype(np.int64)
    return None if stamps is None else dict(zip(frames.numbers, map(int, stamps), strict=True))


CameraFrom = Literal["given", "metadata", "fov", "guess", "estimate"]


@dataclass(frozen=True)
class Sequence:
    """Footage from one camera. Whatever reader makes it, its camera and poses are checked here.

    Attributes:
        name: unique within its data set.
        frames: the images.
        camera: intrinsics at the size of the frames; None if unknown.
        camera_from: source of the camera: a camera file or the data set (``given``), metadata of the images
            or video (``metadata``), a field of view set by the user (``fov``), a default (``guess``), or
            self-calibration (``estimate``).
        camera_note: format and path of the camera file, in words; empty without one.
        world_from_camera: (N, 4, 4) float64, one pose per frame, NaN for frames without a pose; None if
            there are no poses.
        metric_poses: whether the poses are in metres. Those of the user's own footage are in an unknown unit
            unless its camera.yaml says otherwise.
        depth: ground truth by position in ``frames``: functions that read (H, W) float32 in metres,
            0 where unknown. It covers the same view as the frame, but may have another resolution.
        improved_depth: a better ground truth, for data sets that have two (KITTI raw).
        lidar_forward: depth as published evaluations on KITTI raw compute it: distances of the same
            points along the LiDAR's forward axis, about 0.27 m more than the camera's z.
        opened: whether a run has set its camera (``Run.open``).
        place: absolute path or address of the user's own footage, see :func:`with_unique_names`; empty for
            data sets.
        ground: smallest and largest y of level ground in world coordinates; None if unknown.
        camera_name: ``left`` or ``right`` for stereo rigs.
        rig: name shared by the sequences of one rig, as are their frame numbers; empty for a single camera.
        rig_from_camera: (4, 4) float64 in metres, pose of the camera in its rig.

    Raises:
        EgodepthError: a camera that cannot be, a number of poses other than that of the frames, or a pose that
            is neither NaN nor a rigid motion.
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

    def __post_init__(self) -> None:
        if self.camera is not None:
            fx, fy, cx, cy = self.camera.focal_and_centre.tolist()
            height, width = self.camera.height, self.camera.width
            # Crops may lie beside their principal point.
            problem = camera_problem(fx, fy, cx, cy, height, width, margin=1.0)
            if problem:
                raise EgodepthError(f"the camera of {self.name} {problem}")
        rig = pose_problem(np.asarray(self.rig_from_camera)[None])
        if rig:
            raise EgodepthError(f"the pose of {self.name} in its rig is no rigid motion: {rig[1]}")
        if self.world_from_camera is not None:
            self._check_poses(self.world_from_camera)

    def _check_poses(self, poses: np.ndarray) -> None:
        if poses.shape != (len(self.frames), 4, 4):
            raise EgodepthError(
                f"{self.name} has poses of the shape {poses.shape} for {len(self.frames)} frames; it needs "
                "(frames, 4, 4), NaN for frames without a pose"
            )
        known = ~np.isnan(poses).any((1, 2))
        problem = pose_problem(poses[known])
        if problem:
            frame = self.frames.numbers[np.flatnonzero(known)[problem[0]]]
            raise EgodepthError(
                f"the pose of frame {frame} of {self.name} is no rigid motion: {problem[1]}; correct it, or "
                "write nan where a pose is unknown"
            )

    def ground_truth(
        self, kind: Literal["depth", "improved", "lidar_forward"]
    ) -> Mapping[int, Callable[[], np.ndarray]]:
        """One of ``depth``, ``improved_depth`` and ``lidar_forward``."""
        truths = {"improved": self.improved_depth, "lidar_forward": self.lidar_forward}
        return truths.get(kind, self.depth)

    def with_fov(self, degrees: float) -> "Sequence":
        """A copy with a camera of this horizontal field of view; unchanged if there already is a camera.

        Raises:
            EgodepthError: a horizontal or vertical field of view that is not between NARROWEST_FOV and
                WIDEST_FOV.
        """
        require_fov(degrees)
        if self.camera is not None:
            return self
        size = (self.frames.height, self.frames.width)
        camera = Camera.from_field_of_view(float(degrees), *size)
        self._check_view(camera, f"a horizontal field of view of {degrees:g} degrees")
        return replace(self, camera=camera, camera_from="fov")

    def with_focal(self, focal: float, camera_from: CameraFrom = "given") -> "Sequence":
        """A copy with a camera of this focal length in pixels, square pixels and a centred principal point.

        Raises:
            EgodepthError: a focal length that is not above 0, or a field of view beyond WIDEST_FOV.
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
        impossible = impossible_view(fx, fy, camera.height, camera.width)
        if impossible:
            raise EgodepthError(
                f"{self.name}: {given} gives {impossible}; focal lengths are in pixels of the frames, "
                f"{camera.width}x{camera.height}"
            )

    def with_fps(self, fps: float) -> "Sequence":
        """A copy at ``fps`` frames per second, whatever times its frames have.

        Raises:
            EgodepthError: not a number above zero.
        """
        require_positive(fps, "frames per second")
        return replace(self, frames=TimedFrames(self.frames, fps))

    @property
    def camera_guessed(self) -> bool:
        """Whether the camera is a guess or based on a field of view, not calibrated."""
        return self.camera_from in ("fov", "guess")


def with_unique_names(sequences: list[Sequence]) -> list[Sequence]:
    """Copies of the sequences under unique names.

    Own footage that shares its name is named by the shortest distinct end of its path, such as ``a/frames``
    and ``b/frames``. Names from data sets stay.
    """
    names = unique_names([s.name for s in sequences], [s.place for s in sequences])
    return [replace(sequence, name=name) for sequence, name in zip(sequences, names, strict=True)]


def unique_names(names: list[str], places: list[str]) -> list[str]:
    """Names of footage, in which those that several share are replaced, see :func:`with_unique_names`.

    Args:
        names: one per piece of footage.
        places: absolute path or address of each; where it is empty, the name stays.
    """
    counts = Counter(names)
    tails = [PurePosixPath(place).parts[::-1] for place in places]
    ends = Counter(tail[:n] for tail in set(tails) for n in range(1, len(tail) + 1))
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name, place, tail in zip(names, places, tails, strict=True):
        if counts[name] > 1 and place:
            length = next((n for n in range(1, len(tail)) if ends[tail[:n]] == 1), len(tail))
            again = seen[place]  # the very same footage, named twice
            name = "/".join(tail[:length][::-1]) + (f"-{again + 1}" if again else "")
        seen[place] += 1
        found.append(name)
    return found


def time_per_frame(frames: Frames) -> float | None:
    """Median time between consecutive frame numbers in seconds; None without times or for a single frame."""
    if frames.times is None:
        return None
    steps = np.diff(frames.times) / np.maximum(np.diff(frames.numbers), 1)
    return float(np.median(steps)) if len(steps) and np.median(steps) > 0 else None


def place_of_number(frames: Frames) -> dict[int, int]:
    """The place of each frame among the frames, by its number."""
    return {number: place for place, number in enumerate(frames.numbers)}


def read_numbered(frames: Frames, numbers: Iterable[int]) -> Iterator[Frame]:
    """Yield frames by their numbers, which must ascend; broken frames of a video are skipped.

    Raises:
        EgodepthError: see :meth:`Frames.at`.
    """
    places = place_of_number(frames)
    return frames.at([places[int(number)] for number in numbers])


class ImageChange(Protocol):
    """An operation on images that keeps the camera's pose: a crop or an undistortion.

    Attributes:
        camera: intrinsics of the changed images.
        key: describes the change in the frames' fingerprint.
    """

    camera: Camera
    key: str

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the changed image, (h, w, 3) uint8."""
        ...


class ChangedFrames:
    """Frames to which a change is applied as they are read.

    Attributes:
        original: the frames before it.
        change: the change.
    """

    def __init__(self, frames: Frames, change: ImageChange):
        self.original, self.change = frames, change
        self.height, self.width = change.camera.height, change.camera.width
        self.seekable, self.names = frames.seekable, frame_names(frames)
        self.stamps = getattr(frames, "stamps", None)

    @property
    def fingerprint(self) -> str:
        return f"{self.original.fingerprint} {self.change.key}"

    @property
    def numbers(self) -> list[int]:
        return self.original.numbers

    @property
    def times(self) -> np.ndarray | None:
        return self.original.times

    def __len__(self) -> int:
        return len(self.original)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        for frame in self.original.at(indices):
            yield frame._replace(image=self.change(frame.image))


class TimedFrames:
    """Frames at a constant rate given by the user.

    Attributes:
        original: the frames with their own times.
    """

    def __init__(self, frames: Frames, fps: float):
        self.original = frames
        self.height, self.width = frames.height, frames.width
        self.seekable, self.numbers = frames.seekable, frames.numbers
        self.names = frame_names(frames)
        self.times = (np.array(self.numbers) - self.numbers[0]) / fps

    @property
    def fingerprint(self) -> str:
        return self.original.fingerprint

    def __len__(self) -> int:
        return len(self.original)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        times = dict(zip(self.numbers, self.times.tolist(), strict=True))
        for frame in self.original.at(indices):
            yield frame._replace(time=times[frame.number])


class Crop:
    """Crops images to a rectangle."""

    def __init__(self, camera: Camera, top: int, left: int, height: int, width: int):
        self.camera = camera.crop(top, left, height, width)
        self._rows, self._columns = slice(top, top + height), slice(left, left + width)
        self.key = f"crop {top} {left} {height} {width}"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return image[self._rows, self._columns]
