"""The report of a run: one self-contained HTML page, images first."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from egodepth.core.files import read_text, reading, write_text
from egodepth.evaluation.depth import LABELS, METRICS
from egodepth.report.plots import plot_losses
from egodepth.report.run_landscape import draw_run_landscape
from egodepth.runs.folder import RunFolder, RunLike

SHOWN_SAMPLES = 6
_TYPES = {".png": "image/png", ".mp4": "video/mp4"}


@dataclass
class ReportContent:
    """Content of a report besides the run's own loss curves and sample images; all parts are optional.

    Attributes:
        title, subtitle: heading of the page.
        video: path of the depth video.
        trajectory: path of the trajectory plot.
        before: path of the depth video of the run that the training started from.
        depth, depth_before, constant: depth summaries of the run, of the run that the training started from,
            and of a constant prediction.
        odometry: odometry summary.
        notes: sentences below the tables, such as protocols.
    """

    title: str
    subtitle: str = ""
    video: Path | None = None
    before: Path | None = None
    trajectory: Path | None = None
    depth: dict[str, float] | None = None
    depth_before: dict[str, float] | None = None
    constant: dict[str, float] | None = None
    odometry: dict[str, float] | None = None
    notes: list[str] = field(default_factory=list)


def write_report(run: RunLike, content: ReportContent, out: Path | None = None) -> Path:
    """Write ``report.html`` into a run folder (or to ``out``); returns its path.

    Raises:
        EgodepthError: not a run folder, or the file can't be written.
    """
    folder = RunFolder.at(run)
    folder.settings_tree()  # refuses settings that are broken or cut off
    out = out or folder.report
    has_curves = plot_losses(folder.curves, folder)
    shown = draw_run_landscape(folder, folder.landscape)
    samples = list(folder.sample_files().items())
    every = max(1, -(-len(samples) // SHOWN_SAMPLES))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("egodepth.report", "."), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        content=content,
        labels=list(zip(METRICS, LABELS, strict=True)),
        video=_data_uri(content.video),
        before=_data_uri(content.before),
        trajectory=_data_uri(content.trajectory),
        curves=_data_uri(folder.curves if has_curves else None),
        landscape=_data_uri(folder.landscape if shown else None),
        landscape_note=shown,
        samples=[(f"step {step}", _data_uri(path)) for step, path in samples[::-1][::every][::-1]],
        config=read_text(folder.config, "the run's settings"),
        provenance=folder.facts().model_dump(exclude_unset=True),
    )
    write_text(out, page)
    return out


def _data_uri(path: Path | None) -> str | None:
    if path is None:
        return None
    with reading(path, "the picture"):
        data = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_TYPES[path.suffix]};base64,{data}"
