"""Losses to known depth: at sparse points, or dense with a confidence."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.warp import sample

ROUNDING = 0.1
"""Differences of logarithms well below this cost little: 10 % of the depth."""
GRADIENT_STEPS = (1, 2, 4, 8)
"""Pixels between the ends of the differences that are compared."""


def robust_log_difference(
    prediction: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """log(1 + x^2 / (2 s^2)) of the difference x of logarithms, with s of 10 %: wrong values lose their weight.
    Zero where ``truth`` is 0, for unknown."""
    return _robust(_log_difference(prediction, truth))


def _log_difference(prediction: Tensor, truth: Tensor) -> Tensor:
    known = truth > 0
    return torch.where(known, (prediction / torch.where(known, truth, 1)).log(), 0)


def _robust(difference: Tensor) -> Tensor:
    return torch.log1p((difference / ROUNDING).square() / 2)


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
) -> Float[Tensor, ""]:
    """Robust difference of the logarithms of predicted and labelled inverse depth, mean over scales and over
    the labelled pixels by their confidence.

    Args:
        inverse_depth: predicted, at S scales brought to one size.
        labels: inverse depth in the same unit, 0 where unknown, and confidence between 0 and 1.
    """
    truth, confidence = labels.split(1, dim=1)
    difference = robust_log_difference(inverse_depth, truth.expand_as(inverse_depth))
    return weighted_mean(difference, confidence)


def dense_gradient_loss(
    inverse_depth: Float[Tensor, "b s h w"], labels: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, ""]:
    """Robust difference of the gradients of the logarithms of predicted and labelled inverse depth: surfaces
    become smooth where labels are, and borders sharp where labels have them.

    Gradients are differences of pixels GRADIENT_STEPS apart, across and down; the mean of those whose ends
    both have labels, by the smaller of their confidences.

    Args:
        inverse_depth, labels: as for :func:`dense_depth_loss`.
    """
    truth, confidence = labels.split(1, dim=1)
    error = _log_difference(inverse_depth, truth.expand_as(inverse_depth))
    weight = torch.where(truth > 0, confidence, 0)
    losses = []
    for dim in (-2, -1):
        for step in GRADIENT_STEPS:
            length = error.shape[dim] - step
            if length <= 0:
                continue
            change = error.narrow(dim, step, length) - error.narrow(dim, 0, length)
            both = torch.minimum(weight.narrow(dim, step, length), weight.narrow(dim, 0, length))
            losses.append(weighted_mean(_robust(change), both))
    return torch.stack(losses).mean()


def weighted_mean(
    values: Float[Tensor, "b s h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """Mean over scales and over pixels by their weight; 0 where all weigh nothing."""
    return (weight * values).mean(1).sum() / weight.sum().clamp(min=1)
