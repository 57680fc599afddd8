"""Poses and depths of a clip predicted by the current networks, for making labels during training."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from egodepth.data.preparation.clips import Clip, KnownMotion, SparsePoints
from egodepth.geometry import bundle_points, se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.key_frame_window import (
    FIXED_KEY_FRAMES,
    KEY_FRAMES,
    POINT_CELL,
    WEAK_DEPTH_PRIOR,
    KeyFrame,
    KeyFrameWindow,
)
from egodepth.models.networks import Networks
from egodepth.training.batch import SnippetBatch
from egodepth.training.motion_alignment import align_motions, require_finite

TOGETHER = 8
"""Number of key frames per batch of the networks."""
POINTS_EVERY = 16
"""Grid spacing in pixels of the points whose depth sets the search range of the plane sweep."""


@torch.no_grad()
def find_motion(networks: Networks, clip: Clip) -> KnownMotion:
    """Find poses of a clip's frames in DepthNet's unit, and DepthNet's depth at a grid of points per key frame.

    PoseNet's motions between key frames are refined by direct alignment, and their chain by windowed bundle
    adjustment. Frames in between are aligned to the preceding key frame, starting from constant velocity. A
    part ends at a missing frame, a pair without parallax, or a cut.

    Args:
        networks: DepthNet and PoseNet, in evaluation mode.
        clip: clip at training resolution.

    Raises:
        NonFiniteError: depth or motion is not finite.
    """
    motion = KnownMotion.unknown(len(clip.frames))
    camera = clip.camera.to(torch.float32)
    for number, run in enumerate(_runs_of_key_frames(clip)):
        window: KeyFrameWindow[KeyFrame] = KeyFrameWindow(camera, KEY_FRAMES, WEAK_DEPTH_PRIOR)
        scales: dict[int, Tensor] = {}
        for key, key_from_last in _key_frames(networks, clip, run, motion.points):
            key.camera_from_world = se3.rigid(
                key_from_last @ window.frames[-1].camera_from_world
                if window.frames
                else torch.eye(4)
            )
            window.add(key)
            if len(window.frames) == KEY_FRAMES or key.number == run[-1]:
                window.adjust(1 if window.frames[0].number == run[0] else FIXED_KEY_FRAMES)
            for frame in window.frames:
                world_from_camera = se3.inverse(frame.camera_from_world.double()).numpy()
                motion.world_from_camera[frame.number] = world_from_camera
                scales[frame.number] = frame.log_scale
        motion.part[run] = number
        if clip.stride > 1:
            _place_between(networks, clip, motion, run, scales)
    return motion


def _runs_of_key_frames(clip: Clip) -> list[list[int]]:
    """Group the positions of key frames into runs without a break."""
    pairs = set(clip.pairs(clip.stride)) - clip.excluded_pairs
    runs: list[list[int]] = []
    for key in range(0, len(clip.frames), clip.stride):
        if runs and (key - clip.stride, key) in pairs:
            runs[-1].append(key)
        else:
            runs.append([key])
    return runs


def _key_frames(
    networks: Networks, clip: Clip, run: list[int], known: dict[int, SparsePoints]
) -> Iterator[tuple[KeyFrame, Tensor]]:
    """Yield key frames without poses, and the motion of each from the previous one, by PoseNet and alignment.
    Their depths are added to ``known``."""
    assert networks.pose is not None
    camera = clip.camera.to(torch.float32)
    for first in range(0, len(run), TOGETHER):
        positions = run[max(0, first - 1) : first + TOGETHER]
        frames = images_of(networks, clip, positions)
        inverse_depth = inverse_depth_of(networks, frames)
        require_finite(inverse_depth, "depth", on_gpu=True)
        motions = torch.eye(4)[None]
        if len(frames) > 1:
            target, source = frames[:-1], frames[None, 1:]
            learned = networks.pose.sources_from_target(target, source, (1,))
            require_finite(learned, "motion", on_gpu=True)
            found, _ = align_motions(learned, _batch(clip, target, source), inverse_depth[:-1])
            motions = torch.cat([motions, found[0].cpu()])
        maps = bundle_points.normalized_brightness(frames).cpu()
        for place, position in enumerate(positions):
            if place == 0 and first > 0:
                continue
            inverse = inverse_depth[place, 0].cpu()
            known[position] = _points(inverse, clip.static)
            points = bundle_points.select_points(maps[place], inverse, camera, POINT_CELL)
            if clip.static is not None:
                points = _without_static(points, camera, clip.static)
            key = KeyFrame(
                position, maps[place], points, torch.eye(4), torch.tensor(0.0),
                torch.zeros_like(points.inverse_depth[0]),
            )  # fmt: skip
            yield key, motions[place]


def _place_between(
    networks: Networks, clip: Clip, motion: KnownMotion, run: list[int], scales: dict[int, Tensor]
) -> None:
    """Find poses of the frames between the key frames of a part, and store them in ``motion``."""
    poses = motion.world_from_camera
    for key in run[:-1]:
        between = np.arange(key + 1, key + clip.stride)
        shares = torch.from_numpy((clip.numbers[between] - clip.numbers[key]) / clip.stride)
        whole = torch.from_numpy(np.linalg.inv(poses[key + clip.stride]) @ poses[key])
        start = se3.part_of(whole.expand(len(between), 4, 4), shares).float()
        frames = images_of(networks, clip, [key, *between])
        inverse = inverse_depth_of(networks, frames[:1]) * scales[key].exp().to(frames.device)
        target, source = frames[:1], frames[1:, None]
        found, _ = align_motions(
            start[:, None].to(frames.device), _batch(clip, target, source), inverse
        )
        poses[between] = poses[key] @ se3.inverse(se3.rigid(found[:, 0].double())).cpu().numpy()
        motion.part[between] = motion.part[key]


def images_of(networks: Networks, clip: Clip, positions: list[int]) -> Tensor:
    """Return frames (N, 3, H, W) of a clip in [0, 1], on the networks' device."""
    device = next(networks.parameters()).device
    frames = torch.from_numpy(clip.frames[positions])
    return frames.to(device).float() / 255


