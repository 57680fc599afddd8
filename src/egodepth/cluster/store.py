"""Results of a batch, on a disk or in an object store. Those of a video appear whole or not at all."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from egodepth.cluster.videos import Video
from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import FileStore, file_system, reason_of, repeated
from egodepth.core.files import reading, write_error
from egodepth.core.outputs import LIST
from egodepth.core.temporary import temporary_folder
from egodepth.data.shards.reader import MANIFEST
from egodepth.runs.destination import claim_folder

INNER = "_batch"
"""Folder of what the batch keeps for itself."""
DONE, JOB = f"{INNER}/done", f"{INNER}/job.json"
LATER = ("egodepth version", "run's weights")
"""Facts about a job that older versions did not note; they count as the same there."""
FAILED, SUMMARY = "failed.jsonl", "summary.json"
MARKER = re.compile(r"(.+)\.([0-9a-f]{12})(?:-([0-9a-f]{8}))?\.json")
"""Name of a marker: the video's name, digest and, since it is written, digest of its stamp."""


class Marker(NamedTuple):
    """What the name of a marker says.

    Attributes:
        path: in the folder of markers.
        digest: of the video's address.
        stamp: digest of the video's stamp; empty in results of older versions, and where it has none.
    """

    path: str
    digest: str
    stamp: str


