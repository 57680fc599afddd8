"""Edge-aware smoothness of inverse depth, first and second order (paper, section 3.2)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def gradient_x(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w2"]:
    """Forward difference along x, one column narrower."""
    return values[..., :, 1:] - values[..., :, :-1]


def gradient_y(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w"]:
    """Forward difference along y, one row lower."""
    return values[..., 1:, :] - values[..., :-1, :]


def mean_normalized(inverse_depth: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Inverse depth divided by its mean, so that shrinking the depth does not lower the loss."""
    return inverse_depth / (inverse_depth.mean((2, 3), keepdim=True) + 1e-7)


def first_order_smoothness(
    values: Float[Tensor, "b 1 h w"], image: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b h w"]:
    """|dx| exp(-|dx I|) + |dy| exp(-|dy I|), zero in the last column or row of each difference."""
    x = _edge_weighted(gradient_x(values), gradient_x(image))
    y = _edge_weighted(gradient_y(values), gradient_y(image))
    return F.pad(x, (0, 1)) + F.pad(y, (0, 0, 0, 1))


def second_order_smoothness(
    values: Float[Tensor, "b 1 h w"], image: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b h w"]:
    """|d2 values| exp(-|d2 I|), summed over xx, xy, yx and yy; slanted planes cost nothing."""
    total = values.new_zeros(values.shape[0], *values.shape[2:])
    for outer, first in (
        (gradient_x, gradient_x),
        (gradient_x, gradient_y),
        (gradient_y, gradient_x),
        (gradient_y, gradient_y),
    ):
        term = _edge_weighted(outer(first(values)), outer(first(image)))
        rows, columns = term.shape[-2:]
        total = total + F.pad(term, (0, total.shape[-1] - columns, 0, total.shape[-2] - rows))
    return total


def _edge_weighted(values: Tensor, image: Tensor) -> Tensor:
    return (values.abs() * (-image.abs().mean(1, keepdim=True)).exp()).squeeze(1)
