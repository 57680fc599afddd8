"""What says nothing about depth: parts of the camera, things that move; and what stays in place yet stands."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Heard, tiny_settings, write_images

import egodepth
from egodepth.core.errors import EgodepthError
from egodepth.data.preparation.clips import Clip, read_clips
from egodepth.data.preparation.static_mask import find_static_mask, read_mask
from egodepth.data.sources import read_source
from egodepth.data.synthetic.street import StreetDrive
from egodepth.geometry.camera import Camera
from egodepth.losses.ground_contact import ground_contact_loss, still_pixels
from egodepth.losses.masking import minimum_over_sources
from egodepth.training.augment import augment
from egodepth.training.batch import SnippetBatch
from egodepth.training.build import build_networks
from egodepth.training.motion_alignment import align_motions
from egodepth.training.objective import _agreement, compute_objective
from egodepth.training.plan import mask_static
from egodepth.training.run import train
from egodepth.training.snippets import SnippetStream
from egodepth.training.terms import _hidden


def moving_clip(count: int = 120) -> Clip:
    """Texture that moves by three pixels a frame."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, 120), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(coarse).resize((960, 96), Image.Resampling.BICUBIC))
    frames = np.stack([wide[:, 3 * i : 3 * i + 320] for i in range(count)])
    camera = Camera.from_field_of_view(60.0, 96, 320)
    sequence = type("S", (), {"name": "clip"})()
    return Clip(sequence, np.repeat(frames[:, None], 3, 1), np.arange(count), camera)  # type: ignore[arg-type]


def test_bonnet_and_borders_are_found_and_nothing_else() -> None:
    clip = moving_clip()
    assert find_static_mask(clip) is None
    frames = clip.frames.copy()
    frames[:, :, :6] = 0
    y, x = np.mgrid[:96, :320]
    bonnet = y > 76 + ((x - 160) / 160) ** 2 * 10
    frames[:, :, bonnet] = (200 - y[bonnet]).astype(np.uint8)
    truth = bonnet | (y < 6)
    found = find_static_mask(replace(clip, frames=frames))
    assert found is not None and found[truth].mean() > 0.98
    assert found[~truth].mean() < 0.05
    clips, lines = mask_static([replace(clip, frames=frames)], "auto")
    assert clips[0].static is not None and "stays in place" in lines[0]


def test_smooth_asphalt_is_no_bonnet_and_tiny_frames_tell_nothing() -> None:
    clip = moving_clip()
    street = StreetDrive(7, 120, 96, 320)
    frames = np.stack([frame.image.transpose(2, 0, 1) for frame in street.at()])
    assert find_static_mask(replace(clip, frames=frames)) is None
    frames[:, :, 80:] = 120
    found = find_static_mask(replace(clip, frames=frames))
    assert found is not None and found[80:].all() and found[:70].mean() < 0.05
    assert find_static_mask(replace(clip, frames=frames[:, :, ::2, ::2])) is None


