"""The port through which engines see time. Pure code takes `now` as an argument instead."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """Wall time, elapsed time and waiting; `app.system.SystemClock` is the real one, the simulator has a virtual one."""

    def now(self) -> int:
        """Unix time in whole seconds."""
        ...

    def now_ns(self) -> int:
        """Unix time in nanoseconds (for UUIDv7 and log times)."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`."""
        ...
