"""The loss landscape in the report of a run: one frame of the footage that it was trained on."""

import warnings
from pathlib import Path

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.inference.odometry.motion_chain import gap_of
from egodepth.inference.scoring.landscape import draw_landscape
from egodepth.report.plots import plot_landscape
from egodepth.runs.folder import RunFolder, RunLike
from egodepth.runs.footage import open_footage
from egodepth.runs.run import Run

PIXELS, RADIUS, STEP = 64, 12.0, 1.0
"""Number of random pixels; largest displacement and spacing of displacements, in pixels."""


def draw_run_landscape(run: RunLike, out: Path) -> str:
    """Plot the loss landscape of a frame in the middle of a run's first footage to ``out``; return what it
    shows, in words, or an empty string if there is nothing to show.

    Matches come from ground truth where there is any, else from the run's own depth and motion. Of a run that
    was trained on nothing that can be opened again, such as ``builtin``, there is no landscape.
    """
    folder = RunFolder.at(run)
    try:
        settings = folder.settings()
        if not settings.data.sources or not settings.data.directions:
            return ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EgodepthWarning)  # the training has given them
            sequence = open_footage(folder, [settings.data.sources[0]], root=settings.data.root)[0]
            offset = gap_of(sequence.frames, Run.load(folder).motion_gap)
            known = sorted(sequence.depth) or range(len(sequence.frames))
            number = sequence.frames.numbers[known[len(known) // 2]]
            found = draw_landscape(
                folder, sequence, number, count=PIXELS, offset=offset, radius=RADIUS, step=STEP,
            )  # fmt: skip
    except EgodepthError:
        return ""
    shown = f"{sequence.name}, frame {number}, {found.describe()}"
    plot_landscape(out, found.mean_surfaces(), STEP, shown)
    return f"{shown}; {found.protocol}"
