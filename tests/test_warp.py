import numpy as np
import pytest
import torch

from egodepth.data.synthetic.street import StreetDrive
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import reproject, sample, sample_with_slopes, warp


def cameras(batch: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Camera:
    camera = Camera.from_field_of_view(80.0, height, width).to(dtype)
    return Camera.stack([camera] * batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_warp_is_exact(dtype: torch.dtype) -> None:
    image = torch.rand(2, 3, 31, 47, dtype=dtype)
    depth = 1 + 50 * torch.rand(2, 31, 47, dtype=dtype)
    camera = cameras(2, 31, 47, dtype)
    warped, valid = warp(image, depth, torch.eye(4, dtype=dtype).expand(2, 4, 4), camera, camera)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(warped, image, atol=tolerance, rtol=0)
    assert valid[:, 1:-1, 1:-1].all()


def test_sampling_at_whole_pixels_and_between() -> None:
    image = torch.arange(12, dtype=torch.float64).view(1, 1, 3, 4)
    pixels = torch.tensor(
        [[[[0.0, 0.0], [3.0, 2.0], [1.5, 0.5], [-7.0, 1.0]]]], dtype=torch.float64
    )
    assert sample(image, pixels).flatten().tolist() == pytest.approx([0, 11, 3.5, 4])


def test_translation_moves_by_focal_over_depth() -> None:
    camera = cameras(1, 20, 40)
    motion = torch.eye(4, dtype=torch.float64)[None].clone()
    motion[0, 0, 3] = 0.5
    pixels, _, _ = reproject(
        torch.full((1, 20, 40), 4.0, dtype=torch.float64), motion, camera, camera
    )
    shift = pixels[0, 7, 11, 0].item() - 11
    assert shift == pytest.approx(camera.matrix[0, 0, 0].item() * 0.5 / 4)


def test_agrees_with_project_and_unproject() -> None:
    batch, height, width = 2, 11, 17
    camera, other = cameras(batch, height, width), cameras(batch, height, width).resize(22, 34)
    motion = se3.exp(0.1 * torch.randn(batch, 6, dtype=torch.float64))
    depth = 2 + torch.rand(batch, height, width, dtype=torch.float64)
    pixels, _, _ = reproject(depth, motion, camera, other)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([x, y], -1).reshape(1, -1, 2).double().expand(batch, -1, -1)
    points = se3.transform(motion, camera.unproject(grid, depth.flatten(1)))
    torch.testing.assert_close(pixels.flatten(1, 2), other.project(points))


def test_layers_equal_separate_warps() -> None:
    camera = cameras(2, 9, 13)
    image = torch.rand(2, 3, 9, 13, dtype=torch.float64)
    depth = 2 + torch.rand(2, 4, 9, 13, dtype=torch.float64)
    motion = se3.exp(0.1 * torch.randn(2, 6, dtype=torch.float64))
    together, valid = warp(image, depth, motion, camera, camera)
    for layer in range(4):
        alone, alone_valid = warp(image, depth[:, layer], motion, camera, camera)
        torch.testing.assert_close(together[:, :, layer], alone)
        assert torch.equal(valid[:, layer], alone_valid)


def test_points_behind_the_source_are_invalid() -> None:
    camera = cameras(1, 8, 8)
    motion = torch.eye(4, dtype=torch.float64)[None].clone()
    motion[0, 2, 3] = -3
    depth = torch.full((1, 8, 8), 2.0, dtype=torch.float64, requires_grad=True)
    warped, valid = warp(torch.rand(1, 3, 8, 8).double(), depth, motion, camera, camera)
    assert not valid.any()
    warped.sum().backward()
    assert depth.grad is not None and torch.isfinite(depth.grad).all()


def test_gradients() -> None:
    camera = cameras(1, 6, 8)
    image = torch.rand(1, 2, 6, 8, dtype=torch.float64)
    depth = (3 + torch.rand(1, 6, 8, dtype=torch.float64)).requires_grad_()
    twist = (0.02 * torch.randn(1, 6, dtype=torch.float64)).requires_grad_()

    def synthesize(depth: torch.Tensor, twist: torch.Tensor) -> torch.Tensor:
        return warp(image, depth, se3.exp(twist), camera, camera)[0]

    assert torch.autograd.gradcheck(synthesize, (depth, twist), atol=1e-5)


def test_true_depth_and_pose_explain_a_synthetic_neighbour() -> None:
    drive = StreetDrive(seed=5, frames=40)
    (target, depth), (source, _) = drive.render(10), drive.render(11)
    poses = torch.from_numpy(drive.world_from_camera)
    motion = (se3.inverse(poses[11]) @ poses[10])[None]
    camera = Camera.stack([drive.camera.to(torch.float64)])

    def error(motion: torch.Tensor, shift: float = 0.0) -> float:
        as_tensor = torch.from_numpy(source.copy()).permute(2, 0, 1)[None].double() / 255
        matrix = camera.matrix.clone()
        matrix[:, 0, 2] += shift
        moved = Camera(matrix, camera.height, camera.width)
        known = torch.from_numpy(np.where(depth > 0, depth, 1000.0))[None].double()
        warped, valid = warp(as_tensor, known, motion, camera, moved)
        difference = (
            (warped[0].permute(1, 2, 0) - torch.from_numpy(target.copy()) / 255).abs().mean(-1)
        )
        return float(difference[valid[0]].median())

    true = error(motion)
    eye = torch.eye(4, dtype=torch.float64)[None]
    assert true < 0.4 * error(eye)
    assert true < error(motion, 0.5) and true < error(motion, -0.5)
    assert true < 0.4 * error(se3.inverse(motion))


def test_a_coordinate_that_is_not_a_number_gives_none() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    pixels = torch.tensor([[[1.0, 1.0], [torch.nan, 1.0], [1.0, torch.nan]]])
    for values in sample_with_slopes(image, pixels):
        assert values[0, 0].isfinite()[0]
    assert sample_with_slopes(image, pixels)[0][0, 0].isnan().tolist() == [False, True, True]
