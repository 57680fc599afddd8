"""Opens footage by name: ``KIND:ROOT`` for data sets, a plain path for the user's own."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from egodepth.core.errors import EgodepthError, require
from egodepth.core.files import reading
from egodepth.core.suggestions import did_you_mean, similar_path
from egodepth.data.footage.own_footage import read_footage, read_pattern, read_video
from egodepth.data.footage.robot_logs.recording import split_topics
from egodepth.data.sequence import Sequence, with_unique_names

MAX_RENDERED = 100_000
"""Maximum number of frames of a rendered world."""


@dataclass(frozen=True)
class DataSet:
    """A known data set.

    Attributes:
        title: full name.
        reader: ``module:function`` below ``egodepth.data.sets`` that maps its root to sequences.
        address: where to download it.
        parts: what to download, and what for.
        protocol: default depth protocol.
    """

    title: str
    reader: str
    address: str
    parts: str
    protocol: str

    def read(self, root: Path) -> list[Sequence]:
        """Read its sequences.

        Raises:
            EgodepthError: no such folder, no sequences in it, or something in it is broken.
        """
        if not root.is_dir():
            meant = similar_path(root, Path.is_dir) or f"; name the root of {self.title}"
            raise EgodepthError(f"there is no folder {root}{meant}")
        module, function = self.reader.split(":")
        read: Callable[[Path], list[Sequence]] = getattr(
            import_module(f"egodepth.data.sets.{module}"), function
        )
        with reading(root, f"the data set {self.title} in"):
            return read(root)


DATA_SETS = {
    "kitti_raw": DataSet(
        "KITTI raw", "kitti:read_kitti_raw", "http://www.cvlibs.net/datasets/kitti/raw_data.php",
        "synced+rectified drives and the calibration of each date; data_depth_annotated.zip (KITTI "
        "depth) for improved depth maps", "kitti",
    ),
    "kitti_odometry": DataSet(
        "KITTI odometry", "kitti:read_kitti_odometry",
        "http://www.cvlibs.net/datasets/kitti/eval_odometry.php",
        "colour (or grey) images, calibration, ground-truth poses; velodyne for depth", "kitti",
    ),
    "kitti_depth": DataSet(
        "KITTI depth benchmark", "kitti_depth:read_kitti_depth",
        "http://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction",
        "data_depth_selection.zip", "kitti-benchmark",
    ),
    "cityscapes": DataSet(
        "Cityscapes", "cityscapes:read_cityscapes", "https://www.cityscapes-dataset.com",
        "leftImg8bit_sequence (or leftImg8bit), camera; disparity for depth, rightImg8bit_sequence "
        "for stereo", "cityscapes",
    ),
    "euroc": DataSet(
        "EuRoC MAV", "euroc:read_euroc_mav", "https://projects.asl.ethz.ch/datasets/euroc-mav",
        "sequences in ASL format; those of the Vicon room have a point cloud", "indoor",
    ),
    "nyu": DataSet(
        "NYU Depth v2", "nyu:read_nyu",
        "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
        "raw sequences for training; nyu_depth_v2_labeled.mat and splits.mat for testing", "nyu",
    ),
    "seven_scenes": DataSet(
        "7-Scenes", "seven_scenes:read_seven_scenes",
        "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes",
        "the scenes' archives, unpacked down to seq-NN", "indoor",
    ),
    "tum_rgbd": DataSet(
        "TUM RGB-D", "tum_rgbd:read_tum_rgbd",
        "https://cvg.cit.tum.de/data/datasets/rgbd-dataset/download", "sequences, unpacked", "indoor",
    ),
    "eth3d": DataSet(
        "ETH3D, low resolution", "eth3d:read_eth3d", "https://www.eth3d.net/datasets",
        "two_view_training with two_view_training_gt; multi_view_training_rig_undistorted with "
        "multi_view_training_rig_scan_clean", "eth3d",
    ),
    "make3d": DataSet(
        "Make3D", "make3d:read_make3d", "http://make3d.cs.cornell.edu/data.html",
        "Test134 images and Gridlaserdata of the test set", "make3d-c1",
    ),
}  # fmt: skip


def read_source(source: str | Path, root: str | Path | None = None) -> list[Sequence]:
    """Read the sequences of a source.

    Args:
        source: ``KIND:ROOT`` with a kind of :data:`DATA_SETS`, ``synthetic:SEED``,
            ``synthetic:KIND:SEED`` or ``synthetic:KIND:SEED:FRAMES``, the path of an image folder, a video or a
            recording of a robot (with ``#/TOPIC`` if it has several image topics), a pattern of such paths
            (``*``, ``?``, ``[...]``), or the address of a video (with ``://``).
        root: folder that relative paths start from; by default the working directory.

    Raises:
        EgodepthError: an unknown kind, or any error of the reader.
    """
    if not isinstance(source, str | Path) or not str(source):
        raise EgodepthError(
            f"a source is one path, address or KIND:ROOT, got {source!r}; read several one by one"
        )
    require(root, (str, Path, type(None)), "root", "a path")
    with reading(source, "the footage"):
        return _read_source(source, root)


def _read_source(source: str | Path, root: str | Path | None) -> list[Sequence]:
    base, source = Path(root or ""), str(source)
    if source.startswith("shards:") and not (base / source).exists():
        raise EgodepthError(
            f"{source}: shards are for egodepth train alone; name the footage that they were made from"
        )
    if is_address(source):
        return [read_video(source)]
    if is_pattern(source) and not (base / source).exists():
        return with_unique_names(read_pattern(str(base / source)))
    kind, colon, where = source.partition(":")
    if source in DATA_SETS and not (base / source).exists():
        raise EgodepthError(f"{source} is a kind of data set: name its root too, as {source}:ROOT")
    if not colon or (base / source).exists():
        return [read_footage(base / source)]
    if kind in DATA_SETS:
        return DATA_SETS[kind].read(base / where)
    if kind == "synthetic":
        return [_read_synthetic(where)]
    if not _names_a_kind(source):
        return [read_footage(base / source)]
    raise EgodepthError(
        f"unknown kind of footage {kind!r} in {source!r}, and there is no such file; "
        f"{did_you_mean(kind, [*DATA_SETS, 'synthetic'])}"
    )


def _names_a_kind(source: str) -> bool:
    """Whether a source begins like ``KIND:``, as opposed to a time of day or a drive letter."""
    return bool(re.match(r"[A-Za-z_]\w+:", source))


def _read_synthetic(where: str) -> Sequence:
    """Read the rendered street of ``SEED``, or the world of ``KIND:SEED`` or ``KIND:SEED:FRAMES``."""
    from egodepth.data.synthetic.street import read_street
    from egodepth.data.synthetic.worlds.world import KINDS, read_world

    kind, *numbers = where.split(":")
    if not numbers:
        kind, numbers = "", [where]
    elif kind not in KINDS:
        raise EgodepthError(
            f"unknown kind of world {kind!r} in synthetic:{where}; {did_you_mean(kind, KINDS)}"
        )
    if len(numbers) > 2 or not all(re.fullmatch("[0-9]{1,18}", number) for number in numbers):
        raise EgodepthError(
            f"synthetic:{where}: write synthetic:SEED, or synthetic:KIND:SEED with one of {', '.join(KINDS)}; "
            "synthetic:KIND:SEED:FRAMES sets the number of frames"
        )
    seed, *frames = map(int, numbers)
    if frames and not 2 <= frames[0] <= MAX_RENDERED:
        raise EgodepthError(
            f"synthetic:{where}: a rendered world has 2 to {MAX_RENDERED} frames, not {frames[0]}"
        )
    return read_world(kind, seed, *frames) if kind else read_street(seed)


def read_sources(sources: Iterable[str], root: Path | None = None) -> list[Sequence]:
    """Read the sequences of several sources under unique names, see :func:`read_source`.

    Raises:
        EgodepthError: as :func:`read_source`.
    """
    return with_unique_names([s for source in sources for s in read_source(source, root)])


def is_address(source: str) -> bool:
    """Whether a source is the address (URL) of a video."""
    return "://" in source


def is_pattern(source: str) -> bool:
    """Whether a source contains wildcards."""
    return any(mark in source for mark in "*?[")


def is_footage(word: str) -> bool:
    """Whether a command-line word looks like a source for :func:`read_source`."""
    named = word in DATA_SETS or _names_a_kind(word)
    there = Path(word).exists() or Path(split_topics(word)[0]).exists()
    return named or there or is_address(word) or is_pattern(word)


def default_protocol(source: str) -> str:
    """Name of the default depth protocol of a source."""
    kind = source.partition(":")[0]
    if kind in DATA_SETS:
        return DATA_SETS[kind].protocol
    return "synthetic" if kind == "synthetic" else "indoor"


def select(sequences: list[Sequence], name: str | None) -> list[Sequence]:
    """Sequences whose name is ``name`` or starts with ``name/``; all sequences for None.

    Raises:
        EgodepthError: no sequence matches.
    """
    chosen = [
        s for s in sequences if name is None or s.name == name or s.name.startswith(f"{name}/")
    ]
    if not chosen:
        names = ", ".join(s.name for s in sequences[:8])
        hint = did_you_mean(str(name), [s.name for s in sequences], f"there are {names}")
        raise EgodepthError(f"no sequence {name!r}; {hint}")
    return chosen
