"""Trajectories of the excerpts: chained PoseNet, direct alignment, and pycolmap, side by side.

    .venv/bin/python -m benchmarks.odometry --data ../shared/data --kitti runs/kitti \\
        --redkitchen runs/kitchen --out runs/odometry.json

scores all frames after similarity alignment (structure from motion: the frames that it places) and
prints a table. pycolmap sees every frame of KITTI and every sixth of RedKitchen, with the settings of
`data.poses sfm`; --skip-colmap leaves it out. The JSON also has the wall-clock time from frame to frame (median
and 95th percentile): it says something only on idle cores.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.preparation.clips import NO_PART, read_clips
from egodepth.data.preparation.structure_from_motion import reconstruct
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source, select
from egodepth.evaluation.odometry import score_trajectory
from egodepth.inference.odometry.track import track_sequence
from egodepth.inference.odometry.tracker import OdometrySettings
from egodepth.inference.scoring.trajectory_scores import evaluate_odometry
from egodepth.runs.run import Run

SEQUENCES = {
    "KITTI 00": ("kitti_odometry:kitti_odometry", "00", "kitti", 1),
    "KITTI 04": ("kitti_odometry:kitti_odometry", "04/image_2", "kitti", 1),
    "RedKitchen": ("seven_scenes:seven_scenes", None, "redkitchen", 6),
}


REFERENCES = """\
Published, for reference: mean ATE over full KITTI 00 and 02 to 10: ORB-SLAM2 with loops 9.46 m (CPU), VGGT-Long
22.8 m, DROID-SLAM about 100 m (arXiv 2507.16443), DA3-Streaming 10.42 m (A100, its repository); on TUM fr1
MASt3R-SLAM 0.030 m calibrated and 0.060 m uncalibrated, DROID-SLAM 0.038 m, DPV-SLAM++ 0.054 m (arXiv
2412.12392). The excerpts above are short parts: their errors do not compare with those of full sequences."""


def by_pose_net(run: Run, sequence: Sequence) -> dict[str, float]:
    """PoseNet's motions, chained."""
    return evaluate_odometry(run, sequence).summary


def by_alignment(run: Run, sequence: Sequence, *, loops: bool) -> dict[str, float]:
    """`egodepth odometry`."""
    moments = [time.perf_counter()]
    found = track_sequence(
        run, sequence, OdometrySettings(loops=loops),
        on_frame=lambda motion: moments.append(time.perf_counter()),
    )  # fmt: skip
    p50, p95 = (1e3 * float(np.quantile(np.diff(moments), share)) for share in (0.5, 0.95))
    assert sequence.world_from_camera is not None
    scores = score_trajectory(found.first_from_frame, sequence.world_from_camera)
    return scores | {
        "key_frames": found.key_frames, "loops": len(found.loops), "p50_ms": p50, "p95_ms": p95,
    }  # fmt: skip


def by_colmap(sequence: Sequence, stride: int) -> dict[str, float]:
    """Structure from motion, from nothing."""
    clip = read_clips([sequence], 96, 320, default_cache_folder())[0]
    with tempfile.TemporaryDirectory() as folder:
        motion = reconstruct(replace(clip, stride=stride), Path(folder)).motion
    assert motion is not None and sequence.world_from_camera is not None
    largest = np.bincount(motion.part[motion.part != NO_PART]).argmax()
    placed = motion.part == largest
    scores = score_trajectory(motion.world_from_camera[placed], sequence.world_from_camera[placed])
    return scores | {"frames": int(placed.sum()), "of": len(placed)}


def timed(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What it returns, and the seconds it took."""
    started = time.perf_counter()
    return work() | {"seconds": time.perf_counter() - started}


def latency(scores: dict[str, float]) -> str:
    """Milliseconds per frame, in the median and the 95th percentile; empty if unknown."""
    return f"{scores['p50_ms']:.0f} / {scores['p95_ms']:.0f}" if "p50_ms" in scores else ""


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kitti", type=Path, help="run folder")
    parser.add_argument("--redkitchen", type=Path, help="run folder")
    parser.add_argument("--skip-colmap", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    table = Table(
        "sequence",
        "method",
        "frames",
        "ATE (m)",
        "of the path",
        "turn error",
        "frames/s",
        "ms p50 / p95",
    )
    results: dict[str, Any] = {}
    for name, (source, part, kind, stride) in SEQUENCES.items():
        folder = getattr(options, kind)
        if folder is None:
            continue
        run = Run.load(folder)
        sequence = select(read_source(source, options.data), part)[0]
        work: dict[str, Callable[[], dict[str, float]]] = {
            "PoseNet, chained": lambda run=run, s=sequence: by_pose_net(run, s),
            "egodepth odometry": lambda run=run, s=sequence: by_alignment(run, s, loops=True),
            "egodepth odometry --loops no": lambda run=run, s=sequence: by_alignment(
                run, s, loops=False
            ),
        }
        if not options.skip_colmap:
            work["pycolmap"] = lambda s=sequence, k=stride: by_colmap(s, k)
        for method, do in work.items():
            scores = timed(do)
            results.setdefault(name, {})[method] = scores
            table.add_row(name, method, f"{scores['frames']:.0f}", f"{scores['ate_m']:.3f}",
                          f"{scores['ate_percent']:.2f} %", f"{scores['rpe_rotation_deg']:.3f} deg",
                          f"{scores['frames'] / scores['seconds']:.1f}",
                          latency(scores))  # fmt: skip
    Console(width=110).print(table)
    Console(width=110).print(REFERENCES, highlight=False)
    write_json(options.out, {"results": results, **provenance()})


if __name__ == "__main__":
    main()
