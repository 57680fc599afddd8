"""Content of the page: frames, depth, motion and points of a sequence, computed while the page is open."""

import io
import threading
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.progress import Phase, Silence, reporting
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.sequence import Frame, Sequence
from egodepth.evaluation.depth import DepthProtocol, score_depth
from egodepth.inference.arguments import footage_of
from egodepth.inference.export.cloud import Cloud, fuse_cloud
from egodepth.inference.odometry.known_length import KnownLength
from egodepth.inference.odometry.track import track_sequence
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.inference.predict import by_alignment, find_unit, predict_sequence
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run
from egodepth.runs.unit import OWN_UNIT, Unit

MAX_FRAMES = 600
"""Maximum number of frames kept; longer footage is subsampled."""
MAX_IMAGE_WIDTH, MAX_DEPTH_WIDTH = 1280, 640
MAX_CLOUD_FRAMES, MAX_CLOUD_POINTS = 40, 300_000
SHOWN_SCORES = ("abs_rel", "rmse", "a1")


@dataclass(frozen=True)
class ViewFrame:
    """One frame as sent to the page.

    Attributes:
        number, time: number and time of the frame.
        image: image as JPEG.
        depth: (h, w) float16, in the unit of the session.
        deviation: (h, w) float16, standard deviation of log depth; None if the run has no confidence.
        scores: depth metrics if there is ground truth, else empty.
    """

    number: int
    time: float | None
    image: bytes
    depth: np.ndarray
    deviation: np.ndarray | None
    scores: dict[str, float]


