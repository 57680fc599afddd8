"""``egodepth batch predict`` and ``egodepth batch odometry``."""

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from egodepth.cli.command import (
    CameraOptions,
    Command,
    DeviceOption,
    Metavar,
    Positional,
    Positive,
    TakesRun,
    only_one,
)
from egodepth.cli.odometry import OdometryOptions
from egodepth.cli.output import print_table, say
from egodepth.cli.predict import PredictOptions

if TYPE_CHECKING:
    from egodepth.cluster.summary import BatchSummary


class TakesVideos(Command):
    """A command that takes many videos."""

    sources: Annotated[tuple[str, ...], Positional("VIDEOS")]
    """videos: files, folders of them, patterns such as 's3://bucket/*.mp4', addresses (s3://, gs://, http://
    or another of fsspec), or @FILE, a list with one of these per line"""


class BatchOptions(TakesRun, TakesVideos, CameraOptions, DeviceOption):
    """A command that applies a run to many videos."""

    out: Annotated[str, Metavar("URI")]
    """folder, or address such as s3://bucket/results, that gets a folder for each video, failed.jsonl and
    summary.json; videos whose results are there are skipped"""
    address: Annotated[str | None, Metavar("ADDRESS")] = None
    """address of a Ray cluster; auto: the one this machine belongs to; default: starts Ray on this machine"""
    actors: Annotated[Annotated[int, Field(gt=0)] | None, Metavar("N")] = None
    """processes with networks; default: one per GPU, or one per machine without GPUs"""
    cpus: Annotated[Annotated[int, Field(gt=0)] | None, Metavar("N")] = None
    """CPU cores of each of these processes; default: all of a machine, in equal parts"""
    hang_seconds: Annotated[Positive, Metavar("S")] = 3600
    """seconds without a new frame after which a video counts as failed, since it hangs; videos may take as long
    as they will while frames come"""
    camera_height: Annotated[Positive | None, Metavar("M")] = None
    """height of the camera above the ground in metres; makes lengths metric"""
    speed: Annotated[Positive | None, Metavar("M/S")] = None
    """mean speed over each video, stops included, in metres per second; makes lengths metric"""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        return only_one(self, "camera_height", "speed")

    def shared(self) -> dict[str, Any]:
        """Arguments for both kinds of batches."""
        from egodepth.cluster.batch import Cluster
        from egodepth.inference.odometry.known_length import CameraHeight, MeanSpeed

        known: CameraHeight | MeanSpeed | None = None
        if self.camera_height is not None:
            known = CameraHeight(self.camera_height)
        elif self.speed is not None:
            known = MeanSpeed(self.speed)
        cluster = Cluster(self.address, self.actors, self.cpus)
        return {
            "known": known, "fov": self.fov, "camera": self.camera, "device": self.device,
            "cluster": cluster, "hang_seconds": self.hang_seconds,
        }  # fmt: skip

    def print_summary(self, summary: "BatchSummary") -> int:
        """Print what was done; returns the exit status, which is an error only if nothing is done at all."""
        from rich.table import Table

        from egodepth.cluster.store import DONE, FAILED

        out = self.out.rstrip("/")
        before = f", {summary.before} were before" if summary.before else ""
        say(f"{summary.done} of {summary.videos} videos are done{before}; results are in {out}")
        if summary.changed:
            say(f"{summary.changed} had changed since they were done before, and were to be redone")
        if summary.failed:
            first = summary.failed[0]
            say(
                f"{len(summary.failed)} failed and are listed in {out}/{FAILED}; the same command tries them "
                f"again; the first: {first['video']}: {first['error']}"
            )
        if summary.with_warnings:
            say(f"{summary.with_warnings} have warnings, which are in {out}/{DONE}")
        if summary.stages():
            table = Table("stage", "frames/s while busy", "share of time waiting")
            for name, rate, waited in summary.stages():
                table.add_row(name, f"{rate:.1f}", f"{waited:.0%}")
            print_table(table)
            whole = summary.frames / summary.seconds
            say(
                f"{summary.frames} frames in {summary.seconds:.0f} s, actors: {summary.actors}; "
                f"{whole:.1f} frames/s"
            )
        return int(bool(summary.failed) and not summary.done + summary.before)


class BatchPredict(BatchOptions, PredictOptions):
    """Write depth maps and trajectories of many videos, on this machine or a Ray cluster."""

    def run(self) -> int:
        """See the class."""
        from egodepth.cluster.batch import batch_predict

        summary = batch_predict(
            self.run_folder, self.sources, self.out, formats=self.formats, backend=self.backend,
            steady=self.steady, band=self.confidence_band, motion=self.motion,
            **self.shared(),
        )  # fmt: skip
        return self.print_summary(summary)


class BatchOdometry(BatchOptions, OdometryOptions):
    """Estimate the camera trajectories of many videos, on this machine or a Ray cluster."""

    def run(self) -> int:
        """See the class."""
        from egodepth.cluster.batch import batch_odometry

        summary = batch_odometry(
            self.run_folder, self.sources, self.out, settings=self.settings(), formats=self.formats,
            **self.shared(),
        )  # fmt: skip
        return self.print_summary(summary)
