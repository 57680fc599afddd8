"""Text files with one pose per row: their rows, and the columns that a header names."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text, reading
from egodepth.core.times import EARLIEST, LENGTHS, TIME_UNITS, UNIT_WORDS, split_unit, time_unit

COMMENTS = ("#", "%", "//")
LONGEST_LINE = 5000
"""Most characters of a line, header or pose."""
EXAMPLE = "# time[ms] x y z qx qy qz qw"
QUATERNION = r"(?:q|quat|quaternion|rot|rotation|o|ori|orientation)"
POSITION = r"(?:t|p|pos|position|trans|translation|loc|location|cam|camera|pose)"
ROLES = {
    "quaternion": rf"(?:(?:.*_)?{QUATERNION}|r)(?:_[a-z]{{1,3}})*_?([wxyzijkr])",
    "number": rf"(?:.*_)?{QUATERNION}_?\[?([0-4])\]?",
    "position": rf"(?:(?:.*_)?{POSITION}(?:_[a-z]{{1,3}})*_?)?([xyz])|(?:.*_)?{POSITION}_?\[?([0-2])\]?",
    "angle": r"(?:.*_)?(?:roll|pitch|yaw|heading|azimuth|r[xyz])",
    "time": r"(?:.*_)?(?:t|ts|times?|time_?stamps?|stamp|date_?time|elapsed)",
    "index": r"|#|(?:.*_)?(?:index|idx|id|frames?|frame_?(?:num|no)|no|nr|num|number|seq|image|i|n|count)",
}
"""Patterns of column names (lower case, words joined by _) by content; the first match counts."""
AXES = str.maketrans("ijkr012", "xyzwxyz")
ORDERS = ("wxyz", "xyzw")


def _order_in_words(letters: str, number: int, place: str) -> re.Pattern[str]:
    """Pattern that matches a statement of the quaternion's order: ``scalar first``, ``wxyz``,
    ``qw, qx, qy, qz``, ``q0 is w``."""
    named = r"[\s,]*".join(f"(?:q_?)?{letter}" for letter in letters)
    return re.compile(
        rf"(scalar|real|\bq?_?w)[ -]*(part )?{place}|(?<![a-z]){named}(?![a-z])"
        rf"|q_?{number}\b[^\n]{{0,12}}(scalar|real|\bw\b)",
        re.IGNORECASE,
    )


SCALAR_FIRST = _order_in_words("wxyz", 0, "first")
SCALAR_LAST = _order_in_words("xyzw", 3, "last")
WORLD_TO_CAMERA = re.compile(
    r"world[ _-]?(to|2)[ _-]?cam|\bw2c\b|\bt_?c_?w\b|cam(era)?_from_world|\bt_cam(era)?_world"
    r"|\bcam(era)?_t_world|\bextrinsics?\b",
    re.IGNORECASE,
)
LENGTH_IN = re.compile(
    r"\b(?:translation|position|length|unit|distance)s?[a-z ]*(?: in|:|=)\s*"
    r"(cm|mm|km|(?:centi|milli|kilo)met(?:re|er)s?)\b",
    re.IGNORECASE,
)
TIME_IN = re.compile(r"\b(?:time|stamp)[a-z]* (?:are |is |given )*in ([a-zµμ]+)", re.IGNORECASE)
IMAGE_NAME = re.compile(r".*\.(jpe?g|png|bmp|tiff?|webp)", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """Columns of the parts of a pose, as named by a header.

    Attributes:
        position: columns of x, y, z.
        metres: length of each column's unit in metres.
        quaternion: its four columns, in the order of the file.
        order: their components, such as ``wxyz``; empty if they are only numbered (``q0 q1 q2 q3``).
        time: columns of the time; if there are two, seconds and additional nanoseconds.
        unit: of the time, or empty.
        index: column of a frame number, or None.
    """

    position: list[int]
    metres: list[float]
    quaternion: list[int]
    order: str
    time: list[int]
    unit: str
    index: int | None


class Times(NamedTuple):
    """Times of the rows of a file.

    Attributes:
        seconds: (N,) the times in seconds.
        unit: their unit in the file.
        counted: whether they may be frame numbers: whole numbers that nothing marks as seconds.
    """

    seconds: ndarray
    unit: str
    counted: bool


@dataclass(frozen=True)
class PoseTable:
    """The rows of a text file.

    Attributes:
        path: of the file.
        words: (N, C) fields.
        lines: line number of each row.
        first: text of the first row.
        headers: the lines before the first row.
    """

    path: str | Path
    words: list[list[str]]
    lines: list[int]
    first: str
    headers: list[str]

    @property
    def count(self) -> int:
        """Number of columns."""
        return len(self.words[0])

    @property
    def separation(self) -> str:
        """The separator in words, such as ``, comma-separated``; empty for spaces."""
        marks = {";": "semicolon", ",": "comma", "\t": "tab"}
        return next((f", {name}-separated" for m, name in marks.items() if m in self.first), "")

    @property
    def metres(self) -> float:
        """Length of the unit of positions in metres, as a header says it in words; 1 if none does."""
        prose = LENGTH_IN.search("\n".join(self.headers))
        if prose is None:
            return 1.0
        unit = prose[1].lower()
        return LENGTHS[unit if unit in LENGTHS else f"{unit[0]}m"]

    def numbers(self, columns: list[int] | None = None) -> ndarray:
        """Numbers (N, columns) of the given columns, by default of all; NaN where a field is empty.

        Raises:
            EgodepthError: a field that is infinite or not a number.
        """
        wanted = list(range(self.count)) if columns is None else columns
        rows: list[list[float]] = []
        for line, words in zip(self.lines, self.words, strict=True):
            row = [_number(words[column]) for column in wanted]
            known = [value for value in row if value is not None]
            shown = " ".join(words)[:60]
            if len(known) < len(row):
                like = f"{self.count} numbers, as in line {self.lines[0]}" if rows else "numbers"
                raise EgodepthError(f"{self.path} line {line}: expected {like}, got {shown!r}")
            if np.isinf(known).any():
                raise EgodepthError(f"{self.path} line {line}: infinite numbers, got {shown!r}")
            rows.append(known)
        return np.array(rows, np.float64).reshape(-1, len(wanted))

    def expect(self, columns: tuple[int, ...], expected: str) -> None:
        """Raise EgodepthError if the number of columns is none of ``columns``."""
        if self.count not in columns:
            raise EgodepthError(
                f"{self.path} line {self.lines[0]}: expected {expected}, got {self.first[:60]!r}"
            )

    def refuse(self, wrong: ndarray, form: str, why: Callable[[int], str]) -> None:
        """Raise EgodepthError for the first row marked as wrong, if any."""
        if wrong.any():
            row = int(np.argmax(wrong))
            more = f" ({wrong.sum()} such lines)" if wrong.sum() > 1 else ""
            raise EgodepthError(
                f"{self.path} line {self.lines[row]}: taken for {form}, but {why(row)}{more}"
            )

    def times(self, values: ndarray, named: str = "") -> Times:
        """Convert times (N,) from the unit ``named``, else the header's, else the only plausible one.

        Raises:
            EgodepthError: a row without a time, mostly repeated times, or times that fit no unit or several.
        """
        self.refuse(~np.isfinite(values), "a trajectory", lambda row: "it has no time")
        apart = len(np.unique(values))
        if len(values) > 1 and apart <= len(values) / 2:
            raise EgodepthError(
                f"{self.path}: its {len(values)} poses have {apart} different times, {values[0]:.12g} to "
                f"{values[-1]:.12g}; write times with all their digits"
            )
        named = named or self._named_unit()
        unit = time_unit(values, named, self.path, EXAMPLE)
        whole = np.array_equal(values, np.rint(values)) and np.abs(values).max() < EARLIEST
        return Times(values / TIME_UNITS[unit], unit, whole and unit == "s" and not named)

    def _named_unit(self) -> str:
        """Time unit from a header that may not name all columns, or empty."""
        for line in reversed(self.headers):
            for name in _names(line):
                role, _, unit = _role(name)
                if role == "time" and unit:
                    return unit
            prose = TIME_IN.search(line)
            if prose and prose[1].lower() in UNIT_WORDS:
                return UNIT_WORDS[prose[1].lower()]
        return ""

    def columns(self) -> Columns | None:
        """Columns as named by a header; None if no header names them.

        Raises:
            EgodepthError: a header that contradicts the rows or itself, says world to camera, or names angles
                or an incomplete pose.
        """
        wrong = ""
        if WORLD_TO_CAMERA.search("\n".join(self.headers)):
            wrong = "says that the poses are from world to camera: invert them"
        found = None
        for line in reversed(self.headers):
            names = _names(line)
            if len(names) == self.count - 1 and self._is_counted():
                names = ["", *names]  # as pandas writes it
            extra = len(names) - self.count
            if extra >= 0 and not any(_role(word)[0] for word in names[:extra]):
                names = names[extra:]
                found = found or _find(names)
            if not found and _find(names):
                wrong = f"names {len(names)} columns, but the rows have {self.count}"
            elif not found and not wrong and len(names) == self.count:
                wrong = _half(names)
        order = self.order()
        if found and order and found.order not in ("", order):
            wrong = wrong or f"names the quaternion both {found.order} and {order}"
        if wrong:
            raise EgodepthError(
                f"{self.path}: its header {wrong}; it must name a time and the pose of the camera in the "
                f"world, like {EXAMPLE}"
            )
        return found

    def order(self) -> str:
        """Quaternion order, ``wxyz`` or ``xyzw``, that a header states in words, or empty.

        Raises:
            EgodepthError: it states both.
        """
        lines = [h for h in self.headers if not _find(_names(h)[-self.count :])]
        text = "\n".join(lines)
        first, last = bool(SCALAR_FIRST.search(text)), bool(SCALAR_LAST.search(text))
        if first and last:
            raise EgodepthError(
                f"{self.path}: its header has the quaternion both w first and w last"
            )
        return "wxyz" if first else "xyzw" if last else ""

    def _is_counted(self) -> bool:
        numbers = [_number(words[0]) for words in self.words]
        return numbers in [[float(start + i) for i in range(len(numbers))] for start in (0, 1)]


def read_pose_table(path: str | Path) -> PoseTable:
    """Read the rows of a file whose fields are separated by spaces, tabs, commas or semicolons.

    Raises:
        EgodepthError: a missing file, no rows, rows of different lengths, or COLMAP's ``images.txt``.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    headers: list[str] = []
    first = ""
    for number, line in enumerate(read_text(path, "the trajectory").splitlines(), start=1):
        if len(line) > LONGEST_LINE:
            raise EgodepthError(
                f"{path} line {number}: it has {len(line)} characters, no pose has more than {LONGEST_LINE}"
            )
        text = line.strip()
        with reading(f"{path} line {number}", "the trajectory"):
            words = _fields(text)
        named = not rows and all(_number(word) is None for word in words if word)
        if not text or text.startswith(COMMENTS) or named:
            headers += [line.rstrip()] if text and not rows else []
            continue
        colmap = (
            len(words) == 10 and IMAGE_NAME.fullmatch(words[-1]) and _number(words[0]) is not None
        )
        if not rows and (colmap or any("IMAGE_ID" in h and "CAMERA_ID" in h for h in headers)):
            raise EgodepthError(
                f"{path} looks like COLMAP's images.txt, whose poses are from world to camera; write their "
                f"inverses in the format {EXAMPLE}"
            )
        if rows and len(words) != len(rows[0]):
            raise EgodepthError(
                f"{path} line {number}: expected {len(rows[0])} numbers, as in line {lines[0]}, got "
                f"{text[:60]!r}"
            )
        rows.append(words)
        lines.append(number)
        first = first or text
    if not rows:
        raise EgodepthError(f"{path} holds no poses")
    return PoseTable(path, rows, lines, first, headers)


