"""Metric scale: one known length turns the arbitrary unit of monocular depth into metres."""

import math
import warnings
from pathlib import Path

import numpy as np
import torch

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.sequence import Sequence, read_numbered
from egodepth.geometry.ground import ground_height
from egodepth.inference.arguments import footage_of
from egodepth.inference.odometry.gps_track import read_gps
from egodepth.inference.odometry.known_length import (
    CameraHeight,
    GpsTrack,
    KnownLength,
    LengthOfMotion,
    MeanSpeed,
    MeasuredDistance,
)
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run
from egodepth.runs.unit import Unit

GROUND_FRAMES = 32
"""Number of evenly spaced frames in which the ground is searched for."""
MIN_GROUND_VIEWS_SHARE = 0.1
"""Smallest share of frames in which it must be found."""
MIN_TRAVEL = 10.0
"""Smallest distance in metres between two GPS positions that give a scale; their noise is itself metres."""
MAX_RATIO_SPREAD = 1.5
"""Largest ratio of upper to lower quartile of the metres per unit from parts of a track, without a warning."""
WINDOW = 0.75
"""Step in seconds over which a path is measured: long enough for jitter, short enough for curves."""
MIN_SIGMAS, MIN_AGREEMENT, MAX_AGREEMENT = 2.5, 0.3, 0.7
"""Smallest correlation of consecutive steps of a path that counts as motion: this many standard deviations of a
random walk's correlation, within these bounds. Real paths have 0.86 (two seconds, hand-held) to 1 (driving)."""
FRAMES_FOR_JITTER = 5
"""Fewest frames per window for which jitter can be told from curves."""
MEAN_OVER_MEDIAN = 3 / 2.366
"""Ratio of mean to median of the squared length of normal noise in three dimensions."""
MAX_SPEED_RATIO = 3.0
"""Cap on the speed of a step, relative to the speed below which half of the path is travelled."""
TIME_TOLERANCE = 1e-6
"""Seconds by which rounded times may fall short of a window."""


def require_times(sequence: Sequence, known: KnownLength | None) -> None:
    """Check that footage has times if the known length needs them.

    Raises:
        EgodepthError: it has none.
    """
    if isinstance(known, LengthOfMotion) and sequence.frames.times is None:
        raise EgodepthError(
            f"{sequence.name} has no times, as no folder of images has, and speed and GPS need them: give "
            "its frames per second with --fps"
        )


def unit_by_view(run: Run, sequence: Sequence, known: KnownLength) -> Unit:
    """Unit from the camera height or a measured distance, by DepthNet alone.

    Raises:
        EgodepthError: no ground is found, or no such frame or pixel.
    """
    sequence = footage_of(run, sequence)
    assert sequence.camera is not None
    if isinstance(known, MeasuredDistance):
        return _by_distance(run, sequence, known)
    assert isinstance(known, CameraHeight)
    size = (run.settings.height, run.settings.width)
    camera = sequence.camera.resize(*size)
    count = len(sequence.frames)
    chosen = np.unique(np.linspace(0, count - 1, min(count, GROUND_FRAMES)).astype(int))
    heights = []
    for frame in sequence.frames.at(chosen.tolist()):
        with naming(frame):
            depth = run.depth(frame.image, size)
        heights.append(ground_height(torch.from_numpy(1 / depth), camera))
    return unit_by_heights(heights, known)


def unit_by_heights(heights: list[float | None], known: CameraHeight) -> Unit:
    """Unit from the camera height and its estimates per frame in that unit (None where no ground was found).

    Raises:
        EgodepthError: too few estimates.
    """
    found = [height for height in heights if height is not None]
    if len(found) < max(1, MIN_GROUND_VIEWS_SHARE * len(heights)):
        raise EgodepthError(
            f"the ground was found in {len(found)} of {len(heights)} frames: --camera_height needs a "
            "camera that looks about level over a road or floor; use --speed, --gps or --distance"
        )
    metres = known.metres / float(np.median(found))
    return Unit(metres, f"metres, by a camera height of {known.metres:g} m")


