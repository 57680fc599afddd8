"""Warns once about everything that is missing from a data set."""

import warnings
from pathlib import Path

from egodepth.core.errors import EgodepthWarning

EXAMPLES = 3


class MissingItems:
    """Collects missing items while a data set is read, to warn about them in one line at the end."""

    def __init__(self, name: str, root: Path):
        self._title = f"{name} in {root}"
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, *places: str | Path) -> None:
        """Add the places where items of a kind, such as ``"frames without a pose"``, are missing."""
        if places:
            self._found.setdefault(kind, []).extend(str(place) for place in places)

    @property
    def lines(self) -> list[str]:
        """One line per kind, with the number of items and the first few."""
        return [
            f"{kind}: {len(places)} ({', '.join(places[:EXAMPLES])}"
            f"{', ...' if len(places) > EXAMPLES else ''})"
            for kind, places in self._found.items()
        ]

    def warn(self) -> None:
        """Warn if anything is missing."""
        if self._found:
            text = f"{self._title} is not complete: {'; '.join(self.lines)}"
            warnings.warn(text, EgodepthWarning, stacklevel=3)