def test_a_camera_that_stands_still_has_no_mask() -> None:
    clip = moving_clip()
    still = np.repeat(clip.frames[:1], 120, 0)
    noise = np.random.default_rng(1).integers(0, 3, still.shape).astype(np.uint8)
    assert find_static_mask(replace(clip, frames=still // 2 + noise)) is None
    assert find_static_mask(replace(clip, frames=clip.frames[:20])) is None


def test_real_footage_without_a_bonnet_has_no_mask(data: Path, tmp_path: Path) -> None:
    sources = (f"kitti_odometry:{data / 'kitti_odometry'}", f"seven_scenes:{data / 'seven_scenes'}")
    sequences = [s for source in sources for s in read_source(source) if len(s.frames) > 100]
    for clip in read_clips(sequences, 96, 320, tmp_path):
        assert find_static_mask(clip) is None, clip.sequence.name


def test_masks_of_a_file(tmp_path: Path) -> None:
    picture = np.full((60, 100), 255, np.uint8)
    picture[30:, :50] = 0
    Image.fromarray(picture).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", 30, 50)
    assert mask.shape == (30, 50) and mask[15:, :25].all() and mask.sum() == 15 * 25
    (tmp_path / "broken.png").write_text("no image")
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / "white.png")
    for name, message in (("broken.png", "cannot read"), ("white.png", "is all white")):
        with pytest.raises(EgodepthError, match=message):
            read_mask(tmp_path / name, 30, 50)


def test_masked_pixels_have_no_say(tmp_path: Path) -> None:
    """A mask of the file reaches the batch, is mirrored with it, and takes its pixels out of L_ph and L_fm."""
    write_images(tmp_path / "frames", 5)
    picture = np.full((32, 64), 255, np.uint8)
    picture[20:, :16] = 0
    Image.fromarray(picture).save(tmp_path / "mask.png")
    settings = tiny_settings(tmp_path / "frames")
    clip = read_clips([read_source(str(tmp_path / "frames"))[0].with_fov(60)], 32, 64, tmp_path)[0]
    clip = mask_static([clip], str(tmp_path / "mask.png"))[0][0]
    stream = SnippetStream([clip], directions=(-1, 1), batch_size=3, seed=0)
    raw = stream.batch(0)
    assert raw.static is not None
    assert raw.static.shape == (3, 1, 32, 64) and raw.static[0, 0, 20:, :16].all()
    batch = augment(raw, 5)
    same = (batch.target * 255).round() == raw.frames[0]
    mirrored = ~same.flatten(1).all(1)
    assert 0 < mirrored.sum() < 3
    for b in range(3):
        side = batch.static[b, 0, 20:, 48:] if mirrored[b] else batch.static[b, 0, 20:, :16]
        assert side.all() and batch.static[b].sum() == 12 * 16
    plain = augment(raw, 0, enabled=False)
    # Colours of the target inside the mask change nothing but what FeatureNet learns by itself.
    torch.manual_seed(0)
    networks = build_networks(settings)
    settings = settings.changed(method="photometric")
    changed = plain.target.clone()
    changed[:, :, 22:, :14] = torch.rand(3, 3, 10, 14)
    other = replace(plain, target=changed)  # DepthNet and PoseNet see target_input
    terms = [compute_objective(networks.eval(), b, settings).terms for b in (plain, other)]
    for name in ("photometric",):
        torch.testing.assert_close(terms[0][name], terms[1][name])
    free = [replace(b, static=None) for b in (plain, other)]
    unmasked = [compute_objective(networks, b, settings).terms["photometric"] for b in free]
    assert abs(unmasked[0] - unmasked[1]) > 1e-3


def test_a_warp_that_reads_the_bonnet_has_no_say() -> None:
    """Ground that comes nearer is under the bonnet in the next frame, and in sight in the one before: there it
    is judged by that one alone."""
    loss = torch.tensor([[[0.2, 0.4]], [[0.1, 0.3]]], requires_grad=True)
    hidden = torch.tensor([[[False, True]], [[True, True]]])
    found = minimum_over_sources(loss, hidden)
    assert found.tolist() == [[pytest.approx(0.2), 0]]
    found.sum().backward()
    assert loss.grad is not None and loss.grad.tolist() == [[[1, 0]], [[0, 0]]]


def test_the_bonnet_takes_no_part_in_the_alignment(tmp_path: Path) -> None:
    """Its colours, in the target or the sources, change no aligned motion where the mask hides them."""
    write_images(tmp_path / "frames", 5)
    clip = read_clips([read_source(str(tmp_path / "frames"))[0].with_fov(60)], 64, 128, tmp_path)[0]
    static = np.zeros((64, 128), bool)
    static[40:] = True
    stream = SnippetStream([replace(clip, static=static)], directions=(-1, 1), batch_size=2, seed=0)
    plain = augment(stream.batch(0), 0, enabled=False)
    target, sources = plain.target.clone(), plain.sources.clone()
    target[..., 40:, :] = torch.rand(2, 3, 24, 128)
    sources[..., 40:, :] = torch.rand(2, 2, 3, 24, 128)
    inverse, start = torch.full((2, 1, 64, 128), 0.5), torch.eye(4).repeat(2, 2, 1, 1)
    start[..., 0, 3] = 0.01
    for changes in ({"target": target}, {"sources": sources}):
        for masked in (True, False):
            batches = [plain, replace(plain, **changes)]
            if not masked:
                batches = [replace(b, static=None) for b in batches]
            found = [align_motions(start, batch, inverse) for batch in batches]
            same = torch.allclose(found[0][0], found[1][0], atol=1e-6)
            assert same is masked and torch.isfinite(found[0][0]).all()
            assert not torch.equal(found[0][0], start)


def test_what_source_pixels_belong_to_the_camera() -> None:
    """A wall 2 units away; the source camera stands 8 pixels further up, so that the warps of rows 14 to 21
    read the bonnet, which begins at row 22, and those around it by their window."""
    camera = Camera.from_parameters(40.0, 40.0, 31.5, 15.5, 32, 64)
    cameras = Camera(camera.matrix[None].repeat(2, 1, 1), 32, 64)
    static = torch.zeros(1, 1, 32, 64, dtype=torch.bool)
    static[..., 22:, :] = True
    motions = torch.eye(4).repeat(2, 1, 1, 1)
    motions[1, :, 1, 3] = 8 * 2 / 40
    hidden = _hidden(static, torch.full((2, 32, 64), 2.0), motions, cameras)
    assert hidden is not None and hidden.shape == (2, 1, 32, 64)
    assert hidden[0, 0].all(1).nonzero()[0] == 21 and hidden[1, 0].all(1).nonzero()[0] == 13
    assert not hidden[1, 0, :13].any()
    layers = _hidden(static, torch.full((2, 4, 32, 64), 2.0), motions, cameras)
    assert layers is not None and torch.equal(layers[:, :, 3], hidden)
    assert _hidden(None, torch.full((2, 32, 64), 2.0), motions, cameras) is None


def test_the_source_s_bonnet_changes_no_loss(tmp_path: Path) -> None:
    """Other colours of the bonnet in the sources alone: with the mask, the loss and its gradient stay."""
    write_images(tmp_path / "frames", 5)
    settings = tiny_settings(tmp_path / "frames")
    clip = read_clips([read_source(str(tmp_path / "frames"))[0].with_fov(60)], 32, 64, tmp_path)[0]
    static = np.zeros((32, 64), bool)
    static[20:] = True
    stream = SnippetStream([replace(clip, static=static)], directions=(-1, 1), batch_size=3, seed=0)
    plain = augment(stream.batch(0), 0, enabled=False)
    changed = plain.sources.clone()
    changed[..., 21:, :] = torch.rand(2, 3, 3, 11, 64)
    torch.manual_seed(0)
    networks = build_networks(settings).eval()
    settings = settings.changed(method="images", automask=False)
    other = replace(plain, sources=changed)  # PoseNet sees sources_input
    for masked in (True, False):
        batches = [plain, other]
        if not masked:
            batches = [replace(b, static=None) for b in batches]
        first, second = (compute_objective(networks, b, settings).terms for b in batches)
        for name in ("photometric", "feature_metric", "coarse"):
            same = torch.allclose(first[name], second[name], atol=1e-6)
            assert same is masked, name


class TrueDepth(torch.nn.Module):
    """DepthNet of a wall 10 units away with a thing before it that moves to the right."""

    def forward(self, image: torch.Tensor, scales: int = 4) -> list[torch.Tensor]:
        return [torch.where(image[:, :1] > 0.5, 0.5, 0.1)]


def test_what_moves_across_disagrees(tmp_path: Path) -> None:
    """The camera stands; a thing 2 units away moves by 8 pixels before a wall 10 units away."""
    target, source = torch.zeros(2, 1, 3, 32, 64)
    target[..., 10:20, 10:20] = 1
    source[..., 10:20, 18:28] = 1
    camera = Camera.from_field_of_view(60.0, 32, 64)
    camera = Camera(camera.matrix[None], 32, 64)
    motions = torch.eye(4)[None, None]
    # The jittered images, which DepthNet sees, tell the depths; the others say nothing here.
    batch = SnippetBatch(
        torch.rand_like(target), torch.rand_like(source[None]), target, source[None], camera, motions
    )  # fmt: skip
    networks = build_networks(tiny_settings(tmp_path))
    networks.depth = TrueDepth()  # type: ignore[assignment]
    inverse = TrueDepth()(target)[0]
    weight = _agreement(networks, inverse, motions, batch)[0, 0]
    differs = 1 - 8 / 12  # |2 - 10| / (2 + 10)
    assert weight[15, 12] == pytest.approx(differs) and weight[15, 25] == pytest.approx(differs)
    assert weight[15, 19] == pytest.approx(1) and weight[3, 3] == pytest.approx(1)


def test_a_thing_stands_on_the_ground_below_it() -> None:
    inverse = torch.full((1, 6, 3), 0.1, dtype=torch.float64, requires_grad=True)
    ground = torch.tensor([0, 0, 0, 0, 0.1, 0.2], dtype=torch.float64)[:, None]
    still = torch.zeros(1, 6, 3, dtype=torch.bool)
    still[0, 2:4, 1] = True  # stands on row 4
    still[0, 5, 0] = True  # reaches the lower border: nothing is known
    loss = ground_contact_loss(inverse + ground, still)
    expected = torch.zeros(1, 6, 3, dtype=torch.float64)
    expected[0, 2:4, 1] = np.log(2 / 1.15)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    assert inverse.grad is not None
    torch.testing.assert_close(inverse.grad, -10 * (expected > 0).double())
    nearer = torch.where(still, 0.9, 0.1)
    assert ground_contact_loss(nearer, still).sum() == 0


def test_still_pixels_have_texture_and_others_move() -> None:
    identity = torch.full((2, 2, 30, 40), 0.3)
    contrast = torch.full((2, 30, 40), 0.2)
    identity[:, 0, 8:20, 10:22] = 0.02
    identity[1, 0, 8, 10] = 0.3  # at a corner, in place in one source alone
    contrast[0, 12:14, 14:16] = 0.01  # a gap without texture
    identity[:, 0, 8:28, 30:33] = 0.02  # a line of the road
    contrast[0, :4] = 0.01
    identity[:, 0, :4] = 0.0  # sky
    identity[:, 1] = 0.02  # a camera that stands still
    still = still_pixels(identity, contrast)
    assert still[0, 9:19, 11:21].all() and not still[0, :4].any() and not still[1].any()
    assert still.sum() <= 12 * 12


def test_training_with_all_of_it(tmp_path: Path) -> None:
    """Settings reach the objective, and the plan says what will be done."""
    write_images(tmp_path / "frames", 7)
    picture = np.full((32, 64), 255, np.uint8)
    picture[24:] = 0
    Image.fromarray(picture).save(tmp_path / "mask.png")
    settings = tiny_settings(
        tmp_path / "frames", moving_mask=True, loss__ground_contact=0.1, steps=2,
        data__mask=str(tmp_path / "mask.png"),
    )  # fmt: skip
    heard = Heard(lambda *_: None)
    with egodepth.reporting(heard):
        result = train(settings, tmp_path / "run")
    assert result.steps == 2
    logged = next((tmp_path / "run" / "logs").glob("csv_*/metrics.csv")).read_text()
    assert "ground_contact" in logged.splitlines()[0]
    text = "\n".join(heard.notes)
    for words in ("7 frames of 1 sequence", "5 of 3 frames, strides 1", "60 degrees wide", "64x32",
                  "PoseNet's", "2 of 2 snippets"):  # fmt: skip
        assert words in text, words
