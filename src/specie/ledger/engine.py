"""The ledger: every verb that moves value posts one balanced entry in its own transaction, or does not happen."""

from __future__ import annotations

from collections.abc import Iterable

from specie.kernel import InvariantError
from specie.ledger.books import Books, JournalEntry, Posting, balanced_checked
from specie.ledger.ports import LedgerStore
from specie.storage import Transaction

__all__ = ["Ledger"]


class Ledger:
    """Double entry over a `LedgerStore`. It opens no transaction of its own."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    async def post(self, tx: Transaction, *, at: int, kind: str, reference: str, postings: Iterable[Posting]) -> None:
        """Append one entry at Unix time `at`. InvariantError, and so no transaction, if it does not balance."""
        lines = balanced_checked(postings)
        if lines:
            await self._store.append(tx, at, kind, reference, lines)

    async def books(self, tx: Transaction) -> Books:
        """The trial balance now; costs one look at the running balances."""
        return Books(await self._store.balances(tx))

    async def journal(self, tx: Transaction, *, after: int = 0, limit: int = 100) -> list[JournalEntry]:
        """Entries behind id `after`, oldest first, at most `limit`."""
        return await self._store.entries(tx, after=after, limit=limit)

    async def audit(self, tx: Transaction) -> Books:
        """The trial balance, checked, and compared with a sum over every entry. InvariantError where they differ."""
        books = await self.books(tx)
        books.check()
        sums = {key: amount for key, amount in (await self._store.sums(tx)).items() if amount}
        if sums != {key: amount for key, amount in books.balances.items() if amount}:
            raise InvariantError("the running balances differ from the journal")
        return books
