"""Dense labels of a clip: right where they are, kept, resumed, and none where nothing moves."""

import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tests.conftest import TINY

from egodepth.core.config import override
from egodepth.core.errors import EgodepthWarning
from egodepth.core.schedule import Schedule
from egodepth.data.preparation import dense_depth
from egodepth.data.preparation.clips import NO_PART, Clip, KnownMotion, SparsePoints, read_clips
from egodepth.data.preparation.dense_depth import add_labels, key_positions, sources_of
from egodepth.data.sequence import ChangedFrames
from egodepth.data.synthetic.street import read_street
from egodepth.geometry.camera import Camera
from egodepth.losses.known_depth import (
    dense_depth_loss,
    dense_gradient_loss,
    robust_log_difference,
)
from egodepth.report.plots import read_log
from egodepth.runs.folder import RunFolder
from egodepth.settings.training import TrainSettings
from egodepth.training.augment import augment
from egodepth.training.motion_refinement import MotionRefinement
from egodepth.training.run import train
from egodepth.training.snippets import SnippetStream

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    clip = read_clips([read_street(5, frames=7)], 48, 160, tmp_path_factory.mktemp("street"))[0]
    return replace(clip, motion=KnownMotion.given(clip.sequence))


@pytest.fixture(scope="module")
def labelled(street: Clip, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return add_labels(street, tmp_path_factory.mktemp("labels"), CPU)


def errors(clip: Clip, position: int) -> np.ndarray:
    """Relative errors of the labels of a frame."""
    assert clip.dense is not None
    truth = clip.sequence.ground_truth("depth")[position]()
    height, width = clip.frames.shape[-2:]
    rows = ((np.arange(height) + 0.5) * truth.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * truth.shape[1] / width).astype(int)
    inverse = clip.dense[position, 0].astype(np.float32)
    known = (inverse > 0) & (truth[rows][:, columns] > 0)
    return np.abs(inverse * truth[rows][:, columns] - 1)[known]


def test_labels_are_exact_and_nearly_whole(labelled: Clip) -> None:
    assert labelled.dense is not None
    assert labelled.dense.shape == (7, 2, 48, 160)
    known = labelled.dense[:, 0] > 0
    found = np.concatenate([errors(labelled, position) for position in range(1, 6)])
    assert known[1:6].mean() > 0.6
    assert np.median(found) < 0.03
    assert (found < 0.1).mean() > 0.85
    confidence = labelled.dense[:, 1]
    assert ((confidence > 0) == known).all()
    assert confidence.max() == 1


def test_frames_between_key_frames_take_their_labels(street: Clip, tmp_path: Path) -> None:
    spaced = add_labels(replace(street, stride=2), tmp_path, CPU)
    assert spaced.dense is not None
    assert key_positions(spaced) == [0, 2, 4, 6]
    for between in (1, 3, 5):
        assert (spaced.dense[between, 0] > 0).mean() > 0.5
    found = np.concatenate([errors(spaced, between) for between in (3,)])
    assert np.median(found) < 0.04
    assert (found < 0.15).mean() > 0.8
    confidence = np.unique(spaced.dense[3, 1])
    assert confidence.tolist() == [0, 0.5, 1]


def test_labels_are_made_once(
    street: Clip, labelled: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_depth, "LABELS_PER_FILE", 2)
    made = []

    def stop(done: int, _: int) -> None:
        made.append(done)
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_labels(street, tmp_path, CPU, stop)
    made.clear()
    resumed = add_labels(street, tmp_path, CPU, lambda done, _: made.append(done))
    assert made == [3, 4, 5, 6, 7]  # the third and fourth were not kept yet
    np.testing.assert_array_equal(resumed.dense, labelled.dense)
    assert len(list(tmp_path.iterdir())) == 1
    made.clear()
    add_labels(street, tmp_path, CPU, lambda done, _: made.append(done))
    assert made == []
    moved = street.motion
    assert moved is not None
    poses = moved.world_from_camera.copy()
    poses[:, :3, 3] *= 2
    other = replace(street, motion=replace(moved, world_from_camera=poses))
    with pytest.raises(KeyboardInterrupt):
        add_labels(other, tmp_path, CPU, lambda *_: stop(4, 7))


def test_sources_show_parallax(street: Clip) -> None:
    assert sources_of(street, 3) == [1, 2, 4, 5]
    assert sources_of(street, 0) == [1, 2]
    motion = street.motion
    assert motion is not None
    # The camera stops before frames 2 and 3: they tell nothing of each other.
    poses = motion.world_from_camera.copy()
    poses[2:4] = poses[1]
    stopped = replace(street, motion=replace(motion, world_from_camera=poses))
    assert sources_of(stopped, 2) == [0, 4, 5]
    part = motion.part.copy()
    part[4:] = 1
    part[1] = NO_PART
    parted = replace(street, motion=replace(motion, part=part))
    assert sources_of(parted, 3) == [2]
    assert key_positions(parted) == [0, 2, 3, 4, 5, 6]
    # By the points: of twenty metres a metre is five percent, of a kilometre nothing.
    far = {p: SparsePoints(np.zeros((1, 2)), np.array([1e-3])) for p in range(7)}
    assert sources_of(replace(street, motion=replace(motion, points=far)), 3) == []


class Sticker:
    """A picture that stays in place, as a car ahead that keeps its distance."""

    def __init__(self, camera: Camera):
        self.camera, self.key = camera, "sticker"
        self._picture = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        changed = image.copy()
        height, width = image.shape[:2]
        large = cv2.resize(self._picture, (width // 5, height // 5), interpolation=cv2.INTER_CUBIC)
        changed[height // 2 : height // 2 + height // 5, width // 2 : width // 2 + width // 5] = (
            large
        )
        return changed


def test_a_camera_that_stands_has_no_labels(street: Clip, tmp_path: Path) -> None:
    motion = street.motion
    assert motion is not None
    poses = np.repeat(motion.world_from_camera[:1], 7, 0)
    still = replace(street, motion=replace(motion, world_from_camera=poses))
    found = add_labels(still, tmp_path, CPU).dense
    assert found is not None
    assert (found == 0).all()
    lost = replace(motion, part=np.full(7, NO_PART))
    none = add_labels(replace(street, motion=lost), tmp_path, CPU).dense
    assert none is not None
    assert (none == 0).all()


def test_what_keeps_its_distance_has_no_label(street: Clip, labelled: Clip, tmp_path: Path) -> None:
    assert street.sequence.camera is not None
    frames = ChangedFrames(street.sequence.frames, Sticker(street.sequence.camera))
    clip = replace(street, sequence=replace(street.sequence, frames=frames))
    dense = add_labels(clip, tmp_path, CPU).dense
    assert dense is not None
    assert labelled.dense is not None
    inside = np.s_[2:5, 0, 26:32, 84:108]
    assert (labelled.dense[inside] > 0).mean() > 0.5
    assert (dense[inside] > 0).mean() < 0.05


def test_labels_that_were_cut_short_are_made_again(
    street: Clip, labelled: Clip, tmp_path: Path
) -> None:
    path = tmp_path / "broken"
    add_labels(street, path, CPU)
    for size in (5000, 0):
        os.truncate(next(path.iterdir()), size)
        with pytest.warns(EgodepthWarning, match="is made again"):
            found = add_labels(street, path, CPU).dense
        np.testing.assert_array_equal(found, labelled.dense)


def test_a_damaged_piece_of_labels_is_made_again(
    street: Clip, labelled: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_depth, "LABELS_PER_FILE", 1)

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_labels(street, tmp_path, CPU, stop)
    cut, zeros = sorted(tmp_path.iterdir())
    os.truncate(cut, 5000)
    zeros.write_bytes(bytes(zeros.stat().st_size))
    np.testing.assert_array_equal(add_labels(street, tmp_path, CPU).dense, labelled.dense)
    assert len(list(tmp_path.iterdir())) == 1


def test_labels_end_with_their_time(
    street: Clip, labelled: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a file of labels too: each takes a second here, and there are three."""
    made: list[int] = []
    clock = SimpleNamespace(perf_counter=lambda: float(len(made)))
    monkeypatch.setattr(dense_depth, "time", clock)
    dense = add_labels(street, tmp_path, CPU, lambda done, _: made.append(done), 3.0).dense
    assert made == [1, 2, 3] and dense is not None and labelled.dense is not None
    np.testing.assert_array_equal(dense[:3], labelled.dense[:3])
    assert (dense[3:] == 0).all()


def test_what_belongs_to_the_camera_has_no_label(street: Clip, tmp_path: Path) -> None:
    add_labels(street, tmp_path, CPU)  # another mask is another label
    static = np.zeros((48, 160), bool)
    static[38:] = True
    dense = add_labels(replace(street, static=static), tmp_path, CPU).dense
    assert dense is not None
    assert (dense[:, :, 38:] == 0).all()
    assert (dense[2, 0, :36] > 0).mean() > 0.5


def test_the_loss_is_known(labelled: Clip) -> None:
    labels = torch.tensor([[[[0.5, 0.5, 0.0]], [[1.0, 0.5, 0.0]]]]).double()
    factors = [math.exp(0.1), math.exp(-0.2), 3.0]
    inverse = 0.5 * torch.tensor([[[factors]]], dtype=torch.float64)
    found = dense_depth_loss(inverse, labels)
    # By confidence: 1 and 1/2, and none where nothing is known.
    assert float(found) == pytest.approx((math.log(1.5) + 0.5 * math.log(3)) / 1.5, rel=1e-6)
    leaf = (0.3 + torch.rand(1, 2, 3, 4)).double().requires_grad_()
    truth = torch.rand(1, 2, 3, 4).double()
    assert torch.autograd.gradcheck(lambda x: dense_depth_loss(x, truth), leaf)
    assert torch.autograd.gradcheck(lambda x: dense_gradient_loss(x, truth), leaf)
    assert torch.autograd.gradcheck(lambda x: robust_log_difference(x, truth), leaf)


def test_the_loss_of_gradients_is_known() -> None:
    labels = torch.ones(1, 2, 1, 4, dtype=torch.float64)
    labels[0, 0] = torch.tensor([0.5, 1.0, 2.0, 0.0])
    labels[0, 1] = torch.tensor([1.0, 0.5, 0.25, 1.0])
    # Another scale costs nothing; one wrong pixel costs by its neighbours and their confidence.
    assert float(dense_gradient_loss(3 * labels[:, :1] + 1e-9, labels)) == pytest.approx(
        0, abs=1e-9
    )
    wrong = labels[:, :1].clone() + 1e-9
    wrong[..., 2] *= math.exp(0.1)
    neighbours = (
        0.25 * math.log(1.5) / 1.0
    )  # pairs 0-1 and 1-2 weigh 0.5 and 0.25; sums below 1 count as 1
    two_apart = 0.25 * math.log(1.5) / 1.0
    expected = (neighbours + two_apart) / 2
    assert float(dense_gradient_loss(wrong, labels)) == pytest.approx(expected, rel=1e-6)


def test_labels_follow_their_frames(labelled: Clip) -> None:
    stream = SnippetStream([labelled], directions=(-1, 1), batch_size=4, seed=0)
    raw = stream.batch(0)
    assert labelled.dense is not None
    assert raw.dense is not None
    for row, target in enumerate(raw.frame_ids[0].tolist()):
        np.testing.assert_array_equal(raw.dense[row], labelled.dense[target])
    batch = augment(raw, 1)
    assert batch.dense is not None
    flipped = (batch.target != augment(raw, 1, enabled=False).target).flatten(1).any(1)
    assert flipped.any()
    assert not flipped.all()
    for row, mirrored in enumerate(flipped):
        expected = raw.dense[row].float()
        torch.testing.assert_close(batch.dense[row], expected.flip(-1) if mirrored else expected)
    motions = MotionRefinement(stream, 1.0)
    with torch.no_grad():
        motions.log_scale.fill_(math.log(2))
    scaled = motions(raw).dense
    assert scaled is not None
    torch.testing.assert_close(scaled[:, 0], raw.dense[:, 0].float() / 2)
    torch.testing.assert_close(scaled[:, 1], raw.dense[:, 1].float())


def test_the_first_steps_see_labelled_frames_alone(labelled: Clip) -> None:
    assert labelled.dense is not None
    dense = labelled.dense.copy()
    dense[[1, 2, 5]] = 0
    clips = [replace(labelled, dense=dense)]
    stream = SnippetStream(clips, directions=(-1, 1), batch_size=2, seed=0)
    targets = [set(stream.batch(step).frame_ids[0].tolist()) for step in range(6)]
    assert set.union(*targets) == {1, 2, 3, 4, 5}
    stream.schedule, stream.labels_first = Schedule(6), 0.6
    first = [sorted(stream.batch(step).frame_ids[0].tolist()) for step in range(4)]
    assert first == [[3, 4]] * 4
    assert [set(stream.batch(step).frame_ids[0].tolist()) for step in (4, 5)] == targets[4:]


def test_training_learns_from_labels(tmp_path: Path) -> None:
    changes = {
        "data.sources": ["synthetic:5"], "data.poses": "given", "data.dense_labels": True,
        "data.cache": str(tmp_path / "cache"), "steps": 3, "method": "photometric",
    }  # fmt: skip
    settings = override(TrainSettings(), TINY | changes)
    result = train(settings, tmp_path / "run", sequences=[read_street(5, frames=5)])
    log = next((tmp_path / "run" / "logs").glob("csv_*/metrics.csv")).read_text()
    assert "dense" in log.splitlines()[0].split(",")
    assert result.steps == 3
    assert "labels of 5 frames" in (tmp_path / "run" / "run.json").read_text()
    both = override(settings, {"method": "joint", "labels_first": 0.4, "log_every": 1})
    train(both, tmp_path / "both", sequences=[read_street(5, frames=5)])
    logged = read_log(RunFolder.at(tmp_path / "both"))
    # FeatureNet rests while depth learns from labels alone.
    assert len(logged["dense"]) == 3 and len(logged["reconstruction"]) == 1
    assert len(logged["feature_metric"]) == 1
    none = override(settings, {"loss.dense": 0.0, "steps": 1})
    train(none, tmp_path / "none", sequences=[read_street(5, frames=5)])
    log = next((tmp_path / "none" / "logs").glob("csv_*/metrics.csv")).read_text()
    assert "photometric" in log.splitlines()[0].split(",")
    assert "labels" not in (tmp_path / "none" / "run.json").read_text()
