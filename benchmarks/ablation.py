"""What the feature-metric loss brings, term by term, on all pixels and on those with little texture.

    .venv/bin/python -m benchmarks.ablation kitti --data ../shared/data --out runs/ablation

trains with the data set's poses given, so that errors of PoseNet stay out (or with --poses network), every
variant for the same number of steps and with each seed, and scores depth against the ground truth. Stopped, it
goes on where it was. Writes OUT/kitti.json and OUT/kitti.md. The same command runs on a GPU (--device).
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
from egodepth.settings.recipes import LED_BY_IMAGES, SHALLOW

DISCRIMINATIVE, CONVERGENT = 1e-2, 1e-1
"""Weights of the regularisers where they are on; benchmarks/landscape.py says why these."""
FEATURES = {
    "plain": (0.0, 0.0),
    "L_dis": (DISCRIMINATIVE, 0.0),
    "L_cvt": (0.0, CONVERGENT),
    "both": (DISCRIMINATIVE, CONVERGENT),
}
VARIANTS = {
    "L_ph": ("photometric", None),
    "+ L_fm on images": ("images", None),
    "+ L_fm on plain features": ("frozen", "plain"),
    "+ L_dis": ("frozen", "L_dis"),
    "+ L_cvt": ("frozen", "L_cvt"),
    "all, frozen": ("frozen", "both"),
    "all, joint": ("joint", "both"),
    "+ L_fm as judged best": ("joint", None),
    "judged best, for depth": ("joint", None),
    "judged best, for motion": ("joint", None),
    "judged best, coarse to fine": ("joint", None),
    "as the recipes have it": ("joint", None),
}
JUDGED = {
    "loss__feature_metric": 1.0,
    "loss__feature_comparison": "structural",
    "loss__feature_levels": [0, 0.5, 0.5],
    "loss__feature_scale": 2.0,
    "loss__feature_mask": "photometric",
    "loss__discriminative": 0.0,
    "loss__convergent": 0.0,
}
"""The form of L_fm that prefers the true depth most often, see benchmarks/judge.py; FeatureNet starts from
ImageNet weights."""
FORMS: dict[str, dict[str, Any]] = {
    "+ L_fm as judged best": JUDGED,
    "judged best, for depth": JUDGED | {"loss__feature_gradient": "depth"},
    "judged best, for motion": JUDGED | {"loss__feature_gradient": "motion"},
    "judged best, coarse to fine": JUDGED
    | {"loss__feature_levels": [0, 0.4, 0.3, 0.3], "loss__feature_fading": True},
    "as the recipes have it": {"model__feature_depth": SHALLOW.feature_depth}
    | {
        f"loss__{name}": getattr(LED_BY_IMAGES, name)
        for name in (
            "feature_metric",
            "feature_comparison",
            "feature_levels",
            "feature_mask",
            "regularizer_norm",
            "discriminative",
            "convergent",
        )
    },
}
"""Settings of the variants that differ in the form of L_fm."""
COLUMNS = ("abs_rel", "rmse", "a1", "low_abs_rel", "low_rmse", "low_a1")


def train_variant(
    excerpt: Excerpt, options: argparse.Namespace, name: str, seed: int, weight: float
) -> Path:
    """Train what a variant needs; its run folder."""
    method, features = VARIANTS[name]
    base = options.out / options.excerpt
    changes: dict[str, Any] = {"seed": seed, "device": options.device}
    dis, cvt = FEATURES[features or "plain"]
    changes |= {"loss__discriminative": dis, "loss__convergent": cvt}
    if method == "frozen":
        run = base / "features" / f"{features}_{seed}"
        settings = make_settings(
            excerpt, options.data, method="features", steps=options.feature_steps, **changes
        )
        train_once(settings, run)
        changes["feature_run"] = str(run)
    if options.init is not None:
        changes |= {"init": options.init, "decoder_rate": 3.0, "model__start_depth": 5.0}
    if method != "photometric":
        changes["loss__feature_metric"] = weight
    levels = {} if method in ("photometric", "images") else {"loss__feature_levels": options.levels}
    changes |= {"loss__feature_comparison": options.comparison, "loss__coarse": options.coarse}
    changes |= {"loss__smooth_first": options.smooth, "loss__smooth_second": options.smooth}
    if name in FORMS:
        levels = FORMS[name]
    folder = base / f"{name.replace(' ', '_').replace(',', '')}_w{weight:g}_{seed}"
    settings = make_settings(
        excerpt, options.data, method=method, steps=options.steps, data__poses=options.poses,
        **changes | levels,
    )  # fmt: skip
    train_once(settings, folder)
    return folder


def as_table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown, a row a variant: mean and standard deviation over seeds."""
    names = ("Abs Rel", "RMSE (m)", "delta 1")
    head = [*names, *(f"{name}, least texture" for name in names)]
    lines = ["| variant | " + " | ".join(head) + " |", "|---" * 7 + "|"]
    for name, runs in results.items():
        cells = []
        for column in COLUMNS:
            values = [run[column] for run in runs]
            cells.append(f"{np.mean(values):.4f} +- {np.std(values):.4f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train, score, write the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, help="default: 4 minutes on one core")
    parser.add_argument("--feature-steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1], help="of L_fm")
    parser.add_argument("--levels", type=float, nargs="+", default=[1.0],
                        help="shares of FeatureNet's levels in L_fm, finest first")  # fmt: skip
    parser.add_argument("--comparison", choices=("robust", "structural"), default="robust")
    parser.add_argument(
        "--smooth", type=float, default=1e-3, help="weight of both smoothness terms"
    )
    parser.add_argument("--poses", choices=("given", "network"), default="given")
    parser.add_argument("--init", help="run to start from; default: ImageNet weights")
    parser.add_argument("--coarse", type=float, default=0.0, help="weight of the coarse term")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    excerpt = EXCERPTS[options.excerpt]
    options.steps = options.steps or excerpt.steps
    truth = read_truth(excerpt, options.data)
    results: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        for weight in options.weights:
            for name in options.variants:
                if name == "L_ph" and weight != options.weights[0]:
                    continue
                run = train_variant(excerpt, options, name, seed, weight)
                label = name
                if name != "L_ph" and len(options.weights) > 1:
                    label += f", weight {weight:g}"
                results.setdefault(label, []).append(score_once(run, excerpt, truth))
                facts = {"options": {k: v for k, v in vars(options).items() if k not in ("data", "out")},
                         **provenance()}  # fmt: skip
                kept = {
                    n: [{c: r[c] for c in COLUMNS} for r in rows] for n, rows in results.items()
                }
                write_json(options.out / f"{options.excerpt}.json", {**facts, "results": kept})
                (options.out / f"{options.excerpt}.md").write_text(as_table(results) + "\n")
    print(as_table(results))


if __name__ == "__main__":
    main()
