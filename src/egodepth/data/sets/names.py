"""Names of sequences by their folders."""

from pathlib import Path


def name_of_folder(folder: Path, root: Path) -> str:
    """Name of the sequence in a folder: its path below the root of the data set, or the root's own name."""
    relative = folder.relative_to(root).as_posix()
    return relative if relative != "." else folder.resolve().name