class Session:
    """Predictions for one sequence, computed in a thread; results so far can be read at any time.

    Attributes:
        sequence: the sequence that is shown.
        frames: frames predicted so far, in order.
        poses: (N, 4, 4) ``first_from_frame`` of ``frames``; None until they are known, and if they can't be
            estimated.
        loops: pairs of indices of ``frames`` that show the same place, if motion is from direct alignment.
        lost: how many frames have no pose, in words; empty if all have one.
        cloud: points of all frames; None until they are computed.
        unit: unit of all lengths.
        nearest: depth that is shown brightest.
        problem: error message; empty if there was none.
        state: current work, in words; empty at the end.
    """

    def __init__(
        self, run: Run, sequence: Sequence, known: KnownLength | None = None,
        protocol: DepthProtocol | None = None, *, odometry: bool = False, steady: bool = False,
    ):  # fmt: skip
        """Start predicting.

        Args:
            run: trained networks.
            sequence: footage; without a camera, it gets the run's.
            known: known length or speed, which makes lengths metric.
            protocol: protocol to score depth with, if there is ground truth.
            odometry: estimate motion by direct alignment, slower but better than PoseNet's; always used if
                there is no PoseNet, or its motions do not fit the depth.
            steady: filter depth along the camera's motion, see :func:`predict_sequence`.
        """
        self.run, self.sequence = run, footage_of(run, sequence)
        self.known, self.protocol = known, protocol
        self.odometry, self.steady = odometry or not run.has_motion, steady
        self.frames: list[ViewFrame] = []
        self.poses: np.ndarray | None = None
        self.loops: list[tuple[int, int]] = []
        self.lost = ""
        self.cloud: Cloud | None = None
        self.unit: Unit = OWN_UNIT
        self.nearest = 0.0
        self.problem, self.state = "", "starting"
        self._every = max(1, -(-len(sequence.frames) // MAX_FRAMES))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._gather, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop predicting."""
        self._stopped.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until everything is predicted, at most ``seconds``."""
        self._thread.join(seconds)

    def describe(self) -> dict[str, Any]:
        """Describe the results so far, for the page."""
        frames = list(self.frames)
        height, width = frames[0].depth.shape if frames else (0, 0)
        return {
            "sequence": self.sequence.name,
            "total": -(-len(self.sequence.frames) // self._every),
            "numbers": [frame.number for frame in frames],
            "times": [frame.time for frame in frames],
            "scores": [frame.scores for frame in frames],
            "height": self.sequence.frames.height, "width": self.sequence.frames.width,
            "depth_height": height, "depth_width": width,
            "confidence": self.run.has_confidence,
            "nearest": self.nearest, "unit": self.unit.text, "lost": self.lost,
            "loops": len(self.loops),
            "symbol": "m" if self.unit.metres else "units",
            "poses": self.poses is not None, "points": len(self.cloud.points) if self.cloud else 0,
            "state": self.state, "problem": self.problem,
        }  # fmt: skip

    def _gather(self) -> None:
        try:
            with reporting(_Watch(self._stopped)):
                self._gather_all()
        except _StoppedError:
            pass
        except EgodepthError as error:
            self.problem = str(error)
        except Exception as error:  # shown on the page, which would otherwise wait forever
            self.problem = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.state = ""

    def _gather_all(self) -> None:
        if self.known is not None:
            self.state = "finding the unit"
        try:
            self.unit = find_unit(self.run, self.sequence, self.known)
        except EgodepthError as error:
            if self.known is None:
                raise
            unit = self.run.unit
            self.unit = replace(unit, text=f"{unit.text} ({error})")
            warnings.warn(
                f"{error}; what is shown is in the run's own unit", EgodepthWarning, stacklevel=2
            )
        self.state = "predicting depth"
        poses = []
        factor = np.float32(self.unit.factor)
        self.odometry = self.odometry or by_alignment(self.run, self.sequence)
        seen_frames = predict_sequence(
            self.run,
            self.sequence,
            steady=self.steady,
            motion="network" if self.run.has_motion else "auto",
        )
        for place, seen in enumerate(seen_frames):
            if place % self._every == 0:
                if seen.first_from_frame is not None:
                    poses.append(seen.first_from_frame)
                self._add(seen.frame, seen.depth * factor, seen.deviation, place)
        numbers = [frame.number for frame in self.frames]
        if self.odometry:
            self.state = "finding the motion"
            tracked = track_sequence(self.run, self.sequence)
            poses = list(tracked.only(numbers).poses)
            ends = np.array([loop.frames for loop in tracked.loops]).reshape(-1, 2)
            nearest = np.searchsorted(numbers, ends).clip(max=len(numbers) - 1)
            self.loops, self.lost = [(a, b) for a, b in nearest.tolist()], tracked.lost
        found = Trajectory(np.stack(poses), numbers, unit=self.unit)
        self.poses = found.first_from_frame
        self.state = "fusing points"
        every = max(1, len(numbers) // MAX_CLOUD_FRAMES)
        # Multi-view stereo would take too long for someone who is waiting.
        cloud = fuse_cloud(self.run, self.sequence, found, every, depth="network")
        chosen = np.random.default_rng(0).permutation(len(cloud.points))[:MAX_CLOUD_POINTS]
        self.cloud = Cloud(cloud.points[chosen], cloud.colours[chosen])

    def _add(
        self, frame: Frame, depth: np.ndarray, deviation: np.ndarray | None, place: int
    ) -> None:
        height, width = depth.shape
        if not self.nearest:
            self.nearest = float(np.percentile(depth, 2))
        scores: dict[str, float] = {}
        truths = self.sequence.ground_truth(self.protocol.truth) if self.protocol else {}
        if self.protocol is not None and place in truths:
            truth = truths[place]()
            size = (truth.shape[0], truth.shape[1])
            as_large = depth
            if depth.shape != size and self.steady:
                as_large = 1 / _resized(1 / depth, *size)
            elif depth.shape != size:
                with naming(frame):
                    as_large = self.run.depth(frame.image, size) * np.float32(self.unit.factor)
            scores = _score(as_large, truth, self.protocol)
        grid = min(width, max(self.run.settings.width, 1), MAX_DEPTH_WIDTH)
        rows = round(height * grid / width)
        small = (1 / _resized(1 / depth, rows, grid)).astype(np.float16)
        unsure = None if deviation is None else _resized(deviation, rows, grid).astype(np.float16)
        self.frames.append(
            ViewFrame(frame.number, frame.time, _jpeg(frame.image), small, unsure, scores)
        )


class _StoppedError(Exception):
    """The session was stopped."""


class _Watch(Silence):
    """A reporter that ends work at its next step once the session is stopped."""

    def __init__(self, stopped: threading.Event):
        self._stopped = stopped

    def show(self, phase: Phase) -> None:
        if self._stopped.is_set() and not phase.ended:
            raise _StoppedError


def _score(depth: np.ndarray, truth: np.ndarray, protocol: DepthProtocol) -> dict[str, float]:
    try:
        found = score_depth(depth, truth, protocol)
    except EgodepthError:  # a depth map without values in the protocol's range
        return {}
    return {name: found[name] for name in SHOWN_SCORES}


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    picture = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _jpeg(image: np.ndarray) -> bytes:
    height, width = image.shape[:2]
    if width > MAX_IMAGE_WIDTH:
        image = resize_frame(image, round(height * MAX_IMAGE_WIDTH / width), MAX_IMAGE_WIDTH)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=88)
    return file.getvalue()
