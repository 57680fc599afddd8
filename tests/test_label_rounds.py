"""Labels made during the training: as those of known poses, the same on resume, and none that disagree."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import TINY
from tests.test_training import interrupt_after, losses
from torch import Tensor, nn

from egodepth.core.config import override
from egodepth.data.preparation.clips import Clip, KnownMotion, read_clips
from egodepth.data.preparation.dense_depth import LabelMaker, add_labels
from egodepth.data.sequence import Sequence
from egodepth.data.synthetic.street import read_street
from egodepth.runs.checkpoint import read_checkpoint
from egodepth.settings.training import TrainSettings
from egodepth.training import label_rounds
from egodepth.training.learned_motion import find_motion
from egodepth.training.run import TrainingInterrupted, train
from egodepth.training.snippets import LabelRound, SnippetStream

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return read_clips([read_street(5, frames=7)], 48, 160, tmp_path_factory.mktemp("street"))[0]


class TrueNetworks(nn.Module):
    """Networks that know the depth of each frame of a clip, and a little less well its motions."""

    def __init__(self, clip: Clip, error: float = 0.0):
        super().__init__()
        self.clip, self.error, self.pose = clip, error, self
        self.weight = nn.Parameter(torch.zeros(1))
        self._frames = torch.from_numpy(np.array(clip.frames)).float() / 255
        self._noise = np.random.default_rng(0)

    def _place(self, frame: Tensor) -> int:
        return int((self._frames - frame).abs().flatten(1).sum(1).argmin())

    def depth(self, frames: Tensor, scales: int) -> list[Tensor]:
        maps = []
        for frame in frames:
            truth = self.clip.sequence.ground_truth("depth")[self._place(frame)]()
            inverse = np.divide(1, truth, out=np.full(truth.shape, 1e-3), where=truth > 0)
            maps.append(torch.from_numpy(inverse).float())
        return [torch.stack(maps)[:, None]]

    def sources_from_target(
        self, target: Tensor, sources: Tensor, directions: tuple[int, ...]
    ) -> Tensor:
        assert directions == (1,)
        poses = self.clip.sequence.world_from_camera
        assert poses is not None
        found = []
        for first, second in zip(target, sources[0], strict=True):
            motion = np.linalg.inv(poses[self._place(second)]) @ poses[self._place(first)]
            motion[:3, 3] += self.error * self._noise.standard_normal(3)
            found.append(torch.from_numpy(motion).float())
        return torch.stack(found)[None]


def path_error(found: KnownMotion, clip: Clip) -> float:
    """Largest difference of neighbours' motions from the truth, over the length of the true one."""
    truth = clip.sequence.world_from_camera
    assert truth is not None
    worst = 0.0
    for before, after in zip(range(len(truth) - 1), range(1, len(truth)), strict=True):
        mine = np.linalg.inv(found.world_from_camera[before]) @ found.world_from_camera[after]
        true = np.linalg.inv(truth[before]) @ truth[after]
        worst = max(worst, np.linalg.norm((mine - true)[:3, 3]) / np.linalg.norm(true[:3, 3]))
    return worst


def test_labels_are_those_of_known_poses(street: Clip, tmp_path: Path) -> None:
    found = find_motion(TrueNetworks(street, error=0.05), street)  # type: ignore[arg-type]
    assert sorted(found.points) == list(range(7))
    assert (found.part == 0).all()
    assert path_error(found, street) < 0.1
    given = replace(street, motion=KnownMotion.given(street.sequence))
    known = add_labels(given, tmp_path, CPU).dense
    made = add_labels(replace(street, motion=found), tmp_path, CPU).dense
    assert known is not None
    assert made is not None
    ours, theirs = made[1:-1, 0].astype(np.float32), known[1:-1, 0].astype(np.float32)
    assert (ours > 0).mean() > 0.9 * (theirs > 0).mean()
    both = (ours > 0) & (theirs > 0)
    ratio = ours[both] / theirs[both]
    median = np.median(ratio)  # a round brings labels to the unit of the networks
    assert abs(median - 1) < 0.1
    assert (np.abs(ratio / median - 1) < 0.05).mean() > 0.8


def test_frames_between_key_frames_are_aligned(street: Clip) -> None:
    spaced = replace(street, stride=2)
    found = find_motion(TrueNetworks(spaced, error=0.05), spaced)  # type: ignore[arg-type]
    assert sorted(found.points) == [0, 2, 4, 6]
    assert (found.part == 0).all()
    assert path_error(found, spaced) < 0.1


