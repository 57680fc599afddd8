"""Comparison of trained networks with their start, on held-out frames, without ground truth.

Trained depth may be worse than it was, although its loss fell: footage without parallax teaches nothing, and a
wrong camera or wrong motions teach nonsense. Both networks are therefore judged by what the loss does not
contain: how well depth explains frames that are farther apart than in training, with motions aligned afresh for
each; how well the depths of these frames agree; and whether something is seen through the ground.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.data.preparation.clips import Clip
from egodepth.evaluation.depth import TOO_FAR
from egodepth.geometry import se3
from egodepth.geometry.alignment import MIN_VISIBLE_SHARE, AlignSettings, align
from egodepth.geometry.alignment_residual import State
from egodepth.geometry.camera import Camera, camera_rays
from egodepth.geometry.ground import fit_ground
from egodepth.geometry.pyramid import image_pyramid, make_levels
from egodepth.geometry.warp import reproject, sample, warp
from egodepth.losses.masking import minimum_over_sources
from egodepth.losses.photometric import photometric_loss, target_statistics
from egodepth.models.networks import Networks
from egodepth.training.motion_alignment import require_finite
from egodepth.training.snippets import SnippetStream
from egodepth.training.terms import at_size

MAX_TARGETS = 12
"""Maximum number of frames compared."""
BASELINE = 2
"""Distance between target and source, in strides of the training."""
BATCH = 4
ALIGNMENT = AlignSettings(iterations=10, brightness=True, tolerance=0.02)
REDUCTIONS = (8, 4, 2)
FAR = 1e-4
"""Inverse depth of the distant background."""
YAWS, PITCHES = range(-24, 25, 2), range(-6, 7, 2)
"""Rotations in degrees from which alignment starts, whichever fits best."""
TURN_REDUCTION, MIN_TURN_OVERLAP = 8, 0.3
"""Factor by which images are reduced to find it, and minimum share of the pixels that both must show."""
MIN_GAIN, MIN_RELATIVE_GAIN = 0.02, 0.15
"""Decrease of the loss, absolute and relative, by which depth must explain a pixel better than a distant
background does; other pixels tell nothing about depth."""
MIN_TOLD_SHARE, MIN_TOLD_TARGETS = 0.03, 3
"""Minimum share of pixels of a frame that tell about depth, and minimum number of such frames."""
MAX_DISAGREEMENT = 1.0
"""Larger differences of log depth between frames count as this; most are occlusions."""
NEAR_GROUND = 0.1
"""Inverse depth of the ground relative to that at the bottom of the image, above which pixels are compared with
it."""
WORSE_ERROR, EQUAL_ERROR = 1.01, 0.99
"""Ratio of reprojection errors, trained to start, above which the trained network is worse; and below which it
is better."""
WORSE_AGREEMENT, SMALL_DISAGREEMENT = 1.5, 0.02
"""Ratio of disagreements above which a network that is not better otherwise is worse; SMALL_DISAGREEMENT is
added to both."""
WORSE_GROUND, MIN_GROUND_SHARE = 0.05, 0.6
"""Increase in the share of ground pixels seen through above which the trained network is worse. It counts where
the start finds ground in at least this share of the frames, as in every drive; in a kitchen seen by hand it was
a quarter, table tops among them."""


@dataclass(frozen=True)
class Views:
    """Held-out frames with frames farther away in time.

    Attributes:
        target: (B, 3, H, W) in [0, 1].
        sources: (2, B, 3, H, W), one earlier and one later, or the same twice at the footage's ends.
        camera: batch of B.
        static: (B, H, W), pixels that show the camera's own vehicle.
    """

    target: Float[Tensor, "b 3 h w"]
    sources: Float[Tensor, "2 b 3 h w"]
    camera: Camera
    static: Bool[Tensor, "b h w"]


@dataclass(frozen=True)
class Comparison:
    """Scores of a training's start and end on held-out frames: means over frames; NaN where there are none.

    Attributes:
        targets: number of held-out frames.
        told: number of these in which depth shows, by parallax.
        error: reprojection loss of start and end, over pixels where either explains parallax.
        disagreement: log depth difference between frames.
        through_ground: share of the ground's pixels whose depth lies beyond it; 1 where the end has no ground
            and the start has one, NaN if the start finds ground in few frames.
    """

    targets: int
    told: int
    error: tuple[float, float]
    disagreement: tuple[float, float]
    through_ground: tuple[float, float]

    @property
    def worse(self) -> str:
        """Why the end is not better than the start, in words; empty if it is."""
        if self.told < min(MIN_TOLD_TARGETS, self.targets):
            return f"only {self.told} of {self.targets} held-out frames have the parallax that shows depth"
        ratio = self.error[1] / self.error[0]
        if ratio > WORSE_ERROR:
            return f"it explains held-out frames worse (loss {_change(self.error)})"
        before, after = self.through_ground
        if after > before + WORSE_GROUND:
            change = f"{100 * before:.0f} % before, {100 * after:.0f} % after"
            return f"more of the ground's pixels lie beyond it ({change})"
        one, two = (SMALL_DISAGREEMENT + value for value in self.disagreement)
        if ratio > EQUAL_ERROR and two > WORSE_AGREEMENT * one:
            return f"its depths of different frames disagree more (log difference {_change(self.disagreement)})"
        return ""

    def facts(self) -> dict[str, Any]:
        """Content for ``run.json``."""
        return asdict(self) | {"worse": self.worse}

    def __str__(self) -> str:
        return (
            f"{self.told} of {self.targets} held-out frames show depth: loss {_change(self.error)}, log "
            f"difference between frames {_change(self.disagreement)}"
        )


def _change(values: tuple[float, float]) -> str:
    return f"{values[0]:.3f} before, {values[1]:.3f} after"


@dataclass(frozen=True)
class _Judged:
    """Predictions of networks for some views, and how well they fit.

    Attributes:
        motions: (2, B, 4, 4) ``source_from_target``, aligned.
        loss: (B, H, W) reprojection loss, minimum over sources.
        seen: (B, H, W), whether a pixel is visible in some source.
        disagreement: (B,).
        inverse_depth: (B, H, W).
    """

    motions: Tensor
    loss: Tensor
    seen: Tensor
    disagreement: Tensor
    inverse_depth: Tensor


def views_of(stream: SnippetStream) -> list[Views]:
    """Frames for the comparison: the targets of a stream, at most MAX_TARGETS, in batches."""
    targets = stream.targets
    few = targets[
        np.linspace(0, len(targets) - 1, min(MAX_TARGETS, len(targets))).round().astype(int)
    ]
    return [
        _read([(stream.clips[clip], int(target)) for clip, target in few[first : first + BATCH]])
        for first in range(0, len(few), BATCH)
    ]


def _read(targets: list[tuple[Clip, int]]) -> Views:
    frames = np.stack([
        np.stack([clip.frames[position] for position in (target, *_sources(clip, target))])
        for clip, target in targets
    ])  # fmt: skip
    images = torch.from_numpy(frames).float().div(255).transpose(0, 1)
    height, width = images.shape[-2:]
    none = np.zeros((height, width), bool)
    static = [none if clip.static is None else clip.static for clip, _ in targets]
    matrix = torch.stack([clip.camera.matrix.float() for clip, _ in targets])
    return Views(
        images[0], images[1:], Camera(matrix, height, width), torch.from_numpy(np.stack(static))
    )


def _sources(clip: Clip, target: int) -> tuple[int, int]:
    """Positions of the frames BASELINE strides before and after a target, or else of nearer ones; the same
    twice where there is only one."""
    positions = clip.positions
    number = next(n for n, position in positions.items() if position == target)
    for strides in range(BASELINE, 0, -1):
        found = [positions.get(number + sign * strides * clip.stride) for sign in (-1, 1)]
        known = [position for position in found if position is not None]
        if len(known) == 2 or (known and strides == 1):
            return known[0], known[-1]
    raise EgodepthError(f"frame {number} of {clip.sequence.name} has no neighbours to compare with")


@torch.no_grad()
def compare(start: Networks, end: Networks, views: list[Views]) -> Comparison:
    """Compare two pairs of networks on held-out frames.

    Args:
        start, end: networks before and after training, in evaluation mode on one device.
        views: see :func:`views_of`.

    Raises:
        NonFiniteError: depth or motion is not finite.
    """
    device = next(end.parameters()).device
    found = [
        _compare(start, end, _to(batch, device))
        for batch in progress.track(views, "comparing with the start", len(views), "batches")
    ]
    told, errors, disagreements, through = (
        np.concatenate([each[i] for each in found], axis=-1) for i in range(4)
    )
    on_ground = np.isfinite(through).all(0)
    if on_ground.mean() < MIN_GROUND_SHARE:
        on_ground[:] = False
    return Comparison(
        targets=len(told),
        told=int(told.sum()),
        error=_mean(errors[:, told]),
        disagreement=_mean(disagreements),
        through_ground=_mean(through[:, on_ground]),
    )


def _mean(values: np.ndarray) -> tuple[float, float]:
    if not values.shape[1]:
        return math.nan, math.nan
    one, two = values.mean(axis=1)
    return float(one), float(two)


def _to(views: Views, device: torch.device) -> Views:
    return Views(
        views.target.to(device),
        views.sources.to(device),
        views.camera.to(device),
        views.static.to(device),
    )


def _compare(
    start: Networks, end: Networks, views: Views
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whether depth shows in each target (B,), and of start and end (2, B): loss, disagreement between frames,
    and share of the ground seen through, NaN where the start finds no ground."""
    guesses = [_guess_turns(views)]
    if end.pose is not None:
        guesses.append(end.pose.sources_from_target(views.target, views.sources, (-1, 1)))
        require_finite(guesses[-1], "motion", on_gpu=True)
    both = [_judge(networks, views, guesses) for networks in (start, end)]
    # Where the camera only turns, a wrong depth with a translation must not seem to explain more.
    turns = [motions.clone() for motions in (*guesses, *(judged.motions for judged in both))]
    for turn in turns:
        turn[..., :3, 3] = 0
    far = torch.full_like(both[0].inverse_depth, FAR)
    _, background, _ = _best(far, views, turns, turn_only=True)
    gain = background - torch.minimum(both[0].loss, both[1].loss)
    shows = (gain > MIN_GAIN) & (gain > MIN_RELATIVE_GAIN * background) & ~views.static
    shows &= both[0].seen & both[1].seen
    count = shows.sum((1, 2))
    told = count > MIN_TOLD_SHARE * shows[0].numel()
    errors = torch.stack([(j.loss * shows).sum((1, 2)) / count.clamp(min=1) for j in both])
    disagreements = torch.stack([judged.disagreement for judged in both])
    through = np.array([
        [_through_ground(j.inverse_depth[i], views.camera, views.static[i], i) for i in range(len(count))]
        for j in both
    ])  # fmt: skip
    through[1] = np.where(np.isnan(through[1]), 1.0, through[1])
    return told.cpu().numpy(), errors.cpu().numpy(), disagreements.cpu().numpy(), through


