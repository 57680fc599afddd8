"""Footage as a scene for neural rendering: images at their own size, their cameras, poses, depth and mask."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path
from egodepth.data.preparation.static_mask import choose_mask, read_mask, resize_mask
from egodepth.data.sequence import (
    ChangedFrames,
    Frames,
    Sequence,
    TimedFrames,
    read_numbered,
)
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, Undistortion
from egodepth.inference.arguments import footage_of
from egodepth.inference.export.cloud import MAX_BEND, DepthView, bend, consistent_views
from egodepth.inference.export.tracks import TrackBuilder, Tracks
from egodepth.inference.multi_view import DepthFrom, check_depth_from
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.run import Run


@dataclass(frozen=True)
class SceneSettings:
    """What is written of a scene.

    Attributes:
        every: write every n-th frame.
        depth: source of depth, see :func:`egodepth.inference.multi_view.frame_depths`.
        mask: static mask (bonnet, watermark), whose pixels have no depth and no points: ``auto`` looks for it
            in footage of 100 frames or more, ``none``, or an image file whose black pixels are masked.
        distorted: write the images as they were recorded, and their lens distortion with the camera; by
            default they are undistorted.
    """

    every: int = 5
    depth: DepthFrom = "views"
    mask: str = "auto"
    distorted: bool = False


@dataclass(frozen=True)
class SceneCamera:
    """The camera of the images of a scene.

    Attributes:
        camera: intrinsics of the images.
        lens: their distortion; None if they are undistorted.
        straight: camera of the undistorted images, in which depth is known.
    """

    camera: Camera
    lens: Lens | None
    straight: Camera

    def distort(self, pixels: np.ndarray) -> np.ndarray:
        """Map pixels (N, 2) of the undistorted images into the images."""
        return (
            pixels if self.lens is None else self.lens.distort(self.camera, pixels, self.straight)
        )

    def from_straight(self, values: np.ndarray) -> np.ndarray:
        """Resample a map (H, W) of the undistorted images by nearest neighbour; 0 beyond its edge."""
        if self.lens is None:
            return values
        return np.asarray(cv2.remap(values, *self._map, cv2.INTER_NEAREST))

    @cached_property
    def _map(self) -> tuple[np.ndarray, np.ndarray]:
        """X and y (H, W), in the undistorted image, of every pixel of the image."""
        assert self.lens is not None
        size = (self.camera.height, self.camera.width)
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
        pixels = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
        matrix, straight = (c.matrix.double().numpy() for c in (self.camera, self.straight))
        undo = cv2.fisheye.undistortPoints if self.lens.model == "fisheye" else cv2.undistortPoints
        found = undo(pixels, matrix, np.array(self.lens.coefficients), P=straight).reshape(*size, 2)
        return found[..., 0].astype(np.float32), found[..., 1].astype(np.float32)


class SceneFrame(NamedTuple):
    """A frame of a scene.

    Attributes:
        number: of the frame.
        image: (H, W, 3) uint8, at the size of the footage.
        depth: (H, W) float32 in the unit of the trajectory; 0 where views disagree, and in the mask.
        dense_depth: (H, W) float32, known everywhere but beyond the edge of an undistorted image.
        first_from_frame: (4, 4), in the unit of the trajectory.
    """

    number: int
    image: np.ndarray
    depth: np.ndarray
    dense_depth: np.ndarray
    first_from_frame: np.ndarray

    @property
    def file(self) -> str:
        """Name of its image file."""
        return f"{self.number:010d}.png"


class SceneFacts(NamedTuple):
    """What was written of a scene.

    Attributes:
        frames: number of images.
        points: number of points.
        masked: share of the images that is masked; None without a mask.
    """

    frames: int
    points: int
    masked: float | None

    def __str__(self) -> str:
        mask = "" if self.masked is None else f", {100 * self.masked:.0f} % of them masked"
        return f"{self.frames} frames with poses{mask}, and {self.points} points"


class Scene:
    """Footage as a scene: iterate over its frames once, then ask for its points.

    Attributes:
        camera: of the images.
        mask: (H, W) bool, static mask of the images; None without one.
        count: number of frames, without broken ones.
    """

    def __init__(
        self, run: Run, sequence: Sequence, trajectory: Trajectory, settings: SceneSettings
    ):
        """Look for the mask; frames are read when they are iterated over.

        Raises:
            EgodepthError: an unknown source of depth, a mask that cannot be read, or fewer than two frames.
        """
        check_depth_from(settings.depth)
        self._run, self._sequence = run, footage_of(run, sequence)
        self._trajectory, self._settings = trajectory, settings
        self.camera = _camera(self._sequence, distorted=settings.distorted)
        self._wanted = list(trajectory.by_number())[:: settings.every]
        self.count = len(self._wanted)
        if self.count < 2:
            raise EgodepthError(
                f"{sequence.name}: every {settings.every}th of {len(trajectory)} frames leaves {self.count} "
                "with a pose, too few for a scene; take more with --every"
            )
        self._static, straight = self._find_mask()
        self.mask = None if straight is None else self.camera.from_straight(straight) > 0
        self._tracks = TrackBuilder(self.count)

    def __iter__(self) -> Iterator[SceneFrame]:
        """Yield its frames in constant memory."""
        settings, factor = self._settings, np.float32(self._trajectory.unit.factor)
        frames, change = _undistorted(self._sequence)
        frames = frames if change and settings.distorted else self._sequence.frames
        images = iter(read_numbered(frames, self._wanted))
        views = consistent_views(
            self._run, self._sequence, self._trajectory, settings.every, depth=settings.depth
        )
        poses = self._trajectory.shown()
        for view in views:
            image = next(frame.image for frame in images if frame.number == view.number)
            if self._static is not None:
                view = view._replace(valid=view.valid & ~self._static)
            self._tracks.add(view)
            dense, valid = _enlarge(view, *image.shape[:2])
            dense = self.camera.from_straight(dense) * factor
            valid = self.camera.from_straight(valid)
            depth = np.where(valid > 0, dense, 0)
            yield SceneFrame(view.number, image, depth, dense, poses[view.number])

    @property
    def masked_share(self) -> float | None:
        """Share of the images that is masked; None without a mask."""
        return None if self.mask is None else float(self.mask.mean())

    def points(self) -> Tracks:
        """The points that at least two of the frames iterated over see, with their observations in pixels of
        the images.

        Raises:
            EgodepthError: there are none.
        """
        tracks = self._tracks.build(self.camera.straight, self._trajectory.unit.factor)
        if not len(tracks.points):
            raise EgodepthError(
                "no point is at the same depth in two frames; is the trajectory right?"
            )
        return tracks._replace(pixels=self.camera.distort(tracks.pixels))

    def _find_mask(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The static mask of the undistorted images at the size of the networks, (h, w) bool, and at their own,
        (H, W) uint8."""
        run, straight, mask = self._run.settings, self.camera.straight, self._settings.mask
        small = choose_mask(self._sequence, mask, run.height, run.width)
        if small is None:
            return None, None
        size = straight.height, straight.width
        large = resize_mask(small, *size) if mask == "auto" else read_mask(Path(mask), *size)
        return small, large.astype(np.uint8)


