"""Losses to known depth: at sparse points, or dense with a confidence."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.warp import sample

ROUNDING = 0.1
"""Differences of logarithms well below this cost little: 10 % of the depth."""


def robust_log_difference(
    prediction: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """log(1 + x^2 / (2 s^2)) of the difference x of logarithms, with s of 10 %: wrong values lose their weight.
    Zero where ``truth`` is 0, for unknown."""
    known = truth > 0
    error = (prediction / torch.where(known, truth, 1)).log() / ROUNDING
    return torch.where(known, torch.log1p(error.square() / 2), 0)


def sparse_depth_loss(
    inverse_depth: Float[Tensor, "b 1 h w"], points: Float[Tensor, "b p 3"]
) -> Float[Tensor, "b p"]:
    """Robust difference of the logarithms of predicted and known inverse depth at points.

    Args:
        inverse_depth: predicted.
        points: x and y in pixels of the prediction, and inverse depth in the same unit; 0 where there
            is no point.

    Returns:
        Zero where there is no point.
    """
    predicted = sample(inverse_depth, points[:, :, None, :2])[:, 0, :, 0]
    return robust_log_difference(predicted, points[..., 2])


def dense_depth_loss(
    inverse_depth: Float[Tensor, "b s h w"], labels: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, "b s h w"]:
    """Robust difference of the logarithms of predicted and labelled inverse depth, times the label's
    confidence.

    Args:
        inverse_depth: predicted, at S scales brought to one size.
        labels: inverse depth in the same unit, 0 where unknown, and confidence between 0 and 1.
    """
    truth, confidence = labels.split(1, dim=1)
    return confidence * robust_log_difference(inverse_depth, truth.expand_as(inverse_depth))
