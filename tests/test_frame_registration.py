"""Structure from motion: frames between key frames, one camera for all parts, and cameras that never move."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.conftest import tiny_settings, write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.own_footage import read_footage
from egodepth.data.image_files import ImageFiles
from egodepth.data.preparation.clips import Clip, read_clips
from egodepth.data.preparation.frame_registration import KeyFrame, register_frames
from egodepth.data.preparation.shared_camera import colmap_camera, focal_doubt, share_camera
from egodepth.data.preparation.structure_from_motion import reconstruct
from egodepth.data.preparation.survey import is_static
from egodepth.data.sets.seven_scenes import read_seven_scenes
from egodepth.data.synthetic.street import read_street
from egodepth.geometry.camera import Camera
from egodepth.geometry.trajectory import align_similarity
from egodepth.settings.training import DataSettings
from egodepth.training.plan import make_plan
from egodepth.training.run import train
from egodepth.training.snippets import SnippetStream

COUNT, STRIDE = 18, 4


class Street:
    """Grey images of a rendered street, its poses, and key frames with points of the true depth."""

    def __init__(self) -> None:
        sequence = read_street(5, frames=COUNT)
        assert sequence.camera is not None and sequence.world_from_camera is not None
        self.matrix = sequence.camera.matrix.double().numpy()
        self.poses = sequence.world_from_camera
        self.images = [cv2.cvtColor(f.image, cv2.COLOR_RGB2GRAY) for f in sequence.frames.at()]
        self.keys: dict[int, KeyFrame] = {}
        for index in range(0, COUNT, STRIDE):
            corners = cv2.goodFeaturesToTrack(self.images[index], 600, 0.01, 4)[:, 0]
            x, y = corners.round().astype(int).T
            depth = sequence.depth[index]()[y, x]
            seen = (depth > 0) & (depth < 60)
            pixels, depth = corners[seen].astype(np.float64), depth[seen, None].astype(np.float64)
            rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(self.matrix).T
            pose = self.poses[index]
            self.keys[index] = KeyFrame(0, pixels, (rays * depth) @ pose[:3, :3].T + pose[:3, 3])

    def numbered(self) -> Iterator[tuple[int, np.ndarray]]:
        yield from enumerate(self.images)


@pytest.fixture(scope="module")
def street() -> Street:
    return Street()


def test_frames_between_key_frames_find_their_pose(street: Street) -> None:
    """Steps are 0.48 m; the camera of 320 pixels sees points to a tenth of a pixel."""
    colmap = pytest.importorskip("pycolmap")
    found = list(
        register_frames(street.numbered(), street.keys, 2 * STRIDE - 1, colmap, street.matrix)
    )
    assert [f.position for f in found] == [i for i in range(COUNT) if i % STRIDE]
    for frame in found:
        pose = np.linalg.inv(frame.camera_from_world)
        np.testing.assert_allclose(pose[:3, 3], street.poses[frame.position][:3, 3], atol=0.04)
        turn = pose[:3, :3].T @ street.poses[frame.position][:3, :3]
        assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 0.2
        # What it sees is where the pose sees it.
        own = frame.points @ frame.camera_from_world[:3, :3].T + frame.camera_from_world[:3, 3]
        projected = own @ street.matrix.T
        error = np.linalg.norm(projected[:, :2] / projected[:, 2:] - frame.pixels, axis=1)
        assert np.median(error) < 0.5 and len(error) > 100


def test_frames_that_show_something_else_stay_without_a_pose(street: Street) -> None:
    """A flash, and what lies beyond a cut; a key frame that COLMAP lost is an ordinary frame."""
    colmap = pytest.importorskip("pycolmap")
    images = list(street.images)
    rng = np.random.default_rng(0)
    images[6] = np.full_like(images[6], 255)
    images[13:] = [rng.integers(0, 255, images[0].shape, dtype=np.uint8) for _ in images[13:]]
    keys = {place: key for place, key in street.keys.items() if place in (0, 4, 12)}
    found = list(
        register_frames(iter(enumerate(images)), keys, 2 * STRIDE - 1, colmap, street.matrix)
    )
    assert [f.position for f in found] == [1, 2, 3, 5, 7, 8, 9, 10, 11]
    # Two parts with worlds of their own: each frame belongs to the nearest key frame that it fits.
    moved = replace(keys[4], part=1, points=keys[4].points + 100)
    found = list(
        register_frames(iter(enumerate(images)), keys | {4: moved}, 7, colmap, street.matrix)
    )
    assert {f.position: f.part for f in found if f.position < 4} == {1: 0, 2: 0, 3: 1}


def test_wide_images_are_tracked_smaller(street: Street) -> None:
    colmap = pytest.importorskip("pycolmap")
    large = [cv2.resize(i, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC) for i in street.images]
    matrix = street.matrix.copy()
    matrix[:2] *= 5
    matrix[:2, 2] += 2  # (c + 0.5) 5 - 0.5
    keys = {
        place: replace(key, pixels=(key.pixels + 0.5) * 5 - 0.5)
        for place, key in street.keys.items()
    }
    found = list(register_frames(iter(enumerate(large[:5])), keys, 7, colmap, matrix))
    assert [f.position for f in found] == [1, 2, 3]
    for frame in found:
        place = np.linalg.inv(frame.camera_from_world)[:3, 3]
        np.testing.assert_allclose(place, street.poses[frame.position][:3, 3], atol=0.04)


def test_focal_lengths_stay_as_they_are() -> None:
    square = Camera.from_parameters(520.0, 520.1, 310.0, 250.0, 480, 640)
    assert colmap_camera(square)[0] == "SIMPLE_PINHOLE"
    model, parameters = colmap_camera(Camera.from_parameters(520.0, 624.0, 310.0, 250.0, 480, 640))
    assert (model, parameters) == ("PINHOLE", [520, 624, 310.5, 250.5])


def test_parts_share_one_focal_length() -> None:
    """The smaller part was adjusted with a focal length 5 % too long."""
    colmap = pytest.importorskip("pycolmap")
    options = colmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_points3D = 1, 1, 100
    options.camera_model_id = colmap.CameraModelId.SIMPLE_PINHOLE
    options.camera_params = [500.0, 320.0, 240.0]
    options.camera_width, options.camera_height = 640, 480
    models = []
    for count, factor in ((12, 1.0), (9, 1.05)):
        options.num_frames_per_rig = count
        colmap.set_random_seed(count)
        model = colmap.synthesize_dataset(options)
        noise = colmap.SyntheticNoiseOptions()
        noise.point2D_stddev = 0.1
        colmap.synthesize_noise(noise, model)
        adjusting = colmap.BundleAdjustmentOptions()
        adjusting.refine_focal_length = adjusting.print_summary = False
        camera = next(iter(model.cameras.values()))
        camera.params = camera.params * np.array([factor, 1, 1])
        colmap.bundle_adjustment(model, adjusting)
        models.append(model)
    kept, notes = share_camera(colmap, models[:1])
    assert len(kept) == 1 and not notes
    kept, notes = share_camera(colmap, models)
    assert len(kept) == 2 and "500 to 525 pixels in its 2 parts; all take 500" in notes[0]
    for model in kept:
        assert next(iter(model.cameras.values())).params[0] == pytest.approx(500)
        assert model.compute_mean_reprojection_error() < 0.3


@pytest.mark.parametrize(
    ("parts", "doubt"),
    [
        ([(30, 250.0)], ""),
        ([(48, 250.0), (3, 900.0)], "250 to 900 pixels in its 2 parts"),
        ([(30, 250.0), (20, 260.0)], ""),
        ([(30, 270.0), (20, 11110.0)], "270 to 11110 pixels in its 2 parts.*240, is kept"),
        ([(30, 310.0)], "1.29 times that of"),
    ],
)
def test_focal_lengths_are_taken_where_parts_agree(
    parts: list[tuple[int, float]], doubt: str
) -> None:
    colmap = pytest.importorskip("pycolmap")
    options = colmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_points3D = 1, 1, 10
    options.camera_model_id = colmap.CameraModelId.SIMPLE_PINHOLE
    options.camera_width, options.camera_height = 640, 480
    models = []
    for frames, focal in parts:
        options.num_frames_per_rig, options.camera_params = frames, [focal, 320.0, 240.0]
        models.append(colmap.synthesize_dataset(options))
    found = focal_doubt(models, 240.0)
    assert re.search(doubt, found) if doubt else found == ""


@pytest.mark.slow
@pytest.mark.real_data
def test_all_frames_of_a_real_video_are_placed(data: Path, tmp_path: Path) -> None:
    """The frames between key frames are placed as well as the key frames are: 6.6 and 6.2 mm."""
    pytest.importorskip("pycolmap")
    sequence = read_seven_scenes(data / "seven_scenes")[0]
    frames = sequence.frames
    assert isinstance(frames, ImageFiles) and sequence.world_from_camera is not None
    part = ImageFiles(frames.paths[:72], frames.numbers[:72])
    sequence = replace(
        sequence, frames=part, world_from_camera=sequence.world_from_camera[:72], depth={}
    )
    clip = replace(read_clips([sequence], 96, 128, tmp_path)[0], stride=6)
    found = reconstruct(clip, tmp_path)
    assert found.motion is not None and sequence.world_from_camera is not None
    assert (found.motion.part == 0).all() and len(found.motion.points) == 72
    stream = SnippetStream([found], directions=(-1, 1), batch_size=4, seed=0)
    assert stream.snippet_count == 72 - 12
    places, truth = found.motion.world_from_camera[:, :3, 3], sequence.world_from_camera[:, :3, 3]
    scale, rotation, shift = align_similarity(places[::6], truth[::6])
    error = np.linalg.norm(scale * places @ rotation.T + shift - truth, axis=1)
    between = np.arange(72) % 6 != 0
    rms = [float(np.sqrt((error[which] ** 2).mean())) for which in (~between, between)]
    assert rms[0] < 0.015 and rms[1] < 1.2 * rms[0]


@pytest.fixture
def moving(tmp_path: Path) -> Clip:
    write_images(tmp_path / "moving", 12)
    sequence = read_footage(tmp_path / "moving").with_fov(60)
    return read_clips([sequence], 32, 64, tmp_path)[0]


def stand_still(clip: Clip, seed: int = 0) -> Clip:
    """The first frame all the time, with the noise of a sensor."""
    noise = np.random.default_rng(seed).normal(0, 2, clip.frames.shape)
    frames = np.clip(clip.frames[:1] + noise, 0, 255).astype(np.uint8)
    return replace(clip, frames=frames, sequence=replace(clip.sequence, name="tripod"))


@pytest.mark.parametrize("changes", [{}, {"stride": "auto", "poses": "auto"}, {"poses": "sfm"}])
def test_a_static_camera_is_refused(moving: Clip, changes: dict[str, str], tmp_path: Path) -> None:
    data = DataSettings(cache=tmp_path, **changes)  # type: ignore[arg-type]
    still = stand_still(moving)
    assert is_static(still) and not is_static(moving)
    with pytest.raises(EgodepthError, match=r"camera of tripod does not move: .*moving camera"):
        make_plan([still], data)


def test_a_static_camera_among_others_is_left_out(moving: Clip) -> None:
    with pytest.warns(EgodepthWarning, match="tripod does not move: there is nothing to learn"):
        found = make_plan([stand_still(moving), moving], DataSettings(stride="auto"))
    assert found.clips[0].targets == frozenset() and found.clips[1].targets is None
    # Standing for most of the time is not standing all the time, and a blank film says nothing.
    frames = np.concatenate([np.repeat(moving.frames[:1], 20, axis=0), moving.frames])
    partly = replace(moving, frames=frames, numbers=np.arange(len(frames)))
    assert not is_static(partly)
    assert not is_static(replace(moving, frames=np.full_like(moving.frames, 90)))


def test_a_static_video_ends_the_training_in_one_line(tmp_path: Path) -> None:
    first = write_images(tmp_path / "one", 1, 96, 128)[0]
    (tmp_path / "still").mkdir()
    for index in range(9):
        (tmp_path / "still" / f"{index}.png").write_bytes(first.read_bytes())
    with pytest.raises(EgodepthError, match="camera of still does not move"):
        train(tiny_settings(tmp_path / "still"), tmp_path / "run")
