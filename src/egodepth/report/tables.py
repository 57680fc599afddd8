"""Tables for the terminal."""

from rich.table import Table

from egodepth.evaluation.depth import LABELS, LOW, METRICS


def depth_table(
    summary: dict[str, float], constant: dict[str, float] | None, protocol: str
) -> Table:
    """Depth metrics of a run and of a constant guess."""
    table = Table(
        padding=(0, 0),
        title="depth",
        caption=f"{protocol}; {summary['images']} images",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    for label in LABELS:
        table.add_column(label, justify="right", no_wrap=True)
    rows = {"egodepth": summary} | ({"constant depth": constant} if constant else {})
    for name, values in rows.items():
        table.add_row(name, *(f"{values[key]:.3f}" for key in METRICS))
        if LOW + METRICS[0] in values:
            table.add_row("  least texture", *(f"{values[LOW + key]:.3f}" for key in METRICS))
    return table


def odometry_table(summary: dict[str, float], sequence: str) -> Table:
    """Odometry metrics of one sequence."""
    table = Table(
        title=f"odometry, {sequence}",
        caption="ATE after similarity alignment; errors between consecutive frames",
        title_justify="left",
    )
    for label in (
        "frames",
        "path",
        "ATE",
        "of the path",
        "turn error",
        "step error",
    ):
        table.add_column(label, justify="right")
    table.add_row(
        f"{summary['frames']}",
        f"{summary['path_m']:.1f} m",
        f"{summary['ate_m']:.3f} m",
        f"{summary['ate_percent']:.2f} %",
        f"{summary['rpe_rotation_deg']:.3f} deg",
        f"{summary['rpe_translation_m']:.3f} m",
    )
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
