"""Suggestions for unknown names: the most similar known name, or all of them."""

from collections.abc import Iterable
from difflib import SequenceMatcher

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
