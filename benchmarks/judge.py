"""How often each loss prefers the true depth to a wrong one, before anything is trained with it.

    .venv/bin/python -m benchmarks.judge --data ../shared/data --out docs/results/judge.json [--feature-run RUN]

judges L_ph and forms of L_fm on four pieces of footage with ground truth, by egodepth judge; with a run of
egodepth pretrain --method features also by the features that it learned.
"""

import argparse
from pathlib import Path
from typing import Any

from egodepth.core.files import write_json
from egodepth.core.progress import reporting
from egodepth.core.provenance import provenance
from egodepth.data.sources import default_protocol, read_source
from egodepth.training.judgement import base_settings, judge_losses, loss_settings

FOOTAGE = {
    "KITTI 0009": ("kitti_raw:{}/kitti_raw", ""),
    "KITTI 04": ("kitti_odometry:{}/kitti_odometry", ""),
    "RedKitchen": (
        "seven_scenes:{}/seven_scenes",
        "data.stride=5 model.height=192 model.width=256",
    ),
    "street 100": ("synthetic:100", "data.stride=3"),
}
"""Source, and settings that differ."""
SUM = "loss.feature_metric={} loss.feature_comparison={} loss.feature_levels={}"
STRUCTURAL = SUM.format(0.3, "structural", "[0,1]")
DEEPER = SUM.format(1, "structural", "[0,0.5,0.5]")
LOSSES = {
    "L_ph": "method=photometric",
    "L_ph, mean of the sources": "method=photometric loss.over_sources=mean",
    "L_fm of the stem, robust": "loss.photometric=0",
    "L_ph + 0.7 of it": "loss.feature_metric=0.7",
    "L_ph + 0.3 L_fm at 1/4, structural": STRUCTURAL,
    "the same, images twice as large": f"{STRUCTURAL} loss.feature_scale=2",
    "L_ph + L_fm at 1/4 and 1/8, twice as large, mask of L_ph": (
        f"{DEEPER} loss.feature_scale=2 loss.feature_mask=photometric"
    ),
    "L_ph + 0.3 L_fm of images at half size, structural": (
        "method=images loss.feature_metric=0.3 loss.feature_comparison=structural"
    ),
}
"""Losses by what they are, as the settings of egodepth train."""
FRAMES = 12


def judge(root: Path, feature_run: Path | None) -> dict[str, Any]:
    """Shares of each loss on each footage."""
    losses = dict(LOSSES)
    if feature_run is not None:
        learned = f"method=frozen feature_run={feature_run}"
        losses |= {
            f"{name}, learned features": f"{learned} {settings}"
            for name, settings in LOSSES.items()
            if "L_fm" in name and not settings.startswith("method=")
        }
    results: dict[str, Any] = {}
    for name, (source, common) in FOOTAGE.items():
        sequences = [s for s in read_source(source.format(root)) if s.depth]
        base = loss_settings(base_settings(None), common)
        chosen = {loss: loss_settings(base, text) for loss, text in losses.items()}
        protocol = default_protocol(source.format(root))
        results[name] = {
            loss: {
                "all": found.mean(), "least texture": found.mean("least texture"),
                "better": found.better, "dropped": found.dropped, "pixels": found.pixels,
            }
            for loss, found in judge_losses(sequences, chosen, protocol, count=FRAMES).items()
        }  # fmt: skip
    return results


def main() -> None:
    """Judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--feature-run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with reporting():
        results = judge(options.data, options.feature_run)
    write_json(options.out, {**provenance(), "losses": LOSSES, "results": results})
    for name, losses in results.items():
        for loss, v in losses.items():
            print(f"{name:11} {100 * v['all']:5.1f} {100 * v['least texture']:5.1f}  {loss}")


if __name__ == "__main__":
    main()
