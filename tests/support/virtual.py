"""Virtual time and seeded entropy: an event loop on which waiting costs nothing and every run of a seed is the same."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START = 1_800_000_000
"""Unix time at which every simulated world begins."""


class DeadlockError(Exception):
    """Everything waits and nothing will ever wake it."""


class _Selector(selectors.DefaultSelector):
    """Jumps over waiting: where the loop would sleep, time passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise DeadlockError("all tasks wait for ever")
        if timeout > 0:
            self.elapsed += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is advanced by waiting itself. No threads may take part."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.elapsed


class VirtualClock:
    """`kernel.Clock` on a `VirtualLoop`; `skip` moves it ahead without waking anybody early."""

    def __init__(self, loop: VirtualLoop | None = None) -> None:
        self._loop = loop
        self.skipped = 0.0

    def _elapsed(self) -> float:
        loop = self._loop or asyncio.get_running_loop()
        return (loop.time() if isinstance(loop, VirtualLoop) else 0.0) + self.skipped

    def skip(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.skipped += seconds

    def now(self) -> int:
        return START + int(self._elapsed())

    def now_ns(self) -> int:
        return START * 1_000_000_000 + int(self._elapsed() * 1e9)

    def monotonic(self) -> float:
        return self._elapsed()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededEntropy:
    """`kernel.Entropy` that repeats itself for an equal seed. For tests only: it is no secret."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(str(seed))

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a fresh virtual loop; tasks left over are cancelled."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
