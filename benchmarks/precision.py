"""Whether bfloat16 costs accuracy: the same trainings in bfloat16 and float32, several seeds.

    .venv/bin/python -m benchmarks.precision --data DIR --out runs/precision

trains the KITTI excerpts photometrically and scores 0009; stopped, it goes on where it was. Two of it,
one for each of --precisions, can run side by side. Writes OUT/precision.json and prints the table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.real_excerpts import EXCERPTS, make_settings, read_truth, score_once, train_once

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance

PRECISIONS = ("bf16", "float32")
COLUMNS = ("abs_rel", "rmse", "a1")


def main() -> None:
    """Train, score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--sources", nargs="+", help="train on these of the excerpt's sources alone"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    options = parser.parse_args()
    excerpt = EXCERPTS["kitti"]
    truth = read_truth(excerpt, options.data)
    smaller: dict[str, Any] = {"data__sources": options.sources} if options.sources else {}
    if options.size:
        smaller |= {"model__height": options.size[0], "model__width": options.size[1]}
    for seed in options.seeds:
        for precision in options.precisions:
            run = options.out / f"{precision}_{seed}"
            settings = make_settings(
                excerpt, options.data, method="photometric", steps=options.steps, seed=seed,
                precision=precision, compile="never", **smaller,
            )  # fmt: skip
            train_once(settings, run)
            score_once(run, excerpt, truth)
    results: dict[str, dict[str, list[float]]] = {}
    for precision in PRECISIONS:
        files = [options.out / f"{precision}_{seed}" / "scores.json" for seed in options.seeds]
        found = [json.loads(file.read_text()) for file in files if file.exists()]
        results[precision] = {name: [scores[name] for scores in found] for name in COLUMNS}
        cells = (
            f"{name} {np.mean(v):.4f} +- {np.std(v):.4f}"
            for name, v in results[precision].items()
            if v
        )
        print(f"{precision}, {len(found)} seeds: {', '.join(cells)}")
    facts = {
        "steps": options.steps, "seeds": options.seeds, "size": options.size,
        "sources": options.sources, **provenance(),
    }  # fmt: skip
    write_json(options.out / "precision.json", {**facts, "results": results})


if __name__ == "__main__":
    main()
