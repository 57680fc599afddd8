"""What a batch has done: counts, rates, and how long each stage waited."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from egodepth.cluster.stopwatch import STAGES


@dataclass
class BatchSummary:
    """What a batch has done.

    Attributes:
        videos: number of videos of the batch.
        before: number of those that were done before.
        changed: number of those that were done before, and changed since.
        done: number of those done now.
        frames, bytes: of the videos done now; bytes of their results.
        failed: the failed videos: ``name``, ``video``, ``stage`` and ``error`` of each.
        with_warnings: number of videos with warnings, which their markers hold.
        actors: number of processes that worked.
        seconds: from the first video's begin to the last one's end.
        busy: seconds spent on each stage, summed over the actors.
    """

    videos: int
    before: int = 0
    changed: int = 0
    actors: int = 1
    done: int = 0
    frames: int = 0
    bytes: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    with_warnings: int = 0
    busy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _cpu: dict[str, tuple[float, float]] = field(default_factory=dict)
    _began: float = float("inf")
    _ended: float = 0.0

    def add(self, outcome: dict[str, Any]) -> None:
        """Add the outcome of a video."""
        if "error" in outcome:
            self.failed.append(outcome)
            return
        self.done += 1
        self.frames += outcome["frames"]
        self.bytes += outcome["bytes"]
        self.with_warnings += bool(outcome["warnings"])
        self._began = min(self._began, outcome["began"])
        self._ended = max(self._ended, outcome["ended"])
        if "cpu" in outcome:
            first, last = self._cpu.get(outcome["process"], outcome["cpu"])
            begin, end = outcome["cpu"]
            self._cpu[outcome["process"]] = min(first, begin), max(last, end)
        for stage, seconds in outcome["seconds"].items():
            self.busy[stage] += seconds

    @property
    def left(self) -> int:
        """Number of videos that are neither done nor failed."""
        return self.videos - self.before - self.done - len(self.failed)

    @property
    def seconds(self) -> float:
        """See the class."""
        return max(0.0, self._ended - self._began)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the actors, from their first video's begin to their last one's end."""
        return sum(end - begin for begin, end in self._cpu.values())

    def stages(self) -> list[tuple[str, float, float]]:
        """Name, frames per second while busy, and share of the time spent waiting, of each stage."""
        whole = self.actors * self.seconds
        return [
            (stage, self.frames / busy, max(0.0, 1 - busy / whole))
            for stage in STAGES
            if (busy := self.busy.get(stage, 0.0)) > 0 and whole > 0
        ]

    def facts(self) -> dict[str, Any]:
        """All of it, as names and values."""
        return {
            "videos": self.videos, "done_before": self.before, "changed": self.changed, "done": self.done,
            "failed": len(self.failed), "left": self.left, "with_warnings": self.with_warnings,
            "frames": self.frames, "bytes": self.bytes, "actors": self.actors, "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "stages": {
                name: {"busy_seconds": self.busy[name], "frames_per_second": rate, "waited": waited}
                for name, rate, waited in self.stages()
            },
        }  # fmt: skip

    def failed_lines(self) -> str:
        """The failed videos by name, one per line, as JSON."""
        ordered = sorted(self.failed, key=lambda one: one["name"])
        return "".join(json.dumps(one) + "\n" for one in ordered)
