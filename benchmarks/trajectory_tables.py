"""Rows of the results page's tables of trajectories."""

from typing import Any

from benchmarks.table_cells import Rows


def odometry(facts: dict[str, Any]) -> Rows:
    """Trajectory errors after similarity alignment."""
    rows = [["sequence", "method", "frames", "ATE (m)", "of the path", "frames per second"]]
    for sequence, methods in facts["results"].items():
        for method, v in methods.items():
            rows.append(
                [sequence, method, str(v["frames"]), f"{v['ate_m']:.3f}", f"{v['ate_percent']:.2f} %",
                 f"{v['frames'] / v['seconds']:.1f}"]
            )  # fmt: skip
    return rows


def broken_footage(facts: dict[str, Any]) -> Rows:
    """Odometry of footage that breaks."""
    rows = [["footage", "frames", "with a pose", "separate parts", "ATE of each (m)"]]
    for name, v in facts["results"].items():
        errors = ", ".join(f"{error:.3f}" for error in v["ate_m"])
        rows.append([name, str(v["frames"]), str(v["posed"]), str(v["parts"]), errors])
    return rows


def odometry_memory(facts: dict[str, Any]) -> Rows:
    """Memory of odometry over frames."""
    rows = [["frames", "key frames", "memory (MB)", "of the map", "of the map on disk"]]
    for v in facts["results"][3::4]:  # of twenty
        megabytes = [f"{v[name]:.0f}" for name in ("memory_mb", "map_mb", "disk_mb")]
        rows.append([str(v["frames"]), str(v["key_frames"]), *megabytes])
    return rows


def town(facts: dict[str, Any]) -> Rows:
    """Odometry in rendered towns, each and over all: mean and worst."""
    rows = [["town", "frames", "path (m)", "loops closed", "ATE with loops", "live"]]
    columns = "ate_percent_loops", "ate_percent_live"
    for v in facts["results"]:
        errors = [f"{v[name]:.2f} %" for name in columns]
        drive = str(v["frames"]), f"{v['path_m']:.0f}", str(v["closed"])
        rows.append([f"`synthetic:blocks:{v['seed']}`", *drive, *errors])
    if len(facts["results"]) == 1:
        return rows
    for name, of in (("mean", lambda values: sum(values) / len(values)), ("worst", max)):
        errors = [f"{of([v[c] for v in facts['results']]):.2f} %" for c in columns]
        rows.append([name, "", "", "", *errors])
    return rows
