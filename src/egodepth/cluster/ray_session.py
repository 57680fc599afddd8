"""Starts Ray on this machine, or connects to a cluster, and ends it without a trace."""

import logging
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import reason_of
from egodepth.core.signals import STOPPING
from egodepth.core.temporary import temporary_folder

MAX_TEMPORARY_NAME = 40
"""Longest path of a temporary folder below which Ray's sockets still have names that systems allow."""
MEMORY = 256 << 20
"""Bytes of shared memory for Ray's objects on this machine: only names, outcomes and a run pass through it."""
START_TRIES = 3
"""How often Ray is started here; it gives up a start after 30 seconds, which no setting changes."""
SECONDS_TO_END = 5.0
"""Seconds to wait for a killed process."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0", "RAY_ENABLE_METRICS_COLLECTION": "0", "RAY_ENABLE_AUTO_CONNECT": "0",
}  # fmt: skip
"""Environment variables that keep Ray from sending usage statistics, from writing over the progress, and from
giving way to every other process."""


class Resources(NamedTuple):
    """What the actors of a batch get.

    Attributes:
        actors: number of actors.
        cpus: CPU cores of each, and threads of its networks.
        gpus: GPUs of each, 0 or 1.
    """

    actors: int
    cpus: int
    gpus: int


def require_ray() -> None:
    """Check that Ray Data is installed.

    Raises:
        EgodepthError: it is not.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise EgodepthError(
            f"batches need the package ray[data] ({error}); install it by: pip install 'egodepth[cluster]'"
        ) from error


class Session(NamedTuple):
    """A running Ray.

    Attributes:
        nodes: the resources of each machine, as ``CPU`` and ``GPU``.
        scratch: folder for temporary files of the actors, on this machine alone; else None.
    """

    nodes: list[dict[str, float]]
    scratch: str | None

    def resources(self, actors: int | None, cpus: int | None, device: str) -> Resources:
        """Share the machines among actors: by default one per GPU, or one per machine without GPUs.

        Args:
            actors: number of actors.
            cpus: CPU cores of each; by default all, in equal parts.
            device: as for :meth:`egodepth.runs.run.Run.load`; ``cpu`` leaves GPUs alone.

        Raises:
            EgodepthError: no machine has so many cores, or there is no GPU.
        """
        count = 0 if device == "cpu" else sum(int(node.get("GPU", 0)) for node in self.nodes)
        if device.startswith("cuda") and not count:
            raise EgodepthError(f"device is {device}, and Ray knows of no GPU; use --device cpu")
        actors = actors or count or len(self.nodes)
        most = max(int(node.get("CPU", 0)) for node in self.nodes)
        if cpus is not None and cpus > most:
            raise EgodepthError(
                f"an actor cannot have {cpus} CPU cores: no machine has more than {most}"
            )
        share = max(1, most // math.ceil(actors / len(self.nodes)))
        return Resources(actors, cpus or share, int(count > 0))


@contextmanager
def ray_session(address: str | None) -> Iterator[Session]:
    """Connect to a Ray cluster, or start Ray on this machine; end both with the block.

    Args:
        address: of a cluster, ``auto`` for the one this machine belongs to; None starts Ray here.

    Raises:
        EgodepthError: Ray cannot be started, or there is no such cluster.
    """
    require_ray()
    import ray

    handlers = {number: signal.getsignal(number) for number in STOPPING}
    options: dict[str, Any] = {
        "log_to_driver": False, "logging_level": logging.CRITICAL, "ignore_reinit_error": False,
    }  # fmt: skip
    with ExitStack() as stack:
        scratch: Path | None = None
        if address is None:
            folder = stack.enter_context(_short_folder())
            stack.callback(end_processes, folder)
            scratch = folder / "scratch"
            scratch.mkdir()
            options |= {
                "address": "local", "num_cpus": _cores(), "include_dashboard": False,
                "_temp_dir": str(folder), "object_store_memory": MEMORY,
            }  # fmt: skip
        else:
            options["address"] = address
        stack.callback(ray.shutdown)
        _start(options)
        for number, handler in handlers.items():  # Ray has set its own
            signal.signal(number, handler)
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Session([n for n in nodes if n.get("CPU")], None if scratch is None else str(scratch))


def _start(options: dict[str, Any]) -> None:
    """Start Ray, once more if the machine is so busy that its processes do not answer in time."""
    import ray

    here = options["address"] == "local"
    for tried in range(START_TRIES):
        try:
            with _quiet_stderr():
                ray.init(**options)
            return
        except Exception as error:
            reason = reason_of(error)
            if "timed out" in reason and here and tried < START_TRIES - 1:
                end_processes(options["_temp_dir"])
                continue
            what = "cannot start Ray" if here else f"cannot connect to Ray at {options['address']}"
            raise EgodepthError(f"{what}: {reason[:300]}") from error


def end_processes(folder: str | Path) -> None:
    """End the processes below this one that name a folder. Those of a start that failed would live as long as
    this process, and write to the folder once it is removed."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(str(folder) in word for word in process.cmdline()):
                process.kill()
                process.wait(SECONDS_TO_END)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what Ray's C++ code prints while it starts; its errors are exceptions."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def _short_folder() -> Iterator[Path]:
    """A temporary folder whose path is short enough for sockets."""
    before = tempfile.tempdir
    if len(tempfile.gettempdir()) > MAX_TEMPORARY_NAME and Path("/tmp").is_dir():
        tempfile.tempdir = "/tmp"
    try:
        with temporary_folder("ray") as folder:
            tempfile.tempdir = before
            yield folder
    finally:
        tempfile.tempdir = before


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
