"""Tables for the terminal."""

from rich.table import Table

from egodepth.evaluation.depth import LABELS, LOW, METRICS, MORE, MORE_LABELS


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
        caption=f"{caption}; {summary['images']} images",
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


def odometry_table(summary: dict[str, float], sequence: str, caption: str) -> Table:
    """Odometry metrics of one sequence."""
    table = Table(
        padding=(0, 0),
        title=f"odometry, {sequence}",
        caption=caption,
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
