"""Depth of a frame from posed neighbours: plane sweep, semi-global smoothing, agreement between views.

Collins, "A space-sweep approach to true multi-image matching", CVPR 1996; Hirschmueller, "Stereo processing by
semiglobal matching and mutual information", PAMI 2008. Everything is batched and runs on any device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import reproject, sample, sweep

WINDOW = 5
"""Side length in pixels of the window of local contrast and of the cost."""
CONTRAST_FLOOR = 0.01
"""Standard deviation of the noise of grey levels in [0, 1]."""
MAX_COST = 1.5
"""Truncation of the cost: larger differences are outliers or occlusions."""
LABELS_AT_ONCE = 8
"""Labels per chunk of the cost volume, so that it stays in the cache."""
PLANES, BAND, REFINEMENT = 64, 16, 2
"""Planes over the whole range at half the size, labels of the band searched at full size, and how many times
finer these are."""


@dataclass(frozen=True)
class Smoothing:
    """Penalties of semi-global smoothing for label changes between neighbouring pixels, in units of the cost.

    Attributes:
        small: for a step of one label.
        large: for any larger step, where the image is flat.
        contrast: difference of neighbouring grey levels at which ``large`` is halved.
    """

    small: float = 0.1
    large: float = 1.0
    contrast: float = 0.05


Describe = Callable[[Tensor], Tensor]
"""Function from images (B, 3, H, W) to maps (B, C, H, W) whose summed absolute differences are the cost."""


def local_contrast(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Grey levels minus their mean over a window, divided by their standard deviation in it: invariant to
    exposure and shading."""
    grey = image.mean(1, keepdim=True)
    mean = _box_mean(grey)
    variance = (_box_mean(grey.square()) - mean.square()).clamp(min=0)
    return (grey - mean) / (variance + CONTRAST_FLOOR**2).sqrt()


