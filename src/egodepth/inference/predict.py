"""Prediction for a whole sequence, in constant memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from egodepth.core.ahead import ahead, beside
from egodepth.core.colours import colourize_depth
from egodepth.core.files import atomic_path, write_text
from egodepth.core.video import VideoWriter
from egodepth.data.sequence import Frame, Sequence
from egodepth.geometry.trajectory import write_kitti, write_tum
from egodepth.inference.run import Run

BATCH = 4
PNG_PER_UNIT = 256
"""Steps of the 16-bit PNG in one unit of depth after scaling, as in KITTI's depth maps; 0 is unknown."""

FAST_PNG = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]
"""A third of the time of the ordinary way, for files a tenth larger."""


class FramePrediction(NamedTuple):
    """Prediction for one frame.

    Attributes:
        frame: the frame.
        depth: (H, W) float32 at the size of the frame, in the run's unit; empty where it was not
            asked for.
        first_from_frame: (4, 4) float64, the camera's pose in the frame of the first camera; NaN
            where the run has no PoseNet.
    """

    frame: Frame
    depth: np.ndarray
    first_from_frame: np.ndarray


def predict_sequence(
    run: Run, sequence: Sequence, *, with_depth: bool = True
) -> Iterator[FramePrediction]:
    """Depth and pose of every frame in order; frames are decoded as they are needed."""
    pose = np.eye(4)
    previous: torch.Tensor | None = None
    for frames in ahead(_batches(sequence.frames.at())):
        prepared = torch.stack([run.prepare(frame.image) for frame in frames])
        height, width = frames[0].image.shape[:2]
        depths = np.empty((len(frames), 0, 0), np.float32)
        if with_depth:
            depths = run.depth_of_frames(prepared, height, width)
        chained = prepared if previous is None else torch.cat([previous[None], prepared])
        steps: list[np.ndarray] = []
        if not run.has_motion:
            steps = [np.full((4, 4), np.nan)] * (len(chained) - 1)
        elif len(chained) > 1:
            steps = list(np.linalg.inv(run.motions_of_frames(chained[:-1], chained[1:])))
        if previous is None:
            steps.insert(0, np.eye(4))
        previous = prepared[-1]
        for frame, depth, previous_from_frame in zip(frames, depths, steps, strict=True):
            pose = pose @ previous_from_frame
            yield FramePrediction(frame, depth, pose)


def write_predictions(
    predictions: Iterator[FramePrediction], out: Path
) -> Iterator[FramePrediction]:
    """Write predictions while they come, and pass them on.

    ``depth_png/NUMBER.png``: 16 bit, depth times ``scale`` times 256; ``depth/NUMBER.npz``: ``depth``
    as float32 in the run's unit; ``depth.mp4``: image above depth; ``trajectory_tum.txt`` and
    ``trajectory_kitti.txt``. The PNG's ``scale`` is chosen by the first frame, whose median depth
    becomes 10, and written to ``depth_png/scale.txt``: the unit of a monocular run is arbitrary.
    Without poses there is no trajectory.

    Raises:
        EgodepthError: a broken frame, or a file that can't be written.
    """
    poses: list[np.ndarray] = []
    times: list[float] = []
    with VideoWriter(out / "depth.mp4") as video:
        writer = _Writer(out, video)
        for prediction in beside(predictions, writer.write):
            poses.append(prediction.first_from_frame)
            times.append(prediction.frame.time)
            yield prediction
    if np.isnan(poses).any():
        return
    write_kitti(out / "trajectory_kitti.txt", np.stack(poses))
    write_tum(out / "trajectory_tum.txt", np.stack(poses), np.array(times))


class _Writer:
    """Depth maps and video of one frame after the other."""

    def __init__(self, out: Path, video: VideoWriter):
        self.out, self.video = out, video
        self.scale = self.nearest = 0.0

    def write(self, prediction: FramePrediction) -> None:
        """The files of a frame."""
        frame, depth, _ = prediction
        if not self.scale:
            self.scale = 10.0 / float(np.median(depth))
            self.nearest = float(np.percentile(depth, 2))
            write_text(self.out / "depth_png" / "scale.txt", f"{self.scale:.9g}\n")
        name = f"{frame.number:010d}"
        with atomic_path(self.out / "depth" / f"{name}.npz") as partial:
            np.savez(partial, depth=depth)
        steps = np.round(depth * (self.scale * PNG_PER_UNIT))
        levels = np.clip(steps, 1, 65535).astype(np.uint16)
        done, encoded = cv2.imencode(".png", levels, FAST_PNG)
        assert done
        with atomic_path(self.out / "depth_png" / f"{name}.png") as partial:
            partial.write_bytes(encoded.tobytes())
        self.video.write(np.vstack([frame.image, colourize_depth(depth, self.nearest)]))


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
