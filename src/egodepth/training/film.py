"""Augmentation of rendered images, so that networks trained on them work on photos."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

GAMMA = (0.7, 1.4)
GREY_PROBABILITY, BLUR_PROBABILITY, NOISE_PROBABILITY = 0.08, 0.2, 0.3
MAX_NOISE, SMALLEST_BLUR = 0.04, 0.4
"""Maximum standard deviation of the noise, and minimum scale to which an image is shrunk for blurring."""


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
