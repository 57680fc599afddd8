"""Checks of output folders: results are written neither into footage nor into a run."""

from pathlib import Path

from egodepth.core.errors import EgodepthError
from egodepth.core.outputs import LIST, OutputFolder, check_destination
from egodepth.data.image_files import list_images
from egodepth.runs.folder import RunFolder


def check_output_folder(path: Path, *, for_run: bool = False) -> None:
    """Check that results can be written into a folder, before the work starts.

    Args:
        path: the folder; need not exist.
        for_run: whether a run will be written there, which may replace an earlier one.

    Raises:
        EgodepthError: the folder contains footage or a run, or is not writable.
    """
    check_destination(path, folder=True)
    is_run = RunFolder.at(path).exists
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


def output_folder(out: str | Path | OutputFolder, kind: str) -> OutputFolder:
    """Return the output folder for results of a kind, checked by :func:`check_output_folder`.

    Raises:
        EgodepthError: as :func:`check_output_folder`, or the folder contains results of another kind.
    """
    if not isinstance(out, OutputFolder):
        check_output_folder(Path(out))
    return OutputFolder.at(out, kind)
