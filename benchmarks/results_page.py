"""Write docs/results.md from the JSON files in docs/results.

    .venv/bin/python -m benchmarks.results_page

The text comes from benchmarks/results_page.md.jinja. There, `table("NAME")` becomes the table of
docs/results/NAME.json, and `source("NAME")` the line that says when, from which commit and on which machine it
was measured. A file with `columns` and `rows` is printed as it is; the JSON of a benchmark gets its columns in
a function below.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

from benchmarks import speed_tables, trajectory_tables
from benchmarks.table_cells import Rows, percent
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results.md"


def ablation(facts: dict[str, Any]) -> Rows:
    """Mean and standard deviation over the seeds."""
    names = {"abs_rel": 4, "rmse": 3, "a1": 4}
    rows = [
        [
            "variant",
            "Abs Rel",
            "RMSE (m)",
            "delta 1",
            "Abs Rel, low",
            "RMSE (m), low",
            "delta 1, low",
        ]
    ]
    for variant, runs in facts["results"].items():
        cells = []
        for prefix in ("", "low_"):
            for name, digits in names.items():
                values = [run[prefix + name] for run in runs]
                cells.append(f"{fmean(values):.{digits}f} ± {pstdev(values):.{digits}f}")
        rows.append([variant, *cells])
    return rows


LOSSES = {
    "image": "image, absolute difference",
    "photometric": "L_ph",
    "ImageNet features, level 0": "ImageNet features",
    "auto-encoder, level 0": "auto-encoder features",
    "+ L_dis 0.01, level 0": "+ L_dis 0.01",
    "+ L_cvt 0.1, level 0": "+ L_cvt 0.1",
    "+ L_dis 0.01 + L_cvt 0.1, level 0": "+ L_dis 0.01 + L_cvt 0.1",
    "+ L_dis 0.01 + L_cvt 0.1, level 0, structural": "both, compared by SSIM",
    "+ L_dis 0.01 + L_cvt 0.1, level 1, structural": "both, SSIM, features at 1/4",
    "+ L_dis 0.01 + L_cvt 0.1, level 2, structural": "both, SSIM, features at 1/8",
    "ImageNet features, level 2, structural": "ImageNet features, SSIM, at 1/8",
}
"""The rows of the landscape tables, of the hundred in the JSON."""


def landscape(facts: dict[str, Any]) -> Rows:
    """Scores of single pixels, all and the third with the least texture."""
    names = ["basin", "reach", "minima", "plateau"]
    rows = [["loss", *names, "near", *(f"{name}, low" for name in names)]]
    for key, label in LOSSES.items():
        every, low = (facts["results"][key][group] for group in ("all", "least texture"))
        cells = [
            [
                f"{v['basin']:.2f}",
                percent(v["reach"], 1),
                f"{v['minima']:.0f}",
                percent(v["plateau"], 1),
            ]
            for v in (every, low)
        ]
        rows.append([label, *cells[0], f"{every['near_miss']:.2f}", *cells[1]])
    return rows


def judge(facts: dict[str, Any]) -> Rows:
    """Mean shares over all offsets, on all pixels and on the third with the least texture."""
    names = list(facts["results"])
    rows = [["loss", *(f"{name}{part}" for name in names for part in ("", ", low"))]]
    for loss in facts["results"][names[0]]:
        cells = [
            f"{100 * facts['results'][name][loss][group]:.1f}"
            for name in names
            for group in ("all", "least texture")
        ]
        rows.append([loss, *cells])
    return rows


def basin(facts: dict[str, Any]) -> Rows:
    """Share of the starts from which direct alignment comes back."""
    starts = next(iter(facts["results"].values()))
    rows = [["start off by", *(f"{s['degrees']:g}°, {percent(s['share'])}" for s in starts)]]
    for name, scores in facts["results"].items():
        rows.append([name, *(percent(score["at_own_end"]) for score in scores)])
    return rows


def poses(facts: dict[str, Any]) -> Rows:
    """Depth by where the motion comes from."""
    rows = [["motion", "Abs Rel", "delta 1", "RMSE (m)"]]
    for name, runs in facts["results"].items():
        means = {key: fmean(run[key] for run in runs) for key in ("abs_rel", "a1", "rmse")}
        rows.append([name, *(f"{means[key]:.3f}" for key in ("abs_rel", "a1", "rmse"))])
    return rows


def poses_of_seeds(facts: dict[str, Any]) -> Rows:
    """The same over several seeds: mean and worst."""
    rows = [["motion", "Abs Rel", "worst", "delta 1", "worst", "RMSE (m)", "worst"]]
    for name, runs in facts["results"].items():
        cells = []
        for key, worst in (("abs_rel", max), ("a1", min), ("rmse", max)):
            values = [run[key] for run in runs]
            cells += [f"{fmean(values):.3f}", f"{worst(values):.3f}"]
        rows.append([name, *cells])
    return rows


def dense(facts: dict[str, Any]) -> Rows:
    """Labels against the LiDAR."""
    rows = [["compared by", "Abs Rel", "delta 1", "RMSE (m)", "share of the LiDAR's points"]]
    for name, v in facts["results"].items():
        scores = [f"{v['abs_rel']:.3f}", f"{v['a1']:.3f}", f"{v['rmse']:.2f}"]
        rows.append([name, *scores, percent(v["coverage"])])
    return rows


def clouds(facts: dict[str, Any]) -> Rows:
    """Exported points against the LiDAR."""
    rows = [["footage", "options", "points", "LiDAR covered", "median error",
             "each frame scaled by itself", "more than 25 % off"]]  # fmt: skip
    for sequence, ways in facts["results"].items():
        for options, v in ways.items():
            shares = ("covered", "median_error", "own_scale_error", "far_off")
            errors = [percent(v[key], 1) for key in shares]
            rows.append([sequence, f"`{options}`", f"{v['points']:,.0f}", *errors])
    return rows


def steady(facts: dict[str, Any]) -> Rows:
    """How still depth is, and what that costs."""
    rows = [["footage", "depth", "flicker", "95 %", "scale", "step at borders", "edge accuracy",
             "edge completeness", "Abs Rel", "RMSE (m)"]]  # fmt: skip
    for name, ways in facts["results"].items():
        for way, v in ways.items():
            shares = ("flicker_median", "flicker_p95", "scale_step_spread", "edge_step")
            cells = [percent(v[key], 2) for key in shares]
            edges = [
                f"{v[key]:.2f} px" if key in v else ""
                for key in ("edge_accuracy", "edge_completeness")
            ]
            cells += [*edges, f"{v['abs_rel']:.3f}", f"{v['rmse']:.2f}"]
            rows.append([name, way.replace("--steady", "`--steady`"), *cells])
    return rows


def van(facts: dict[str, Any]) -> Rows:
    """Predicted depth of the van over the true one, frame by frame."""
    first = next(iter(facts["results"].values()))
    rows = [["training", *(f"frame {number}" for number in first)]]
    for name, ratios in facts["results"].items():
        rows.append([name, *(f"{ratio:.2f}" for ratio in ratios.values())])
    return rows


def builtin(facts: dict[str, Any]) -> Rows:
    """Scores of the run builtin without training."""
    rows = [["footage", "Abs Rel", "a constant depth", "delta 1", "RMSE (m)", "ATE of odometry"]]
    for name, v in facts["results"].items():
        ate = f"{v['ate_m']:.3f} m" if "ate_m" in v else ""
        rows.append(
            [
                name,
                f"{v['abs_rel']:.3f}",
                f"{v['constant']:.3f}",
                f"{v['a1']:.3f}",
                f"{v['rmse']:.2f}",
                ate,
            ]
        )
    return rows


def builtin_start(facts: dict[str, Any]) -> Rows:
    """Abs Rel over minutes of training from each start: mean, and the worst of the seeds."""
    rows = [["footage", "start", "minutes", "steps", "Abs Rel", "worst", "delta 1"]]
    for name, starts in facts["results"].items():
        for init, lengths in starts.items():
            for length, runs in lengths.items():
                errors = [run["abs_rel"] for run in runs]
                steps = f"{median(run['steps'] for run in runs):.0f}" if "steps" in runs[0] else ""
                a1 = fmean(run["a1"] for run in runs)
                start = "ImageNet" if init == "none" else init
                cells = [f"{fmean(errors):.3f}", f"{max(errors):.3f}", f"{a1:.3f}"]
                rows.append([name, start, length, steps, *cells])
    return rows


def start_comparison(facts: dict[str, Any]) -> Rows:
    """What the comparison with the start says, and whether depth was better or worse."""
    rows = [["footage", "seed", "Abs Rel before", "after", "the comparison says"]]
    for row in facts["rows"]:
        before, after = row["abs_rel"]
        rows.append([row["case"], str(row["seed"]), f"{before:.3f}", f"{after:.3f}", row["says"]])
    return rows


def unknown_camera(facts: dict[str, Any]) -> Rows:
    """Self-calibrated focal lengths of real footage."""
    rows = [["sequence", "found / true focal length", "stated deviation", "accepted"]]
    for name, v in facts["results"].items():
        accepted = "yes" if v["taken"] else f"no: {v['doubt']}"
        rows.append([name, f"{v['found']:.3f}", percent(v["deviation"], 1), accepted])
    return rows


def simulated_cameras(facts: dict[str, Any]) -> Rows:
    """Self-calibrated focal lengths of simulated drives; a refused one may have no estimate at all."""
    rows = [
        [
            "drive, field of view",
            "drives",
            "accepted",
            "worst error accepted",
            "median error refused",
        ]
    ]
    for name, v in facts["results"].items():
        taken, refused = (
            [abs(error) for error in v[key] if error is not None] for key in ("taken", "refused")
        )
        count = len(v["taken"]) + len(v["refused"])
        worst, middle = (
            percent(f(x), 1) if x else "" for f, x in ((max, taken), (median, refused))
        )
        rows.append([f"{name}°", str(count), str(len(v["taken"])), worst, middle])
    return rows


def confidence(facts: dict[str, Any]) -> Rows:
    """Ways to tell how sure depth is, on each footage."""
    rows = [
        [
            "footage",
            "way",
            "AUSE Abs Rel",
            "AUSE RMSE",
            "Abs Rel, all",
            "surest 80 %",
            "within 1, 2 dev.",
        ]
    ]
    for name, found in facts["results"].items():
        for way, v in found["ways"].items():
            cover = [percent(v[key]) for key in ("coverage_1", "coverage_2")]
            means = " ".join(cover) if way.startswith("builtin") else ""  # others are no deviations
            numbers = [f"{v['ause_abs_rel']:.3f}", f"{v['ause_rmse']:.2f}"]
            errors = [f"{found['abs_rel']:.3f}", f"{v['sure_abs_rel']:.3f}"]
            rows.append([name, way, *numbers, *errors, means])
    return rows


TABLES: dict[str, Callable[[dict[str, Any]], Rows]] = {
    "ablation_kitti": ablation,
    "ablation_redkitchen": ablation,
    "ablation_kitti_smooth0": ablation,
    "landscape_kitti": landscape,
    "landscape_redkitchen": landscape,
    "judge": judge,
    "basin_kitti": basin,
    "basin_redkitchen": basin,
    "poses_kitti": poses,
    "poses_kitti_small": poses_of_seeds,
    "poses_redkitchen": poses,
    "odometry": trajectory_tables.odometry,
    "odometry_other": trajectory_tables.odometry,
    "broken_footage": trajectory_tables.broken_footage,
    "odometry_memory": trajectory_tables.odometry_memory,
    "town": trajectory_tables.town,
    "dense_kitti": dense,
    "clouds": clouds,
    "steady": steady,
    "confidence": confidence,
    "van": van,
    "builtin": builtin,
    "builtin_start": builtin_start,
    "start_comparison": start_comparison,
    "unknown_camera": unknown_camera,
    "unknown_camera_simulated": simulated_cameras,
    "training_step": speed_tables.training_step,
    "loading": speed_tables.loading,
    "inference": speed_tables.inference,
    "pipeline": speed_tables.pipeline,
    "pipeline_small": speed_tables.pipeline,
    "cost": speed_tables.cost,
    "precision": speed_tables.precision,
    "batch": speed_tables.batch,
}


def read(name: str) -> dict[str, Any]:
    """A JSON file of docs/results."""
    facts: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return facts


def markdown(rows: Iterable[list[str]]) -> str:
    """Rows, the first of them the head, as a table."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * (head.count(" | ") + 1), *body])


def table(name: str) -> str:
    """The table of a JSON file."""
    facts = read(name)
    if name in TABLES:
        return markdown(TABLES[name](facts))
    return markdown([[str(cell) for cell in row] for row in (facts["columns"], *facts["rows"])])


def source(name: str) -> str:
    """When and where a JSON file was measured."""
    facts = read(name)
    parts = [facts["date"]]
    if facts.get("commit", "unknown") != "unknown":
        parts.append(f"commit {facts['commit'].removesuffix('-dirty')}")
    if "torch" in facts:
        cores = "1 core" if facts["cores"] == 1 else f"{facts['cores']} cores"
        parts += [f"PyTorch {facts['torch']}", f"{cores} of {facts['machine']}"]
    return f"*{', '.join(parts)}: [{name}.json](results/{name}.json)*"


def render() -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.globals.update(table=table, source=source, facts=read)
    return environment.get_template("results_page.md.jinja").render()


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
