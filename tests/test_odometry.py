"""Odometry on a rendered street, with a depth that is known, and from the command line."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.conftest import write_images
from tests.test_cli import run
from torch import Tensor

from egodepth.data.sequence import Frame, Sequence
from egodepth.data.synthetic.street import CAMERA_HEIGHT, StreetDrive, read_street
from egodepth.evaluation.odometry import score_trajectory
from egodepth.geometry.trajectory import read_kitti
from egodepth.inference.align import align_images
from egodepth.inference.odometry.known_length import CameraHeight
from egodepth.inference.odometry.track import TrackingInterrupted, track_sequence
from egodepth.inference.odometry.tracker import Odometry
from egodepth.models.networks import DepthNet
from egodepth.runs.run import Run
from egodepth.settings.model import ModelSettings

FARTHEST = 100.0
FRAMES = range(85, 115)
"""Of the drive: through its bend."""


@cache
def the_street() -> Sequence:
    """A street that every test of the process drives through: each of its frames is rendered once."""
    street = read_street(5)
    drive = street.frames
    assert isinstance(drive, StreetDrive)
    drive.render = cache(drive.render)  # type: ignore[method-assign]
    return street


class OracleRun(Run):
    """A run that predicts the true depth of a drive, in units that change by a tenth from frame to
    frame, whenever a frame of the drive is shown."""

    def __init__(self, drive: StreetDrive, seen: Iterable[int] = FRAMES) -> None:
        settings = ModelSettings(height=96, width=320)
        super().__init__(Path("oracle"), settings, DepthNet.__new__(DepthNet), None)
        self.drive, self.seen = drive, list(seen)
        self.images = torch.stack([self.prepare(drive.render(i)[0]) for i in self.seen])

    def depth_and_summary(
        self, frames: Tensor, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        summary = F.interpolate(frames, (8, 16), mode="area").flatten(1).numpy()
        return self.depth_of_frames(frames, height, width), summary

    def depth_of_frames(self, frames: Tensor, height: int, width: int) -> np.ndarray:
        index = int((self.images - frames[0].cpu()).abs().mean((1, 2, 3)).argmin())
        depth = self.drive.depth(self.seen[index])
        unit = 1 + 0.1 * np.sin(3.0 * index)
        return (unit * np.where(depth > 0, np.minimum(depth, FARTHEST), FARTHEST)[None]).astype(
            "f4"
        )


class Part:
    """Some frames of a drive."""

    def __init__(self, drive: StreetDrive) -> None:
        self.drive, self.height, self.width = drive, drive.height, drive.width
        self.fingerprint, self.times = drive.fingerprint, drive.times[list(FRAMES)]

    def __len__(self) -> int:
        return len(FRAMES)

    def at(self, indices: object = None) -> Iterator[Frame]:
        return self.drive.at(FRAMES)


@pytest.fixture(scope="module")
def street() -> tuple[OracleRun, Sequence]:
    sequence = the_street()
    drive = sequence.frames
    assert isinstance(drive, StreetDrive) and sequence.world_from_camera is not None
    torch.manual_seed(0)
    poses = sequence.world_from_camera[list(FRAMES)]
    return OracleRun(drive), replace(
        sequence, frames=Part(drive), world_from_camera=poses, depth={}
    )


def test_a_street_is_driven_through(street: tuple[OracleRun, Sequence]) -> None:
    oracle, sequence = street
    coming: list[int] = []
    found = track_sequence(
        oracle, sequence, known=CameraHeight(CAMERA_HEIGHT),
        on_frame=lambda motion: coming.append(motion.frame.number),
    )  # fmt: skip
    assert coming == list(FRAMES) and found.untrusted == [] and not found.interrupted
    assert 3 < found.key_frames <= len(FRAMES)
    assert sequence.world_from_camera is not None
    scores = score_trajectory(found.first_from_frame, sequence.world_from_camera)
    assert scores["path_m"] > 10
    assert scores["ate_percent"] < 0.5 and scores["rpe_rotation_deg"] < 0.1
    assert scores["scale"] == pytest.approx(1, abs=0.05) and "1.6 m" in str(found.unit)


def test_two_images_are_aligned(street: tuple[OracleRun, Sequence]) -> None:
    """Frames 0 and 2 of the bend, from no motion; then of a frame and noise, which is not trusted."""
    oracle, sequence = street
    poses, camera = sequence.world_from_camera, sequence.camera
    assert poses is not None and camera is not None
    frames = list(sequence.frames.at())
    found = align_images(oracle, frames[0].image, frames[2].image, camera)
    assert found.trusted.all() and found.covariance.shape == (1, 8, 8)
    truth = np.linalg.inv(poses[2]) @ poses[0]
    motion = found.state.source_from_target[0].double().numpy()
    error = np.linalg.inv(truth) @ motion
    assert np.degrees(np.arccos(np.clip((np.trace(error[:3, :3]) - 1) / 2, -1, 1))) < 0.3
    assert np.linalg.norm(error[:3, 3]) < 0.15 * np.linalg.norm(truth[:3, 3])
    noise = np.random.default_rng(0).integers(0, 255, frames[0].image.shape, dtype=np.uint8)
    assert not align_images(oracle, frames[0].image, noise, camera).trusted.any()


def test_memory_does_not_grow(street: tuple[OracleRun, Sequence]) -> None:
    oracle, sequence = street
    assert sequence.camera is not None
    odometry = Odometry(oracle, sequence.camera)
    for frame in sequence.frames.at():
        odometry.track(frame)
        if odometry.key_frames > odometry.settings.key_frames:
            break
    assert odometry.key_frames > len(odometry._window.frames) == odometry.settings.key_frames


def test_an_interrupt_keeps_what_is_known(street: tuple[OracleRun, Sequence]) -> None:
    oracle, sequence = street
    count = 0

    def stop(_: object) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt

    # Python users get the interrupt, and with it what is known.
    with pytest.raises(KeyboardInterrupt) as interrupt:
        track_sequence(oracle, sequence, on_frame=stop)
    assert isinstance(interrupt.value, TrackingInterrupted)
    found = interrupt.value.trajectory
    total = len(sequence.frames)
    assert found.interrupted == f"interrupted after 4 of {total} frames"
    assert len(found.times) == len(found.first_from_frame) == 4


def test_command(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "frames", 8)
    out = tmp_path / "out"
    status, text, _ = run(
        capsys, "odometry", tiny_run, tmp_path / "frames", "--out", out, "--speed", 2, "--fps", 10
    )
    assert status == 0 and "8 frames" in text and "2 m/s" in text
    poses = read_kitti(out / "trajectory_kitti.txt")
    path = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()
    assert len(poses) == 8 and path == pytest.approx(2 * 0.7, rel=0.05)
    facts = json.loads((out / "odometry.json").read_text())
    assert facts["frames"] == 8 and "scores" not in facts
    assert (out / "trajectory.png").exists()


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ("1 0 0 0 0 1 0 0 0 0 1 0\n" * 5, "the true camera never moves"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n" + ("nan " * 12 + "\n") * 4, "at least 3 poses to be scored, got 1"),
        ("".join(f"1 0 0 {i} 0 1 0 0 0 0 1 0\n" for i in range(4)) + "0 " * 12, "4 of 5 poses"),
    ],
)  # fmt: skip
def test_a_truth_that_cannot_be_scored_costs_the_scores_alone(
    rows: str, word: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "mine" / "images", 5)
    (tmp_path / "mine" / "poses.txt").write_text(rows)
    out = tmp_path / "out"
    status, text, errors = run(capsys, "odometry", tiny_run, tmp_path / "mine", "--out", out)
    assert status == 0 and word in " ".join((text + errors).split())
    assert len(read_kitti(out / "trajectory_kitti.txt")) == 5
    scored = "scores" in json.loads((out / "odometry.json").read_text())
    assert scored == ("could not be scored" not in errors)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--camera_height", "1.5"], "--camera_height needs a camera that looks about level"),
        (["--camera_height", "-1"], "--camera_height must be a number above 0, got '-1'"),
        (["--key_frames", "2"], "--key_frames must be a whole number of at least 3, got"),
    ],
)
def test_bad_input(
    words: list[str],
    message: str,
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_images(tmp_path / "frames", 6)
    status, _, err = run(
        capsys, "odometry", tiny_run, tmp_path / "frames", "--out", tmp_path / "out", *words
    )
    assert status != 0 and message in err and "Traceback" not in err
