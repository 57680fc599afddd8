"""Plots as PNG files."""

import csv
import itertools
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from egodepth.core.errors import EgodepthWarning
from egodepth.core.files import atomic_path, read_text, reading
from egodepth.evaluation.confidence import LEFT_OUT, Sparsification
from egodepth.evaluation.depth import LABELS, METRICS
from egodepth.evaluation.odometry import Segment, TrajectoryAlignment, align_trajectory
from egodepth.runs.folder import RunFolder

NOT_TERMS = ("epoch", "step")


SURFACES = {
    "image": "image",
    "photometric": "photometric, L_ph",
    "feature_metric": "feature-metric, L_fm",
    "structural": "L_fm, structural",
}


def plot_landscape(path: Path, surfaces: dict[str, np.ndarray], step: float, title: str) -> None:
    """Plot losses over displacements (G, G) from the true match, side by side; low values are dark.

    Each surface is shown over its own range, as an image and along the row and column of the true match.
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


def plot_trajectory(
    path: Path,
    estimate: np.ndarray,
    truth: np.ndarray | None = None,
    alignment: TrajectoryAlignment = "sim3",
) -> None:
    """Plot poses (N, 4, 4) in bird's-eye view; the estimate is aligned to the truth if given. Frames
    whose pose or true pose is NaN are left out."""
    positions = estimate[:, :3, 3]
    with _figure(path, 6, 5) as figure:
        axes = figure.subplots()
        if truth is not None:
            known = np.isfinite(truth).all((1, 2)) & np.isfinite(estimate).all((1, 2))
            positions = np.full_like(positions, np.nan)  # so that lines break
            positions[known] = align_trajectory(estimate[known], truth[known], alignment)[0]
            truth = truth[known]
            up = int(np.ptp(truth[:, :3, 3], axis=0).argmin())
            x, y = (axis for axis in range(3) if axis != up)
            axes.plot(truth[:, x, 3], truth[:, y, 3], color="0.55", lw=3, label="ground truth")
        else:
            x, y = 0, 2
        axes.plot(positions[:, x], positions[:, y], color="tab:red", lw=1.5, label="estimate")
        start = positions[np.isfinite(positions[:, 0])][0]
        axes.plot(*start[[x, y]], "o", color="tab:red", label="start")
        unit = "m" if truth is not None else "units of the run"
        axes.set(aspect="equal", xlabel=f"{'xyz'[x]} ({unit})", ylabel=f"{'xyz'[y]} ({unit})")
        axes.set_adjustable("datalim")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)


def plot_segments(path: Path, segments: list[Segment], rate: float) -> None:
    """Plot the errors of KITTI's segments over length and speed, at a frame rate of ``rate`` frames per
    second."""
    translation = np.array([100 * s.translation for s in segments])
    rotation = np.array([np.degrees(100 * s.rotation) for s in segments])
    lengths = np.array([s.length for s in segments])
    speeds = np.array([3.6 * rate * s.speed for s in segments])
    bins = 10 * np.round(speeds / 10)
    with _figure(path, 8, 5.5) as figure:
        axes = figure.subplots(2, 2, sharey="row")
        for row, (values, label) in enumerate(
            ((translation, "translation error (%)"), (rotation, "rotation error (deg / 100 m)"))
        ):
            for column, (groups, name) in enumerate(
                ((lengths, "length (m)"), (bins, "speed (km/h)"))
            ):
                at = np.unique(groups)
                means = [values[groups == value].mean() for value in at]
                axes[row, column].plot(at, means, "o-", color="tab:red")
                axes[row, column].set(
                    xlabel=name, ylabel=label if column == 0 else "", ylim=(0, None)
                )
                axes[row, column].grid(alpha=0.3)


def plot_sparsification(path: Path, curves: dict[str, Sparsification]) -> None:
    """Plot the error of the remaining pixels over the share of the least sure ones that are left out, against
    the oracle's and random order."""
    labels = dict(zip(METRICS, LABELS, strict=True))
    with _figure(path, 4.2 * len(curves), 3.4) as figure:
        for axes, (name, found) in zip(
            figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
        ):
            share = 100 * LEFT_OUT[:-1]
            axes.axhline(found.curve[0], color="0.55", ls="--", label="random")
            axes.plot(share, found.curve[:-1], color="tab:red", label="confidence")
            axes.plot(share, found.oracle[:-1], color="tab:green", label="oracle")
            axes.fill_between(
                share, found.oracle[:-1], found.curve[:-1], color="tab:red", alpha=0.1
            )
            axes.set(xlabel="pixels left out (%)", ylabel=labels[name], ylim=(0, None))
            axes.set_title(f"AUSE {found.ause:.4f}, AURG {found.aurg:.4f}", fontsize=9)
            axes.grid(alpha=0.3)
            axes.legend(frameon=False, fontsize=8)


def plot_depth_errors(
    path: Path,
    image: np.ndarray,
    depth: np.ndarray,
    truth: np.ndarray,
    error: np.ndarray,
    title: str,
) -> None:
    """Plot an image (H, W, 3), depth and ground truth as colours (h, w, 3), and the error |log2| (h, w) in
    octaves of depth, NaN where unknown."""
    wide = image.shape[1] > 2 * image.shape[0]
    rows, columns = (4, 1) if wide else (2, 2)
    scale = 9 / image.shape[1] if wide else 4.5 / image.shape[1]
    height = (image.shape[0] * scale + 0.3) * rows + 0.3
    with _figure(path, 9.8, height) as figure:
        axes = figure.subplots(rows, columns).ravel()
        for axis, (picture, name) in zip(
            axes, ((image, "image"), (depth, "prediction"), (truth, "ground truth")), strict=False
        ):
            axis.imshow(picture)
            axis.set_title(name, fontsize=9)
        shown = axes[3].imshow(error, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        axes[3].set_facecolor("black")
        axes[3].set_title("error in octaves: 1 is twice or half the depth", fontsize=9)
        figure.colorbar(shown, ax=axes[3], shrink=0.8)
        for axis in axes:
            axis.set(xticks=[], yticks=[])
        figure.suptitle(title, fontsize=10)


def plot_losses(path: Path, run: RunFolder) -> bool:
    """Plot each loss term of a run's log in a small panel; returns whether there were any."""
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


def read_log(run: RunFolder) -> dict[str, np.ndarray]:
    """Read the columns of a run's CSV logs as (N, 2) steps and values; empty if there is no log.

    Every session of a run has its own file; for repeated steps, the later session counts.
    """
    files = run.log_files()
    starts = list(files)
    columns: dict[str, list[tuple[float, float]]] = {}
    for start, end in itertools.pairwise([*starts, sys.maxsize]):
        with reading(files[start], "the log"):
            lines = read_text(files[start], "the log").splitlines()
            if not lines:  # as a process leaves it that is killed before its first step
                warnings.warn(f"the log {files[start]} is empty", EgodepthWarning, stacklevel=2)
            elif "step" not in next(csv.reader(lines)):
                raise ValueError("it has no column step")
            for row in csv.DictReader(lines, strict=True):
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
