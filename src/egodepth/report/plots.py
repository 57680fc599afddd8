"""Plots as PNG files."""

import csv
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from egodepth.core.files import atomic_path
from egodepth.geometry.trajectory import align_similarity

NOT_TERMS = ("epoch", "step")


SURFACES = {
    "image": "image",
    "photometric": "photometric, L_ph",
    "feature_metric": "feature-metric, L_fm",
    "structural": "L_fm, structural",
}


def plot_landscape(path: Path, surfaces: dict[str, np.ndarray], step: float, title: str) -> None:
    """Losses over displacements (G, G) from the true match, side by side, low is dark.

    Each surface is drawn over its own range, from above and along the row and column of the truth.
    """
    size = next(iter(surfaces.values())).shape[-1]
    line = step * (np.arange(size) - size // 2)
    with _figure(path, 3.6 * len(surfaces), 6) as figure:
        axes = figure.subplots(2, len(surfaces), squeeze=False, height_ratios=(3, 2))
        for column, (name, surface) in enumerate(surfaces.items()):
            reach = line[-1] + step / 2
            above, along = axes[:, column]
            above.imshow(surface, cmap="viridis", extent=(-reach, reach, reach, -reach))
            above.plot(0, 0, "+", color="tab:red", ms=12, mew=2)
            above.set(title=SURFACES[name], xlabel="dx (pixels)", ylabel="dy (pixels)")
            along.plot(line, surface[size // 2], label="along x")
            along.plot(line, surface[:, size // 2], label="along y")
            along.axvline(0, color="tab:red", lw=0.8)
            along.set(xlabel="displacement (pixels)", ylabel="loss")
            along.grid(alpha=0.3)
            along.legend(frameon=False)
        figure.suptitle(title)


def plot_trajectory(path: Path, estimate: np.ndarray, truth: np.ndarray | None = None) -> None:
    """Bird's-eye view of poses (N, 4, 4); the estimate is aligned to the truth where there is one."""
    positions = estimate[:, :3, 3]
    with _figure(path, 6, 5) as figure:
        axes = figure.subplots()
        if truth is not None:
            scale, rotation, translation = align_similarity(positions, truth[:, :3, 3])
            positions = scale * positions @ rotation.T + translation
            up = int(np.ptp(truth[:, :3, 3], axis=0).argmin())
            x, y = (axis for axis in range(3) if axis != up)
            axes.plot(truth[:, x, 3], truth[:, y, 3], color="0.55", lw=3, label="ground truth")
        else:
            x, y = 0, 2
        axes.plot(positions[:, x], positions[:, y], color="tab:red", lw=1.5, label="egodepth")
        axes.plot(*positions[0, [x, y]], "o", color="tab:red", label="start")
        unit = "m" if truth is not None else "units of the run"
        axes.set(aspect="equal", xlabel=f"{'xyz'[x]} ({unit})", ylabel=f"{'xyz'[y]} ({unit})")
        axes.set_adjustable("datalim")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)


def plot_losses(path: Path, run: Path) -> bool:
    """A small panel for each term in a run's log; returns whether there was any."""
    columns = read_log(run)
    names = [name for name in columns if name not in NOT_TERMS]
    if not names:
        return False
    across = 4
    with _figure(path, 12, 2.1 * max(1, -(-len(names) // across))) as figure:
        for index, name in enumerate(names):
            axes = figure.add_subplot(-(-len(names) // across), across, index + 1)
            steps, values = columns[name].T
            axes.plot(steps, values, color="tab:blue", alpha=0.3, lw=0.8)
            window = max(1, len(values) // 20)
            smooth = np.convolve(values, np.ones(window) / window, "valid")
            axes.plot(steps[window - 1 :], smooth, color="tab:blue", lw=1.5)
            axes.set_title(name.replace("_", " "), fontsize=9)
            axes.tick_params(labelsize=7)
            axes.grid(alpha=0.3)
    return True


def read_log(run: Path) -> dict[str, np.ndarray]:
    """Columns of a run's CSV logs as (N, 2) steps and values; empty where there is no log.

    Every session of a run (``logs/csv_STEP/metrics.csv``, STEP being where it started) has its own
    file; where a later one repeats steps, it counts.
    """
    files = {int(p.parent.name[4:]): p for p in sorted(run.glob("logs/csv_*/metrics.csv"))}
    starts = sorted(files)
    columns: dict[str, list[tuple[float, float]]] = {}
    for start, end in itertools.pairwise([*starts, sys.maxsize]):
        with files[start].open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                step = float(row["step"])
                for name, value in row.items():
                    if value and step < end:
                        columns.setdefault(name, []).append((step, float(value)))
    return {name: np.array(values) for name, values in columns.items()}


@contextmanager
def _figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)
