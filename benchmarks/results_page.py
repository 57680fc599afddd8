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

from benchmarks import trajectory_tables
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results.md"

Rows = list[list[str]]
"""The first one is the head."""


def percent(share: float, digits: int = 0) -> str:
    """A share as a percentage."""
    return f"{100 * share:.{digits}f} %"


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


TASKS = {
    "R50": "ResNet-50 depth and features, ResNet-18 motion",
    "R18": "ResNet-18 throughout",
    "losses": "the losses alone, forward and backward",
}


def training_step(facts: dict[str, Any]) -> Rows:
    """A step against the straightforward formulation; medians."""
    rows = [["networks", "straightforward", "egodepth", "faster", "peak memory"]]
    for key, label in TASKS.items():
        v = facts["results"][key]
        times = [f"{median(v[kind]['seconds']):.2f} s" for kind in ("reference", "egodepth")]
        rows.append([label, *times, f"{v['ratio']:.1f} times", f"{v['memory_ratio']:.2f} of it"])
    return rows


def loading(facts: dict[str, Any]) -> Rows:
    """Milliseconds per frame."""
    columns = {
        "decoding_every_time": "decode, resize and jitter every time",
        "decoding_alone": "decode and resize alone",
        "first_epoch": "first epoch",
        "later_epochs": "later epochs",
    }
    rows = [["files", *columns.values(), "faster"]]
    for name, v in facts["results"].items():
        cells = [f"{v[key]:.1f} ms" for key in columns]
        rows.append([name.upper(), *cells, f"{v['ratio']:.1f} times"])
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


def inference(facts: dict[str, Any]) -> Rows:
    """Latency of each backend."""
    first = next(iter(facts["results"].values()))["latency_ms"]
    rows = [["backend", "latency", "faster", "largest error of depth"]]
    for name, v in facts["results"].items():
        label = "PyTorch, eager, NCHW" if name == "eager, NCHW" else f"`{name}`"
        speed = f"{first / v['latency_ms']:.1f} times"
        rows.append([label, f"{v['latency_ms']:.0f} ms", speed, percent(v["error_max"], 2)])
    return rows


def pipeline(facts: dict[str, Any]) -> Rows:
    """What `predict` makes of what the networks alone can."""
    rows = [["backend", "networks alone", "`egodepth predict`", "share"]]
    for name, v in facts["results"]["pipeline"].items():
        rates = [f"{v[key]:.2f} frames/s" for key in ("network_fps", "predict_fps")]
        rows.append([f"`{name}`", *rates, percent(v["share"])])
    return rows


def cost(facts: dict[str, Any]) -> Rows:
    """Time and memory of a step."""
    rows = [["encoder", "size", "batch", "sources", "step", "peak memory"]]
    for v in facts["cases"]:
        size = f"{v['width']}x{v['height']}"
        numbers = [
            str(v["batch"]),
            str(v["sources"]),
            f"{v['seconds']:.2f} s",
            f"{v['peak_mb']:.0f} MB",
        ]
        rows.append([v["encoder"], size, *numbers])
    return rows


def precision(facts: dict[str, Any]) -> Rows:
    """Mean and standard deviation over the seeds."""
    rows = [["precision", "Abs Rel", "delta 1", "RMSE (m)"]]
    for name, v in facts["results"].items():
        cells = [f"{fmean(v[k]):.3f} ± {pstdev(v[k]):.3f}" for k in ("abs_rel", "a1", "rmse")]
        rows.append([name, *cells])
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
    "training_step": training_step,
    "loading": loading,
    "inference": inference,
    "pipeline": pipeline,
    "pipeline_small": pipeline,
    "cost": cost,
    "precision": precision,
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
    environment.globals.update(table=table, source=source)
    return environment.get_template("results_page.md.jinja").render()


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
