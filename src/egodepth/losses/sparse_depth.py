"""Depth at single points that were found by other means, such as structure from motion."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.warp import sample

ROUNDING = 0.1
"""Differences of logarithms well below this cost little: 10 % of the depth."""


def sparse_depth_loss(
    inverse_depth: Float[Tensor, "b 1 h w"], points: Float[Tensor, "b p 3"]
) -> Float[Tensor, "b p"]:
    """Robust difference of the logarithms of predicted and known inverse depth; wrong points lose
    their weight: log(1 + x^2 / (2 s^2)) with s of 10 %.

    Args:
        inverse_depth: predicted.
        points: x and y in pixels of the prediction, and inverse depth in the same unit; 0 where there
            is no point.

    Returns:
        Zero where there is no point.
    """
    known = points[..., 2] > 0
    predicted = sample(inverse_depth, points[:, :, None, :2])[:, 0, :, 0]
    truth = torch.where(known, points[..., 2], torch.ones_like(predicted))
    error = (predicted / truth).log() / ROUNDING
    return torch.where(known, torch.log1p(error.square() / 2), torch.zeros_like(error))
