"""Camera trajectories: chaining, alignment, association in time, and the KITTI, TUM and EuRoC formats."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy import ndarray

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import read_text, write_text
from egodepth.geometry import se3


def chain(
    previous_from_next: Float64[ndarray, "n 4 4"],
) -> Float64[ndarray, "m 4 4"]:
    """Poses ``first_from_frame`` (N + 1, 4, 4) of N motions between consecutive frames."""
    poses = [np.eye(4)]
    for motion in previous_from_next:
        poses.append(poses[-1] @ motion)
    return np.stack(poses)


def align_similarity(
    estimate: Float64[ndarray, "n 3"], truth: Float64[ndarray, "n 3"], *, with_scale: bool = True
) -> tuple[float, Float64[ndarray, "3 3"], Float64[ndarray, "3"]]:
    """Scale s, rotation R and translation t that minimise sum |s R estimate + t - truth|^2.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991. Degenerate sets (all points on a line) leave a free rotation about the line; a
    proper one is returned.
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
    """Positions (P, 2) of moments that belong together, each at most once and at most ``apart`` seconds
    from the other: of the fewer moments, each goes to the nearest of the others (as evo does it), and
    where several go to one, the nearest of them has it."""
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
    """The poses nearest in time (N, 4, 4), NaN where none is within ``apart`` seconds."""
    found = np.full((len(times), 4, 4), np.nan)
    pairs = associate(times, pose_times, apart)
    found[pairs[:, 0]] = poses[pairs[:, 1]]
    return found


def write_kitti(path: str | Path, poses: Float64[ndarray, "n 4 4"]) -> None:
    """KITTI format: a line per frame with the 12 numbers of the top 3x4 of ``first_from_frame``."""
    rows = (" ".join(f"{value:.9e}" for value in pose[:3].ravel()) for pose in poses)
    write_text(path, "\n".join(rows) + "\n")


def write_tum(
    path: str | Path, poses: Float64[ndarray, "n 4 4"], timestamps: Float64[ndarray, "n"]
) -> None:
    """TUM format: a line per frame with time in seconds, position, and quaternion x y z w."""
    quaternions = se3.quaternion_from_matrix(torch.from_numpy(poses[:, :3, :3])).numpy()
    rows = (
        f"{time:.6f} " + " ".join(f"{value:.9f}" for value in (*pose[:3, 3], *quaternion))
        for time, pose, quaternion in zip(timestamps, poses, quaternions, strict=True)
    )
    write_text(path, "\n".join(rows) + "\n")


def write_euroc(
    path: str | Path, poses: Float64[ndarray, "n 4 4"], timestamps: Float64[ndarray, "n"]
) -> None:
    """EuRoC format: comma-separated lines of time in nanoseconds, position, and quaternion w x y z."""
    quaternions = se3.quaternion_from_matrix(torch.from_numpy(poses[:, :3, :3])).numpy()
    rows = (
        ",".join(
            [str(round(time * 1e9)), *(f"{v:.9f}" for v in (*pose[:3, 3], q[3], q[0], q[1], q[2]))]
        )
        for time, pose, q in zip(timestamps, poses, quaternions, strict=True)
    )
    head = "#timestamp [ns], p_x [m], p_y [m], p_z [m], q_w [], q_x [], q_y [], q_z []"
    write_text(path, "\n".join([head, *rows]) + "\n")


class RecordedTrajectory(NamedTuple):
    """A trajectory as a file holds it.

    Attributes:
        times: (N,) seconds, ascending; None where the file tells none.
        poses: (N, 4, 4) ``world_from_camera``, NaN where the file has a row without a valid pose.
        form: what the file was taken for, in words.
    """

    times: Float64[ndarray, "n"] | None
    poses: Float64[ndarray, "n 4 4"]
    form: str


