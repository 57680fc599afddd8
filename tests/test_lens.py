import numpy as np
import pytest

from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, Undistortion, undistorted_camera

CAMERA = Camera.from_parameters(60.0, 58.0, 41.0, 28.5, 60, 80)
BROWN = (-0.2, 0.05, 0.002, -0.003, 0.01)


def brown_by_hand(x: float, y: float) -> tuple[float, float]:
    k1, k2, p1, p2, k3 = BROWN
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def test_brown_and_fisheye_by_hand() -> None:
    pixel = np.array([[63.0, 11.0]])
    x, y = (63 - 41) / 60, (11 - 28.5) / 58
    bent = Lens("brown", BROWN).distort(CAMERA, pixel, CAMERA)[0]
    bx, by = brown_by_hand(x, y)
    np.testing.assert_allclose(bent, [60 * bx + 41, 58 * by + 28.5], atol=1e-5)
    k = (0.05, -0.01, 0.003, 0.001)
    angle = np.arctan(np.hypot(x, y))
    bent_angle = angle * (1 + sum(c * angle ** (2 * i + 2) for i, c in enumerate(k)))
    share = bent_angle / np.hypot(x, y)
    bent = Lens("fisheye", k).distort(CAMERA, pixel, CAMERA)[0]
    np.testing.assert_allclose(bent, [60 * x * share + 41, 58 * y * share + 28.5], atol=1e-5)


def test_undistorted_images_show_lines_straight_and_no_border() -> None:
    lens = Lens("brown", BROWN)
    straight = undistorted_camera([(CAMERA, lens)])
    # A distorted picture of a plane whose brightness grows linearly across the straight image.
    grid = np.stack(np.meshgrid(np.arange(80.0), np.arange(60.0)), -1).reshape(-1, 2)
    change = Undistortion(CAMERA, lens, straight)
    places = lens.distort(CAMERA, grid, straight)
    assert places.min() > -0.5 and (places < [79.5, 59.5]).all()
    tighter = Camera(straight.matrix.clone(), 60, 80)
    tighter.matrix[0, 0] *= 0.97
    tighter.matrix[1, 1] *= 0.97
    outside = lens.distort(CAMERA, grid, tighter)
    assert (outside < -0.5).any() or (outside > [79.5, 59.5]).any()
    # x of the straight image where each distorted pixel lies, by inverting the map numerically.
    picture = np.zeros((60, 80), np.float32)
    for v in range(60):
        for u in range(80):
            ray = np.array([(u - 41) / 60, (v - 28.5) / 58])
            guess = ray.copy()
            for _ in range(30):
                guess += ray - np.array(brown_by_hand(*guess))
            picture[v, u] = guess[0]
    undone = change(np.repeat((40 * picture[..., None] + 100).round().astype(np.uint8), 3, axis=2))
    expected = 40 * (np.arange(80) - straight.matrix[0, 2].item()) / straight.matrix[0, 0].item()
    error = undone[..., 0].astype(float) - 100 - expected
    assert np.abs(error[2:-2, 2:-2]).max() <= 1.0


def test_depth_takes_the_nearest_pixel() -> None:
    depth = np.zeros((60, 80), np.float32)
    depth[:, 40:] = 5
    undone = Undistortion(CAMERA, Lens("brown", BROWN)).depth(depth)
    assert set(np.unique(undone)) == {0.0, 5.0}


def test_wrong_lenses_are_named() -> None:
    with pytest.raises(ValueError, match="a brown lens has 4 or 5 or 8 coefficients, got 3"):
        Lens("brown", (1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="a fisheye lens has 4 coefficients, got 5"):
        Lens("fisheye", (1.0,) * 5)
