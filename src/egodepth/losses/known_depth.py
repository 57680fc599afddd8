"""Losses for known depth: sparse points, or dense labels with confidence."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry.warp import sample

ROUNDING = 0.1
"""Scale of the robust loss in log depth, 10 % of the depth; it is quadratic well below."""
GRADIENT_STEPS = (1, 2, 4, 8)
"""Distances in pixels over which gradients are taken."""


def robust_log_difference(
    prediction: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Robust loss log(1 + x^2 / (2 s^2)) of the log difference x, with s = ROUNDING. Zero where ``truth`` is 0,
    for unknown."""
    return _robust(_log_difference(prediction, truth))


def _log_difference(prediction: Tensor, truth: Tensor) -> Tensor:
    known = truth > 0
    return torch.where(known, (prediction / torch.where(known, truth, 1)).log(), 0)


def _robust(difference: Tensor) -> Tensor:
    return torch.log1p((difference / ROUNDING).square() / 2)


def sparse_depth_loss(
    inverse_depth: Float[Tensor, "b 1 h w"], points: Float[Tensor, "b p 3"]
) -> Float[Tensor, "b p"]:
    """Robust log difference of predicted and known inverse depth at sparse points.

    Args:
        inverse_depth: predicted.
        points: x and y in pixels of the prediction, and inverse depth in the same unit; 0 where there
            is no point.

    Returns:
        Loss per point; zero where there is none.
    """
    predicted = sample(inverse_depth, points[:, :, None, :2])[:, 0, :, 0]
    return robust_log_difference(predicted, points[..., 2])


def dense_depth_loss(
    inverse_depth: Float[Tensor, "b s h w"], labels: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, ""]:
    """Robust log difference of predicted and labelled inverse depth, averaged over scales and, weighted by
    confidence, over pixels.

    Args:
        inverse_depth: predicted, at S scales resized to one size.
        labels: inverse depth in the same unit, 0 where unknown, and confidence between 0 and 1.
    """
    truth, confidence = labels.split(1, dim=1)
    difference = robust_log_difference(inverse_depth, truth.expand_as(inverse_depth))
    return weighted_mean(difference, confidence)


def dense_gradient_loss(
    inverse_depth: Float[Tensor, "b s h w"], labels: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, ""]:
    """Robust difference of the gradients of predicted and labelled log inverse depth, which makes surfaces as
    smooth and edges as sharp as in the labels.

    Gradients are differences of pixels GRADIENT_STEPS apart, horizontal and vertical. The mean is over pairs
    of labelled pixels, weighted by the smaller of both confidences.

    Args:
        inverse_depth, labels: as for :func:`dense_depth_loss`.
    """
    truth, confidence = labels.split(1, dim=1)
    error = _log_difference(inverse_depth, truth.expand_as(inverse_depth))
    weight = torch.where(truth > 0, confidence, 0)
    losses = []
    for dim, step, change in gradients(error):
        length = change.shape[dim]
        both = torch.minimum(weight.narrow(dim, step, length), weight.narrow(dim, 0, length))
        losses.append(weighted_mean(_robust(change), both))
    return torch.stack(losses).mean()


def gradients(values: Float[Tensor, "b s h w"]) -> Iterator[tuple[int, int, Tensor]]:
    """Differences of pixels GRADIENT_STEPS apart, vertical (dimension 2) and horizontal (3), as (dimension,
    step, differences); steps that do not fit into the image are left out."""
    for step in GRADIENT_STEPS:
        for dim in (2, 3):
            length = values.shape[dim] - step
            if length > 0:
                yield dim, step, values.narrow(dim, step, length) - values.narrow(dim, 0, length)


def weighted_mean(
    values: Float[Tensor, "b s h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """Mean over scales, and weighted mean over pixels; the total weight is at least 1."""
    return (weight * values).mean(1).sum() / weight.sum().clamp(min=1)
