"""Read depth maps of other programs, to score them like a run's."""

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.suggestions import similar_path
from egodepth.data.footage.depth_map import (
    DEPTH_KEYS,
    check_aspect,
    depth_maps,
    holds_array,
    read_array,
    read_depth_map,
    whole_numbers,
)
from egodepth.data.sequence import Frame, Sequence, frame_names, stem_of
from egodepth.data.splits import Split
from egodepth.runs.folder import RunFolder

Kind = Literal["depth", "inverse"]
LIKE_DISPARITY = re.compile(
    r"(?<![a-z])(disps?|disparit(y|ies)|inv(erse)?_?depths?|idepth)(?![a-z])", re.IGNORECASE
)
"""Pattern of file names that suggest disparity or inverse depth."""
LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)")
PNG_STEPS = 256
"""Steps per metre of 16-bit PNGs, as in KITTI; only relevant if predictions are not scaled to the truth."""
KEYS: dict[Kind, tuple[str, ...]] = {
    "depth": DEPTH_KEYS,
    "inverse": ("inverse_depth", "disp", "disparity", "inverse"),
}
"""Names of the map in .npz files with several arrays."""
CONFIDENCE_KEYS = ("confidence",)
"""Name of the standard deviation of log depth in .npz files, beside the map."""
MAX_ASPECT_DIFFERENCE = 0.1
"""Largest relative difference between the aspect ratios of map and image; networks have sizes of their own."""


