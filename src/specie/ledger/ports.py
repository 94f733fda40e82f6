"""What the ledger needs from outside: a store of entries and balances inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from specie.ledger.books import JournalEntry, Posting
from specie.storage import Transaction

__all__ = ["LedgerStore"]


class LedgerStore(Protocol):
    """Entries are only ever appended; balances are their running sums."""

    async def append(self, tx: Transaction, at: int, kind: str, reference: str, postings: Sequence[Posting]) -> None:
        """Write one entry and add its lines to the balances."""
        ...

    async def balances(self, tx: Transaction) -> dict[tuple[str, str], int]:
        """Running balance of each (account, unit)."""
        ...

    async def entries(self, tx: Transaction, *, after: int, limit: int) -> list[JournalEntry]:
        """Entries with an id above `after`, ascending."""
        ...

    async def sums(self, tx: Transaction) -> dict[tuple[str, str], int]:
        """The balances computed anew from every entry: reads all history, for audits only."""
        ...
