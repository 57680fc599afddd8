"""Depth maps that somebody else's program wrote, to be scored like a run's."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.data.own_footage import DEPTH_SUFFIXES, read_depth_map
from egodepth.data.sequence import Frame, Sequence
from egodepth.data.splits import Split

Kind = Literal["depth", "inverse"]
PNG_STEPS = 256
"""A metre, in 16-bit PNGs, as KITTI has it; a factor matters only to scaling none."""


@dataclass
class Predictions:
    """Depth maps of a folder (.npy, .npz, 16-bit .png, named by frame number, of several sequences in a
    folder each), or of one .npy or .npz file with all of them stacked in the order of a split.

    Attributes:
        path: of the folder or file.
        kind: whether they hold depth, or inverse depth or disparity.
        split: gives the order of a stack.
        texture_size: see :class:`egodepth.inference.score.Predictor`.
    """

    path: Path
    kind: Kind = "depth"
    split: Split | None = None
    texture_size: tuple[int, int] = (192, 640)
    _folders: dict[str, dict[int, Path]] = field(default_factory=dict, init=False)
    _stack: np.ndarray | None = field(default=None, init=False)
    _places: dict[tuple[str, str, int], int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise EgodepthError(f"there are no predictions {self.path}")
        if self.path.is_file():
            self._stack = _read_stack(self.path)
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

    def predict(self, sequence: Sequence, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """Depth (H, W) of a frame, resized bilinearly in inverse depth.

        Raises:
            EgodepthError: there is none, or it is broken.
        """
        if self._stack is None:
            values = read_depth_map(self._find(sequence, frame.number), PNG_STEPS)
        else:
            values = np.asarray(self._stack[self._place(sequence, frame.number)], np.float32)
        with np.errstate(divide="ignore"):
            inverse = values if self.kind == "inverse" else 1 / values
            if inverse.shape != size:
                inverse = cv2.resize(inverse, size[::-1], interpolation=cv2.INTER_LINEAR)
            return 1 / inverse

    def _place(self, sequence: Sequence, number: int) -> int:
        for folder in (sequence.rig, sequence.name, sequence.name.rsplit("/", 1)[-1]):
            for side in (sequence.camera_name, ""):
                if (folder, side, number) in self._places:
                    return self._places[folder, side, number]
        raise EgodepthError(f"{self.path} has no map of {sequence.name}, frame {number}")

    def _find(self, sequence: Sequence, number: int) -> Path:
        if sequence.name not in self._folders:
            for folder in (
                self.path / sequence.name / "depth", self.path / sequence.name,
                self.path / "depth", self.path,
            ):  # fmt: skip
                found = _numbered(folder)
                if found:
                    self._folders[sequence.name] = found
                    break
            else:
                raise EgodepthError(
                    f"{self.path} holds no predictions of {sequence.name}: expected files like "
                    f"{sequence.name}/{number:010d}.npy (or .npz, or 16-bit .png)"
                )
        path = self._folders[sequence.name].get(number)
        if path is None:
            raise EgodepthError(f"{self.path} has no prediction of {sequence.name}, frame {number}")
        return path


def _numbered(folder: Path) -> dict[int, Path]:
    """Files by the last number in their name."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        digits = re.findall(r"\d+", path.stem)
        if path.suffix in DEPTH_SUFFIXES and digits:
            found[int(digits[-1])] = path
    return found


def _read_stack(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        stack = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise EgodepthError(f"cannot read the predictions {path}: {error}") from error
    if stack.ndim == 4 and 1 in (stack.shape[1], stack.shape[3]):
        stack = stack.squeeze(1 if stack.shape[1] == 1 else 3)
    if stack.ndim != 3:
        raise EgodepthError(f"{path} has shape {stack.shape}; expected (N, H, W)")
    return stack
