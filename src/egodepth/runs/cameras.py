"""The cameras that a run keeps in its folder, and footage with them.

``camera.yaml`` is that of the run's first footage. Of a run with several pieces of footage, ``cameras`` holds
that of each, by its name. Both are at the size of the frames, with the lens.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from glob import has_magic
from itertools import takewhile
from pathlib import Path, PurePosixPath

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.camera_file import read_calibration
from egodepth.data.footage.camera_formats.values import Calibration
from egodepth.data.footage.own_footage import (
    warn_of_unread_camera,
    with_calibration,
    with_camera_file,
    write_camera,
)
from egodepth.data.preparation.clips import Clip
from egodepth.data.sequence import ChangedFrames, Sequence
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Undistortion
from egodepth.runs.folder import RunFolder, RunLike
from egodepth.settings.training import DataSettings

GUESSED_FOV = 60.0
"""Degrees that an unknown camera is taken to see from left to right, until it is estimated."""
SAME_FOCAL = 0.02
"""Relative difference of focal lengths, over the width, below which cameras count as one."""
OTHER_FOCAL = 0.1
"""As SAME_FOCAL, above which what a file tells of its camera says that it is another one."""


def brings_camera(sequence: Sequence) -> bool:
    """Whether footage has its own camera, from more than a line in its files' metadata."""
    return sequence.camera is not None and sequence.camera_from != "metadata"


def guess_camera(sequence: Sequence) -> Sequence:
    """Give a sequence a guessed camera."""
    return replace(sequence.with_fov(GUESSED_FOV), camera_from="guess")


def with_camera(sequence: Sequence, data: DataSettings) -> Sequence:
    """The sequence with the camera that the settings of a training give, where it brings none or only what its
    files tell of it; without settings the latter, else a guess, which the training replaces.

    Raises:
        EgodepthError: a camera file that can't be read, or footage of another aspect ratio than the camera's.
    """
    if brings_camera(sequence):
        return sequence
    if data.camera is not None:
        run = RunFolder.holding(data.camera)
        if run is not None:
            return with_kept_camera(sequence, run)
        return with_camera_file(sequence, data.camera)
    warn_of_unread_camera(sequence)
    if data.focal is not None:
        return sequence.with_focal(data.focal)
    if data.fov is not None:
        return replace(sequence, camera=None).with_fov(data.fov)
    return sequence if sequence.camera is not None else guess_camera(sequence)


def settings_of_footage(run: RunLike) -> DataSettings:
    """Settings of a run for other footage of the same camera: those of its training, with the camera that
    it keeps.

    Raises:
        EgodepthError: no run.
    """
    folder = RunFolder.at(run)
    data = folder.data_settings()
    if folder.camera.exists() or data.camera is not None or data.focal is not None:
        return data.changed(camera=folder.camera, focal=None, fov=None)
    return data


def keep_cameras(clips: list[Clip], run: RunFolder, factors: list[float] | None = None) -> None:
    """Write down the cameras of one's own footage, with their lenses, their focal lengths times what was
    learned: the first one for all footage, and each for its own, by its name."""
    found = [
        (clip, factor)
        for clip, factor in zip(clips, factors or [1.0] * len(clips), strict=True)
        if clip.sequence.place or clip.sequence.camera_from != "given"
    ]
    for place, (clip, factor) in enumerate(found):
        if place == 0:
            _keep_camera(clip, run.camera, factor)
        if len(found) > 1:
            _keep_camera(clip, run.camera_of(clip.sequence.name), factor)


def _keep_camera(clip: Clip, path: Path, factor: float) -> None:
    frames = clip.sequence.frames
    camera, lens = clip.camera.resize(frames.height, frames.width), None
    if isinstance(frames, ChangedFrames) and isinstance(frames.change, Undistortion):
        # What structure from motion changed, it changed in the straight camera.
        factor *= float(camera.matrix[0, 0] / frames.change.camera.matrix[0, 0])
        camera, lens = frames.change.bent, frames.change.lens
    scale = camera.matrix.new_tensor([[factor, 1, 1], [1, factor, 1], [1, 1, 1]])
    write_camera(path, replace(camera, matrix=camera.matrix * scale), lens)


def with_run_camera(sequence: Sequence, run: RunLike) -> Sequence:
    """Footage with the camera that a run keeps for it, its lens undone, where it brings none; where the run
    keeps none either, with a guess, and a warning.

    Raises:
        EgodepthError: footage of another aspect ratio than the run's camera, or a run of an older version,
            which did not keep its camera.
    """
    if brings_camera(sequence):
        return sequence
    run = RunFolder.at(run).check()
    told = run.data_settings()
    if run.camera.exists() or told.camera is not None or told.focal is not None:
        return with_kept_camera(sequence, run)
    if told.fov is not None:
        return replace(sequence, camera=None).with_fov(told.fov)
    if sequence.camera is not None:
        return sequence
    warnings.warn(
        f"nothing tells the camera of {sequence.name}: {GUESSED_FOV:.0f} degrees from left to right edge are "
        "assumed; give --fov or --camera",
        EgodepthWarning,
        stacklevel=2,
    )
    return guess_camera(sequence)


