"""Tables of many evaluations, next to published results."""

import html
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from egodepth.core.allowed import got
from egodepth.core.errors import EgodepthError, require
from egodepth.core.files import find, read_json, reading, require_name
from egodepth.core.suggestions import similar_path
from egodepth.evaluation.depth import LABELS, METRICS, PROTOCOLS

ODOMETRY = {
    "ate_m": "ATE (m)", "t_rel_percent": "t_rel (%)", "r_rel_deg_100m": "r_rel (deg/100 m)",
    "snippet_ate_m": "5-frame ATE (m)", "rpe_rotation_deg": "RPE turn (deg)",
    "rpe_translation_m": "RPE step (m)",
}  # fmt: skip
FACTS = ("views", "size", "seed", "commit", "cost")
MARKS = {"M": "mono", "S": "stereo", "MS": "mono_stereo"}


@dataclass(frozen=True)
class Board:
    """Results with the same protocol on the same data.

    Attributes:
        title: protocol in words, and data.
        metrics: keys and labels of the columns.
        rows: names, facts and values, best first.
    """

    title: str
    metrics: dict[str, str]
    rows: list[dict[str, Any]]


def collect(folder: str | Path, *, with_published: bool = True) -> list[Board]:
    """Make tables from all JSON files of evaluations below a folder. Only results with the same protocol on the
    same data share a table; published results appear only with those of the complete protocol ``eigen``.

    Raises:
        EgodepthError: no such folder, or no evaluation in it.
    """
    require(folder, (str, Path), "folder", "a folder of evaluations")
    require_name(folder, "a folder of evaluations")
    folder = Path(folder)
    if not folder.is_dir():
        raise EgodepthError(f"there is no folder {folder}{similar_path(folder, Path.is_dir)}")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in find(folder, "*.json"):
        scores = _read(path)
        if scores is not None:
            with reading(path, "the evaluation"):
                _check(scores)
                groups.setdefault(_key(scores), []).append(_row(scores))
    if not groups:
        raise EgodepthError(
            f"no evaluation under {folder}: write some by `egodepth evaluate ... --json FILE`"
        )
    boards = []
    published = _published() if with_published else []
    for (kind, title), rows in groups.items():
        metrics = dict(zip(METRICS, LABELS, strict=True)) if kind == "depth" else ODOMETRY
        shown = {k: v for k, v in metrics.items() if any(k in row for row in rows)}
        if kind == "depth" and all(row["_whole_eigen"] for row in rows):
            rows, published = rows + published, []
        first = next(iter(shown))
        boards.append(Board(title, shown, sorted(rows, key=lambda row: row.get(first) or 1e9)))
    if published:
        title = (
            "published, protocol eigen on its 697 images: nothing here was scored on all of them"
        )
        metrics = dict(zip(METRICS, LABELS, strict=True))
        boards.append(Board(title, metrics, sorted(published, key=lambda row: row["abs_rel"])))
    return boards


def as_markdown(boards: list[Board]) -> str:
    """Format the tables as Markdown, each below its protocol."""
    parts = []
    for board in boards:
        parts += [f"**{board.title}**", "", *_markdown_rows(_cells(board)), ""]
    return "\n".join(parts)


def as_html(boards: list[Board]) -> str:
    """Format the tables as one self-contained HTML page."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>egodepth: results</title>",
        "<meta name='viewport' content='width=device-width'><style>body{font:15px system-ui;margin:2em}",
        "table{border-collapse:collapse;margin-bottom:2em;display:block;overflow-x:auto}"
        "td,th{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:right}",
        "td:first-child,th:first-child{text-align:left}</style><h1>Results</h1>",
    ]
    for board in boards:
        head, *rows = _cells(board)
        parts.append(f"<h2 style='font-size:1em'>{html.escape(board.title)}</h2><table><tr>")
        parts += [f"<th>{html.escape(cell)}</th>" for cell in head]
        for row in rows:
            parts.append("</tr><tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row))
        parts.append("</tr></table>")
    return "\n".join(parts) + "\n"


def _cells(board: Board) -> list[list[str]]:
    rows = [["method", *board.metrics.values(), *FACTS]]
    for row in board.rows:
        values = [_number(row.get(name)) for name in board.metrics]
        rows.append([row["name"], *values, *(str(row.get(fact, "")) for fact in FACTS)])
    return rows


def _markdown_rows(cells: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "|---" * len(cells[0]) + "|", *lines[1:]]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _read(path: Path) -> dict[str, Any] | None:
    """Read an evaluation; None for other JSON files."""
    scores = read_json(path, "the evaluation")
    is_one = isinstance(scores, dict) and scores.get("kind") in ("depth", "odometry")
    return {"name": path.stem, **scores} if is_one else None


def _check(scores: dict[str, Any]) -> None:
    """Check the types of what a table shows.

    Raises:
        ValueError: another type than :func:`egodepth.core.files.write_json` was given.
    """
    facts: dict[str, type] = {"name": str, "protocol": str}
    facts |= {"sequence": str} if scores["kind"] == "odometry" else {"images": int, "data": str}
    for name, kind in facts.items():
        if not isinstance(scores.get(name), kind) or isinstance(scores[name], bool):
            raise ValueError(f"its {name} must be a {kind.__name__}, got {got(scores.get(name))}")
    shown = [*(ODOMETRY if scores["kind"] == "odometry" else METRICS), "seconds", "prepare_seconds"]
    for name in shown:
        value = scores.get(name, 0.0)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ValueError(f"its {name} must be a finite number, got {got(value)}")
    if not any(name in scores for name in shown[:-2]):
        raise ValueError("it holds no scores")


def _key(scores: dict[str, Any]) -> tuple[str, str]:
    """Kind and title of the table that a result belongs to."""
    if scores["kind"] == "odometry":
        # Rows may differ in how the trajectory was estimated, but not in how it is compared.
        protocol = scores["protocol"].split("; ", 1)[-1]
        return "odometry", f"odometry, {scores['sequence']}; {protocol}"
    return "depth", f"depth, {scores['protocol']}; {scores['images']} images of {scores['data']}"


def _row(scores: dict[str, Any]) -> dict[str, Any]:
    seconds = scores.get("seconds")
    cost = f"{seconds + scores.get('prepare_seconds', 0):.0f} s" if seconds else ""
    if cost and "cores" in scores:
        cost += f" on {scores['cores']} cores"
    # By the full description, not the name: eigen of older egodepth versions used the camera's z.
    whole = str(scores["protocol"]).startswith(str(PROTOCOLS["eigen"])) and scores.get("complete")
    name = scores["name"]
    if scores["kind"] == "odometry" and not scores.get("complete", True):
        name = f"{name} ({scores['frames']} of {scores['of_frames']} poses)"
    return {**scores, "name": name, "cost": cost, "_whole_eigen": bool(whole)}


def _published() -> list[dict[str, Any]]:
    """Rows of published results."""
    text = (files("egodepth.report") / "published.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    rows = []
    for result in table["results"]:
        test = f", {result['test']}" if "test" in result else ""
        rows.append({
            "name": f"{result['method']}{test} ({result['source']})",
            "views": MARKS.get(result["views"], result["views"]), "size": result["size"],
            **dict(zip(table["columns"], result["values"], strict=True)),
        })  # fmt: skip
    return rows
