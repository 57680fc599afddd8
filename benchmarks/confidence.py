"""How well confidence tells where depth is wrong, and the confidence of the run builtin.

    .venv/bin/python -m benchmarks.confidence ship --frames DIR
    .venv/bin/python -m benchmarks.confidence compare --data DIR --out docs/results/confidence.json

ship: learns builtin's confidence on rendered worlds that its depth was not trained on, and writes it into the
package. Rendered frames are kept in the folder, from which the next call goes on.
compare: scores ways to tell how sure depth is on footage with ground truth: builtin's confidence, the same
after `egodepth confidence` on that footage, the difference from the prediction for the mirrored image, the
photometric error against the next frame, and depth itself.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.core.files import write_json
from egodepth.core.progress import reporting
from egodepth.core.provenance import provenance
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.data.synthetic.worlds.pairs import world_pairs
from egodepth.evaluation.confidence import score_deviation
from egodepth.evaluation.depth import get_protocol, score_depth
from egodepth.geometry.warp import warp
from egodepth.inference.confidence import add_confidence
from egodepth.inference.odometry.track import track_sequence
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.losses.photometric import photometric_loss, target_statistics
from egodepth.runs.confidence_fit import KnownFrame, learn_confidence
from egodepth.runs.folder import BUILTIN_FOLDER, RunFolder
from egodepth.runs.run import Run
from egodepth.settings.recipes import BUILTIN
from egodepth.training.world_stream import frames_of_pairs

WORLDS, SEED = 100, 1
"""Worlds for builtin's confidence, and their seed, which is not that of its depth."""
HELD_OUT_EVERY = 5
FOOTAGE = {
    "KITTI 0009": ("kitti_raw:{}/kitti_raw", "kitti", 1, 1),
    "RedKitchen": ("seven_scenes:{}/seven_scenes", "indoor", 4, 5),
}
"""Source, protocol, every how many frames with depth are scored, frames to the one that is warped."""
SMALLEST = 1e-3


def frames_of_world(folder: Path, number: int) -> list[KnownFrame]:
    """Frames of a world, from the folder or rendered."""
    path = folder / f"w{number:04d}.npz"
    if not path.exists():
        frames = frames_of_pairs(world_pairs(SEED, number))
        if not frames:
            return []
        np.savez(
            path, images=np.stack([f.image for f in frames]),
            inverse_depth=np.stack([f.inverse_depth for f in frames]).astype(np.float16),
        )  # fmt: skip
    with np.load(path) as file:
        return list(map(KnownFrame, file["images"], file["inverse_depth"]))


