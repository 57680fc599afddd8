"""Suggestions for unknown names: the most similar known name, or all of them; and for paths."""

from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from pathlib import Path

MIN_SIMILARITY = 0.6
"""Minimum ratio of matching characters for a name to be suggested."""


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant; None if none is similar.

    For dotted names the last part decides: ``strid`` and ``dat.stride`` mean ``data.stride``.
    """

    def similarity(name: str) -> tuple[float, float]:
        end, known_end = (text.lower().rpartition(".")[2] for text in (word, name))
        return _similarity(end, known_end), _similarity(word, name)

    best = max(known, key=similarity, default=None)
    return best if best is not None and similarity(best)[0] >= MIN_SIMILARITY else None


def _similarity(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b).ratio()


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return "did you mean 'NAME'?" for the most similar known name; if none is similar ``otherwise``, by
    default "use one of ..." with all of them."""
    names = list(known)
    name = nearest_name(word, names)
    return f"did you mean {name!r}?" if name else otherwise or f"use one of {', '.join(names)}"


def similar_path(
    path: str | Path, is_wanted: Callable[[Path], bool] = Path.exists, names: Iterable[str] = ()
) -> str:
    """Return "; did you mean 'PATH'?" for the existing path that was probably meant, or an empty string.

    Args:
        path: a path that does not exist.
        is_wanted: whether an existing path may be meant.
        names: names that may be typed in place of a path.
    """
    path = Path(path)
    found: Path | str | None
    try:
        found = _nearest_path(path, is_wanted)
    except (OSError, ValueError):  # a folder that can't be listed, a name too long
        found = None
    if found is None:
        found = nearest_name(str(path), names)
    return f"; did you mean {str(found)!r}?" if found is not None else ""


def _nearest_path(path: Path, is_wanted: Callable[[Path], bool]) -> Path | None:
    """Correct each part of a path that does not exist; None if nothing there is similar."""
    found = Path(path.anchor)
    parts = path.parts[bool(path.anchor) :]
    for place, part in enumerate(parts, start=1):
        fits = is_wanted if place == len(parts) else Path.is_dir
        if fits(found / part):
            found /= part
            continue
        similar = [
            (_similarity(part.lower(), name.lower()), name)
            for name in (inner.name for inner in found.iterdir())
            if not name.startswith(".")
            and _similarity(Path(part.lower()).stem, Path(name.lower()).stem) >= MIN_SIMILARITY
        ]
        for _, name in sorted(similar, reverse=True):
            if fits(found / name):
                found /= name
                break
        else:
            return None
    return found if parts else None
