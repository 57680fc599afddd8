"""Splits: which frames of a data set are trained on, or scored."""

import re
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text
from egodepth.core.suggestions import did_you_mean, similar_path
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.sequence import Sequence

SIDES = {"l": "left", "r": "right", "2": "left", "3": "right"}


@dataclass(frozen=True)
class Entry:
    """Frames of one folder.

    Attributes:
        folder: the drive or sequence; a sequence belongs to it if its rig or the end of its name is so
            called.
        side: ``left``, ``right``, or empty for both.
        number: of the frame; None for all.
    """

    folder: str
    side: str = ""
    number: int | None = None


@dataclass(frozen=True)
class Split:
    """Frames of a data set.

    Attributes:
        name: what it is called, or its file.
        what: what it is, in words.
        entries: in the order of the split.
        inverted: whether it is the frames of all other folders instead.
    """

    name: str
    what: str
    entries: tuple[Entry, ...]
    inverted: bool = False

    @property
    def size(self) -> int | None:
        """Number of frames, where it names them one by one."""
        named = all(entry.number is not None for entry in self.entries)
        return len(self.entries) if named and not self.inverted else None

    def numbers(self, sequence: Sequence) -> set[int] | None:
        """Frame numbers of a sequence that belong to the split; None for all of them."""
        mine = [e for e in self.entries if _is_of(sequence, e.folder)]
        if self.inverted:
            return set() if mine else None
        mine = [e for e in mine if e.side in ("", sequence.camera_name)]
        if any(entry.number is None for entry in mine):
            return None
        return {entry.number for entry in mine if entry.number is not None}

    def places(self) -> dict[tuple[str, str, int], int]:
        """Position in the split by folder, side and frame number, for predictions that come stacked in
        its order."""
        return {
            (Path(e.folder).name, e.side, e.number): i
            for i, e in enumerate(self.entries)
            if e.number is not None
        }


def get_split(name: str | Path) -> Split:
    """A split by its name, by the path of a file with ``folder frame side`` lines, or by the address of
    one with its sum (``https://...#sha256=...``), which is fetched once into the user's cache.

    Raises:
        EgodepthError: none of them is there, another sum, or a broken line.
    """
    if str(name) in SPLITS:
        return SPLITS[str(name)]
    if str(name).startswith(("http://", "https://")):
        return replace(read_split(_fetch(str(name))), name=str(name))
    path = Path(name)
    if not path.exists():
        file = similar_path(path, Path.is_file).removeprefix("; ")
        hint = did_you_mean(str(name), SPLITS, file)
        raise EgodepthError(f"unknown split {str(name)!r}, and there is no such file; {hint}")
    return read_split(path)


def read_split(path: Path) -> Split:
    """A file in the field's format: a line is ``folder [frame [side]]``, side l or r; KITTI's image paths
    (``DATE/DRIVE/image_02/data/NUMBER.png``) are understood too.

    Raises:
        EgodepthError: a missing file, or a broken line.
    """
    entries = []
    for number, line in enumerate(read_text(path, "the split").splitlines(), start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        image = re.match(r"(.*_sync)/image_0([0-3])/data/(\d+)\.\w+$", words[0])
        try:
            if len(words) > 3 or (len(words) == 1 and "," in line):
                raise ValueError(line)
            if image:
                side = "left" if int(image[2]) % 2 == 0 else "right"
                entries.append(Entry(image[1], side, int(image[3])))
            else:
                frame = int(words[1]) if len(words) > 1 else None
                entries.append(Entry(words[0], SIDES[words[2]] if len(words) > 2 else "", frame))
        except (ValueError, KeyError) as error:
            raise EgodepthError(
                f"{path} line {number}: expected `folder frame side` with side l or r, got "
                f"{line[:60]!r}"
            ) from error
    if not entries:
        raise EgodepthError(f"the split {path} names no frame")
    return Split(str(path), f"{len(entries)} lines of {path}", tuple(entries))


def _fetch(address: str) -> Path:
    url, _, total = address.partition("#sha256=")
    if not total:
        raise EgodepthError(
            f"{url} needs the sum of its file, as {url}#sha256=...; `sha256sum` of a copy you trust "
            "prints it"
        )
    import pooch

    folder = default_cache_folder().parent / "splits"
    pooch.get_logger().setLevel("WARNING")  # type: ignore[attr-defined]
    try:
        found = pooch.retrieve(url, f"sha256:{total.lower()}", path=folder)  # type: ignore[attr-defined]
        return Path(found)
    except (OSError, ValueError) as error:
        raise EgodepthError(f"cannot fetch {url}: {' '.join(str(error).split())}") from error


def _is_of(sequence: Sequence, folder: str) -> bool:
    last = folder.strip("/").rsplit("/", 1)[-1]
    if sequence.rig and (sequence.rig == last or _same_number(sequence.rig, last)):
        return True
    name = f"/{sequence.name}/"
    return f"/{folder.strip('/')}/" in name


def _same_number(one: str, other: str) -> bool:
    return one.isdecimal() and other.isdecimal() and int(one) == int(other)


def _read_eigen() -> tuple[Entry, ...]:
    text = (files(__package__) / "eigen_test.txt").read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return tuple(Entry(drive, "left", int(n)) for drive, *numbers in lines for n in numbers)


def _folders(*names: str) -> tuple[Entry, ...]:
    return tuple(Entry(name) for name in names)


def _scenes(numbers: dict[str, str]) -> tuple[Entry, ...]:
    pairs = ((scene, n) for scene, text in numbers.items() for n in text.split())
    return _folders(*(f"{scene}/seq-{int(n):02d}" for scene, n in pairs))


EIGEN = _read_eigen()
SPLITS = {
    split.name: split
    for split in (
        Split("eigen_test", "KITTI raw: the 697 test images of Eigen et al., left camera", EIGEN),
        Split(
            "eigen_train",
            "KITTI raw: all frames of the drives that have no image in eigen_test (Eigen-Zhou, which "
            "leaves out frames that stand still, is given by its file, or got by data.stride auto)",
            _folders(*dict.fromkeys(entry.folder for entry in EIGEN)),
            inverted=True,
        ),
        Split(
            "odometry_train", "KITTI odometry: sequences 00 to 08",
            _folders(*(f"{i:02d}" for i in range(9))),
        ),
        Split("odometry_test", "KITTI odometry: sequences 09 and 10", _folders("09", "10")),
        Split("cityscapes_train", "Cityscapes: the cities of train", _folders("train")),
        Split("cityscapes_val", "Cityscapes: the cities of val", _folders("val")),
        Split("cityscapes_test", "Cityscapes: the cities of test", _folders("test")),
        Split("nyu_train", "NYU Depth v2: the raw sequences", _folders("labelled-test"), True),
        Split("nyu_test", "NYU Depth v2: the 654 labelled test images", _folders("labelled-test")),
        Split("seven_scenes_train", "7-Scenes: the sequences of each scene's TrainSplit", _scenes({
            "chess": "1 2 4 6", "fire": "1 2", "heads": "2", "office": "1 3 4 5 8 10",
            "pumpkin": "2 3 6 8", "redkitchen": "1 2 5 7 8 11 13", "stairs": "2 3 5 6",
        })),
        Split("seven_scenes_test", "7-Scenes: the sequences of each scene's TestSplit", _scenes({
            "chess": "3 5", "fire": "3 4", "heads": "1", "office": "2 6 7 9",
            "pumpkin": "1 7", "redkitchen": "3 4 6 12 14", "stairs": "1 4",
        })),
    )
}  # fmt: skip
