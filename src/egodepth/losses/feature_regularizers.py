"""Feature regularizers for matching: gradients everywhere (L_dis), wide basins of convergence (L_cvt)."""

from jaxtyping import Float
from torch import Tensor

from egodepth.losses.smoothness import (
    first_order_smoothness,
    gradient_x,
    gradient_y,
    on_full_map,
)


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
