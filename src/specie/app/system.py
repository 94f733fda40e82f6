"""The real clock and the real entropy; the only place in the house that asks the machine for either."""

from __future__ import annotations

import asyncio
import secrets
import time

__all__ = ["SystemClock", "SystemEntropy"]


class SystemClock:
    """`kernel.Clock` on the machine's clocks and the running event loop."""

    def now(self) -> int:
        """Unix time in whole seconds."""
        return int(time.time())

    def now_ns(self) -> int:
        """Unix time in nanoseconds."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`; other tasks run meanwhile."""
        await asyncio.sleep(seconds)


class SystemEntropy:
    """`kernel.Entropy` on the operating system's generator."""

    def bytes(self, count: int) -> bytes:
        """`count` FRESH random bytes."""
        return secrets.token_bytes(count)