def _by_distance(run: Run, sequence: Sequence, known: MeasuredDistance) -> Unit:
    assert sequence.camera is not None
    number, x, y = known.frame, known.x, known.y
    numbers = sequence.frames.numbers
    if number not in numbers:
        raise EgodepthError(
            f"--distance: there is no frame {number}; {sequence.name} has {numbers[0]} to {numbers[-1]}"
        )
    height, width = sequence.frames.height, sequence.frames.width
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
        raise EgodepthError(
            f"--distance: pixel {x:g} {y:g} lies outside the frame, which is {width}x{height}"
        )
    frame = next(read_numbered(sequence.frames, [number]), None)
    if frame is None:
        raise EgodepthError(f"--distance: frame {number} is broken; take another")
    with naming(frame):
        depth = run.depth(frame.image)[round(y), round(x)]
    pixel = torch.tensor([[x, y]], dtype=torch.float64)
    ray = sequence.camera.to(torch.float64).unproject(pixel, torch.ones(1, dtype=torch.float64))
    length = float(depth) * float(ray.norm())
    return Unit(
        known.metres / length, f"metres, by a distance of {known.metres:g} m in frame {number}"
    )


def unit_by_motion(positions: np.ndarray, times: np.ndarray, known: KnownLength) -> Unit:
    """Unit from a mean speed or a GPS track.

    The speed is the mean over all of the footage, stops included. The path is measured in steps of WINDOW
    seconds, since the jitter of single frames adds up.

    For a GPS track, the unit is the median ratio of displacements over pairs of times whose GPS positions are
    at least a tenth of the track's extent and MIN_TRAVEL apart, which is robust to drift and bad fixes.

    Args:
        positions: (N, 3) of the camera, in the run's unit.
        times: (N,) seconds.
        known: speed or track.

    Raises:
        EgodepthError: a camera that stands still, a path that is noise, too few frames, or a track that does
            not fit.
    """
    if isinstance(known, GpsTrack):
        return _by_gps(positions, times, known.path)
    assert isinstance(known, MeanSpeed)
    _check_motion(positions, times, "--speed")
    own = _mean_speed(positions, times, WINDOW)
    speed = known.metres_per_second
    return Unit(speed / own, f"metres, by a mean speed of {speed:g} m/s")


def _check_motion(positions: np.ndarray, times: np.ndarray, option: str) -> None:
    """Check that a path is motion, not noise. The correlation of consecutive displacements is near 1 for a
    moving camera, 0 for a random walk and -0.5 for jitter around one position.

    Raises:
        EgodepthError: too few frames, constant times or positions, or noise.
    """
    duration = float(times[-1] - times[0])
    if not (np.ptp(positions, axis=0) > 0).any() or duration <= 0:
        raise EgodepthError(f"{option} gives no scale: the camera or the time stands still")
    lag = max(min(WINDOW / 2, duration / 4), float(np.median(np.diff(times))))
    middle = np.searchsorted(times, times + lag - TIME_TOLERANCE)
    end = np.searchsorted(times, times + 2 * lag - 2 * TIME_TOLERANCE)
    start = np.flatnonzero(end < len(times))
    if len(start) == 0:
        raise EgodepthError(
            f"{option} gives no scale: {len(times)} frames over {duration:.2g} s are too few to tell "
            "motion from noise; use longer footage, --camera_height or --distance"
        )
    middle, end = middle[start], end[start]
    before, after = positions[middle] - positions[start], positions[end] - positions[middle]
    lengths = math.sqrt(float((before**2).sum() * (after**2).sum()))
    agreement = float((before * after).sum()) / lengths if lengths > 0 else 0.0
    # A random walk's correlation has a standard deviation of 1 / sqrt(number of independent coordinates).
    chance = MIN_SIGMAS / math.sqrt(3 * max(duration / (2 * lag), 1))
    if agreement < min(max(chance, MIN_AGREEMENT), MAX_AGREEMENT):
        raise EgodepthError(
            f"{option} gives no scale: the run's path is noise (steps of {lag:.2g} s agree with the next by "
            f"{agreement:.2f}, where 1 is motion and 0 chance): the camera stands still, or the run learned no "
            "motion; use --camera_height or --distance, or egodepth odometry"
        )


