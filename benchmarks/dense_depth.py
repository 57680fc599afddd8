"""How exact and how whole the labels from many views are, by what images are compared with.

    .venv/bin/python -m benchmarks.dense_depth kitti --data ../shared/data --out docs/results/dense_kitti.json

finds poses by structure from motion, makes labels of the frames with ground truth, and scores them where they
are, before any network; `--run RUN` adds the features of that run's FeatureNet to the costs.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.real_excerpts import EXCERPTS, read_truth
from rich.console import Console
from rich.table import Table
from torch import Tensor

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.preparation.clips import Clip, read_clips
from egodepth.data.preparation.dense_depth import LabelMaker, key_positions
from egodepth.data.preparation.structure_from_motion import reconstruct
from egodepth.evaluation.depth import depth_metrics, get_protocol, scaled_depth, scored_pixels
from egodepth.geometry.plane_sweep import Describe, local_contrast
from egodepth.runs.checkpoint import read_run

SIZES = {"kitti": (96, 320), "redkitchen": (192, 256)}
STRIDES = {"kitti": 1, "redkitchen": 6}
CENSUS_NOISE = 0.01
"""Difference of grey levels in [0, 1] that counts as none."""
TYPICAL_COST = 0.5
"""Of local contrast, between pixels that have nothing in common: what the other costs are brought to."""


def census(image: Tensor) -> Tensor:
    """(B, 8, H, W): whether each of eight neighbours in a 5x5 window is brighter, darker, or neither."""
    grey = image.mean(1, keepdim=True)
    height, width = grey.shape[-2:]
    padded = F.pad(grey, (2, 2, 2, 2), mode="replicate")
    shifted = [
        padded[..., dy : dy + height, dx : dx + width]
        for dy in range(0, 5, 2)
        for dx in range(0, 5, 2)
        if (dy, dx) != (2, 2)
    ]
    difference = torch.cat(shifted, 1) - grey
    sign = difference.sign() * (difference.abs() > CENSUS_NOISE)
    return sign * (TYPICAL_COST / len(shifted))


def features_of(folder: Path) -> Describe:
    """The finest features of a run's FeatureNet, at the size of the image, of like scale."""
    net = read_run(folder)[1].features
    if net is None:
        raise SystemExit(f"{folder} has no FeatureNet: name a run of method joint or features")
    net.eval()

    @torch.no_grad()
    def describe(image: Tensor) -> Tensor:
        found = net.features(image, 1)[0]
        found = F.interpolate(found, image.shape[-2:], mode="bilinear", align_corners=False)
        scale = found.std((0, 2, 3), keepdim=True).clamp(min=1e-6)
        return found / scale * (TYPICAL_COST / found.shape[1])

    return describe


def measure(clip: Clip, describe: Describe, frames: int | None, protocol: str) -> dict[str, float]:
    """Scores of labels where they are, how much of the truth they cover, and the seconds of one."""
    chosen = get_protocol(protocol)
    truths = clip.sequence.ground_truth(chosen.truth)
    keys = set(key_positions(clip))
    scored = [position for position in sorted(truths) if position in keys][:frames]
    maker = LabelMaker(clip, scored[0], torch.device("cpu"), describe)
    rows, started = [], time.perf_counter()
    seconds = 0.0
    for position in scored:
        started = time.perf_counter()
        label = maker.label(position)[0].astype(np.float64)
        seconds += time.perf_counter() - started
        truth = truths[position]()
        height, width = truth.shape
        y = ((np.arange(height) + 0.5) * label.shape[0] / height).astype(int)
        x = ((np.arange(width) + 0.5) * label.shape[1] / width).astype(int)
        inverse = label[y][:, x]
        depth = np.divide(1, inverse, out=np.ones_like(inverse), where=inverse > 0)
        all_scored = scored_pixels(depth, truth, chosen)
        mask = all_scored & (inverse > 0)
        if not mask.any():
            continue
        scale = float(np.median(truth[mask]) / np.median(depth[mask]))
        found = scaled_depth(depth, scale, 0.0, chosen)[mask]
        rows.append({**depth_metrics(found, truth[mask].astype(np.float64)),
                     "coverage": float(mask.sum() / all_scored.sum())})  # fmt: skip
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {**means, "frames": len(rows), "seconds_per_frame": seconds / len(maker.views.swept)}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("excerpt", choices=EXCERPTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", type=Path, help="whose FeatureNet is compared too")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, help="score so many frames alone")
    options = parser.parse_args()
    height, width = options.size or SIZES[options.excerpt]
    folder = default_cache_folder()
    sequence = read_truth(EXCERPTS[options.excerpt], options.data)
    clip = read_clips([sequence], height, width, folder)[0]
    clip = reconstruct(replace(clip, stride=STRIDES[options.excerpt]), folder)
    costs: dict[str, Describe] = {"local contrast": local_contrast, "census": census}
    if options.run:
        costs["features"] = features_of(options.run)
    table = Table("cost", "Abs Rel", "delta 1", "RMSE (m)", "coverage (%)", "s per frame")
    results: dict[str, Any] = {}
    for name, describe in costs.items():
        found = measure(clip, describe, options.frames, EXCERPTS[options.excerpt].protocol)
        results[name] = found
        table.add_row(
            name, f"{found['abs_rel']:.4f}", f"{found['a1']:.3f}", f"{found['rmse']:.2f}",
            f"{100 * found['coverage']:.1f}", f"{found['seconds_per_frame']:.2f}",
        )  # fmt: skip
    Console().print(table)
    if options.out:
        facts = {"excerpt": options.excerpt, "size": [height, width], "frames": options.frames}
        write_json(options.out, {**facts, **provenance(), "results": results})


if __name__ == "__main__":
    main()