class ResultStore(FileStore):
    """Where the results of a batch are put.

    A video is done if its folder and its marker (``_batch/done/NAME.DIGEST-STAMP.json``) are there. On a disk,
    the marker is written first, then the folder is renamed to its final name; in a store without renaming, all
    files are uploaded, the list of them last, and then the marker.
    """

    @property
    def absolute(self) -> str:
        """The address, or the absolute path."""
        return self.uri if self.folder is None else str(self.folder.absolute())

    @contextmanager
    def claimed(self, job: dict[str, Any]) -> Iterator[None]:
        """Prepare for a job; on a disk, no other process can write there inside the block.

        Raises:
            EgodepthError: it can't be written to, is no place for results, or has results of another job.
        """
        if self.folder is None:
            self._check_job(job)
            yield
            return
        with claim_folder(self.folder):
            self._check_job(job)
            self._remove_partial()
            try:
                yield
            finally:
                self._remove_partial()

    def _check_job(self, job: dict[str, Any]) -> None:
        if self.has(MANIFEST):
            raise EgodepthError(
                f"{self.uri} holds shards ({MANIFEST}), which results would mix with; name another place "
                "with --out"
            )
        earlier = self.read_json(JOB) or {}
        named = [name for name in {**job, **earlier} if name in earlier or name not in LATER]
        other = [name for name in named if earlier and job.get(name) != earlier.get(name)]
        if other and self.done():
            raise EgodepthError(
                f"{self.uri} has results of another job (with another {', '.join(other)}), which would mix; "
                "name another place with --out"
            )
        if not earlier or other:
            self.write_json(JOB, job)

    def done(self) -> dict[str, Marker]:
        """The markers of the videos that are done, by name. Those whose results are gone are removed."""
        if self.folder is None:
            self._files.invalidate_cache()  # actors write too
        markers: dict[str, list[Marker]] = {}
        for path in self._markers():
            if match := MARKER.fullmatch(path):
                markers.setdefault(match[1], []).append(Marker(path, match[2], match[3] or ""))
        there = self._with_results(list(markers))
        found: dict[str, Marker] = {}
        for name, each in markers.items():
            if name in there:
                found[name] = max(each, key=self._ended) if len(each) > 1 else each[0]
                each.remove(found[name])
            for stale in each:
                self._remove_marker(stale.path)
        return found

    def _ended(self, marker: Marker) -> float:
        return float((self.read_json(f"{DONE}/{marker.path}") or {}).get("ended", 0))

    def _with_results(self, names: list[str]) -> set[str]:
        """Those of the names that have results."""
        if self.folder is not None:
            return {name for name in names if self._has_results(name)}
        found = set[str]()
        for parent in {name.rpartition("/")[0] for name in names}:
            place = f"{self._root}/{parent}".rstrip("/")
            for info in self._listed(self._files.ls, place, True):
                if info["type"] == "directory":
                    found.add(self._inner(info["name"]).rstrip("/"))
        return found & set(names)

    def _has_results(self, name: str) -> bool:
        place = self._local(name)
        return place.is_dir() and any(place.iterdir())

    def _remove_marker(self, path: str) -> None:
        if self.folder is not None:
            self._local(f"{DONE}/{path}").unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{DONE}/{path}")

    def check_room(self, videos: list[Video]) -> None:
        """Check, before the work starts, that results of videos can be put in place.

        Raises:
            EgodepthError: a file, as the video itself, or a folder of something else is in the way.
        """
        for video in videos:
            _check_name(video)
            if self.folder is None:
                own = video.address.partition("://")[0] == self.uri.partition("://")[0]
                place = f"{self._root}/{video.name}"
                if own and file_system(video.address)[1] == place:
                    raise self._in_the_way(f"{self.uri}/{video.name}", video)
                continue
            self._check_local(video)

    def _check_local(self, video: Video) -> None:
        target = self._local(video.name)
        for place in (target, *(p for p in target.parents if self.folder in p.parents)):
            if place.is_file():
                raise self._in_the_way(str(place), video)
        if not video.replaces and target.exists() and self._has_results(video.name):
            raise EgodepthError(
                f"the folder {target} is there, which this batch did not write; name another place with --out"
            )

    def _in_the_way(self, place: str, video: Video) -> EgodepthError:
        return EgodepthError(
            f"{place} is a file, where the folder with the results of {video.address} would be; name another "
            "place with --out, and keep the file"
        )

    def _markers(self) -> list[str]:
        """Paths of all markers, in their folder."""
        if self.folder is not None:
            place = self._local(DONE)
            return [path.relative_to(place).as_posix() for path in place.rglob("*.json")]
        found = self._listed(self._files.find, f"{self._root}/{DONE}")
        return [self._inner(path).removeprefix(f"{DONE}/") for path in found]

    def _listed(self, request: Callable[..., list[Any]], *values: Any) -> list[Any]:
        try:
            return repeated(lambda: request(*values))
        except FileNotFoundError:
            return []
        except Exception as error:
            raise EgodepthError(f"cannot read {self.uri}: {reason_of(error)}") from error

    def outcome(self, video: Video) -> dict[str, Any] | None:
        """What is noted of a video that is done; None if it is not."""
        marker = _marker(video)
        if self.folder is not None and not self._has_results(video.name):
            return None
        return self.read_json(marker)

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A new folder on this machine, from which results are put in place."""
        if self.folder is None:
            with temporary_folder("batch") as folder:
                yield folder
            return
        partial = self._local(f"{INNER}/partial")
        partial.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=partial, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def put(
        self,
        results: Path,
        video: Video,
        outcome: dict[str, Any],
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Put a folder of results in place, and note the outcome.

        Args:
            results: the folder.
            video: whose results they are.
            outcome: what to note.
            on_progress: called with each piece that is uploaded.

        Raises:
            EgodepthError: other results are there, or it can't be written.
        """
        if self.folder is None:
            self._remove_earlier(video)
            files = [path for path in sorted(results.rglob("*")) if path.is_file()]
            for path in sorted(files, key=lambda path: path.name == LIST):
                if not path.name.startswith("."):
                    name = f"{video.name}/{path.relative_to(results).as_posix()}"
                    self.upload(path, name, on_progress)
            self.write_json(_marker(video), outcome)
            return
        if self.outcome(video) is not None:
            return  # a process that outlived its killed batch was quicker
        self._check_local(video)
        target = self._local(video.name)
        try:
            if target.exists():  # results of what the video was before, or an empty folder
                target.rename(results.with_name("earlier"))
            self._remove_earlier(video)
            self.write_json(_marker(video), outcome)
            target.parent.mkdir(parents=True, exist_ok=True)
            results.rename(target)
        except OSError as error:
            raise write_error(target, error) from error

    def _remove_earlier(self, video: Video) -> None:
        """Remove the marker of what the video was before, and, in a store, the results."""
        if not video.replaces:
            return
        earlier = _marker_name(video, video.replaces)
        if self.folder is None:
            place = f"{self._root}/{video.name}"
            if self.has(f"{DONE}/{earlier}") and self.has(video.name):
                self._tried(
                    lambda: self._files.rm(place, recursive=True), f"cannot replace {place}"
                )
        self._remove_marker(earlier)

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Write names and values, as :meth:`write`."""
        self.write(name, (json.dumps(values, indent=1) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read a file of names and values; None if there is none.

        Raises:
            EgodepthError: it is broken, or the store can't be read.
        """
        content = self.read_if_there(name)
        if content is None:
            return None
        with reading(f"{self.uri}/{name}", "what the batch noted in"):
            found: dict[str, Any] = json.loads(content)
        return found

    def _remove_partial(self) -> None:
        shutil.rmtree(self._local(f"{INNER}/partial"), ignore_errors=True)

    def _local(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / name

    def _inner(self, path: str) -> str:
        return path.removeprefix(self._root).lstrip("/")


def _marker(video: Video) -> str:
    _check_name(video)
    return f"{DONE}/{_marker_name(video, video.stamp_digest)}"


def _marker_name(video: Video, stamp: str) -> str:
    return f"{video.name}.{video.digest}{f'-{stamp}' if stamp else ''}.json"


def _check_name(video: Video) -> None:
    parts = PurePosixPath(video.name).parts
    if not parts or ".." in parts or parts[0] in ("/", INNER, FAILED, SUMMARY):
        raise EgodepthError(
            f"{video.name!r} cannot be the name of a folder of results, which that of {video.address} would "
            "be; rename the video"
        )
