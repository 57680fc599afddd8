"""Tables for the terminal."""

from typing import TYPE_CHECKING

from rich.table import Table

from egodepth.core.errors import one_line
from egodepth.evaluation.depth import (
    CONFIDENCE,
    CONFIDENCE_LABELS,
    LABELS,
    LOW,
    METRICS,
    MORE,
    MORE_LABELS,
)

if TYPE_CHECKING:  # for scores of two trajectory files, PyTorch is not imported
    from egodepth.training.judgement import LossJudgement


def depth_table(
    summary: dict[str, float],
    constant: dict[str, float] | None,
    caption: str,
    before: dict[str, float] | None = None,
) -> Table:
    """Depth metrics as means over images and over pixels, those of the run that the training started from, and
    those of a constant prediction."""
    table = Table(
        padding=(0, 0),
        title="depth",
        caption=f"{one_line(caption)}; {summary['images']} images",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    for label in LABELS:
        table.add_column(label, justify="right", no_wrap=True)
    rows = {"prediction": summary}
    rows |= {f"before, {before['images']} images": before} if before else {}
    rows |= {"constant depth": constant} if constant else {}
    for name, values in rows.items():
        table.add_row(name, *(f"{values[key]:.3f}" for key in METRICS))
        if name == "prediction":
            table.add_row("  over pixels", *(f"{values['pixel_' + key]:.3f}" for key in METRICS))
        if LOW + METRICS[0] in values:
            table.add_row("  least texture", *(f"{values[LOW + key]:.3f}" for key in METRICS))
    return table


def more_depth_table(summary: dict[str, float]) -> Table:
    """Less common depth metrics, and the variation of the scale."""
    names = [name for name in MORE if name in summary]
    labels = dict(zip(MORE, MORE_LABELS, strict=True))
    table = Table(padding=(0, 0))
    for label in (*(labels[name] for name in names), "scale", "its spread"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_row(
        *(f"{summary[name]:.3f}" for name in names), f"{summary['scale_median']:.4g}",
        f"{100 * summary['scale_spread']:.1f} %",
    )  # fmt: skip
    return table


def stillness_table(summary: dict[str, float], caption: str) -> Table:
    """How still depth is from frame to frame, see :func:`summarize_stillness`, in percent."""
    table = Table(
        padding=(0, 0),
        title="stillness",
        caption=f"{one_line(caption)}; {summary['pairs']} pairs of frames; differences are of log depth",
        title_justify="left",
    )
    columns = {
        "median difference": "flicker_median", "95th percentile": "flicker_p95",
        "spread of scale": "scale_step_spread", "compared": "compared", "on depth edges": "edge_share",
        "step at borders": "edge_step",
    }  # fmt: skip
    for label in columns:
        table.add_column(label, justify="right", no_wrap=True)
    table.add_row(*(f"{100 * summary[name]:.2f} %" for name in columns.values()))
    return table


def confidence_table(summary: dict[str, float]) -> Table | None:
    """Metrics of the predicted deviations; None if the predictions carry no confidence."""
    if CONFIDENCE[0] not in summary:
        return None
    table = Table(padding=(0, 0), title="confidence", title_justify="left")
    for label in CONFIDENCE_LABELS:
        table.add_column(label, justify="right")
    shares = ("coverage_1", "coverage_2")
    table.add_row(*(
        f"{100 * summary[name]:.1f} %" if name in shares else f"{summary[name]:.4f}"
        for name in CONFIDENCE
    ))  # fmt: skip
    return table


def odometry_table(summary: dict[str, float], sequence: str, caption: str) -> Table:
    """Odometry metrics of one sequence."""
    table = Table(
        padding=(0, 0),
        title=f"odometry, {one_line(sequence)}",
        caption=one_line(caption),
        title_justify="left",
    )
    whole = summary["frames"] == summary["of_frames"]
    columns = {
        "frames": f"{summary['frames']}"
        if whole
        else f"{summary['frames']} of {summary['of_frames']}",
        "path": f"{summary['path_m']:.1f} m",
        "ATE": f"{summary['ate_m']:.3f} m",
        "of the path": f"{summary['ate_percent']:.2f} %",
        "RPE turn": f"{summary['rpe_rotation_deg']:.3f} deg",
        "RPE step": f"{summary['rpe_translation_m']:.3f} m",
    }
    if "snippet_ate_m" in summary:
        columns["5-frame ATE"] = f"{summary['snippet_ate_m']:.3f} m"
    if "t_rel_percent" in summary:
        columns["t_rel"] = f"{summary['t_rel_percent']:.2f} %"
        columns["r_rel (deg/100 m)"] = f"{summary['r_rel_deg_100m']:.2f}"
    for label in columns:
        table.add_column(label, justify="right")
    table.add_row(*columns.values())
    return table


def landscape_table(groups: dict[str, dict[str, dict[str, float]]], caption: str) -> Table:
    """Scores of loss surfaces by group of pixels and by loss, see :class:`SurfaceScores`."""
    table = Table(title="loss landscape", title_justify="left", caption=caption)
    for name in ("pixels", "loss", "basin", "reach", "minima", "plateau", "miss", "near"):
        table.add_column(name, justify="left" if name in ("pixels", "loss") else "right")
    for group, losses in groups.items():
        for loss, values in losses.items():
            table.add_row(
                group, loss, f"{values['basin']:.2f} px", f"{100 * values['reach']:.1f} %",
                f"{values['minima']:.1f}", f"{100 * values['plateau']:.1f} %",
                f"{values['miss']:.2f} px", f"{values['near_miss']:.2f} px",
            )  # fmt: skip
    return table


def judgement_table(results: "dict[str, LossJudgement]") -> Table:
    """Shares of pixels at which each loss prefers the true depth, in percent, by group of pixels."""
    first = next(iter(results.values()))
    table = Table(
        title="losses at the true depth", title_justify="left", padding=(0, 0),
        caption="% of the pixels with ground truth at which the loss is lower at the true inverse depth than "
        "at one that is off by so many %; masked: left out by the automask (of L_ph, L_fm) at the truth; "
        f"{first.pixels} pixels of {len(first.frames)} frames",
    )  # fmt: skip
    for name in ("loss", "pixels"):
        table.add_column(name, overflow="fold")
    for name in (*(f"{100 * offset:+.0f}" for offset in first.offsets), "mean", "masked"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in results.items():
        for row, (group, shares) in enumerate(found.better.items()):
            dropped = " ".join(f"{100 * share:.0f}" for share in found.dropped[group].values())
            values = [f"{100 * share:.0f}" for share in (*shares, found.mean(group))]
            table.add_row(name if row == 0 else "", group, *values, dropped or "-")
        table.add_section()
    return table
