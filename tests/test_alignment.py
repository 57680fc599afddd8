import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from egodepth.data.synthetic.street import read_street
from egodepth.geometry import se3
from egodepth.geometry.alignment import AlignSettings, Prior, align
from egodepth.geometry.alignment_residual import (
    Level,
    Linearization,
    State,
    linearize,
    visible_points,
)
from egodepth.geometry.camera import Camera
from egodepth.geometry.pyramid import make_levels
from egodepth.geometry.warp import sample, sample_with_slopes, warp
from egodepth.inference.align import make_maps


def smooth_noise(batch: int, channels: int, height: int, width: int, size: int) -> Tensor:
    """Random waves of ``size`` pixels and more."""
    y, x = torch.meshgrid(
        torch.arange(height).double(), torch.arange(width).double(), indexing="ij"
    )
    waves = torch.zeros(batch, channels, height, width, dtype=torch.float64)
    for _ in range(12):
        angle, phase = (2 * math.pi * torch.rand(batch, channels, 1, 1).double() for _ in range(2))
        length = size * (1 + 2 * torch.rand(batch, channels, 1, 1).double())
        waves += torch.sin(2 * math.pi * (angle.cos() * x + angle.sin() * y) / length + phase)
    return waves / 12


def scene(batch: int = 2, channels: int = 3, size: int = 12) -> tuple[Level, Tensor]:
    """A target, made by warping a source by a known motion, and that motion."""
    height, width = 48, 64
    torch.manual_seed(0)
    camera = Camera.from_parameters(50.0, 52.0, 31.5, 23.5, height, width).to(torch.float64)
    camera = replace(camera, matrix=camera.matrix[None]).repeat(batch)
    inverse = 0.1 + 0.1 * smooth_noise(batch, 1, height, width, 30)[:, 0].abs()
    twist = torch.tensor([[0.01, -0.02, 0.015, 0.1, -0.05, 0.3]]).double().repeat(batch, 1)
    twist[1:] *= -0.7
    motion = se3.exp(twist)
    source = smooth_noise(batch, channels, height, width, size)
    target, _ = warp(source, 1 / inverse, motion, camera, camera)
    return Level(target, source, inverse, camera, camera), motion


