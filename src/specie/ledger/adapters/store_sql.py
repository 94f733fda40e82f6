"""The ledger's tables in an SQL store.

Balances are decimal TEXT, exact beyond 2^63. Each writer of each process adds to rows of its own (the process's `shard` and
the transaction's lane), so that no two commits wait for each other's balance rows; readers sum over all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec

from specie.ledger.books import JournalEntry, Posting
from specie.storage import Migration, Transaction

__all__ = ["MIGRATIONS", "SqlLedgerStore"]

_encode = msgspec.json.Encoder().encode

_SQLITE = """
CREATE TABLE ledger_entry (
  entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  reference TEXT NOT NULL,
  postings TEXT NOT NULL
) STRICT;
CREATE TABLE ledger_balance (
  account TEXT NOT NULL,
  unit TEXT NOT NULL,
  shard TEXT NOT NULL,
  amount TEXT NOT NULL,
  PRIMARY KEY (account, unit, shard)
) STRICT, WITHOUT ROWID;
"""

_POSTGRES = """
CREATE TABLE ledger_entry (
  entry_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at BIGINT NOT NULL,
  kind TEXT NOT NULL,
  reference TEXT NOT NULL,
  postings TEXT NOT NULL
);
CREATE TABLE ledger_balance (
  account TEXT NOT NULL,
  unit TEXT NOT NULL,
  shard TEXT NOT NULL,
  amount TEXT NOT NULL,
  PRIMARY KEY (account, unit, shard)
);
"""

MIGRATIONS = (Migration("ledger", 1, _SQLITE, _POSTGRES),)


class SqlLedgerStore:
    """Implements `ledger.ports.LedgerStore`, and is the `Tally` of its balances.

    `shard` names this writer; equal names in two processes are still safe.
    """

    def __init__(self, shard: str = "0") -> None:
        self._shard = shard
        self._written: dict[tuple[str, str, str], str] = {}
        """Balances as written last: a guess that saves a look. One that is wrong, after a rollback, changes no row."""

    async def append(self, tx: Transaction, at: int, kind: str, reference: str, postings: Sequence[Posting]) -> None:
        """Write one entry; its lines reach the balances with the commit. They are of different accounts."""
        lines = _encode([[line.account, line.unit, str(line.amount)] for line in postings]).decode()
        await tx.insert("ledger_entry", "at, kind, reference, postings", [(at, kind, reference, lines)])
        tx.tally(self, {(line.account, line.unit): line.amount for line in postings})

    async def write(self, tx: Transaction, sums: Mapping[tuple[str, ...], int]) -> None:
        """Add to this shard's balances, in account order so that no two writers can deadlock."""
        for (account, unit), amount in sorted(sums.items()):
            await self._add(tx, account, unit, amount)

    async def _add(self, tx: Transaction, account: str, unit: str, amount: int) -> None:
        shard = f"{self._shard}/{tx.lane}" if tx.lane else self._shard
        key = (account, unit, shard)
        old = self._written.get(key)
        while True:
            if old is None:
                row = await tx.fetch_one(
                    "SELECT amount FROM ledger_balance WHERE account = $1 AND unit = $2 AND shard = $3", *key
                )
                old = None if row is None else str(row[0])
            new = str((0 if old is None else int(old)) + amount)
            if old is None:
                changed = await tx.execute(
                    "INSERT INTO ledger_balance (account, unit, shard, amount) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                    *key,
                    new,
                )
            else:
                changed = await tx.execute(
                    "UPDATE ledger_balance SET amount = $4 WHERE account = $1 AND unit = $2 AND shard = $3 AND amount = $5",
                    *key,
                    new,
                    old,
                )
            if changed:
                self._written[key] = new
                return
            old = None

    async def balances(self, tx: Transaction) -> dict[tuple[str, str], int]:
        """Balances summed over all shards."""
        totals: dict[tuple[str, str], int] = {}
        for account, unit, amount in await tx.fetch("SELECT account, unit, amount FROM ledger_balance"):
            key = (str(account), str(unit))
            totals[key] = totals.get(key, 0) + int(str(amount))
        return totals

    async def entries(self, tx: Transaction, *, after: int, limit: int) -> list[JournalEntry]:
        """Entries with an id above `after`, ascending."""
        rows = await tx.fetch(
            "SELECT entry_id, at, kind, reference, postings FROM ledger_entry WHERE entry_id > $1 ORDER BY entry_id LIMIT $2",
            after,
            limit,
        )
        return [
            JournalEntry(
                entry_id=int(str(entry_id)),
                at=int(str(at)),
                kind=str(kind),
                reference=str(reference),
                postings=tuple(Posting(account, unit, int(amount)) for account, unit, amount in json.loads(str(postings))),
            )
            for entry_id, at, kind, reference, postings in rows
        ]

    async def sums(self, tx: Transaction) -> dict[tuple[str, str], int]:
        """Balances computed anew from every entry, a thousand at a time."""
        totals: dict[tuple[str, str], int] = {}
        after = 0
        while entries := await self.entries(tx, after=after, limit=1000):
            after = entries[-1].entry_id
            for entry in entries:
                for line in entry.postings:
                    key = (line.account, line.unit)
                    totals[key] = totals.get(key, 0) + line.amount
        return totals
