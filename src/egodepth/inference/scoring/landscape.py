"""Loss surfaces around true matches, as in the paper's figure of the loss landscape."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.sequence import Sequence
from egodepth.evaluation.landscape import (
    FLAT_SLOPE,
    FOUND_WITHIN,
    score_surfaces,
    texture,
    texture_groups,
)
from egodepth.geometry.camera import Camera
from egodepth.geometry.limits import require_seed
from egodepth.geometry.warp import sample
from egodepth.inference.odometry.motion_chain import gap_of
from egodepth.losses.feature_metric import common_scale, feature_metric_loss
from egodepth.losses.photometric import charbonnier, photometric_loss, target_statistics
from egodepth.models.networks import FeatureNet
from egodepth.runs.checkpoint import read_run
from egodepth.runs.folder import RunFolder, RunLike
from egodepth.runs.footage import open_footage
from egodepth.runs.run import Run
from egodepth.settings.training import LossWeights

MAX_MATCH_DEPTH = 80.0
"""Largest depth in metres of randomly drawn points."""
CANDIDATES = 50
"""Random candidates per wanted point; most of those near a border fail the margin."""
_POINTS_AT_ONCE = 64
_SHIFTS_AT_ONCE = 200


@dataclass(frozen=True)
class TrueMatches:
    """Pixels of a target frame and their true positions in a source frame.

    Attributes:
        target, source: (1, 3, H, W) in [0, 1].
        pixels: (N, 2) float, (x, y) in the target.
        windows: (N, 3, 3, 2), positions in the source of each pixel and its eight neighbours, all at the
            pixel's depth.
        texture: (N,) of the target around each pixel, see :func:`egodepth.evaluation.landscape.texture`.
        origin: of depth and motion, in words.
    """

    target: Tensor
    source: Tensor
    pixels: Tensor
    windows: Tensor
    texture: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Landscape:
    """Loss surfaces of one frame and their scores.

    Attributes:
        surfaces: (N, G, G) by loss, see :func:`loss_surfaces`.
        groups: scores by group of pixels (``all``; for several pixels also the thirds with the least and the
            most texture) and loss; see :class:`SurfaceScores`.
        protocol: of the evaluation, in words.
        pixels: (N, 2) in the resized frame.
    """

    surfaces: dict[str, np.ndarray]
    groups: dict[str, dict[str, dict[str, float]]]
    protocol: str
    pixels: np.ndarray

    def describe(self) -> str:
        """The pixels in words."""
        if len(self.pixels) == 1:
            return "pixel ({:.1f}, {:.1f})".format(*self.pixels[0])
        return f"mean of {len(self.pixels)} pixels"

    def mean_surfaces(self) -> dict[str, np.ndarray]:
        """Mean surface (G, G) by loss."""
        return {name: values.mean(0) for name, values in self.surfaces.items()}

    def to_json(self) -> dict[str, Any]:
        """Scores and protocol."""
        return {"scores": self.groups, "protocol": self.protocol, "pixels": len(self.pixels)}


def draw_landscape(
    run: RunLike,
    sequence: Sequence,
    number: int,
    *,
    pixel: tuple[float, float] | None = None,
    count: int = 200,
    offset: int = 1,
    radius: float = 12,
    step: float = 0.5,
    level: int | None = None,
    seed: int = 0,
) -> Landscape:
    """Compute and score the loss surfaces of a frame with a run's FeatureNet.

    Args:
        run: run folder; without a FeatureNet, L_fm is left out.
        sequence: footage; without a camera of its own, it gets the run's.
        number: frame number.
        pixel, count, offset, seed: as in :func:`find_matches`.
        radius, step: as in :func:`loss_surfaces`.
        level: level of the features, 0 is the finest; by default the finest that L_fm compared in training.

    Raises:
        EgodepthError: a bad run, frame, pixel, radius or level.
    """
    if not (0 < step <= radius / 2) or count < 1:
        raise EgodepthError(
            f"landscape needs 0 < step <= radius / 2 and count >= 1, got {step:g}, {radius:g}, {count}"
        )
    require_seed(seed)
    if offset == 0:
        raise EgodepthError("offset 0: a frame compared with itself has no motion to look at")
    settings, networks = read_run(run)
    if networks.features is None and level:
        raise EgodepthError(
            f"level {level}: {run} has no FeatureNet, so that there are no features"
        )
    if level is None:
        weights = RunFolder.at(run).section(LossWeights, "loss")
        level = 0 if networks.features is None else weights.finest_level
    if networks.features is not None and not 0 <= level < len(networks.features.encoder.channels):
        raise EgodepthError(
            f"level {level}: the features have levels 0 to {len(networks.features.encoder.channels) - 1}"
        )
    sequence = open_footage(run, sequence)[0]
    matches = find_matches(
        sequence, _position(sequence, number), height=settings.height, width=settings.width,
        offset=offset, pixel=pixel, count=count, margin=radius, seed=seed, run=run,
    )  # fmt: skip
    if len(matches) == 0:
        raise EgodepthError(f"no pixel has {radius:g} pixels around it; lower the radius")
    surfaces = loss_surfaces(matches, networks.features, radius=radius, step=step, level=level)
    protocol = (
        f"{settings.width}x{settings.height}, displacements to {radius:g} px by {step:g}, matches "
        f"from {matches.origin}, found within {FOUND_WITHIN} px, flat below {FLAT_SLOPE:g} of the "
        "range a pixel"
    )
    scores = {name: score_surfaces(values, step) for name, values in surfaces.items()}
    groups = {
        group: {name: score.mean(rows) for name, score in scores.items()}
        for group, rows in texture_groups(matches.texture).items()
    }
    return Landscape(surfaces, groups, protocol, matches.pixels.numpy())


def _position(sequence: Sequence, number: int) -> int:
    numbers = sequence.frames.numbers
    if number not in numbers:
        raise EgodepthError(
            f"{sequence.name} has no frame {number}; its frames are {numbers[0]} to {numbers[-1]}"
        )
    return numbers.index(number)


def find_matches(
    sequence: Sequence,
    index: int,
    *,
    height: int,
    width: int,
    offset: int = 1,
    pixel: tuple[float, float] | None = None,
    count: int = 100,
    margin: float = 0.0,
    seed: int = 0,
    run: RunLike | None = None,
) -> TrueMatches:
    """Match pixels of a frame with a neighbouring frame, by ground truth or else a run's prediction.
    Long, since each of its many choices is checked where it is made.

    Args:
        sequence: footage with a camera.
        index: position of the target frame.
        height, width: size that the frames are resized to.
        offset: position of the source frame relative to the target.
        pixel: (x, y) in the original frame; by default up to ``count`` random pixels whose matches lie at least
            ``margin`` inside the source.
        count: maximum number of random pixels.
        margin: in pixels of the resized frame.
        seed: of the random choice.
        run: run folder whose depth and motion are used if there is no ground truth.

    Raises:
        EgodepthError: no such frame or pixel, no camera, or neither ground truth nor a run.
    """
    frames = sequence.frames
    other = index + offset
    if not (0 <= index < len(frames) and 0 <= other < len(frames)):
        raise EgodepthError(
            f"{sequence.name} has frames 0 to {len(frames) - 1}; frame {index} with its neighbour "
            f"{other} is not among them"
        )
    if sequence.camera is None:
        raise EgodepthError(f"{sequence.name} has no camera; give its field of view with --fov")
    order = sorted((index, other))
    images = [frame.image for frame in frames.at(order)]
    if len(images) < len(order):
        raise EgodepthError(
            f"frames {order[0]} and {order[1]} of {sequence.name} cannot be decoded"
        )
    read = dict(zip(order, images, strict=True))
    depth, source_from_target, origin = _depth_and_motion(sequence, index, other, read, run)
    camera = sequence.camera.to(torch.float64)
    if pixel is None:
        rows, columns = np.nonzero((depth > 0) & (depth <= MAX_MATCH_DEPTH))
        chosen = np.random.default_rng(seed).permutation(len(rows))[: CANDIDATES * count]
        x, y, z = columns[chosen], rows[chosen], depth[rows, columns][chosen]
    else:
        x, y = (np.array([value]) for value in pixel)
        if not (0 <= x[0] <= frames.width - 1 and 0 <= y[0] <= frames.height - 1):
            raise EgodepthError(
                f"pixel ({x[0]:g}, {y[0]:g}) lies outside of the frame, "
                f"{frames.width}x{frames.height}"
            )
        z = _nearest_depth(depth, float(x[0]), float(y[0]))
    full = torch.from_numpy(np.stack([x, y], axis=1).astype(np.float64))
    scale = torch.tensor([width / frames.width, height / frames.height], dtype=torch.float64)
    pixels = (full + 0.5) * scale - 0.5
    windows, inside = _match_windows(
        pixels, torch.from_numpy(z.astype(np.float64)), source_from_target,
        camera.resize(height, width), margin,
    )  # fmt: skip
    if pixel is None:
        kept = torch.nonzero(inside)[:count, 0]
        pixels, windows = pixels[kept], windows[kept]
    elif not inside.all():
        raise EgodepthError(f"pixel ({x[0]:g}, {y[0]:g}) is not seen in the neighbouring frame")
    resized = [resize_frame(read[i], height, width) for i in (index, other)]
    target, source = (
        torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255 for image in resized
    )
    local = texture(resized[0].astype(np.float64) / 255)
    u, v = pixels.round().long().numpy().T.clip(0, [[width - 1], [height - 1]])
    return TrueMatches(
        target, source, pixels.float(), windows.float(),
        local[v, u], origin,
    )  # fmt: skip


@torch.inference_mode()
def loss_surfaces(
    matches: TrueMatches, features: FeatureNet | None, *, radius: float, step: float, level: int = 0
) -> dict[str, np.ndarray]:
    """Compute losses over displacements in the source from the true matches.

    Args:
        matches: N pixels.
        features: network; None leaves out the feature losses.
        radius: largest displacement along x and y, in pixels.
        step: between displacements, in pixels.
        level: of the features, 0 is the finest.

    Returns:
        Surfaces (N, G, G), float32, by loss, with rows along y and the true match in the middle: ``image``
        (robust L1 of colours), ``photometric`` (L_ph), ``feature_metric`` (L_fm) and ``structural`` (L_fm with
        structural comparison).
    """
    reach = round(radius / step)
    line = step * torch.arange(-reach, reach + 1, dtype=torch.float32)
    dy, dx = torch.meshgrid(line, line, indexing="ij")
    shifts = torch.stack([dx, dy], dim=-1).flatten(0, 1)
    maps = None
    if features is not None:
        maps = [features.features(x, level + 1)[level] for x in (matches.target, matches.source)]
    parts: dict[str, list[Tensor]] = {}
    batches = list(
        zip(
            matches.pixels.split(_POINTS_AT_ONCE),
            matches.windows.split(_POINTS_AT_ONCE),
            strict=True,
        )
    )
    for pixels, windows in progress.track(batches, "loss surfaces", len(batches), "batches"):
        for name, values in _surfaces_of(matches, maps, pixels, windows, shifts):
            parts.setdefault(name, []).append(values.unflatten(1, (len(line), len(line))))
    return {name: torch.cat(values).numpy() for name, values in parts.items()}


def _surfaces_of(
    matches: TrueMatches, maps: list[Tensor] | None, pixels: Tensor, windows: Tensor, shifts: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield name and values (n, G * G) of each loss for some of the pixels."""
    target = sample(matches.target, _windows(pixels)[None])[0].transpose(0, 1)
    moved = windows[None] + shifts[:, None, None, None]
    source = sample(matches.source, moved[None])[0].permute(1, 2, 0, 3, 4)  # (G2, n, 3, 3, 3)
    colours = charbonnier(source[..., 1, 1] - target[..., 1, 1]).mean(-1)
    yield "image", colours.T
    yield "photometric", photometric_loss(source, target_statistics(target))[..., 1, 1].T
    if maps is None:
        return
    yield from _feature_surfaces(matches, maps, pixels, windows, shifts)