FORMS = (
    "a line has 12 numbers (KITTI), 8 (TUM: time x y z qx qy qz qw), or 8 or 17 with commas and times "
    "in nanoseconds (EuRoC: time x y z qw qx qy qz); an index or a time may precede KITTI's 12, an "
    "index TUM's 8"
)
TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
ROTATION_TOLERANCE = 0.01
"""How far a quaternion's length may be from 1, and the entries of R R^T from those of the identity."""
LONGEST_STEPS = {"s": 60.0, "ms": 5.0, "us": 5.0, "ns": 5.0}
"""Seconds between poses, in the median, up to which time stamps are taken for this unit."""
LATEST = 1e10
"""Seconds since 1970, in the year 2286."""
EARLIEST = 1e8
"""Seconds since 1970 below which whole numbers are frame numbers."""
QUATERNION_NAME = re.compile(r"\b(?:q|quat|rot|ori)[a-z_.]*?[_.]?([wxyz])\b", re.IGNORECASE)


def read_trajectory(path: str | Path) -> RecordedTrajectory:
    """A file in KITTI, TUM or EuRoC format, separated by spaces, tabs, commas or semicolons.

    The format is decided by the number of columns, the unit of the times and a header, and every row is
    checked against it. Rows without a pose (NaN, or a rotation of zeros, as trackers write them where
    they are lost) become NaN with a warning.

    Raises:
        EgodepthError: a missing file, one in none of these formats, or a row that is no pose, named by
            its line.
    """
    table = _read_table(path)
    count = table.rows.shape[1]
    if count == 16 and (table.rows[:, 12:] == (0, 0, 0, 1)).all():
        return _from_matrices(table, None, 0, "KITTI with the last row 0 0 0 1")
    if count == 12:
        return _from_matrices(table, None, 0, "KITTI")
    first = table.rows[:, 0]
    if count == 13:
        if is_frame_count(first):
            return _from_matrices(table, None, 1, "KITTI after an index")
        if np.array_equal(first, np.rint(first)) and np.abs(first).max() < EARLIEST:
            raise EgodepthError(
                f"{path}: its first column, {first[0]:g} to {first[-1]:g}, holds frame numbers that do "
                "not count from 0 or 1 without gaps; write times in seconds, or a line for every frame"
            )
        return _from_matrices(table, first, 1, "KITTI after a time")
    indexed = count == 9 and np.array_equal(first, np.rint(first)) and (np.diff(first) > 0).all()
    order, column = table.quaternion
    if count in (8, 17) or indexed or (count > 8 and order):
        start = column - 4 if order else int(indexed)
        if start not in (0, 1):
            raise EgodepthError(
                f"{path}: its header {table.header[:60]!r} has the quaternion in column {column + 1}; it "
                "must stand after time and position"
            )
        if not order:
            nanoseconds = table.separated and _time_unit(table, start) == "ns"
            order = "wxyz" if count == 17 or nanoseconds else "xyzw"
        form = "EuRoC" if order == "wxyz" else "TUM"
        return _from_quaternions(table, start, order, form + " after an index" * start)
    raise EgodepthError(
        f"{path} is no trajectory: {FORMS}; line {table.lines[0]} has {count}: {table.first[:60]!r}"
    )


def read_kitti(path: str | Path) -> Float64[ndarray, "n 4 4"]:
    """Poses in KITTI format.

    Raises:
        EgodepthError: as :func:`read_trajectory`, or a line without 12 numbers.
    """
    table = _read_table(path)
    table.expect((12,), "12 numbers")
    return _from_matrices(table, None, 0, "KITTI").poses


def read_tum(path: str | Path) -> tuple[Float64[ndarray, "n"], Float64[ndarray, "n 4 4"]]:
    """Times (N,) in seconds and poses (N, 4, 4) of a file in TUM format, in order of time.

    Raises:
        EgodepthError: as :func:`read_trajectory`, or a line without eight numbers.
    """
    table = _read_table(path)
    table.expect((8,), "time, position and quaternion x y z w")
    times, poses, _ = _from_quaternions(table, 0, "xyzw", "TUM")
    assert times is not None
    return times, poses


def read_euroc(path: str | Path) -> tuple[Float64[ndarray, "n"], Float64[ndarray, "n 4 4"]]:
    """Times (N,) in seconds and poses (N, 4, 4) of a file in EuRoC format, in order of time.

    Raises:
        EgodepthError: as :func:`read_trajectory`, or a line that does not begin with eight numbers.
    """
    table = _read_table(path)
    table.expect((8, 17), "nanoseconds, position and quaternion w x y z")
    times, poses, _ = _from_quaternions(table, 0, "wxyz", "EuRoC", "ns")
    assert times is not None
    return times, poses