def _fields(text: str) -> list[str]:
    """Fields of a line; in a semicolon-separated line, a comma is a decimal point."""
    mark = next((mark for mark in ";," if mark in text), None)
    if mark is None:
        return [word.strip('"') for word in text.split()]
    (words,) = csv.reader([text], delimiter=mark, skipinitialspace=True)
    words = [word.strip() for word in words]
    if mark == ";":
        words = [re.sub(r"^([-+0-9]*),(?=[0-9])", r"\1.", word) for word in words]
    return words[:-1] if words[-1] == "" else words


def _number(word: str) -> float | None:
    try:
        return float(word or "nan")
    except ValueError:
        return None


def _names(header: str) -> list[str]:
    """Words of a line that may be column names, with their units in brackets."""
    text = re.sub(r"[\[(][^\])]*\s[^\])]*[\])]", "", header.strip("#%/ {}"))
    text = re.sub(r"\s+(?=[\[(])", "", text).replace("|", ",")
    if "," in text or ";" in text:
        words = _fields(text)
    else:
        words = [w.strip('" ') for w in (text.split("\t") if "\t" in text else text.split())]
    return [word.rpartition(": ")[2] for word in words if not word.endswith(":")]


def _role(name: str) -> tuple[str, str, str]:
    """Content of a column by its name (a key of :data:`ROLES`, or empty), its axis, and its unit."""
    bare, unit = split_unit(name)
    bare = re.sub(r"[./ -]+", "_", bare)
    if len(unit) == 1 and unit in "wxyz":  # q0(w)
        bare, unit = re.sub(r"_?[0-4]$", "", bare) + f"_{unit}", ""
    if not bare and unit in TIME_UNITS:
        return "time", "", unit
    for role, pattern in ROLES.items():
        if match := re.fullmatch(pattern, bare):
            letter = next((group for group in match.groups() if group), "")
            return role, letter if role == "number" else letter.translate(AXES), unit
    return "", "", unit


