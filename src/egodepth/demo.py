"""The demo: render streets, train on some of them, predict and score another one, and write a report."""

import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from shutil import rmtree
from typing import Any

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.core.files import visible, write_json
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.evaluation.depth import PROTOCOLS, TOO_FAR
from egodepth.inference.predict import PREDICTION, Format, predict_sequence, write_predictions
from egodepth.inference.scoring.depth_scores import DepthScores, evaluate_depth
from egodepth.inference.scoring.trajectory_files import OdometryScores
from egodepth.inference.scoring.trajectory_scores import evaluate_odometry
from egodepth.report.html_report import ReportContent, write_report
from egodepth.report.plots import plot_trajectory
from egodepth.runs.destination import claim_folder
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.settings.recipes import BUILTIN
from egodepth.training.requested import requested_settings
from egodepth.training.run import train

STARTED_FROM_BUILTIN = (
    "The training started from the run builtin, which learned from rendered worlds with their exact depth; the "
    "streets' own depth is used for scoring alone."
)
KEPT_START = (
    "in this time the training did not get better than its start, whose depth and motion these are; give it "
    "more minutes. Why"
)
BEFORE, BEFORE_FOLDER = "before.mp4", "before"
RESULTS = ("depth.mp4", "trajectory.png")
SHOWN_BEFORE, SCORED_BEFORE = 50, 4
"""Before the training, this many frames are shown, and every n-th is scored."""
SCORED_STREET = "synthetic:100"
"""A street that no training uses."""
OVERHEAD_SHARE, SHORTEST = 0.17, 0.5
"""Share of the time that is reserved for prediction, scoring and the report after the training, and minimum
training time in minutes."""
STREETS_A_MINUTE = 0.6
"""Streets of the recipe per minute of budget (at least one): each must be rendered, posed and labelled."""


@dataclass(frozen=True)
class DemoResult:
    """Scores of the demo, and its folder.

    Attributes:
        out: run folder.
        depth, odometry: scores of the run's networks to use: the trained ones, or those of its start.
        before: depth scores of the run that the training started from; None if it started from ImageNet.
        kept_start: why the scored networks are those of the start, which the training made worse; empty if
            they are the trained ones.
    """

    out: Path
    depth: DepthScores
    odometry: OdometryScores
    before: DepthScores | None
    kept_start: str = ""


def run_demo(
    out: Path, *, minutes: float = 10, seed: int = 0, init: str | Path | None = BUILTIN
) -> DemoResult:
    """Run the demo and write it to ``out``, replacing an earlier demo there.

    Writes ``before.mp4`` at once, the depth of the run to start from for the scored street; then the run
    folder, ``metrics.json``, ``depth.mp4``, ``trajectory.png``, ``report.html`` and, in ``prediction``, the
    predictions for the scored street.

    Args:
        out: run folder to make.
        minutes: total time budget; the number of training steps is chosen to fit.
        seed: seed of the training.
        init: run to start from; None for ImageNet weights.

    Raises:
        EgodepthError: no run to start from, too few minutes, or a folder that holds anything but an earlier
            demo.
    """
    if minutes < 1.5:
        raise EgodepthError(f"the demo needs at least 1.5 minutes, got {minutes:g}")
    with claim_folder(out, for_run=True):
        return _run_demo(out, minutes, seed, init)


