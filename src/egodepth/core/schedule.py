"""Progress of a training whose number of steps may change."""

import math
from collections.abc import Iterable
from typing import NamedTuple


class Revision(NamedTuple):
    """A change of the number of steps, from some step on.

    Attributes:
        step: first step that it applies to.
        progress: progress at that step, in [0, 1].
        total: number of steps of the whole training.
    """

    step: int
    progress: float
    total: int


class Schedule:
    """Progress of a training, and the only place that stores its number of steps.

    Progress rises from 0 to 1, linearly between revisions. A revision does not affect earlier steps, so that a
    training resumed with the same revisions repeats the same steps.

    Attributes:
        revisions: revisions in order; the first one is at the start.
    """

    def __init__(self, total: int):
        """Start a schedule.

        Args:
            total: number of steps of the whole training.
        """
        self.revisions = [Revision(0, 0.0, total)]

    @property
    def total(self) -> int:
        """Number of steps of the whole training, by the latest revision."""
        return self.revisions[-1].total

    def progress(self, step: int) -> float:
        """Fraction of the training that is done before a step, in [0, 1]."""
        if step >= self.total:
            return 1.0
        start, progress, total = next(r for r in reversed(self.revisions) if r.step <= step)
        return progress + (1 - progress) * ((step - start) / (total - start))

    def first_step_at(self, share: float) -> int:
        """First step at which this share of the training is done."""
        start, progress, total = next(r for r in reversed(self.revisions) if r.progress <= share)
        if progress == 1 or total == start:
            return start
        step = start + math.ceil((share - progress) / (1 - progress) * (total - start))
        # Rounding may be off by one; progress() decides.
        if step > start and self.progress(step - 1) >= share:
            return step - 1
        return step if self.progress(step) >= share else step + 1

    def revise(self, step: int, total: int) -> None:
        """Spread the rest of the training after a step over the steps up to ``total``.

        A revision that was to begin later is dropped.

        Raises:
            ValueError: the step is beyond ``total``.
        """
        if not 0 <= step <= total:
            raise ValueError(f"{Revision(step, 0.0, total)} begins after its end")
        while self.revisions[-1].step > step:
            self.revisions.pop()
        self.revisions.append(Revision(step, self.progress(step), total))

    def state(self) -> list[list[float]]:
        """State as plain numbers, for checkpoints and JSON."""
        return [list(revision) for revision in self.revisions]

    @classmethod
    def of_state(cls, state: Iterable[Iterable[float]]) -> "Schedule":
        """Restore a schedule from :meth:`state`."""
        found = cls(0)
        found.revisions = [Revision(int(s), float(p), int(t)) for s, p, t in state]
        return found
