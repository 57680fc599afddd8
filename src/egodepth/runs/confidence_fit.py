"""Learning and calibrating the confidence of a run, from frames whose depth is known."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from egodepth.core import progress
from egodepth.core.errors import EgodepthError
from egodepth.models.confidence import ConfidenceHead, depth_and_features
from egodepth.models.networks import DepthNet
from egodepth.models.transformers_depth import TransformersDepth
from egodepth.runs.confidence import read_confidence, write_confidence
from egodepth.runs.folder import RunFolder

STEPS, BATCH = 240, 8
"""Default number of steps, and images per step."""
LEARNING_RATE, WEIGHT_DECAY, MAX_NORM = 3e-3, 1e-3, 1.0
GAMMA, TINT, NOISE = 0.2, 0.08, 0.02
"""Standard deviations of the changes to the images: log of gamma, log of each channel's gain, noise."""
MIN_KNOWN = 64
"""Fewest pixels with known depth of an image that is used."""
CALIBRATE_EVERY = 5
"""One in this many frames calibrates the confidence, and is not learned from."""
CALIBRATION_PIXELS = 2000
"""Pixels of each image that the calibration uses."""


class KnownFrame(NamedTuple):
    """A frame with known depth.

    Attributes:
        image: RGB, at the size of the networks.
        inverse_depth: in any unit; 0 where unknown.
    """

    image: UInt8[ndarray, "h w 3"]
    inverse_depth: Float[ndarray, "h w"]


def learn_confidence(
    run: RunFolder,
    depth: DepthNet | TransformersDepth,
    learned: list[KnownFrame],
    held_out: list[KnownFrame],
    steps: int,
    start: RunFolder | None = None,
    seed: int = 0,
) -> None:
    """Learn the confidence of a run and write it.

    Args:
        run: run folder.
        depth: its depth network.
        learned: frames to learn from.
        held_out: frames to calibrate on; without any, the run gets no confidence, with a note.
        steps: number of steps.
        start: run whose confidence is the start, if it has one that fits.
        seed: random seed.
    """
    if not held_out:
        progress.note(
            "no frame shows how far depth is off: the run has no confidence; egodepth confidence makes it "
            "from other footage"
        )
        return
    was_training = depth.training
    depth.eval()
    try:
        head = _start_of(start, depth, seed)
        fit_confidence(depth, head, drawer(learned or held_out), steps, seed)
        calibrate_confidence(depth, head, held_out)
        write_confidence(run, head)
    finally:
        depth.train(was_training)


def _start_of(
    start: RunFolder | None, depth: DepthNet | TransformersDepth, seed: int
) -> ConfidenceHead:
    if start is not None:
        with suppress(EgodepthError):  # of another DepthNet
            known = read_confidence(start, depth)
            if known is not None:
                return known
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConfidenceHead.of(depth)


def split_frames(frames: list[KnownFrame]) -> tuple[list[KnownFrame], list[KnownFrame]]:
    """The frames to learn from, and those to calibrate on."""
    learned = [frame for i, frame in enumerate(frames) if i % CALIBRATE_EVERY]
    return learned, frames[::CALIBRATE_EVERY]


def drawer(frames: list[KnownFrame]) -> Callable[[np.random.Generator], list[KnownFrame]]:
    """Function that draws the frames of a step, all of one size; each size as often as it has frames."""
    sizes: dict[tuple[int, ...], list[KnownFrame]] = {}
    for frame in frames:
        sizes.setdefault(frame.image.shape, []).append(frame)

    def draw(rng: np.random.Generator) -> list[KnownFrame]:
        fitting = sizes[frames[rng.integers(len(frames))].image.shape]
        return [fitting[rng.integers(len(fitting))] for _ in range(BATCH)]

    return draw