def ship(folder: Path, worlds: int, steps: int, out: Path) -> None:
    """Learn the confidence of builtin and write it."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run.load(BUILTIN, "cpu")
    learned: list[KnownFrame] = []
    held_out: list[KnownFrame] = []
    for number in progress.track(range(worlds), "worlds", worlds, "worlds"):
        chosen = held_out if number % HELD_OUT_EVERY == 0 else learned
        chosen.extend(frames_of_world(folder, number))
    learn_confidence(RunFolder(out, BUILTIN), run.depth_net, learned, held_out, steps)


def photometric_error(
    run: Run, sequence: Sequence, trajectory: Trajectory, index: int, offset: int
) -> np.ndarray | None:
    """Photometric error (h, w) of a frame against the frame after it, warped by the predicted depth and the
    tracked motion; None for the last frame."""
    posed = trajectory.by_number()
    numbers = sequence.frames.numbers
    if index + offset >= len(numbers) or not {numbers[index], numbers[index + offset]} <= set(
        posed
    ):
        return None
    first, second = (f.image for f in sequence.frames.at([index, index + offset]))
    images = [run.prepare(image)[None] for image in (first, second)]
    height, width = images[0].shape[-2:]
    depth = torch.from_numpy(run.depth_of_frames(images[0], height, width))
    motion = np.linalg.inv(posed[numbers[index + offset]]) @ posed[numbers[index]]
    assert sequence.camera is not None
    camera = sequence.camera.to(torch.float32).resize(height, width).repeat(1)
    moved = torch.from_numpy(motion).float()[None]
    warped, valid = warp(images[1], depth, moved, camera, camera)
    error = photometric_loss(warped[None], target_statistics(images[0]))[0, 0]
    return torch.where(valid[0], error, error.max()).numpy()


def uncertainties(
    runs: dict[str, Run], sequence: Sequence, trajectory: Trajectory, every: int, offset: int
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """Depth, ground truth, and uncertainties by way, of the frames that are scored."""
    run = runs[BUILTIN]
    truths = sequence.ground_truth("depth")
    for index in sorted(truths)[::every]:
        error = photometric_error(run, sequence, trajectory, index, offset)
        if error is None:
            continue
        truth = truths[index]()
        size = (truth.shape[0], truth.shape[1])
        image = next(iter(sequence.frames.at([index]))).image
        depth = run.depth(image, size)
        mirrored = run.depth(np.ascontiguousarray(image[:, ::-1]), size)[:, ::-1]
        found = {name: each.deviation(image, size) for name, each in runs.items()}
        found["mirrored image"] = np.abs(np.log(depth / mirrored)) + SMALLEST
        found["photometric error"] = cv2.resize(error, size[::-1]) + SMALLEST
        found["depth"] = depth
        yield depth, truth, found


def compare(name: str, root: Path, steps: int) -> dict[str, Any]:
    """Scores of all ways on one piece of footage."""
    source, protocol_name, every, offset = FOOTAGE[name]
    protocol = get_protocol(protocol_name)
    run = Run.load(BUILTIN, "cpu")
    sequence = run.open(next(s for s in read_source(source.format(root)) if s.depth))[0]
    trajectory = track_sequence(run, sequence)
    if sequence.world_from_camera is not None:  # labels never see it
        sequence = replace(sequence, world_from_camera=None)
    with tempfile.TemporaryDirectory() as folder:
        run.save_pretrained(folder)
        adapted = Run.load(folder, "cpu")
        adapted.fit_size(sequence.frames.height, sequence.frames.width)
        add_confidence(adapted, [sequence], steps, track=lambda *_: trajectory)
        runs = {BUILTIN: run, "builtin, calibrated here": Run.load(folder, "cpu")}
    per_way: dict[str, list[dict[str, float]]] = {}
    errors = []
    for depth, truth, ways in uncertainties(runs, sequence, trajectory, every, offset):
        scores = score_depth(depth, truth, protocol)
        errors.append(scores["abs_rel"])
        for way, values in ways.items():
            found = score_deviation(values, depth, truth, protocol, scores["scale"])
            per_way.setdefault(way, []).append(found.metrics)
    if not errors:
        raise EgodepthError(f"no frame of {name} can be scored")
    means = {
        way: {key: float(np.mean([each[key] for each in found])) for key in found[0]}
        for way, found in per_way.items()
    }
    return {"abs_rel": float(np.mean(errors)), "images": len(errors), "ways": means}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("ship", "compare"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--only", nargs="+", choices=FOOTAGE, default=list(FOOTAGE))
    parser.add_argument("--out", type=Path, default=BUILTIN_FOLDER)
    options = parser.parse_args()
    with reporting():
        if options.what == "ship":
            ship(options.frames, options.worlds, options.steps, options.out)
            return
        results = {name: compare(name, options.data, options.steps) for name in options.only}
    write_json(options.out, {**provenance(), "results": results})
    for name, found in results.items():
        print(f"{name}: Abs Rel {found['abs_rel']:.4f} of {found['images']} images")
        for way, m in found["ways"].items():
            print(
                f"  {way:26} AUSE {m['ause_abs_rel']:.4f}, surest 80 % {m['sure_abs_rel']:.4f}, within 1 and 2 "
                f"deviations {100 * m['coverage_1']:.0f} % and {100 * m['coverage_2']:.0f} %"
            )


if __name__ == "__main__":
    main()
