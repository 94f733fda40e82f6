"""The floor, looked at several times in one run, beside whatever is measured between the looks."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

from bench.floor import FloorProgram
from bench.record import Record

__all__ = ["FloorLooks"]

_FLOOR_WINDOWS = 3


class FloorLooks:
    """The floor in C, looked at several times in a run; in 4/4 swaps a second on all cores, and on one."""

    def __init__(self, record: Record, directory: Path, seconds: float) -> None:
        self._record, self._seconds = record, seconds
        self._program = FloorProgram(directory)
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.looks: list[dict[str, Any]] = []
        if self._program.missing:
            record.note(f"no floor in C: {self._program.missing}")

    def look(self, when: str) -> None:
        """Both floors, in windows that alternate."""
        for threads in sorted({1, self._cores}):
            rates: dict[str, list[float]] = {"with DLEQ": [], "points alone": []}
            for _ in range(_FLOOR_WINDOWS):
                for what, rows in rates.items():
                    floor = self._program.measure(threads, self._seconds, points_only=what == "points alone")
                    if floor is None:
                        return
                    rows.append(floor.pairs_per_s / 4)
            for what, rows in rates.items():
                look = {"when": when, "what": what, "threads": threads}
                self.looks.append(look | {"swaps_per_s": statistics.median(rows), "best_swaps_per_s": max(rows)})
                self._record.say(
                    f"  floor {when:<16} {what:<13} threads {threads}: {statistics.median(rows):>6.0f} 4/4 swaps/s"
                    f" (best window {max(rows):.0f})"
                )

    def of(self, what: str) -> float | None:
        """The median of all looks on all cores, or None."""
        rates = [look["swaps_per_s"] for look in self.looks if (look["what"], look["threads"]) == (what, self._cores)]
        return statistics.median(rates) if rates else None
