"""Depth that stays still: a recursive filter that carries depth along the camera's trajectory."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from egodepth.core.errors import EgodepthError
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import reproject, sample, sample_on_surfaces
from egodepth.losses.photometric import photometric_loss, target_statistics

MIN_SEEN_SHARE = 0.05
"""Smallest share of the pixels that must have been in the picture before for a frame to go on from it."""
MAX_IMAGE_LOSS = 0.2
"""Largest median of L_ph between a frame and the one before it, seen by the better of both depths or as it is;
with more, it is a cut."""
MIN_AGREEING_SHARE = 0.25
"""Smallest share of these whose depth or image must agree with the frame before; with fewer, it is a cut."""
SCALE_MEMORY = 10.0
"""Number of frames over which the scale that is common to a frame's pixels is averaged."""
GATE = 6.0
"""Deviations between carried and new depth from which on the new depth is taken alone, where the image agrees
with the carried one at least as well as with the new one, or with no motion at all."""
IMAGE_POWER = 2.0
"""Power of the ratio of these agreements, by which the gate is narrower elsewhere."""
WINDOW = 7
"""Size in pixels of the window over which images are compared."""
IMAGE_NOISE = 0.01
"""Difference of images, as of L_ph, that counts as equal."""
BLUR = 9
"""Size in pixels of the window, applied twice, over which corrections of depth are averaged. Network depth
errs over areas; the correction is smooth, so that borders are as sharp as the new depth's."""
MAX_SMOOTH_STEP = 0.1
"""Largest log ratio of depths within 3x3 pixels that are no border. At borders, corrections come from beside
them."""
MAX_RELATIVE_DEVIATION = 2.0
"""Largest ratio of a pixel's deviation to the median that counts, and its inverse the smallest."""
FORGETTING = 0.9
"""Share of the running deviation that is kept from frame to frame."""


@dataclass(frozen=True)
class SteadySettings:
    """Settings of the filter.

    Attributes:
        memory: largest number of frames whose depth is averaged; more is stiller, and slower to take up what
            changes.
    """

    memory: float = 6.0

    def __post_init__(self) -> None:
        if not self.memory >= 1:
            raise EgodepthError(f"memory must be at least 1 frame, got {self.memory}")


@dataclass(frozen=True)
class _Carried:
    """What is kept of the last frame.

    Attributes:
        image: (3, H, W).
        inverse: (H, W), filtered inverse depth.
        weight: (H, W), number of frames it averages, in units of the last frame's information.
        world_from_camera: (4, 4) float64.
    """

    image: Tensor
    inverse: Tensor
    weight: Tensor
    world_from_camera: Tensor


@dataclass(frozen=True)
class _Comparison:
    """New depth against carried depth, at the new frame's pixels.

    Attributes:
        residual: (H, W) log ratio of the carried to the new depth, 0 where unknown.
        known: (H, W) bool, whether the pixel was in the picture before.
        pixels: (H, W, 2), where it was.
        weight: (H, W) of the carried depth.
    """

    residual: Tensor
    known: Tensor
    pixels: Tensor
    weight: Tensor


