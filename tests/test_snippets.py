import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import write_images
from tests.layouts import make_odometry

from egodepth.core.errors import EgodepthError
from egodepth.core.schedule import Schedule
from egodepth.data.footage.own_footage import read_footage
from egodepth.data.image_files import ImageFiles
from egodepth.data.preparation.clips import NO_PART, KnownMotion, read_clips
from egodepth.data.sequence import Sequence
from egodepth.data.sets.kitti import read_kitti_odometry
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import warp
from egodepth.training.augment import (
    augment,
    change_colours,
    flip_motions,
    flip_some,
    random_colour_matrices,
)
from egodepth.training.batch import RawBatch
from egodepth.training.snippets import SnippetStream


def make_stream(
    tmp_path: Path, count: int = 9, batch_size: int = 3, **changes: object
) -> SnippetStream:
    write_images(tmp_path / "frames", count)
    footage = read_footage(tmp_path / "frames")
    camera = Camera.from_parameters(70.0, 70.0, 36.0, 18.0, 40, 80)
    clips = read_clips([Sequence(footage.name, footage.frames, camera)], 32, 64, tmp_path / "cache")
    arguments: dict[str, object] = {"directions": (-1, 1), "batch_size": batch_size, "seed": 0}
    return SnippetStream(clips, **(arguments | changes))  # type: ignore[arg-type]


def test_an_epoch_shows_every_snippet_once_with_a_partial_last_batch(tmp_path: Path) -> None:
    stream = make_stream(tmp_path, count=9, batch_size=3)
    assert (stream.snippet_count, stream.steps_per_epoch) == (7, 3)
    sizes = [stream.batch(step).frames.shape[1] for step in range(6)]
    assert sizes == [3, 3, 1, 3, 3, 1]
    targets = torch.cat([stream.batch(step).frames[0] for step in range(3)])
    cached = torch.from_numpy(np.array(stream.clips[0].frames[1:-1]))
    assert sorted(t.sum().item() for t in targets) == sorted(c.sum().item() for c in cached)


def test_neighbours_stand_beside_their_target(tmp_path: Path) -> None:
    stream = make_stream(tmp_path)
    frames = stream.batch(0).frames
    cached = np.array(stream.clips[0].frames)
    for b in range(frames.shape[1]):
        index = next(i for i in range(9) if np.array_equal(cached[i], frames[0, b].numpy()))
        assert np.array_equal(cached[index - 1], frames[1, b].numpy())
        assert np.array_equal(cached[index + 1], frames[2, b].numpy())


def test_starting_later_gives_the_same_batches(tmp_path: Path) -> None:
    stream = make_stream(tmp_path)
    stream.schedule = Schedule(8)
    whole = list(stream)
    stream.first_step = 5
    for a, b in zip(whole[5:], stream, strict=True):
        assert a.step == b.step and torch.equal(a.frames, b.frames)


def test_batches_made_ahead_are_the_same_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = make_stream(tmp_path)
    stream.schedule = Schedule(6)
    plain = list(stream)
    gather, pinned = SnippetStream._gather, []

    def slow(self: SnippetStream, rows: np.ndarray, step: int) -> RawBatch:
        time.sleep(0.02)
        return gather(self, rows, step)

    monkeypatch.setattr(SnippetStream, "_gather", slow)
    monkeypatch.setattr(RawBatch, "pin_memory", lambda raw: pinned.append(raw.step) or raw)
    waited = []
    for stream.prefetch in (False, True):
        stream.seconds = 0.0
        for raw, expected in zip(stream, plain, strict=True):
            time.sleep(0.06)
            assert torch.equal(raw.frames, expected.frames)
        waited.append(stream.seconds)
    assert pinned == list(range(6))
    assert waited[0] > 6 * 0.02 and waited[1] < waited[0] / 2


