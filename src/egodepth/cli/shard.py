"""``egodepth shard``."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from egodepth.cli.command import Command, Metavar, OptionsOf, Positional, Positive
from egodepth.cli.output import complain, say
from egodepth.core.config import list_settings
from egodepth.core.errors import EgodepthError
from egodepth.settings.recipes import footage

SETTINGS = (
    "data.root", "data.split", "data.views", "data.poses", "data.stride", "data.focal", "data.fov",
    "data.camera", "data.dense_labels", "data.mask", "data.cache", "loss.dense", "device",
)  # fmt: skip
"""Training settings that decide what shards hold."""
WITHOUT = tuple(s.name for s in list_settings(footage()) if s.name not in SETTINGS)


class Shard(Command):
    """Write prepared footage as shards, for trainings that stream it from a disk or an object store.

    `egodepth train shards:URI` trains from them. What is there is kept: run the same command again to go on
    after an interruption, or name other footage to add it. Several processes (torchrun, srun) share the work.
    """

    what: Annotated[tuple[str, ...], Positional("SOURCE")]
    """footage: videos, folders of images or of videos, patterns such as 'drive/*.mp4', URLs, KIND:ROOT, or
    @FILE, a list with one of these per line"""
    out: Annotated[str, Metavar("URI")]
    """folder or address to write to: s3://, gs:// or another that fsspec knows"""
    height: Annotated[Annotated[int, Field(ge=32)], Metavar("H")]
    """height of the frames in pixels, the model.height of trainings from these shards"""
    width: Annotated[Annotated[int, Field(ge=32)], Metavar("W")]
    """width of the frames in pixels, the model.width of trainings from these shards"""
    config: Annotated[Path | None, Metavar("FILE")] = None
    """YAML file of training settings; options on the command line take precedence"""
    frames: Literal["cache", "jpeg"] = "cache"
    """form of the frames; cache: 3 bytes per pixel, with which trainings are the same as from the footage;
    jpeg: smaller, and lossy"""
    quality: Annotated[Annotated[int, Field(ge=1, le=100)], Metavar("N")] = 95
    """quality of JPEG"""
    chunk_megabytes: Annotated[Positive, Metavar("MB")] = 16
    """size of a chunk, which is fetched as a whole"""
    workers: Annotated[Annotated[int, Field(ge=1)], Metavar("N")] = 1
    """processes that read footage"""
    skip_broken: bool = False
    """leave out footage that cannot be read; by default, the command then fails once all other footage is
    done"""
    changes: Annotated[dict[str, Any], OptionsOf(footage, {}, without=WITHOUT)] = {}
    """settings of the preparation by their dotted names"""

    def run(self) -> int:
        """See the class."""
        from egodepth.training.requested import requested_settings
        from egodepth.training.sharding import shard

        if "model.height" in self.changes or "model.width" in self.changes:
            raise EgodepthError("the size of the frames is set by --height and --width")
        if self.out.startswith("memory:"):
            raise EgodepthError(
                f"--out {self.out} would be lost with the end of this command: name a folder or a store"
            )
        size = {"model.height": self.height, "model.width": self.width, "init": "none"}
        settings = requested_settings(
            "footage", config_file=self.config,
            changes={**self.changes, **size, "data.sources": list(self.what), "data.fit_size": False},
        )  # fmt: skip
        result = shard(
            settings, self.out, frames=self.frames, quality=self.quality,
            chunk_megabytes=self.chunk_megabytes, workers=self.workers, skip_broken=self.skip_broken,
        )  # fmt: skip
        if result.failed:
            complain(f"left out, since it cannot be read: {', '.join(list(result.failed)[:5])}")
        if not result.complete:
            say(
                f"{result.made} units are done; the process that finishes last completes the shards"
            )
            return 0
        facts = result.facts
        if facts["without_snippets"]:
            complain(f"no snippets are in {', '.join(facts['without_snippets'][:5])}")
        if result.kept:
            total = result.kept + result.units - len(result.failed)
            say(f"kept from earlier commands: {result.kept} of {total} pieces of footage")
        say(
            f"{facts['frame_count']} frames and {facts['snippet_count']} snippets of "
            f"{facts['clip_count']} clips in {facts['chunk_count']} chunks, "
            f"{facts['bytes'] / 1e9:.3g} GB; train on them with: egodepth train shards:{self.out}"
        )
        return 0
