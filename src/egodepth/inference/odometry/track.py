"""Track the trajectory of a whole video, and write it."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning, require
from egodepth.core.files import write_json
from egodepth.core.outputs import OutputFolder
from egodepth.core.prefetch import prefetch
from egodepth.data.preparation.static_mask import choose_mask
from egodepth.data.sequence import Sequence, time_per_frame
from egodepth.evaluation.odometry import score_trajectory
from egodepth.inference.arguments import check_run, footage_of
from egodepth.inference.odometry.known_length import (
    KNOWN_LENGTHS,
    CameraHeight,
    KnownLength,
    LengthOfMotion,
)
from egodepth.inference.odometry.map import ClosedLoop
from egodepth.inference.odometry.tracker import FrameMotion, Odometry, OdometrySettings
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.inference.odometry.unit import (
    require_times,
    unit_by_heights,
    unit_by_motion,
    unit_by_view,
)
from egodepth.runs.destination import output_folder
from egodepth.runs.run import Run
from egodepth.runs.unit import Unit

ODOMETRY = "odometry"
"""Kind of output, for :class:`OutputFolder`."""


@dataclass(frozen=True)
class TrackedTrajectory(Trajectory):
    """The trajectory of a video from direct alignment: of its longest part that was tracked without a break, or
    whose breaks were bridged by places that were recognised.

    Attributes:
        key_frames: number of key frames.
        untrusted: numbers of the frames that could not be aligned and have no pose anywhere.
        seconds: computing time.
        interrupted: after how many frames tracking was interrupted, in words; empty for a whole trajectory.
        loops: the loops that were closed.
        rejected_loops: number of recognised places that others contradict or none supports.
        live: (N, 4, 4) poses as they were before loops were closed, in the run's unit; None without loops.
        segments: the other parts, which nothing joins with this one: trajectories of their frames alone, in the
            frame of their first camera. They have the same unit, as far as DepthNet keeps it.
    """

    key_frames: int = 0
    untrusted: list[int] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: str = ""
    loops: list[ClosedLoop] = field(default_factory=list)
    rejected_loops: int = 0
    live: np.ndarray | None = None
    segments: list[Trajectory] = field(default_factory=list)

    @property
    def comment(self) -> str:
        """Comment for files made from it: that the trajectory is partial; empty for a whole one."""
        reasons = [text for text in (self.interrupted, self.lost) if text]
        return f"partial: {', '.join(reasons)}" if reasons else ""


def track_sequence(
    run: Run,
    sequence: Sequence,
    settings: OdometrySettings | None = None,
    *,
    known: KnownLength | None = None,
    on_frame: Callable[[FrameMotion], None] = lambda motion: None,
) -> TrackedTrajectory:
    """Track the trajectory of a video by direct alignment, and close its loops.

    Args:
        run: trained networks.
        sequence: footage; without a camera of its own, it gets the run's.
        settings: of the method.
        known: a known length, which makes the unit metres.
        on_frame: called with each frame's motion.

    Raises:
        EgodepthError: no camera, or broken frames, or a mask that cannot be read.
        NoUnitError: the known length does not determine a unit; has the trajectory.
        TrackingInterrupted: on Ctrl-C; has the trajectory so far.
    """
    check_run(run)
    sequence = footage_of(run, sequence)
    require(settings, (OdometrySettings, type(None)), "settings", "OdometrySettings")
    require(known, (KnownLength, type(None)), "known", KNOWN_LENGTHS)
    assert sequence.camera is not None
    require_times(sequence, known)
    if not sequence.opened:  # otherwise Run.open did
        run.fit_size(sequence.frames.height, sequence.frames.width)
    gap = run.motion_gap.in_frames(time_per_frame(sequence.frames)) if run.has_motion else None
    size = run.settings.height, run.settings.width
    odometry = Odometry(
        run, sequence.camera, settings, gap=gap, ground=isinstance(known, CameraHeight),
        static=choose_mask(sequence, settings.mask, *size) if settings else None,
    )  # fmt: skip
    started = time.perf_counter()
    times: list[float | None] = []
    numbers: list[int] = []
    total, interrupted = len(sequence.frames), ""
    try:
        for frame in progress.track(
            prefetch(sequence.frames.at()), f"tracking {sequence.name}", total
        ):
            motion = odometry.track(frame)
            numbers.append(frame.number)
            times.append(frame.time)
            on_frame(motion)
    except KeyboardInterrupt:
        if len(times) < 2:
            raise
        interrupted = f"interrupted after {len(times)} of {total} frames"
    odometry.finish()
    moments = None if sequence.frames.times is None else np.array(times, np.float64)
    found = _collect(odometry, numbers, moments)
    found = replace(found, seconds=time.perf_counter() - started, interrupted=interrupted)
    error: EgodepthError | None = None
    try:
        if known is not None:
            found = replace(found, unit=_known_unit(run, sequence, odometry, found, known))
    except EgodepthError as reason:
        error = reason
    if interrupted:
        if error is not None:
            text = f"{error}; the trajectory is in the run's own unit"
            warnings.warn(text, EgodepthWarning, stacklevel=2)
        raise TrackingInterrupted(found)
    if error is not None:
        raise NoUnitError(str(error), found) from error
    return found


def _collect(odometry: Odometry, numbers: list[int], times: np.ndarray | None) -> TrackedTrajectory:
    """What was found for the frames with these numbers and times."""
    count, loops, unit = len(numbers), odometry.loops, odometry.run.unit
    segments, placed = [], np.zeros(count, bool)
    for part in odometry.parts():
        frames = part.frames[part.frames < count]
        placed[frames] = True
        segments.append(Trajectory(
            part.poses[: len(frames)], [numbers[i] for i in frames],
            None if times is None else times[frames], unit,
        ))  # fmt: skip
    untrusted = [number for number, known in zip(numbers, placed, strict=True) if not known]
    return TrackedTrajectory(
        odometry.trajectory()[:count], numbers, times, unit, odometry.key_frames, untrusted,
        loops=loops, rejected_loops=odometry.rejected_loops, segments=segments[1:],
        live=odometry.live_trajectory()[:count] if loops else None,
    )  # fmt: skip


class TrackingInterrupted(KeyboardInterrupt):
    """Tracking was interrupted by Ctrl-C.

    Attributes:
        trajectory: of the frames tracked so far, in metres if a known length determines the unit.
    """

    def __init__(self, trajectory: TrackedTrajectory):
        super().__init__(trajectory.interrupted)
        self.trajectory = trajectory


class NoUnitError(EgodepthError):
    """The known length does not determine a unit.

    Attributes:
        trajectory: the tracked trajectory, in the run's own unit.
    """

    def __init__(self, reason: str, trajectory: TrackedTrajectory):
        super().__init__(reason)
        self.trajectory = trajectory


def _known_unit(
    run: Run, sequence: Sequence, odometry: Odometry, found: Trajectory, known: KnownLength
) -> Unit:
    if isinstance(known, LengthOfMotion):
        assert found.times is not None
        return unit_by_motion(found.poses[found.known, :3, 3], found.times[found.known], known)
    if isinstance(known, CameraHeight):
        return unit_by_heights(odometry.camera_heights(), known)
    return unit_by_view(run, sequence, known)


def write_trajectory(
    found: TrackedTrajectory, sequence: Sequence, out: Path | OutputFolder
) -> dict[str, float]:
    """Write ``trajectory_tum.txt``, ``trajectory_kitti.txt`` and ``odometry.json``, the trajectory before loops
    were closed as ``trajectory_live_tum.txt`` and ``trajectory_live_kitti.txt``, and the segments that are not
    joined as ``trajectory_segment_2_tum.txt`` and so on; files of an earlier odometry are removed, see
    :class:`egodepth.core.outputs.OutputFolder`.

    Returns:
        Scores against the sequence's poses, also written to ``odometry.json``; empty if it has none, or, with a
        warning, if they cannot be compared.

    Raises:
        EgodepthError: a file that cannot be written.
    """
    folder = output_folder(out, ODOMETRY)
    scores = _score(found, sequence)
    found.write(folder)
    # Without times, the warning that frames are counted was given for the first.
    if found.live is not None:
        live = replace(found, poses=found.live, times=_moments(found))
        live.write(folder, "trajectory_live")
    posed = [number for number, ok in zip(found.numbers, found.known, strict=True) if ok]
    segments = [{"name": "trajectory", "frames": _ranges(posed)}]
    for place, segment in enumerate(found.segments, 2):
        name = f"trajectory_segment_{place}"
        segments.append({"name": name, "frames": _ranges(segment.numbers)})
        replace(segment, unit=found.unit, times=_moments(segment)).write(folder, name)
    facts = {
        "sequence": sequence.name, "frames": len(found), "key_frames": found.key_frames,
        "untrusted": found.untrusted, "seconds": found.seconds, "unit": str(found.unit),
        "interrupted": bool(found.interrupted), "loops": [vars(loop) for loop in found.loops],
        "rejected_loops": found.rejected_loops, "segments": segments,
    }  # fmt: skip
    write_json(folder.file("odometry.json"), facts | ({"scores": scores} if scores else {}))
    return scores


def _moments(found: Trajectory) -> np.ndarray:
    """Times, or frame numbers in their place."""
    return np.array(found.numbers, np.float64) if found.times is None else found.times


def _ranges(numbers: list[int]) -> list[list[int]]:
    """First and last of each run of consecutive numbers."""
    values = np.array(numbers)
    pieces = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return [[int(piece[0]), int(piece[-1])] for piece in pieces]


def _score(found: Trajectory, sequence: Sequence) -> dict[str, float]:
    truth = found.true_poses(sequence)
    if truth is None:
        return {}
    try:
        return score_trajectory(found.first_from_frame, truth)
    except EgodepthError as error:
        text = f"the trajectory of {sequence.name} could not be scored: {error}"
        warnings.warn(text, EgodepthWarning, stacklevel=3)
        return {}