@dataclass(frozen=True)
class Labels:
    """Candidate inverse depths per pixel: label k stands for (first + k) * step. Equal steps of inverse depth
    are equal steps of parallax.

    Attributes:
        first: (B, H, W), or (B, 1, 1) if it is the same for all pixels.
        step: (B,) of inverse depth.
        count: labels per pixel.
    """

    first: Int64[Tensor, "b _ _"]
    step: Float[Tensor, " b"]
    count: int

    @classmethod
    def planes(cls, nearest: Float[Tensor, " b"], count: int) -> "Labels":
        """Labels from infinity to the nearest depth."""
        first = torch.zeros(len(nearest), 1, 1, dtype=torch.int64, device=nearest.device)
        return cls(first, 1 / (nearest * (count - 1)), count)

    @classmethod
    def around(
        cls, inverse_depth: Float[Tensor, "b h w"], step: Float[Tensor, " b"], count: int
    ) -> "Labels":
        """Labels in a band around a known inverse depth."""
        middle = (inverse_depth / step[:, None, None]).round().long()
        return cls((middle - count // 2).clamp(min=0), step, count)

    def inverse_depth(self, label: Tensor) -> Float[Tensor, "b d h w"]:
        """Inverse depth of labels, or of positions between them, (B, D, H, W)."""
        return (self.first[:, None] + label) * self.step[:, None, None, None]


def sweep_depth(
    target: Float[Tensor, "b 3 h w"],
    sources: Float[Tensor, "s b 3 h w"],
    source_from_target: Float[Tensor, "s b 4 4"],
    camera: Camera,
    nearest: Float[Tensor, " b"],
    side: tuple[int, ...],
    describe: Describe = local_contrast,
) -> Float[Tensor, "b h w"]:
    """Inverse depth of every pixel of a frame from its posed neighbours, even where they do not determine it:
    check it with :func:`agreeing_views`.

    The whole range is searched at half the size, then a band around the result at full size, which takes a
    quarter of the time of a full search with the same errors.

    Args:
        target, sources: images.
        source_from_target: motions; depth is in the unit of their translations.
        camera: of all images, a batch of B.
        nearest: smallest expected depth.
        side: group of each source, for example 0 for the past and 1 for the future, see
            :func:`matching_costs`.
        describe: maps from images to the features that are compared.
    """
    height, width = target.shape[-2:]
    half = (height // 2, width // 2)
    small = F.interpolate(target, half, mode="area")
    small_sources = F.interpolate(sources.flatten(0, 1), half, mode="area")
    labels = Labels.planes(nearest, PLANES)
    coarse = _search(
        small, small_sources.unflatten(0, sources.shape[:2]), source_from_target,
        camera.resize(*half), labels, side, describe,
    )  # fmt: skip
    near = upsample_by_colour(coarse, small, target)
    labels = Labels.around(near, labels.step / REFINEMENT, BAND)
    return _search(target, sources, source_from_target, camera, labels, side, describe)


def _search(
    target: Tensor, sources: Tensor, source_from_target: Tensor, camera: Camera, labels: Labels,
    side: tuple[int, ...], describe: Describe,
) -> Tensor:  # fmt: skip
    maps = describe(sources.flatten(0, 1)).unflatten(0, sources.shape[:2])
    costs = matching_costs(describe(target), maps, source_from_target, camera, labels, side)
    return best_inverse_depth(smooth_costs(costs, labels, target), labels)


def matching_costs(
    target: Float[Tensor, "b c h w"],
    sources: Float[Tensor, "s b c h w"],
    source_from_target: Float[Tensor, "s b 4 4"],
    camera: Camera,
    labels: Labels,
    side: tuple[int, ...],
) -> Float[Tensor, "b d h w"]:
    """Matching cost of target and sources for each label.

    Costs are averaged over the sources of each side, and the smaller mean counts, since what is occluded in
    earlier frames is mostly visible in later ones. A pixel outside of all sources costs MAX_COST at every
    label, which favours none.

    Args:
        target, sources: maps to compare, for example from :func:`local_contrast`.
        source_from_target: motions.
        camera: of all maps, a batch of B.
        labels: candidate inverse depths.
        side: group of each source, for example 0 for the past and 1 for the future.
    """
    batch, _, height, width = target.shape
    costs = target.new_empty(batch, labels.count, height, width)
    for first in range(0, labels.count, LABELS_AT_ONCE):
        best = costs[:, first : first + LABELS_AT_ONCE].fill_(MAX_COST)
        chunk = torch.arange(first, first + best.shape[1], device=target.device)
        inverse_depths = labels.inverse_depth(chunk[None, :, None, None])
        for group in dict.fromkeys(side):
            total, seen = torch.zeros_like(best), torch.zeros_like(best)
            for index, of in enumerate(side):
                if of != group:
                    continue
                moved, valid = sweep(
                    sources[index], inverse_depths, source_from_target[index], camera
                )
                cost = moved.sub_(target[:, :, None]).abs_().sum(1).clamp_(max=MAX_COST)
                total += cost.mul_(valid)
                seen += valid
            mean = total.div_(seen.clamp(min=1)).masked_fill_(seen == 0, MAX_COST)
            torch.minimum(best, _box_mean(mean), out=best)
    return costs


def smooth_costs(
    costs: Float[Tensor, "b d h w"],
    labels: Labels,
    image: Float[Tensor, "b 3 h w"],
    smoothing: Smoothing = Smoothing(),
) -> Float[Tensor, "b d h w"]:
    """Smooth costs semi-globally: for each pixel and label, sum the cheapest paths that end there over four
    directions (Hirschmueller 2008, eq. 13). Depth edges are cheaper at image edges."""
    grey = image.mean(1)
    total = torch.zeros_like(costs)
    for dim in (2, 3):
        order = (dim, 0, 5 - dim, 1)
        along = costs.permute(order)
        step = grey.diff(dim=dim - 1).abs()
        large = smoothing.large / (1 + step / smoothing.contrast)
        large = large.clamp(min=2 * smoothing.small).movedim(dim - 1, 0)
        shift = None
        if labels.first.shape[1] > 1:
            shift = labels.first.diff(dim=dim - 1).movedim(dim - 1, 0)
            shift = torch.stack([shift, -shift.flip(0)], 1)
        paths = _paths(
            torch.stack([along, along.flip(0)], 1),
            torch.stack([large, large.flip(0)], 1)[..., None],
            smoothing.small,
            shift,
        )
        both = paths[:, 0] + paths[:, 1].flip(0)
        total += both.movedim((0, 1, 2, 3), order)
    return total


def _paths(costs: Tensor, large: Tensor, small: float, shift: Tensor | None) -> Tensor:
    """Costs of the cheapest paths along the first dimension.

    Args:
        costs: (n, ..., D).
        large: (n - 1, ..., 1) penalty of a large step to each position but the first.
        small: penalty of a step to the next label.
        shift: (n - 1, ...) first label of each position but the first, minus that of the one before.
    """
    paths = torch.empty_like(costs)
    last = paths[0].copy_(costs[0])
    count = costs.shape[-1]
    reach = torch.arange(-1, count + 1, device=costs.device)
    for place in range(1, len(costs)):
        least = last.amin(-1, keepdim=True)
        # This position's labels at the previous one, with a neighbour on either side.
        near = F.pad(last, (1, 1), value=math.inf)
        if shift is not None:
            near = near.gather(-1, (reach + 1 + shift[place - 1, ..., None]).clamp(0, count + 1))
        best = torch.minimum(near[..., :-2], near[..., 2:]).add_(small)
        torch.minimum(best, near[..., 1:-1], out=best)
        torch.minimum(best, least + large[place - 1], out=best)
        last = torch.add(costs[place], best.sub_(least), out=paths[place])
    return paths


def best_inverse_depth(costs: Float[Tensor, "b d h w"], labels: Labels) -> Float[Tensor, "b h w"]:
    """Inverse depth of least cost, refined between labels by a parabola through three costs."""
    least, place = costs.min(1, keepdim=True)
    inner = place.clamp(1, costs.shape[1] - 2)
    before, at, after = (costs.gather(1, inner + step) for step in (-1, 0, 1))
    curvature = (before - 2 * at + after).clamp(min=1e-6)
    offset = (0.5 * (before - after) / curvature).clamp(-0.5, 0.5)
    exact = torch.where(least == at, inner + offset, place)
    # Less than half a step cannot be told from infinity.
    return labels.inverse_depth(exact)[:, 0].maximum(labels.step[:, None, None] / 8)


def upsample_by_colour(
    inverse_depth: Float[Tensor, "b h w"],
    small: Float[Tensor, "b 3 h w"],
    image: Float[Tensor, "b 3 h2 w2"],
) -> Float[Tensor, "b h2 w2"]:
    """Upsample to the size of ``image``: of the nine nearest values of the smaller map, each pixel takes the
    one with the most similar colour, so that depth edges follow image edges.

    Args:
        inverse_depth: map to upsample.
        small: the image at the size of ``inverse_depth``.
        image: the image at the wanted size.
    """
    size = image.shape[-2:]
    known = torch.cat([small, inverse_depth[:, None]], 1)
    padded = F.pad(known, (1, 1, 1, 1), mode="replicate")
    best = torch.full_like(image[:, 0], math.inf)
    found = torch.zeros_like(best)
    height, width = inverse_depth.shape[-2:]
    for dy in range(3):
        for dx in range(3):
            moved = padded[..., dy : dy + height, dx : dx + width]
            moved = F.interpolate(moved, size, mode="nearest")
            unlike = (moved[:, :3] - image).abs().sum(1)
            closer = unlike < best
            best = torch.where(closer, unlike, best)
            found = torch.where(closer, moved[:, 3], found)
    return found


def agreeing_views(
    inverse_depth: Float[Tensor, "b h w"],
    others: Float[Tensor, "n b h w"],
    other_from_target: Float[Tensor, "n b 4 4"],
    camera: Camera,
    tolerance: float,
) -> tuple[Bool[Tensor, "n b h w"], Float[Tensor, "n b h w"]]:
    """Where the depths of other frames agree with this frame's, and the inverse depth that each of them implies
    for its pixels.

    Args:
        inverse_depth: of the frame; 0 where unknown.
        others: inverse depths of other frames; 0 where unknown.
        other_from_target: motions.
        camera: of all frames.
        tolerance: largest difference of log depth.
    """
    count = len(others)
    depth = 1 / inverse_depth.clamp(min=1e-9)
    cameras = camera.repeat(count)
    pixels, projected, valid = reproject(
        depth.repeat(count, 1, 1), other_from_target.flatten(0, 1), cameras, cameras
    )
    other_depth = sample(others.flatten(0, 1)[:, None], pixels)[:, 0]
    known = valid & (other_depth > 0) & (inverse_depth > 0).repeat(count, 1, 1)
    ratio = other_depth * projected
    agree = known & (ratio.clamp(min=1e-9).log().abs() < tolerance)
    # Implied by the other frame to first order: scaled by the ratio of its depth to the expected one.
    given = inverse_depth.repeat(count, 1, 1) * ratio
    return agree.unflatten(0, (count, -1)), given.unflatten(0, (count, -1))


def parallax(
    inverse_depth: Float[Tensor, "b h w"],
    other_from_target: Float[Tensor, "n b 4 4"],
    camera: Camera,
) -> Float[Tensor, "n b h w"]:
    """Distance in pixels between the image of a point in another camera and that of a point infinitely far
    away in the same direction."""
    count = len(other_from_target)
    cameras, motions = camera.repeat(count), other_from_target.flatten(0, 1)
    turned = motions.clone()
    turned[:, :3, 3] = 0
    depth = (1 / inverse_depth.clamp(min=1e-9)).repeat(count, 1, 1)
    seen, _, _ = reproject(depth, motions, cameras, cameras)
    far, _, _ = reproject(depth, turned, cameras, cameras)
    return (seen - far).norm(dim=-1).unflatten(0, (count, -1))


def _box_mean(values: Tensor) -> Tensor:
    """Mean of maps (B, D, H, W) over a square window; summing shifted maps takes a fifth of pooling's time."""
    reach = WINDOW // 2
    for dim, pad in ((-1, (reach, reach, 0, 0)), (-2, (0, 0, reach, reach))):
        padded, size = F.pad(values, pad, mode="replicate"), values.shape[dim]
        values = padded.narrow(dim, 0, size).clone()
        for shift in range(1, WINDOW):
            values += padded.narrow(dim, shift, size)
    return values.div_(WINDOW**2)