def test_gaps_in_the_numbers_break_snippets(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "frames", 6)
    frames = ImageFiles(paths, numbers=[0, 1, 2, 10, 11, 12])
    sequence = Sequence("gap", frames, Camera.from_field_of_view(60.0, 40, 80))
    clips = read_clips([sequence], 32, 64, tmp_path / "cache")
    assert SnippetStream(clips, directions=(-1, 1), batch_size=4, seed=0).snippet_count == 2
    # A wider stride needs neighbours farther away; pairs without use are left out.
    wide = [replace(clips[0], stride=2)]
    with pytest.raises(EgodepthError, match=r"at strides \(-1, 1\) of 2 frames"):
        SnippetStream(wide, directions=(-1, 1), batch_size=4, seed=0)
    without = [replace(clips[0], excluded_pairs=frozenset([(4, 5)]))]
    assert SnippetStream(without, directions=(-1, 1), batch_size=4, seed=0).snippet_count == 1


def test_too_short_footage_and_missing_cameras_are_named(tmp_path: Path) -> None:
    with pytest.raises(EgodepthError, match="no training snippets"):
        make_stream(tmp_path, count=2)
    footage = read_footage(tmp_path / "frames")
    with pytest.raises(EgodepthError, match=r"has no camera: give --data\.focal"):
        read_clips([footage], 32, 64, tmp_path)


def test_losses_see_unaugmented_colours_and_everything_flips_together(tmp_path: Path) -> None:
    raw = make_stream(tmp_path, count=20, batch_size=16).batch(0)
    plain, augmented = augment(raw, 1, enabled=False), augment(raw, 1)
    original = raw.matrix[:, 0, 2]
    flipped = torch.isclose(augmented.camera.matrix[:, 0, 2], 63 - original)
    assert not torch.isclose(original, 63 - original).any()
    assert 2 < flipped.sum() < 14
    for b in range(16):
        frames = zip(
            (augmented.target, *augmented.sources), (plain.target, *plain.sources), strict=True
        )
        for now, before in frames:
            torch.testing.assert_close(now[b], before[b].flip(-1) if flipped[b] else before[b])
    changed = [not is_same(augmented.target_input[b], augmented.target[b]) for b in range(16)]
    assert 2 < sum(changed) < 14
    assert torch.equal(plain.target_input, plain.target)
    again = augment(raw, 1)
    assert torch.equal(again.target_input, augmented.target_input)


def is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b)


def test_colour_changes_are_alike_for_all_frames_and_keep_grey_grey() -> None:
    matrices = random_colour_matrices(5, torch.Generator().manual_seed(0))
    frame = torch.rand(1, 5, 3, 4, 4)
    changed = change_colours(frame.expand(3, -1, -1, -1, -1), matrices)
    assert torch.equal(changed[0], changed[1]) and torch.equal(changed[0], changed[2])
    grey = change_colours(torch.full((1, 5, 3, 2, 2), 0.5), matrices)
    assert (grey.amax(2) - grey.amin(2)).max() < 5e-3
    identity = torch.eye(3, 4).expand(5, 3, 4)
    torch.testing.assert_close(change_colours(frame, identity), frame)


def test_a_flipped_snippet_warps_as_the_original_does() -> None:
    camera = Camera(
        Camera.from_parameters(50.0, 50.0, 20.0, 15.0, 32, 64).matrix[None].double(), 32, 64
    )
    image, depth = torch.rand(1, 1, 3, 32, 64).double(), 2 + torch.rand(1, 32, 64).double()
    twist = torch.tensor([[0.01, 0.02, -0.01, 0.1, -0.05, 0.2]], dtype=torch.float64)
    mirrored_twist = twist * torch.tensor([1, -1, -1, -1, 1, 1])
    flipped, flipped_camera = flip_some(image, camera, torch.tensor([True]))
    warped, _ = warp(image[0], depth, se3.exp(twist), camera, camera)
    other, _ = warp(
        flipped[0], depth.flip(-1), se3.exp(mirrored_twist), flipped_camera, flipped_camera
    )
    torch.testing.assert_close(other.flip(-1), warped)


