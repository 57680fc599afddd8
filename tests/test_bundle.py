"""Direct bundle adjustment against autograd and against scenes whose answer is known."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.bundle import (
    BundleSettings,
    BundleState,
    Window,
    _look,
    _noise,
    _normal_equations,
    _robust_cost,
    adjust,
)
from egodepth.geometry.bundle_points import BundlePoints, normalized_brightness, select_points
from egodepth.geometry.camera import Camera, pixel_grid
from egodepth.geometry.ground import ground_height
from egodepth.geometry.resection import KnownPoints, resect

HEIGHT, WIDTH = 48, 64
CAMERA = Camera.from_parameters(50.0, 52.0, 31.0, 24.0, HEIGHT, WIDTH).to(torch.float64)


def smooth_noise(seed: int, height: int, width: int) -> Tensor:
    """A texture of features about six pixels wide, float64."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, height // 6, width // 6, generator=generator, dtype=torch.float64)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0, 0]


def wall_view(camera_from_world: Tensor) -> tuple[Tensor, Tensor]:
    """Map (1, h, w) and inverse depth of a textured slanted wall, ray by ray."""
    texture = smooth_noise(5, 240, 240)
    normal, distance = torch.tensor([0.2, 0.1, 1.0]).double(), 3.0
    world_from_camera = se3.inverse(camera_from_world)
    rays = CAMERA.unproject(pixel_grid(HEIGHT, WIDTH, texture), torch.ones(HEIGHT * WIDTH).double())
    turned = rays @ world_from_camera[:3, :3].mT
    centre = world_from_camera[:3, 3]
    depth = (distance - centre @ normal) / (turned @ normal)
    hit = centre + depth[:, None] * turned
    place = (hit[:, :2] / 3)[None, None]
    seen = F.grid_sample(texture[None, None], place, mode="bicubic", align_corners=False)
    return seen.view(1, HEIGHT, WIDTH), (1 / depth).view(HEIGHT, WIDTH)


def scene() -> tuple[Window, BundleState]:
    """Four views of the wall with their true poses."""
    twists = 0.05 * torch.tensor(
        [
            [0, 0, 0, 0, 0, 0],
            [0.1, 0.3, 0, 3, 1, 0],
            [0.3, -0.4, 0.2, -2, 2, 2],
            [0, 0.5, 0.3, 1, -3, -3],
        ]
    )
    poses = se3.exp(twists.double())
    views = [wall_view(pose) for pose in poses]
    points = BundlePoints.stack([select_points(m, inverse, CAMERA, 6) for m, inverse in views])
    zero = torch.zeros(4).double()
    state = BundleState(poses, zero, torch.zeros_like(points.inverse_depth))
    return Window(points, torch.stack([m for m, _ in views]), torch.arange(4), CAMERA), state


