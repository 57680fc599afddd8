"""How much the camera turned and moved, the stride that follows, pairs without use, and the plan."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.own_footage import read_footage
from egodepth.data.preparation import structure_from_motion
from egodepth.data.preparation.clips import NO_PART, Clip, KnownMotion, read_clips
from egodepth.data.preparation.structure_from_motion import NothingReconstructedError
from egodepth.data.preparation.survey import TURNING, survey
from egodepth.data.sets.kitti import read_kitti_raw
from egodepth.data.sets.seven_scenes import read_seven_scenes
from egodepth.data.synthetic.street import read_street
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.two_views import compare_views
from egodepth.geometry.warp import warp
from egodepth.settings.training import DataSettings
from egodepth.training import pose_source
from egodepth.training.plan import make_plan
from egodepth.training.snippets import SnippetStream


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A street driven along for 24 frames, at a metre or so a frame."""
    cache = tmp_path_factory.mktemp("street")
    return read_clips([read_street(5, frames=24)], 96, 320, cache)[0]


def grey(clip: Clip, index: int) -> np.ndarray:
    return clip.frames[index].mean(0).round().astype(np.uint8)


def seen_turned(clip: Clip, index: int, twist: torch.Tensor) -> np.ndarray:
    """A frame as a turned camera sees it: by the pixels' rays alone, whatever the depth."""
    image = torch.from_numpy(grey(clip, index)).double()[None, None]
    camera = replace(clip.camera.to(torch.float64), matrix=clip.camera.matrix.double()[None])
    motion = se3.from_rotation_translation(se3.so3_exp(twist), torch.zeros(1, 3).double())
    turned, _ = warp(image, torch.ones(1, *image.shape[-2:]).double(), motion, camera, camera)
    return turned[0, 0].round().numpy().astype(np.uint8)


def test_a_turn_has_no_parallax_and_a_drive_has(street: Clip) -> None:
    matrix = street.camera.matrix.double().numpy()
    twist = torch.tensor([[0.004, 0.02, -0.003]]).double()
    seen = compare_views(grey(street, 3), seen_turned(street, 3, twist), matrix)
    assert seen is not None and seen.motion is not None and seen.tracked > 0.9
    turned = seen.motion
    assert turned.rotation == pytest.approx(twist.norm().item(), rel=0.1)
    focal = matrix[0, 0] / 320
    assert turned.flow == pytest.approx(twist.norm().item() * focal, rel=0.25)
    assert turned.parallax < 0.1 * turned.flow
    seen = compare_views(grey(street, 3), grey(street, 4), matrix)
    assert seen is not None and seen.motion is not None
    driven = seen.motion
    assert driven.parallax > 0.7 * driven.flow > 0.001
    poses = street.sequence.world_from_camera
    assert poses is not None
    truth = se3.rotation_angle(torch.from_numpy(np.linalg.inv(poses[4]) @ poses[3])[:3, :3])
    assert driven.rotation == pytest.approx(truth.item(), abs=math.radians(0.3))


def test_frames_that_say_nothing() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((96, 128), 120, np.uint8)
    noise, other = rng.integers(0, 255, (2, 96, 128), dtype=np.uint8)
    matrix = np.array([[100.0, 0, 63.5], [0, 100, 47.5], [0, 0, 1]])
    assert compare_views(flat, flat, matrix) is None
    seen = compare_views(noise, other, matrix)
    assert seen is not None and seen.tracked < 0.1 and seen.motion is None
    still = compare_views(noise, noise, matrix)
    assert still is not None and still.motion is not None
    assert still.tracked > 0.9 and still.motion.parallax < 1e-4


def test_a_slow_video_gets_a_wide_stride_and_a_fast_one_a_narrow(street: Clip) -> None:
    """The same drive, once with every frame shown three times as if filmed at three times the rate:
    pairs of equal frames are no help, so the stride grows by as much."""
    fast = survey(street)
    slow = replace(street, frames=np.repeat(street.frames, 3, axis=0), numbers=np.arange(72))
    assert survey(slow).stride >= 3 * fast.stride
    assert survey(street, 2).stride == 2
    blank = replace(street, frames=np.full_like(street.frames, 99))
    nothing = survey(blank)
    assert nothing.stride == 1 and not nothing.cuts and not nothing.frozen
    short = replace(slow, frames=slow.frames[:5], numbers=slow.numbers[:5])
    assert survey(short).stride == 1
    assert not fast.frozen and not fast.cuts and fast.turn > 0


