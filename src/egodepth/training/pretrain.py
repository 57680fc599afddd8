"""DepthNet and PoseNet from rendered worlds: supervised by exact depth and motion, before any footage.

Depth and translation are learned in the unit of a canonical camera: metres times CANONICAL_FOCAL over the focal
length in pixels. A thing of one size looks the same to the network wherever that product is the same.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from egodepth.core.files import atomic_path
from egodepth.data.synthetic.blueprints import KINDS
from egodepth.data.synthetic.worlds import World
from egodepth.geometry import se3
from egodepth.models.networks import Networks

CANONICAL_FOCAL = 180.0
"""Pixels."""
SIZES = {(96, 320): 0.4, (192, 256): 0.25, (160, 288): 0.25, (224, 160): 0.1}
"""Height and width of the images, and how often they are drawn."""
KIND_SHARES = {
    "town": 0.22, "country": 0.12, "motorway": 0.08, "yard": 0.13, "room": 0.19, "corridor": 0.06,
    "hall": 0.07, "stairs": 0.03, "shapes": 0.10,
}  # fmt: skip
PAIRS_PER_WORLD = 14
WORLD_FRAMES = 60
HELD_OUT_SEEDS = 10**9
"""Seeds from here on are never trained on."""
BUFFER = 500
"""Pairs of each size that batches are drawn from."""
FARTHEST = 100.0
"""Units of the canonical camera; sky counts as lying there."""


@dataclass(frozen=True)
class Pair:
    """Two frames of a world.

    Attributes:
        images: (2, 3, H, W) uint8.
        inverse: (2, H, W) float16, inverse depth in the canonical unit, 0 for sky.
        motion: (4, 4) float32 second_from_first, translation in the canonical unit.
    """

    images: Tensor
    inverse: Tensor
    motion: Tensor


class WorldPairs(IterableDataset[Pair]):
    """Pairs of frames of ever new worlds, deterministic from the seed."""

    def __init__(self, seed: int, start: int = 0):
        """Args:
        seed: of the stream.
        start: world that it begins with.
        """
        self.seed, self.start = seed, start

    def __iter__(self) -> Iterator[tuple[int, Pair]]:
        torch.set_num_threads(1)
        number = self.start
        while True:
            for pair in world_pairs(self.seed, number):
                yield number, pair
            number += 1


def world_pairs(seed: int, number: int) -> Iterator[Pair]:
    """Pairs of one world."""
    rng = np.random.default_rng([seed, number])
    kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    assert kind in KINDS
    height, width = list(SIZES)[rng.choice(len(SIZES), p=list(SIZES.values()))]
    world = World(kind, int(rng.integers(HELD_OUT_SEEDS)), WORLD_FRAMES, height, width)
    unit = CANONICAL_FOCAL / float(world.camera.matrix[0, 0])
    for _ in range(PAIRS_PER_WORLD):
        first = int(rng.integers(0, WORLD_FRAMES - 6))
        second = first + int(rng.integers(1, 6))
        images, inverses = [], []
        for index in (first, second):
            image, depth, _ = world.render(index)
            images.append(image)
            scaled = depth * unit
            inverses.append(np.where(depth > 0, 1 / np.maximum(scaled, 1e-3), 0))
        near = max(float(inverse.max()) for inverse in inverses)
        if near > 9:  # something right before the lens
            continue
        poses = world.world_from_camera
        motion = np.linalg.inv(poses[second]) @ poses[first]
        motion[:3, 3] *= unit
        yield Pair(
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(np.stack(inverses)).half(),
            torch.from_numpy(motion).float(),
        )


def augment_pair(pair: Pair, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Images (2, 3, H, W) in [0, 1], inverse depth (2, H, W), motion, and whether the motion still holds: not
    where a part of the images was enlarged, which shifts the principal point."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    images, inverse, motion = pair.images.float() / 255, pair.inverse.float(), pair.motion.clone()
    if uniform(0, 1) < 0.5:
        images, inverse = images.flip(-1), inverse.flip(-1)
        mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
        motion = mirror @ motion @ mirror
    holds = True
    if uniform(0, 1) < 0.35:
        holds = False
        height, width = images.shape[-2:]
        share = uniform(0.6, 1.0)
        h, w = round(height * share), round(width * share)
        top, left = round(uniform(0, height - h)), round(uniform(0, width - w))
        images = images[..., top : top + h, left : left + w]
        inverse = inverse[..., top : top + h, left : left + w]
        images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
        inverse = F.interpolate(inverse[None], (height, width), mode="nearest")[0]
        # Enlarged, everything looks nearer in the canonical unit.
        inverse = inverse * (height / h)
    gain = torch.tensor([uniform(0.8, 1.25) * uniform(0.93, 1.07) for _ in range(3)])
    images = images.clamp(min=1e-4) ** uniform(0.7, 1.4) * gain[:, None, None]
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (uniform(0.0, 1.5) if uniform(0, 1) < 0.9 else 0.0)
    middle = images.mean((-2, -1), keepdim=True).mean(1, keepdim=True)
    images = middle + (images - middle) * uniform(0.6, 1.3)
    if uniform(0, 1) < 0.2:
        small = F.interpolate(
            images, scale_factor=uniform(0.4, 0.9), mode="bilinear", align_corners=False
        )
        images = F.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)
    if uniform(0, 1) < 0.3:
        images = images + uniform(0, 0.04) * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1), inverse, motion, holds


def depth_loss(predictions: list[Tensor], inverse: Tensor) -> Tensor:
    """Absolute difference of logarithms, mostly without each image's scale, and of its gradients.

    Args:
        predictions: inverse depth (B, 1, h, w) at several scales.
        inverse: (B, H, W) true, 0 for sky.
    """
    sky = (inverse <= 1 / FARTHEST)[:, None]
    truth = inverse.clamp(1 / FARTHEST, 10)[:, None].log()
    # There is more sky than there is to learn of it.
    weight = torch.where(sky, 0.3, 1.0)
    total = truth.new_zeros(())
    for level, prediction in enumerate(predictions):
        full = F.interpolate(prediction, truth.shape[-2:], mode="bilinear", align_corners=False)
        error = full.log() - truth
        scale = error.detach().flatten(1).median(1).values[:, None, None, None]
        absolute = 0.8 * (error - scale).abs() + 0.2 * error.abs()
        loss = (weight * absolute).mean()
        for step in (1, 2, 4, 8):
            thin = error[..., ::step, ::step]
            loss = loss + 0.25 * (thin[..., 1:] - thin[..., :-1]).abs().mean()
            loss = loss + 0.25 * (thin[..., 1:, :] - thin[..., :-1, :]).abs().mean()
        total = total + loss / 2**level
    return total


def motion_loss(found: Tensor, motion: Tensor, holds: Tensor) -> Tensor:
    """Of PoseNet's six numbers: rotation in hundredths of a radian, translation over its own length."""
    rotation = se3.so3_log(motion[:, :3, :3])
    shift = motion[:, :3, 3]
    turn = (found[:, :3] - rotation).norm(dim=1) / 0.02
    move = (found[:, 3:] - shift).norm(dim=1) / (shift.norm(dim=1) + 0.05)
    both = F.smooth_l1_loss(turn, torch.zeros_like(turn), reduction="none") + F.smooth_l1_loss(
        move, torch.zeros_like(move), reduction="none"
    )
    return (both * holds).sum() / holds.sum().clamp(min=1)