def with_kept_camera(sequence: Sequence, run: RunFolder) -> Sequence:
    """Like :func:`with_run_camera`, for a run that keeps a camera.

    Footage that the run was trained on is known by its name, or the end of its path; where the run's cameras
    differ, and footage of that name lies elsewhere than in the training, a warning tells so. Other footage gets
    the first camera that has its aspect ratio, unless its own metadata tell of quite another one; with a
    warning where the run has several that differ.

    Raises:
        EgodepthError: as :func:`with_run_camera`.
    """
    if not run.camera.exists():
        raise EgodepthError(
            f"{run} was trained by an older version, which did not keep its camera in the run folder; give "
            "--fov or --camera FILE"
        )
    named = _kept(run)
    path = PurePosixPath(sequence.place).parts
    own = [
        name
        for name in named
        if name == sequence.name or path[-name.count("/") - 1 :] == tuple(name.split("/"))
    ]
    if own:
        name = max(own, key=len)
        by_name_alone = "/" not in name and bool(sequence.place)
        if by_name_alone and _differ(named.values()) and not _was_trained_on(run, sequence.place):
            warnings.warn(
                f"{run} keeps several cameras, and {sequence.place} gets that of the footage called {name}, "
                "which lay elsewhere in the training; give --fov or --camera if it is other footage",
                EgodepthWarning,
                stacklevel=3,
            )
        return with_calibration(sequence, named[name])
    height, width = sequence.frames.height, sequence.frames.width
    if sequence.camera is not None:
        focal = _focal(sequence.camera)
        fitting = [c for c in named.values() if c.fits(height, width)]
        if not any(abs(_focal(c.camera) / focal - 1) < OTHER_FOCAL for c in fitting):
            warnings.warn(
                f"{sequence.name}: its metadata name another camera than that of {run}, and override it",
                EgodepthWarning,
                stacklevel=2,
            )
            return sequence
    chosen = _first_fitting(named, height, width, sequence.name, run)
    return with_calibration(sequence, chosen)


def undistortion_of_run(run: RunLike, height: int, width: int, name: str) -> Undistortion | None:
    """Undistortion for a run's camera and images of this size; None where it has no lens.

    Args:
        run: run folder.
        height, width: of the images.
        name: of the footage, for messages.

    Raises:
        EgodepthError: images of another aspect ratio than the camera's.
    """
    folder = RunFolder.at(run)
    named = _kept(folder)
    if not any(camera.lens for camera in named.values()):
        return None  # depth of single images needs no camera
    fitted = _first_fitting(named, height, width, name, folder).at_size(height, width, name)
    return Undistortion(fitted.camera, fitted.lens) if fitted.lens else None


def _kept(run: RunFolder) -> dict[str, Calibration]:
    """By name of the footage; that of the first one by no name."""
    return {name: read_calibration(file) for name, file in run.camera_files().items()}


def _first_fitting(
    named: Mapping[str, Calibration], height: int, width: int, name: str, run: RunFolder
) -> Calibration:
    """The first camera of this aspect ratio, with a warning where others differ; the first of all where there
    is none."""
    fitting = [c for c in named.values() if c.fits(height, width)] or [named[""]]
    if _differ(fitting):
        camera = fitting[0].camera
        warnings.warn(
            f"{run} was trained on footage of several cameras, and {name} is none of it: it gets the "
            f"first one's camera ({camera.width}x{camera.height}, focal length "
            f"{float(camera.matrix[0, 0]):.0f} pixels); give --fov or --camera if it has another",
            EgodepthWarning,
            stacklevel=3,
        )
    return fitting[0]


def _differ(cameras: Iterable[Calibration]) -> bool:
    focals = [_focal(c.camera) for c in cameras]
    return max(focals) > (1 + SAME_FOCAL) * min(focals)


def _was_trained_on(run: RunFolder, place: str) -> bool:
    """Whether the sources of a run, as they were typed, lead to this place from here."""
    told = run.data_settings()
    for source in told.sources:
        for typed in (source, source.partition(":")[2]):  # KIND:ROOT
            fixed = takewhile(lambda part: not has_magic(part), Path(typed).parts)
            path = Path(told.root or "").joinpath(*fixed)
            tops = (path.resolve(), path.parent.resolve() / path.name)
            if typed and (typed == place or any(Path(place).is_relative_to(top) for top in tops)):
                return True
    return False


def _focal(camera: Camera) -> float:
    """Over the longer side of the image, which turning does not change."""
    return float(camera.matrix[0, 0]) / max(camera.width, camera.height)
