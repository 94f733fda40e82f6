"""One body's work on one PostgreSQL connection: the `Transaction` without its beginning and end, and its errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from specie.kernel.errors import InvariantError, MalformedError, RefusedError, SpecieError, UnavailableError
from specie.storage.deferred import Deferred, RerunError
from specie.storage.errors import ConstraintError
from specie.storage.ports import Body, Row, Tally, Value
from specie.storage.statement import sql_with_key_array

__all__ = ["Columns", "ConflictError", "LostError", "PostgresTransaction", "translated"]

T = TypeVar("T")

Connection = Any
"""asyncpg is untyped."""


class ConflictError(UnavailableError):
    """The server undid the transaction for the sake of another (deadlock, a lock held too long): run it again."""


class LostError(UnavailableError):
    """The connection is gone, or no longer to be trusted; what was not committed is undone."""


_CONFLICTS = {"40001", "40P01", "55P03"}

_NOT_TEXT = {"22021", "22P05"}
"""A text holds what the server's encoding has no place for: U+0000."""

_LOST = {"08", "25P03", "57P01", "57P02", "57P03", "57P05"}
"""Classes and states after which the server closes the connection."""


def translated(error: Exception) -> SpecieError:
    """The error of a statement as one of ours, without the values that the server's text may carry."""
    if isinstance(error, SpecieError):
        return error
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return ConflictError("the schema changed under a prepared statement")
    if not isinstance(error, asyncpg.PostgresError):
        if isinstance(error, OSError | asyncio.TimeoutError | asyncio.IncompleteReadError):
            return LostError(f"the connection to PostgreSQL failed: {type(error).__name__}")
        if isinstance(error, asyncpg.InterfaceError) and "connection" in str(error) and "closed" in str(error):
            return LostError("the connection to PostgreSQL is closed")
        return InvariantError(f"a statement or its values do not fit: {type(error).__name__}")
    state = str(error.sqlstate or "")
    name = type(error).__name__
    if state in _CONFLICTS:
        return ConflictError(f"PostgreSQL undid a transaction ({name})")
    if state[:2] in _LOST or state in _LOST:
        return LostError(f"the connection to PostgreSQL is lost ({name})")
    if state[:2] == "23":
        return ConstraintError(f"{name}: {getattr(error, 'constraint_name', None) or getattr(error, 'column_name', None)}")
    if state in _NOT_TEXT:  # texts come from outside: this is their fault and not ours
        return MalformedError("a text holds a character that cannot be stored")
    if state[:2] in {"53", "57", "58"}:
        return UnavailableError(f"PostgreSQL cannot do this now ({name})")
    if state[:2] in {"28", "3D"}:
        return RefusedError(f"PostgreSQL does not let us in ({name})")
    if state == "25006":
        return InvariantError("a body that only reads has tried to write, or the server is a read-only replica")
    told = f": {error}" if state[:2] == "42" else ""  # syntax and names, no values
    return InvariantError(f"PostgreSQL refused a statement ({name} {state}){told}")


class Columns:
    """The types of tables' columns, asked once: arrays of rows need them."""

    def __init__(self) -> None:
        self._insert: dict[tuple[str, str], str] = {}

    async def insert_sql(self, connection: Connection, table: str, columns: str) -> str:
        """The statement that inserts an array for each column, leaving out rows whose key is taken."""
        sql = self._insert.get((table, columns))
        if sql is None:
            rows = await connection.fetch(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::regclass", table
            )
            types = {str(name): str(kind) for name, kind in rows}
            arrays = [f"${at + 1}::{types[name.strip()]}[]" for at, name in enumerate(columns.split(","))]
            sql = f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({', '.join(arrays)}) ON CONFLICT DO NOTHING"  # noqa: S608 - names of tables are ours
            self._insert[table, columns] = sql
        return sql