def write_picture(path: Path, values: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8, or a map (H, W) uint8 or uint16, as PNG.

    Raises:
        EgodepthError: it cannot be written.
    """
    with atomic_path(path) as partial:
        Image.fromarray(values).save(partial, compress_level=1)


def _camera(sequence: Sequence, *, distorted: bool) -> SceneCamera:
    straight, (_, change) = sequence.camera, _undistorted(sequence)
    assert straight is not None
    if distorted and change is not None:
        return SceneCamera(change.distorted_camera, change.lens, straight)
    return SceneCamera(straight, None, straight)


def _undistorted(sequence: Sequence) -> tuple[Frames, Undistortion | None]:
    """The frames before they were undistorted, and how; the frames as they are, and None, if they were not."""
    frames = sequence.frames
    if isinstance(frames, TimedFrames):
        frames = frames.original
    if isinstance(frames, ChangedFrames) and isinstance(frames.change, Undistortion):
        return frames.original, frames.change
    return frames, None


def _enlarge(view: DepthView, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth (height, width) float32 of a view, and 1 where it is valid, as uint8.

    Inverse depth is interpolated, which is exact on planes; at object borders, where that would mix two depths,
    and beside what is not valid, there is no valid depth.
    """
    inverse = cv2.resize(1 / view.depth, (width, height), interpolation=cv2.INTER_LINEAR)
    sound = (view.valid & (bend(view.depth) < MAX_BEND)).astype(np.float32)
    share = cv2.resize(sound, (width, height), interpolation=cv2.INTER_LINEAR)
    return (1 / inverse).astype(np.float32), (share > 0.999).astype(np.uint8)