class SteadyDepth:
    """Filters the depth of frames as they arrive, in constant memory and from the past alone.

    The last frame's depth is carried to each new frame by the camera's motion: every new pixel looks up its
    place in the last frame, without mixing surfaces. Carried and new depth are averaged by their information,
    in log inverse depth: first the scale that is common to the frame, then, smoothly, what differs from pixel
    to pixel. Where both differ by more than their deviations, or the images speak against the carried depth,
    as on moving objects, the new depth is taken alone; where they do almost everywhere, at a cut, the filter
    starts again.
    """

    def __init__(self, camera: Camera, settings: SteadySettings | None = None):
        """Start before the first frame.

        Args:
            camera: of the depth maps that are given, unbatched.
            settings: of the filter.
        """
        self.settings = settings or SteadySettings()
        self.camera = Camera(camera.matrix.float().cpu()[None], camera.height, camera.width)
        self._carried: _Carried | None = None
        self._deviation: float | None = None

    @property
    def started(self) -> bool:
        """Whether depth is carried from a frame before."""
        return self._carried is not None

    def reset(self) -> None:
        """Forget the frames so far."""
        self._carried = None

    @torch.inference_mode()
    def update(
        self,
        inverse: Tensor,
        image: Tensor,
        world_from_camera: np.ndarray | None,
        deviation: Tensor | None = None,
    ) -> Tensor:
        """Filter the next frame's inverse depth (H, W).

        Args:
            inverse: (H, W) new inverse depth.
            image: (3, H, W) in [0, 1].
            world_from_camera: (4, 4) pose in the unit of depth; None if it is unknown, which starts again.
            deviation: (H, W) standard deviation of the new log depth, if it is known.
        """
        if world_from_camera is None or not np.isfinite(world_from_camera).all():
            self.reset()
            return inverse
        pose = torch.from_numpy(np.array(world_from_camera, np.float64))
        before = self._carried
        self._carried = _Carried(image, inverse, torch.ones_like(inverse), pose)
        if before is None:
            return inverse
        motion = (se3.inverse(before.world_from_camera) @ pose).float()
        found = self._compare(before, inverse, motion)
        if float(found.known.float().mean()) < MIN_SEEN_SHARE:
            return inverse
        # The place in the last frame depends on the scale, so it is looked up again with the common one.
        log_scale = found.residual[found.known].median()
        scaled = inverse * (-log_scale).exp()
        found = self._compare(before, scaled, motion)
        if not found.known.any():
            return inverse
        relative = _relative(deviation, inverse)
        trust = self._trust(found, before.image, image, scaled, motion, relative)
        if float((trust > 0)[found.known].float().mean()) < MIN_AGREEING_SHARE:
            return inverse
        precision = relative.pow(-2)
        weight = found.weight * trust
        beside = _is_smooth(inverse).float()
        correction = _blur(beside * weight * found.residual)
        correction = correction / _blur(beside * (weight + precision)).clamp(min=1e-6)
        filtered = inverse * (-(1 - 1 / SCALE_MEMORY) * log_scale - correction).exp()
        total = torch.minimum(weight + precision, self.settings.memory * precision)
        self._carried = _Carried(image, filtered, total, pose)
        return filtered

    def _compare(self, before: _Carried, inverse: Tensor, motion: Tensor) -> _Comparison:
        height, width = inverse.shape
        pixels, z, inside = (
            values[0]
            for values in reproject(1 / inverse[None], motion[None], self.camera, self.camera)
        )
        carried = sample_on_surfaces(before.inverse, pixels, 1 / z)
        x, y = pixels.unbind(-1)
        fx, fy, cx, cy = self.camera.focal_and_centre[0]
        back = se3.inverse(motion)
        along = back[2, 0] * (x - cx) / fx + back[2, 1] * (y - cy) / fy + back[2, 2]
        depth = along / carried + back[2, 3]
        known = inside & (depth > 0)
        residual = (torch.where(known, depth, 1) * inverse).log()
        row, column = y.round().long().clamp(0, height - 1), x.round().long().clamp(0, width - 1)
        return _Comparison(
            torch.where(known, residual, 0), known, pixels, before.weight[row, column]
        )

    def _trust(
        self, found: _Comparison, last_image: Tensor, image: Tensor, inverse: Tensor,
        motion: Tensor, relative: Tensor,
    ) -> Tensor:  # fmt: skip
        """Factor in [0, 1] on the weight of the carried depth, Tukey's of the residual."""
        carried = inverse * (-found.residual).exp()
        by_depth, _, _ = reproject(1 / carried[None], motion[None], self.camera, self.camera)
        views = sample(last_image[None], torch.stack([found.pixels, by_depth[0]])[None])[0]
        views = torch.cat([views.transpose(0, 1), last_image[None]])[:, None]
        losses = photometric_loss(views, target_statistics(image[None]))
        losses = F.avg_pool2d(losses, WINDOW, 1, WINDOW // 2, count_include_pad=False)[:, 0]
        by_new, by_carried, unmoved = (losses + IMAGE_NOISE).unbind(0)
        if float(losses.amin(0).median()) > MAX_IMAGE_LOSS:
            return torch.zeros_like(inverse)
        own = 1.4826 * float(found.residual[found.known].abs().median())
        last = self._deviation
        self._deviation = own if last is None else FORGETTING * last + (1 - FORGETTING) * own
        unit = self._deviation * relative
        agreement = (torch.minimum(by_new, unmoved) / by_carried).clamp(max=1)
        gate = GATE * agreement**IMAGE_POWER * unit
        trust = (1 - (found.residual / gate.clamp(min=1e-6)).square()).clamp(min=0).square()
        return torch.where(found.known, trust, 0)


def _relative(deviation: Tensor | None, inverse: Tensor) -> Tensor:
    """Deviation over its median. What is common to all views, most of a network's error, does not flicker:
    only where depth is surer than elsewhere is taken from the deviation, how much it flickers is measured."""
    if deviation is None:
        return torch.ones_like(inverse)
    return (deviation / deviation.median()).clamp(
        1 / MAX_RELATIVE_DEVIATION, MAX_RELATIVE_DEVIATION
    )


def _is_smooth(inverse: Tensor) -> Tensor:
    """Where there is no border."""
    logs = inverse.log()[None, None]
    span = F.max_pool2d(logs, 3, 1, 1) + F.max_pool2d(-logs, 3, 1, 1)
    return span[0, 0] < MAX_SMOOTH_STEP


def _blur(values: Tensor) -> Tensor:
    blurred = values[None, None]
    for _ in range(2):
        blurred = F.avg_pool2d(blurred, BLUR, 1, BLUR // 2, count_include_pad=False)
    return blurred[0, 0]
