"""Dense depth labels for a clip with known poses, by plane sweep and multi-view consistency."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16
from numpy import ndarray
from torch import Tensor

from egodepth.core import progress
from egodepth.core.files import reserve
from egodepth.data.footage.cache import cache_file, is_whole, read_or_make, write_sealed
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.preparation.clips import NO_PART, Clip
from egodepth.data.preparation.static_mask import resize_mask
from egodepth.data.sequence import read_numbered
from egodepth.geometry.multi_view import (
    MIN_AGREEING,
    MIN_BASELINE,
    SOURCES_PER_SIDE,
    TOLERANCE,
    PosedViews,
    block_medians,
    blocks,
    comparison_scale,
    sources_by_baseline,
)
from egodepth.geometry.plane_sweep import Describe, local_contrast
from egodepth.geometry.z_buffer import z_buffer

MIN_STEP = 0.3
"""Shortest baseline between a frame and its nearest source, as a share of the median distance between
neighbouring key frames. Used for frames without sparse points."""
MAX_STRIDES = 8
"""Largest distance from a frame to a source in strides, however slow the camera."""
NEAREST_PERCENTILE, NEAREST_FACTOR = 1, 0.4
"""The sweep starts at this factor times this percentile of the depths of a clip's points: the road in front of
the camera is nearer than most corners."""
MAX_DISPARITY = 0.3
"""Disparity between a frame and its nearest source at which the sweep starts, as a share of the image width.
Used for clips without sparse points."""
LABELS_PER_FILE = 16
"""Number of labels saved at a time, so that an interrupted run loses little."""
METHOD = 4
"""Version of the method, part of the cache key: raise it when labels change."""


def add_labels(
    clip: Clip,
    folder: Path,
    device: torch.device,
    on_frame: Callable[[int, int], None] = lambda *_: None,
    seconds: float | None = None,
) -> Clip:
    """A copy of the clip with depth labels in :attr:`Clip.dense`.

    Every ``stride``-th frame is a key frame, labelled by plane sweep. Frames in between get labels warped from
    the key frames on either side. Labels are cached in ``folder``; an interrupted run resumes where it stopped.

    Args:
        clip: a clip with known motion.
        folder: cache folder.
        device: device to compute on.
        on_frame: called with the number of finished labels and their total; an exception from it stops the
            work.
        seconds: time limit; the remaining frames, spread over the clip, get no labels.

    Raises:
        EgodepthError: broken frames, or a folder that can't be written.
    """
    assert clip.motion is not None
    poses = hashlib.sha256(np.ascontiguousarray(clip.motion.world_from_camera).tobytes())
    height, width = clip.frames.shape[-2:]
    key = (
        f"{clip.sequence.frames.fingerprint} {height}x{width} {clip.stride} {clip.camera.matrix.tolist()} "
        f"{poses.hexdigest()} {seconds} {METHOD}{clip.static_digest}"
    )
    path = cache_file(folder, key, "-dense.npy")

    def make(out: Path) -> None:
        name = f"depth from many views of {clip.sequence.name}"
        with progress.phase(name, len(key_positions(clip)), "labels") as phase:

            def tell(done: int, total: int) -> None:
                phase.update(done)
                on_frame(done, total)

            _make_labels(clip, path, out, device, tell, seconds)

    dense = read_or_make(path, make, lambda: np.load(path, mmap_mode="r"))
    for piece in path.parent.glob(f"{path.stem}-*.npy"):
        piece.unlink(missing_ok=True)
    return replace(clip, dense=dense)


def key_positions(clip: Clip) -> list[int]:
    """Positions of the key frames with a pose, which are labelled by plane sweep."""
    assert clip.motion is not None
    known = clip.motion.part != NO_PART
    return [p for p in range(0, len(clip.frames), clip.stride) if known[p]]


def sources_of(clip: Clip, position: int) -> list[int]:
    """Positions of the source key frames for a frame's plane sweep, see :func:`sources_by_baseline`."""
    assert clip.motion is not None
    part, poses = clip.motion.part, clip.motion.world_from_camera
    centres = np.where((part == part[position])[:, None], poses[:, :3, 3], np.nan)
    steps = range(clip.stride, MAX_STRIDES * clip.stride + 1, clip.stride)
    return sources_by_baseline(centres, position, _shortest_baseline(clip, position), steps)


