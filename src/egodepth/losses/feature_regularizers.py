"""Feature regularizers for matching: gradients everywhere (L_dis), wide basins of convergence (L_cvt)."""

from jaxtyping import Float
from torch import Tensor

from egodepth.losses.smoothness import (
    first_order_smoothness,
    gradient_x,
    gradient_y,
    on_full_map,
)

MIN_SPREAD = 1e-3
"""Smallest standard deviation that a channel is divided by; one that varies less has nothing to regularize."""


def normalized(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Features divided by the standard deviation of their channel over the batch, with its gradient.

    L_dis and L_cvt of the features themselves both fall in magnitude when all features shrink, which is the
    easiest way to lower their sum. Of normalized features they measure how smooth features are, whatever their
    size; not in the paper.
    """
    variance = features.transpose(0, 1).flatten(1).var(1, correction=0)
    return features / (variance + MIN_SPREAD**2).sqrt().view(-1, 1, 1)


def discriminative_loss(
    features: Float[Tensor, "b c h w"], image: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, "b h w"]:
    """L_dis: negative first-order gradients of the features, weighted by exp(-|grad I|) so that
    they grow where the image has none (paper, eq. 6).

    Args:
        features: features of a frame.
        image: the frame at the size of the features.
    """
    return -first_order_smoothness(features, image)


def convergent_loss(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """L_cvt: second-order gradients of the features, xx, xy, yx and yy. Small ones keep the
    first-order gradients consistent over a wide neighbourhood (paper, eq. 7).

    The published code weights them by image edges instead:
    :func:`~egodepth.losses.smoothness.second_order_smoothness` of the features.
    """
    total = features.new_zeros(features.shape[0], *features.shape[2:])
    for first in (gradient_x, gradient_y):
        for outer in (gradient_x, gradient_y):
            term = outer(first(features)).abs().mean(1)
            total = total + on_full_map(term, *total.shape[-2:])
    return total


def reconstruction_loss(
    reconstruction: Float[Tensor, "b c h w"], image: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b h w"]:
    """L_rec: L1 between the auto-encoder's output and its input (paper, eq. 5)."""
    return (reconstruction - image).abs().mean(1)
