"""Opening footage for a run: with the run's camera, and undistorted."""

import warnings
from dataclasses import replace
from pathlib import Path

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.own_footage import warn_of_unread_camera, with_camera_file
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_sources, select
from egodepth.runs.cameras import brings_camera, with_run_camera
from egodepth.runs.folder import RunLike

Source = str | Path | Sequence | list[str] | list[Path] | list[Sequence]


def open_footage(
    run: RunLike,
    source: Source,
    *,
    name: str | None = None,
    fov: float | None = None,
    camera: Path | None = None,
    root: Path | None = None,
) -> list[Sequence]:
    """Open footage for a run: undistorted, and with the run's camera if it has none of its own.

    Args:
        run: run folder.
        source: source as for :func:`egodepth.read_source`, or a sequence; or a list of them.
        name: open only the sequence with this name.
        fov: horizontal field of view in degrees, in place of the run's camera.
        camera: camera file, in place of the run's camera.
        root: base of relative paths; by default the working folder.

    Raises:
        EgodepthError: broken footage, an invalid field of view, or footage whose aspect ratio differs from the
            camera's.
    """
    given = source if isinstance(source, list) else [source]
    read = [s for s in given if isinstance(s, Sequence)]
    read += read_sources([str(s) for s in given if not isinstance(s, Sequence)], root)
    return [
        replace(_opened(sequence, run, fov, camera), opened=True) for sequence in select(read, name)
    ]


def _opened(sequence: Sequence, run: RunLike, fov: float | None, camera: Path | None) -> Sequence:
    if sequence.opened and fov is None and camera is None:
        return sequence
    if camera is None and not brings_camera(sequence):
        warn_of_unread_camera(sequence)
    if fov is None and camera is None:
        return with_run_camera(sequence, run)
    if fov is not None and camera is not None:
        raise EgodepthError("give a field of view or a camera file, not both")
    if brings_camera(sequence):
        typed = "field of view" if camera is None else f"camera file {camera}"
        warnings.warn(
            f"{sequence.name} brings its own camera ({sequence.camera_note or sequence.camera_from}): the "
            f"{typed} is not used",
            EgodepthWarning,
            stacklevel=3,
        )
        return sequence
    if camera is not None:
        return with_camera_file(sequence, camera)
    assert fov is not None
    return replace(sequence, camera=None).with_fov(fov)
