"""Cameras stored in run folders, and their assignment to footage.

``camera.yaml`` is the camera of the run's first footage. If a run has several pieces of footage, ``cameras``
has one file for each, by name. All are at the size of the frames, with the lens.
"""

import os
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
"""Horizontal field of view in degrees assumed for an unknown camera, until it is estimated."""
SAME_FOCAL = 0.02
"""Relative difference of focal lengths (over the longer side) below which cameras count as the same."""
OTHER_FOCAL = 0.1
"""Relative difference of focal lengths above which a file's metadata are taken to describe another camera."""


def brings_camera(sequence: Sequence) -> bool:
    """Whether footage has a camera of its own that is more than its files' metadata."""
    return sequence.camera is not None and sequence.camera_from != "metadata"


def guess_camera(sequence: Sequence) -> Sequence:
    """Return the sequence with a guessed camera, GUESSED_FOV wide."""
    return replace(sequence.with_fov(GUESSED_FOV), camera_from="guess")


def with_camera(sequence: Sequence, data: DataSettings) -> Sequence:
    """Return the sequence with a camera for training: its own; else the one in the settings; else the one in
    its files' metadata; else a guess, which the training replaces.

    Raises:
        EgodepthError: an unreadable camera file, or footage whose aspect ratio differs from the camera's.
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
    """Data settings for other footage from a run's camera: those of its training, with the camera stored in
    the run.

    Raises:
        EgodepthError: no run.
    """
    folder = RunFolder.at(run)
    data = folder.data_settings()
    if folder.camera.exists() or data.camera is not None or data.focal is not None:
        return data.changed(camera=folder.camera, focal=None, fov=None)
    return data


def keep_cameras(clips: list[Clip], run: RunFolder, factors: list[float] | None = None) -> None:
    """Store the cameras of the user's own footage in the run, with their lenses, and with focal lengths
    multiplied by the learned factors: the first as the default, and each, if there are several, by name."""
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
        # Structure from motion changed the focal length of the undistorted camera.
        factor *= float(camera.matrix[0, 0] / frames.change.camera.matrix[0, 0])
        camera, lens = frames.change.distorted_camera, frames.change.lens
    scale = camera.matrix.new_tensor([[factor, 1, 1], [1, factor, 1], [1, 1, 1]])
    write_camera(path, replace(camera, matrix=camera.matrix * scale), lens)


def with_run_camera(sequence: Sequence, run: RunLike) -> Sequence:
    """Return footage that has no camera of its own with the run's camera, undistorted; if the run has none
    either, with the one in its metadata, else with a guess and a warning.

    Raises:
        EgodepthError: footage whose aspect ratio differs from that of the run's camera, or a run of an older
            version, which did not store its camera.
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
        f"{sequence.name}: its camera is unknown; {GUESSED_FOV:.0f} degrees from left to right edge are "
        "assumed; give --fov or --camera",
        EgodepthWarning,
        stacklevel=2,
    )
    return guess_camera(sequence)


def with_kept_camera(sequence: Sequence, run: RunFolder) -> Sequence:
    """Like :func:`with_run_camera`, for a run that stores cameras.

    Training footage is recognized by its name or by the end of its path, with a warning if only the name
    matches, the path differs from the training's, and the run has cameras that differ. Other footage gets the
    first camera with its aspect ratio, with a warning if the run has several that differ; it keeps the camera
    in its metadata if that is clearly a different one.

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
    """Undistortion for a run's camera and images of this size; None if the camera has no lens distortion.

    Args:
        run: run folder.
        height, width: size of the images.
        name: name of the footage, for messages.

    Raises:
        EgodepthError: images whose aspect ratio differs from the camera's.
    """
    folder = RunFolder.at(run)
    named = _kept(folder)
    if not any(camera.lens for camera in named.values()):
        return None  # depth of single images needs no camera
    fitted = _first_fitting(named, height, width, name, folder).at_size(height, width, name)
    return Undistortion(fitted.camera, fitted.lens) if fitted.lens else None


def camera_of_run(run: RunLike, height: int, width: int, name: str) -> Camera:
    """A run's camera, undistorted, for images of this size; if the run has none, a guess, with a warning.

    Arguments and errors as of :func:`undistortion_of_run`.
    """
    folder = RunFolder.at(run)
    named = _kept(folder)
    if named:
        fitted = _first_fitting(named, height, width, name, folder).at_size(height, width, name)
        return Undistortion(fitted.camera, fitted.lens).camera if fitted.lens else fitted.camera
    fov = folder.data_settings().fov
    if fov is None:
        warnings.warn(
            f"{name}: its camera is unknown; {GUESSED_FOV:.0f} degrees from left to right edge are assumed; "
            f"give --fov",
            EgodepthWarning,
            stacklevel=2,
        )
    return Camera.from_field_of_view(float(fov or GUESSED_FOV), height, width)


def _kept(run: RunFolder) -> dict[str, Calibration]:
    """Cameras of a run by name of the footage; the first one's under the empty name."""
    return {name: read_calibration(file) for name, file in run.camera_files().items()}


def _first_fitting(
    named: Mapping[str, Calibration], height: int, width: int, name: str, run: RunFolder
) -> Calibration:
    """The first camera with this aspect ratio, with a warning if others with it differ; if there is none, the
    first camera of the run."""
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
    """Whether a run's sources, as typed and resolved from the current folder, contain this place."""
    told = run.data_settings()
    for source in told.sources:
        for typed in (source, source.partition(":")[2]):  # KIND:ROOT
            fixed = takewhile(lambda part: not has_magic(part), Path(typed).parts)
            path = Path(told.root or "").joinpath(*fixed)
            tops = (Path(os.path.realpath(path)), Path(os.path.realpath(path.parent)) / path.name)
            if typed and (typed == place or any(Path(place).is_relative_to(top) for top in tops)):
                return True
    return False


def _focal(camera: Camera) -> float:
    """Focal length over the longer side of the image, which rotating the image does not change."""
    return float(camera.matrix[0, 0]) / max(camera.width, camera.height)
