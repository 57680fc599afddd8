"""Camera trajectories: chaining, alignment, association in time, and the KITTI, TUM and EuRoC formats."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.times import TIME_UNITS
from egodepth.geometry.plausible import FARTHEST_POSITION, ROTATION_TOLERANCE, off_rotation
from egodepth.geometry.pose_table import EXAMPLE, ORDERS, Columns, PoseTable, Times, read_pose_table


def chain(
    previous_from_next: Float64[ndarray, "n 4 4"],
) -> Float64[ndarray, "m 4 4"]:
    """Chain N motions between consecutive frames into poses ``first_from_frame`` (N + 1, 4, 4)."""
    poses = [np.eye(4)]
    for motion in previous_from_next:
        poses.append(poses[-1] @ motion)
    return np.stack(poses)


def align_similarity(
    estimate: Float64[ndarray, "n 3"], truth: Float64[ndarray, "n 3"], *, with_scale: bool = True
) -> tuple[float, Float64[ndarray, "3 3"], Float64[ndarray, "3"]]:
    """Scale s, rotation R and translation t that minimise sum |s R estimate + t - truth|^2.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991. If all points lie on a line, the rotation about it is undetermined, and an arbitrary proper
    rotation is returned.
    """
    mean_estimate, mean_truth = estimate.mean(0), truth.mean(0)
    a, b = estimate - mean_estimate, truth - mean_truth
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[2] = -1
    rotation = (u * sign) @ vt
    variance = (a**2).sum() / len(a)
    scale = float((d * sign).sum() / variance) if with_scale and variance > 0 else 1.0
    return scale, rotation, mean_truth - scale * rotation @ mean_estimate


def associate(
    times: Float64[ndarray, "n"], others: Float64[ndarray, "m"], apart: float
) -> Int64[ndarray, "p 2"]:
    """Indices (P, 2) of times that belong together, at most ``apart`` seconds apart and each used at most
    once. Each time of the shorter list is matched to the nearest of the other (as in evo); if several match
    the same one, the nearest wins."""
    if len(times) > len(others):
        pairs = associate(others, times, apart)[:, ::-1]
        return pairs[np.argsort(pairs[:, 0], kind="stable")]
    order = np.argsort(others, kind="stable")
    ordered = others[order]
    after = np.searchsorted(ordered, times).clip(0, len(others) - 1)
    before = (after - 1).clip(0)
    nearer = np.abs(ordered[before] - times) <= np.abs(ordered[after] - times)
    nearest = np.where(nearer, before, after)
    distance = np.abs(ordered[nearest] - times)
    by_distance = np.argsort(distance, kind="stable")
    first = by_distance[np.unique(nearest[by_distance], return_index=True)[1]]
    kept = np.sort(first[distance[first] <= apart])
    return np.stack([kept, order[nearest[kept]]], axis=1)


def poses_at(
    times: Float64[ndarray, "n"],
    pose_times: Float64[ndarray, "m"],
    poses: Float64[ndarray, "m 4 4"],
    apart: float,
) -> Float64[ndarray, "n 4 4"]:
    """Poses (N, 4, 4) nearest in time as matched by :func:`associate`, NaN where none is within ``apart``
    seconds."""
    found = np.full((len(times), 4, 4), np.nan)
    pairs = associate(times, pose_times, apart)
    found[pairs[:, 0]] = poses[pairs[:, 1]]
    return found


def _rotations(quaternions: Float64[ndarray, "n 4"]) -> Float64[ndarray, "n 3 3"]:
    """Rotation matrices of quaternions x y z w: R = I + 2 w [v] + 2 [v]^2."""
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    vector, real = unit[:, :3], unit[:, 3, None, None]
    skew = np.cross(np.eye(3), vector[:, None])
    return np.eye(3) + 2 * (real * skew + skew @ skew)


class RecordedTrajectory(NamedTuple):
    """A trajectory as read from a file.

    Attributes:
        times: (N,) seconds, ascending; None if the file has none.
        poses: (N, 4, 4) ``world_from_camera``, NaN for rows without a valid pose.
        form: the detected format, in words.
        counted: whether the times may be frame numbers: whole numbers that nothing marks as seconds.
        disorder: where in the file the times do not rise, in words, or empty.
    """

    times: Float64[ndarray, "n"] | None
    poses: Float64[ndarray, "n 4 4"]
    form: str
    counted: bool = False
    disorder: str = ""


FORMS = (
    "a line has 12 numbers (KITTI), 8 (TUM: time x y z qx qy qz qw), or 8 or 17 with commas and times "
    "in nanoseconds (EuRoC: time x y z qw qx qy qz); an index or a time may precede KITTI's 12 or the 16 of "
    "a matrix, an index TUM's 8; or a header names the columns"
)
SAME_POSE = 1e-6
"""Largest difference of any number of two poses that are the same."""
IDENTITY_TOLERANCE = 1e-3
"""Largest deviation of a quaternion's components from those of the identity rotation."""


