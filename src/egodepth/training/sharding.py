"""Writing shards: footage is prepared as for a training, and stored in chunks that trainings stream."""

import io
import json
import multiprocessing
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning, one_line, require
from egodepth.core.file_store import FileStore, is_stored, local_copy
from egodepth.core.files import reading
from egodepth.core.provenance import provenance
from egodepth.core.temporary import temporary_folder
from egodepth.core.world import World
from egodepth.data.shards.chunks import unit_file
from egodepth.data.shards.reader import (
    CLIPS,
    INDEX,
    MANIFEST,
    is_whole,
    manifest_if_there,
    unzip_units,
)
from egodepth.data.shards.stored import CODECS, VERSION, facts_from_bytes, from_bytes
from egodepth.data.shards.writer import index_of, require_litdata, write_unit
from egodepth.runs.destination import claim_folder
from egodepth.settings.training import TrainSettings
from egodepth.training.build import check_preparation, plan_of_footage
from egodepth.training.footage import read_training_sequences
from egodepth.training.shard_plan import snippet_counts
from egodepth.training.shard_units import Unit, list_units, place_of

CHUNK_MEGABYTES = 16.0
"""Default size of a chunk: a second's transfer at 20 MB/s, beside which a request's latency is small."""
DECIDED = (
    "root",
    "split",
    "views",
    "poses",
    "stride",
    "focal",
    "fov",
    "camera",
    "dense_labels",
    "mask",
)
"""Data settings that decide what shards hold."""
MENDED = "delete it, and run egodepth shard again"
Codec = Literal["cache", "jpeg"]


@dataclass(frozen=True)
class ShardResult:
    """Result of sharding.

    Attributes:
        uri: where the shards are.
        units: single clips and rigs among the footage.
        made: units that this call made; the others were there.
        failed: sources that could not be read, with their errors.
        complete: whether the shards can be used; not while other processes of the same work are not done.
        facts: what the shards are; empty until they are complete.
        kept: units of earlier calls with other sources, which the shards hold, too.
    """

    uri: str
    units: int
    made: int
    failed: dict[str, str]
    complete: bool
    facts: dict[str, Any]
    kept: int = 0


@dataclass(frozen=True)
class _Form:
    """Form of the shards, see :func:`shard`."""

    uri: str
    frames: Codec
    quality: int
    chunk_bytes: int


def shard(
    settings: TrainSettings,
    out: str,
    *,
    frames: Codec = "cache",
    quality: int = 95,
    chunk_megabytes: float = CHUNK_MEGABYTES,
    workers: int = 1,
    skip_broken: bool = False,
) -> ShardResult:
    """Prepare footage as a training with these settings does, and write it as shards.

    What is there is kept, so that an interrupted call goes on where it was, and other footage is added. Several
    processes started together (torchrun, srun) share the work.

    Args:
        settings: settings with ``data.sources``, the size of the networks' input, and the preparation:
            ``data.poses``, ``data.stride``, ``data.views``, ``data.mask``, ``data.dense_labels``.
        out: folder, or address of an object store (s3://, gs:// or another of fsspec).
        frames: form of the frames, ``cache`` (3 bytes per pixel, as local trainings see them) or ``jpeg``.
        quality: quality of JPEG, 1 to 100.
        chunk_megabytes: size of a chunk.
        workers: processes that read footage.
        skip_broken: leave out sources that cannot be read, with a note in the shards.

    Raises:
        EgodepthError: LitData is missing, shards of other settings are there, another process shards into the
            same folder, a source that cannot be read (once all others are done), or a store that cannot be
            written.
    """
    require(settings, TrainSettings, "settings", "TrainSettings (egodepth.get_recipe)")
    _check_form(frames, quality, chunk_megabytes, workers)
    require_litdata()
    store, world = FileStore(out), World.of_environment()
    form = _Form(out, frames, quality, int(1e6 * chunk_megabytes))
    # Processes that share the work write to one folder; the first keeps other commands away.
    alone = store.folder is not None and world.is_main
    with claim_folder(Path(out)) if alone else nullcontext():
        return _shard(settings, store, form, world, workers, skip_broken=skip_broken)