def test_parts_end_at_cuts_and_gaps(street: Clip) -> None:
    kept = [0, 1, 2, 3, 5, 6]
    gap = replace(
        street, frames=street.frames[kept], numbers=street.numbers[kept],
        excluded_pairs=frozenset({(0, 1)}), static=np.zeros((48, 160), bool),
    )  # fmt: skip
    networks = TrueNetworks(street)
    found = find_motion(networks, gap)  # type: ignore[arg-type]
    assert found.part.tolist() == [0, 1, 1, 1, 2, 2]
    for first in (0, 1, 4):
        np.testing.assert_array_equal(found.world_from_camera[first], np.eye(4))


def test_labels_act_from_their_step_in_depthnets_unit(street: Clip) -> None:
    stream = SnippetStream([street], directions=(-1, 1), batch_size=2, seed=0)
    dense = np.ones((7, 2, 48, 160), np.float16)
    stream.label_rounds = [LabelRound(3, [dense], [2.0]), LabelRound(5, [None], [0.0])]
    assert [stream.batch(step).dense is None for step in range(7)] == [True] * 3 + [
        False,
        False,
        True,
        True,
    ]
    found = stream.batch(3).dense
    assert found is not None
    assert (found[:, 0] == 2).all()
    assert (found[:, 1] == 1).all()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainSettings]:
    """Of a training that is given true poses in its rounds, after steps 6 and 11 of 16."""
    changes = {
        "data.sources": ["synthetic:5"], "data.poses": "network", "data.dense_labels": True,
        "data.cache": str(tmp_path_factory.mktemp("cache")), "steps": 16, "method": "photometric",
        "checkpoint_every": 100,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_rounds, "find_motion", lambda _, clip: KnownMotion.given(clip.sequence))
        patch.setattr(label_rounds, "MAX_RATIO", 1e6)
        patch.setattr(label_rounds, "MAX_SPREAD", 1e6)
        yield override(TrainSettings(), TINY | changes)


@pytest.fixture(scope="module")
def whole(
    settings: TrainSettings, footage: list[Sequence], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(settings, out, sequences=footage)
    return out


@pytest.fixture(scope="module")
def footage() -> list[Sequence]:
    return [read_street(5, frames=6)]


def column(run: Path, name: str) -> list[str]:
    """A term in all steps of a run's log."""
    rows: list[str] = []
    for log in sorted((run / "logs").glob("csv_*/metrics.csv")):
        header, *lines = log.read_text().splitlines()
        place = header.split(",").index(name) if name in header.split(",") else None
        rows += ["" if place is None else line.split(",")[place] for line in lines]
    return rows


def test_labels_come_twice_and_teach_beside_the_images(whole: Path) -> None:
    dense = column(whole, "dense")
    assert [value != "" for value in dense] == [False] * 10 + [True] * 6
    assert all(column(whole, "photometric"))
    plan = json.loads((whole / "run.json").read_text())["plan"]
    assert [line.split(":")[0] for line in plan[-2:]] == ["step 6", "step 11"]
    assert "labels of 6 frames" in plan[-1]


def test_labels_that_disagree_with_the_network_teach_nothing(
    settings: TrainSettings,
    footage: list[Sequence],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(label_rounds, "MAX_RATIO", 2.0)  # a fresh network, and labels in metres
    train(settings, tmp_path / "run", sequences=footage)
    assert not any(column(tmp_path / "run", "dense"))
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert "times DepthNet's depth" in plan[-1]


@pytest.mark.parametrize("steps", [6, 8, 11])
def test_a_resumed_run_has_the_same_labels(
    settings: TrainSettings, footage: list[Sequence], whole: Path, tmp_path: Path, steps: int
) -> None:
    interrupt_after(steps, settings, tmp_path / "parts", footage)
    train(settings, tmp_path / "parts", resume=True, sequences=footage)
    assert losses(tmp_path / "parts") == losses(whole)


def test_ctrl_c_in_a_round_loses_nothing(
    settings: TrainSettings,
    footage: list[Sequence],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    label: Callable[..., np.ndarray] = LabelMaker.label

    def interrupt(self: LabelMaker, position: int) -> np.ndarray:
        made.append(position)
        if len(made) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return label(self, position)

    monkeypatch.setattr(LabelMaker, "label", interrupt)
    other = override(settings, {"data.cache": str(tmp_path / "other")})
    with pytest.raises(TrainingInterrupted) as stop:
        train(other, tmp_path / "parts", sequences=footage)
    assert (stop.value.stopped_by, stop.value.result.steps) == ("SIGTERM", 6)
    assert len(made) == 3
    rounds = read_checkpoint(tmp_path / "parts" / "checkpoint.ckpt")["callbacks"]["LabelRounds"]
    assert [made["factors"] for made in rounds["rounds"]] == [None]
    train(other, tmp_path / "parts", resume=True, sequences=footage)
    assert losses(tmp_path / "parts") == losses(whole)
