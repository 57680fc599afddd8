"""Files of an evaluation: scores per image, and plots of the worst images."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from egodepth.core import progress
from egodepth.core.colours import colourize_depth
from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path
from egodepth.data.sequence import Sequence
from egodepth.evaluation.depth import DepthProtocol, scaled_depth
from egodepth.inference.scoring.depth_scores import DepthScores, ImageScores, Predictor
from egodepth.inference.scoring.predictions import CONFIDENCE_KEYS
from egodepth.report.plots import plot_depth_errors, plot_sparsification
from egodepth.runs.destination import output_folder
from egodepth.runs.folder import RunFolder, RunLike

WORST = 10
SPARSE = 0.3


def run_facts(run: RunLike) -> dict[str, Any]:
    """Facts of a run for a table of many runs: name, commit, seed, size, steps and time.

    Raises:
        EgodepthError: not a run folder.
    """
    folder = RunFolder.at(run)
    settings = folder.settings()
    kept = ("commit", "machine", "cores", "steps", "seconds", "prepare_seconds", "poses")
    return {
        "name": folder.name, "seed": settings.seed, "method": settings.method,
        "views": settings.data.views, "size": f"{settings.model.width}x{settings.model.height}",
        **folder.facts().only(kept),
    }  # fmt: skip


def write_csv(path: Path, scores: DepthScores) -> None:
    """Write a CSV file with a row for each image: sequence, frame, and all scores.

    Raises:
        EgodepthError: the file can't be written.
    """
    names = list({name: None for image in scores.images for name in image.scores})
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sequence", "frame", *names])
        for image in scores.images:
            values = [image.scores.get(name, "") for name in names]
            writer.writerow([image.sequence, image.frame, *values])


def draw_worst(
    folder: Path,
    scores: DepthScores,
    sequences: list[Sequence],
    predictor: Predictor,
    protocol: DepthProtocol,
) -> list[Path]:
    """Plot the images with the largest Abs Rel, by rank: frame, prediction, ground truth and error map; returns
    the paths. Earlier plots of this kind are removed.

    Raises:
        EgodepthError: a file can't be written.
    """
    by_name = {sequence.name: sequence for sequence in sequences}
    ranked = sorted(scores.images, key=lambda image: -image.scores["abs_rel"])[:WORST]
    paths, out = [], output_folder(folder, "evaluation")
    shown = progress.track(ranked, "drawing the worst images", len(ranked), "images")
    for rank, image in enumerate(shown, start=1):
        words = "".join(c if c.isalnum() else "_" for c in image.sequence)
        path = out.file(f"{rank:02d}_{words}_{image.frame}.png")
        _draw(path, image, by_name[image.sequence], predictor, protocol)
        paths.append(path)
    return paths


def draw_confidence(path: Path, scores: DepthScores, predictions: Path) -> None:
    """Plot the sparsification curves of scores.

    Raises:
        EgodepthError: predictions without confidence, or a file that can't be written.
    """
    if not scores.curves:
        raise EgodepthError(
            f"{predictions} has no confidence to plot: a run gets one by egodepth confidence, a folder of "
            f"predictions by the array {CONFIDENCE_KEYS[0]} in its .npz files"
        )
    plot_sparsification(path, scores.curves)


def _draw(
    path: Path,
    image: ImageScores,
    sequence: Sequence,
    predictor: Predictor,
    protocol: DepthProtocol,
) -> None:
    index = sequence.frames.numbers.index(image.frame)
    truth = sequence.ground_truth(protocol.truth)[index]()
    frame = next(iter(sequence.frames.at([index])))
    depth = predictor.predict(sequence, frame, (truth.shape[0], truth.shape[1]))
    depth = scaled_depth(
        depth.astype(np.float64), image.scores["scale"], image.scores.get("shift", 0.0), protocol
    )
    nearest = float(np.percentile(truth[truth > 0], 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(truth > 0, np.abs(np.log2(depth / truth)), np.nan)
    title = f"{image.sequence}, frame {image.frame}: Abs Rel {image.scores['abs_rel']:.3f}"
    # Single LiDAR points would be too small to see.
    side = max(1, round(truth.shape[1] / 300)) if (truth > 0).mean() < SPARSE else 1
    thick = np.ones((side, side), np.uint8)
    plot_depth_errors(
        path, frame.image, colourize_depth(depth, nearest),
        colourize_depth(cv2.dilate(truth, thick), nearest),
        _thicken(error, thick), title,
    )  # fmt: skip


def _thicken(error: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    grown = cv2.dilate(np.where(np.isnan(error), -1, error), kernel)
    return np.where(grown < 0, np.nan, grown)
