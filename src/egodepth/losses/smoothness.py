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
    """Inverse depth divided by its mean, so that shrinking it does not lower the loss."""
    return inverse_depth / (inverse_depth.mean((2, 3), keepdim=True) + 1e-7)


def first_order_smoothness(
    values: Float[Tensor, "b c h w"], image: Float[Tensor, "b 3 h w"], sharpness: float = 1.0
) -> Float[Tensor, "b h w"]:
    """|dx| exp(-s |dx I|) + |dy| exp(-s |dy I|), averaged over channels.

    The mean of the map is the sum of the means of both differences.

    Args:
        values: inverse depth, or features.
        image: the frame at the size of ``values``.
        sharpness: s, sensitivity to image edges; the published code uses 0.5.
    """
    size = values.shape[-2:]
    x, y = (
        on_full_map(edge_weighted(gradient(values), gradient(image), sharpness), *size)
        for gradient in (gradient_x, gradient_y)
    )
    return x + y


def second_order_smoothness(
    values: Float[Tensor, "b c h w"], image: Float[Tensor, "b 3 h w"], sharpness: float = 1.0
) -> Float[Tensor, "b h w"]:
    """|d2 values| exp(-s |d2 I|), summed over xx, xy, yx and yy; zero for slanted planes.

    Arguments and mean as in :func:`first_order_smoothness`.
    """
    total = values.new_zeros(values.shape[0], *values.shape[2:])
    for first in (gradient_x, gradient_y):
        for outer in (gradient_x, gradient_y):
            term = edge_weighted(outer(first(values)), outer(first(image)), sharpness)
            total = total + on_full_map(term, *total.shape[-2:])
    return total


def edge_weighted(
    gradient: Float[Tensor, "b c h w"], image_gradient: Float[Tensor, "b 3 h w"], sharpness: float
) -> Float[Tensor, "b h w"]:
    """Magnitude of a gradient, averaged over channels and weighted down at image edges."""
    weight = (-sharpness * image_gradient.abs().mean(1)).exp()
    return gradient.abs().mean(1) * weight


def on_full_map(
    differences: Float[Tensor, "b h2 w2"], height: int, width: int
) -> Float[Tensor, "b h w"]:
    """Pad differences with zeros to the full size, scaled so that their mean is preserved."""
    rows, columns = differences.shape[-2:]
    scale = height * width / max(rows * columns, 1)
    return F.pad(scale * differences, (0, width - columns, 0, height - rows))
