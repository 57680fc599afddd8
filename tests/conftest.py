"""Shared fixtures: real data where it is, tiny footage, a tiny trained run."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from egodepth.core.config import override
from egodepth.core.progress import Phase
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import RawBatch

DATA = Path(__file__).parents[2] / "shared" / "data"
TINY = {
    "model.height": 32,
    "model.width": 64,
    "model.depth_encoder": "test_efficientnet",
    "model.pose_encoder": "test_efficientnet",
    "model.feature_encoder": "test_efficientnet",
    "model.pretrained": False,
    "model.decoder_channels": (8, 8, 8, 8, 8),
    "batch_size": 2,
    "steps": 4,
    "log_every": 1,
    "precision": "float32",
    "device": "cpu",
}
"""Settings under which a step takes a tenth of a second."""


class Heard:
    """A reporter that hands on each name and count of a phase."""

    def __init__(self, show: Callable[[str, int], None]):
        self._show, self.notes = show, list[str]()

    def show(self, phase: Phase) -> None:
        self._show(phase.name, phase.done)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield


@pytest.fixture
def data() -> Path:
    """The real excerpts; the test is skipped where they are missing."""
    if not DATA.is_dir():
        pytest.skip(f"real data missing: there is no {DATA}")
    return DATA


def write_images(folder: Path, count: int, height: int = 40, width: int = 80) -> list[Path]:
    """A panning noise picture, so that neighbours resemble each other."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (height // 4, (width + 4 * count) // 4, 3), dtype=np.uint8)
    wall = np.asarray(Image.fromarray(wide).resize((width + 4 * count, height)))
    paths = []
    for index in range(count):
        path = folder / f"{index:06d}.png"
        Image.fromarray(wall[:, 2 * index : 2 * index + width]).save(path)
        paths.append(path)
    return paths


def raw_batch(frames: torch.Tensor, matrix: torch.Tensor) -> RawBatch:
    """A batch of unknown motion of frames (S + 1, B, 3, H, W)."""
    count, batch = frames.shape[:2]
    return RawBatch(
        frames, matrix, 0, torch.arange(count * batch).view(count, batch),
        clips=torch.zeros(batch, dtype=torch.int64), parts=torch.zeros(batch, dtype=torch.int64),
    )  # fmt: skip


def tiny_settings(folder: Path, **changes: object) -> TrainSettings:
    """Fast settings for a folder of images."""
    base = {"data.sources": [str(folder)], "data.fov": 60.0, **TINY}
    return override(TrainSettings(), base | {k.replace("__", "."): v for k, v in changes.items()})


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with every network, trained for a few steps; one for all workers of pytest-xdist."""
    from egodepth.training.run import train

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    base /= "tiny"
    base.mkdir(exist_ok=True)
    with FileLock(base / "lock"), pytest.MonkeyPatch.context() as patch:
        if not (base / "done").exists():
            write_images(base / "frames", 7)
            patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
            train(tiny_settings(base / "frames"), base / "run")
            (base / "done").touch()
    return base / "run"


@pytest.fixture(scope="session")
def rendered_kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the excerpts of KITTI, see :mod:`tests.rendered_kitti`."""
    from tests.rendered_kitti import make_rendered_kitti

    root = tmp_path_factory.mktemp("rendered")
    make_rendered_kitti(root)
    return root
