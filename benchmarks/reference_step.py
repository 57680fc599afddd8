"""The objective written down the way the paper reads: what egodepth's is compared with.

Every scale and every source by itself: features of both images by the whole encoder, one warp, SSIM with the
moments of both images, smoothness; float32, NCHW. It has the cost structure of the published code (features and
identity terms inside the loop over scales), none of its text, and the same value as
`egodepth.training.objective.compute_objective`. `benchmarks.training_step` runs both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egodepth.geometry import se3
from egodepth.models.cascaded_decoder import CascadedDecoder
from egodepth.models.networks import DepthNet, Networks, PoseNet
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import SnippetBatch

EPSILON = 1e-3
C1, C2 = 0.01**2, 0.03**2


def reference_objective(networks: Networks, batch: SnippetBatch, settings: TrainSettings) -> Tensor:
    """Weighted sum of L_ph, L_fm and both smoothness terms for methods photometric and frozen."""
    assert networks.depth is not None
    inverse_depths = reference_depth(networks.depth, batch.target_input)
    motions = reference_motions(networks.pose, batch, settings.data.directions)
    return reference_losses(networks.features, inverse_depths, motions, batch, settings)


def reference_depth(network: DepthNet, image: Tensor) -> list[Tensor]:
    """Inverse depth, finest first; the cascaded decoder joins doubled maps with the encoder's."""
    decoder = network.decoder
    if not isinstance(decoder, CascadedDecoder):
        return network(image)
    levels, disparities, x = network.encoder(image)[-4:], [], None
    for stage in (3, 2, 1, 0):
        level = levels[stage]
        joined = decoder.reduce[stage](decoder.dropout(level) if stage >= 2 else level)
        if x is not None:
            joined = torch.cat([joined, x, disparities[0]], dim=1)
        x = decoder.pool[stage](F.leaky_relu(decoder.join[stage](joined)))
        x = F.leaky_relu(decoder.merge[stage](x))
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        disparities.insert(0, decoder.heads[stage](x).sigmoid())
    span = network.nearest - network.farthest
    return [network.farthest + span * disparity for disparity in disparities]


def reference_motions(
    pose: PoseNet | None, batch: SnippetBatch, directions: tuple[int, ...]
) -> list[Tensor]:
    """``source_from_target`` of each source, one forward pass each, earlier frame first."""
    assert pose is not None
    motions = []
    for source, way in zip(batch.sources_input, directions, strict=True):
        if way < 0:
            motions.append(se3.inverse(pose.second_from_first(source, batch.target_input)))
        else:
            motions.append(pose.second_from_first(batch.target_input, source))
    return motions


def reference_losses(
    features: nn.Module | None,
    inverse_depths: list[Tensor],
    motions: list[Tensor],
    batch: SnippetBatch,
    settings: TrainSettings,
) -> Tensor:
    """The loss part alone."""
    target, weights = batch.target, settings.loss
    size = target.shape[-2:]
    total = target.new_zeros(())
    for scale, inverse in enumerate(inverse_depths):
        full = F.interpolate(inverse, size, mode="bilinear", align_corners=False)
        losses = []
        for source, motion in zip(batch.sources, motions, strict=True):
            losses.append(photometric(warp(source, 1 / full, motion, batch.camera.matrix), target))
        if settings.automask:
            losses += [photometric(source, target).detach() for source in batch.sources]
        loss = torch.cat(losses, dim=1).min(dim=1)[0].mean()
        total = total + weights.photometric * loss / len(inverse_depths)

        if features is not None:
            losses = []
            with torch.no_grad():
                ours = features.encoder(target)[0].float()
            small = F.interpolate(inverse_depths[0], ours.shape[-2:], mode="area")
            matrix = batch.camera.resize(*ours.shape[-2:]).matrix
            identities = []
            for source, motion in zip(batch.sources, motions, strict=True):
                with torch.no_grad():
                    theirs = features.encoder(source)[0].float()
                losses.append(robust(warp(theirs, 1 / small, motion, matrix) - ours))
                identities.append(robust(theirs - ours))
            if settings.automask:
                losses += identities
            loss = torch.cat(losses, dim=1).min(dim=1)[0].mean()
            total = total + weights.feature_metric * loss / len(inverse_depths)

        image = F.interpolate(target, inverse.shape[-2:], mode="area")
        first, second = smoothness(inverse, image)
        share = 1 / 2**scale / len(inverse_depths)
        total = total + share * (weights.smooth_first * first + weights.smooth_second * second)
    return total


def warp(source: Tensor, depth: Tensor, motion: Tensor, matrix: Tensor) -> Tensor:
    """Points of all target pixels as 4-vectors, moved and projected by matrices, sampled bilinearly."""
    count, _, height, width = depth.shape
    y, x = torch.meshgrid(
        torch.arange(height, dtype=depth.dtype),
        torch.arange(width, dtype=depth.dtype),
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1).expand(count, -1, -1)
    points = torch.inverse(matrix) @ pixels * depth.flatten(2)
    points = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
    projected = matrix @ (motion @ points)[:, :3]
    places = projected[:, :2] / projected[:, 2:].clamp(min=1e-3)
    places = places.view(count, 2, height, width).permute(0, 2, 3, 1)
    size = torch.tensor([source.shape[-1], source.shape[-2]], dtype=depth.dtype)
    return F.grid_sample(
        source, 2 * (places + 0.5) / size - 1, padding_mode="border", align_corners=False
    )


def photometric(prediction: Tensor, target: Tensor) -> Tensor:
    """(B, 1, H, W)."""
    structural = ssim(prediction, target).mean(1, keepdim=True)
    return 0.85 * structural + 0.15 * robust(prediction - target)


def robust(difference: Tensor) -> Tensor:
    """(B, 1, H, W)."""
    return torch.sqrt(difference**2 + EPSILON**2).mean(1, keepdim=True)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """(1 - SSIM) / 2."""
    x, y = F.pad(x, (1, 1, 1, 1), mode="reflect"), F.pad(y, (1, 1, 1, 1), mode="reflect")
    mean_x, mean_y = F.avg_pool2d(x, 3, 1), F.avg_pool2d(y, 3, 1)
    var_x = F.avg_pool2d(x**2, 3, 1) - mean_x**2
    var_y = F.avg_pool2d(y**2, 3, 1) - mean_y**2
    both = F.avg_pool2d(x * y, 3, 1) - mean_x * mean_y
    above = (2 * mean_x * mean_y + C1) * (2 * both + C2)
    below = (mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2)
    return torch.clamp((1 - above / below) / 2, 0, 1)


def smoothness(inverse: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Means of both orders."""
    values = inverse / (inverse.mean((2, 3), keepdim=True) + 1e-7)

    def along(v: Tensor) -> Tensor:
        return v[..., 1:] - v[..., :-1]

    def down(v: Tensor) -> Tensor:
        return v[..., 1:, :] - v[..., :-1, :]

    def weighted(g: Tensor, i: Tensor) -> Tensor:
        return (g.abs() * torch.exp(-i.abs().mean(1, keepdim=True))).mean()

    first = sum(weighted(g(values), g(image)) for g in (along, down))
    second = sum(
        weighted(outer(g(values)), outer(g(image)))
        for g in (along, down)
        for outer in (along, down)
    )
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    return first, second
