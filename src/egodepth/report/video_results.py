"""What ``egodepth predict`` and ``egodepth odometry`` write for one video, on one machine or on many."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from egodepth.core.outputs import OutputFolder
from egodepth.data.footage.robot_logs.recording import require_robotics
from egodepth.data.sequence import Sequence
from egodepth.inference.export.robot_log import (
    ROBOT_LOGS,
    write_depth_log,
    write_trajectory_log,
)
from egodepth.inference.odometry.known_length import KnownLength
from egodepth.inference.odometry.track import TrackedTrajectory, write_trajectory
from egodepth.inference.predict import (
    EXR,
    FORMATS,
    FramePrediction,
    Motion,
    check_formats,
    find_unit,
    predict_sequence,
    write_predictions,
)
from egodepth.report.plots import plot_trajectory
from egodepth.runs.run import Run
from egodepth.runs.unit import Unit


class Predictions(NamedTuple):
    """Predictions of a video, which are written as they are iterated over.

    Attributes:
        each: the predictions.
        unit: of their lengths.
    """

    each: Iterator[FramePrediction]
    unit: Unit


def check_result_formats(formats: Collection[str]) -> None:
    """Check in advance that results can be written in these formats: those of depth maps, and robot logs.

    Raises:
        EgodepthError: an unknown format, or one whose package is not installed.
    """
    check_formats([name for name in formats if name not in ROBOT_LOGS])
    if any(name in ROBOT_LOGS for name in formats):
        require_robotics("MCAP files")


def predict_video(
    run: Run,
    sequence: Sequence,
    out: OutputFolder,
    formats: Collection[str],
    known: KnownLength | None = None,
    *,
    steady: bool = False,
    band: bool = False,
    motion: Motion = "auto",
) -> Predictions:
    """Predict depth and poses of a video, and write them in all formats.

    Args:
        run: trained networks.
        sequence: the video, opened by the run.
        out: folder to write to.
        formats: of depth maps, and of robot logs.
        known: a known length, which makes the unit metres.
        steady: filter depth along the camera's motion, see :func:`egodepth.predict_sequence`.
        band: add the confidence to the video.
        motion: where poses come from, see :func:`egodepth.predict_sequence`.
    """
    unit = find_unit(run, sequence, known)
    maps = [name for name in (*FORMATS, EXR) if name in formats]
    predicted = predict_sequence(run, sequence, unit=unit, steady=steady, motion=motion)
    each = write_predictions(predicted, out, unit, maps, band=band)
    for form in (name for name in ROBOT_LOGS if name in formats):
        path = out.file(f"depth{ROBOT_LOGS[form].ending}")
        each = write_depth_log(each, path, sequence, unit, form)
    return Predictions(each, unit)


def write_odometry(
    found: TrackedTrajectory, sequence: Sequence, out: OutputFolder, formats: Collection[str] = ()
) -> dict[str, float]:
    """Write a tracked trajectory as text, as a plot, and in the formats of robot logs; returns its scores, see
    :func:`egodepth.inference.odometry.track.write_trajectory`."""
    scores = write_trajectory(found, sequence, out)
    for form in (name for name in ROBOT_LOGS if name in formats):
        path = out.file(f"trajectory{ROBOT_LOGS[form].ending}")
        write_trajectory_log(found, path, sequence, form)
    truth = found.true_poses(sequence) if scores else None
    plot_trajectory(out.file("trajectory.png"), found.first_from_frame, truth)
    return scores