def _guess_turns(views: Views) -> Float[Tensor, "2 b 4 4"]:
    """The rotation among YAWS and PITCHES by which each small source resembles its target most; without
    translation."""
    height, width = (max(1, size // TURN_REDUCTION) for size in views.target.shape[-2:])
    size = (height, width)
    target = F.interpolate(views.target, size, mode="area").repeat(2, 1, 1, 1)
    sources = F.interpolate(views.sources.flatten(0, 1), size, mode="area")
    pairs, tried = len(target), len(YAWS)
    camera = views.camera.resize(*size).repeat(2 * tried)
    far = torch.full((tried * pairs, *size), 1 / FAR, device=target.device)
    turns, differences = [], []
    for pitch in PITCHES:
        vectors = torch.zeros(tried, 6, device=target.device)
        vectors[:, 0], vectors[:, 1] = pitch, torch.tensor(YAWS, device=target.device)
        turns.append(se3.exp(vectors.deg2rad()))
        motions = turns[-1].repeat_interleave(pairs, 0)
        warped, valid = warp(sources.repeat(tried, 1, 1, 1), far, motions, camera, camera)
        count = valid.sum((1, 2))
        difference = (warped - target.repeat(tried, 1, 1, 1)).abs().mean(1) * valid
        enough = count > MIN_TURN_OVERLAP * height * width
        mean = difference.sum((1, 2)) / count.clamp(min=1)
        differences.append(torch.where(enough, mean, torch.inf).unflatten(0, (tried, pairs)))
    best = torch.cat(differences).argmin(0)
    return torch.cat(turns)[best].unflatten(0, (2, -1))


def _judge(networks: Networks, views: Views, guesses: list[Tensor]) -> _Judged:
    """Judge networks on some views, with motions aligned from each of several guesses (2, B, 4, 4)."""
    assert networks.depth is not None
    inverse = at_size(networks.depth(views.target, scales=1)[0], views.target)[:, 0]
    others = at_size(networks.depth(views.sources.flatten(0, 1), scales=1)[0], views.target)
    require_finite(inverse, "depth", on_gpu=True)
    require_finite(others, "depth", on_gpu=True)
    motions, loss, seen = _best(inverse, views, guesses)
    camera = views.camera.repeat(2)
    pixels, z, valid = reproject(
        (1 / inverse).repeat(2, 1, 1), motions.flatten(0, 1), camera, camera
    )
    difference = (z.log() + sample(others, pixels)[:, 0].log()).abs()
    difference = difference.clamp(max=MAX_DISAGREEMENT).unflatten(0, (2, -1))
    hidden = ~(valid.unflatten(0, (2, -1)) & ~views.static)
    nearest = minimum_over_sources(difference, hidden)
    disagreement = nearest.sum((1, 2)) / (~hidden.all(0)).sum((1, 2)).clamp(min=1)
    return _Judged(motions, loss, seen, disagreement, inverse)


def _best(
    inverse: Float[Tensor, "b h w"], views: Views, guesses: list[Tensor], *, turn_only: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Align motions from each guess and take, for each pair, those that fit best. Returns the motions
    (2, B, 4, 4), the loss (B, H, W), minimum over sources, and whether a pixel is seen in some source."""
    count = len(guesses)
    camera, statistics = views.camera.repeat(2 * count), target_statistics(views.target)
    inverses = inverse.repeat(2 * count, 1, 1)
    sources = views.sources.flatten(0, 1).repeat(count, 1, 1, 1)
    levels = make_levels(
        image_pyramid(views.target.repeat(2 * count, 1, 1, 1), REDUCTIONS),
        image_pyramid(sources, REDUCTIONS),
        inverses, camera, views.static[:, None].repeat(2 * count, 1, 1, 1),
    )  # fmt: skip
    how, start = replace(ALIGNMENT, turn_only=turn_only), torch.stack(guesses).flatten(0, 2)
    motions = align(levels, State.start(start), how).state.source_from_target
    pixels, _, seen = reproject(1 / inverses, motions, camera, camera)
    loss = photometric_loss(sample(sources, pixels).unflatten(0, (2 * count, -1)), statistics)
    loss, valid = loss.unflatten(0, (count, 2)), seen.unflatten(0, (count, 2, -1))
    shown = valid.float().mean((3, 4))
    mean = (loss * valid).mean((3, 4)) / shown.clamp(min=1e-6)
    choice = torch.where(shown < MIN_VISIBLE_SHARE, torch.inf, mean).argmin(0)

    def chosen(values: Tensor) -> Tensor:
        place = choice.view(1, *choice.shape, *(1 for _ in values.shape[3:]))
        return values.gather(0, place.expand(1, *values.shape[1:]))[0]

    hidden = ~chosen(valid)
    best = chosen(motions.unflatten(0, (count, 2, -1)))
    return best, minimum_over_sources(chosen(loss), hidden), ~hidden.all(0)


def _through_ground(
    inverse: Float[Tensor, "h w"], cameras: Camera, static: Bool[Tensor, "h w"], index: int
) -> float:
    """Share of the near ground's pixels at which depth lies TOO_FAR times beyond it; NaN without ground."""
    camera = Camera(cameras.matrix[index], cameras.height, cameras.width)
    plane = fit_ground(torch.where(static, torch.nan, inverse), camera)
    if plane is None:
        return math.nan
    ground = camera_rays(camera).double() @ plane.to(inverse.device)
    near = (ground > NEAR_GROUND * ground[-1].median()) & ~static
    through = near & (inverse < ground / TOO_FAR)
    return float(through.sum() / near.sum().clamp(min=1))