def _run_demo(out: Path, minutes: float, seed: int, init: str | Path | None) -> DemoResult:
    started = time.perf_counter()
    _clear(out)
    settings = requested_settings("demo", changes={"init": "none" if init is None else str(init)})
    street = read_source(SCORED_STREET)[0]
    before = None if settings.init is None else _look_before(settings.init, street, out)
    streets = settings.data.sources[: max(1, round(STREETS_A_MINUTE * minutes))]
    left = (1 - OVERHEAD_SHARE) * minutes - (time.perf_counter() - started) / 60
    settings = settings.changed(
        minutes=round(max(SHORTEST, left), 2),
        seed=seed,
        data=settings.data.changed(sources=streets),
    )
    progress.note(f"training on {len(streets)} synthetic street{'s' * (len(streets) > 1)}")
    trained = train(settings, out)
    folder, run = RunFolder.at(out), Run.load(out)
    worse = "" if trained.comparison is None else trained.comparison.worse
    count = len(street.frames)
    for _ in write_predictions(predict_sequence(run, street), out / PREDICTION):
        pass
    depth = evaluate_depth(run, [street], PROTOCOLS["synthetic"])
    odometry = evaluate_odometry(run, street, by="alignment")
    (out / PREDICTION / "depth.mp4").replace(out / "depth.mp4")
    plot_trajectory(out / "trajectory.png", odometry.estimate, odometry.truth)
    seconds = time.perf_counter() - started
    metrics: dict[str, Any] = {
        "depth": depth.summary,
        "depth_constant": depth.constant,
        "depth_before": None if before is None else before.summary,
        "odometry": odometry.summary,
        "protocol": {"depth": depth.caption, "odometry": odometry.to_json()["protocol"]},
        "kept_start": worse,
        "steps": trained.steps,
        "data_wait": trained.data_wait,
        "seconds": seconds,
    }
    write_json(folder.metrics, metrics)
    content = ReportContent(
        title="Depth and egomotion from an unlabelled drive",
        subtitle=f"{trained.steps} steps on synthetic streets, then {count} frames of a street that "
        f"the training never saw; {seconds / 60:.1f} minutes in all",
        video=out / "depth.mp4",
        before=None if before is None else out / BEFORE,
        trajectory=out / "trajectory.png",
        depth=depth.summary,
        depth_before=None if before is None else before.summary,
        constant=depth.constant,
        odometry=odometry.summary,
        notes=[
            f"Depth protocol {depth.caption}."
            + (f" Before training, of every {SCORED_BEFORE}th frame." if before else ""),
            f"{100 * depth.summary['ground_too_far']:.1f} % of the ground's pixels are predicted "
            f"{TOO_FAR} times too far or more.",
            f"Odometry: {metrics['protocol']['odometry']}.",
            *([f"{KEPT_START[0].upper()}{KEPT_START[1:]}: {worse}."] if worse else []),
            *([STARTED_FROM_BUILTIN] if str(settings.init) == BUILTIN else []),
        ],
    )
    write_report(out, content)
    return DemoResult(out, depth, odometry, before, worse)


def _look_before(init: Path, street: Sequence, out: Path) -> DepthScores:
    """Predict the beginning of the scored street by the run that the training will start from, and score some
    of all its frames: within seconds."""
    run = Run.load(init)
    formats: tuple[Format, ...] = ("video",)
    shown = islice(predict_sequence(run, street, motion="network"), SHOWN_BEFORE)
    folder = out / BEFORE_FOLDER
    for _ in write_predictions(shown, folder, formats=formats):
        pass
    (folder / "depth.mp4").replace(out / BEFORE)
    rmtree(folder)
    some = {frame: street.depth[frame] for frame in list(street.depth)[::SCORED_BEFORE]}
    scores = evaluate_depth(run, [replace(street, depth=some)], PROTOCOLS["synthetic"])
    progress.note(
        f"before any training, {init} has Abs Rel {scores.summary['abs_rel']:.3f} and delta 1 "
        f"{scores.summary['a1']:.3f} on every {SCORED_BEFORE}th frame of {street.name}; see {out / BEFORE}"
    )
    return scores


def _clear(out: Path) -> None:
    """Remove an earlier demo from ``out``, and nothing else."""
    if {path.name for path in visible(out)} <= {BEFORE, BEFORE_FOLDER}:
        return  # an earlier demo that was interrupted before its training, if anything
    run = RunFolder.to_make(out)
    if not run.exists or run.settings_tree().get("recipe") != "demo":
        raise EgodepthError(
            f"{out} holds something else than a demo; name another folder with --out"
        )
    # None of it may stand beside a new run that is interrupted.
    rmtree(out / PREDICTION, ignore_errors=True)
    results = [run.metrics, run.report, run.landscape, *(out / name for name in RESULTS)]
    for path in (run.checkpoint, *results):
        path.unlink(missing_ok=True)
    for sample in run.sample_files().values():
        sample.unlink()
