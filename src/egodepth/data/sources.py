"""Footage by name: ``KIND:WHERE`` for data sets, a plain path for one's own."""

from collections.abc import Callable
from pathlib import Path

from egodepth.core.errors import EgodepthError
from egodepth.data.kitti import read_kitti_odometry, read_kitti_raw
from egodepth.data.own_footage import read_footage
from egodepth.data.sequence import Sequence
from egodepth.data.seven_scenes import read_seven_scenes

ROOTED: dict[str, Callable[[Path], list[Sequence]]] = {
    "kitti_raw": read_kitti_raw,
    "kitti_odometry": read_kitti_odometry,
    "seven_scenes": read_seven_scenes,
}


def read_source(source: str, root: Path | None = None) -> list[Sequence]:
    """The sequences of a source.

    Args:
        source: ``kitti_raw:ROOT``, ``kitti_odometry:ROOT``, ``seven_scenes:ROOT``,
            ``synthetic:SEED``, or the path of a folder of images or a video.
        root: what relative paths start from; by default the working folder.

    Raises:
        EgodepthError: an unknown kind, or whatever the reader finds wrong.
    """
    base = root or Path()
    kind, colon, where = source.partition(":")
    if not colon or (base / source).exists():
        return [read_footage(base / source)]
    if kind in ROOTED:
        return ROOTED[kind](base / where)
    if kind == "synthetic":
        from egodepth.data.synthetic import read_street

        if not where.isdigit():
            raise EgodepthError(f"synthetic:SEED needs a whole number, got {where!r}")
        return [read_street(int(where))]
    raise EgodepthError(
        f"unknown kind of footage {kind!r} in {source!r}; use a path, or one of "
        f"{', '.join(f'{name}:ROOT' for name in ROOTED)}, synthetic:SEED"
    )


def select(sequences: list[Sequence], name: str | None) -> list[Sequence]:
    """Those whose name is ``name`` or starts with ``name/``; all of them for None.

    Raises:
        EgodepthError: none is left.
    """
    chosen = [
        s for s in sequences if name is None or s.name == name or s.name.startswith(f"{name}/")
    ]
    if not chosen:
        names = ", ".join(s.name for s in sequences[:8])
        raise EgodepthError(f"no sequence {name!r}; there are {names}")
    return chosen