def read_trajectory(path: str | Path) -> RecordedTrajectory:
    """Read a trajectory in KITTI, TUM or EuRoC format, or with a header that names its columns, separated by
    spaces, tabs, commas or semicolons.

    The header determines the columns, their order and units; without one, the number of columns and the times
    do. Every row is checked. Rows without a pose (NaN or an all-zero rotation, as written by trackers that
    are lost) become NaN, with a warning.

    Raises:
        EgodepthError: a missing file, an unknown format, times of ambiguous unit, a header that contradicts
            the rows, or a row that is not a pose (the message names its line).
    """
    table = read_pose_table(path)
    columns = table.columns()
    if columns is not None:
        return _from_columns(table, columns)
    rows, count = table.numbers(), table.count
    if count in (16, 17) and (rows[:, -4:] == (0, 0, 0, 1)).all():
        return _from_matrices(table, rows[:, :-4], "with the last row 0 0 0 1")
    if count == 4 and len(rows) % 4 == 0 and (rows[3::4] == (0, 0, 0, 1)).all():
        blocks = replace(table, lines=table.lines[::4], words=table.words[::4])
        return _from_matrices(blocks, rows.reshape(-1, 16)[:, :12], "with four lines per pose")
    if count in (12, 13):
        return _from_matrices(table, rows)
    first = rows[:, 0]
    indexed = count == 9 and np.array_equal(first, np.rint(first)) and (np.diff(first) > 0).all()
    if count in (8, 17) or indexed:
        start = int(indexed)
        times = table.times(rows[:, start])
        nanoseconds = table.separation and times.unit == "ns"
        order = table.order() or ("wxyz" if count == 17 or nanoseconds else "xyzw")
        return _from_quaternions(table, times, rows[:, start + 1 :], order, bool(start))
    raise EgodepthError(
        f"{path} is no trajectory: {FORMS}; line {table.lines[0]} has {count}: {table.first[:60]!r}"
    )


def read_kitti(path: str | Path) -> Float64[ndarray, "n 4 4"]:
    """Read poses (N, 4, 4) from a file in KITTI format.

    Raises:
        EgodepthError: as :func:`read_trajectory`, or a line without 12 numbers.
    """
    table = read_pose_table(path)
    table.expect((12,), "12 numbers")
    return _from_matrices(table, table.numbers()).poses


def read_tum(path: str | Path) -> tuple[Float64[ndarray, "n"], Float64[ndarray, "n 4 4"]]:
    """Read times (N,) in seconds and poses (N, 4, 4) from a file in TUM format, sorted by time.

    Raises:
        EgodepthError: as :func:`read_trajectory`, or a line without eight numbers.
    """
    table = read_pose_table(path)
    table.expect((8,), "time, position and quaternion x y z w")
    return _timed(table, "xyzw")


def read_euroc(path: str | Path) -> tuple[Float64[ndarray, "n"], Float64[ndarray, "n 4 4"]]:
    """Read times (N,) in seconds and poses (N, 4, 4) from a file in EuRoC format, sorted by time.

    Raises:
        EgodepthError: as :func:`read_trajectory`, or a line without 8 or 17 numbers.
    """
    table = read_pose_table(path)
    table.expect((8, 17), "nanoseconds, position and quaternion w x y z")
    return _timed(table, "wxyz", "ns")


