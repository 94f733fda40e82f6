"""The audit log's tables in an SQL store: one row for each record, one for each checkpoint, and one that is the head.

The head's row is what writers of all processes meet at: it is changed by compare and swap, and on PostgreSQL its lock is
held until the commit, so that numbers have no gap and no two records the same predecessor.
"""

from __future__ import annotations

from typing import cast

from specie.audit.ports import Head, StoredRecord
from specie.storage import Migration, Transaction

__all__ = ["MIGRATIONS", "SqlAuditStore"]

_TABLES = """
CREATE TABLE audit_record (
  sequence {integer} PRIMARY KEY,
  body TEXT NOT NULL,
  hash {blob} NOT NULL
){strict};
CREATE TABLE audit_checkpoint (
  count {integer} PRIMARY KEY,
  body TEXT NOT NULL
){strict};
CREATE TABLE audit_head (
  tenant TEXT PRIMARY KEY,
  count {integer} NOT NULL,
  hash {blob} NOT NULL,
  peaks {blob} NOT NULL
){strict};
"""

MIGRATIONS = (
    Migration(
        room="audit",
        version=1,
        sqlite=_TABLES.format(integer="INTEGER", blob="BLOB", strict=" STRICT"),
        postgres=_TABLES.format(integer="BIGINT", blob="BYTEA", strict=""),
    ),
)
"""Steps of the audit log's schema, for `Storage.migrate`."""

_BANK = ""
"""The tenant whose chain it is: the bank itself."""


class SqlAuditStore:
    """Implements `audit.ports.AuditStore` on `storage.Transaction`."""

    async def head(self, tx: Transaction) -> Head | None:
        """Where the chain ends."""
        row = await tx.fetch_one("SELECT count, hash, peaks FROM audit_head WHERE tenant = $1", _BANK)
        return None if row is None else Head(cast(int, row[0]), cast(bytes, row[1]), cast(bytes, row[2]))

    async def move_head(self, tx: Transaction, old: Head | None, new: Head) -> bool:
        """Compare and swap."""
        if old is None:
            changed = await tx.execute(
                "INSERT INTO audit_head (tenant, count, hash, peaks) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                _BANK,
                new.count,
                new.hash,
                new.peaks,
            )
        else:
            changed = await tx.execute(
                "UPDATE audit_head SET count = $2, hash = $3, peaks = $4 WHERE tenant = $1 AND count = $5",
                _BANK,
                new.count,
                new.hash,
                new.peaks,
                old.count,
            )
        return changed == 1

    async def add(self, tx: Transaction, record: StoredRecord) -> bool:
        """One insert."""
        added = await tx.execute(
            "INSERT INTO audit_record (sequence, body, hash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            record.sequence,
            record.text,
            record.hash,
        )
        return added == 1

    async def records(self, tx: Transaction, *, after: int, limit: int) -> list[StoredRecord]:
        """In order of their numbers."""
        rows = await tx.fetch(
            "SELECT sequence, body, hash FROM audit_record WHERE sequence > $1 ORDER BY sequence LIMIT $2", after, limit
        )
        return [StoredRecord(cast(int, row[0]), str(row[1]), cast(bytes, row[2])) for row in rows]

    async def add_checkpoint(self, tx: Transaction, count: int, text: str) -> bool:
        """One insert."""
        added = await tx.execute(
            "INSERT INTO audit_checkpoint (count, body) VALUES ($1, $2) ON CONFLICT DO NOTHING", count, text
        )
        return added == 1

    async def checkpoints(self, tx: Transaction, *, after: int, limit: int) -> list[tuple[int, str]]:
        """In order of their counts."""
        rows = await tx.fetch("SELECT count, body FROM audit_checkpoint WHERE count > $1 ORDER BY count LIMIT $2", after, limit)
        return [(cast(int, row[0]), str(row[1])) for row in rows]
