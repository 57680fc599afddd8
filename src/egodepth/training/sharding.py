"""Writing shards: footage is prepared as for a training, and stored in chunks that trainings stream."""

import hashlib
import io
import json
import multiprocessing
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning, one_line, require
from egodepth.core.file_store import FileStore, file_system, is_stored, local_copy, matching_files
from egodepth.core.files import natural_order
from egodepth.core.outputs import check_destination
from egodepth.core.provenance import provenance
from egodepth.core.temporary import temporary_folder
from egodepth.core.world import World
from egodepth.data.footage.robot_logs.recording import split_topics
from egodepth.data.image_files import IMAGE_SUFFIXES
from egodepth.data.shards.reader import CLIPS, INDEX, MANIFEST
from egodepth.data.shards.stored import CODECS, VERSION, from_bytes
from egodepth.data.shards.writer import index_of, require_litdata, unit_file, write_unit
from egodepth.data.sources import DATA_SETS, is_address, is_pattern, read_source
from egodepth.settings.training import TrainSettings
from egodepth.training.build import check_preparation, plan_of_footage
from egodepth.training.footage import read_training_sequences

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
    """

    uri: str
    units: int
    made: int
    failed: dict[str, str]
    complete: bool
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Unit:
    """A clip or a rig to shard.

    Attributes:
        source: source that has it.
        names: its sequences; empty for all of the source.
        key: name of its files, which depends on everything that they do.
    """

    source: str
    names: tuple[str, ...]
    key: str


@dataclass(frozen=True)
class _Form:
    """Form of the shards; see :func:`shard`."""

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

    What is there is kept, so that an interrupted call goes on where it was. Several processes started together
    (torchrun, srun) share the work.

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
        EgodepthError: LitData is missing, other shards are there, a source that cannot be read (once all others
            are done), or a store that cannot be written.
    """
    require(settings, TrainSettings, "settings", "TrainSettings (egodepth.get_recipe)")
    _check_form(frames, quality, chunk_megabytes, workers)
    require_litdata()
    store, world = FileStore(out), World.of_environment()
    if store.folder is not None:
        check_destination(store.folder, folder=True)
    form = _Form(out, frames, quality, int(1e6 * chunk_megabytes))
    decided = _decided(settings, form)
    _refuse_others(store, decided)
    units = list(_units(settings, decided))
    if not units:
        raise EgodepthError("nothing to shard: name a video or folder, or set --data.sources")
    mine = [unit for unit in units[world.rank :: world.size] if not store.has(unit_file(unit.key))]
    failed = _make_all(mine, settings, form, workers)
    if failed and (len(failed) == len(units) or not skip_broken):
        source, error = next(iter(failed.items()))
        more = "; --skip_broken leaves them out" if len(failed) < len(units) else ""
        raise EgodepthError(
            f"{len(failed)} of {len(units)} pieces of footage cannot be sharded; {source}: {error}{more}"
        )
    ready = [u for u in units if store.has(unit_file(u.key))]
    complete = bool(ready) and len(ready) + len(failed) == len(units)
    facts = _finish(store, ready, decided, failed, settings) if complete else {}
    return ShardResult(out, len(units), len(mine) - len(failed), failed, complete, facts)


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


def _refuse_others(store: FileStore, decided: dict[str, Any]) -> None:
    """Refuse to write where there are shards of other settings."""
    if not store.has(MANIFEST):
        return

    there = json.loads(store.read(MANIFEST))
    other = [name for name, value in decided.items() if there.get(name) != value]
    if other:
        raise EgodepthError(
            f"{store.uri} holds shards made with another {other[0]} ({there.get(other[0])}): name another --out"
        )


def _units(settings: TrainSettings, decided: dict[str, Any]) -> Iterator[_Unit]:
    """Clips and rigs of all sources; videos and folders are not opened yet."""
    root = settings.data.root
    for source in settings.data.sources:
        for each in _matches(source, root):
            if not _is_set(each):
                yield _unit(each, (), _stamp(each, root), decided)
                continue
            rigs: dict[str, list[Any]] = {}
            for sequence in read_source(each, root):
                rigs.setdefault(sequence.rig or f" {sequence.name}", []).append(sequence)
            for sequences in rigs.values():
                names = tuple(sequence.name for sequence in sequences)
                stamp = " ".join(sequence.frames.fingerprint for sequence in sequences)
                yield _unit(each, names, stamp, decided)