def _shortest_baseline(clip: Clip, position: int) -> float:
    """Shortest baseline at which a source shows enough parallax."""
    assert clip.motion is not None
    points = clip.motion.points.get(position)
    if points is not None:
        return MIN_BASELINE / float(np.median(points.inverse_depth))
    centres = clip.motion.world_from_camera[:: clip.stride, :3, 3]
    part = clip.motion.part[:: clip.stride]
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    known = steps[(part[1:] == part[:-1]) & (part[1:] != NO_PART)]
    return MIN_STEP * float(np.median(known)) if len(known) else math.inf


def _make_labels(
    clip: Clip, path: Path, out: Path, device: torch.device,
    on_frame: Callable[[int, int], None], seconds: float | None,
) -> None:  # fmt: skip
    keys = key_positions(clip)
    pieces = [
        keys[first : first + LABELS_PER_FILE] for first in range(0, len(keys), LABELS_PER_FILE)
    ]
    names = [path.with_name(f"{path.stem}-{number:06d}.npy") for number in range(len(pieces))]
    started, done = time.perf_counter(), 0
    # Every other piece first, so that frames left out for lack of time are spread over the clip.
    for order in (slice(0, None, 2), slice(1, None, 2)):
        maker: LabelMaker | None = None
        for piece, name in zip(pieces[order], names[order], strict=True):
            labels = []
            for position in [] if is_whole(name) else piece:
                if seconds is not None and time.perf_counter() - started >= seconds:
                    break
                maker = maker or LabelMaker(clip, piece[0], device)
                labels.append(maker.label(position))
                on_frame(done + len(labels), len(keys))
            if labels:
                write_sealed(name, partial(np.save, arr=np.stack(labels)))
            done += len(piece)
    shape = (len(clip.frames), 2, *clip.frames.shape[-2:])
    whole = np.lib.format.open_memmap(out, mode="w+", dtype=np.float16, shape=shape)
    reserve(out)
    for piece, name in zip(pieces, names, strict=True):
        if is_whole(name):
            labels = np.load(name)
            whole[piece[: len(labels)]] = labels
    _label_between(clip, whole)
    whole.flush()


def _label_between(clip: Clip, dense: np.ndarray) -> None:
    """Label the frames between key frames, in place, with the warped labels of the key frames on either side:
    their mean where both agree, and half the confidence where only one is visible."""
    assert clip.motion is not None
    part = clip.motion.part
    for position in np.flatnonzero(part != NO_PART):
        before = int(position) - int(position) % clip.stride
        keys = [k for k in (before, before + clip.stride) if k < len(part)]
        if position in keys:
            continue
        moved = np.stack([
            _moved(clip, dense[key, 0], key, int(position)) if part[key] == part[position]
            else np.zeros(dense.shape[2:], np.float32)
            for key in keys
        ])  # fmt: skip
        known = moved > 0
        count = known.sum(0)
        mean = moved.sum(0) / np.maximum(count, 1)
        apart = moved.max(0) > (1 + TOLERANCE) * moved.min(0, where=known, initial=np.inf)
        count[apart & (count == 2)] = 0
        if clip.static is not None:
            count[clip.static] = 0
        dense[position] = np.stack([np.where(count > 0, mean, 0), count / 2])


def _moved(clip: Clip, inverse: np.ndarray, key: int, position: int) -> np.ndarray:
    """Inverse depth (h, w) of a key frame warped into another frame; 0 where unknown."""
    assert clip.motion is not None
    height, width = inverse.shape
    # Four points per pixel, so that the background does not show through approaching surfaces.
    y, x = np.mgrid[: 2 * height, : 2 * width]
    depth = np.repeat(np.repeat(inverse.astype(np.float64), 2, 0), 2, 1)
    known = depth > 0
    pixels = torch.from_numpy((np.stack([x, y], -1)[known] + 0.5) / 2 - 0.5)
    camera = clip.camera.to(torch.float64)
    poses = clip.motion.world_from_camera
    motion = torch.from_numpy(np.linalg.inv(poses[position]) @ poses[key])
    points = camera.unproject(pixels, torch.from_numpy(1 / depth[known]))
    points = points @ motion[:3, :3].T + motion[:3, 3]
    points = points[points[:, 2] > 0]
    places = camera.project(points).round().long()
    seen = z_buffer(places.numpy(), points[:, 2].numpy(), height, width)
    return np.divide(1, seen, out=np.zeros_like(seen), where=seen > 0)


