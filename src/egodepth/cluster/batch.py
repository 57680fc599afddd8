"""Prediction and odometry of many videos, on Ray Data."""

import hashlib
import json
import os
import queue
import threading
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from egodepth.cluster.ray_session import Resources, Session, ray_session, require_ray
from egodepth.cluster.store import FAILED, SUMMARY, ResultStore
from egodepth.cluster.summary import BatchSummary
from egodepth.cluster.tally import Tally
from egodepth.cluster.videos import Sources, Video, checked_sources
from egodepth.cluster.work import find_work
from egodepth.cluster.worker import HANG_SECONDS, Job, RunFiles, VideoWorker
from egodepth.core import progress
from egodepth.core.errors import EgodepthError, require, require_positive
from egodepth.geometry.limits import require_fov
from egodepth.inference.odometry.known_length import KnownLength
from egodepth.inference.odometry.tracker import OdometrySettings
from egodepth.inference.predict import FORMATS, Motion
from egodepth.report.video_results import check_result_formats
from egodepth.runs.backends import BACKENDS, Backend
from egodepth.runs.folder import RunFolder, RunLike

MAX_BLOCKS = 2000
"""Most blocks of Ray Data; a block is what an actor takes at a time, and begins again if it is killed."""
CALLS = 2
"""Videos at a time in an actor: while one is computed, the next is fetched or the last uploaded."""
MAX_UNWRITTEN = 10
"""Videos in a row whose results cannot be written before the batch is given up."""
POLL = 0.2
"""Seconds after which the driver looks whether it was interrupted."""


@dataclass(frozen=True)
class Cluster:
    """Where a batch runs.

    Attributes:
        address: of a Ray cluster, ``auto`` for the one this machine belongs to; None starts Ray here.
        actors: number of processes with networks; by default one per GPU, or one per machine without GPUs.
        cpus: CPU cores of each; by default all, in equal parts.
    """

    address: str | None = None
    actors: int | None = None
    cpus: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, number in (("actors", self.actors), ("cpus", self.cpus)):
            whole = isinstance(number, int) and not isinstance(number, bool)
            if number is not None and not (whole and number > 0):
                raise EgodepthError(f"{name} must be a whole number above zero, got {number!r}")


def batch_predict(
    run: RunLike,
    sources: Sources,
    out: str | Path,
    *,
    formats: Collection[str] = FORMATS,
    backend: Backend = "torch",
    steady: bool = False,
    band: bool = False,
    motion: Motion = "auto",
    known: KnownLength | None = None,
    fov: float | None = None,
    camera: str | Path | None = None,
    device: str = "auto",
    hang_seconds: float = HANG_SECONDS,
    cluster: Cluster = Cluster(),
) -> BatchSummary:
    """Predict depth and poses of many videos: for each, a folder of what ``egodepth predict`` writes for it.

    What is there is skipped, so the same call goes on after a kill. Broken videos are listed in
    ``failed.jsonl``; ``summary.json`` has the rates of each stage.

    Args:
        run: trained run.
        sources: videos, see :func:`egodepth.cluster.videos.list_videos`.
        out: folder, or address of an object store (``s3://``, ``gs://`` or another of fsspec).
        formats: as those of ``egodepth predict``.
        backend: that computes depth.
        steady: filter depth along the camera's motion, so that it does not flicker.
        band: add the confidence to the videos of depth.
        motion: where poses come from, see :func:`egodepth.predict_sequence`.
        known: a known length, which makes lengths metric.
        fov: horizontal field of view in degrees, for videos without a camera.
        camera: camera file, for videos without a camera.
        device: as for :func:`egodepth.load`.
        hang_seconds: seconds without a new frame after which a video counts as failed, since it hangs.
        cluster: where it runs.

    Raises:
        EgodepthError: no run, no videos, or ``out`` can't be written or has results of another job.
        KeyboardInterrupt: on Ctrl-C, with a message that says what is done.
    """
    if backend not in BACKENDS:
        raise EgodepthError(f"unknown backend {backend!r}; use one of {', '.join(BACKENDS)}")
    job = _job(
        "predict", formats, backend=backend, known=known, fov=fov, camera=camera, device=device,
        steady=steady, band=band, motion=motion, hang_seconds=hang_seconds,
    )  # fmt: skip
    return run_batch(run, sources, out, job, cluster)