def test_frozen_frames_and_cuts_are_left_out_and_counted(street: Clip) -> None:
    rng = np.random.default_rng(0)
    order = [0, 1, 2, 3, 4, 4, 4, 5, 6, 7]
    frames = np.concatenate([
        street.frames[order], rng.integers(0, 255, (3, 3, 96, 320), dtype=np.uint8).repeat(2, 0)
    ])  # fmt: skip
    clip = replace(street, frames=frames, numbers=np.arange(len(frames)))
    seen = survey(clip, 1)
    assert {(4, 5), (5, 6), (10, 11), (12, 13), (14, 15)} <= seen.frozen
    assert seen.cuts == {(9, 10), (11, 12), (13, 14)}
    planned = make_plan([clip], DataSettings(stride="auto"))
    assert planned.clips[0].excluded_pairs == survey(clip).frozen | survey(clip).cuts
    assert "across cuts are left out" in planned.lines[0]


@pytest.mark.parametrize("turning", [100.0, 0.01])
def test_auto_says_what_it_chose_and_why(
    street: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turning: float
) -> None:
    """The street weaves at first: by turn over parallax it is on one side of the bound or the other. Structure
    from motion is taken on both, wherever it can be."""
    monkeypatch.setattr(pose_source, "TURNING", turning)
    camera, otherwise = ("drives", "network") if turning > 1 else ("is hand-held", "aligned")
    data = DataSettings(poses="auto", cache=tmp_path)

    def choose(data: DataSettings = data, **changes: object) -> tuple[str, str]:
        with monkeypatch.context() as patch:
            for name, value in changes.items():
                patch.setattr(pose_source, name, value)
            found = make_plan([street], data)
        assert "stride" in found.lines[0] and found.clips[0].stride == survey(street, 1).stride
        return found.poses, "; ".join(found.lines[1:])

    def reconstruct(clip: Clip, *_: object) -> Clip:
        """The first of the frames lie together, the others nowhere."""
        motion = KnownMotion.unknown(24)
        motion.part[:placed] = 0
        return replace(clip, motion=motion)

    installed = {"find_colmap": lambda: np, "reconstruct": reconstruct}
    placed = 24
    poses, lines = choose(**installed)
    assert poses == "sfm" and "poses: sfm, since turning moves the image" in lines
    assert f"the camera {camera}, with parallax enough" in lines
    poses, lines = choose(find_colmap=lambda: None)
    assert poses == otherwise and f"camera {camera}, and pycolmap is not installed" in lines
    rig = data.changed(views="mono_stereo")
    poses, lines = choose(rig, **installed)
    assert poses == otherwise and "another unit than the rig's baseline" in lines
    poses, lines = choose(**installed, MIN_PARALLAX=0.9)
    assert poses == otherwise and "and it hardly moves: parallax is" in lines
    poses, lines = choose(**installed, MAX_KEY_FRAMES=23)
    assert (
        poses == otherwise and "of 24 frames (more than 23) takes hours; --data.poses sfm" in lines
    )
    # 11 of 23 pairs, and 12.
    placed = 12
    poses, lines = choose(**installed)
    assert poses == otherwise and f"poses: {otherwise} after all, since" in lines
    assert "placed 12 of 24 frames" in lines and "motions to 48 % of the pairs of frames" in lines
    placed = 13
    assert choose(**installed)[0] == "sfm"
    # What was asked for by name is taken as it is.
    placed = 5
    asked = DataSettings(poses="sfm", cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(pose_source, "reconstruct", reconstruct)
        assert make_plan([street], asked).poses == "sfm"


def test_a_video_that_cannot_be_reconstructed_is_left_out_of_several(
    street: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(street, sequence=replace(street.sequence, name="other"))

    def reconstruct(clip: Clip, *_: object) -> Clip:
        if clip.sequence.name == "other":
            raise NothingReconstructedError("structure from motion found nothing in other")
        return replace(
            clip, motion=KnownMotion(np.tile(np.eye(4), (24, 1, 1)), np.zeros(24, int), {})
        )

    monkeypatch.setattr(pose_source, "reconstruct", reconstruct)
    data = DataSettings(poses="sfm", cache=tmp_path)
    with pytest.warns(EgodepthWarning, match="found nothing in other; its frames are left out"):
        found = make_plan([other, street], data)
    stream = SnippetStream(found.clips, directions=(-1, 1), batch_size=2, seed=0)
    assert stream.snippet_count == 22
    with pytest.raises(EgodepthError, match="found nothing in other"):
        make_plan([other, other], data)


@pytest.mark.real_data
def test_a_drive_and_a_hand_held_camera_are_told_apart(data: Path, tmp_path: Path) -> None:
    drive = read_kitti_raw(data / "kitti_raw")[0]
    held = read_seven_scenes(data / "seven_scenes")[0]
    first, second = (
        survey(read_clips([sequence], 96, width, tmp_path)[0])
        for sequence, width in ((drive, 320), (held, 128))
    )
    assert first.stride == 1 and first.turn < TURNING
    assert 3 <= second.stride <= 8 and second.turn > TURNING


def test_structure_from_motion_without_pycolmap_says_what_to_do(
    street: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structure_from_motion, "find_colmap", lambda: None)
    with pytest.raises(EgodepthError, match=r"pip install pycolmap, or use --data\.poses"):
        make_plan([street], DataSettings(poses="sfm", cache=tmp_path))


@pytest.mark.slow
def test_structure_from_motion_of_a_street(tmp_path: Path) -> None:
    """Against the rendered truth: poses, points' depth, and what the second camera of a rig gets."""
    pytest.importorskip("pycolmap", reason="structure from motion needs pycolmap")
    sequence = replace(read_street(5, frames=24), rig="rig")
    clip = read_clips([sequence], 96, 320, tmp_path)[0]
    right = replace(clip, sequence=replace(sequence, camera_name="right"), numbers=clip.numbers + 1)
    data = DataSettings(poses="sfm", cache=tmp_path)
    found = make_plan([clip, right], data)
    motion = found.clips[0].motion
    assert motion is not None and sequence.world_from_camera is not None
    assert (motion.part == 0).all() and "placed 24 of 24 frames in 1 part" in found.lines[0]
    relative = np.linalg.inv(motion.world_from_camera[0]) @ motion.world_from_camera
    truth = np.linalg.inv(sequence.world_from_camera[0]) @ sequence.world_from_camera
    scale = np.linalg.norm(truth[-1, :3, 3]) / np.linalg.norm(relative[-1, :3, 3])
    # 11 m are driven.
    np.testing.assert_allclose(relative[:, :3, 3] * scale, truth[:, :3, 3], atol=0.5)
    points = motion.points[6]
    depth = sequence.depth[6]()
    size = np.array([depth.shape[1] / 320, depth.shape[0] / 96])
    x, y = ((points.pixels + 0.5) * size - 0.5).round().astype(int).T
    ratio = depth[y, x] * points.inverse_depth / scale
    assert np.median(np.abs(ratio[depth[y, x] > 0] - 1)) < 0.1
    shared = found.clips[1].motion
    assert shared is not None and not shared.points
    # Its frame numbers are one ahead: its first frame is the first camera's second.
    np.testing.assert_array_equal(shared.world_from_camera[0], motion.world_from_camera[1])
    assert shared.part[-1] == NO_PART
    # The second time it is read from the cache.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-sfm.npz")}
    again = make_plan([clip], data).clips[0].motion
    assert again is not None and len(before) == 1
    np.testing.assert_array_equal(again.world_from_camera, motion.world_from_camera)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-sfm.npz")} == before


def test_nothing_to_reconstruct_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycolmap", reason="structure from motion needs pycolmap")
    write_images(tmp_path / "frames", 3)
    footage = read_footage(tmp_path / "frames")
    camera = Camera.from_field_of_view(60.0, 40, 80)
    clip = read_clips([replace(footage, camera=camera)], 32, 64, tmp_path)[0]
    needs = "structure from motion needs 8 frames, and frames has 3"
    with pytest.raises(EgodepthError, match=f"^{needs}; use --data.poses aligned or network$"):
        make_plan([clip], DataSettings(poses="sfm", cache=tmp_path))
    # Where it was not asked for by name, the training goes on without.
    monkeypatch.setattr(pose_source, "TURNING", -1.0)
    found = make_plan([clip], DataSettings(poses="auto", cache=tmp_path))
    assert found.poses == "aligned"
    assert found.lines[-1] == f"poses: aligned after all, since {needs}"


def test_frames_that_show_nothing_are_refused(street: Clip) -> None:
    def with_frames(frames: np.ndarray) -> Clip:
        return replace(street, frames=frames)

    white = np.full_like(street.frames, 255)
    with pytest.raises(EgodepthError, match=r"street-5 show nothing: all pixels are alike"):
        make_plan([street, with_frames(white)], DataSettings())
    starts_black = np.array(street.frames)
    starts_black[:8] = 0
    make_plan([with_frames(starts_black)], DataSettings())


def test_a_camera_that_stands_for_half_of_the_clip_keeps_the_stride_of_its_drive(
    street: Clip,
) -> None:
    wanted = survey(street).stride
    stands = np.concatenate([street.frames[:1].repeat(30, 0), street.frames])
    half = replace(street, frames=stands, numbers=np.arange(len(stands)))
    seen = survey(half)
    assert seen.stride == wanted
    assert {(place, place + wanted) for place in range(28)} <= seen.frozen
    assert seen.parallax == pytest.approx(survey(street).parallax, rel=0.3)
