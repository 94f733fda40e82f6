"""One body's work on one SQLite connection: the `Transaction`, without its beginning and its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from specie.kernel.errors import InvariantError, SpecieError, UnavailableError
from specie.storage.adapters.embedded_transaction import EmbeddedTransaction
from specie.storage.deferred import Deferred, insert_sql
from specie.storage.errors import ConstraintError
from specie.storage.ports import Row, Value
from specie.storage.statement import key_chunks, sql_with_keys, sqlite_sql

__all__ = ["SqliteTransaction", "translated"]

_UNAVAILABLE = (
    apsw.FullError,
    apsw.IOError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.CantOpenError,
    apsw.NoMemError,
    apsw.InterruptError,
    apsw.ProtocolError,
)


def translated(error: Exception) -> SpecieError:
    """The error of a statement as one of ours. SQLite's messages name tables and columns, never values."""
    if isinstance(error, apsw.ConstraintError):
        return ConstraintError(str(error))
    if isinstance(error, _UNAVAILABLE):
        return UnavailableError(f"SQLite cannot do this now: {error}")
    if isinstance(error, apsw.ReadOnlyError):
        return InvariantError("a body that only reads has tried to write, or the file is read-only")
    return InvariantError(f"SQLite refused a statement: {type(error).__name__}: {error}")


class SqliteTransaction(EmbeddedTransaction):
    """The `Transaction` of one body."""

    __slots__ = ("connection", "cursor")

    def __init__(self, connection: apsw.Connection, cursor: apsw.Cursor, batch: Deferred | None = None) -> None:
        super().__init__(batch)
        self.connection = connection
        self.cursor = cursor

    def _rows(self, sql: str, values: Sequence[Value]) -> list[Row]:
        self.check()
        if self.batch is not None:
            if self.batch.waiting or self.mine.waiting:
                self.flush()
            if not sql.startswith("SELECT"):
                self.wrote = True
        try:
            return self.cursor.execute(sqlite_sql(sql), values).fetchall()  # type: ignore[return-value]  # no column holds a float
        except Exception as error:
            self.fault = translated(error)
            raise self.fault from error

    async def execute(self, sql: str, *values: Value) -> int:
        connection = self.connection
        before = connection.total_changes()
        self._rows(sql, values)
        return connection.changes() if connection.total_changes() != before else 0

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        self.check()
        if self.batch is not None:
            self.flush()
            self.wrote = True
        self._many(sql, rows)

    def _many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        try:
            self.cursor.executemany(sqlite_sql(sql), rows).fetchall()
        except Exception as error:
            self.fault = translated(error)
            raise self.fault from error

    def insert_rows(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        before = self.connection.total_changes()
        self._many(insert_sql(table, columns), rows)
        return self.connection.total_changes() - before == len(rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return self._rows(sql, values)

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        rows = self._rows(sql, values)
        return rows[0] if rows else None

    async def fetch_in(self, sql: str, keys: Sequence[Value], *values: Value) -> list[Row]:
        found: list[Row] = []
        for chunk in key_chunks(keys):
            found += self._rows(sql_with_keys(sql, len(values), len(chunk)), values + chunk)
        return found
