"""egodepth: depth and egomotion from plain video, learned without labels.

>>> import egodepth
>>> run = egodepth.load("runs/x")          # a folder made by `egodepth train`
>>> depth = run.depth("image.png")         # (H, W) float32
"""

from typing import TYPE_CHECKING, Any

from egodepth.core.errors import EgodepthError

if TYPE_CHECKING:
    from egodepth.core.progress import Phase, Reporter, reporting
    from egodepth.data.sources import read_source
    from egodepth.inference.align import align_images
    from egodepth.inference.odometry.known_length import (
        CameraHeight,
        GpsTrack,
        KnownLength,
        MeanSpeed,
        MeasuredDistance,
    )
    from egodepth.inference.odometry.track import track_sequence
    from egodepth.inference.odometry.tracker import Odometry
    from egodepth.inference.predict import find_unit, predict_sequence, write_predictions
    from egodepth.inference.scoring.depth_scores import evaluate_depth
    from egodepth.inference.scoring.trajectory_scores import evaluate_odometry
    from egodepth.runs.run import Run
    from egodepth.runs.unit import Unit
    from egodepth.settings.recipes import get_recipe
    from egodepth.training.pretraining import pretrain
    from egodepth.training.run import train
    from egodepth.training.sharding import shard

__all__ = [
    "CameraHeight",
    "EgodepthError",
    "GpsTrack",
    "KnownLength",
    "MeanSpeed",
    "MeasuredDistance",
    "Odometry",
    "Phase",
    "Reporter",
    "Run",
    "Unit",
    "align_images",
    "evaluate_depth",
    "evaluate_odometry",
    "find_unit",
    "get_recipe",
    "load",
    "predict_sequence",
    "pretrain",
    "read_source",
    "reporting",
    "shard",
    "track_sequence",
    "train",
    "write_predictions",
]

_PLACES = {
    "CameraHeight": "egodepth.inference.odometry.known_length",
    "GpsTrack": "egodepth.inference.odometry.known_length",
    "KnownLength": "egodepth.inference.odometry.known_length",
    "MeanSpeed": "egodepth.inference.odometry.known_length",
    "MeasuredDistance": "egodepth.inference.odometry.known_length",
    "Odometry": "egodepth.inference.odometry.tracker",
    "Phase": "egodepth.core.progress",
    "Reporter": "egodepth.core.progress",
    "Run": "egodepth.runs.run",
    "Unit": "egodepth.runs.unit",
    "align_images": "egodepth.inference.align",
    "evaluate_depth": "egodepth.inference.scoring.depth_scores",
    "evaluate_odometry": "egodepth.inference.scoring.trajectory_scores",
    "find_unit": "egodepth.inference.predict",
    "get_recipe": "egodepth.settings.recipes",
    "predict_sequence": "egodepth.inference.predict",
    "pretrain": "egodepth.training.pretraining",
    "read_source": "egodepth.data.sources",
    "reporting": "egodepth.core.progress",
    "shard": "egodepth.training.sharding",
    "track_sequence": "egodepth.inference.odometry.track",
    "train": "egodepth.training.run",
    "write_predictions": "egodepth.inference.predict",
}


def load(folder: str, device: str = "auto") -> "Run":
    """Read a run folder made by ``egodepth train``, or ``builtin``; see :meth:`egodepth.runs.run.Run.load`."""
    from egodepth.runs.run import Run

    return Run.load(folder, device)


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import egodepth`` does not wait for PyTorch."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'egodepth' has no attribute {name!r}")
