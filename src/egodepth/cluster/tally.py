"""Counts begins of videos, in a process of its own that imports nothing heavy."""

MAX_TRIES = 3
"""How often a video may end the process that works on it before it counts as broken."""


class Tally:
    """Knows, apart from the processes that work on them, which videos must not be begun again."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._given_up: dict[str, str] = {}

    def begin(self, name: str) -> str:
        """Count a begin; returns why this video must not be begun, or nothing."""
        if name in self._given_up:
            return self._given_up[name]
        self._counts[name] = self._counts.get(name, 0) + 1
        if self._counts[name] <= MAX_TRIES:
            return ""
        return (
            f"{MAX_TRIES} processes ended without a word while they worked on it: it may need too much memory, "
            "or crash a decoder"
        )

    def give_up(self, name: str, reason: str) -> None:
        """Note a video for which its process ends itself; others that are begun there are not to blame."""
        self._given_up[name] = reason
        self._counts.clear()