@dataclass
class Predictions:
    """Depth maps from a folder (.npy, .npz, 16-bit .png, named like their images or by frame number, with one
    folder per sequence if there are several), or from one .npy or .npz file with all maps stacked in the order
    of a split.

    Attributes:
        path: of the folder or file.
        kind: whether maps contain depth, or inverse depth or disparity.
        split: gives the order of stacked maps.
        texture_size: see :class:`egodepth.inference.scoring.depth_scores.Predictor`.
    """

    path: Path
    kind: Kind = "depth"
    split: Split | None = None
    texture_size: tuple[int, int] = (192, 640)
    _maps: dict[str, dict[int, Path]] = field(default_factory=dict, init=False)
    _stack: np.ndarray | None = field(default=None, init=False)
    _places: dict[tuple[str, str, int], int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.path.exists():
            meant = RunFolder.at(self.path).similar() or similar_path(self.path)
            raise EgodepthError(f"there is no run and there are no predictions {self.path}{meant}")
        if self.path.is_file():
            self._stack = _read_stack(self.path, KEYS[self.kind])
            if self.split is None or self.split.size is None:
                raise EgodepthError(
                    f"{self.path} holds {len(self._stack)} maps in one array: --split must name the "
                    "frames in their order (a file of `folder frame side` lines)"
                )
            if self.split.size != len(self._stack):
                raise EgodepthError(
                    f"{self.path} holds {len(self._stack)} maps, the split {self.split.name} names "
                    f"{self.split.size} frames"
                )
            self._places = self.split.places()
            self._check_name(self.path)

    def numbers(self, sequence: Sequence) -> list[int]:
        """Numbers of the frames that there are maps of.

        Raises:
            EgodepthError: no maps of the sequence.
        """
        if self._stack is None:
            return sorted(self._maps_of(sequence))
        names = (sequence.rig, sequence.name, sequence.name.rsplit("/", 1)[-1])
        keys = {(name, side) for name in names for side in (sequence.camera_name, "")}
        there = {number for name, side, number in self._places if (name, side) in keys}
        return [number for number in sequence.frames.numbers if number in there]

    def check(self, sequence: Sequence, numbers: list[int], *, scaled: bool) -> None:
        """Check that there is a map for each frame and, unless maps are scaled to the truth, that their unit is
        known.

        Raises:
            EgodepthError: a map is missing, or has integers of unknown unit.
        """
        names = dict(zip(sequence.frames.numbers, frame_names(sequence.frames), strict=True))
        if self._stack is not None:
            for number in numbers:
                self._place(sequence, number)
            if not scaled and self._stack.dtype.kind in "iu":
                raise EgodepthError(_whole_numbers(self.path, str(self._stack.dtype)))
            return
        paths = [self._find(sequence, number, names[number]) for number in numbers]
        self._check_name(*paths[:1])
        if scaled:
            return
        if any(path.suffix.lower() == ".png" for path in paths):
            warnings.warn(
                f"{self.path}: nothing scales the predictions to the truth, and 16-bit PNGs are taken for "
                f"{PNG_STEPS} steps per metre, whatever depth_steps a camera.yaml names for the truth",
                EgodepthWarning,
                stacklevel=3,
            )
        for path in paths:
            if path.suffix.lower() != ".png" and (kind := whole_numbers(path, KEYS[self.kind])):
                raise EgodepthError(_whole_numbers(path, kind))

    def predict(self, sequence: Sequence, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """Depth (H, W) of a frame, resized bilinearly in inverse depth.

        Raises:
            EgodepthError: the map is missing, broken, or differs in aspect ratio from the image.
        """
        if self._stack is None:
            path = self._find(sequence, frame.number, frame.name)
            values = read_depth_map(path, PNG_STEPS, KEYS[self.kind])
        else:
            path = self.path
            values = np.asarray(self._stack[self._place(sequence, frame.number)], np.float32)
        image = sequence.frames.height, sequence.frames.width
        check_aspect(path, values.shape, image, MAX_ASPECT_DIFFERENCE)
        with np.errstate(divide="ignore"):
            inverse = values if self.kind == "inverse" else 1 / values
            if inverse.shape != size:
                inverse = cv2.resize(inverse, size[::-1], interpolation=cv2.INTER_LINEAR)
            return 1 / inverse

    def deviation(
        self, sequence: Sequence, frame: Frame, size: tuple[int, int]
    ) -> np.ndarray | None:
        """Standard deviation (H, W) of log depth of a frame, resized bilinearly; None if its map comes without
        one.

        Raises:
            EgodepthError: the map is missing or broken.
        """
        if self._stack is not None:
            return None
        path = self._find(sequence, frame.number, frame.name)
        if path.suffix.lower() != ".npz" or not holds_array(path, CONFIDENCE_KEYS[0]):
            return None
        values = read_depth_map(path, PNG_STEPS, CONFIDENCE_KEYS)
        if values.shape == size:
            return values
        return cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)

    def _check_name(self, *paths: Path) -> None:
        for path in paths:
            told = path.suffix.lower() == ".npz" and self._stack is None  # by the array's name
            if self.kind == "depth" and LIKE_DISPARITY.search(path.stem) and not told:
                warnings.warn(
                    f"{path} is called like disparity, but taken for depth; give --kind inverse if it is not",
                    EgodepthWarning,
                    stacklevel=4,
                )

    def _place(self, sequence: Sequence, number: int) -> int:
        for folder in (sequence.rig, sequence.name, sequence.name.rsplit("/", 1)[-1]):
            for side in (sequence.camera_name, ""):
                if (folder, side, number) in self._places:
                    return self._places[folder, side, number]
        raise EgodepthError(f"{self.path} has no map of {sequence.name}, frame {number}")

    def _find(self, sequence: Sequence, number: int, name: str) -> Path:
        path = self._maps_of(sequence).get(number)
        if path is None:
            called = f" ({name})" if name else ""
            raise EgodepthError(
                f"{self.path} has no prediction of {sequence.name}, frame {number}{called}"
            )
        return path

    def _maps_of(self, sequence: Sequence) -> dict[int, Path]:
        if sequence.name not in self._maps:
            self._maps[sequence.name] = self._pair(sequence)
        return self._maps[sequence.name]

    def _pair(self, sequence: Sequence) -> dict[int, Path]:
        """Files of the maps by frame number.

        Raises:
            EgodepthError: no maps, maps that do not match the images, or maps of another sequence.
        """
        for folder in (
            self.path / sequence.name / "depth", self.path / sequence.name,
            self.path / "depth", self.path,
        ):  # fmt: skip
            files = depth_maps(folder)
            if files:
                break
        else:
            raise EgodepthError(
                f"{self.path} holds no predictions of {sequence.name}: expected files like "
                f"{sequence.name}/{(frame_names(sequence.frames)[0] or '0000000000')}.npy (or .npz, or "
                "16-bit .png)"
            )
        paired = _pair_files(sequence, files)
        for other, maps in self._maps.items():
            shared = set(maps.values()) & set(paired.values())
            if shared:
                raise EgodepthError(
                    f"{min(shared)} would be taken for {other} and for {sequence.name}; put the maps of each "
                    f"into a folder of its own, {self.path / sequence.name}"
                )
        own_images = sequence.place and any(frame_names(sequence.frames))
        extra = sorted(set(files.values()) - set(paired.values()))
        missing = [n for n in sequence.frames.numbers if n not in paired]
        if own_images and extra and missing:
            names = dict(zip(sequence.frames.numbers, frame_names(sequence.frames), strict=True))
            raise EgodepthError(
                f"the maps in {folder} do not fit the images of {sequence.name}: no image is called like "
                f"{extra[0].name} ({len(extra)} such maps), no map like {names[missing[0]]} "
                f"({len(missing)} such images); name each map like its image"
            )
        return paired


def _pair_files(sequence: Sequence, files: dict[str, Path]) -> dict[int, Path]:
    """Pair files with frame numbers: by the image's name, else by a file name that contains it, else by number,
    else all in order, with a warning."""
    frames = sequence.frames
    names = dict(zip(frames.numbers, frame_names(frames), strict=True))
    exact = {
        number: files[word]
        for number, name in names.items()
        for word in (stem_of(name), name)
        if word in files
    }
    if exact:
        return exact
    within: dict[tuple[str, str], dict[int, Path]] = {}
    for number, name in names.items():
        part = re.compile(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])")
        for stem, path in files.items():
            match = part.search(stem) if name else None
            if match:
                around = stem[: match.start()], stem[match.end() :]
                within.setdefault(around, {})[number] = path
    if within:
        # Different prefixes or suffixes mean maps of several sequences or kinds.
        return within.popitem()[1] if len(within) == 1 else {}
    return _pair_numbers(sequence, names, files)


