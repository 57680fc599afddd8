"""Augmentation of whole snippets, including cameras, motions and labels."""

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from egodepth.geometry.camera import Camera
from egodepth.training.batch import RawBatch, SnippetBatch

BRIGHTNESS = CONTRAST = SATURATION = 0.2
HUE = 0.1
"""Half-widths of the uniform colour jitter, hue in turns, with the values commonly used in the field."""
_YIQ_FROM_RGB = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)


def random_colour_matrices(count: int, generator: torch.Generator) -> Float[Tensor, "n 3 4"]:
    """Random affine colour transforms: brightness, contrast around mid grey, saturation and hue.

    Hue and saturation act on the chroma plane of YIQ, so that all four combine into one 3x4
    matrix.
    """
    low_high = torch.rand(count, 4, generator=generator) * 2 - 1
    brightness = 1 + BRIGHTNESS * low_high[:, 0]
    contrast = 1 + CONTRAST * low_high[:, 1]
    saturation = 1 + SATURATION * low_high[:, 2]
    hue = 2 * math.pi * HUE * low_high[:, 3]
    chroma = torch.zeros(count, 3, 3)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * hue.cos()
    chroma[:, 1, 2], chroma[:, 2, 1] = -saturation * hue.sin(), saturation * hue.sin()
    linear = torch.linalg.inv(_YIQ_FROM_RGB) @ chroma @ _YIQ_FROM_RGB
    linear = linear * (brightness * contrast)[:, None, None]
    offset = (0.5 * (1 - contrast))[:, None, None].expand(-1, 3, 1)
    return torch.cat([linear, offset], dim=2)


def change_colours(
    images: Float[Tensor, "n b 3 h w"], matrices: Float[Tensor, "b 3 4"]
) -> Float[Tensor, "n b 3 h w"]:
    """Apply one colour transform per snippet to its N frames, and clamp to [0, 1]."""
    red, green, blue, offset = matrices[..., None, None].unbind(2)
    # Three passes over the images; a matrix product takes longer.
    changed = torch.addcmul(offset, images[:, :, :1], red)
    changed.addcmul_(images[:, :, 1:2], green).addcmul_(images[:, :, 2:], blue)
    return changed.clamp_(0, 1)


def flip_images(images: Shaped[Tensor, "*n b c h w"], flips: Bool[Tensor, "b"]) -> Tensor:
    """Flip the images selected by ``flips`` horizontally; any dtype."""
    return torch.where(flips[:, None, None, None], images.flip(-1), images)


def flip_some(
    images: Shaped[Tensor, "n b c h w"], camera: Camera, flips: Bool[Tensor, "b"]
) -> tuple[Shaped[Tensor, "n b c h w"], Camera]:
    """Flip the snippets selected by ``flips`` horizontally: all frames (any dtype) and the camera."""
    images = flip_images(images, flips)
    matrix = torch.where(flips[:, None, None], camera.flip().matrix, camera.matrix)
    return images, Camera(matrix, camera.height, camera.width)


def flip_motions(
    motions: Float[Tensor, "s b 4 4"], flips: Bool[Tensor, "b"]
) -> Float[Tensor, "s b 4 4"]:
    """Flip motions to match flipped images, by negating x in both coordinate frames."""
    mirrored = motions.clone()
    mirrored[..., 0, :].neg_()
    mirrored[..., :, 0].neg_()
    return torch.where(flips[:, None, None], mirrored, motions)


def flip_points(
    points: Float[Tensor, "b p 3"], flips: Bool[Tensor, "b"], width: int
) -> Float[Tensor, "b p 3"]:
    """Flip points (x, y, any value) to match flipped images: x becomes W - 1 - x."""
    mirrored = torch.cat([width - 1 - points[..., :1], points[..., 1:]], dim=-1)
    return torch.where(flips[:, None, None], mirrored, points)


FLIP_PROBABILITY = JITTER_PROBABILITY = 0.5


def augment(raw: RawBatch, seed: int, *, enabled: bool = True) -> SnippetBatch:
    """Convert frames to floats, with random flips and colour jitter determined by ``seed``."""
    levels = raw.frames
    camera = Camera(raw.matrix, *levels.shape[-2:])
    motions, partner_motion = raw.motions, raw.partner_motion
    points, static = raw.points, raw.static
    dense = None if raw.dense is None else raw.dense.float()
    count = levels.shape[1]
    generator = torch.Generator().manual_seed(seed)
    chances = torch.rand(2, count, generator=generator)
    if enabled:
        flips = (chances[0] < FLIP_PROBABILITY).to(levels.device, non_blocking=True)
        # Flip while the frames are still bytes, a quarter of the size of floats.
        if static is not None:
            static = flip_images(static, flips)
        levels, camera = flip_some(levels, camera, flips)
        if motions is not None:
            motions = flip_motions(motions, flips)
        if partner_motion is not None:
            partner_motion = flip_motions(partner_motion, flips)
        if points is not None:
            points = flip_points(points, flips, camera.width)
        if dense is not None:
            dense = flip_images(dense, flips)
    frames = levels.float().div_(255)
    inputs = frames
    if enabled:
        changes = chances[1] < JITTER_PROBABILITY
        matrices = random_colour_matrices(count, generator)
        matrices = torch.where(changes[:, None, None], matrices, torch.eye(3, 4))
        inputs = change_colours(frames, matrices.to(frames.device, non_blocking=True))
    return SnippetBatch(
        frames[0], frames[1:], inputs[0], inputs[1:], camera, motions, partner_motion, points, static, dense
    )  # fmt: skip
