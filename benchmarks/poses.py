"""Where the motion of a training comes from, and what each step of refining it brings.

    .venv/bin/python -m benchmarks.poses kitti --data ../shared/data --out runs/poses

trains every variant for the same number of steps with every seed and scores depth against the ground truth;
stopped, it goes on where it was. Writes OUT/kitti.json and OUT/kitti.md: mean and worst of the seeds.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.real_excerpts import (
    EXCERPTS,
    Excerpt,
    make_parser,
    make_settings,
    read_truth,
    score_once,
    train_once,
)

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance

AS_FOUND = {
    "data__poses": "sfm",
    "pose_learning_rate": 0,
    "scale_learning_rate": 0,
    "loss__points": 0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "network": {"data__poses": "network"},
    "aligned": {"data__poses": "aligned"},
    "sfm, as found": AS_FOUND,
    "+ scale of each sequence": AS_FOUND | {"scale_learning_rate": 5e-3},
    "+ poses": {"data__poses": "sfm", "loss__points": 0},
    "+ points (sfm)": {"data__poses": "sfm"},
    "slam": {"data__poses": "slam"},
    "given": {"data__poses": "given"},
}
STEPS = {"kitti": 400, "redkitchen": 400}
SIZES = {"kitti": {}, "redkitchen": {"model__height": 96, "model__width": 128, "batch_size": 6}}
COLUMNS = {"abs_rel": ("Abs Rel", max), "rmse": ("RMSE (m)", max), "a1": ("delta 1", min)}
"""Heading of each score, and which of several values is the worst."""


def train_variant(excerpt: Excerpt, options: argparse.Namespace, name: str, seed: int) -> Path:
    """Train a variant; its run folder."""
    # Only given poses are in metres; the others choose their own unit, and DepthNet starts at one.
    unit = {} if name == "given" else {"model__start_depth": 1}
    smaller: dict[str, Any] = {"data__sources": options.sources} if options.sources else {}
    if options.size:
        smaller |= {"model__height": options.size[0], "model__width": options.size[1]}
    settings = make_settings(
        excerpt, options.data, method="photometric", steps=options.steps, seed=seed,
        data__stride=6 if options.excerpt == "redkitchen" else 1,
        **SIZES[options.excerpt], **smaller, **VARIANTS[name], **unit,
    )  # fmt: skip
    words = "".join(c if c.isalnum() else "_" for c in name).strip("_")
    run = options.out / options.excerpt / f"{words}_{seed}"
    train_once(settings, run)
    return run


def as_table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown, a row per variant: of each score the mean over seeds and the worst."""
    headings = [f"{heading} | worst" for heading, _ in COLUMNS.values()]
    lines = [f"| motion | {' | '.join(headings)} |", "|---" * (1 + 2 * len(COLUMNS)) + "|"]
    for name, runs in results.items():
        cells = [name]
        for column, (_, worst) in COLUMNS.items():
            values = [run[column] for run in runs]
            cells += [f"{np.mean(values):.4f}", f"{worst(values):.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train, score, write the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, help="default: about three minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--sources", nargs="+", help="train on these of the excerpt's sources alone"
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    options.steps = options.steps or STEPS[options.excerpt]
    excerpt = EXCERPTS[options.excerpt]
    truth = read_truth(excerpt, options.data)
    results: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        for name in options.variants:
            run = train_variant(excerpt, options, name, seed)
            scores = score_once(run, excerpt, truth)
            results.setdefault(name, []).append({c: scores[c] for c in COLUMNS})
            facts = {
                "steps": options.steps, "seeds": options.seeds, "size": options.size,
                "sources": options.sources, **provenance(),
            }  # fmt: skip
            write_json(options.out / f"{options.excerpt}.json", {**facts, "results": results})
            (options.out / f"{options.excerpt}.md").write_text(as_table(results) + "\n")
    print(as_table(results))


if __name__ == "__main__":
    main()
