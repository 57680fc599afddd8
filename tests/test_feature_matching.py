"""Features of key frames, their matches in COLMAP's database, and what a user sees of structure from motion."""

import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import cv2
import numpy as np
import pytest
from tests.conftest import Heard

import egodepth
from egodepth.core.errors import EgodepthError
from egodepth.data.preparation import feature_matching
from egodepth.data.preparation.clips import Clip, read_clips
from egodepth.data.preparation.feature_matching import (
    OFFSETS,
    FeatureFinder,
    match_features,
    match_frames,
)
from egodepth.data.preparation.structure_from_motion import better_attempt, reconstruct
from egodepth.data.synthetic.street import read_street
from egodepth.geometry.trajectory import align_similarity


def picture(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (60, 100), dtype=np.uint8)
    return cv2.resize(noise, (400, 240), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("widest", [1280, 250])
def test_matches_say_by_how_much_a_picture_moved(
    widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where features are found in a smaller image: their pixels are those of the full one."""
    monkeypatch.setattr(feature_matching, "MAX_WIDTH", widest)
    finder = FeatureFinder()
    first, second = (
        finder.find(np.ascontiguousarray(picture()[y : y + 200, x : x + 360]))
        for y, x in ((0, 0), (10, 20))
    )
    matches = match_features(first, second).astype(int)
    assert len(matches) > 100 and len(np.unique(matches[:, 1])) == len(matches)
    moved = first.pixels[matches[:, 0]] - second.pixels[matches[:, 1]]
    np.testing.assert_allclose(np.median(moved, axis=0), [20, 10], atol=0.05)
    assert (np.abs(moved - [20, 10]).max(1) < 1).mean() > 0.95
    # A spot that is drawn is found where it is.
    y, x = np.mgrid[:200, :360]
    spot = 40 + 180 * np.exp(-((x - 204) ** 2 + (y - 104) ** 2) / (2 * 6**2))
    found = finder.find(spot.round().astype(np.uint8)).pixels
    assert np.abs(found - [204, 104]).max(1).min() < 0.1


def test_other_pictures_and_blank_ones_do_not_match() -> None:
    finder = FeatureFinder()
    first, second = finder.find(picture()), finder.find(picture(1))
    assert len(match_features(first, second)) < 0.01 * len(first.pixels)
    blank = finder.find(np.full((240, 400), 90, np.uint8))
    assert blank.pixels.shape == (0, 2) and len(match_features(first, blank)) == 0


def test_what_belongs_to_the_camera_has_no_features() -> None:
    static = np.zeros((24, 40), bool)
    static[12:] = True
    found = FeatureFinder(static).find(picture()).pixels
    assert len(found) > 100 and found[:, 1].max() < 120


def test_each_key_frame_is_matched_with_those_before(tmp_path: Path) -> None:
    colmap = pytest.importorskip("pycolmap")
    wide = cv2.resize(picture(), (800, 240))
    finder = FeatureFinder()
    frames = [
        (f"{i}", finder.find(np.ascontiguousarray(wide[:, 8 * i : 8 * i + 400]))) for i in range(7)
    ]
    camera = colmap.Camera(model="SIMPLE_PINHOLE", width=400, height=240, params=[300, 200, 120])
    match_frames(frames, tmp_path / "database.db", camera, colmap)
    with colmap.Database.open(tmp_path / "database.db") as stored:
        assert stored.num_images() == 7 and stored.num_frames() == 7
        for second in range(7):
            for first in range(second):
                found = stored.exists_two_view_geometry(first + 1, second + 1)
                assert found == (second - first in OFFSETS)
        points = stored.read_keypoints(1)[:, :2]
    np.testing.assert_allclose(points, frames[0][1].pixels + 0.5, atol=1e-3)


def test_frames_that_stand_still_are_no_key_frames(tmp_path: Path) -> None:
    """Each names the key frame that it resembles; frames after the stop are matched with those before."""
    colmap = pytest.importorskip("pycolmap")
    wide = cv2.resize(picture(), (800, 240)).astype(float)
    rng = np.random.default_rng(0)
    finder = FeatureFinder()
    frames = []
    for index, x in enumerate([0, 8, 8, 8, 8, 16]):
        noisy = wide[:, x : x + 400] + rng.normal(0, 3, (240, 400))
        frames.append((f"{index}", finder.find(noisy.clip(0, 255).astype(np.uint8))))
    camera = colmap.Camera(model="SIMPLE_PINHOLE", width=400, height=240, params=[300, 200, 120])
    still = match_frames(frames, tmp_path / "database.db", camera, colmap)
    assert still == {"2": "1", "3": "1", "4": "1"}
    with colmap.Database.open(tmp_path / "database.db") as stored:
        assert stored.num_images() == 3 and stored.num_verified_image_pairs() == 3


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return read_clips([read_street(5, frames=24)], 96, 320, tmp_path_factory.mktemp("street"))[0]


@pytest.mark.slow
def test_structure_from_motion_reports_each_frame_and_gives_the_same_again(
    street: Clip, tmp_path: Path
) -> None:
    pytest.importorskip("pycolmap")
    told: list[tuple[str, int]] = []

    def keep(name: str, done: int) -> None:
        told.append((name.rpartition(", ")[2], done))

    with egodepth.reporting(Heard(keep)):
        first = reconstruct(street, tmp_path / "a").motion
    assert {done for name, done in told if name == "matching frames"} == set(range(25))
    placed = [done for name, done in told if name == "placing frames"]
    assert placed == sorted(placed) and len(placed) > 15
    second = reconstruct(street, tmp_path / "b").motion
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.world_from_camera, second.world_from_camera)


class Shown:
    """Frames that are only named here; the clip has them at their own size."""

    height, width, seekable, fingerprint = 96, 320, True, "a street with a stop"

    def __init__(self, count: int):
        self.numbers = list(range(count))

    def __len__(self) -> int:
        return len(self.numbers)


@pytest.mark.slow
def test_a_camera_may_stand_still_on_its_way(street: Clip, tmp_path: Path) -> None:
    """30 frames of standing share one place, and the drive is as exact as without them."""
    pytest.importorskip("pycolmap")
    order = np.array([*range(12), *[11] * 30, *range(12, 24)])
    noise = np.random.default_rng(0).normal(0, 2, (len(order), *street.frames.shape[1:]))
    frames = (street.frames[order] + noise).clip(0, 255).astype(np.uint8)
    sequence = replace(street.sequence, frames=Shown(len(order)), world_from_camera=None)
    clip = replace(street, sequence=sequence, frames=frames, numbers=np.arange(len(order)))
    motion = reconstruct(clip, tmp_path).motion
    truth = street.sequence.world_from_camera
    assert motion is not None and truth is not None and (motion.part == 0).all()
    places, wanted = motion.world_from_camera[:, :3, 3], truth[order, :3, 3]
    scale, rotation, shift = align_similarity(places, wanted)
    error = np.linalg.norm(scale * places @ rotation.T + shift - wanted, axis=1)
    # 11 m are driven.
    assert error.max() < 0.25 and np.ptp(error[11:42]) < 1e-9
    assert all(len(motion.points[position].pixels) > 50 for position in range(11, 42))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["matching frames", "placing frames"])
def test_ctrl_c_ends_structure_from_motion_and_leaves_nothing(
    street: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    pytest.importorskip("pycolmap")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def interrupt(name: str, done: int) -> None:
        if name.endswith(stage) and done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    # Where the tests run in the background, a shell has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), egodepth.reporting(Heard(interrupt)):
            reconstruct(street, tmp_path / "cache")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list((tmp_path / "temporary").iterdir())
    assert not list(tmp_path.glob("cache/*"))


def test_a_clip_that_is_too_short_is_told_what_it_lacks(street: Clip, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    with pytest.raises(EgodepthError, match=r"needs 8 frames 4 apart, and street-5 has 6$"):
        reconstruct(replace(street, stride=4), tmp_path)
    order = np.array([*range(5), *[4] * 15])
    still = replace(
        street,
        sequence=replace(street.sequence, frames=Shown(len(order)), world_from_camera=None),
        frames=street.frames[order], numbers=np.arange(len(order)),
    )  # fmt: skip
    with pytest.raises(EgodepthError, match=r"8 frames between which .* moves.* has 5 among 20$"):
        reconstruct(still, tmp_path)


def test_pycolmap_writes_nothing_when_terminated(tmp_path: Path) -> None:
    """Neither its stack trace nor the errors that Ceres reports on the way."""
    pytest.importorskip("pycolmap")
    program = (
        "import os, signal\n"
        "from egodepth.data.preparation.structure_from_motion import find_colmap\n"
        "find_colmap().logging.error('of Ceres')\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGTERM, "", "")


@pytest.mark.parametrize("camera_from", ["fov", "guess"])
def test_a_straight_drive_does_not_change_the_focal_length(
    street: Clip, tmp_path: Path, camera_from: Literal["fov", "guess"]
) -> None:
    pytest.importorskip("pycolmap")
    sequence = replace(street.sequence, camera_from=camera_from)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = reconstruct(replace(street, sequence=sequence), tmp_path)
    assert ("of view is kept" in "".join(str(w.message) for w in told)) == (camera_from == "fov")
    np.testing.assert_allclose(found.camera.matrix, street.camera.matrix, rtol=1e-6)


class _Model:
    """What is asked of a reconstruction by COLMAP."""

    def __init__(self, frames: int, error: float):
        self.points3D = {0: SimpleNamespace(error=error)}
        self._frames = frames

    def num_reg_images(self) -> int:
        return self._frames


def test_the_attempt_whose_points_fit_is_kept_where_it_places_as_many_frames() -> None:
    bent, straight = {0: _Model(100, 0.51)}, {0: _Model(60, 0.37), 1: _Model(39, 0.38)}
    assert better_attempt([bent, straight]) is straight
    few = {0: _Model(90, 0.2)}
    assert better_attempt([few, bent, {}]) is bent
    assert better_attempt([{}, {}]) == {}