def _mean_speed(positions: np.ndarray, times: np.ndarray, window: float) -> float:
    """Mean speed in units per second: length of the path in steps of ``window`` seconds, corrected for the
    jitter of single positions and averaged over all starts of the first step."""
    next_place = np.searchsorted(times, times + window - TIME_TOLERANCE)
    # With few frames in a window, curves look like jitter.
    jitter = _jitter(positions, times) if next_place[0] >= FRAMES_FOR_JITTER else 0.0
    lengths, durations = [], []
    starts = range(int(next_place[0]))
    for start in starts:
        places = [0, start] if start else [0]
        while (place := int(next_place[places[-1]])) < len(times):
            places.append(place)
        if places[-1] != len(times) - 1:
            places.append(len(times) - 1)
        squared = (np.diff(positions[places], axis=0) ** 2).sum(1)
        lengths.append(np.sqrt(np.maximum(squared - 2 * jitter, 0)))
        durations.append(np.diff(times[places]))
    length, duration = np.concatenate(lengths), np.concatenate(durations)
    # An outlier frame makes two steps of arbitrary speed.
    order = np.argsort(length / duration)
    travelled = np.cumsum(length[order])
    usual = order[np.searchsorted(travelled, travelled[-1] / 2)]
    fastest = MAX_SPEED_RATIO * length[usual] / duration[usual]
    capped = np.minimum(length, fastest * duration)
    return float(capped.sum() / len(starts) / (times[-1] - times[0]))


def _jitter(positions: np.ndarray, times: np.ndarray) -> float:
    """Variance of single positions, summed over the axes, from their offsets to the interpolation between
    their neighbours."""
    share = ((times[1:-1] - times[:-2]) / (times[2:] - times[:-2]))[:, None]
    off = positions[1:-1] - (1 - share) * positions[:-2] - share * positions[2:]
    squared = (off**2).sum(1) / (1 + share**2 + (1 - share) ** 2)[:, 0]
    return float(np.median(squared)) * MEAN_OVER_MEDIAN


def _by_gps(positions: np.ndarray, times: np.ndarray, path: Path) -> Unit:
    moments, track = read_gps(path, float(times[0]))
    since = times - times[0]
    covered = (since >= moments[0]) & (since <= moments[-1])
    if covered.sum() < 2:
        raise EgodepthError(
            f"{path} has positions from {moments[0]:g} to {moments[-1]:g} s after the first frame and covers "
            "too little of the footage"
        )
    positions, since = positions[covered], since[covered]
    _check_motion(positions, since, "--gps")
    places = np.column_stack([np.interp(since, moments, column) for column in track.T])
    # Not a tenth of the path's length, which grows with the noise of every position.
    wanted = max(MIN_TRAVEL, float(np.linalg.norm(np.ptp(places, axis=0))) / 10)
    ratios = []
    for i in range(len(places)):
        apart = np.linalg.norm(places[i:] - places[i], axis=1)
        if (apart >= wanted).any():
            j = int(np.argmax(apart >= wanted))
            own = float(np.linalg.norm(positions[i + j] - positions[i]))
            if own > 0:
                ratios.append(apart[j] / own)
    if not ratios:
        raise EgodepthError(
            f"{path} gives no scale: it needs positions {wanted:.0f} m apart while the camera moves"
        )
    low, high = np.quantile(ratios, [0.25, 0.75])
    if high > MAX_RATIO_SPREAD * low:
        warnings.warn(
            f"{path} and the run's path differ: one of its units is {low:.3g} m in some parts and "
            f"{high:.3g} m in others; the track may not start with the footage, or the path drifts",
            EgodepthWarning,
            stacklevel=2,
        )
    return Unit(float(np.median(ratios)), f"metres, by the GPS track {path.name}")