def _pair_numbers(
    sequence: Sequence, names: dict[int, str], files: dict[str, Path]
) -> dict[int, Path]:
    by_number: dict[int, Path] = {}
    ways = set()
    for stem, path in files.items():
        match = LAST_NUMBER.fullmatch(stem)
        if match:
            by_number[int(match[2])] = path
            ways.add((match[1], match[3]))
    if len(ways) != 1:
        return {}
    if not sequence.place or not any(names.values()):
        return {number: by_number[number] for number in names if number in by_number}
    # For image files, the frame number is only their position; the numbers in their names say more.
    matches = [LAST_NUMBER.fullmatch(name) for name in names.values()]
    numbers = [int(match[2]) for match in matches if match]
    if len(set(numbers)) == len(names):
        pairs = zip(names, numbers, strict=True)
        return {frame: by_number[number] for frame, number in pairs if number in by_number}
    if set(by_number) != set(range(len(names))):
        return {}
    warnings.warn(
        f"no map of {sequence.name} is called like its image, as {files.popitem()[1]}: they are paired in "
        "order",
        EgodepthWarning,
        stacklevel=2,
    )
    return {number: by_number[number] for number in names}


def _whole_numbers(path: Path, kind: str) -> str:
    return (
        f"{path} holds whole numbers ({kind}) in an unknown unit, and nothing scales them to the truth; "
        "save metres as floating-point numbers, or give --scaling median"
    )


def _read_stack(path: Path, keys: tuple[str, ...]) -> np.ndarray:
    stack = read_array(path, keys)
    if stack.ndim == 4 and 1 in (stack.shape[1], stack.shape[3]):
        stack = stack.squeeze(1 if stack.shape[1] == 1 else 3)
    if stack.ndim != 3:
        raise EgodepthError(f"{path} has shape {stack.shape}; expected (N, H, W)")
    return stack