def _timed(
    table: PoseTable, order: str, unit: str = ""
) -> tuple[Float64[ndarray, "n"], Float64[ndarray, "n 4 4"]]:
    """Times and poses of a file whose quaternion order and time unit are known, unless its header names
    others."""
    columns = table.columns()
    if columns is not None:
        found = _from_columns(table, columns)
    else:
        rows = table.numbers()
        times = table.times(rows[:, 0], unit)
        found = _from_quaternions(table, times, rows[:, 1:], table.order() or order, False)
    if found.times is None:
        raise EgodepthError(f"{table.path}: its header names no time")
    return found.times, found.poses


def is_frame_count(values: Float64[ndarray, "n"]) -> bool:
    """Whether values count up by one from 0 or from 1."""
    start = values[0] if len(values) > 1 else -1
    return start in (0, 1) and np.array_equal(values, start + np.arange(len(values)))


def _from_columns(table: PoseTable, columns: Columns) -> RecordedTrajectory:
    """Poses of a table whose header names its columns."""
    pose = table.numbers(columns.position + columns.quaternion)
    named = any(metres != 1 for metres in columns.metres)
    pose[:, :3] *= np.array(columns.metres) / (table.metres if named else 1)
    order = columns.order or table.order() or _order_by_start(table, pose[:, 3:])
    times = None
    if columns.time:
        parts = table.numbers(columns.time)
        if len(columns.time) == 2:
            parts[:, 0] += parts[:, 1] / TIME_UNITS["ns"]
        times = table.times(parts[:, 0], columns.unit)
    elif columns.index is not None:
        _check_count(table, table.numbers([columns.index])[:, 0])
    return _from_quaternions(table, times, pose, order, columns.index is not None, named=True)


def _order_by_start(table: PoseTable, quaternions: ndarray) -> str:
    """Infer the order of quaternions whose columns are only numbered, if the first is the identity rotation.

    Raises:
        EgodepthError: the first is not the identity rotation.
    """
    for order in ORDERS:
        unturned = np.array([letter == "w" for letter in order], np.float64)
        if np.abs(quaternions[0] - unturned).max() < IDENTITY_TOLERANCE:
            return order
    raise EgodepthError(
        f"{table.path}: its header numbers the parts of the quaternion and does not say whether w is the "
        f"first or the last; name them like {EXAMPLE}"
    )


def _check_count(table: PoseTable, numbers: ndarray) -> None:
    """Raise EgodepthError for frame numbers with gaps, since poses could not be matched to frames."""
    if not is_frame_count(numbers):
        raise EgodepthError(
            f"{table.path}: its first column, {numbers[0]:g} to {numbers[-1]:g}, holds frame numbers that do "
            "not count from 0 or 1 without gaps; write times in seconds, or a line for every frame"
        )


def _from_quaternions(
    table: PoseTable,
    times: Times | None,
    numbers: ndarray,
    order: str,
    indexed: bool,
    *,
    named: bool = False,
) -> RecordedTrajectory:
    """Make poses from rows of position and quaternion.

    Args:
        table: where the rows come from, for messages.
        times: of the poses, if any.
        numbers: (N, 7 or more) positions and quaternions; further columns are ignored.
        order: of the quaternions' components.
        indexed: whether an index precedes them.
        named: whether a header names the columns.
    """
    form = ("EuRoC" if order == "wxyz" else "TUM") + " after an index" * indexed
    form += f" (times in {times.unit}, " if times else " (no times, "
    form += f"quaternions {' '.join(order)}{table.separation})"
    positions, as_written = numbers[:, :3], numbers[:, 3:7]
    quaternions = as_written[:, [order.index(letter) for letter in "xyzw"]]
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(quaternions, axis=1)
    lost = ~np.isfinite(numbers[:, :7]).all(1) | (lengths < ROTATION_TOLERANCE)
    table.refuse(
        ~lost & (np.abs(lengths - 1) > ROTATION_TOLERANCE), form,
        lambda row: f"its quaternion {' '.join(f'{v:g}' for v in as_written[row])} has length "
        f"{lengths[row]:.3g}, not 1",
    )  # fmt: skip
    other = "xyzw" if order == "wxyz" else "wxyz"
    unturned = tuple(float(letter == "w") for letter in other)
    if not named and not table.order() and tuple(as_written[0]) == unturned:
        warnings.warn(
            f"{table.path} is taken for {form}; its first quaternion would be no rotation in the order "
            f"{' '.join(other)}: if that is meant, name the columns in a header, like "
            f"# time x y z {' '.join(f'q{letter}' for letter in other)}",
            EgodepthWarning, stacklevel=4,
        )  # fmt: skip
    quaternions = np.where(lost[:, None], (0.0, 0.0, 0.0, 1.0), quaternions)
    rotations = _rotations(quaternions)
    return _recorded(table, times, rotations, positions, lost, form)


