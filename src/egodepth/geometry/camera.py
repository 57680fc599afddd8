"""Pinhole cameras, and how resizing, cropping and flipping change them.

Axes as in OpenCV: x right, y down, z forward. Pixel centres lie at integer coordinates, the top-left one at
(0, 0), so that scaling by s maps cx to (cx + 0.5) s - 0.5.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, or a batch of them with one image size.

    Attributes:
        matrix: (..., 3, 3) intrinsics in pixels, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].
        height, width: image size in pixels.
    """

    matrix: Float[Tensor, "*batch 3 3"]
    height: int
    width: int

    @classmethod
    def from_parameters(
        cls, fx: float, fy: float, cx: float, cy: float, height: int, width: int
    ) -> "Camera":
        """Make one camera from focal lengths and principal point in pixels."""
        matrix = torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        return cls(matrix, height, width)

    @classmethod
    def from_field_of_view(cls, degrees: float, height: int, width: int) -> "Camera":
        """Make a camera with square pixels and a horizontal field of view of ``degrees``."""
        focal = width / (2 * math.tan(math.radians(degrees) / 2))
        return cls.from_parameters(focal, focal, (width - 1) / 2, (height - 1) / 2, height, width)

    @classmethod
    def stack(cls, cameras: "list[Camera]") -> "Camera":
        """Batch cameras of one image size along a new first dimension."""
        sizes = {(camera.height, camera.width) for camera in cameras}
        if len(sizes) != 1:
            raise ValueError(f"cameras of one batch must have one image size, got {sorted(sizes)}")
        return Camera(torch.stack([c.matrix for c in cameras]), *sizes.pop())

    def resize(self, height: int, width: int) -> "Camera":
        """The camera of the image resized to ``height`` x ``width``."""
        sx, sy = width / self.width, height / self.height
        # By rows: copying a matrix of the factors to a GPU would make the host wait.
        x, y, last = self.matrix.unbind(-2)
        rows = [sx * x + (sx / 2 - 0.5) * last, sy * y + (sy / 2 - 0.5) * last, last]
        return Camera(torch.stack(rows, dim=-2), height, width)

    def has_aspect_of(self, height: int, width: int) -> bool:
        """Whether images of this size can be resized images of the camera: their aspect ratio is the same
        within 1 %, or differs only because their size is rounded to whole pixels."""
        stretch = (width / self.width) / (height / self.height)
        rounding = min(abs(width - height * self.width / self.height),
                       abs(height - width * self.height / self.width))  # fmt: skip
        return abs(stretch - 1) <= 0.01 or rounding <= 0.5

    def turn(self) -> "Camera":
        """The camera of the image turned by 90 degrees clockwise: (x, y) goes to (H - 1 - y, x)."""
        fx, fy, cx, cy = self.focal_and_centre.unbind(-1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        rows = ((fy, zero, self.height - 1 - cy), (zero, fx, cx), (zero, zero, one))
        turned = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
        return Camera(turned, self.width, self.height)

    def crop(self, top: int, left: int, height: int, width: int) -> "Camera":
        """The camera of the window whose top-left pixel is (left, top)."""
        matrix = self.matrix.clone()
        matrix[..., 0, 2] -= left
        matrix[..., 1, 2] -= top
        return Camera(matrix, height, width)

    def flip(self) -> "Camera":
        """The camera of the image mirrored left to right: cx becomes W - 1 - cx."""
        mirrored = self.matrix.clone()
        mirrored[..., 0, 2] = self.width - 1 - mirrored[..., 0, 2]
        return Camera(mirrored, self.height, self.width)

    def to(self, *args: torch.device | torch.dtype) -> "Camera":
        """Move or convert the matrix, as ``Tensor.to`` does."""
        matrix = self.matrix
        for arg in args:
            matrix = matrix.to(arg)
        return Camera(matrix, self.height, self.width)

    def repeat(self, times: int) -> "Camera":
        """Repeat a batch of B cameras to one of ``times * B``, in order."""
        return Camera(self.matrix.repeat(times, 1, 1), self.height, self.width)

    @property
    def focal_and_centre(self) -> Float[Tensor, "*batch 4"]:
        """(..., 4): fx, fy, cx, cy in pixels."""
        m = self.matrix
        return torch.stack([m[..., 0, 0], m[..., 1, 1], m[..., 0, 2], m[..., 1, 2]], dim=-1)

    def project(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 2"]:
        """Pixel coordinates (x, y) of points (..., N, 3) in the camera frame.

        Depth is not checked: points with z <= 0 have no image, and the caller must mask them.
        """
        homogeneous = points @ self.matrix.mT
        return homogeneous[..., :2] / homogeneous[..., 2:]

    def unproject(
        self, pixels: Float[Tensor, "*batch n 2"], depth: Float[Tensor, "*batch n"]
    ) -> Float[Tensor, "*batch n 3"]:
        """Points (..., N, 3) in the camera frame at pixels (x, y) and depth along z."""
        fx, fy, cx, cy = self.focal_and_centre.unsqueeze(-2).unbind(-1)
        x = (pixels[..., 0] - cx) / fx * depth
        y = (pixels[..., 1] - cy) / fy * depth
        return torch.stack([x, y, depth], dim=-1)


def vector_like(like: Tensor, *values: int | float) -> Float[Tensor, " n"]:
    """A vector of a few numbers with the dtype and device of ``like``. Unlike ``new_tensor``, it copies
    nothing to a GPU, so the host need not wait."""
    return torch.stack([like.new_full((), value) for value in values])


def pixel_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "n 2"]:
    """Pixel centres (H * W, 2) as (x, y), row by row, with the dtype and device of ``like``."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device),
        torch.arange(width, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def camera_rays(camera: Camera) -> Float[Tensor, "h w 3"]:
    """Rays (H, W, 3) with z = 1 through all pixels of an unbatched camera."""
    pixels = pixel_grid(camera.height, camera.width, camera.matrix)
    rays = camera.unproject(pixels, torch.ones_like(pixels[:, 0]))
    return rays.unflatten(0, (camera.height, camera.width))
