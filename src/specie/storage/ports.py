"""What the rooms know of storage: a transaction is a function given to `Storage.transact`.

The function (a `Body`) is async, but may await only methods of the transaction it was given, and may have no other
effect: it can be run again after a conflict, and on an embedded store it runs to its end without an event loop. Bodies
that arrive together are committed together (group commit), yet each succeeds or fails alone: an exception undoes the
body that raised it and no other. `transact` returns only after the commit is durable.

SQL is written once for all SQL stores: placeholders are `$1`, `$2`, ... (each may be used repeatedly); types are
`BLOB`/`BYTEA`, `TEXT`, `INTEGER`/`BIGINT`; amounts are decimal TEXT, because 2**64-1 fits no signed column; a text with
U+0000 in it is kept, or refused as malformed where the engine cannot; `INSERT ... ON CONFLICT DO NOTHING`, `RETURNING`
and partial unique indexes are fine, `FOR UPDATE` is not (compare and swap instead). Rooms of a bank keep to the part that
the RocksDB store speaks; it refuses the rest by name when it first meets it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

__all__ = ["Body", "Migration", "Row", "Storage", "StorageStatus", "Tally", "Transaction", "Value"]

T = TypeVar("T")

Value = bytes | str | int | None
"""What a column holds."""

Row = tuple[Value, ...]
"""One row; columns in the order of the SELECT."""


class Tally(Protocol):
    """Sums that many bodies of one commit add to; they are written once, for all of them. Equal by identity."""

    async def write(self, tx: Transaction, sums: Mapping[tuple[str, ...], int]) -> None:
        """Write what was added since the last commit; the last thing before this one."""
        ...


class Transaction(Protocol):
    """One unit of change. Statements see what earlier statements of the same body wrote."""

    @property
    def lane(self) -> int:
        """Which writer of this store object runs the body, counted from 0: two bodies of one lane never run at the same time.

        Rows that bodies of all kinds change are best kept once a lane, else every commit waits for the one before it.
        """
        ...

    async def execute(self, sql: str, *values: Value) -> int:
        """Run one statement; the number of rows it changed."""
        ...

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one statement for each row."""
        ...

    async def insert(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        """Insert rows whose keys are new; `columns` with commas between. False, and the caller must raise, if a key was taken.

        The engine may put the rows off until a later statement or the commit and write those of many bodies at once. It says
        True then; should a key turn out to be taken after all, everything is undone and the body run again, and hears False.
        """
        ...

    def tally(self, target: Tally, sums: Mapping[tuple[str, ...], int]) -> None:
        """Add to sums that are written with this commit, if this body succeeds. No statement of a body sees them."""
        ...

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        """All rows of a query (or of a statement with RETURNING)."""
        ...

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        """The first row, or None."""
        ...

    async def fetch_in(self, sql: str, keys: Sequence[Value], *values: Value) -> list[Row]:
        """All rows of a query that has `{keys}` where a parenthesised list of `keys` goes; `$1`... are `values`.

        `SELECT y FROM proof WHERE y IN {keys} AND keyset = $1`. Any number of keys; [] gives no rows.
        """
        ...

    def notify(self, channel: str, payload: str) -> None:
        """After the commit, and only then, tell every listener of `channel` in every process (payload < 7,000 bytes)."""
        ...


Body = Callable[[Transaction], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a room's schema: a script for each engine, statements separated by `;` at line end."""

    room: str
    version: int
    """1, 2, 3 ... without a gap in each room; applied in order, never edited once released (its checksum is stored)."""
    sqlite: str
    postgres: str
    rocksdb: str | None = None
    """None where it is that of SQLite."""


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """For health pages and metrics: `queue` bodies wait now, `commits` and `bodies` since the start."""

    engine: str
    commits: int
    bodies: int
    queue: int


class Storage(Protocol):
    """A durable store. Errors: UnavailableError if it cannot be reached, UncertainError if a commit's fate is unknown."""

    async def transact(self, body: Body[T]) -> T:
        """Run `body` in a transaction and return its result once that is durable; an exception of the body is re-raised."""
        ...

    async def read(self, body: Body[T]) -> T:
        """Run `body` on one consistent snapshot; it may not write. Never waits for writers."""
        ...

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        """Bring the schema up to date; the steps applied.

        An embedded store is copied beside itself first. RefusedError for a newer schema or a changed checksum.
        """
        ...

    def listen(self, channel: str) -> AsyncIterator[str]:
        """Payloads sent to `channel` from now on, by any process on this store. A slow listener loses the oldest."""
        ...

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to the new file or directory `target` while in use.

        RefusedError where the engine has its own tools.
        """
        ...

    def status(self) -> StorageStatus:
        """Figures since the start."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go."""
        ...
