"""Labels from many views where no poses are known before the training: made twice while it runs, with the
poses and depths that the networks have by then."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from egodepth.core import progress
from egodepth.data.preparation.clips import Clip, KnownMotion, Points
from egodepth.data.preparation.dense_depth import key_positions
from egodepth.geometry import bundle, se3
from egodepth.geometry.camera import Camera
from egodepth.models.networks import Networks
from egodepth.training.module import EgodepthModule
from egodepth.training.objective import align_motions
from egodepth.training.plan import LabelsStoppedError, Plan, label_plan
from egodepth.training.snippets import BATCHES_AHEAD, LabelRound, SnippetBatch, SnippetStream
from egodepth.training.step_callback import StepCallback

ROUNDS = (1 / 3, 2 / 3)
"""Shares of the training after which labels are made."""
TOGETHER = 8
"""Key frames that the networks see at once."""
WINDOW, FIXED, CELL = 7, 2, 7
"""Key frames that are adjusted together, the oldest of them that no longer move, and the side in pixels of the
cells that have one point each, as in :mod:`egodepth.inference.odometry.tracker`."""
BUNDLE = bundle.BundleSettings(scale_deviation=0.3, factor_deviation=1.0)
POINTS_EVERY = 16
"""Pixels between those whose depth tells where to search."""
MAX_RATIO, MAX_SPREAD = 2.0, 0.3
"""Labels are of no use if their median depth is so many times DepthNet's or its inverse, or if the logarithms
of the ratio spread so far: the median deviation from their median."""


@dataclass
class _Round:
    """What a round needs to be finished, or made again.

    Attributes:
        step: after which it began.
        motions: of each clip; None where it is not used.
        factors: see :class:`LabelRound`; 0 for labels that are left out; None while the round is under way.
        line: what came of it, in words.
    """

    step: int
    motions: list[KnownMotion | None]
    factors: list[float] | None = None
    line: str = ""


class LabelRounds(StepCallback):
    """Makes labels after a third of the training, and again after two thirds.

    Poses are kept in the checkpoint and labels in the cache, so that a resumed training has the same ones; one
    that was stopped in a round goes on with it.

    Attributes:
        lines: what came of the rounds, in words.
    """

    def __init__(self, stream: SnippetStream, folder: Path, seconds: float | None = None):
        """Args:
        stream: of the training, which gets the labels.
        folder: of the cache.
        seconds: that all labels may take.
        """
        self._stream, self._folder = stream, folder
        self._seconds = None if seconds is None else seconds / len(ROUNDS)
        self._rounds: list[_Round] = []

    @property
    def lines(self) -> list[str]:
        """What came of the rounds."""
        return [made.line for made in self._rounds if made.line]

    def seconds_left(self) -> float:
        """What the rounds that are still to come may take; 0 where they have no limit."""
        to_come = len(ROUNDS) - sum(made.factors is not None for made in self._rounds)
        return to_come * (self._seconds or 0.0)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        rounds = [vars(r) | {"motions": [_pack(m) for m in r.motions]} for r in self._rounds]
        return {"rounds": rounds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self._rounds = [
            _Round(**{**r, "motions": [_unpack(m) for m in r["motions"]]})
            for r in state_dict["rounds"]
        ]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Before the stream makes its first batch.
        for made in self._rounds:
            if made.factors is not None:
                self._give(made, self._label(made, trainer).clips)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EgodepthModule)
        self.after_step(trainer, pl_module)

    def after_step(self, trainer: L.Trainer, module: EgodepthModule) -> None:
        """Begin a round that is due, or go on with the one under way, unless the training is to stop."""
        step, schedule = trainer.global_step, module.schedule
        unfinished = bool(self._rounds) and self._rounds[-1].factors is None
        passed = sum(schedule.progress(step) >= share for share in ROUNDS)
        due = passed > len(self._rounds) and step + BATCHES_AHEAD < schedule.total
        if trainer.should_stop or not (unfinished or due):
            return
        networks = module.networks.eval()
        if not unfinished:
            clips = self._stream.clips
            watched = progress.track(clips, "finding the motion of the clips", len(clips), "clips")
            motions = [find_motion(networks, c) if c.is_used else None for c in watched]
            self._rounds.append(_Round(step, motions))
        with suppress(LabelsStoppedError):
            self._finish(self._rounds[-1], trainer, networks)
        module.networks.train()

    def _finish(self, made: _Round, trainer: L.Trainer, networks: Networks) -> None:
        plan = self._label(made, trainer)
        made.factors, lines = [], []
        for clip in plan.clips:
            factor, complaint = _factor(networks, clip)
            made.factors.append(factor)
            if complaint:
                lines.append(f"{clip.sequence.name}: {complaint}, and teach nothing")
        made.line = f"step {made.step}: " + "; ".join([*plan.lines, *lines])
        progress.note(made.line)
        self._give(made, plan.clips)

    def _label(self, made: _Round, trainer: L.Trainer) -> Plan:
        clips = [
            replace(clip, motion=motion)
            for clip, motion in zip(self._stream.clips, made.motions, strict=True)
        ]
        device = trainer.strategy.root_device
        return label_plan(
            Plan(clips, "network", []), self._folder, device, self._seconds,
            lambda: trainer.should_stop,
        )  # fmt: skip

    def _give(self, made: _Round, clips: list[Clip]) -> None:
        assert made.factors is not None
        dense = [c.dense if factor else None for c, factor in zip(clips, made.factors, strict=True)]
        self._stream.label_rounds.append(LabelRound(made.step + BATCHES_AHEAD, dense, made.factors))


@dataclass
class _KeyFrame:
    """A key frame in the window that is adjusted.

    Attributes:
        position: among the clip's frames.
        map: (1, h, w) of local contrast.
        points: with DepthNet's depth.
        camera_from_world: (4, 4).
        log_scale: of the points' inverse depth, as it was adjusted.
        factor: (1, M) logarithms of the points' own factors.
    """

    position: int
    map: Tensor
    points: bundle.Points
    camera_from_world: Tensor
    log_scale: Tensor
    factor: Tensor


@torch.no_grad()
def find_motion(networks: Networks, clip: Clip) -> KnownMotion:
    """Poses of a clip's frames in DepthNet's unit, with DepthNet's depth at a grid of points of each key frame.

    PoseNet's motions from key frame to key frame are refined by direct alignment, and their chain by bundle
    adjustment in a window. Frames between key frames are aligned to the one before, from where they would be at
    constant velocity. A part ends where a frame is missing and at pairs without parallax or across a cut.

    Args:
        networks: a DepthNet and a PoseNet, in evaluation mode.
        clip: at the size of the training.

    Raises:
        FloatingPointError: depth or motion that is not finite.
    """
    motion = KnownMotion.unknown(len(clip.frames))
    camera = clip.camera.to(torch.float32)
    for number, run in enumerate(_runs_of_key_frames(clip)):
        window: list[_KeyFrame] = []
        scales: dict[int, Tensor] = {}
        for key, key_from_last in _key_frames(networks, clip, run, motion.points):
            key.camera_from_world = se3.rigid(
                key_from_last @ window[-1].camera_from_world if window else torch.eye(4)
            )
            window = [*window, key][-WINDOW:]
            if len(window) == WINDOW or key.position == run[-1]:
                _adjust(window, camera, fixed=1 if window[0].position == run[0] else FIXED)
            for frame in window:
                world_from_camera = se3.inverse(frame.camera_from_world.double()).numpy()
                motion.world_from_camera[frame.position] = world_from_camera
                scales[frame.position] = frame.log_scale
        motion.part[run] = number
        if clip.stride > 1:
            _place_between(networks, clip, motion, run, scales)
    return motion


def _runs_of_key_frames(clip: Clip) -> list[list[int]]:
    """Positions of key frames that follow each other without a break."""
    pairs = set(clip.pairs(clip.stride)) - clip.useless
    runs: list[list[int]] = []
    for key in range(0, len(clip.frames), clip.stride):
        if runs and (key - clip.stride, key) in pairs:
            runs[-1].append(key)
        else:
            runs.append([key])
    return runs


def _key_frames(
    networks: Networks, clip: Clip, run: list[int], known: dict[int, Points]
) -> Iterator[tuple[_KeyFrame, Tensor]]:
    """Key frames, not placed yet, and the motion of each from the one before, by PoseNet and alignment;
    ``known`` gets their depths."""
    assert networks.pose is not None
    camera = clip.camera.to(torch.float32)
    for first in range(0, len(run), TOGETHER):
        positions = run[max(0, first - 1) : first + TOGETHER]
        frames = _images(networks, clip, positions)
        inverse_depth = _inverse_depth(networks, frames)
        motions = torch.eye(4)[None]
        if len(frames) > 1:
            target, source = frames[:-1], frames[None, 1:]
            learned = networks.pose.sources_from_target(target, source, (1,))
            _require_finite(learned)
            found, _ = align_motions(learned, _batch(clip, target, source), inverse_depth[:-1])
            motions = torch.cat([motions, found[0].cpu()])
        maps = bundle.local_contrast(frames).cpu()
        for place, position in enumerate(positions):
            if place == 0 and first > 0:
                continue
            inverse = inverse_depth[place, 0].cpu()
            known[position] = _points(inverse, clip.static)
            points = bundle.select_points(maps[place], inverse, camera, CELL)
            if clip.static is not None:
                points = _without_static(points, camera, clip.static)
            key = _KeyFrame(
                position, maps[place], points, torch.eye(4), torch.tensor(0.0),
                torch.zeros_like(points.inverse_depth),
            )  # fmt: skip
            yield key, motions[place]


def _adjust(window: list[_KeyFrame], camera: Camera, fixed: int) -> None:
    """Adjust poses and depths of all but the first frames of a window."""
    count = len(window)
    if count <= fixed:
        return
    maps = torch.stack([key.map for key in window])
    points = bundle.Points.stack([key.points for key in window])
    state = bundle.BundleState(
        torch.stack([key.camera_from_world for key in window]),
        torch.stack([key.log_scale for key in window]),
        torch.cat([key.factor for key in window]),
    )
    order = torch.arange(count)
    found, _ = bundle.adjust(
        bundle.Window(points, maps, order, camera), state, order >= fixed, BUNDLE
    )
    for place, key in enumerate(window):
        key.camera_from_world = se3.rigid(found.camera_from_world[place])
        key.log_scale, key.factor = found.log_scale[place], found.factor[place : place + 1]


def _place_between(
    networks: Networks, clip: Clip, motion: KnownMotion, run: list[int], scales: dict[int, Tensor]
) -> None:
    """Poses of the frames between the key frames of a part."""
    poses = motion.world_from_camera
    for key in run[:-1]:
        between = np.arange(key + 1, key + clip.stride)
        shares = torch.from_numpy((clip.numbers[between] - clip.numbers[key]) / clip.stride)
        whole = torch.from_numpy(np.linalg.inv(poses[key + clip.stride]) @ poses[key])
        start = se3.part_of(whole.expand(len(between), 4, 4), shares).float()
        frames = _images(networks, clip, [key, *between])
        inverse = _inverse_depth(networks, frames[:1]) * scales[key].exp().to(frames.device)
        target, source = frames[:1], frames[1:, None]
        found, _ = align_motions(
            start[:, None].to(frames.device), _batch(clip, target, source), inverse
        )
        poses[between] = poses[key] @ se3.inverse(se3.rigid(found[:, 0].double())).cpu().numpy()
        motion.part[between] = motion.part[key]


def _require_finite(motions: Tensor) -> None:
    if not bool(motions.isfinite().all()):
        raise FloatingPointError("PoseNet's motions are not finite")


def _images(networks: Networks, clip: Clip, positions: list[int]) -> Tensor:
    device = next(networks.parameters()).device
    frames = torch.from_numpy(clip.frames[positions])
    return frames.to(device).float() / 255


def _inverse_depth(networks: Networks, frames: Tensor) -> Tensor:
    """(B, 1, H, W)"""
    assert networks.depth is not None
    inverse = networks.depth(frames, scales=1)[0]
    return F.interpolate(inverse, frames.shape[-2:], mode="bilinear", align_corners=False)


def _points(inverse_depth: Tensor, static: np.ndarray | None) -> Points:
    """Of a map (H, W), every so many pixels, without what belongs to the camera."""
    height, width = inverse_depth.shape
    first = POINTS_EVERY // 2
    y, x = np.mgrid[first:height:POINTS_EVERY, first:width:POINTS_EVERY]
    if static is not None and not static[y, x].all():
        y, x = y[~static[y, x]], x[~static[y, x]]
    pixels = np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
    return Points(pixels, inverse_depth.numpy()[y.ravel(), x.ravel()].astype(np.float64))


def _without_static(points: bundle.Points, camera: Camera, static: np.ndarray) -> bundle.Points:
    x, y = camera.project(points.rays[:, :, 0]).round().long().unbind(-1)
    height, width = static.shape
    hidden = torch.from_numpy(static)[y.clamp(0, height - 1), x.clamp(0, width - 1)]
    return replace(points, valid=points.valid & ~hidden)


def _batch(clip: Clip, target: Tensor, sources: Tensor) -> SnippetBatch:
    """Snippets without augmentation, of which nothing is known."""
    count, device = len(target), target.device
    matrix = clip.camera.matrix.float().reshape(1, 3, 3).expand(count, 3, 3).to(device)
    static = torch.zeros(0, count, 1, *target.shape[-2:], dtype=torch.bool, device=device)
    if clip.static is not None:
        mask = torch.from_numpy(clip.static).to(device)
        static = mask.expand(1, count, 1, *mask.shape)
    return SnippetBatch(
        target, sources, target, sources, Camera(matrix, *target.shape[-2:]),
        target.new_full((len(sources), count, 4, 4), torch.nan), target.new_zeros(count, 0, 3), static,
    )  # fmt: skip


@torch.no_grad()
def _factor(networks: Networks, clip: Clip) -> tuple[float, str]:
    """What brings a clip's labels to DepthNet's unit: the median ratio of inverse depths; 0 without labels, and
    where both disagree, with a complaint."""
    if clip.dense is None or clip.motion is None:
        return 0.0, ""
    ratios = []
    for position in key_positions(clip):
        label = np.asarray(clip.dense[position, 0], np.float32)
        if (label > 0).any():
            predicted = (
                _inverse_depth(networks, _images(networks, clip, [position]))[0, 0].cpu().numpy()
            )
            ratios.append(np.log(predicted[label > 0] / label[label > 0])[::POINTS_EVERY])
    if not ratios:
        return 0.0, ""
    logs = np.concatenate(ratios)
    median = float(np.median(logs))
    spread = float(np.median(np.abs(logs - median)))
    if abs(median) > np.log(MAX_RATIO) or spread > MAX_SPREAD:
        return 0.0, (
            f"labels of {np.exp(median):.2g} times DepthNet's depth, half of them {100 * spread:.0f} % off and "
            "more, do not agree with it"
        )
    return float(np.exp(median)), ""


def _pack(motion: KnownMotion | None) -> dict[str, Any] | None:
    """Tensors, which checkpoints hold."""
    if motion is None:
        return None
    return {
        "world_from_camera": torch.from_numpy(motion.world_from_camera),
        "part": torch.from_numpy(motion.part),
        "points": {p: [torch.from_numpy(v) for v in vars(f).values()] for p, f in motion.points.items()},
    }  # fmt: skip


def _unpack(state: dict[str, Any] | None) -> KnownMotion | None:
    if state is None:
        return None
    points = {p: Points(*(v.numpy() for v in values)) for p, values in state["points"].items()}
    return KnownMotion(state["world_from_camera"].numpy(), state["part"].numpy(), points)