def _feature_surfaces(
    matches: TrueMatches, maps: list[Tensor], pixels: Tensor, windows: Tensor, shifts: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Like :func:`_surfaces_of`, for both losses on features."""
    size = matches.target.shape[-2:]
    scale = torch.tensor([maps[0].shape[-1] / size[1], maps[0].shape[-2] / size[0]])

    def values(features: Tensor, where: Tensor) -> Tensor:
        return sample(features, ((where + 0.5) * scale - 0.5)[None])[0]

    middle = windows[:, 1, 1]
    ours = values(maps[0], pixels[None])[:, 0].T
    theirs = values(maps[1], middle + shifts[:, None]).permute(1, 2, 0)  # (G2, n, C)
    loss = feature_metric_loss(theirs[..., None, None], ours[..., None, None])
    yield "feature_metric", loss[..., 0, 0].T
    # Neighbours in the feature map are one of its pixels apart, and move like the pixel's neighbours.
    factor, shift = common_scale(maps[0])
    wide = middle[:, None, None] + (windows - middle[:, None, None]) / scale
    around = pixels[:, None, None] + (_windows(pixels) - pixels[:, None, None]) / scale
    target = target_statistics(values(factor * maps[0] + shift, around).transpose(0, 1))
    second, losses = factor * maps[1] + shift, []
    for some in shifts.split(_SHIFTS_AT_ONCE):
        moved = values(second, wide + some[:, None, None, None]).permute(1, 2, 0, 3, 4)
        losses.append(photometric_loss(moved, target)[..., 1, 1])
    yield "structural", torch.cat(losses).T


def _depth_and_motion(
    sequence: Sequence, index: int, other: int, read: dict[int, np.ndarray], run: RunLike | None
) -> tuple[np.ndarray, Tensor, str]:
    poses = sequence.world_from_camera
    if index in sequence.depth and poses is not None and np.isfinite(poses[[index, other]]).all():
        motion = np.linalg.inv(poses[other]) @ poses[index]
        return sequence.depth[index](), torch.from_numpy(motion), "ground truth"
    if run is None:
        raise EgodepthError(
            f"frame {index} of {sequence.name} has no ground-truth depth and poses, and no run "
            "was given whose prediction could serve"
        )
    predictor = Run.load(run)
    gap = gap_of(sequence.frames, predictor.motion_gap)
    if abs(other - index) != gap:
        warnings.warn(
            f"{run} learned motions over {gap} frames, not {abs(other - index)}: the matches are off by as "
            f"much; use --offset {gap}",
            EgodepthWarning,
            stacklevel=2,
        )
    first, second = min(index, other), max(index, other)
    motion = predictor.motion(read[first], read[second])
    if index > other:
        motion = np.linalg.inv(motion)
    return predictor.depth(read[index]), torch.from_numpy(motion), f"prediction of {run}"


def _match_windows(
    pixels: Tensor, depth: Tensor, source_from_target: Tensor, camera: Camera, margin: float
) -> tuple[Tensor, Tensor]:
    """Matches (N, 3, 3, 2) of each pixel's window, and whether they lie inside by ``margin`` (N,)."""
    window = _windows(pixels).flatten(0, 2)
    points = camera.unproject(window, depth.repeat_interleave(9))
    moved = points @ source_from_target[:3, :3].mT + source_from_target[:3, 3]
    matched = camera.project(moved).unflatten(0, (-1, 9))
    last = torch.tensor([camera.width - 1, camera.height - 1], dtype=pixels.dtype)
    inside = ((matched >= margin) & (matched <= last - margin)).all(-1).all(-1)
    inside &= (moved[:, 2].unflatten(0, (-1, 9)) > 0).all(-1)
    return matched.unflatten(1, (3, 3)), inside


def _windows(pixels: Tensor) -> Tensor:
    """Pixels and their eight neighbours (N, 3, 3, 2), rows along y."""
    line = torch.tensor([-1.0, 0.0, 1.0], dtype=pixels.dtype)
    return pixels[:, None, None] + torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def _nearest_depth(depth: np.ndarray, x: float, y: float) -> np.ndarray:
    rows, columns = np.nonzero(depth)
    if len(rows) == 0:
        raise EgodepthError("the frame has no ground-truth depth at all")
    distance = np.hypot(columns - x, rows - y)
    nearest = int(distance.argmin())
    if distance[nearest] > 3:
        raise EgodepthError(
            f"there is no ground-truth depth at ({x:g}, {y:g}); the nearest is at "
            f"({columns[nearest]}, {rows[nearest]})"
        )
    return np.array([depth[rows[nearest], columns[nearest]]])