def downscale(level: Level, factor: int) -> Level:
    """The level at a smaller size: maps and inverse depth averaged over squares."""

    def smaller(values: Tensor) -> Tensor:
        height, width = values.shape[-2:]
        return F.interpolate(values, (height // factor, width // factor), mode="area")

    target, source = smaller(level.target), smaller(level.source)
    inverse = smaller(level.inverse_depth[:, None])[:, 0]
    return replace(
        level, target=target, source=source, inverse_depth=inverse, mask=None,
        target_camera=level.target_camera.resize(*target.shape[-2:]),
        source_camera=level.source_camera.resize(*source.shape[-2:]),
    )  # fmt: skip


def test_slopes_are_those_of_the_samples() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    pixels = (torch.rand(2, 40, 2).double() * torch.tensor([6.0, 4.0])).requires_grad_()
    values, along_x, along_y = sample_with_slopes(image, pixels)
    torch.testing.assert_close(values, sample(image, pixels[:, :, None])[..., 0])
    for channel in range(3):
        (gradient,) = torch.autograd.grad(values[:, channel].sum(), pixels, retain_graph=True)
        torch.testing.assert_close(gradient, torch.stack([along_x, along_y], -1)[:, channel])
    outside = torch.tensor([[[-3.0, 2.0], [9.0, 9.0]]]).double().repeat(2, 1, 1)
    beyond = sample_with_slopes(image, outside)[0]
    torch.testing.assert_close(beyond, sample(image, outside[:, :, None])[..., 0])


def test_the_gradient_is_autograds() -> None:
    level, motion = scene()
    twist = torch.tensor([0.004, 0.003, -0.002, 0.02, 0.03, -0.05]).double()
    state = State.start(se3.exp(twist) @ motion)
    state = replace(state, scale=state.scale * 1.1, shift=state.shift + 0.01, gain=state.gain * 0.9,
                    bias=state.bias + 0.02)  # fmt: skip
    scale = torch.tensor([0.2, 0.3]).double()
    step = torch.zeros(2, 10, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(
        linearize(level, state.moved(step), scale, None).cost.sum(), step
    )
    found = linearize(level, state, scale, None).gradient
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    assert found.abs().min() > 1e-7


def test_the_hessian_is_gauss_newtons() -> None:
    """Where the errors vanish, and for a scale that keeps all weights at one, it is the true one."""
    level, motion = scene(batch=1)
    state, scale = State.start(motion), torch.tensor([1e3]).double()

    def gradient(step: Tensor) -> Tensor:
        return linearize(level, state.moved(step[None]), scale, None).gradient[0]

    hessian = linearize(level, state, scale, None).hessian[0]
    for unknown in range(10):
        step = torch.zeros(10, dtype=torch.float64)
        step[unknown] = 1e-6
        change = (gradient(step) - gradient(-step)) / 2e-6
        torch.testing.assert_close(change, hessian[unknown], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("brightness", [False, True])
def test_a_known_motion_is_found(brightness: bool) -> None:
    level, motion = scene()
    if brightness:
        level = replace(level, target=1.2 * level.target + 0.1)
    start = State.start(torch.eye(4).double().expand(2, 4, 4))
    settings = AlignSettings(50, brightness=brightness, tolerance=1e-4)
    found = align([downscale(level, 2), level], start, settings)
    error = se3.log(se3.inverse(found.state.source_from_target) @ motion)
    assert error.abs().max() < 1e-5 and found.trusted.all()
    if brightness:
        torch.testing.assert_close(
            found.state.gain, torch.full((2,), 1.2).double(), rtol=1e-2, atol=0
        )
        torch.testing.assert_close(
            found.state.bias, torch.full((2,), 0.1).double(), rtol=0, atol=1e-2
        )


def test_an_affine_change_of_the_inverse_depth_is_found_with_a_known_translation() -> None:
    level, motion = scene()
    level = replace(level, inverse_depth=(level.inverse_depth - 0.02) / 1.3)
    information = torch.zeros(2, 10, 10, dtype=torch.float64)
    information[:, range(3, 6), range(3, 6)] = 1e3
    found = align(
        [level], State.start(motion), AlignSettings(50, depth="affine"), Prior(information)
    )
    torch.testing.assert_close(found.state.scale, torch.full((2,), 1.3).double(), rtol=2e-2, atol=0)
    torch.testing.assert_close(
        found.state.shift, torch.full((2,), 0.02).double(), rtol=0, atol=4e-3
    )


def test_outliers_lose_their_weight() -> None:
    """A fifth of the target replaced by something else."""
    level, motion = scene()
    target = level.target.clone()
    target[..., :13] = 3 + torch.rand_like(target[..., :13])
    start = State.start(torch.eye(4).double().expand(2, 4, 4))
    found = align([replace(level, target=target)], start, AlignSettings(50))
    error = se3.log(se3.inverse(found.state.source_from_target) @ motion)
    assert error.abs().max() < 5e-3


def test_pairs_of_a_batch_do_not_see_each_other() -> None:
    level, _ = scene()
    start = State.start(torch.eye(4).double().expand(2, 4, 4))
    both = align([level], start, AlignSettings())
    one = Level(
        level.target[:1], level.source[:1], level.inverse_depth[:1],
        Camera(level.target_camera.matrix[:1], 48, 64), Camera(level.source_camera.matrix[:1], 48, 64),
    )  # fmt: skip
    alone = align([one], State.start(torch.eye(4).double()[None]), AlignSettings())
    torch.testing.assert_close(
        both.state.source_from_target[:1], alone.state.source_from_target, rtol=0, atol=1e-6
    )


def test_noise_is_not_trusted() -> None:
    level, _ = scene()
    start = State.start(torch.eye(4).double().expand(2, 4, 4))
    found = align([replace(level, source=torch.rand_like(level.source))], start, AlignSettings())
    assert not found.trusted.any()


def test_the_covariance_is_the_spread_of_solutions() -> None:
    """Over noise of the target, errors of the motion are as large as the covariance says."""
    level, motion = scene(batch=1)
    pairs = 40
    noisy = level.target + 0.02 * torch.randn(pairs, *level.target.shape[1:]).double()
    camera = level.target_camera.repeat(pairs)
    many = Level(noisy, level.source.repeat(pairs, 1, 1, 1), level.inverse_depth.repeat(pairs, 1, 1),
                 camera, camera)  # fmt: skip
    found = align([many], State.start(motion.repeat(pairs, 1, 1)), AlignSettings())
    errors = se3.log(found.state.source_from_target @ se3.inverse(motion))
    deviation = found.covariance.diagonal(dim1=1, dim2=2).sqrt().mean(0)
    ratio = errors.std(0) / deviation
    assert (ratio > 0.3).all() and (ratio < 3).all(), ratio


def test_hidden_points_are_found() -> None:
    """A near post before a wall: moved sideways, it covers the wall beside it."""
    inverse = torch.full((1, 10, 40), 0.1)
    inverse[:, :, 10:14] = 0.5
    camera = Camera(Camera.from_parameters(20.0, 20.0, 19.5, 4.5, 10, 40).matrix[None], 10, 40)
    motion = torch.eye(4)[None].clone()
    motion[:, 0, 3] = 1.0  # 10 pixels for the post, 2 for the wall
    level = Level(torch.zeros(1, 1, 10, 40), torch.zeros(1, 1, 10, 40), inverse, camera, camera)
    seen = visible_points(level, State.start(motion))
    # The post lands on columns 20 to 23, where wall points of columns 18 to 21 land too.
    expected = torch.ones(1, 10, 40, dtype=torch.bool)
    expected[:, :, 18:22] = False
    assert torch.equal(seen, expected)


def test_linearization_fields_are_batched() -> None:
    level, motion = scene()
    found = linearize(level, State.start(motion), torch.ones(2).double(), None)
    assert isinstance(found, Linearization)
    assert found.cost.max() < 1e-20 and (found.seen > 0.8).all()


def test_maps_and_depth_at_their_size() -> None:
    """Inverse depth is averaged over known pixels alone; squares without any are masked."""
    images = torch.rand(2, 3, 64, 96)
    maps = make_maps(images, None)
    assert [tuple(m.shape[-2:]) for m in maps] == [(8, 12), (16, 24), (32, 48), (64, 96)]
    inverse = torch.zeros(2, 64, 96)
    inverse[:, :8, :8] = 0.5
    inverse[:, 0, 9] = 0.25
    camera = Camera(Camera.from_parameters(90.0, 90.0, 47.5, 31.5, 64, 96).matrix[None], 64, 96)
    coarsest = make_levels(maps, maps, inverse, camera.repeat(2))[0]
    assert coarsest.mask is not None and coarsest.mask.sum() == 4
    torch.testing.assert_close(coarsest.inverse_depth[:, 0, :2], torch.tensor([[0.5, 0.25]] * 2))
    assert coarsest.target_camera.matrix[0, 0, 2].item() == pytest.approx(5.5)


def test_frames_of_a_street_are_aligned() -> None:
    """Rendered frames, true depth: the true motion is found from none, and from a wrong one."""
    street = read_street(5, frames=8)
    assert street.world_from_camera is not None and street.camera is not None
    first, second = (f.image for f in street.frames.at([4, 6]))
    target, source = (
        torch.from_numpy(i.copy()).permute(2, 0, 1)[None] / 255 for i in (first, second)
    )
    truth = torch.from_numpy(street.world_from_camera)
    motion = (se3.inverse(truth[6]) @ truth[4])[None].float()
    depth = torch.from_numpy(street.depth[4]())[None]
    camera = replace(street.camera, matrix=street.camera.matrix[None].float())
    inverse = torch.where(depth > 0, 1 / depth, 0)
    levels = make_levels(make_maps(target, None), make_maps(source, None), inverse, camera)
    for start in (
        torch.eye(4)[None],
        se3.exp(torch.tensor([[0.0, 0.02, 0.0, 0.2, 0.0, 0.3]])) @ motion,
    ):
        found = align(levels, State.start(start), AlignSettings(30))
        error = se3.inverse(found.state.source_from_target) @ motion
        assert se3.rotation_angle(error[:, :3, :3]) < math.radians(0.05)
        assert error[0, :3, 3].norm() < 0.02 * motion[0, :3, 3].norm()
        assert found.trusted.all()


def test_masked_pixels_say_nothing() -> None:
    """Depth and target are wild where the mask is off: the solution and its trust do not change."""
    level, _ = scene()
    mask = torch.ones(2, 48, 64, dtype=torch.bool)
    mask[:, :, ::2] = False
    masked = replace(level, mask=mask)
    wild = replace(masked, inverse_depth=torch.where(mask, level.inverse_depth, 1.0),
                   target=torch.where(mask[:, None], level.target, 9.0))  # fmt: skip
    start = State.start(torch.eye(4).double().expand(2, 4, 4))
    found, other = (align([one], start, AlignSettings()) for one in (masked, wild))
    torch.testing.assert_close(found.state.source_from_target, other.state.source_from_target)
    torch.testing.assert_close(found.agreement, other.agreement)
