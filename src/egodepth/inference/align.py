"""Direct alignment of two images: the motion between them, given a run's depth, from images or features."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.core.errors import EgodepthError
from egodepth.geometry.alignment import Alignment, AlignSettings, align
from egodepth.geometry.alignment_residual import State
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import require_rigid
from egodepth.geometry.pyramid import MIN_LEVEL_ROWS, image_pyramid, make_levels
from egodepth.inference.arguments import check_camera, check_run
from egodepth.models.networks import FeatureNet
from egodepth.runs.images import ImageLike, load_pair
from egodepth.runs.run import Run

IMAGE_REDUCTIONS = (8, 4, 2, 1)
FEATURE_LEVELS = 3


@torch.no_grad()
def make_maps(images: Float[Tensor, "b 3 h w"], features: FeatureNet | None) -> list[Tensor]:
    """Make maps to align, coarsest first: levels of a FeatureNet, or without one, images at four sizes.

    Args:
        images: in [0, 1].
        features: network, in its current mode.
    """
    if features is None:
        return image_pyramid(images.float(), IMAGE_REDUCTIONS)
    maps = features.features(images, FEATURE_LEVELS)[::-1]
    return [m.float() for m in maps if min(m.shape[-2:]) >= MIN_LEVEL_ROWS]


def align_images(
    run: Run,
    target: ImageLike,
    source: ImageLike,
    camera: Camera,
    *,
    start: np.ndarray | None = None,
    settings: AlignSettings | None = None,
    features: FeatureNet | None = None,
) -> Alignment:
    """Estimate the motion ``source_from_target`` between two images of one camera from the target's predicted
    depth.

    Args:
        run: trained networks.
        target, source: images; depth is predicted for the target.
        camera: of the images, at their size, unbatched.
        start: (4, 4) initial motion; by default PoseNet's, or the identity without a PoseNet.
        settings: unknowns to solve for; by default motion, gain and bias, or on features only motion.
        features: compare this network's features instead of the images.

    Returns:
        A batch of one: state with the motion in the run's unit, covariance, and ``trusted``.

    Raises:
        EgodepthError: a missing or broken image, an image whose size is not the camera's, or an argument of a
            wrong type or shape.
    """
    check_run(run)
    check_camera(camera)
    if start is not None and np.shape(start) != (4, 4):
        raise EgodepthError(f"start must be a motion (4, 4), got shape {np.shape(start)}")
    if start is not None:
        require_rigid(np.asarray(start, np.float64), "start")
    images = load_pair(target, source)
    for image in images:
        if image.shape[:2] != (camera.height, camera.width):
            raise EgodepthError(
                f"the camera is for {camera.width}x{camera.height} pixels, but an image is "
                f"{image.shape[1]}x{image.shape[0]}; camera.resize(height, width) makes one for it"
            )
    first, second = (run.prepare(image)[None] for image in images)
    height, width = first.shape[-2:]
    if start is None and run.has_motion:
        start = run.motions_of_frames(first, second)[0]
    begin = torch.eye(4) if start is None else torch.from_numpy(np.asarray(start)).float()
    depth = torch.from_numpy(run.depth_of_frames(first, height, width))
    small = camera.to(torch.float32).resize(height, width)
    levels = make_levels(
        [m.cpu() for m in make_maps(first, features)],
        [m.cpu() for m in make_maps(second, features)],
        1 / depth,
        Camera(small.matrix[None], height, width),
    )
    settings = settings or AlignSettings(iterations=30, brightness=features is None)
    return align(levels, State.start(begin[None]), settings)