def is_frame_count(values: Float64[ndarray, "n"]) -> bool:
    """Whether numbers are 0, 1, 2 and so on, or 1, 2, 3."""
    start = values[0] if len(values) > 1 else -1
    return start in (0, 1) and np.array_equal(values, start + np.arange(len(values)))


@dataclass(frozen=True)
class _Table:
    """The rows of a text file.

    Attributes:
        path: of the file.
        rows: (N, C), NaN where a field is empty.
        lines: where they stand in the file.
        first: the first of them.
        separated: whether fields are separated by commas or semicolons.
        header: the line before them, where it is none of theirs.
    """

    path: str | Path
    rows: ndarray
    lines: list[int]
    first: str
    separated: bool
    header: str

    @property
    def quaternion(self) -> tuple[str, int]:
        """Letters of the columns that the header names as a quaternion's, like ``wxyz``, and the first of
        these columns; empty where it names none."""
        words = _split(self.header.lstrip("#% "))
        found = [(m[1].lower(), i) for i, w in enumerate(words) if (m := QUATERNION_NAME.search(w))]
        letters = "".join(letter for letter, _ in found)
        if letters not in ("wxyz", "xyzw") or len(words) != self.rows.shape[1]:
            return "", 0
        return letters, found[0][1]

    def expect(self, columns: tuple[int, ...], what: str) -> None:
        """Refuse another number of columns."""
        if self.rows.shape[1] not in columns:
            raise EgodepthError(
                f"{self.path} line {self.lines[0]}: expected {what}, got {self.first[:60]!r}"
            )

    def refuse(self, wrong: ndarray, form: str, why: Callable[[int], str]) -> None:
        """Refuse the first of the rows that are marked."""
        if wrong.any():
            row = int(np.argmax(wrong))
            more = f" ({wrong.sum()} such lines)" if wrong.sum() > 1 else ""
            raise EgodepthError(
                f"{self.path} line {self.lines[row]}: taken for {form}, but {why(row)}{more}"
            )


