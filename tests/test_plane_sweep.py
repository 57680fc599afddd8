"""Depth from many posed views against scenes with exact depth, straightforward loops and OpenCV's stereo."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from egodepth.geometry import se3
from egodepth.geometry.camera import Camera, pixel_grid
from egodepth.geometry.plane_sweep import (
    Labels,
    Smoothing,
    agreeing_views,
    best_inverse_depth,
    local_contrast,
    matching_costs,
    parallax,
    smooth_costs,
    sweep_depth,
    upsample_by_colour,
)
from egodepth.geometry.warp import sweep, warp

HEIGHT, WIDTH = 64, 96
CAMERA = Camera(torch.tensor([[[80.0, 0, 47], [0, 82, 30], [0, 0, 1]]]), HEIGHT, WIDTH)


def texture(points: Tensor, seed: int) -> Tensor:
    """Colours (3, N) in [0, 1] of points (N, 3) of a solid pattern, the same from wherever they are seen."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.randn(3, 24, 3, generator=generator, dtype=points.dtype)
    waves *= torch.linspace(1, 8, 24, dtype=points.dtype)[:, None]
    phases = 6.28 * torch.rand(3, 24, 1, generator=generator, dtype=points.dtype)
    return 0.5 + 0.12 * torch.sin(waves @ points.T + phases).mean(1) * math.sqrt(24)


def render(camera_from_world: Tensor) -> tuple[Tensor, Tensor]:
    """Image (3, H, W) and depth (H, W) of a slanted wall with a box before it, by ray casting."""
    pixels = pixel_grid(HEIGHT, WIDTH, torch.empty(0, dtype=torch.float64))
    rays = CAMERA.to(torch.float64).unproject(pixels[None], torch.ones(1, len(pixels)).double())[0]
    world = torch.linalg.inv(camera_from_world)
    centre, directions = world[:3, 3], rays @ world[:3, :3].T
    wall = torch.tensor([0.2, -0.1, 1.0]).double()
    depth = (6 - wall @ centre) / (directions @ wall)
    seed = torch.zeros(len(pixels), dtype=torch.int64)
    front = (3 - centre[2]) / directions[:, 2]
    at = centre + front[:, None] * directions
    box = (at[:, 0].abs() < 0.6) & (at[:, 1].abs() < 0.5)
    depth, seed = torch.where(box, front, depth), seed + box
    points = centre + depth[:, None] * directions
    colours = torch.where(box, texture(points, 1), texture(points, 0))
    return colours.view(3, HEIGHT, WIDTH).float(), depth.view(HEIGHT, WIDTH).float()


