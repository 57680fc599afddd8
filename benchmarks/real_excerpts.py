"""What the benchmarks on real data share: two data sets, and trainings that go on where they were."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egodepth.core import config
from egodepth.core.errors import EgodepthError
from egodepth.core.files import write_json
from egodepth.core.progress import reporting
from egodepth.core.schedule import Schedule
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.evaluation.depth import get_protocol
from egodepth.inference.scoring.depth_scores import evaluate_depth
from egodepth.runs.checkpoint import read_checkpoint
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.settings.training import TrainSettings
from egodepth.training.run import TrainingInterrupted, train


@dataclass(frozen=True)
class Excerpt:
    """A data set with ground truth.

    Attributes:
        training: settings that differ from the defaults.
        truth: source of the sequence that is scored.
        protocol: that depth is scored by.
        offset: frames from target to source where matches are looked at.
        steps: of a depth training that takes four minutes on one core.
    """

    training: dict[str, Any]
    truth: str
    protocol: str
    offset: int
    steps: int


EXCERPTS = {
    "kitti": Excerpt(
        {
            "data.sources": ["kitti_raw:kitti_raw", "kitti_odometry:kitti_odometry"],
            "model.start_depth": 10,
        },
        "kitti_raw:kitti_raw",
        "kitti",
        1,
        300,
    ),
    "redkitchen": Excerpt(
        {
            "data.sources": ["seven_scenes:seven_scenes"],
            "data.stride": 5,
            "model.height": 192,
            "model.width": 256,
            "model.start_depth": 2,
        },
        "seven_scenes:seven_scenes",
        "indoor",
        5,
        200,
    ),
}


def make_parser(doc: str) -> argparse.ArgumentParser:
    """The words of a benchmark on an excerpt: which one, where the data are, and where results go."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("excerpt", choices=EXCERPTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def make_settings(excerpt: Excerpt, root: Path, **changes: Any) -> TrainSettings:
    """Settings of a training on an excerpt; in names of changes, ``__`` stands for a dot."""
    values = {"data.root": str(root.resolve()), "data.augment": False, "learning_rate": 4e-4}
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return config.override(TrainSettings(), values | excerpt.training | named)


def train_once(settings: TrainSettings, out: Path) -> None:
    """Train, go on with a training that was stopped, or leave alone one that is done.

    Raises:
        EgodepthError: the folder holds a training with other settings, whose scores would pass for
            those asked for.
    """
    run = RunFolder.at(out)
    if run.checkpoint.exists():
        if run.settings() != settings:
            raise EgodepthError(f"{out} was trained with other settings; name another --out")
        saved = read_checkpoint(run.checkpoint)
        if saved["global_step"] >= Schedule.of_state(saved["egodepth_schedule"]).total:
            return
    try:
        with reporting():
            train(settings, out, resume=run.checkpoint.exists())
    except TrainingInterrupted as stop:
        raise SystemExit(f"{stop}; the same command goes on") from None


def read_truth(excerpt: Excerpt, root: Path) -> Sequence:
    """The sequence that is scored: the left or only camera's."""
    return read_source(excerpt.truth, root)[0]


def score_once(run: Path, excerpt: Excerpt, truth: Sequence) -> dict[str, float]:
    """Scores of a run's depth, which are kept in its folder."""
    file = run / "scores.json"
    if not file.exists():
        scores = evaluate_depth(Run.load(run), [truth], get_protocol(excerpt.protocol))
        write_json(file, scores.to_json())
    return json.loads(file.read_text())
