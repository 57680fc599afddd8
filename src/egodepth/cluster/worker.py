"""The work on one video of a batch, in a process that holds the networks."""

import os
import socket
import tempfile
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import torch

from egodepth.cluster.stopwatch import (
    FETCHING,
    NETWORK,
    TRACKING,
    UPLOADING,
    WRITING,
    Stopwatch,
    TimedFrames,
)
from egodepth.cluster.store import ResultStore
from egodepth.cluster.tally import Tally
from egodepth.cluster.videos import Video
from egodepth.cluster.watchdog import turn, watched
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.file_store import local_copy
from egodepth.core.outputs import OutputFolder
from egodepth.core.signals import end_at_once
from egodepth.core.temporary import temporary_folder
from egodepth.data.sequence import Sequence
from egodepth.data.sources import is_address
from egodepth.inference.odometry.known_length import KnownLength
from egodepth.inference.odometry.track import ODOMETRY, track_sequence
from egodepth.inference.odometry.tracker import OdometrySettings
from egodepth.inference.predict import FORMATS, PREDICTION, Motion
from egodepth.report.video_results import predict_video, write_odometry
from egodepth.runs.backends import Backend
from egodepth.runs.run import Run

NETWORKS = ("depth_of_frames", "both_of_frames", "depth_and_summary", "motions_of_frames")
"""Methods of a run in which its networks compute."""
HANG_SECONDS = 3600.0
"""Seconds without a new frame, or a new piece of a file, after which a video counts as hanging."""


class Begins(Protocol):
    """Knows which videos must not be begun; see :class:`egodepth.cluster.tally.Tally`."""

    def begin(self, name: str) -> str:
        """Count a begin; returns why this video must not be begun, or nothing."""

    def give_up(self, name: str, reason: str) -> None:
        """Note a video for which its process ends itself."""


@dataclass(frozen=True)
class Job:
    """What is done with each video.

    Attributes:
        kind: ``predict`` or ``odometry``.
        formats: of the results.
        backend: that computes depth, see :data:`egodepth.runs.backends.BACKENDS`.
        known: a known length, which makes lengths metric.
        odometry: settings of the odometry.
        fov: horizontal field of view in degrees, for videos without a camera.
        camera: name and content of a camera file, for videos without a camera.
        device: as for :meth:`egodepth.runs.run.Run.load`.
        steady, band, motion: as for :func:`egodepth.report.video_results.predict_video`.
        hang_seconds: seconds without a new frame after which a video is given up.
    """

    kind: Literal["predict", "odometry"] = "predict"
    formats: tuple[str, ...] = FORMATS
    backend: Backend = "torch"
    known: KnownLength | None = None
    odometry: OdometrySettings | None = None
    fov: float | None = None
    camera: tuple[str, bytes] | None = None
    device: str = "auto"
    steady: bool = False
    band: bool = False
    motion: Motion = "auto"
    hang_seconds: float = HANG_SECONDS


RunFiles = dict[str, bytes]
"""Files of a run by their path in its folder."""


