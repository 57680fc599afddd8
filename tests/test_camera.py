import math

import pytest
import torch

from egodepth.geometry.camera import Camera, pixel_grid

CAMERA = Camera.from_parameters(180.0, 170.0, 155.5, 50.25, 96, 320).to(torch.float64)
POINTS = torch.tensor([[1.0, -0.5, 4.0], [-2.0, 1.0, 9.0], [0.1, 0.2, 0.7]], dtype=torch.float64)


def test_project_known_value() -> None:
    pixels = CAMERA.project(POINTS)
    assert pixels[0].tolist() == pytest.approx([155.5 + 180 / 4, 50.25 - 170 * 0.5 / 4])


def test_unproject_inverts_project() -> None:
    again = CAMERA.unproject(CAMERA.project(POINTS), POINTS[:, 2])
    torch.testing.assert_close(again, POINTS)


@pytest.mark.parametrize("size", [(48, 160), (96, 640), (37, 101)])
def test_resize_commutes_with_project(size: tuple[int, int]) -> None:
    scale = torch.tensor([size[1] / 320, size[0] / 96], dtype=torch.float64)
    expected = (CAMERA.project(POINTS) + 0.5) * scale - 0.5
    torch.testing.assert_close(CAMERA.resize(*size).project(POINTS), expected)


def test_crop_shifts_pixels() -> None:
    cropped = CAMERA.crop(10, 20, 50, 100)
    expected = CAMERA.project(POINTS) - torch.tensor([20.0, 10.0], dtype=torch.float64)
    torch.testing.assert_close(cropped.project(POINTS), expected)
    assert (cropped.height, cropped.width) == (50, 100)


def test_flip_mirrors_pixels() -> None:
    mirrored = CAMERA.flip().project(POINTS * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    pixels = CAMERA.project(POINTS)
    torch.testing.assert_close(mirrored[:, 0], 319 - pixels[:, 0])
    torch.testing.assert_close(mirrored[:, 1], pixels[:, 1])
    torch.testing.assert_close(CAMERA.flip().flip().matrix, CAMERA.matrix)


def test_field_of_view_reaches_the_edges() -> None:
    camera = Camera.from_field_of_view(90.0, 96, 320).to(torch.float64)
    edge = torch.tensor([[math.tan(math.radians(45)), 0.0, 1.0]], dtype=torch.float64)
    assert camera.project(edge)[0, 0].item() == pytest.approx(319.5, abs=1e-4)


def test_stack_rejects_different_sizes() -> None:
    with pytest.raises(ValueError, match="one image size"):
        Camera.stack([CAMERA, CAMERA.resize(48, 160)])


def test_pixel_grid_order() -> None:
    assert pixel_grid(2, 3, torch.zeros(1)).tolist() == [
        [0, 0],
        [1, 0],
        [2, 0],
        [0, 1],
        [1, 1],
        [2, 1],
    ]
