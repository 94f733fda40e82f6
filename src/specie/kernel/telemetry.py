"""The port through which engines report; `ops` implements it. Values are numbers and names, never secrets."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NULL_TELEMETRY", "NullTelemetry", "Telemetry"]


class Telemetry(Protocol):
    """Counters, timings, events and pages. Labels have few values each: an id belongs in an event, not in a label."""

    def count(self, name: str, /, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        ...

    def observe(self, name: str, seconds: float, /, **labels: str) -> None:
        """Record a duration."""
        ...

    def event(self, name: str, /, **facts: object) -> None:
        """Write one structured log line."""
        ...

    def page(self, reason: str, /, **facts: object) -> None:
        """A human must look now: money may have moved, or the books do not balance."""
        ...


class NullTelemetry:
    """Reports to nobody: the default of a library, and of tests that do not look."""

    def count(self, name: str, /, amount: int = 1, **labels: str) -> None:
        """Drop it."""

    def observe(self, name: str, seconds: float, /, **labels: str) -> None:
        """Drop it."""

    def event(self, name: str, /, **facts: object) -> None:
        """Drop it."""

    def page(self, reason: str, /, **facts: object) -> None:
        """Drop it."""


NULL_TELEMETRY = NullTelemetry()
