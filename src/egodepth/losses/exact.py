"""Losses to exact depth and motion, as rendered worlds have them."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from egodepth.geometry import se3

SCALE_SHARE = 0.2
"""Share of the absolute difference that counts an image's scale too."""
GRADIENT_STEPS = (1, 2, 4, 8)
"""Pixels between the ends of the differences that are compared."""
GRADIENT_WEIGHT = 0.25
"""Weight of each difference beside the depth itself."""
ROTATION_UNIT = 0.02
"""Radians of rotation that weigh as much as a translation that is off by its own length."""
SHORTEST_MOTION = 0.05
"""Added to the length that a translation's error is compared with, in the canonical unit."""


def exact_depth_loss(
    inverse_depth: Float[Tensor, "b 1 h w"], labels: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, "b 1 h w"]:
    """Absolute difference of the logarithms of predicted and true depth, mostly without each image's scale, and
    of its gradients (Eigen et al., NeurIPS 2014, and Li and Snavely, CVPR 2018, with absolute values).

    Args:
        inverse_depth: predicted, at the size of the labels.
        labels: true inverse depth > 0, and the weight of its absolute difference.
    """
    truth, weight = labels.split(1, dim=1)
    error = inverse_depth.log() - truth.log()
    scale = error.detach().flatten(1).median(dim=1).values[:, None, None, None]
    loss = (1 - SCALE_SHARE) * (error - scale).abs() + SCALE_SHARE * error.abs()
    loss = weight * loss
    for step in GRADIENT_STEPS:
        for dim in (2, 3):
            if error.shape[dim] <= step:
                continue
            length = error.shape[dim] - step
            change = error.narrow(dim, step, length) - error.narrow(dim, 0, length)
            pad = (0, 0, 0, step) if dim == 2 else (0, step)
            loss = loss + GRADIENT_WEIGHT * F.pad(change.abs(), pad)
    return loss


def exact_motion_loss(
    predicted: Float[Tensor, "b 6"], motion: Float[Tensor, "b 4 4"], known: Bool[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """Smooth L1 of the rotation's error in units of ROTATION_UNIT, and of the translation's over its length.

    Args:
        predicted: axis-angle in radians, and translation.
        motion: true.
        known: whether it is; the loss of others is 0.
    """
    shift = motion[:, :3, 3]
    turn = (predicted[:, :3] - se3.so3_log(motion[:, :3, :3])).norm(dim=1) / ROTATION_UNIT
    move = (predicted[:, 3:] - shift).norm(dim=1) / (shift.norm(dim=1) + SHORTEST_MOTION)
    errors = torch.stack([turn, move])
    both = F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none").sum(0)
    return torch.where(known, both, 0)
