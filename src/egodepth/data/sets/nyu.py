"""NYU Depth v2: indoor scenes recorded with a hand-held Kinect.

The raw sequences (folders of r-*.ppm) are for training, the labelled images (nyu_depth_v2_labeled.mat
with splits.mat) for testing. https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import loadmat  # type: ignore[attr-defined]

from egodepth.core.errors import EgodepthError
from egodepth.core.files import find, reading
from egodepth.data.image_files import ImageFiles, require_depth
from egodepth.data.sequence import ChangedFrames, Frame, Sequence
from egodepth.data.sets.missing_items import MissingItems
from egodepth.data.sets.names import name_of_folder
from egodepth.data.sets.native_size import resized_camera
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, Undistortion

HEIGHT, WIDTH = 480, 640
INTRINSICS = (518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
"""fx, fy, cx, cy of the colour camera from the toolbox's camera_params.m, which counts pixels from 1."""
LENS = Lens("brown", (
    2.0796615318809061e-01, -5.8613825163911781e-01, 7.2231363135888329e-04,
    1.0479627195765181e-03, 4.9856986684705107e-01,
))  # fmt: skip
LABELLED, TEST_SPLIT = "nyu_depth_v2_labeled.mat", "splits.mat"
TEST_NAME = "labelled-test"


def nyu_camera() -> Camera:
    """Camera of the colour images, with pixels counted from 0."""
    fx, fy, cx, cy = INTRINSICS
    return Camera.from_parameters(fx, fy, cx - 1, cy - 1, HEIGHT, WIDTH)


class LabelledImages:
    """Test images in the labelled .mat file, read on demand."""

    seekable = False
    height, width = HEIGHT, WIDTH

    def __init__(self, path: Path, places: list[int]):
        """Select images by their places in the file, ascending and counted from 0."""
        self.path, self.places = path, places

    @property
    def fingerprint(self) -> str:
        state = self.path.stat()
        return f"{self.path.resolve()} {state.st_size} {state.st_mtime_ns} {self.places}"

    @property
    def numbers(self) -> list[int]:
        """Places in the file, counted from 0."""
        return self.places

    @property
    def times(self) -> None:
        """None, since these are single images."""
        return

    def __len__(self) -> int:
        return len(self.places)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        for index in range(len(self)) if indices is None else indices:
            place = self.places[index]
            # MATLAB's order: the image is stored as (3, W, H).
            image = _read_array(self.path, "images", place).transpose(2, 1, 0)
            yield Frame(place, None, np.ascontiguousarray(image))

    def depth(self, index: int) -> np.ndarray:
        """Depth (480, 640) float32 in metres with holes filled, as used by all published evaluations."""
        depth = _read_array(self.path, "depths", self.places[index])
        return np.ascontiguousarray(depth.T, dtype=np.float32)


def read_nyu(root: Path) -> list[Sequence]:
    """Read the raw sequences below ``root``, undistorted, and the 654 labelled test images.

    Raises:
        EgodepthError: neither of them, or a broken .mat file.
    """
    missing = MissingItems("nyu", root)
    folders = sorted({path.parent for path in find(root, "r-*.ppm")})
    sequences = [_read_raw(folder, root) for folder in folders]
    labelled = next(iter(find(root, LABELLED)), None)
    if labelled is not None:
        sequences.append(_read_labelled(labelled))
    else:
        missing.add("files for testing", LABELLED)
    if not sequences:
        raise EgodepthError(
            f"no NYU Depth v2 under {root}: expected raw sequences like "
            f"kitchen_0001a/r-1294886360.778717-1996599374.ppm, or {LABELLED} with {TEST_SPLIT}"
        )
    missing.warn()
    return sequences


def _read_raw(folder: Path, root: Path) -> Sequence:
    paths = sorted(folder.glob("r-*.ppm"), key=_time)
    times = np.array([_time(path) for path in paths])
    frames = ImageFiles(paths, times=times)
    # The labelled images were undistorted with unchanged intrinsics; use the same camera for both.
    camera = resized_camera(nyu_camera(), frames, folder)
    change = Undistortion(camera, LENS, camera)
    return Sequence(
        name=name_of_folder(folder, root),
        frames=ChangedFrames(frames, change),
        camera=change.camera,
    )


def _time(path: Path) -> float:
    try:
        return float(path.name.split("-")[1])
    except (IndexError, ValueError) as error:
        raise EgodepthError(
            f"{path}: images of NYU's raw sequences are named r-SECONDS-NUMBER.ppm"
        ) from error


def _read_labelled(path: Path) -> Sequence:
    split = path.parent / TEST_SPLIT
    if not split.exists():
        raise EgodepthError(
            f"{path} needs {TEST_SPLIT} beside it, which lists its 654 test images; it is on the "
            "page of the data set"
        )
    with reading(split, "the list of test images"):
        numbers = loadmat(split)["testNdxs"].astype(int).ravel()
        if not numbers.size:
            raise ValueError("it names no image")
    count = _count(path)
    if numbers.min() < 1 or numbers.max() > count:
        raise EgodepthError(
            f"{split} names the images {numbers.min()} to {numbers.max()} of {path}, which has {count}"
        )
    frames = LabelledImages(path, sorted(int(n) - 1 for n in numbers))
    depth = {index: partial(frames.depth, index) for index in range(len(frames))}
    return Sequence(TEST_NAME, frames, nyu_camera(), depth=depth)


SHAPES = {"images": (3, WIDTH, HEIGHT), "depths": (WIDTH, HEIGHT)}
"""Shapes of one entry of the arrays in the labelled file, in MATLAB's order."""


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    what = "the labelled file (2.8 GB, MATLAB 7.3)"
    with reading(path, what), h5py.File(path, "r") as file:  # type: ignore[attr-defined]
        yield file


def _count(path: Path) -> int:
    with _opened(path) as file:
        counts = {int(file[name].shape[0]) for name in SHAPES}
        if len(counts) != 1:
            raise ValueError(f"its images and depths differ in number: {sorted(counts)}")
        return counts.pop()


def _read_array(path: Path, name: str, place: int) -> np.ndarray:
    with _opened(path) as file:
        values = np.asarray(file[name][place])
        if values.shape != SHAPES[name] or (name == "images" and values.dtype != np.uint8):
            raise ValueError(f"entry {place} of {name} is {values.shape} {values.dtype}")
        return values if name == "images" else require_depth(values)