def inverse_depth_of(networks: Networks, frames: Tensor) -> Tensor:
    """Predict inverse depth (B, 1, H, W) of frames (B, 3, H, W), at their size."""
    assert networks.depth is not None
    inverse = networks.depth(frames, scales=1)[0]
    return F.interpolate(inverse, frames.shape[-2:], mode="bilinear", align_corners=False)


def _points(inverse_depth: Tensor, static: np.ndarray | None) -> SparsePoints:
    """Sample an inverse depth map (H, W) at a grid of points outside of the static mask."""
    height, width = inverse_depth.shape
    first = POINTS_EVERY // 2
    y, x = np.mgrid[first:height:POINTS_EVERY, first:width:POINTS_EVERY]
    if static is not None and not static[y, x].all():
        y, x = y[~static[y, x]], x[~static[y, x]]
    pixels = np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
    return SparsePoints(pixels, inverse_depth.numpy()[y.ravel(), x.ravel()].astype(np.float64))


def _without_static(
    points: bundle_points.BundlePoints, camera: Camera, static: np.ndarray
) -> bundle_points.BundlePoints:
    x, y = camera.project(points.rays[:, :, 0]).round().long().unbind(-1)
    height, width = static.shape
    hidden = torch.from_numpy(static)[y.clamp(0, height - 1), x.clamp(0, width - 1)]
    return replace(points, valid=points.valid & ~hidden)


def _batch(clip: Clip, target: Tensor, sources: Tensor) -> SnippetBatch:
    """Make a batch without augmentation, known motions or labels."""
    count, device = len(target), target.device
    matrix = clip.camera.matrix.float().reshape(1, 3, 3).expand(count, 3, 3).to(device)
    static = None
    if clip.static is not None:
        mask = torch.from_numpy(clip.static).to(device)
        static = mask.expand(count, 1, *mask.shape)
    return SnippetBatch(
        target, sources, target, sources, Camera(matrix, *target.shape[-2:]), static=static
    )
