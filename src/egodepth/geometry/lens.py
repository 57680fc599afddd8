"""Lens distortion and undistortion of images."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from egodepth.core.errors import EgodepthError
from egodepth.geometry.camera import Camera

LensModel = Literal["brown", "fisheye"]
COEFFICIENTS: dict[LensModel, tuple[int, ...]] = {"brown": (4, 5, 8), "fisheye": (4,)}
FOLD_POINTS = 33
"""Points across and down an image at which a fold of its distortion is searched for."""


@dataclass(frozen=True)
class Lens:
    """A distortion model with its coefficients.

    Attributes:
        model: ``brown``: k1 k2 p1 p2 [k3 [k4 k5 k6]] (Brown and Conrady, OpenCV's order), ``fisheye``:
            k1 to k4 of the angle (Kannala and Brandt).
        coefficients: as many as the model takes.

    Raises:
        ValueError: a wrong number of coefficients, or one that is not finite.
    """

    model: LensModel
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        counts = COEFFICIENTS[self.model]
        if len(self.coefficients) not in counts:
            raise ValueError(
                f"a {self.model} lens has {' or '.join(map(str, counts))} coefficients, got "
                f"{len(self.coefficients)}"
            )
        if not all(map(math.isfinite, self.coefficients)):
            raise ValueError(f"distortion coefficients that are no numbers: {self.coefficients}")

    def turn(self) -> "Lens":
        """The lens of the image turned by 90 degrees clockwise: tangential distortion turns with it."""
        if self.model == "fisheye":
            return self
        k1, k2, p1, p2, *others = self.coefficients
        return replace(self, coefficients=(k1, k2, p2, -p1, *others))

    def distort(
        self, camera: Camera, pixels: Float[ndarray, "n 2"], straight: Camera
    ) -> Float[ndarray, "n 2"]:
        """Map pixels (x, y) of the undistorted camera ``straight`` into the distorted image of ``camera``."""
        fx, fy, cx, cy = straight.focal_and_centre.double().numpy()
        rays = np.stack(
            [(pixels[:, 0] - cx) / fx, (pixels[:, 1] - cy) / fy, np.ones(len(pixels))], axis=1
        )
        matrix = camera.matrix.double().numpy()
        coefficients = np.array(self.coefficients)
        zero = np.zeros(3)
        if self.model == "fisheye":
            bent, _ = cv2.fisheye.projectPoints(rays[:, None], zero, zero, matrix, coefficients)
        else:
            bent, _ = cv2.projectPoints(rays[:, None], zero, zero, matrix, coefficients)
        return bent.reshape(-1, 2)

    def folds(self, camera: Camera, straight: Camera) -> bool:
        """Whether the undistorted image would show parts of the distorted one twice or mirrored, as beyond the
        angle up to which a lens was calibrated."""
        x, y = (np.linspace(0, n - 1.0, FOLD_POINTS) for n in (straight.width, straight.height))
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        here, right, down = (
            self.distort(camera, grid + step, straight) for step in ((0, 0), (0.1, 0), (0, 0.1))
        )
        (a, b), (c, d) = (right - here).T, (down - here).T
        return not bool((a * d > b * c).all())


class Undistortion:
    """Undistorts the images of one camera.

    Attributes:
        camera: of the undistorted images, which have the same size.
        distorted_camera, lens: camera of the distorted images, and their distortion.
        key: identifies the undistortion, for example in a cache.
    """

    def __init__(self, camera: Camera, lens: Lens, straight: Camera | None = None):
        """Set up the undistortion.

        Args:
            camera: of the distorted images.
            lens: their distortion.
            straight: camera of the undistorted images; by default :func:`undistorted_camera`.
        """
        self.distorted_camera, self.lens = camera, lens
        self.camera = straight or undistorted_camera([(camera, lens)])
        self._maps: dict[tuple[int, int], tuple[ndarray, ndarray]] = {}
        self.key = f"{lens} {camera.matrix.tolist()} {self.camera.matrix.tolist()}"

    def __call__(self, image: Shaped[ndarray, "h w *c"]) -> Shaped[ndarray, "h w *c"]:
        """Undistort an image (H, W) or (H, W, C) by bilinear interpolation; black beyond its edge."""
        maps = self._map(self.distorted_camera.height, self.distorted_camera.width)
        return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR))

    def depth(self, depth: Float[ndarray, "h w"]) -> Float[ndarray, "h w"]:
        """Undistort a depth map (along z) by nearest neighbour; 0 beyond its edge. Its size may differ from the
        images' size, but not its aspect ratio.

        Raises:
            ValueError: another aspect ratio.
        """
        height, width = depth.shape
        image = self.distorted_camera
        if not image.has_aspect_of(height, width):
            raise ValueError(
                f"it is {width}x{height}, its image {image.width}x{image.height}: with another aspect ratio, "
                "their pixels cannot be matched"
            )
        return np.asarray(cv2.remap(depth, *self._map(height, width), cv2.INTER_NEAREST))

    def _map(self, height: int, width: int) -> tuple[ndarray, ndarray]:
        """X and y (height, width), in the distorted image of this size, of every undistorted pixel."""
        if (height, width) not in self._maps:
            distorted, straight = (
                camera.resize(height, width) for camera in (self.distorted_camera, self.camera)
            )
            grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
            places = self.lens.distort(distorted, grid.reshape(-1, 2).astype(np.float64), straight)
            x, y = places.reshape(height, width, 2).astype(np.float32).transpose(2, 0, 1).copy()
            self._maps[height, width] = x, y
        return self._maps[height, width]


def undistorted_camera(cameras: list[tuple[Camera, Lens]]) -> Camera:
    """Camera for the undistorted images of one camera, or of several of a rig with one image size, that shows
    no black border. Principal point and ratio of focal lengths are means; the focal length is the shortest,
    from half to twice the mean, at which all border pixels lie inside the distorted images and nothing folds.

    Raises:
        EgodepthError: there is no such focal length: no lens has this distortion.
    """
    height, width = cameras[0][0].height, cameras[0][0].width
    x, y = np.arange(float(width)), np.arange(float(height))
    border = np.concatenate([
        np.stack([x, np.zeros(width)], 1), np.stack([x, np.full(width, height - 1.0)], 1),
        np.stack([np.zeros(height), y], 1), np.stack([np.full(height, width - 1.0), y], 1),
    ])  # fmt: skip
    fx, fy, cx, cy = np.mean([c.focal_and_centre.double().numpy() for c, _ in cameras], axis=0)

    def zoomed(factor: float) -> Camera:
        return Camera.from_parameters(fx * factor, fy * factor, cx, cy, height, width)

    def is_whole(factor: float) -> bool:
        straight = zoomed(factor)
        with np.errstate(over="ignore", invalid="ignore"):
            places = np.concatenate(
                [lens.distort(camera, border, straight) for camera, lens in cameras]
            )
            inside = (places >= -0.5) & (places <= (width - 0.5, height - 0.5))
            return bool(inside.all()) and not any(lens.folds(c, straight) for c, lens in cameras)

    low, high = 0.5, 2.0
    if not is_whole(high):
        lens = cameras[0][1]
        coefficients = ", ".join(f"{value:g}" for value in lens.coefficients)
        raise EgodepthError(
            f"distortion coefficients [{coefficients}] ({lens.model}) that no lens of a focal length of "
            f"{fx:.0f} pixels and images of {width}x{height} has: even the middle of the image is folded, or "
            "reaches beyond its edge"
        )
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if is_whole(middle) else (middle, high)
    return zoomed(high)
