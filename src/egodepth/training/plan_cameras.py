"""Self-calibration of unknown cameras before training."""

import math
import warnings
from pathlib import Path

from egodepth.core.errors import EgodepthWarning
from egodepth.data.preparation.unknown_camera import estimate_unknown_camera, with_estimate
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera


def find_cameras(sequences: list[Sequence], folder: Path) -> tuple[list[Sequence], list[str]]:
    """Estimate unknown cameras from the frames; return all sequences, and a line for each camera found.

    Where the frames do not determine the focal length, for example if the camera does not rotate, the guess is
    kept, with a warning.

    Raises:
        EgodepthError: broken frames.
    """
    done, lines = [], []
    for sequence in sequences:
        if sequence.camera_from != "guess":
            if sequence.camera_from == "metadata":
                lines.append(f"{sequence.name}: {describe_camera(sequence)}, by its metadata")
            done.append(sequence)
            continue
        found = estimate_unknown_camera(sequence, folder)
        if found is not None and not found.doubt:
            sequence = with_estimate(sequence, found)
            lines.append(
                f"{sequence.name}: {describe_camera(sequence)} +- {100 * found.deviation:.1f} %, by "
                f"{found.pairs} pairs of its frames"
                + (f"; its radial distortion (k1 {found.k1:.3f}) is undone" if found.k1 else "")
            )
        else:
            reason = (
                "too few corners can be followed"
                if found is None
                else f"{found.doubt}; {found.focal:.0f} pixels fit best, with a deviation of "
                f"{100 * found.deviation:.0f} %"
            )
            warnings.warn(
                f"{sequence.name}: the frames do not determine the focal length ({reason}); "
                f"{describe_camera(sequence)} is a guess, and depth and turns will be off as far as it "
                "is: give --data.fov, --data.focal or --data.camera",
                EgodepthWarning,
                stacklevel=2,
            )
        done.append(sequence)
    return done, lines


def describe_camera(sequence: Sequence, camera: Camera | None = None) -> str:
    """Describe the focal length of the sequence's camera, or of ``camera``, which may be at another size."""
    camera = camera or sequence.camera
    assert camera is not None
    width = sequence.frames.width
    focal = float(camera.matrix[0, 0]) * width / camera.width
    degrees = 2 * math.degrees(math.atan(width / (2 * focal)))
    return f"focal length {focal:.0f} pixels ({degrees:.0f} degrees wide)"
