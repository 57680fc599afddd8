"""Supervised losses for exact depth and motion of rendered worlds."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from egodepth.geometry import se3
from egodepth.losses.known_depth import gradients

SCALE_SHARE = 0.2
"""Weight of the absolute log difference, which includes the image's scale; the rest is scale-invariant."""
GRADIENT_WEIGHT = 0.25
"""Weight of each gradient term, relative to depth."""
ROTATION_UNIT = 0.02
"""Rotation error in radians that counts as much as a translation error of 100 %."""
SHORTEST_MOTION = 0.05
"""Added to the length of the true translation, by which its error is divided, in the canonical unit."""


def exact_depth_loss(
    inverse_depth: Float[Tensor, "b 1 h w"], labels: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, "b 1 h w"]:
    """Absolute difference of log depth, mostly scale-invariant per image, and of its gradients
    (Eigen et al., NeurIPS 2014, and Li and Snavely, CVPR 2018, with absolute values).

    Args:
        inverse_depth: predicted, at the size of the labels.
        labels: true inverse depth > 0, and its weight; a gradient has the smaller weight of its two pixels.
    """
    truth, weight = labels.split(1, dim=1)
    error = inverse_depth.log() - truth.log()
    scale = error.detach().flatten(1).median(dim=1).values[:, None, None, None]
    loss = (1 - SCALE_SHARE) * (error - scale).abs() + SCALE_SHARE * error.abs()
    loss = weight * loss
    for dim, step, change in gradients(error):
        length = change.shape[dim]
        both = torch.minimum(weight.narrow(dim, step, length), weight.narrow(dim, 0, length))
        pad = (0, 0, 0, step) if dim == 2 else (0, step)
        loss = loss + GRADIENT_WEIGHT * F.pad(both * change.abs(), pad)
    return loss


def exact_motion_loss(
    predicted: Float[Tensor, "b 6"], motion: Float[Tensor, "b 4 4"], known: Bool[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """Smooth L1 of the rotation error in units of ROTATION_UNIT, and of the relative translation error.

    Args:
        predicted: axis-angle in radians, and translation.
        motion: true motion.
        known: whether the true motion is known; the loss is 0 elsewhere.
    """
    shift = motion[:, :3, 3]
    turn = (predicted[:, :3] - se3.so3_log(motion[:, :3, :3])).norm(dim=1) / ROTATION_UNIT
    move = (predicted[:, 3:] - shift).norm(dim=1) / (shift.norm(dim=1) + SHORTEST_MOTION)
    errors = torch.stack([turn, move])
    both = F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none").sum(0)
    return torch.where(known, both, 0)
