"""Revisions of settings in an SQL store. The newest ones are kept, and always the one a bank runs with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import cast

import msgspec

from specie.audit import AuditLog, Draft
from specie.audit import Outcome as Done
from specie.ops.revision import Change, Outcome, Revision
from specie.storage import Migration, Row, Storage, Transaction

__all__ = ["MIGRATIONS", "SqlRevisionStore"]

_KEPT = 1000
"""Revisions of one place that are kept; older ones go."""

_TABLES = """
CREATE TABLE ops_revision (
  number {integer} PRIMARY KEY,
  place TEXT NOT NULL,
  at {integer} NOT NULL,
  author TEXT NOT NULL,
  outcome TEXT NOT NULL,
  reasons TEXT NOT NULL,
  settings TEXT NOT NULL,
  document TEXT,
  changes TEXT NOT NULL
){strict};
"""

MIGRATIONS = (
    Migration(
        room="ops",
        version=1,
        sqlite=_TABLES.format(integer="INTEGER", strict=" STRICT"),
        postgres=_TABLES.format(integer="BIGINT", strict=""),
    ),
)

_COLUMNS = "number, place, at, author, outcome, reasons, settings, document, changes"


class SqlRevisionStore:
    """Implements `ops.reload.RevisionStore` on a `Storage`."""

    def __init__(self, storage: Storage, audit: AuditLog | None = None) -> None:
        self._storage = storage
        self._audit = audit

    async def add(self, revision: Revision) -> Revision:
        """Remember it under the next number, which is that of the answer; durable when this returns, and audited with it."""
        draft = self._draft(revision)

        async def body(tx: Transaction) -> Revision:
            while True:  # another process may take a number first
                newest = await tx.fetch_one("SELECT number FROM ops_revision ORDER BY number DESC LIMIT 1")
                made = replace(revision, number=1 if newest is None else int(str(newest[0])) + 1)
                if await tx.execute(
                    f"INSERT INTO ops_revision ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "  # noqa: S608
                    "ON CONFLICT DO NOTHING",
                    made.number,
                    made.place,
                    made.at,
                    made.author,
                    made.outcome.value,
                    _text(list(made.reasons)),
                    _text(dict(made.settings)),
                    None if made.document is None else _text(dict(made.document)),
                    _text([asdict(change) for change in made.changes]),
                ):
                    break
            old = await tx.fetch("SELECT number, outcome FROM ops_revision WHERE place = $1 ORDER BY number DESC", made.place)
            applied = [number for number, outcome in old if outcome == Outcome.APPLIED.value]
            for number, _ in old[_KEPT:]:
                if number not in applied[:1]:
                    await tx.execute("DELETE FROM ops_revision WHERE number = $1", number)
            if self._audit is not None and draft is not None:
                await self._audit.append(tx, replace(draft, subject=f"revision {made.number}"))
            return made

        made = await self._storage.transact(body)
        if self._audit is not None:
            await self._audit.anchor()
        return made

    def _draft(self, revision: Revision) -> Draft | None:
        """What the audit log says of a revision: who brought it, what came of it, and which settings it changes."""
        if self._audit is None:
            return None
        detail = {"author": revision.author, "changed": " ".join(change.key for change in revision.changes)}
        outcome = {Outcome.APPLIED: Done.DONE, Outcome.REFUSED: Done.REFUSED}.get(revision.outcome, Done.FAILED)
        return self._audit.draft("settings.change", outcome=outcome, detail=detail)

    async def undo(self, number: int, reasons: Sequence[str]) -> None:
        """Say of an applied revision that it was taken back."""

        draft = None if self._audit is None else self._audit.draft("settings.undo", f"revision {number}")

        async def body(tx: Transaction) -> None:
            if self._audit is not None and draft is not None:
                await self._audit.append(tx, draft)
            await tx.execute(
                "UPDATE ops_revision SET outcome = $2, reasons = $3 WHERE number = $1 AND outcome = $4",
                number,
                Outcome.UNDONE.value,
                _text(list(reasons)),
                Outcome.APPLIED.value,
            )

        await self._storage.transact(body)

    async def find(self, number: int) -> Revision | None:
        """One revision, of any place."""
        row = await self._storage.read(
            lambda tx: tx.fetch_one(f"SELECT {_COLUMNS} FROM ops_revision WHERE number = $1", number)  # noqa: S608
        )
        return None if row is None else _revision(row)

    async def newest(self, place: str, limit: int, *, applied: bool = False) -> list[Revision]:
        """The newest of one place, newest first; with `applied` those that a bank ran with."""
        only = "AND outcome = $3 " if applied else ""
        values = (place, limit, Outcome.APPLIED.value) if applied else (place, limit)
        sql = f"SELECT {_COLUMNS} FROM ops_revision WHERE place = $1 {only}ORDER BY number DESC LIMIT $2"  # noqa: S608
        return [_revision(row) for row in await self._storage.read(lambda tx: tx.fetch(sql, *values))]


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _revision(row: Row) -> Revision:
    number, place, at, author, outcome, reasons, settings, document, changes = row
    return Revision(
        number=int(str(number)),
        place=str(place),
        at=int(str(at)),
        author=str(author),
        outcome=Outcome(str(outcome)),
        reasons=tuple(msgspec.json.decode(str(reasons), type=list[str])),
        settings=msgspec.json.decode(str(settings), type=dict[str, str]),
        document=None if document is None else msgspec.json.decode(cast(str, document), type=dict),
        changes=tuple(msgspec.json.decode(str(changes), type=list[Change])),
    )
