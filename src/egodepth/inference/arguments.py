"""Checks of arguments of the Python interface."""

from typing import Any

from egodepth.core.errors import EgodepthError, require
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import camera_problem
from egodepth.runs.cameras import brings_camera
from egodepth.runs.run import Run


def check_run(run: Any) -> None:
    """Check that an argument is a run.

    Raises:
        EgodepthError: it is something else, such as a run folder.
    """
    if not hasattr(run, "depth_of_frames"):
        raise EgodepthError(
            f"run must be a Run, egodepth.load(FOLDER), got {type(run).__name__} {run!r}"
        )


def footage_of(run: Run, sequence: Sequence) -> Sequence:
    """Footage with a camera: as it is if it has its own camera or comes from ``Run.open``, otherwise opened by
    ``Run.open``.

    Raises:
        EgodepthError: not a run or not a sequence, or as in ``Run.open``.
    """
    check_sequence(sequence)
    if sequence.opened or brings_camera(sequence):
        return sequence
    check_run(run)
    return run.open(sequence)[0]


def check_camera(camera: Any) -> None:
    """Check that an argument is a camera that can be.

    Raises:
        EgodepthError: it is something else, or has impossible intrinsics.
    """
    require(camera, Camera, "camera", "a Camera")
    fx, fy, cx, cy = camera.focal_and_centre.tolist()
    problem = camera_problem(fx, fy, cx, cy, camera.height, camera.width, margin=1.0)
    if problem:
        raise EgodepthError(f"the camera {problem}")


def check_sequence(sequence: Any) -> None:
    """Check that an argument is one sequence of footage.

    Raises:
        EgodepthError: it is something else, such as a list of sequences.
    """
    require(
        sequence, Sequence, "sequence", "one Sequence, an item of the list that read_source gives"
    )


def check_sequences(sequences: Any) -> None:
    """Check that an argument is a non-empty list of sequences.

    Raises:
        EgodepthError: it is something else, or empty.
    """
    require(sequences, (list, tuple), "sequences", "a list of Sequences, as read_source gives")
    if not sequences:
        raise EgodepthError("sequences must hold at least one Sequence, got none")
    for sequence in sequences:
        check_sequence(sequence)