def scene(shifts: list[float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (n, 1, 3, H, W) and depths (n, 1, H, W) of a target and of sources to its sides, and the motions
    (n - 1, 1, 4, 4) to the sources."""
    poses = [
        se3.exp(torch.tensor([0.0, 0.01 * s, 0.005, s, 0.1 * s, 0.2 * s]).double())
        for s in [0.0, *shifts]
    ]
    views = [render(pose) for pose in poses]
    motions = torch.stack([pose @ torch.linalg.inv(poses[0]) for pose in poses[1:]])
    return (
        torch.stack([image for image, _ in views])[:, None],
        torch.stack([depth for _, depth in views])[:, None],
        motions[:, None].float(),
        torch.stack(poses),
    )


def test_a_sweep_is_a_warp() -> None:
    generator = torch.Generator().manual_seed(0)
    camera = Camera(CAMERA.matrix.double().repeat(2, 1, 1), HEIGHT, WIDTH)
    image = torch.rand(2, 3, HEIGHT, WIDTH, generator=generator).double()
    motion = se3.exp(
        torch.tensor([[0.02, 0.1, -0.03, 0.3, 0.1, -1.2], [0, 0, 0, 0.2, 0, 0.4]]).double()
    )
    planes = torch.tensor([[0.01, 0.2, 0.9], [0.3, 0.5, 1.5]]).double()
    for inverse in (planes[..., None, None], torch.rand(2, 3, HEIGHT, WIDTH).double() + 0.01):
        found, valid = sweep(image, inverse, motion, camera)
        depth = (1 / inverse).expand(2, 3, HEIGHT, WIDTH)
        expected, inside = warp(image, depth, motion, camera, camera)
        near = (valid == inside).double().mean()
        assert near > 0.999, near
        assert inside.any()
        assert not inside.all()
        keep = (valid & inside)[:, None].expand_as(found)
        torch.testing.assert_close(found[keep], expected[keep], atol=1e-9, rtol=0)


def test_infinity_is_a_rotation_alone() -> None:
    images, _, motions, _ = scene([0.5])
    turned = motions.clone()
    turned[..., :3, 3] = 0
    far, _ = sweep(images[1], torch.zeros(1, 1, 1, 1), motions[0], CAMERA)
    expected, _ = warp(images[1], torch.ones(1, 1, HEIGHT, WIDTH), turned[0], CAMERA, CAMERA)
    torch.testing.assert_close(far, expected, atol=1e-4, rtol=0)


def test_local_contrast_sees_neither_exposure_nor_shading() -> None:
    image = scene([0.1])[0][0]
    found = local_contrast(image)
    brighter = local_contrast(0.8 * image + 0.1)
    assert (found - brighter).abs().mean() < 0.08 * found.abs().mean()
    assert local_contrast(torch.full_like(image, 0.4)).abs().max() < 1e-2


def test_depth_of_a_rendered_scene() -> None:
    images, depths, motions, _ = scene([-0.4, -0.2, 0.2, 0.4])
    inverse = sweep_depth(images[0], images[1:], motions, CAMERA, torch.tensor([1.5]), (0, 0, 1, 1))
    error = (inverse * depths[0] - 1).abs()
    assert error.median() < 0.005, error.median()
    assert (error < 0.05).float().mean() > 0.95
    # Occlusion: with both sides, what the box hides from one of them is seen from the other.
    box = depths[0] < 4
    beside = (torch.nn.functional.max_pool2d(box.float(), 9, 1, 4) > 0) & ~box
    one_side = sweep_depth(images[0], images[3:], motions[2:], CAMERA, torch.tensor([1.5]), (1, 1))
    wrong = ((one_side * depths[0] - 1).abs() > 0.1)[beside].float().mean()
    assert (error > 0.1)[beside].float().mean() < 0.6 * wrong


def test_depth_is_at_least_as_good_as_opencvs_stereo() -> None:
    poses = [torch.eye(4).double(), torch.eye(4).double()]
    poses[1][0, 3] = -0.3
    (left, depth), (right, _) = (render(pose) for pose in poses)
    grey = [(255 * image.mean(0)).clamp(0, 255).byte().numpy() for image in (left, right)]
    matcher = cv2.StereoSGBM.create(
        minDisparity=0, numDisparities=16, blockSize=5, P1=8 * 25, P2=32 * 25,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )  # fmt: skip
    disparity = torch.from_numpy(matcher.compute(*grey).astype(np.float32)) / 16
    inverse = sweep_depth(
        left[None],
        right[None, None],
        poses[1][None, None].float(),
        CAMERA,
        torch.tensor([1.5]),
        (1,),
    )[0]
    theirs = disparity / (80 * 0.3)
    both = disparity > 0
    assert both.float().mean() > 0.6
    error, theirs_error = ((x * depth - 1).abs()[both] for x in (inverse, theirs))
    assert error.median() < theirs_error.median()
    assert (error > 0.1).float().mean() < 1.2 * (theirs_error > 0.1).float().mean() + 0.01


def paths_by_loops(
    costs: np.ndarray, first: np.ndarray, grey: np.ndarray, how: Smoothing
) -> np.ndarray:
    """Semi-global smoothing of (D, H, W) as it is written down, one pixel at a time."""
    count, height, width = costs.shape
    total = np.zeros_like(costs)
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        paths = np.zeros_like(costs)
        ys = range(height) if dy >= 0 else range(height - 1, -1, -1)
        xs = range(width) if dx >= 0 else range(width - 1, -1, -1)
        for y in ys:
            for x in xs:
                py, px = y - dy, x - dx
                if not (0 <= py < height and 0 <= px < width):
                    paths[:, y, x] = costs[:, y, x]
                    continue
                last = paths[:, py, px]
                step = abs(grey[y, x] - grey[py, px])
                large = max(how.large / (1 + step / how.contrast), 2 * how.small)
                for d in range(count):
                    choices = [last.min() + large]
                    for e in range(count):
                        apart = abs((first[py, px] + e) - (first[y, x] + d))
                        if apart <= 1:
                            choices.append(last[e] + how.small * apart)
                    paths[d, y, x] = costs[d, y, x] + min(choices) - last.min()
        total += paths
    return total


@pytest.mark.parametrize("banded", [False, True])
def test_smoothing_is_the_least_path(banded: bool) -> None:
    rng = np.random.default_rng(0)
    costs = rng.random((6, 5, 7))
    image = torch.from_numpy(rng.random((1, 3, 5, 7)))
    first = rng.integers(0, 5, (5, 7)) if banded else np.full((5, 7), 3)
    how = Smoothing(0.1, 0.4, 0.3)
    given = torch.from_numpy(first if banded else np.array([[3]]))[None]
    labels = Labels(given, torch.ones(1).double(), 6)
    found = smooth_costs(torch.from_numpy(costs)[None], labels, image, how)[0]
    expected = paths_by_loops(costs, first, image[0].mean(0).numpy(), how)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_the_minimum_lies_between_labels() -> None:
    labels = Labels(torch.full((1, 1, 1), 4), torch.tensor([0.1]).double(), 7)
    truth = torch.tensor([[[5.3, 7.8], [4.0, 9.4]]]).double()
    places = torch.arange(4, 11).double().view(1, 7, 1, 1)
    found = best_inverse_depth((places - truth[:, None]).square() * 0.7, labels)
    torch.testing.assert_close(found, 0.1 * truth)
    flat = best_inverse_depth(
        torch.ones(1, 7, 1, 1).double(), Labels.planes(torch.ones(1).double(), 7)
    )
    assert flat > 0


def test_a_band_lies_around_what_is_known() -> None:
    labels = Labels.around(torch.tensor([[[0.02, 1.0]]]), torch.tensor([0.1]), 8)
    assert labels.first.tolist() == [[[0, 6]]]
    values = labels.inverse_depth(torch.arange(8).view(1, 8, 1, 1))
    torch.testing.assert_close(values[0, :, 0, 1], torch.arange(6, 14) * 0.1)


def test_depth_breaks_where_colours_do() -> None:
    image = torch.zeros(1, 3, 8, 12)
    image[..., 5:] = 1  # not at a border of the small pixels
    small = torch.nn.functional.interpolate(image, (4, 6), mode="area")
    inverse = torch.where(small[:, 0] > 0.75, 2.0, 1.0)
    found = upsample_by_colour(inverse, small, image)
    torch.testing.assert_close(found, torch.where(image[:, 0] > 0.5, 2.0, 1.0))


def test_views_agree_where_depth_is_right() -> None:
    _, depths, motions, _ = scene([-0.4, 0.4])
    inverse = 1 / depths
    agree, given = agreeing_views(inverse[0], inverse[1:], motions, CAMERA, 0.02)
    assert agree.any(0).float().mean() > 0.9
    error = (given * depths[:1] - 1).abs()[agree]
    assert error.median() < 2e-3
    # A depth of 0 is unknown, one that is off by 10 % agrees with nothing.
    assert not agreeing_views(0 * inverse[0], inverse[1:], motions, CAMERA, 0.02)[0].any()
    wrong, _ = agreeing_views(1.1 * inverse[0], inverse[1:], motions, CAMERA, 0.02)
    assert wrong.float().mean() < 0.1


def test_parallax_is_what_translation_moves() -> None:
    _, depths, motions, poses = scene([0.4])
    found = parallax(1 / depths[0], motions, CAMERA)[0, 0]
    shift = (poses[1] @ torch.linalg.inv(poses[0]))[:3, 3].float()
    pixels = pixel_grid(HEIGHT, WIDTH, depths)
    points = CAMERA.unproject(pixels[None], depths[0].flatten(1))[0]
    moved = points @ motions[0, 0, :3, :3].T
    expected = (CAMERA.project((moved + shift)[None]) - CAMERA.project(moved[None]))[0].norm(dim=-1)
    torch.testing.assert_close(found.flatten(), expected, atol=1e-3, rtol=1e-3)
    assert parallax(0 * depths[0], motions, CAMERA).max() < 1e-3


def test_pixels_that_no_source_sees_cost_the_same_everywhere() -> None:
    images, _, motions, _ = scene([0.3])
    away = motions.clone()
    away[..., :3, :3] = se3.exp(torch.tensor([0, math.pi, 0, 0, 0, 0]))[:3, :3]
    maps = local_contrast(images.flatten(0, 1))[:, None]
    labels = Labels.planes(torch.tensor([1.0]), 5)
    costs = matching_costs(maps[0], maps[1:], away, CAMERA, labels, (1,))
    assert (costs.amax(1) == costs.amin(1)).all()
