"""PoseNet is asked for motions over the gap that it was trained at, and frames between are interpolated."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.conftest import tiny_settings, write_images
from torch import Tensor

import egodepth
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.preparation.clips import read_clips
from egodepth.data.sequence import Frame, Sequence
from egodepth.data.sources import read_source
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.inference.odometry.motion_chain import Prepared, chain_poses
from egodepth.inference.odometry.tracker import Odometry
from egodepth.inference.predict import predict_sequence, predict_trajectory
from egodepth.inference.scoring import landscape
from egodepth.models.networks import DepthNet, PoseNet
from egodepth.refine import SampleRefinement, refine_samples
from egodepth.runs.folder import RunFolder
from egodepth.runs.motion_gap import MotionGap, typical_gap
from egodepth.runs.run import Run
from egodepth.settings.model import ModelSettings
from egodepth.training.plan import motion_gap
from egodepth.training.run import train

STEP = torch.tensor([0.0, 0.3, 0.1, 0.02, 0.0, 0.6])
"""Twist that the fake PoseNet says of any pair of images."""


class Film:
    """Frames that hold their own number, ``rate`` frames per second."""

    seekable, fingerprint, height, width = True, "film", 32, 64

    def __init__(self, count: int, rate: float = 10.0, missing: tuple[int, ...] = ()) -> None:
        self.numbers = [number for number in range(count) if number not in missing]
        self.times = np.array(self.numbers) / rate

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, indices: object = None) -> Iterator[Frame]:
        for number, time in zip(self.numbers, self.times, strict=True):
            yield Frame(number, float(time), np.full((32, 64, 3), number, np.uint8))


class StubbornRun(Run):
    """Its PoseNet says the same motion of any two frames, whatever their gap, and notes the pairs."""

    def __init__(self, gap: MotionGap) -> None:
        settings = ModelSettings(height=32, width=64)
        nothing = PoseNet.__new__(PoseNet)
        super().__init__(Path("stubborn"), settings, DepthNet.__new__(DepthNet), None)
        self._pose, self.motion_gap = nothing, gap
        self.pairs: list[tuple[int, int]] = []

    def open(self, source: Any, **how: Any) -> list[Sequence]:
        return [source]

    def motions_of_frames(self, first: Tensor, second: Tensor) -> np.ndarray:
        a, b = ((255 * x[:, 0, 0, 0]).round().int().tolist() for x in (first, second))
        self.pairs += list(zip(a, b, strict=True))
        motion = se3.inverse(se3.exp(STEP.double()))
        return motion.expand(len(a), 4, 4).numpy().copy()


def poses_of(run: Run, film: Film) -> np.ndarray:
    found = predict_trajectory(run, Sequence("film", film))
    assert found.numbers == film.numbers
    return found.poses


@pytest.mark.parametrize("gap", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("count", [8, 22, 23, 24, 25])
def test_a_path_is_as_long_as_the_motions_over_the_gap(gap: int, count: int) -> None:
    run = StubbornRun(MotionGap(gap))
    poses = poses_of(run, Film(count))
    shares = torch.arange(count).double() / gap
    expected = se3.exp(shares[:, None] * STEP.double())
    np.testing.assert_allclose(poses, expected, atol=1e-9)
    assert {b - a for a, b in run.pairs} == {gap}
    # Each frame is asked about as a later one once at most, and the last one always.
    assert len(run.pairs) == -(-(count - 1) // gap) and run.pairs[-1][1] == count - 1


def test_footage_of_another_rate_is_seen_over_as_many_seconds() -> None:
    run = StubbornRun(MotionGap(3, 0.3))
    poses_of(run, Film(40, rate=30.0))
    assert {b - a for a, b in run.pairs} == {9}
    run = StubbornRun(MotionGap(3, None))
    poses_of(run, Film(40, rate=30.0))
    assert {b - a for a, b in run.pairs} == {3}
    with pytest.warns(EgodepthWarning, match=r"0.5 s apart.*over 0.1 s.*5.0 times too short"):
        poses_of(StubbornRun(MotionGap(3, 0.1)), Film(6, rate=2.0))


def test_missing_frames_and_short_footage() -> None:
    run = StubbornRun(MotionGap(4))
    poses = poses_of(run, Film(30, missing=(4, 13, 14, 27)))
    assert all(b - a >= 4 for a, b in run.pairs) and np.isfinite(poses).all()
    with pytest.warns(EgodepthWarning, match="holds 3 frames, PoseNet learned motions over 4"):
        assert len(poses_of(run, Film(3))) == 3
    np.testing.assert_array_equal(poses_of(run, Film(1)), np.eye(4)[None])


def test_times_that_stand_still_are_replaced_by_numbers() -> None:
    film = Film(9)
    film.times = np.zeros(9)
    poses = poses_of(StubbornRun(MotionGap(4)), film)
    np.testing.assert_allclose(poses[2], se3.exp(0.5 * STEP.double()), atol=1e-9)


def test_the_chain_streams() -> None:
    """It never holds more than the gap and the frames that wait for each other."""
    run, held = StubbornRun(MotionGap(5)), 0

    def frames() -> Iterator[Prepared[None]]:
        nonlocal held
        for frame in Film(60).at():
            held += 1
            yield Prepared(frame, run.prepare(frame.image), None)

    for _ in chain_poses(frames(), 5, run.motions_of_frames, 4):
        held -= 1
        assert held <= 5
    assert held == 0


def test_a_run_keeps_its_gap(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 10)
    settings = tiny_settings(tmp_path / "frames", method="photometric", data__stride=3, steps=1)
    result = train(settings, tmp_path / "run")
    gap = Run.load(result.run).motion_gap
    assert gap.frames == 3
    Run.load(result.run).save_pretrained(tmp_path / "shared")
    assert Run.load(tmp_path / "shared").motion_gap == gap
    poses = [
        p.first_from_frame
        for p in predict_sequence(
            Run.load(result.run), read_source(str(tmp_path / "frames"))[0], motion="network"
        )
    ]
    # Frames 1 and 2 lie on the way from 0 to 3.
    whole = torch.from_numpy(np.linalg.inv(poses[0]) @ poses[3])
    np.testing.assert_allclose(poses[1], se3.part_of(whole, torch.tensor(1 / 3)), atol=1e-6)
    sequence = replace(
        read_source(str(tmp_path / "frames"))[0], camera=Camera.from_field_of_view(60.0, 40, 80)
    )
    refined = list(refine_samples(result.run, sequence, SampleRefinement(1)))
    assert [p.frame.number for p in refined] == list(range(10))
    assert np.isfinite([p.first_from_frame for p in refined]).all()


def test_runs_that_do_not_say_their_gap(tiny_run: Path, tmp_path: Path) -> None:
    def older(**changes: Any) -> Path:
        tree = yaml.safe_load((tiny_run / "config.yaml").read_text())
        tree["data"].update(changes)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
        return tmp_path

    assert RunFolder.at(older(stride=4)).motion_gap() == MotionGap(4, None)
    with pytest.warns(EgodepthWarning, match="does not say how far apart"):
        assert RunFolder.at(older(stride="auto")).motion_gap() == MotionGap(1, None)
    (tmp_path / "run.json").write_text(json.dumps({"motion_gap": {"frames": "many"}}))
    with pytest.raises(EgodepthError, match=r"run.json is broken: motion_gap"):
        RunFolder.at(tmp_path).motion_gap()


def test_several_clips_give_their_median(tmp_path: Path) -> None:
    gaps = [MotionGap(1, 0.1), MotionGap(3, 0.1), MotionGap(6, 0.2)]
    assert typical_gap(gaps, [10, 10, 100]) == MotionGap(6, 0.2)
    assert typical_gap([*gaps, MotionGap(2)], [10, 100, 10, 5]) == MotionGap(3, None)
    write_images(tmp_path / "frames", 10)
    sequence = read_source(str(tmp_path / "frames"))[0].with_fov(60)
    clip = read_clips([sequence], 32, 64, tmp_path)[0]
    found = motion_gap([replace(clip, stride=2), replace(clip, stride=4), replace(clip, stride=4)])
    assert found.frames == 4


def test_odometry_starts_from_the_motion_over_the_gap() -> None:
    run = StubbornRun(MotionGap(3))
    odometry = Odometry(run, Camera.from_field_of_view(60.0, 32, 64))
    images = [run.prepare(frame.image) for frame in Film(6).at()]
    for count, image in enumerate(images):
        if count:
            share = torch.tensor(min(count, 3) / 3)
            earlier, entry = odometry._recent[0]
            assert entry is not None
            moved = odometry._by_network(image, earlier, entry)
            start = odometry._history.absolute(entry)
            expected = se3.part_of(se3.inverse(se3.exp(STEP)), share) @ start
            torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)
            assert run.pairs[-1] == (max(count - 3, 0), count)
        odometry._history.add_key(count, 0, se3.exp(count * STEP), 0.0, None)
        odometry._recent.append((image, (count, torch.eye(4))))


def test_a_landscape_of_another_gap_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = StubbornRun(MotionGap(3))
    monkeypatch.setattr(landscape.Run, "load", lambda folder: run)
    monkeypatch.setattr(run, "depth", lambda image: np.ones((32, 64), np.float32))
    film = Film(9)
    read = {frame.number: frame.image for frame in film.at()}
    with pytest.warns(EgodepthWarning, match=r"over 3 frames, not 1: .*use --offset 3"):
        landscape._depth_and_motion(Sequence("film", film), 4, 5, read, Path("run"))
    motion = landscape._depth_and_motion(Sequence("film", film), 4, 1, read, Path("run"))[1]
    torch.testing.assert_close(motion, se3.exp(STEP.double()))


def test_a_run_without_a_pose_net_has_no_poses(tiny_run: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 3)
    run = Run.load(tiny_run)
    run._pose = None
    (sequence,) = read_source(str(tmp_path / "frames"))
    with pytest.raises(EgodepthError, match=r"has no PoseNet.*--motion alignment"):
        next(predict_sequence(run, sequence, motion="network"))
    predictions = egodepth.write_predictions(predict_sequence(run, sequence), tmp_path / "out")
    assert [p.first_from_frame for p in predictions] == [None] * 3
    assert (tmp_path / "out" / "unit.json").exists()
    assert not list((tmp_path / "out").glob("trajectory*"))
    posed = replace(sequence, world_from_camera=np.tile(np.eye(4), (3, 1, 1)))
    with pytest.raises(EgodepthError, match=r"has no PoseNet.*--by alignment"):
        egodepth.evaluate_odometry(run, posed)
