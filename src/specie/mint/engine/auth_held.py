"""A blind token in the hands of one request, and the store through which that request's effects become durable.

The token is spent in the very transaction that commits the request's effect: `SpendingStorage` adds the claim to whatever
the verb commits while a request holds a token. No verb has to know of it, and no crash can come between the two.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from specie.ecash.codes import BlindAuthFailedError
from specie.mint.auth_ports import AuthStore
from specie.storage import Body, Migration, Storage, StorageStatus, Transaction

__all__ = ["HELD", "Held", "SpendingStorage"]

T = TypeVar("T")


@dataclass(slots=True)
class Held:
    """A blind token that a request runs on; `holder` is FRESH for each request."""

    y: bytes
    holder: str
    spent: bool = False
    """Whether an effect of the request is committed, and the token with it."""
    ended: bool = False
    """Whether the request is over; work it left behind (a payment that goes on) no longer touches the token."""


HELD: ContextVar[Held | None] = ContextVar("specie_blind_token", default=None)
"""The token of the request that this task works for."""


class SpendingStorage:
    """A `storage.Storage` whose commits spend the blind token of the request that makes them."""

    def __init__(self, inner: Storage, store: AuthStore) -> None:
        self._inner = inner
        self._store = store

    async def transact(self, body: Body[T]) -> T:
        """As the port says; BlindAuthFailedError, and nothing changed, if the token went to another request meanwhile."""
        held = HELD.get()
        if held is None or held.ended:
            return await self._inner.transact(body)

        async def spending(tx: Transaction) -> T:
            if not await self._store.spend(tx, held.y, held.holder):
                raise BlindAuthFailedError("the request took too long: its blind token has gone to another one")
            return await body(tx)

        result = await self._inner.transact(spending)
        held.spent = True
        return result

    async def read(self, body: Body[T]) -> T:
        """As the port says."""
        return await self._inner.read(body)

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        """As the port says."""
        return await self._inner.migrate(migrations)

    def listen(self, channel: str) -> AsyncIterator[str]:
        """As the port says."""
        return self._inner.listen(channel)

    async def backup(self, target: Path) -> None:
        """As the port says."""
        await self._inner.backup(target)

    def status(self) -> StorageStatus:
        """As the port says."""
        return self._inner.status()

    async def close(self) -> None:
        """As the port says."""
        await self._inner.close()