def log_errors(
    inverse_depth: Float[Tensor, "b 1 _ _"], known: Float[Tensor, "b h w"]
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Absolute errors of predicted log depth, and 1 where they are known, else 0. Each image is scaled by the
    median: the scale of depth is no matter of single pixels."""
    size = known.shape[-2:]
    predicted = F.interpolate(inverse_depth, size, mode="bilinear", align_corners=False)[:, 0]
    valid = known > 0
    difference = (known.clamp(min=1e-6) / predicted).log()
    medians = torch.stack([
        d[v].median() if v.any() else d.new_zeros(()) for d, v in zip(difference, valid, strict=True)
    ])  # fmt: skip
    return (difference - medians[:, None, None]).abs(), valid.float()


def fit_confidence(
    depth: DepthNet | TransformersDepth,
    head: ConfidenceHead,
    draw: Callable[[np.random.Generator], list[KnownFrame]],
    steps: int = STEPS,
    seed: int = 0,
) -> None:
    """Train a head: maximum likelihood of the errors under a Laplace distribution, whose scale it predicts
    (Kendall and Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS
    2017). The depth network stays as it is.

    Args:
        depth: the depth network, in evaluation mode.
        head: changed in place.
        draw: gives the frames of a step, all of one size.
        steps: number of steps.
        seed: random seed of the steps.
    """
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    device = next(depth.parameters()).device
    head.to(device).train()
    optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1)
    for _ in progress.track(range(steps), "learning confidence", steps, "steps"):
        images, known = _stack(draw(rng))
        images = _vary(images, noise).to(device)
        log_scale, error, valid = _scales_and_errors(depth, head, images, known.to(device))
        loss = ((error * (-log_scale).exp() + log_scale) * valid).sum() / valid.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), MAX_NORM)
        optimizer.step()
        rates.step()
    head.eval()


@torch.no_grad()
def calibrate_confidence(
    depth: DepthNet | TransformersDepth, head: ConfidenceHead, frames: Iterable[KnownFrame]
) -> None:
    """Fit a head's calibration to frames, best ones that neither network was trained on.

    Args:
        depth: the depth network, in evaluation mode.
        head: changed in place.
        frames: frames with known depth.

    Raises:
        EgodepthError: no frame with known depth.
    """
    device, rng = next(depth.parameters()).device, np.random.default_rng(0)
    scales, errors = [], []
    for frame in frames:
        images, known = _stack([frame])
        if int((known > 0).sum()) < MIN_KNOWN:
            continue
        log_scale, error, valid = _scales_and_errors(
            depth, head, images.to(device), known.to(device)
        )
        at = valid.cpu().numpy().ravel().nonzero()[0]
        at = rng.permutation(at)[:CALIBRATION_PIXELS]
        scales.append(log_scale.flatten().cpu()[at])
        errors.append(error.flatten().cpu()[at])
    if not scales:
        raise EgodepthError("no frame has known depth, so that confidence can't be calibrated")
    head.to("cpu").calibrate(torch.cat(scales), torch.cat(errors))
    head.to(device)


def _scales_and_errors(
    depth: DepthNet | TransformersDepth, head: ConfidenceHead, images: Tensor, known: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log scale of the errors that a head predicts, and the two of :func:`log_errors`, (B, h, w) each."""
    with torch.no_grad():
        inverse, features = depth_and_features(depth, images)
    error, valid = log_errors(inverse, known)
    log_scale = F.interpolate(
        head.log_scale(images, inverse, features), error.shape[-2:], mode="bilinear",
        align_corners=False,
    )  # fmt: skip
    return log_scale[:, 0], error, valid


def _stack(frames: list[KnownFrame]) -> tuple[Tensor, Tensor]:
    """Images (B, 3, h, w) in [0, 1] and inverse depth (B, h, w)."""
    images = torch.from_numpy(np.stack([frame.image for frame in frames])).permute(0, 3, 1, 2)
    images = images.float().div(255).contiguous(memory_format=torch.channels_last)
    known = np.stack([np.asarray(frame.inverse_depth, np.float32) for frame in frames])
    return images, torch.from_numpy(known)


def _vary(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change gamma, colours and noise of images, so that the head sees depth err as on new footage, and flip
    nothing: the known depth would have to follow."""
    count = len(images)
    gamma = (GAMMA * torch.randn(count, 1, 1, 1, generator=generator)).exp()
    tint = (TINT * torch.randn(count, 3, 1, 1, generator=generator)).exp()
    noise = NOISE * torch.randn(count, 1, 1, 1, generator=generator)
    grain = torch.randn(images.shape, generator=generator)
    return (images**gamma * tint + noise * grain).clamp(0, 1)