def _read_table(path: str | Path) -> _Table:
    rows: list[list[float]] = []
    lines: list[int] = []
    first = header = ""
    for number, line in enumerate(read_text(path, "the trajectory").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith(("#", "%")):
            header = text if text and not rows else header
            continue
        words = _split(text)
        row = [_number(word) for word in words]
        if not rows and all(v is None for v, word in zip(row, words, strict=True) if word):
            header = text
            continue
        known = [value for value in row if value is not None]
        if len(known) < len(row) or (rows and len(row) != len(rows[0])):
            wanted = f"{len(rows[0])} numbers, as in line {lines[0]}" if rows else "numbers"
            raise EgodepthError(f"{path} line {number}: expected {wanted}, got {text[:60]!r}")
        if np.isinf(known).any():
            raise EgodepthError(f"{path} line {number}: infinite numbers, got {text[:60]!r}")
        rows.append(known)
        lines.append(number)
        first = first or text
    if not rows:
        raise EgodepthError(f"{path} holds no poses")
    separated = any(mark in first for mark in ",;")
    return _Table(path, np.array(rows), lines, first, separated, header)


def _split(text: str) -> list[str]:
    """Fields of a line; between semicolons a comma is a decimal point."""
    separator = next((mark for mark in ";," if mark in text), None)
    if separator == ";":
        text = text.replace(",", ".")
    words = [word.strip() for word in text.split(separator)]
    return words[:-1] if words[-1:] == [""] else words


def _number(word: str) -> float | None:
    try:
        return float(word or "nan")
    except ValueError:
        return None


def _time_unit(table: _Table, column: int) -> str:
    """s, ms, us or ns: the first in which the times are plausible, or what the header says."""
    times = table.rows[:, column]
    table.refuse(~np.isfinite(times), "a trajectory", lambda row: "it has no time")
    if "[ns]" in table.header and (times == np.rint(times)).all():
        return "ns"
    step = float(np.median(np.diff(np.unique(times)))) if len(np.unique(times)) > 1 else 0.0
    for unit, factor in TIME_UNITS.items():
        if np.abs(times).max() / factor < LATEST and step / factor <= LONGEST_STEPS[unit]:
            return unit
    raise EgodepthError(
        f"{table.path}: its times, {times[0]:g} to {times[-1]:g} in steps of {step:g}, are neither "
        "seconds nor milliseconds, microseconds or nanoseconds"
    )


def _from_quaternions(
    table: _Table, start: int, order: str, form: str, unit: str = ""
) -> RecordedTrajectory:
    """Poses of a table whose columns from ``start`` on are time, position and quaternion."""
    unit = unit or _time_unit(table, start)
    table.refuse(~np.isfinite(table.rows[:, start]), form, lambda row: "it has no time")
    form += f" (times in {unit}, quaternions {' '.join(order)}"
    form += ", comma-separated)" if table.separated else ")"
    positions = table.rows[:, start + 1 : start + 4]
    as_written = table.rows[:, start + 4 : start + 8]
    quaternions = as_written[:, [order.index(letter) for letter in "xyzw"]]
    lengths = np.linalg.norm(quaternions, axis=1)
    lost = ~np.isfinite(positions).all(1) | ~np.isfinite(lengths) | (lengths < ROTATION_TOLERANCE)
    table.refuse(
        ~lost & (np.abs(lengths - 1) > ROTATION_TOLERANCE), form,
        lambda row: f"its quaternion {' '.join(f'{v:g}' for v in as_written[row])} has length "
        f"{lengths[row]:.3g}, not 1",
    )  # fmt: skip
    other = "xyzw" if order == "wxyz" else "wxyz"
    unturned = tuple(float(letter == "w") for letter in other)
    if not table.quaternion[0] and tuple(as_written[0]) == unturned:
        warnings.warn(
            f"{table.path} is taken for {form}; its first quaternion would be no rotation in the order "
            f"{' '.join(other)}: if that is meant, name the columns in a header, like "
            f"# time x y z {' '.join(f'q{letter}' for letter in other)}",
            EgodepthWarning, stacklevel=4,
        )  # fmt: skip
    quaternions = np.where(lost[:, None], (0.0, 0.0, 0.0, 1.0), quaternions)
    rotations = se3.matrix_from_quaternion(torch.from_numpy(quaternions)).numpy()
    times = table.rows[:, start] / TIME_UNITS[unit]
    return _recorded(table, times, rotations, positions, lost, form)


def _from_matrices(
    table: _Table, times: ndarray | None, start: int, form: str
) -> RecordedTrajectory:
    """Poses of a table whose columns from ``start`` on are the top 3x4 of a pose, row by row."""
    if times is not None:
        unit = _time_unit(table, 0)
        times = times / TIME_UNITS[unit]
        form += f" in {unit}"
    form += ", comma-separated" if table.separated else ""
    matrices = table.rows[:, start : start + 12].reshape(-1, 3, 4)
    rotations = matrices[:, :, :3]
    lost = ~np.isfinite(matrices).all((1, 2)) | (np.abs(rotations).max((1, 2)) == 0)
    rotations = np.where(lost[:, None, None], np.eye(3), rotations)
    off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    table.refuse(
        off > ROTATION_TOLERANCE, form,
        lambda row: f"its 3x3 part is no rotation: R R^T is {off[row]:.2g} off the identity",
    )  # fmt: skip
    table.refuse(
        np.linalg.det(rotations) < 0, form,
        lambda row: "its 3x3 part is a mirror image, no rotation: the determinant is -1",
    )  # fmt: skip
    # Few digits leave a rotation that is slightly none; the nearest one is meant.
    u, _, vt = np.linalg.svd(rotations)
    return _recorded(table, times, u @ vt, matrices[:, :, 3], lost, form)


def _recorded(
    table: _Table,
    times: ndarray | None,
    rotations: ndarray,
    positions: ndarray,
    lost: ndarray,
    form: str,
) -> RecordedTrajectory:
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
    order = np.argsort(times, kind="stable")
    return RecordedTrajectory(times[order], poses[order], form)
