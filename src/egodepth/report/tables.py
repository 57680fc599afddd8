"""Tables for the terminal."""

from rich.table import Table

from egodepth.evaluation.depth import LABELS, METRICS


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
