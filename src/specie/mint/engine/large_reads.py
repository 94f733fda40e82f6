"""Large questions about the past: they take turns, and rest while money moves.

A restore of a thousand outputs needs the interpreter for as long as ten swaps. Asked again and again, such questions would
make every swap of others late, so one of them is read at a time, a share at a time, and where something was committed
meanwhile the next share waits for four times as long as the last one took. On a mint that does nothing else nobody waits.

A share is a snapshot of its own: each coin's state is one it had while the question was answered. Signatures never change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from specie.kernel import Clock
from specie.storage import Storage, Transaction

__all__ = ["SHARE", "LargeReads"]

T = TypeVar("T")

SHARE: Final = 256
"""Keys that are read together. What asks for no more than half of it never waits."""
_REST: Final = 4
_REST_MOST_S: Final = 0.1


class LargeReads:
    """Reads by many keys, for all requests of one mint."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._turn = asyncio.Lock()

    async def read(
        self, ask: Callable[[Transaction, Sequence[bytes]], Awaitable[Mapping[bytes, T]]], keys: Sequence[bytes]
    ) -> dict[bytes, T]:
        """What the store has under the keys, in any order and with repetitions."""
        keys = list(dict.fromkeys(keys))
        if len(keys) <= SHARE // 2:
            return dict(await self._storage.read(lambda tx: ask(tx, keys)))
        found: dict[bytes, T] = {}
        async with self._turn:
            for start in range(0, len(keys), SHARE):
                found |= await self._share(ask, keys[start : start + SHARE])
        return found

    async def _share(
        self, ask: Callable[[Transaction, Sequence[bytes]], Awaitable[Mapping[bytes, T]]], keys: Sequence[bytes]
    ) -> Mapping[bytes, T]:
        commits, began = self._storage.status().commits, self._clock.monotonic()
        found = await self._storage.read(lambda tx: ask(tx, keys))
        if self._storage.status().commits != commits:
            await self._clock.sleep(min(_REST_MOST_S, _REST * (self._clock.monotonic() - began)))
        return found