def _shard(
    settings: TrainSettings,
    store: FileStore,
    form: _Form,
    world: World,
    workers: int,
    *,
    skip_broken: bool,
) -> ShardResult:
    """See :func:`shard`."""
    decided = _decided(settings, form)
    there = _there(store, decided)
    units = list_units(settings, decided)
    if not units:
        raise EgodepthError("nothing to shard: name a video or folder, or set --data.sources")
    sizes = store.sizes()
    mine = [unit for unit in units[world.rank :: world.size] if not _is_whole(store, unit, sizes)]
    for unit in mine:
        store.remove(_failed_file(unit))
    own = _make_all(mine, settings, store, form, workers)
    ready, failed = _outcome(store, units)
    over = len(ready) + len(failed) == len(units)
    if (own or over) and failed and (len(failed) == len(units) or not skip_broken):
        source, error = next(iter(failed.items()))
        more = "; --skip_broken leaves them out" if len(failed) < len(units) else ""
        raise EgodepthError(
            f"{len(failed)} of {len(units)} pieces of footage cannot be sharded; {source}: {error}{more}"
        )
    made = len(mine) - len(own)
    if not (ready and over):
        return ShardResult(form.uri, len(units), made, failed, False, {})
    earlier = _earlier(store, there, units, settings.data.root)
    facts = _finish(store, ready, earlier, decided, failed, settings, there or {})
    kept = len(earlier.keys() - {unit.key for unit in ready})
    return ShardResult(form.uri, len(units), made, failed, True, facts, kept)


def _failed_file(unit: Unit) -> str:
    """Name of the file by which all processes see that a unit failed; removed when it is tried again."""
    return f"failed/{unit.key}.json"


def _outcome(store: FileStore, units: list[Unit]) -> tuple[list[Unit], dict[str, str]]:
    """Units that are done, by any process, and those that failed, with their errors."""
    ready, failed = [], {}
    for unit in units:
        if store.has(unit_file(unit.key)):
            ready.append(unit)
        elif (note := store.read_if_there(_failed_file(unit))) is not None:
            with reading(f"{store.uri}/{_failed_file(unit)}", "the note of an error"):
                failed[unit.title] = str(json.loads(note)["error"])
    return ready, failed


def _earlier(
    store: FileStore, there: dict[str, Any] | None, units: list[Unit], root: Path | None
) -> dict[str, bytes]:
    """Units in the shards that are there, by key, without those that these replace."""
    if there is None:
        return {}
    keys, places = {unit.key for unit in units}, {unit.place for unit in units}
    found = unzip_units(store, store.read(CLIPS))
    return {
        key: content
        for key, content in found.items()
        if key in keys or place_of(facts_from_bytes(content)["source"], root) not in places
    }


def _check_form(frames: str, quality: int, chunk_megabytes: float, workers: int) -> None:
    if frames not in CODECS:
        raise EgodepthError(f"frames of shards are cache or jpeg, got {frames!r}")
    if not 1 <= quality <= 100:
        raise EgodepthError(f"the quality of JPEG is from 1 to 100, got {quality}")
    if not 0 < chunk_megabytes <= 4000:
        raise EgodepthError(f"a chunk has more than 0 and at most 4000 MB, got {chunk_megabytes:g}")
    if workers < 1:
        raise EgodepthError(f"sharding takes at least 1 worker, got {workers}")


def _decided(settings: TrainSettings, form: _Form) -> dict[str, Any]:
    """Everything besides the footage that the shards depend on."""
    data = {
        name: value
        for name, value in settings.data.model_dump(mode="json").items()
        if name in DECIDED
    }
    data["dense_labels"] = settings.data.dense_labels and settings.loss.dense > 0
    return {
        "version": VERSION, "height": settings.model.height, "width": settings.model.width,
        "frames": form.frames, "quality": form.quality if form.frames == "jpeg" else None,
        "chunk_bytes": form.chunk_bytes, "data": data,
    }  # fmt: skip


def _there(store: FileStore, decided: dict[str, Any]) -> dict[str, Any] | None:
    """What the shards that are there are; None if there are none.

    Raises:
        EgodepthError: they cannot be read, or are of other settings.
    """
    found = manifest_if_there(store)
    if found is None:
        return None
    had, wanted = (
        {**each, **{f"data.{name}": value for name, value in each["data"].items()}, "data": None}
        for each in (found, decided)
    )
    other = [name for name in wanted if had.get(name) != wanted[name]]
    if other:
        raise EgodepthError(
            f"{store.uri} holds shards made with another {other[0]} ({had.get(other[0])}): name another --out"
        )
    return found


def _is_whole(store: FileStore, unit: Unit, sizes: dict[str, int]) -> bool:
    """Whether a unit is there with all of its chunks; removes the file of one that is not."""
    found = is_whole(store, unit.key, sizes)
    if found is False:
        progress.note(
            one_line(f"{unit.title}: its shards are damaged or incomplete, and made again")
        )
        store.remove(unit_file(unit.key))
    return bool(found)