def batch_odometry(
    run: RunLike,
    sources: Sources,
    out: str | Path,
    *,
    settings: OdometrySettings | None = None,
    formats: Collection[str] = (),
    known: KnownLength | None = None,
    fov: float | None = None,
    camera: str | Path | None = None,
    device: str = "auto",
    hang_seconds: float = HANG_SECONDS,
    cluster: Cluster = Cluster(),
) -> BatchSummary:
    """Track the camera of many videos: for each, a folder of what ``egodepth odometry`` writes for it.

    Args:
        settings: of the odometry.
        formats: as those of ``egodepth odometry``.
        run, sources, out, known, fov, camera, device, hang_seconds, cluster: as for :func:`batch_predict`.

    Raises:
        EgodepthError, KeyboardInterrupt: as :func:`batch_predict`.
    """
    job = _job(
        "odometry", formats, known=known, odometry=settings, fov=fov, camera=camera, device=device,
        hang_seconds=hang_seconds,
    )  # fmt: skip
    return run_batch(run, sources, out, job, cluster)


def run_batch(
    run: RunLike, sources: Sources, out: str | Path, job: Job, cluster: Cluster
) -> BatchSummary:
    """Do a job on many videos; see :func:`batch_predict`."""
    require(out, (str, Path), "out", "a folder, or the address of an object store")
    if str(out).startswith("memory://"):
        raise EgodepthError(
            f"{out} is lost when this process ends; name a folder or a store that stays"
        )
    sources = checked_sources(sources)
    require_ray()
    check_result_formats(job.formats)
    files = _run_files(run)
    store = ResultStore(str(out))
    with store.claimed(_identity(files, job)):
        videos, todo = find_work(sources, store)
        changed = sum(bool(video.replaces) for video in todo)
        summary = BatchSummary(len(videos), len(videos) - len(todo), changed)
        if todo:
            try:
                with ray_session(cluster.address) as session:
                    _work(todo, store, (files, job, store.absolute), session, cluster, summary)
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(
                    f"interrupted after {summary.before + summary.done} of {len(videos)} videos, whose "
                    f"results are whole in {store.uri}; the same command goes on"
                ) from stop
            finally:
                _write_end(store, summary)
        else:
            _write_end(store, summary)
        return summary


def _write_end(store: ResultStore, summary: BatchSummary) -> None:
    store.write(FAILED, summary.failed_lines().encode())
    store.write_json(SUMMARY, summary.facts())


def _work(
    todo: list[Video],
    store: ResultStore,
    work: tuple[str | RunFiles, Job, str],
    session: Session,
    cluster: Cluster,
    summary: BatchSummary,
) -> None:
    """Do the job on what is left to do."""
    resources = session.resources(cluster.actors, cluster.cpus, work[1].device)
    resources = resources._replace(actors=min(resources.actors, len(todo)))
    summary.actors = resources.actors
    unwritten = 0
    verb = "predicting" if work[1].kind == "predict" else "tracking"
    with progress.phase(
        f"{verb} to {store.uri}", summary.videos, "videos", summary.before
    ) as phase:
        for outcome in _outcomes(todo, work, resources, session.scratch):
            summary.add(outcome)
            if "error" in outcome:
                store.write(FAILED, summary.failed_lines().encode())
            unwritten = unwritten + 1 if outcome.get("stage") == "writing" else 0
            if unwritten == MAX_UNWRITTEN:
                raise EgodepthError(
                    f"the results of {unwritten} videos in a row cannot be written: {outcome['error']}"
                )
            failed = f", {len(summary.failed)} failed" if summary.failed else ""
            phase.update(summary.videos - summary.left, values=f"{summary.frames} frames{failed}")


def _outcomes(
    todo: list[Video],
    work: tuple[str | RunFiles, Job, str],
    resources: Resources,
    scratch: str | None,
) -> Iterator[dict[str, Any]]:
    """The outcomes of the videos as they arrive. Ray Data is iterated over in a thread, since a signal would
    wait until the next outcome."""
    import ray

    found: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()
    threads = int(os.environ.get("OMP_NUM_THREADS") or resources.cpus)
    tally = ray.remote(num_cpus=0)(Tally).remote()
    run, *others = work
    arguments = {
        "run": ray.put(run),
        "others": others,
        "tally": tally,
        "threads": threads,
        "scratch": scratch,
    }

    def iterate() -> None:
        try:
            for row in _dataset(todo, arguments, resources).iter_rows():
                found.put(json.loads(row["outcome"]))
            found.put(None)
        except Exception as error:
            found.put(error)

    threading.Thread(target=iterate, daemon=True).start()
    while True:
        try:
            outcome = found.get(timeout=POLL)
        except queue.Empty:
            continue
        if isinstance(outcome, Exception):
            reason = " ".join(str(outcome).split())[-500:]
            raise EgodepthError(f"Ray gave up: {reason}; the same command goes on") from outcome
        if outcome is None:
            return
        yield outcome


