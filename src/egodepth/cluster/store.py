"""Results of a batch, on a disk or in an object store. Those of a video appear whole or not at all."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from egodepth.cluster.videos import Video
from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import FileStore, reason_of, repeated
from egodepth.core.files import reading, write_error
from egodepth.core.outputs import LIST
from egodepth.core.temporary import temporary_folder
from egodepth.runs.destination import claim_folder

INNER = "_batch"
"""Folder of what the batch keeps for itself."""
DONE, JOB = f"{INNER}/done", f"{INNER}/job.json"
FAILED, SUMMARY = "failed.jsonl", "summary.json"


class ResultStore(FileStore):
    """Where the results of a batch are put.

    A video is done if its folder and its marker (``_batch/done/NAME.DIGEST.json``) are there. On a disk, the
    marker is written first, then the folder is renamed to its final name; in a store without renaming, all
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
        earlier = self.read_json(JOB)
        if earlier is None:
            self.write_json(JOB, job)
            return
        other = [name for name in {**job, **earlier} if job.get(name) != earlier.get(name)]
        if other:
            raise EgodepthError(
                f"{self.uri} has results of another job (with another {', '.join(other)}), which would mix; "
                "name another place with --out"
            )

    def done(self) -> dict[str, str]:
        """The digests of the videos that are done, by name."""
        found = [path.rsplit(".", 2)[:2] for path in self._markers()]
        if self.folder is not None:
            return {name: digest for name, digest in found if self._local(name).is_dir()}
        there = {self._inner(path) for path in self._listed(self._files.ls, self._root, False)}
        return {name: digest for name, digest in found if name.split("/")[0] in there}

    def _markers(self) -> list[str]:
        """Paths of all markers, in their folder."""
        if self.folder is not None:
            place = self._local(DONE)
            return [path.relative_to(place).as_posix() for path in place.rglob("*.json")]
        found = self._listed(self._files.find, f"{self._root}/{DONE}")
        return [self._inner(path).removeprefix(f"{DONE}/") for path in found]

    def _listed(self, request: Callable[..., list[str]], *values: Any) -> list[str]:
        try:
            return repeated(lambda: request(*values))
        except FileNotFoundError:
            return []
        except Exception as error:
            raise EgodepthError(f"cannot read {self.uri}: {reason_of(error)}") from error

    def outcome(self, video: Video) -> dict[str, Any] | None:
        """What is noted of a video that is done; None if it is not."""
        if self.folder is not None and not self._local(video.name).is_dir():
            return None
        return self.read_json(_marker(video))

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
            files = [path for path in sorted(results.rglob("*")) if path.is_file()]
            for path in sorted(files, key=lambda path: path.name == LIST):
                if not path.name.startswith("."):
                    name = f"{video.name}/{path.relative_to(results).as_posix()}"
                    self.upload(path, name, on_progress)
            self.write_json(_marker(video), outcome)
            return
        target = self._local(video.name)
        if target.exists():
            if self.outcome(video) is not None:
                return  # a process that outlived its killed batch was quicker
            raise EgodepthError(f"{target} is there, which this batch did not write; remove it")
        self.write_json(_marker(video), outcome)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            results.rename(target)
        except OSError as error:
            raise write_error(target, error) from error

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
    return f"{DONE}/{video.name}.{video.digest}.json"
