"""Poses for a training from odometry: parts, units, and the cache."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.test_loops import Reordered
from tests.test_odometry import OracleRun, the_street

from egodepth.core.errors import EgodepthError
from egodepth.data.preparation.clips import NO_PART, Clip, read_clips
from egodepth.data.preparation.kept_motion import kept_motion
from egodepth.data.sequence import Frame
from egodepth.data.synthetic.street import StreetDrive, read_street
from egodepth.inference.odometry import map as key_frame_map
from egodepth.settings.training import DataSettings
from egodepth.training import odometry_poses
from egodepth.training.plan import make_plan

BLACK = 4
PATH = [*range(85, 95), *[0] * BLACK, *range(100, 110)]
"""Frames of a drive; a hand covers the lens in the middle."""
LOST = range(10, 10 + BLACK)


class Covered(Reordered):
    """Frames of a drive, some of them black."""

    def at(self, indices: object = None) -> Iterator[Frame]:
        for frame in super().at():
            yield frame._replace(image=0 * frame.image) if frame.number in LOST else frame


def test_parts_are_the_paths_that_nothing_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_frame_map, "recognize", lambda *places: None)
    street = the_street()
    drive, truth = street.frames, street.world_from_camera
    assert isinstance(drive, StreetDrive) and truth is not None and street.camera is not None
    sequence = replace(street, frames=Covered(drive, PATH), world_from_camera=truth[PATH], depth={})
    frames = np.zeros((len(PATH), 3, 48, 160), np.uint8)
    clip = Clip(sequence, frames, np.arange(len(PATH)), street.camera.resize(48, 160))
    oracle = OracleRun(drive, set(PATH))
    placed = kept_motion(clip, tmp_path / "a.npz", lambda: odometry_poses._track(oracle, clip))
    motion = placed.motion
    assert motion is not None
    first, second = motion.part[:10], motion.part[-9:]
    assert len(set(first)) == len(set(second)) == 1 and first[0] != second[0]
    assert NO_PART not in (first[0], second[0]) and (motion.part[LOST] == NO_PART).all()
    for own in (range(10), range(len(PATH) - 9, len(PATH))):
        given, found = (np.linalg.inv(p[own[0]]) @ p[own] for p in
                        (truth[PATH], motion.world_from_camera))  # fmt: skip
        length = np.linalg.norm(given[-1, :3, 3])
        unit = np.linalg.norm(found[-1, :3, 3]) / length
        off = np.linalg.norm(found[:, :3, 3] / unit - given[:, :3, 3], axis=1)
        assert length > 3 and off.max() < 0.02 * length
        # Points at the size of the clip, with depths in the unit of the poses.
        position, points = next((i, motion.points[i]) for i in own if i in motion.points)
        depth = drive.depth(PATH[position])
        x, y = (2 * (points.pixels + 0.5) - 0.5).round().astype(int).T
        seen = depth[y, x] > 0
        ratio = depth[y, x][seen] * points.inverse_depth[seen] * unit
        assert len(ratio) > 50 and np.median(np.abs(np.log(ratio))) < 0.1


def test_odometry_of_a_clip_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = read_clips([read_street(5, frames=9)], 96, 320, tmp_path)[0]
    data = DataSettings(poses="slam", cache=tmp_path)
    plan = make_plan([clip], data)
    assert plan.poses == "slam"
    assert plan.lines[-1] == "street-5: odometry placed 9 of 9 frames in 1 part"
    monkeypatch.setattr(odometry_poses, "Odometry", None)
    again, found = make_plan([clip], data).clips[0].motion, plan.clips[0].motion
    assert again is not None and found is not None and found.points
    np.testing.assert_array_equal(again.world_from_camera, found.world_from_camera)
    monkeypatch.setattr(odometry_poses, "Odometry", Lost)
    needs = (
        "odometry of street-5 lost the camera: it followed no 8 frames; use --data.poses aligned"
    )
    with pytest.raises(EgodepthError, match=needs):
        make_plan([clip], DataSettings(poses="slam", cache=tmp_path / "other"))


def test_a_static_mask_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bonnet in the lower fifth gets neither points nor features."""
    street = the_street()
    drive, truth, path = street.frames, street.world_from_camera, [*range(85, 89)]
    assert isinstance(drive, StreetDrive) and truth is not None and street.camera is not None
    frames = Reordered(drive, path)
    sequence = replace(street, frames=frames, world_from_camera=truth[path], depth={})
    static = np.zeros((48, 160), bool)
    static[38:] = True
    frames = np.zeros((len(path), 3, 48, 160), np.uint8)
    clip = Clip(
        sequence, frames, np.arange(len(path)), street.camera.resize(48, 160), static=static
    )
    monkeypatch.setattr(odometry_poses, "MIN_FRAMES", 2)
    places: list[key_frame_map.Place] = []
    monkeypatch.setattr(key_frame_map.PlaceStore, "append", lambda _, place: places.append(place))
    monkeypatch.setattr(odometry_poses, "_with_points", lambda *_: {})
    odometry_poses._track(OracleRun(drive, path), clip)
    assert places
    for place in places:
        assert place.y[place.valid].max() < 76 and place.features.pixels[:, 1].max() < 77
    assert clip.static_digest


class Lost:
    """Odometry that follows no frame."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def track(self, frame: Frame) -> None: ...

    def finish(self) -> None: ...

    def parts(self) -> list[object]:
        return []