class Average:
    """Exponential moving average of networks' weights and statistics."""

    def __init__(self, networks: Networks, decay: float = 0.999):
        self.decay, self.count = decay, 0
        self.state = {k: v.detach().clone() for k, v in networks.state_dict().items()}

    def update(self, networks: Networks) -> None:
        """After each step; early on the average is short."""
        self.count += 1
        decay = min(self.decay, self.count / (self.count + 10))
        for name, value in networks.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value.detach(), 1 - decay)
            else:
                self.state[name].copy_(value)


def pretrain(
    networks: Networks,
    out: Path,
    *,
    seconds: float,
    seed: int = 0,
    batch: int = 8,
    rate: float = 3e-4,
    workers: int = 1,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    settle: bool = False,
) -> None:
    """Train on worlds for so many seconds, from where ``out`` stands.

    Args:
        networks: DepthNet and PoseNet.
        out: file of the state, written every few minutes and at the end.
        seconds: of this call.
        seed: of worlds and augmentation.
        batch: pairs per step; depth is learned of one frame of each.
        rate: of the encoders; three times that of the decoder.
        workers: processes that render.
        report: called every 20 steps.
        settle: lower the learning rate to nothing by the end of this call.
    """
    assert networks.depth is not None and networks.pose is not None
    decoder = list(networks.depth.decoder.parameters())
    own = {id(p) for p in decoder}
    rest = [p for p in networks.parameters() if id(p) not in own]
    groups = [{"params": rest, "lr": rate}, {"params": decoder, "lr": 3 * rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-2, fused=True)
    average, step, world, before = Average(networks), 0, 0, 0.0
    if out.exists():
        saved = torch.load(out, weights_only=True)
        networks.load_state_dict(saved["networks"])
        optimizer.load_state_dict(saved["optimizer"])
        average.state, average.count = saved["average"], saved["count"]
        step, world, before = saved["step"], saved["world"], saved["seconds"]
    networks.train()
    generator = torch.Generator().manual_seed(seed + 7919 * step)
    pairs = WorldPairs(seed, world)
    loader = DataLoader(pairs, batch_size=None, num_workers=workers, prefetch_factor=32)
    stream = iter(loader)
    buffers: dict[tuple[int, int], deque[Pair]] = {size: deque(maxlen=BUFFER) for size in SIZES}

    def take() -> None:
        nonlocal world
        world, pair = next(stream)
        buffers[tuple(pair.images.shape[-2:])].append(pair)

    started, saved_at, seen = time.perf_counter(), time.perf_counter(), 0
    sums: dict[str, float] = {}
    while (
        min(len(b) for b in buffers.values()) < 2
        or sum(len(b) for b in buffers.values()) < 12 * batch
    ):
        take()
    while (passed := time.perf_counter() - started) < seconds:
        # Never wait for the renderer longer than for a few pairs; otherwise draw again from what is there.
        for _ in range(max(1, batch // 2)):
            take()
            seen += 1
        sizes = [s for s in SIZES if len(buffers[s]) >= 2]
        shares = torch.tensor([SIZES[s] for s in sizes])
        size = sizes[int(torch.multinomial(shares, 1, generator=generator))]
        buffer = buffers[size]
        picks = torch.randint(len(buffer), (batch,), generator=generator).tolist()
        drawn = [augment_pair(buffer[i], generator) for i in picks]
        images, inverse, motion = (torch.stack([d[k] for d in drawn]) for k in range(3))
        holds = torch.tensor([d[3] for d in drawn], dtype=torch.float32)
        which = int(torch.randint(2, (), generator=generator))
        warm = min(1.0, (step + 1) / 200)
        factor = warm * (0.5 * (1 + math.cos(math.pi * passed / seconds)) if settle else 1.0)
        for group, base in zip(optimizer.param_groups, (rate, 3 * rate), strict=True):
            group["lr"] = base * factor
        look = images[:, which].contiguous(memory_format=torch.channels_last)
        depth = depth_loss(networks.depth(look), inverse[:, which])
        move = motion_loss(networks.pose(images[:, 0], images[:, 1]), motion, holds)
        loss = depth + 0.1 * move
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(networks.parameters(), 5.0)
        optimizer.step()
        average.update(networks)
        step += 1
        for name, value in (("depth", depth), ("motion", move)):
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if step % 20 == 0:
            facts = {name: value / 20 for name, value in sums.items()}
            report(
                {"step": step, "world": world, "pairs": seen, "seconds": before + passed, **facts}
            )
            sums.clear()
        if time.perf_counter() - saved_at > 300:
            _save(out, networks, optimizer, average, step, world + 1, before + passed)
            saved_at = time.perf_counter()
    _save(
        out, networks, optimizer, average, step, world + 1, before + time.perf_counter() - started
    )


def _save(
    out: Path, networks: Networks, optimizer: torch.optim.Optimizer, average: Average, step: int, world: int,
    seconds: float,
) -> None:  # fmt: skip
    with atomic_path(out) as partial:
        torch.save(
            {
                "networks": networks.state_dict(), "optimizer": optimizer.state_dict(),
                "average": average.state, "count": average.count, "step": step, "world": world,
                "seconds": seconds,
            },
            partial,
        )  # fmt: skip