class LabelMaker:
    """Labels frames in order, keeping the frames and depths that the next ones need.

    Attributes:
        views: posed views that compute the depth.
    """

    def __init__(
        self, clip: Clip, first: int, device: torch.device, describe: Describe = local_contrast
    ):
        """Prepare to label frames from a position on.

        Args:
            clip: a clip with known motion.
            first: position of the first frame to label.
            device: device to compute on.
            describe: features by which images are compared.
        """
        assert clip.motion is not None
        self._clip = clip
        height, width = clip.frames.shape[-2:]
        frames = clip.sequence.frames
        self._factor = comparison_scale((frames.height, frames.width), (height, width))
        self._size = (self._factor * height, self._factor * width)
        self._static: Tensor | None = None
        if clip.static is not None:
            self._static = torch.from_numpy(resize_mask(clip.static, *self._size)).to(device)
        camera = clip.camera.resize(*self._size).to(device)
        self._nearest = _nearest_depth(clip)
        reach = MAX_STRIDES * clip.stride
        images = self._read(max(0, first - 2 * reach))
        self.views = PosedViews(images, clip.motion.world_from_camera, camera, reach, describe)

    def label(self, position: int) -> Float16[ndarray, "2 h w"]:
        """Inverse depth and confidence of a frame; zeros where views disagree."""
        height, width = self._clip.frames.shape[-2:]
        agreed = self.views.agreed(
            position, lambda frame: sources_of(self._clip, frame), self._nearest
        )
        if agreed is None:
            return np.zeros((2, height, width), np.float16)
        fused, count = agreed
        ahead = self.views.ahead(position, sources_of(self._clip, position), fused)
        fused = ahead.where(ahead.isfinite(), fused)
        count = count.masked_fill(ahead.isfinite(), MIN_AGREEING)
        if self._static is not None:
            count = count.masked_fill(self._static, 0)
        fused = fused.masked_fill(count < MIN_AGREEING, torch.nan)
        confidence = (count / (2 * SOURCES_PER_SIDE)).masked_fill(count < MIN_AGREEING, 0)
        median = block_medians(fused, self._factor)
        share = blocks(confidence, self._factor).mean(-1) * median.isfinite()
        return torch.cat([median.nan_to_num(0), share]).cpu().numpy().astype(np.float16)

    def _read(self, first: int) -> Iterator[tuple[int, Tensor]]:
        """Yield key frames from a position on, at the size at which images are compared."""
        places = self._clip.positions
        keys = {int(self._clip.numbers[p]) for p in key_positions(self._clip) if p >= first}
        for frame in read_numbered(self._clip.sequence.frames, np.array(sorted(keys))):
            image = resize_frame(frame.image, *self._size).transpose(2, 0, 1)
            yield places[frame.number], torch.from_numpy(np.array(image))


def _nearest_depth(clip: Clip) -> float:
    """Nearest depth to sweep, from the points of the clip, or else from the baselines."""
    assert clip.motion is not None
    if clip.motion.points:
        inverse = np.concatenate([points.inverse_depth for points in clip.motion.points.values()])
        return NEAREST_FACTOR / float(np.percentile(inverse, 100 - NEAREST_PERCENTILE))
    poses = clip.motion.world_from_camera
    baselines = [
        float(np.linalg.norm(poses[s, :3, 3] - poses[p, :3, 3]))
        for p in key_positions(clip)
        for s in sources_of(clip, p)[:1]
    ]
    if not baselines:
        return 1.0  # no frame has a source, so nothing will be swept
    focal = float(clip.camera.matrix[0, 0]) / clip.camera.width
    return float(np.median(baselines)) * focal / MAX_DISPARITY
