"""Does L_fm have wider basins than L_ph, and what do L_dis and L_cvt add? The paper's claim, in numbers.

    .venv/bin/python -m benchmarks.landscape kitti --data ../shared/data --out runs/landscape

trains FeatureNets with several weights of the two regularisers, and scores the loss surfaces around at
least a thousand true matches, which ground-truth depth and poses give (egodepth.evaluation.landscape).
Stopped, it goes on where it was. Writes OUT/kitti.json and OUT/kitti.md.
"""

from pathlib import Path

import numpy as np
from benchmarks.real_excerpts import (
    EXCERPTS,
    Excerpt,
    make_parser,
    make_settings,
    read_truth,
    train_once,
)

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.evaluation.landscape import score_surfaces, texture_groups
from egodepth.inference.scoring.landscape import TrueMatches, find_matches, loss_surfaces
from egodepth.models.networks import FeatureNet
from egodepth.runs.checkpoint import read_run
from egodepth.settings.model import ModelSettings

WEIGHTS = (1e-3, 1e-2, 1e-1)
RADIUS, STEP = 12.0, 0.5
LEVELS = 3


def variants() -> dict[str, tuple[float, float]]:
    """Weights of L_dis and L_cvt by name."""
    found = {"auto-encoder": (0.0, 0.0)}
    found |= {f"+ L_dis {w:g}": (w, 0.0) for w in WEIGHTS}
    found |= {f"+ L_cvt {w:g}": (0.0, w) for w in WEIGHTS}
    return found | {f"+ L_dis {d:g} + L_cvt {c:g}": (d, c) for d in WEIGHTS for c in WEIGHTS}


def collect_matches(
    excerpt: Excerpt, root: Path, model: ModelSettings, count: int
) -> list[TrueMatches]:
    """Random pixels of the frames with ground truth, ``count`` in all."""
    sequence = read_truth(excerpt, root)
    indices = [i for i in sorted(sequence.depth) if i + excerpt.offset < len(sequence.frames)]
    indices = indices[:: max(1, len(indices) // 24)]
    return [
        find_matches(
            sequence, index, height=model.height, width=model.width, offset=excerpt.offset,
            count=-(-count // len(indices)), margin=RADIUS, seed=index,
        )
        for index in indices
    ]  # fmt: skip


def score(
    matches: list[TrueMatches], net: FeatureNet | None, level: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by loss and by group of pixels: all, and the thirds with the least and most texture."""
    groups = texture_groups(np.concatenate([m.texture for m in matches]))
    found: dict[str, list[np.ndarray]] = {}
    for some in matches:
        for name, values in loss_surfaces(some, net, radius=RADIUS, step=STEP, level=level).items():
            found.setdefault(name, []).append(values)
    scores = {name: score_surfaces(np.concatenate(v), STEP) for name, v in found.items()}
    return {n: {g: s.mean(rows) for g, rows in groups.items()} for n, s in scores.items()}


def add(
    results: dict[str, dict[str, dict[str, float]]],
    name: str,
    matches: list[TrueMatches],
    net: FeatureNet | None,
) -> None:
    """Scores of a FeatureNet: L_fm of its finest level, and of the next ones in both comparisons."""
    for level in range(LEVELS):
        scores = score(matches, net, level)
        where = f"{name}, level {level}"
        results[where] = scores["feature_metric"]
        results[f"{where}, structural"] = scores["structural"]


def as_table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown, a row a loss."""
    head = "| loss | " + " | ".join(
        f"{what}, {group}"
        for group in ("all", "least texture")
        for what in ("basin", "reach", "minima", "plateau", "miss", "near miss")
    )
    lines = [head + " |", "|---" * 13 + "|"]
    for name, groups in results.items():
        cells = []
        for group in ("all", "least texture"):
            v = groups[group]
            cells += [f"{v['basin']:.2f}", f"{100 * v['reach']:.1f} %", f"{v['minima']:.1f}",
                      f"{100 * v['plateau']:.1f} %", f"{v['miss']:.2f}", f"{v['near_miss']:.2f}"]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train, score, write the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--count", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    excerpt = EXCERPTS[options.excerpt]
    plain = make_settings(excerpt, options.data, method="features", seed=options.seed)
    matches = collect_matches(excerpt, options.data, plain.model, options.count)
    pixels = sum(len(some) for some in matches)
    raw = FeatureNet(plain.model).eval()
    first = score(matches, None)
    results = {"image": first["image"], "photometric": first["photometric"]}
    add(results, "ImageNet features", matches, raw)
    for name, (discriminative, convergent) in variants().items():
        settings = make_settings(
            excerpt, options.data, method="features", seed=options.seed, steps=options.steps,
            loss__discriminative=discriminative, loss__convergent=convergent,
        )  # fmt: skip
        run = options.out / options.excerpt / f"dis{discriminative:g}_cvt{convergent:g}"
        train_once(settings, run)
        add(results, name, matches, read_run(run)[1].features)
        facts = {"pixels": pixels, "frames": len(matches), "steps": options.steps,
                 "seed": options.seed, "radius": RADIUS, "step": STEP,
                 **provenance()}  # fmt: skip
        write_json(options.out / f"{options.excerpt}.json", {**facts, "results": results})
        (options.out / f"{options.excerpt}.md").write_text(as_table(results) + "\n")
    print(f"{pixels} pixels of {len(matches)} frames\n{as_table(results)}")


if __name__ == "__main__":
    main()