def _dataset(todo: list[Video], arguments: dict[str, Any], resources: Resources) -> Any:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    context.print_on_execution_start = False
    rows = [asdict(video) for video in todo]
    return ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS)).map(
        _Actor,
        fn_constructor_kwargs=arguments,
        compute=ray.data.ActorPoolStrategy(
            size=resources.actors, max_tasks_in_flight_per_actor=CALLS,
            max_concurrent_calls_per_actor=CALLS, enable_true_multi_threading=True,
        ),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
    )  # fmt: skip


class _Begins:
    """The tally, in an actor of Ray."""

    def __init__(self, tally: Any):
        self._tally = tally

    def begin(self, name: str) -> str:
        import ray

        return str(ray.get(self._tally.begin.remote(name)))

    def give_up(self, name: str, reason: str) -> None:
        import ray

        ray.get(self._tally.give_up.remote(name, reason))


class _Actor:
    """A worker in an actor of Ray."""

    def __init__(self, run: Any, others: list[Any], tally: Any, threads: int, scratch: str | None):
        import ray

        job, out = others
        self._worker = VideoWorker(ray.get(run), job, out, _Begins(tally), threads, scratch)

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        outcome = self._worker.process(Video(**row))
        return {"outcome": json.dumps(outcome)}  # one text, as columns of a table have one type


def _run_files(run: RunLike) -> str | RunFiles:
    """The files of a run that prediction needs, to be sent to other machines."""
    folder = RunFolder.to_use(run).check()
    if folder.is_builtin:
        return "builtin"
    weights = folder.checkpoint if folder.checkpoint.exists() else folder.weights
    paths = [folder.config, folder.facts_file, weights, folder.confidence]
    paths += folder.camera_files().values()
    try:
        return {
            path.relative_to(folder.path).as_posix(): path.read_bytes()
            for path in paths
            if path.exists()
        }
    except OSError as error:
        raise EgodepthError(f"cannot read the run {folder}: {error.strerror or error}") from error


def _identity(files: str | RunFiles, job: Job) -> dict[str, Any]:
    """What makes results of one job differ from those of another."""
    digest = hashlib.sha256()
    contents = files
    if not isinstance(contents, dict):
        builtin = RunFolder.at(contents)
        paths = [path for path in (builtin.weights, builtin.confidence) if path.exists()]
        contents = {path.name: path.read_bytes() for path in paths}
    for name, content in sorted(contents.items()):
        digest.update(f"{name} {len(content)} ".encode() + content)
    found, own = digest.hexdigest()[:16], isinstance(files, dict)
    camera = hashlib.sha256(job.camera[1]).hexdigest()[:16] if job.camera else ""
    try:
        installed = version("egodepth")
    except PackageNotFoundError:
        installed = "unknown"
    return {
        "command": job.kind, "run": found if own else files,
        "formats": sorted(set(job.formats)), "backend": job.backend, "known length": repr(job.known),
        "steadiness": job.steady, "confidence band": job.band, "motion": job.motion,
        "odometry settings": repr(job.odometry), "field of view": job.fov, "camera": camera,
        "egodepth version": installed, "run's weights": found,
    }  # fmt: skip


def _job(kind: Literal["predict", "odometry"], formats: Collection[str], **others: Any) -> Job:
    """A job of checked arguments."""
    wanted = "a list of names"
    require(formats, Collection, "formats", wanted)
    if isinstance(formats, str | bytes):
        raise EgodepthError(f"formats must be {wanted}, got {formats!r}; write [{formats!r}]")
    require_positive(others["hang_seconds"], "hang_seconds")
    if others["fov"] is not None:
        require_fov(others["fov"])
    return Job(kind, tuple(formats), **others | {"camera": _camera(others["camera"])})


def _camera(file: str | Path | None) -> tuple[str, bytes] | None:
    if file is None:
        return None
    try:
        return Path(file).name, Path(file).read_bytes()
    except OSError as error:
        raise EgodepthError(
            f"cannot read the camera file {file}: {error.strerror or error}"
        ) from error