def _make_all(
    units: list[Unit], settings: TrainSettings, store: FileStore, form: _Form, workers: int
) -> list[Unit]:
    """Make units, and return those that cannot be read."""
    failed: list[Unit] = []

    def done(unit: Unit, result: Callable[[], list[str]]) -> None:
        try:
            for line in result():
                warnings.warn(line, EgodepthWarning, stacklevel=2)
        except EgodepthError as error:
            failed.append(unit)
            note = {"source": unit.title, "error": str(error)}
            store.write(_failed_file(unit), json.dumps(note).encode())
            progress.note(one_line(f"{unit.source}: {error}"))

    if workers == 1 or len(units) < 2:
        for unit in progress.track(units, "sharding", len(units), "units"):
            done(unit, lambda: _make(unit, settings, form))  # noqa: B023
        return failed
    # Forked processes would share PyTorch's threads and the locks of this one.
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(min(workers, len(units)), context) as pool,
        progress.phase("sharding", len(units), "units") as phase,
    ):
        futures = {pool.submit(_make_quietly, unit, settings, form): unit for unit in units}
        try:
            for future in as_completed(futures):
                done(futures[future], future.result)
                phase.advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def _make_quietly(unit: Unit, settings: TrainSettings, form: _Form) -> list[str]:
    """As :func:`_make` in a process of its own; returns its warnings."""
    torch.set_num_threads(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EgodepthWarning)
        _make(unit, settings, form)
    return [str(each.message) for each in caught if issubclass(each.category, EgodepthWarning)]


def _make(unit: Unit, settings: TrainSettings, form: _Form) -> list[str]:
    """Prepare a unit and write it."""
    with ExitStack() as stack:
        source, stored = unit.source, is_stored(unit.source)
        if stored:
            copy = local_copy(source, PurePosixPath(source).name)
            source = str(stack.enter_context(copy))
        data = settings.data.changed(sources=(source,))
        sequences = read_training_sequences(data)
        if unit.names:
            sequences = [sequence for sequence in sequences if sequence.name in unit.names]
        if stored:
            sequences = [replace(sequence, place=unit.source) for sequence in sequences]
        cache = data.cache or stack.enter_context(temporary_folder("shard"))
        own = settings.changed(data=data.changed(cache=cache))
        check_preparation(own, sequences)
        own, plan = plan_of_footage(own, sequences)
        surveys = plan.surveys or (None,) * len(plan.clips)
        poses = plan.poses
        clips = [(clip, poses, seen) for clip, seen in zip(plan.clips, surveys, strict=True)]
        rigs: dict[str, list[Any]] = {}
        for each in clips:
            rigs.setdefault(each[0].sequence.rig or f" {each[0].sequence.name}", []).append(each)
        ordered = [each for rig in rigs.values() for each in rig]
        notes = {
            "source": unit.place, "lines": plan.lines,
            "snippets": snippet_counts([clip for clip, *_ in ordered], own),
        }  # fmt: skip
        write_unit(
            FileStore(form.uri), unit.key, ordered, codec=form.frames, quality=form.quality,
            chunk_bytes=form.chunk_bytes, notes=notes,
        )  # fmt: skip
    return []


def _finish(
    store: FileStore,
    units: list[Unit],
    earlier: dict[str, bytes],
    decided: dict[str, Any],
    failed: dict[str, str],
    settings: TrainSettings,
    there: dict[str, Any],
) -> dict[str, Any]:
    """Write the files that make shards of finished units and earlier ones, the one that says so last."""
    file, found = io.BytesIO(), []
    contents = dict(earlier)
    for unit in progress.track(units, "collecting the shards", len(units), "units"):
        contents[unit.key] = store.read(unit_file(unit.key))
    with zipfile.ZipFile(file, "w") as clips:
        for key, content in contents.items():
            clips.writestr(zipfile.ZipInfo(f"{key}.npz"), content)
            with reading(f"{store.uri}/{unit_file(key)}", "the description of a clip", MENDED):
                facts, arrays = from_bytes(content)
                counts = [len(arrays[f"{i}/numbers"]) for i in range(len(facts["clips"]))]
            facts["frame_count"] = sum(counts)
            found.append(facts)
    chunks = [chunk for facts in found for chunk in facts["chunks"]]
    snippets = [n for each in found for n in each.get("snippets", [])]
    without = [
        clip["name"]
        for each in found
        for clip, n in zip(each["clips"], each.get("snippets", []), strict=False)
        if n == 0
    ]
    named = settings.data.sources
    others = {
        title: error for title, error in there.get("failed", {}).items()
        if not any(title == name or title.startswith(f"{name} ") for name in named)
    }  # fmt: skip
    facts = {
        **decided, "clip_count": sum(len(each["clips"]) for each in found),
        "frame_count": sum(each["frame_count"] for each in found),
        "snippet_count": sum(snippets), "without_snippets": without,
        "stored_frames": sum(chunk["chunk_size"] for chunk in chunks),
        "chunk_count": len(chunks), "bytes": sum(chunk["chunk_bytes"] for chunk in chunks),
        "sources": list(dict.fromkeys([*there.get("sources", []), *named])),
        "failed": {**others, **failed}, **provenance(),
    }  # fmt: skip

    store.write(INDEX, index_of(found))
    store.write(CLIPS, file.getvalue())
    store.write(MANIFEST, (json.dumps(facts, indent=2) + "\n").encode())
    return facts
