"""Two processes of one bank on a store that makes each transaction wait its turn, so that a test chooses who meets whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from specie.mint import MintSettings
from specie.storage import Body, Migration, Storage, StorageStatus
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, house
from tests.support.openid import Provider, auth_settings
from tests.support.virtual import VirtualClock

__all__ = ["Slow", "two_banks"]

T = TypeVar("T")


class Slow:
    """A store at which every transaction waits its turn: the n-th for `pauses[n]` hundredths of a second."""

    def __init__(self, inner: Storage, pauses: Sequence[int]) -> None:
        self.inner = inner
        self.pauses = pauses
        self.count = 0
        self.awake = False

    async def _wait(self) -> None:
        if self.awake and self.pauses:
            self.count += 1
            await asyncio.sleep(self.pauses[self.count % len(self.pauses)] / 100)

    async def transact(self, body: Body[T]) -> T:
        await self._wait()
        result = await self.inner.transact(body)
        await self._wait()
        return result

    async def read(self, body: Body[T]) -> T:
        await self._wait()
        return await self.inner.read(body)

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        return await self.inner.migrate(migrations)

    def listen(self, channel: str) -> AsyncIterator[str]:
        return self.inner.listen(channel)

    async def backup(self, target: Path) -> None:
        await self.inner.backup(target)

    def status(self) -> StorageStatus:
        return self.inner.status()

    async def close(self) -> None:
        await self.inner.close()


@asynccontextmanager
async def two_banks(pauses: Sequence[int], *, guarded: bool = False, **plugs: Any) -> AsyncIterator[tuple[Slow, list[House]]]:
    """Two processes of one bank on one slow store; `guarded` ones take blind tokens of one provider."""
    store = Slow(SqliteStorage(":memory:", inline=True), pauses)
    calm = MintSettings(reconcile_every_s=20, pay_deadline_s=5)
    clock = VirtualClock()
    if guarded:
        calm = replace(calm, auth=auth_settings())
        plugs["auth_source"] = Provider(clock)
    async with (
        house(storage=store, exclusive=False, settings=calm, clock=clock, **plugs) as one,
        house(storage=store, exclusive=False, settings=calm, clock=clock, seed="two", **plugs) as two,
    ):
        yield store, [one, two]
    await store.close()
