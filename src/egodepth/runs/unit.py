"""The unit of a run's lengths: metres, or an arbitrary unit after monocular training."""

from dataclasses import dataclass

from egodepth.core.errors import EgodepthError, require_positive
from egodepth.runs.folder import RunFacts

SHORTEST, LONGEST = 1e-6, 1e6
"""Limits of a unit's length in metres. Depth is between a tenth and a hundred units, or near that."""


@dataclass(frozen=True)
class Unit:
    """Unit of a run's lengths.

    Attributes:
        metres: length of the unit in metres; None if unknown.
        text: the unit in words, and how it is known.

    Raises:
        EgodepthError: a length that is not positive, or far from any that depth of a scene can have.
    """

    metres: float | None = None
    text: str = "the run's unit"

    def __post_init__(self) -> None:
        if self.metres is not None:
            require_positive(self.metres, "metres of a unit")
            if not SHORTEST <= self.metres <= LONGEST:
                raise EgodepthError(
                    f"a unit of {self.metres:g} metres ({self.text}) fits no scene; is that length right?"
                )

    @classmethod
    def of_facts(cls, facts: RunFacts) -> "Unit":
        """Metres for a run trained on a stereo rig or on poses in metres; else the unit of its poses, or a unit
        of its own."""
        return cls(1.0, f"metres, by {facts.metric}") if facts.metric else cls(None, facts.unit)

    def __str__(self) -> str:
        return self.text

    @property
    def factor(self) -> float:
        """Factor from the run's lengths to metres; 1 if they stay in the run's unit."""
        return self.metres or 1.0


OWN_UNIT = Unit()
"""The unit of a run whose metric scale is unknown."""
