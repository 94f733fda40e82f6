"""The real clock, the real entropy, and a process that leaves no picture of its memory: what the house asks of the machine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import resource
import secrets
import sys
import time

__all__ = ["SystemClock", "SystemEntropy", "collect_seldom", "forbid_memory_dumps", "take_short_turns"]

_PR_SET_DUMPABLE = 4


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


def collect_seldom() -> None:
    """For a server that has started: what lives now lives on, and cycles are looked for rarely, since requests leave few."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def take_short_turns() -> None:
    """For a server: a thread that waits for the interpreter asks for it after 1 ms, not 5, since a request passes several."""
    sys.setswitchinterval(0.001)


def forbid_memory_dumps() -> None:
    """From now on no crash of this process writes its memory to disk, and on Linux no other process of its user reads it.

    Keys and coins are in that memory (prctl(2) PR_SET_DUMPABLE, setrlimit(2) RLIMIT_CORE). What the machine refuses stays
    as it was.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
