"""Draw Abs Rel over minutes of training, from ImageNet and from builtin.

    .venv/bin/python -m benchmarks.start_curves --out docs/adaptation.png

reads what `python -m benchmarks.builtin start` measured: the line is the mean of the seeds, points are seeds.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STARTS = {"none": ("from ImageNet", "tab:gray"), "builtin": ("from builtin", "tab:red")}


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("docs/results/builtin_start.json"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    footage = json.loads(options.results.read_text())["results"]
    figure = Figure((4.2 * len(footage), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, starts) in zip(
        figure.subplots(1, len(footage), squeeze=False)[0], footage.items(), strict=True
    ):
        for start, (label, colour) in STARTS.items():
            scores = {
                float(minutes): [run["abs_rel"] for run in runs]
                for minutes, runs in starts[start].items()
            }
            lengths = sorted(scores)
            axes.plot(lengths, [fmean(scores[m]) for m in lengths], color=colour, label=label)
            points = [(m, score) for m in lengths for score in scores[m]]
            axes.plot(*zip(*points, strict=True), ".", color=colour)
        axes.set(
            title=name,
            xlabel="minutes of training",
            ylabel="Abs Rel",
            xlim=(0, None),
            ylim=(0, None),
        )
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
