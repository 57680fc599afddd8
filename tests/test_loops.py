"""Places that are recognised and that are not, and loops of a street that is driven there and back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.test_odometry import FRAMES, OracleRun, the_street

from egodepth.data.sequence import Frame, Sequence
from egodepth.data.synthetic.street import StreetDrive
from egodepth.evaluation.odometry import score_trajectory
from egodepth.geometry import sim3
from egodepth.geometry.bundle_points import normalized_brightness, select_points
from egodepth.geometry.key_frame_window import POINT_CELL
from egodepth.geometry.trajectory import read_kitti
from egodepth.inference.odometry.place_store import PlaceStore
from egodepth.inference.odometry.places import Features, Place, feature_image, make_place, recognize
from egodepth.inference.odometry.track import track_sequence, write_trajectory
from egodepth.inference.odometry.tracker import OdometrySettings

THERE = [*range(FRAMES.start, FRAMES.stop, 2)]
PATH = [*THERE, *THERE[-2::-1]]


def place_of(drive: StreetDrive, index: int, unit: float = 1.0) -> Place:
    """A key frame with its true depth, in some unit."""
    image, depth = drive.render(index)
    prepared = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    inverse = torch.from_numpy(1 / np.where(depth > 0, unit * np.minimum(depth, 100), 100 * unit))
    contrast = normalized_brightness(prepared[None])[0]
    camera = drive.camera.to(torch.float32)
    points = select_points(contrast, inverse.float(), camera, POINT_CELL)

    summary = F.interpolate(prepared[None], (8, 16), mode="area").flatten().numpy()
    return make_place(summary, feature_image(image), prepared, inverse.float(), points, camera)


def test_a_place_is_recognized_with_its_pose_and_scale() -> None:
    drive = StreetDrive(5)
    camera = drive.camera.to(torch.float32)
    found = recognize(place_of(drive, 100), place_of(drive, 103, unit=1.3), camera)
    assert found is not None and found.inliers > 40 and found.agreement > 0.5
    poses = torch.from_numpy(drive.world_from_camera[[100, 103]])
    truth = torch.linalg.inv(poses[0]) @ poses[1]
    off = sim3.difference(torch.linalg.inv(truth) @ found.first_from_second)
    assert off[:3].norm() < np.radians(0.3)
    assert off[3:6].norm() < 0.05 * truth[:3, 3].norm()
    assert float(off[6].exp()) == pytest.approx(1 / 1.3, rel=0.03)


def test_no_two_of_a_hundred_places_are_taken_for_one() -> None:
    """Of two streets, which share their kinds of houses and cars."""
    drives = StreetDrive(5), StreetDrive(6)
    first, second = ([place_of(drive, index) for index in range(0, 200, 20)] for drive in drives)
    camera = drives[0].camera.to(torch.float32)
    pairs = [(a, b) for a in first for b in second]
    assert len(pairs) == 100
    assert [recognize(a, b, camera) for a, b in pairs] == [None] * len(pairs)


class Reordered:
    """Frames of a drive in any order."""

    def __init__(self, drive: StreetDrive, path: list[int]) -> None:
        self.drive, self.height, self.width, self.path = drive, drive.height, drive.width, path
        self.fingerprint, self.times = drive.fingerprint, None
        self.numbers = list(range(len(path)))

    def __len__(self) -> int:
        return len(self.path)

    def at(self, indices: object = None) -> Iterator[Frame]:
        for number, frame in enumerate(self.drive.at(self.path)):
            yield Frame(number, None, frame.image)


def driven(path: list[int]) -> tuple[OracleRun, Sequence]:
    street = the_street()
    drive = street.frames
    assert isinstance(drive, StreetDrive) and street.world_from_camera is not None
    poses = street.world_from_camera[path]
    return OracleRun(drive), replace(
        street, frames=Reordered(drive, path), world_from_camera=poses, depth={}
    )


def test_loops_are_closed(tmp_path: Path) -> None:
    oracle, sequence = driven(PATH)
    found = track_sequence(oracle, sequence)
    assert found.loops and found.live is not None
    # Frames of the same place, which the tracked path, good to 2 cm, says too.
    for loop in found.loops:
        first, second = (PATH[number] for number in loop.frames)
        assert abs(first - second) <= 24 and loop.frames[1] > loop.frames[0]
        assert loop.drift < 0.1 and loop.drift_degrees < 0.2
    truth = sequence.world_from_camera
    assert truth is not None
    live, closed = (score_trajectory(p, truth)["ate_m"] for p in (found.live, found.poses))
    assert closed < live
    with pytest.warns(match="counts frames"):
        write_trajectory(found, sequence, tmp_path)
    facts = json.loads((tmp_path / "odometry.json").read_text())
    assert [loop["frames"] for loop in facts["loops"]] == [
        list(loop.frames) for loop in found.loops
    ]
    assert read_kitti(tmp_path / "trajectory_live_kitti.txt") == pytest.approx(found.live, abs=1e-6)
    assert read_kitti(tmp_path / "trajectory_kitti.txt") == pytest.approx(found.poses, abs=1e-6)


def test_without_loops_there_is_only_the_live_trajectory(tmp_path: Path) -> None:
    oracle, sequence = driven(PATH[:4])
    found = track_sequence(oracle, sequence, OdometrySettings(loops=False))
    assert found.loops == [] and found.live is None
    with pytest.warns(match="counts frames"):
        write_trajectory(found, sequence, tmp_path)
    assert not list(tmp_path.glob("trajectory_live*"))


def test_a_map_beyond_its_memory_is_on_disk() -> None:
    rng = np.random.default_rng(0)

    def bytes_of(*shape: int) -> np.ndarray:
        return rng.integers(0, 255, shape, dtype=np.uint8)

    places = [
        Place(
            bytes_of(96, 320), bytes_of(112).astype(np.float16),
            Features(bytes_of(9, 2).astype(np.float32), bytes_of(9, 128), bytes_of(9).astype(np.float16)),
            bytes_of(6), bytes_of(6), bytes_of(6).astype(np.float16), bytes_of(6) > 100,
        )
        for _ in range(5)
    ]  # fmt: skip
    store = PlaceStore(max_bytes=int(2.5 * places[0].bytes))
    for place in places:
        store.append(place)
    assert store.bytes == 2 * places[0].bytes and store.bytes_on_disk > 3 * places[0].bytes
    for number, place in enumerate(places):
        kept = store[number]
        assert kept.bytes == place.bytes
        np.testing.assert_array_equal(kept.grey, place.grey)
        np.testing.assert_array_equal(kept.features.descriptors, place.features.descriptors)