def stereo_stream(
    tmp_path: Path, directions: tuple[int, ...] = (-1, 1), *, known_poses: bool = False
) -> SnippetStream:
    make_odometry(tmp_path)
    clips = read_clips(read_kitti_odometry(tmp_path), 32, 64, tmp_path / "cache")
    if known_poses:
        clips = [replace(clip, motion=KnownMotion.given(clip.sequence)) for clip in clips]
    return SnippetStream(clips, directions=directions, batch_size=2, seed=0, partner=True)


def test_the_other_camera_is_a_source_with_a_known_motion(tmp_path: Path) -> None:
    stream = stereo_stream(tmp_path)
    raw = stream.batch(0)
    # One target each from the left and the right camera: frame 1 of three.
    assert raw.frames.shape[:2] == (4, 2) and raw.motions is None
    assert raw.partner_motion is not None and raw.partner_motion.shape == (1, 2, 4, 4)
    shifts = sorted(raw.partner_motion[0, :, 0, 3].tolist())
    # The right camera lies 0.5 m to the right, so points move to the left in its frame.
    assert shifts == pytest.approx([-0.5, 0.5])
    torch.testing.assert_close(raw.partner_motion[0, :, :3, :3], torch.eye(3).expand(2, 3, 3))
    known = stereo_stream(tmp_path / "again", known_poses=True).batch(0)
    assert known.motions is not None and len(known.motions) == 2
    torch.testing.assert_close(known.motions[0, :, 2, 3], torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(known.motions[1, :, 2, 3], torch.tensor([-1.0, -1.0]))


def test_stereo_alone_uses_every_frame(tmp_path: Path) -> None:
    assert stereo_stream(tmp_path, ()).snippet_count == 6


def test_mirrored_snippets_have_mirrored_motions() -> None:
    motion = se3.from_rotation_translation(
        se3.so3_exp(torch.tensor([[0.1, -0.2, 0.3]]).double()), torch.tensor([[1.0, 2, 3]]).double()
    )
    mirror = torch.diag(torch.tensor([-1.0, 1, 1]).double())
    points = torch.rand(1, 5, 3).double()
    flipped = flip_motions(motion[None], torch.tensor([True]))[0]
    torch.testing.assert_close(
        se3.transform(flipped, points @ mirror), se3.transform(motion, points) @ mirror
    )
    assert torch.equal(flip_motions(motion[None], torch.tensor([False]))[0], motion)


def test_stereo_without_a_pair_is_named(tmp_path: Path) -> None:
    with pytest.raises(EgodepthError, match="has no second camera"):
        make_stream(tmp_path, partner=True)
    with pytest.raises(EgodepthError, match=r"has no poses; use --data\.poses network"):
        KnownMotion.given(read_footage(tmp_path / "frames"))


def test_poses_that_are_not_known_are_no_numbers_to_learn_from(tmp_path: Path) -> None:
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 2, 3] = range(5)
    poses[1] = np.nan
    write_images(tmp_path / "frames", 5)
    sequence = replace(read_footage(tmp_path / "frames").with_fov(60), world_from_camera=poses)
    (clip,) = read_clips([sequence], 32, 64, tmp_path / "cache")
    motion = KnownMotion.given(sequence)
    assert motion.part.tolist() == [0, NO_PART, 0, 0, 0]
    assert np.isfinite(motion.world_from_camera).all()
    stream = SnippetStream([replace(clip, motion=motion)], directions=(-1, 1), batch_size=4, seed=0)
    # Frame 3 alone has two neighbours with poses.
    raw = stream.batch(0)
    assert raw.frame_ids[:, 0].tolist() == [3, 2, 4] and raw.motions is not None
    assert raw.motions[:, 0, 2, 3].tolist() == [1, -1]
