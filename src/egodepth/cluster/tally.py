"""Counts begins of videos, in a process of its own that imports nothing heavy."""


class Tally:
    """Counts, apart from the actors, how often each video was begun."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def begin(self, name: str) -> int:
        """Count a begin, and return the number of them."""
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]
