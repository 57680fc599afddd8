"""What a data set lacks, told once."""

import warnings
from pathlib import Path

from egodepth.core.errors import EgodepthWarning

EXAMPLES = 3


class Lacks:
    """Collects what is missing while a data set is read, and tells it in one line at the end."""

    def __init__(self, name: str, root: Path):
        self._title = f"{name} in {root}"
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, *where: str | Path) -> None:
        """Note that something is missing at these places."""
        if where:
            self._found.setdefault(what, []).extend(str(w) for w in where)

    @property
    def lines(self) -> list[str]:
        """One for each kind: what, how often, and examples."""
        return [
            f"{what}: {len(where)} ({', '.join(where[:EXAMPLES])}"
            f"{', ...' if len(where) > EXAMPLES else ''})"
            for what, where in self._found.items()
        ]

    def tell(self) -> None:
        """Warn, if there is something to tell."""
        if self._found:
            text = f"{self._title} is not complete: {'; '.join(self.lines)}"
            warnings.warn(text, EgodepthWarning, stacklevel=3)
