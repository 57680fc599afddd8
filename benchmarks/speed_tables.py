"""Rows of the results page's tables of time and memory."""

from statistics import fmean, median, pstdev
from typing import Any

from benchmarks.table_cells import Rows, percent

TASKS = {
    "R50": "ResNet-50 depth and features, ResNet-18 motion",
    "R18": "ResNet-18 throughout",
    "losses": "the losses alone, forward and backward",
}


def training_step(facts: dict[str, Any]) -> Rows:
    """A step against the straightforward formulation; medians."""
    rows = [["networks", "straightforward", "egodepth", "faster", "peak memory"]]
    for key, label in TASKS.items():
        v = facts["results"][key]
        times = [f"{median(v[kind]['seconds']):.2f} s" for kind in ("reference", "egodepth")]
        rows.append([label, *times, f"{v['ratio']:.1f} times", f"{v['memory_ratio']:.2f} of it"])
    return rows


def loading(facts: dict[str, Any]) -> Rows:
    """Milliseconds per frame."""
    columns = {
        "decoding_every_time": "decode, resize and jitter every time",
        "decoding_alone": "decode and resize alone",
        "first_epoch": "first epoch",
        "later_epochs": "later epochs",
    }
    rows = [["files", *columns.values(), "faster"]]
    for name, v in facts["results"].items():
        cells = [f"{v[key]:.1f} ms" for key in columns]
        rows.append([name.upper(), *cells, f"{v['ratio']:.1f} times"])
    return rows


def inference(facts: dict[str, Any]) -> Rows:
    """Latency of each backend."""
    first = next(iter(facts["results"].values()))["latency_ms"]
    rows = [["backend", "latency", "faster", "largest error of depth"]]
    for name, v in facts["results"].items():
        label = "PyTorch, eager, NCHW" if name == "eager, NCHW" else f"`{name}`"
        speed = f"{first / v['latency_ms']:.1f} times"
        rows.append([label, f"{v['latency_ms']:.0f} ms", speed, percent(v["error_max"], 2)])
    return rows


def pipeline(facts: dict[str, Any]) -> Rows:
    """What `predict` makes of what the networks alone can."""
    rows = [["backend", "networks alone", "`egodepth predict`", "share"]]
    for name, v in facts["results"]["pipeline"].items():
        rates = [f"{v[key]:.2f} frames/s" for key in ("network_fps", "predict_fps")]
        rows.append([f"`{name}`", *rates, percent(v["share"])])
    return rows


def cost(facts: dict[str, Any]) -> Rows:
    """Time and memory of a step."""
    rows = [["encoder", "size", "batch", "sources", "step", "peak memory"]]
    for v in facts["cases"]:
        size = f"{v['width']}x{v['height']}"
        numbers = [
            str(v["batch"]),
            str(v["sources"]),
            f"{v['seconds']:.2f} s",
            f"{v['peak_mb']:.0f} MB",
        ]
        rows.append([v["encoder"], size, *numbers])
    return rows


def precision(facts: dict[str, Any]) -> Rows:
    """Mean and standard deviation over the seeds."""
    rows = [["precision", "Abs Rel", "delta 1", "RMSE (m)"]]
    for name, v in facts["results"].items():
        cells = [f"{fmean(v[k]):.3f} ± {pstdev(v[k]):.3f}" for k in ("abs_rel", "a1", "rmse")]
        rows.append([name, *cells])
    return rows


def batch(facts: dict[str, Any]) -> Rows:
    """What became of the videos, and how long they took."""
    parts = {"one": "one actor", "two": "two actors", "killed": "actor and driver killed"}
    labels = {
        "videos": "videos", "frames of each": "frames of each", "done_before": "done before the second start",
        "done": "done", "failed": "failed, listed with their error", "left": "left",
        "same as by the plain loop": "the same as by the plain loop", "seconds": "seconds",
        "cpu_seconds": "CPU seconds of the actors",
    }  # fmt: skip
    found = facts["results"]
    rows = [["", *parts.values()]]
    for label, name in labels.items():
        cells = [found[part].get(label, "") for part in parts]
        rows.append([name, *(f"{c:.1f}" if isinstance(c, float) else str(c) for c in cells)])
    return rows