class PostgresTransaction:
    """The `Transaction` of one body. After a failed statement the body is doomed: each later one fails the same way.

    `batch`: what earlier bodies of the commit left to its end, if this one may do so too. `savepoint`: whether the body's own
    statements stand behind a savepoint of its own, made before the first of them; `saved`: whether it was.
    """

    __slots__ = ("_busy", "_savepoint", "batch", "columns", "connection", "fault", "lane", "mine", "notices", "saved")

    def __init__(
        self,
        connection: Connection,
        columns: Columns,
        lane: int = 0,
        *,
        batch: Deferred | None = None,
        savepoint: bool = False,
    ) -> None:
        self.connection = connection
        self.columns = columns
        self.lane = lane
        self.batch = batch
        self.mine = Deferred()
        self.saved = False
        self.fault: SpecieError | RerunError | None = None
        self.notices: list[tuple[str, str]] = []
        self._savepoint = savepoint
        self._busy = False

    async def _step(self, act: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        if self._busy:
            raise InvariantError("a body may run one statement at a time")
        self._busy = True
        try:
            if self._savepoint or self.batch is not None:
                await self._prepare()
            return await act(*arguments)
        except RerunError as error:
            self.fault = error
        except Exception as error:
            self.fault = LostError("the connection broke") if self.connection.is_closed() else translated(error)
        finally:
            self._busy = False
        raise self.fault  # outside the handler: the server's own error may quote values, and is not carried along

    async def _prepare(self) -> None:
        """What must be in the database before a statement: what waits, the savepoint, what waits of this body."""
        if self.batch is not None and self.batch.waiting:
            await self._write_rows(self.batch)
        if self._savepoint and not self.saved:
            self.saved = True
            await self.connection.execute("SAVEPOINT body")
        if self.mine.waiting:
            await self._write_rows(self.mine)

    async def _write_rows(self, waiting: Deferred) -> None:
        for table, columns, rows in waiting.rows():
            try:
                written = await self._write_array(table, columns, rows)
            except Exception as error:
                if self.connection.is_closed() or isinstance(translated(error), ConflictError | LostError):
                    raise
                written = False  # some body's rows do not fit: by itself it hears of it
            if not written:
                raise RerunError

    async def _write_array(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        sql = await self.columns.insert_sql(self.connection, table, columns)
        tag: str = await self.connection.execute(sql, *(list(column) for column in zip(*rows, strict=True)))
        return int(tag.rpartition(" ")[2]) == len(rows)

    async def insert(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        if self.fault is not None:
            raise self.fault
        if self.batch is None:
            return not rows or bool(await self._step(self._write_array, table, columns, rows))
        self.mine.insert(table, columns, rows)
        return True

    async def flush(self) -> None:
        """Write what waits in the batch; the engine's last act before the sums. RerunError if a key of it is taken."""
        if self.batch is not None and self.batch.waiting:
            await self._step(self._write_rows, self.batch)

    def tally(self, target: Tally, sums: Mapping[tuple[str, ...], int]) -> None:
        if self.fault is not None:
            raise self.fault
        self.mine.add(target, sums)

    async def execute(self, sql: str, *values: Value) -> int:
        tag: str = await self._step(self.connection.execute, sql, *values)
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() and not tag.startswith("SELECT") else 0

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        await self._step(self.connection.executemany, sql, rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return [tuple(record) for record in await self._step(self.connection.fetch, sql, *values)]

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        record = await self._step(self.connection.fetchrow, sql, *values)
        return None if record is None else tuple(record)

    async def fetch_in(self, sql: str, keys: Sequence[Value], *values: Value) -> list[Row]:
        distinct = [key for key in dict.fromkeys(keys) if key is not None]
        if not distinct:
            return []
        return await self.fetch(sql_with_key_array(sql, len(values), type(distinct[0])), *values, distinct)  # type: ignore[arg-type]  # an array

    def notify(self, channel: str, payload: str) -> None:
        if self.fault is not None:
            raise self.fault
        self.notices.append((channel, payload))

    async def run(self, body: Body[T]) -> T:
        """Drive `body` to its end.

        Raises:
            InvariantError: it awaited something other than a method of this transaction.
            Exception: whatever the body raised, or the failure of a statement it swallowed.
        """
        try:
            result = await _Guarded(body(self), self)
            if self.fault is not None:
                raise self.fault
        except BaseException:
            if isinstance(self.fault, ConflictError | LostError | RerunError):
                raise self.fault from None  # whatever the body made of it
            raise
        finally:
            self.fault = self.fault or InvariantError("this transaction is over")
        if not self.connection.is_in_transaction():
            raise LostError("a body ended the transaction it was given")
        return result

    @property
    def busy(self) -> bool:
        """Whether a statement is under way, so that waiting is allowed."""
        return self._busy


class _Guarded(Awaitable[T]):
    """A body that may wait only while a statement of its transaction is under way."""

    def __init__(self, body: Awaitable[T], transaction: PostgresTransaction) -> None:
        self._body = body
        self._transaction = transaction

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._body.__await__()
        advance: Callable[[Any], Any] = steps.send
        passed: Any = None
        while True:
            try:
                waits_for = advance(passed)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if not self._transaction.busy:
                steps.close()
                raise InvariantError("a body awaited something that is not a method of its transaction")
            try:
                passed = yield waits_for
                advance = steps.send
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:
                passed, advance = error, steps.throw