class VideoWorker:
    """Works on one video after the other; while one is computed, the next may be fetched in another thread."""

    def __init__(
        self,
        run: str | RunFiles,
        job: Job,
        out: str,
        begins: Begins | None = None,
        threads: int | None = None,
        scratch: str | None = None,
    ):
        """Load the networks.

        Args:
            run: name of a run, or its files.
            job: what to do.
            out: where results are put.
            begins: knows, beyond the life of this process, which videos must not be begun.
            threads: number of CPU threads of the networks; by default as PyTorch is set.
            scratch: folder of this process's temporary files; by default the system's.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        tempfile.tempdir = scratch or tempfile.tempdir
        self.job, self.store, self._begins = job, ResultStore(out), begins or Tally()
        self._stack = ExitStack()
        self._folder = self._unpacked(run) if isinstance(run, dict) else run
        self._camera: Path | None = None
        if job.camera is not None:
            self._camera = self._stack.enter_context(temporary_folder("camera")) / job.camera[0]
            self._camera.write_bytes(job.camera[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._run = Run.load(self._folder, job.device)
        if job.backend.startswith("torch"):
            self._run.use_backend(job.backend)
        self._compiled: dict[tuple[int, int], Run] = {}
        self._computing = Lock()

    def _unpacked(self, files: RunFiles) -> str:
        folder = self._stack.enter_context(temporary_folder("run")) / "run"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return str(folder)

    def process(self, video: Video) -> dict[str, Any]:
        """Work on a video, and put its results in place. No error of a video is raised: it is the outcome."""
        noted = self.store.outcome(video)  # by a process that was ended before it could say so
        if noted is not None:
            return noted
        stage, file = "reading", ""
        try:
            refused = self._begins.begin(video.name)
            if refused:
                raise EgodepthError(refused)
            watch, began, cpu = Stopwatch(), time.time(), time.process_time()
            with ExitStack() as stack:
                hangs = partial(self._end, video)
                stack.enter_context(watched(watch, self.job.hang_seconds, hangs))
                results = stack.enter_context(self.store.workplace()) / "results"
                if is_address(video.address):
                    name = Path(video.name).name
                    with watch.of(FETCHING):
                        copy = local_copy(video.address, name, watch.step)
                        file = str(stack.enter_context(copy))
                else:
                    file = video.address
                stage = "computing"
                with turn(self._computing, watch):
                    frames, told = self._compute(file, results, watch)
                stage = "writing"
                outcome: dict[str, Any] = {
                    "name": video.name, "video": video.address, "stamp": video.stamp, "frames": frames,
                    "warnings": told,
                    "bytes": sum(p.stat().st_size for p in results.rglob("*") if p.is_file()),
                    "process": f"{socket.gethostname()}:{os.getpid()}", "began": began,
                    "ended": time.time(), "seconds": dict(watch.seconds),
                    "cpu": [cpu, time.process_time()],
                }  # fmt: skip
                with watch.of(WRITING if self.store.folder else UPLOADING):
                    self.store.put(results, video, outcome, watch.step)
            return outcome | {
                "seconds": dict(watch.seconds), "ended": time.time(), "cpu": [cpu, time.process_time()],
            }  # fmt: skip
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, EgodepthError):
                reason = f"{type(error).__name__}: {reason}"
            reason = reason.replace(file, video.address) if file else reason
            return {"name": video.name, "video": video.address, "stage": stage, "error": reason}

    def _end(self, video: Video) -> None:
        """End this process, in which a video hangs; another one goes on with the rest."""
        reason = (
            f"no frame in {self.job.hang_seconds:g} s: it hangs, or needs a longer --hang_seconds"
        )
        try:
            self._begins.give_up(video.name, reason)
        finally:
            end_at_once(1)

    def _compute(self, file: str, results: Path, watch: Stopwatch) -> tuple[int, list[str]]:
        """Write the results of a video; returns the number of its frames, and warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", EgodepthWarning)
            (sequence,) = self._run.open(file, fov=self.job.fov, camera=self._camera)
            run = self._run_for(sequence)
            sequence = replace(sequence, frames=TimedFrames(sequence.frames, watch))
            with watch.methods(run, NETWORKS, NETWORK):
                work = self._predict if self.job.kind == "predict" else self._track
                count = work(run, sequence, results, watch)
        told = (str(one.message).replace(file, str(sequence.name)) for one in caught)
        return count, list(dict.fromkeys(told))

    def _predict(self, run: Run, sequence: Sequence, results: Path, watch: Stopwatch) -> int:
        out = OutputFolder(results, PREDICTION)
        predictions, _ = predict_video(
            run,
            sequence,
            out,
            self.job.formats,
            self.job.known,
            steady=self.job.steady,
            band=self.job.band,
            motion=self.job.motion,
        )
        count = sum(1 for _ in predictions)
        watch.add(WRITING, out.seconds)
        return count

    def _track(self, run: Run, sequence: Sequence, results: Path, watch: Stopwatch) -> int:
        with watch.of(TRACKING):
            found = track_sequence(run, sequence, self.job.odometry, known=self.job.known)
        with watch.of(WRITING):
            write_odometry(found, sequence, OutputFolder(results, ODOMETRY), self.job.formats)
        return len(found)

    def _run_for(self, sequence: Sequence) -> Run:
        """The networks in the job's backend; others than PyTorch are compiled for one image size, and int8 is
        calibrated on the video itself, as by ``egodepth predict``."""
        if self.job.backend.startswith("torch"):
            return self._run
        size = (self._run.settings.height, self._run.settings.width)
        if size not in self._compiled or self.job.backend == "openvino-int8":
            run = Run.load(self._folder, self.job.device)
            run.fit_size(sequence.frames.height, sequence.frames.width)
            self._compiled[size] = run.use_backend(self.job.backend, sequence)
        return self._compiled[size]