def _from_matrices(table: PoseTable, numbers: ndarray, with_row: str = "") -> RecordedTrajectory:
    """Make poses from (N, 12) numbers, the top 3x4 row by row, or from 13, of which the first is a time or an
    index."""
    times = None
    form = "KITTI"
    if numbers.shape[1] == 13:
        first = numbers[:, 0]
        if is_frame_count(first):
            form += " after an index"
        else:
            times = table.times(first)
            if times.counted:
                _check_count(table, first)
            form += f" after a time in {times.unit}"
    form += f" {with_row}" if with_row else ""
    form += table.separation
    matrices = numbers[:, -12:].reshape(-1, 3, 4)
    rotations = matrices[:, :, :3]
    lost = ~np.isfinite(matrices).all((1, 2)) | (np.abs(rotations).max((1, 2)) == 0)
    rotations = np.where(lost[:, None, None], np.eye(3), rotations)
    off = off_rotation(rotations)
    table.refuse(
        off > ROTATION_TOLERANCE, form,
        lambda row: f"its 3x3 part is no rotation: R R^T is {off[row]:.2g} off the identity",
    )  # fmt: skip
    table.refuse(
        np.linalg.det(rotations) < 0, form,
        lambda row: "its 3x3 part is a mirror image, no rotation: the determinant is -1",
    )  # fmt: skip
    # Numbers with few digits are not exactly a rotation; take the nearest one.
    u, _, vt = np.linalg.svd(rotations)
    return _recorded(table, times, u @ vt, matrices[:, :, 3], lost, form)


def _recorded(
    table: PoseTable,
    times: Times | None,
    rotations: ndarray,
    positions: ndarray,
    lost: ndarray,
    form: str,
) -> RecordedTrajectory:
    positions = table.metres * positions
    table.refuse(
        ~lost & (np.abs(positions).max(1) > FARTHEST_POSITION), form,
        lambda row: f"its position, {np.abs(positions[row]).max():.3g} from the origin, is nowhere on Earth",
    )  # fmt: skip
    if lost.all():
        raise EgodepthError(f"{table.path} holds no pose with a valid position and rotation")
    if lost.any():
        places = [str(table.lines[row]) for row in np.flatnonzero(lost)]
        some = ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
        warnings.warn(
            f"{table.path}: {len(places)} of {len(lost)} poses have no valid position and rotation (line "
            f"{some}) and are left out",
            EgodepthWarning, stacklevel=5,
        )  # fmt: skip
    poses = np.tile(np.eye(4), (len(lost), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotations, positions
    poses[lost] = np.nan
    if times is None:
        return RecordedTrajectory(None, poses, form)
    order = np.argsort(times.seconds, kind="stable")
    _refuse_contradictions(table, times.seconds[order], poses[order], order)
    backward = np.flatnonzero(np.diff(times.seconds) <= 0)
    disorder = ""
    if len(backward):
        row = int(backward[0])
        before, after = times.seconds[row : row + 2]
        disorder = f"line {table.lines[row + 1]}: the time {after:.12g} s follows {before:.12g} s"
    return RecordedTrajectory(times.seconds[order], poses[order], form, times.counted, disorder)


def _refuse_contradictions(table: PoseTable, times: ndarray, poses: ndarray, rows: ndarray) -> None:
    """Raise EgodepthError for two different poses of the same time.

    Args:
        table: where the poses come from.
        times, poses: sorted by time.
        rows: of the table, in that order.
    """
    apart = np.abs(np.diff(poses, axis=0)).max((1, 2))
    wrong = np.flatnonzero((np.diff(times) == 0) & (apart > SAME_POSE))
    if len(wrong):
        first, second = (table.lines[rows[wrong[0] + i]] for i in (0, 1))
        raise EgodepthError(
            f"{table.path}: lines {first} and {second} have different poses of the same time "
            f"({len(wrong)} such pairs); keep one of them, and write times with all their digits"
        )
