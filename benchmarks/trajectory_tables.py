"""Rows of the results page's tables of trajectories."""

from typing import Any

Rows = list[list[str]]


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
