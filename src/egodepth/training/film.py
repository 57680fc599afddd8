"""Augmentation of rendered images, so that networks trained on them work on photos."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

GAMMA = (0.7, 1.4)
GREY_PROBABILITY, BLUR_PROBABILITY, NOISE_PROBABILITY = 0.08, 0.2, 0.3
MAX_NOISE, SMALLEST_BLUR = 0.04, 0.4
"""Maximum standard deviation of the noise, and minimum scale to which an image is shrunk for blurring."""
STYLE_PROBABILITY = 0.5
"""Probability of each change of style."""
CURVE = (0.6, 1.6)
"""Gamma of each colour channel."""
MAX_FILTER, MAX_SHADE, MAX_MIXED, MAX_SHARPENING = 0.15, 0.5, 0.2, 1.5
"""Standard deviation of the random filter's weights, largest relative change of brightness across the image,
largest share of another image, and largest factor by which details are amplified."""
SHADES = (3, 5)
"""Rows and columns of the random brightness that is interpolated over the image."""


def vary_film(
    images: Float[Tensor, "n b 3 h w"], generator: torch.Generator
) -> Float[Tensor, "n b 3 h w"]:
    """Simulate different cameras: gamma, missing colours, blur and noise; the same camera for all N frames of a
    snippet."""
    count, device = images.shape[1], images.device

    def uniform(low: float, high: float) -> Tensor:
        values = low + (high - low) * torch.rand(count, generator=generator)
        return values[:, None, None, None].to(device)

    def chance(probability: float) -> Tensor:
        return (torch.rand(count, generator=generator) < probability)[:, None, None, None]

    images = images.clamp(min=1e-4) ** uniform(*GAMMA)
    images = torch.where(chance(GREY_PROBABILITY).to(device), images.mean(2, keepdim=True), images)
    share = SMALLEST_BLUR + (0.9 - SMALLEST_BLUR) * float(torch.rand((), generator=generator))
    blurred = chance(BLUR_PROBABILITY)
    if bool(blurred.any()):
        flat = images.flatten(0, 1)
        small = F.interpolate(flat, scale_factor=share, mode="bilinear", align_corners=False)
        large = F.interpolate(small, flat.shape[-2:], mode="bilinear", align_corners=False)
        images = torch.where(blurred.to(device), large.view_as(images), images)
    deviation = uniform(0, MAX_NOISE) * chance(NOISE_PROBABILITY).to(device)
    noise = torch.randn(images.shape, generator=generator).to(device)
    return (images + deviation * noise).clamp(0, 1)


def vary_style(
    images: Float[Tensor, "b 3 h w"], generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Change how images are drawn without moving anything: tone curves of each channel, a random filter,
    shading across the image, a faint second image, and sharpening.

    Colours and textures of rendered worlds differ from those of photos in ways that a network would learn; a
    random filter changes them at random, while shapes stay (Xu et al., "Robust and generalizable visual
    representation learning via random convolutions", ICLR 2021).

    Args:
        images: in [0, 1].
        generator: on the CPU.
    """
    count, device, size = len(images), images.device, images.shape[-2:]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(count, *shape, generator=generator)).to(device)

    def sometimes(changed: Tensor, images: Tensor) -> Tensor:
        chosen = torch.rand(count, generator=generator) < STYLE_PROBABILITY
        return torch.where(chosen[:, None, None, None].to(device), changed.clamp(0, 1), images)

    images = sometimes(images.clamp(min=1e-4) ** uniform(*CURVE, 3, 1, 1), images)
    kernels = MAX_FILTER * torch.randn(3 * count, 3, 3, 3, generator=generator).to(device)
    drawn = F.conv2d(images.reshape(1, -1, *size), kernels, padding=1, groups=count)
    drawn = drawn.view_as(images)
    images = sometimes(images + drawn - drawn.mean((2, 3), keepdim=True), images)
    shade = F.interpolate(uniform(-1, 1, 1, *SHADES), size, mode="bicubic", align_corners=False)
    images = sometimes(images * (1 + MAX_SHADE * shade), images)
    share = uniform(0, MAX_MIXED, 1, 1, 1)
    images = sometimes((1 - share) * images + share * images.roll(1, 0), images)
    smooth = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return sometimes(images + uniform(0, MAX_SHARPENING, 1, 1, 1) * (images - smooth), images)