def _unit(source: str, names: tuple[str, ...], stamp: str, decided: dict[str, Any]) -> _Unit:
    key = hashlib.sha256(f"{source} {names} {stamp} {sorted(decided.items())}".encode())
    return _Unit(source, names, key.hexdigest()[:20])


def _is_set(source: str) -> bool:
    """Whether a source may hold several sequences."""
    kind = source.partition(":")[0]
    return kind in (*DATA_SETS, "synthetic") or is_pattern(source)


def _matches(source: str, root: Path | None) -> list[str]:
    """The files that a pattern matches; any other source, and a pattern of images, as it is."""
    pattern, topics = split_topics(source)
    if is_stored(source) and is_pattern(source):
        found = matching_files(source)
        if not found:
            raise EgodepthError(f"no files match {source}")
        return found
    if is_address(source) or not is_pattern(pattern) or (Path(root or "") / source).exists():
        return [source]
    local = natural_order(Path(p) for p in glob(str(Path(root or "") / pattern), recursive=True))  # noqa: PTH207
    if topics or not local or any(path.suffix.lower() in IMAGE_SUFFIXES for path in local):
        return [source]
    return [str(path.absolute()) for path in local]


def _stamp(source: str, root: Path | None) -> str:
    """Size and time of a file, so that a changed one is sharded again; of a folder, those of its files."""
    path = Path(root or "") / split_topics(source)[0]
    if is_stored(source):
        try:
            files, place = file_system(source)
            return str(files.checksum(place))
        except Exception:  # the copy will say what is wrong
            return ""
    if is_address(source) or not path.exists():
        return ""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = [(p.name, s.st_size, s.st_mtime_ns) for p in files if (s := p.stat())]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _make_all(
    units: list[_Unit], settings: TrainSettings, form: _Form, workers: int
) -> dict[str, str]:
    """Make units, and return the sources that cannot be read, with their errors."""
    failed: dict[str, str] = {}

    def done(unit: _Unit, result: Callable[[], list[str]]) -> None:
        try:
            for line in result():
                warnings.warn(line, EgodepthWarning, stacklevel=2)
        except EgodepthError as error:
            failed[" ".join([unit.source, *unit.names])] = str(error)
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


def _make_quietly(unit: _Unit, settings: TrainSettings, form: _Form) -> list[str]:
    """As :func:`_make` in a process of its own; returns its warnings."""
    torch.set_num_threads(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EgodepthWarning)
        _make(unit, settings, form)
    return [str(each.message) for each in caught if issubclass(each.category, EgodepthWarning)]


def _make(unit: _Unit, settings: TrainSettings, form: _Form) -> list[str]:
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
        write_unit(
            FileStore(form.uri), unit.key, [each for rig in rigs.values() for each in rig],
            codec=form.frames, quality=form.quality, chunk_bytes=form.chunk_bytes,
            notes={"source": unit.source, "lines": plan.lines},
        )  # fmt: skip
    return []


def _finish(
    store: FileStore,
    units: list[_Unit],
    decided: dict[str, Any],
    failed: dict[str, str],
    settings: TrainSettings,
) -> dict[str, Any]:
    """Write the files that make shards of finished units, the one that says so last."""
    file, found = io.BytesIO(), []
    with zipfile.ZipFile(file, "w") as clips:
        for unit in progress.track(units, "collecting the shards", len(units), "units"):
            content = store.read(unit_file(unit.key))
            clips.writestr(zipfile.ZipInfo(f"{unit.key}.npz"), content)
            facts, arrays = from_bytes(content)
            found.append(facts)
            counts = [len(arrays[f"{i}/numbers"]) for i in range(len(facts["clips"]))]
            facts["frame_count"] = sum(counts)
    chunks = [chunk for facts in found for chunk in facts["chunks"]]
    facts = {
        **decided, "clip_count": sum(len(each["clips"]) for each in found),
        "frame_count": sum(each["frame_count"] for each in found),
        "stored_frames": sum(chunk["chunk_size"] for chunk in chunks),
        "chunk_count": len(chunks), "bytes": sum(chunk["chunk_bytes"] for chunk in chunks),
        "sources": list(settings.data.sources), "failed": failed, **provenance(),
    }  # fmt: skip

    store.write(INDEX, index_of(found))
    store.write(CLIPS, file.getvalue())
    store.write(MANIFEST, (json.dumps(facts, indent=2) + "\n").encode())
    return facts
