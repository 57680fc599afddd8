"""Rerun recordings (rerun.io) of whole footage: image, depth, camera, trajectory and points."""

from pathlib import Path
from typing import Any

import numpy as np

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path
from egodepth.core.outputs import check_destination
from egodepth.data.sequence import Sequence, read_numbered
from egodepth.inference.arguments import footage_of
from egodepth.inference.export.cloud import Cloud
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run


def load_rerun() -> Any:
    """Import the package rerun.

    Raises:
        EgodepthError: it is not installed.
    """
    try:
        import rerun
    except ImportError as error:
        raise EgodepthError(
            "recordings need the package rerun-sdk; install it by: pip install 'egodepth[rerun]'"
        ) from error
    return rerun


def write_rerun(
    path: Path, run: Run, sequence: Sequence, trajectory: Trajectory, cloud: Cloud,
    *, every: int = 1, comment: str = "",
) -> int:  # fmt: skip
    """Write a recording (.rrd) and return its number of frames.

    Args:
        path: of the file.
        run: trained networks.
        sequence: footage with a camera.
        trajectory: of its frames.
        cloud: points in the unit of the trajectory, which depth is written in, too.
        every: write every n-th frame.
        comment: recorded as a text document.

    Raises:
        EgodepthError: a suffix other than .rrd, rerun is not installed, or the file cannot be written.
    """
    sequence = footage_of(run, sequence)
    assert sequence.camera is not None
    check_destination(path, (".rrd",))
    rerun = load_rerun()
    poses, factor = trajectory.shown(every), trajectory.unit.factor
    camera = sequence.camera
    recording: Any = rerun.RecordingStream("egodepth")
    # Written by rerun itself, a recording that fills the disk would wait for ever.
    stream = recording.binary_stream()
    recording.log("world", rerun.ViewCoordinates.RIGHT_HAND_Y_DOWN, static=True)
    recording.log("world/points", rerun.Points3D(cloud.points, colors=cloud.colours), static=True)
    strips = [strip.astype(np.float32) for strip in trajectory.strips()]
    recording.log("world/path", rerun.LineStrips3D(strips), static=True)
    if comment:
        recording.log("comment", rerun.TextDocument(comment), static=True)
    frames = read_numbered(sequence.frames, poses)
    for frame in progress.track(frames, f"recording {sequence.name}", len(poses)):
        pose = poses[frame.number]
        recording.set_time("frame", sequence=frame.number)
        if frame.time is not None:
            recording.set_time("time", duration=frame.time)
        recording.log(
            "world/camera", rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3])
        )
        recording.log(
            "world/camera/image",
            rerun.Pinhole(
                image_from_camera=camera.matrix.double().numpy(),
                resolution=[camera.width, camera.height],
                camera_xyz=rerun.ViewCoordinates.RDF,
            ),
        )
        recording.log("world/camera/image", rerun.Image(frame.image).compress(jpeg_quality=85))
        with naming(frame):
            depth = run.depth(frame.image) * np.float32(factor)
        recording.log("world/camera/image/depth", rerun.DepthImage(depth, meter=1.0))
    with atomic_path(path) as partial:
        partial.write_bytes(stream.read() or b"")
    return len(poses)
