"""Checks of output folders: results are written neither into footage nor into a run."""

import tempfile
from pathlib import Path

from egodepth.core.errors import EgodepthError
from egodepth.core.locks import Hold, hold
from egodepth.core.outputs import LIST, OutputFolder, check_destination
from egodepth.core.temporary import remove_leftovers
from egodepth.data.image_files import list_images
from egodepth.runs.folder import RunFolder


def check_output_folder(path: Path, *, for_run: bool = False) -> None:
    """Check that results can be written into a folder, before the work starts.

    Args:
        path: the folder; need not exist.
        for_run: whether a run will be written there, which may replace an earlier one.

    Raises:
        EgodepthError: the folder contains footage or a run, is the name of a run kept elsewhere, holds far more
            than results (the root, a home or the system's temporary folder), or is not writable.
    """
    check_destination(path, folder=True)
    _refuse_shared(path)
    is_run = RunFolder.to_make(path).exists
    if is_run and not for_run:
        raise EgodepthError(
            f"{path} is a run folder; name another one with --out, for example {path / 'results'}"
        )
    if is_run or (path / LIST).exists():
        return
    for folder in (path, path / "images"):
        images = list_images(folder)
        if images:
            raise EgodepthError(
                f"{folder} holds images ({images[0].name}), which results would mix with; name another "
                "folder with --out"
            )


def _refuse_shared(path: Path) -> None:
    """Refuse folders that other programs keep their files in: results there are hard to find and to remove."""
    place = path.resolve()
    shared = {place.anchor, str(Path(tempfile.gettempdir()).resolve())}
    home = Path("~").expanduser().resolve()
    if str(place) in shared or place == home or place in home.parents:
        raise EgodepthError(
            f"{path} is the root, your home or the temporary folder, where results would lie among other "
            f"files; name a folder of its own with --out, for example {path / 'results'}"
        )


def claim_folder(path: Path, *, for_run: bool = False) -> Hold:
    """Keep other processes from writing to a folder, and remove what killed ones left there.

    Args:
        path: the folder; made if it is missing, and removed again if nothing was written.
        for_run: whether a run will be written there.

    Raises:
        EgodepthError: as :func:`check_output_folder`, or another process writes there.
    """
    check_output_folder(path, for_run=for_run)
    held = hold(path, folder=True)
    remove_leftovers(path)
    return held


def claim_file(path: Path, suffixes: tuple[str, ...]) -> Hold:
    """Keep other processes from writing to a file.

    Args:
        path: the file.
        suffixes: allowed suffixes, in lower case.

    Raises:
        EgodepthError: as :func:`check_destination`, or another process writes it.
    """
    check_destination(path, suffixes)
    return hold(path, folder=False)


def output_folder(out: str | Path | OutputFolder, kind: str) -> OutputFolder:
    """Return the output folder for results of a kind, checked by :func:`check_output_folder`. No other process
    can write there as long as it lives.

    Raises:
        EgodepthError: as :func:`check_output_folder`, the folder contains results of another kind, or another
            process writes there.
    """
    if isinstance(out, OutputFolder):
        return out
    path = RunFolder.to_make(out).path
    return OutputFolder(path, kind, claim_folder(path))
