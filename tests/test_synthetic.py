from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest

from egodepth.data.sequence import Frame, Sequence
from egodepth.data.synthetic.street import CAMERA_HEIGHT, StreetDrive, read_street
from egodepth.evaluation.depth import PROTOCOLS
from egodepth.inference.scoring.depth_scores import evaluate_predictor


@pytest.fixture(scope="module")
def drive() -> StreetDrive:
    return StreetDrive(seed=3)


def test_two_hundred_frames_with_straights_and_a_turn(drive: StreetDrive) -> None:
    assert len(drive) == 200 and (drive.height, drive.width) == (96, 320)
    forward = drive.world_from_camera[:, :3, 2]
    yaw = np.degrees(np.unwrap(np.arctan2(forward[:, 0], forward[:, 2])))
    assert abs(yaw[-1] - yaw[0]) == pytest.approx(90, abs=3)
    turning = np.abs(np.diff(yaw)) > 1
    assert 15 < turning.sum() < 60
    rotations = drive.world_from_camera[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-12
    )


def test_a_seed_gives_one_street() -> None:
    images = [StreetDrive(seed).render(20)[0].astype(int) for seed in (7, 7, 8)]
    assert np.array_equal(images[0], images[1])
    assert np.abs(images[0] - images[2]).mean() > 10


def test_depth_of_the_road_is_exact(drive: StreetDrive) -> None:
    # A column of pixels that shows the road ahead must meet the plane y = 0.
    _, depth = drive.render(20)
    pose = drive.world_from_camera[20]
    column = int(drive.camera.matrix[0, 2]) - 10
    rows = np.arange(80, 96)
    pixels = np.stack([np.full(len(rows), float(column)), rows, np.ones(len(rows))])
    rays = pose[:3, :3] @ np.linalg.inv(drive.camera.matrix.double().numpy()) @ pixels
    expected = -pose[1, 3] / rays[1]
    np.testing.assert_allclose(depth[rows, column], expected, rtol=1e-4)
    assert -pose[1, 3] == pytest.approx(CAMERA_HEIGHT, abs=0.05)


def test_it_has_sky_ground_and_both_sides(drive: StreetDrive) -> None:
    image, depth = drive.render(30)
    assert image.std() > 30
    assert 0.01 < (depth == 0).mean() < 0.4
    assert (depth[-10:] > 0).all()
    assert np.median(depth[40:60, :20]) < 40 and np.median(depth[40:60, -20:]) < 40


def test_edges_are_anti_aliased() -> None:
    # The roof line against the sky must hold mixed colours: rendering at twice the size and
    # averaging changes an anti-aliased picture little.
    small = StreetDrive(3).render(30)[0].astype(float)
    large = StreetDrive(3, height=192, width=640).render(30)[0].astype(float)
    averaged = large.reshape(96, 2, 320, 2, 3).mean((1, 3))
    assert np.abs(small - averaged).mean() < 6


def test_as_a_sequence() -> None:
    street = read_street(3, frames=5)
    frame = next(street.frames.at([2]))
    assert frame.image.shape == (96, 320, 3) and frame.number == 2
    assert street.depth[2]().shape == (96, 320)
    assert street.world_from_camera is not None and len(street.world_from_camera) == 5


@dataclass(frozen=True)
class GroundOff:
    """Predicts the truth, but the ground, by the surfaces that rays hit, or everything else too far."""

    ground: bool
    texture_size: tuple[int, int] = (96, 320)

    def numbers(self, sequence: Sequence) -> list[int]:
        return sequence.frames.numbers

    def check(self, sequence: Sequence, numbers: list[int], *, scaled: bool) -> None:
        pass

    def predict(self, sequence: Sequence, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        drive = cast(StreetDrive, sequence.frames)
        renderer, pose = drive._renderer, drive.world_from_camera[frame.number]
        rays = pose[:3, :3] @ np.linalg.inv(renderer.matrix)
        triangle, _ = renderer._cast_pixels(renderer.pixels, rays, pose[:3, 3])
        level = (renderer.corners[..., 1] > -0.151).all(1)
        ground = np.where(triangle >= 0, level[triangle], False).reshape(size)
        truth = drive.depth(frame.number)
        return np.where(truth > 0, np.where(ground == self.ground, 1.6, 1.0) * truth, 80.0)

    def deviation(self, sequence: Sequence, frame: Frame, size: tuple[int, int]) -> None:
        return None


def test_holes_in_the_ground_of_a_street_are_scored() -> None:
    street = read_street(3, frames=3)
    protocol = replace(PROTOCOLS["synthetic"], scaling="none", max_depth=1000.0)
    with_holes = evaluate_predictor(GroundOff(True), [street], protocol).summary
    without = evaluate_predictor(GroundOff(False), [street], protocol).summary
    assert with_holes["ground_too_far"] > 0.98
    assert without["ground_too_far"] < 0.02