def _find(names: list[str]) -> Columns | None:
    """Find the columns of a complete pose among names, or None."""
    roles = [_role(name) for name in names]
    bare = [name.lower().translate(AXES) if len(name) == 1 else "-" for name in names]
    windows = [i for i in range(len(names) - 3) if "".join(bare[i : i + 4]) in ORDERS]
    if windows:
        roles[windows[-1] : windows[-1] + 4] = [
            ("quaternion", letter, "") for letter in bare[windows[-1] : windows[-1] + 4]
        ]
    if bare.count("w") == 1 and not windows:
        roles[bare.index("w")] = ("quaternion", "w", "")

    def places(wanted: str) -> list[int]:
        return [i for i, (role, _, _) in enumerate(roles) if role == wanted]

    def letters(columns: list[int]) -> str:
        return "".join(roles[i][1] for i in columns)

    position = sorted(places("position"), key=lambda i: roles[i][1])
    quaternion, order = places("quaternion"), letters(places("quaternion"))
    if not quaternion and letters(places("number")) in ("0123", "1234"):
        quaternion, order = places("number"), ""
    elif "".join(sorted(order)) != "wxyz":
        return None
    if letters(position) != "xyz":
        return None
    times = sorted(places("time"), key=lambda i: "header_stamp" not in _plain(names[i]))
    rest = [i for i in times[1:2] if [roles[i][2], roles[times[0]][2]] == ["ns", "s"]]
    index = next(iter(places("index")), None)
    return Columns(
        position, [LENGTHS.get(roles[i][2], 1.0) for i in position], quaternion, order,
        times[:1] + rest, roles[times[0]][2] if times else "", index,
    )  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r"[./ -]+", "_", name.lower())


def _half(names: list[str]) -> str:
    """What is wrong with column names that look like an incomplete pose, or empty."""
    roles = [_role(name)[0] for name in names]
    if roles.count("angle") >= 3:
        return "names angles in place of a quaternion"
    if roles.count("position") == 3 and "quaternion" not in roles and len(names) < 12:
        return "names a position and no quaternion"
    if len(names) in (12, 13, 16) or roles.count("position") + roles.count("quaternion") < 3:
        return ""  # names of matrix entries, or prose
    return "names no whole pose, or more than one"