def test_gradient_is_that_of_autograd() -> None:
    window, state = scene()
    generator = torch.Generator().manual_seed(1)
    step = 0.02 * torch.randn(4, 7, generator=generator).double()
    factors = 0.1 * torch.randn(state.factor.shape, generator=generator).double()
    state = state.moved(step, factors)
    look, settings = _look(window, state), BundleSettings()
    seen, noise = look.valid, _noise(look, window)
    _, weight = _robust_cost(look, window, state, seen, noise, settings)
    system = _normal_equations(look, window, state, weight, noise, settings)
    step = torch.zeros(4, 7, dtype=torch.float64, requires_grad=True)
    factors = torch.zeros_like(state.factor, requires_grad=True)
    moved = state.moved(step, factors)
    cost, _ = _robust_cost(_look(window, moved), window, moved, seen, noise, settings)
    cost.backward()
    assert step.grad is not None and factors.grad is not None
    assert float(step.grad.abs().max()) > 1
    torch.testing.assert_close(system.gradient, step.grad.flatten(), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(system.point_gradient, factors.grad, atol=1e-8, rtol=1e-8)


def test_poses_are_found_again() -> None:
    window, truth = scene()
    generator = torch.Generator().manual_seed(2)
    step = 0.02 * torch.randn(4, 7, generator=generator).double()
    step[:2], step[:, 6] = 0, 0
    free = torch.tensor([False, False, True, True])
    settings = BundleSettings(iterations=30, tolerance=1e-6)
    start = truth.moved(step, torch.zeros_like(truth.factor))
    found, weights = adjust(window, start, free, settings)

    def error(state: BundleState) -> float:
        relative = state.camera_from_world @ se3.inverse(truth.camera_from_world)
        return float(se3.log(relative).norm(dim=1).max())

    assert error(start) > 0.03 and error(found) < 0.004
    assert torch.equal(found.camera_from_world[:2], truth.camera_from_world[:2])
    assert 0 < float(weights.max()) <= 1 and weights.shape == (4, *truth.factor.shape)


def test_resection_is_adjustment_of_one_frame_alone() -> None:
    """Adjustment has priors so strong here that depth stays."""
    window, truth = scene()
    step = torch.zeros(4, 7).double()
    step[3, :6] = 0.02 * torch.randn(6, generator=torch.Generator().manual_seed(4)).double()
    start = truth.moved(step, torch.zeros_like(truth.factor))
    fixed = BundleSettings(40, scale_deviation=1e-6, factor_deviation=1e-6, tolerance=1e-9)
    one = replace(window, maps=window.maps[3:], observers=torch.tensor([3]))
    alone, weights = adjust(one, start, torch.arange(4) == 3, fixed)
    hosts = BundlePoints(**{name: value[:3] for name, value in vars(window.points).items()})
    three = BundleState(**{name: value[:3] for name, value in vars(start).items()})
    known = KnownPoints.of(hosts, three)
    pose, weight = resect(
        known, window.maps[3], CAMERA, start.camera_from_world[3], iterations=40, tolerance=1e-9
    )
    torch.testing.assert_close(pose, alone.camera_from_world[3], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weight, weights[0, :3], atol=1e-3, rtol=1e-3)
    error = se3.log(pose @ se3.inverse(truth.camera_from_world[3])).norm()
    assert error < 0.004 < float(step.norm())


def test_wrong_depth_is_mended() -> None:
    """The second host's depth is a fifth too large and all points are off by themselves."""
    window, truth = scene()
    generator = torch.Generator().manual_seed(3)
    factors = 0.1 * torch.randn(truth.factor.shape, generator=generator).double()
    step = torch.zeros(4, 7).double()
    step[2, 6] = -0.2
    start = truth.moved(step, factors)
    free = torch.tensor([False, False, True, True])
    settings = BundleSettings(iterations=30, tolerance=1e-6)
    found, _ = adjust(window, start, free, settings)
    wrong, right = (s.log_scale[2] + s.factor[2] for s in (start, found))
    assert float(wrong.abs().median()) > 0.15
    assert float(right.abs().median()) < 0.02


def test_normalized_brightness_is_free_of_exposure() -> None:
    image = torch.rand(2, 3, 40, 60, dtype=torch.float64)
    torch.testing.assert_close(
        normalized_brightness(image, floor=0.0), normalized_brightness(0.6 * image + 0.2, floor=0.0)
    )
    flat = normalized_brightness(torch.full((1, 3, 40, 60), 0.5))
    assert float(flat.abs().max()) < 1e-3


def test_points_are_where_the_image_changes() -> None:
    image = torch.zeros(1, HEIGHT, WIDTH)
    image[0, :, 40:] = 1
    camera = CAMERA.to(torch.float32)
    points = select_points(image, torch.full((HEIGHT, WIDTH), 0.5), camera, 8)
    assert points.valid.any() and not points.valid.all()
    fx, _, cx, _ = camera.focal_and_centre
    x = points.rays[0, :, 0, 0] * fx + cx
    assert torch.all((x[points.valid[0]] - 39.5).abs() < 1.1)


@pytest.mark.parametrize("pitch", [0.0, 0.1])
def test_height_above_ground(pitch: float) -> None:
    camera = Camera.from_parameters(180.0, 190.0, 159.0, 47.0, 96, 320)
    rays = camera.unproject(pixel_grid(96, 320, camera.matrix), torch.ones(96 * 320))
    normal = torch.tensor([0.02, 1.0, pitch])
    normal = normal / normal.norm()
    inverse = (rays @ normal / 1.65).view(96, 320).clamp(min=0.01)
    generator = torch.Generator().manual_seed(0)
    inverse = inverse * (1 + 0.02 * torch.randn(96, 320, generator=generator))
    inverse[70:, 120:150] = 0.4
    height = ground_height(inverse, camera)
    assert height is not None and height == pytest.approx(1.65, rel=0.01)
    assert ground_height(torch.rand(96, 320, generator=generator) + 0.1, camera) is None
    assert ground_height(torch.full((96, 320), 0.3), camera) is None
