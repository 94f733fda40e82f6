"""One body's work on a RocksDB store: the `Transaction`, without its beginning and its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from specie.kernel.errors import InvariantError, SpecieError, UnavailableError
from specie.storage.adapters.rocks_rows import INT_MAX, INT_MIN, plain
from specie.storage.adapters.rocks_sql import Plans, Statement
from specie.storage.adapters.rocks_view import View
from specie.storage.deferred import Deferred, insert_sql
from specie.storage.ports import Body, Row, Tally, Value
from specie.storage.statement import KEYS

__all__ = ["RocksTransaction", "translated"]

T = TypeVar("T")

_PLAIN = frozenset({bytes, str, int, type(None)})


def translated(error: Exception) -> SpecieError:
    """An error below a statement as one of ours, without the values it was given. The library raises `Exception` itself."""
    if isinstance(error, SpecieError):
        return error
    if type(error) is Exception:
        return UnavailableError(f"RocksDB cannot do this now: {error}")
    return InvariantError(f"RocksDB refused a statement: {type(error).__name__}")


def _bound(statement: Statement, keys: Sequence[Value] | None, values: Sequence[Value]) -> tuple[object, ...]:
    """The values of a statement as its plan takes them: `$n` at place n."""
    if len(values) != statement.parameters:
        raise InvariantError(f"RocksDB refused a statement: it takes {statement.parameters} values, not {len(values)}")
    kinds = set(map(type, values))
    if not kinds <= _PLAIN:
        values = tuple(map(plain, values))
        kinds = set(map(type, values))
    if int in kinds:
        numbers = [value for value in values if type(value) is int]
        if min(numbers) < INT_MIN or max(numbers) > INT_MAX:
            raise InvariantError("RocksDB refused a statement: an integer does not fit into 64 bits")
    return (keys, *values)


class RocksTransaction:
    """The `Transaction` of one body. After a failed statement the body is doomed: each later one fails the same way."""

    __slots__ = ("fault", "mine", "notices", "plans", "view")

    lane = 0

    def __init__(self, view: View, plans: Plans) -> None:
        self.view = view
        self.plans = plans
        self.mine = Deferred()
        self.fault: SpecieError | None = None
        self.notices: list[tuple[str, str]] | None = None

    def _run(self, sql: str, values: Sequence[Value], keys: Sequence[Value] | None = None) -> tuple[list[Row], int]:
        if self.fault is not None:
            raise self.fault
        try:
            statement = self.plans.statement(sql)
            if statement.keyed is not (keys is not None):
                raise InvariantError("fetch_in needs a statement with {keys}, and no other has them")
            return statement.plan(self.view, _bound(statement, keys, values))
        except Exception as error:
            self.fault = translated(error)
            raise self.fault from error

    async def execute(self, sql: str, *values: Value) -> int:
        return self._run(sql, values)[1]

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        if self.fault is not None:
            raise self.fault
        try:
            for row in rows:
                self._run(sql, tuple(row))
        except SpecieError:
            raise
        except Exception as error:  # of whoever makes the rows
            self.fault = translated(error)
            raise self.fault from error

    async def insert(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        """At once: rows of the overlay cost no more now than at the end."""
        sql = insert_sql(table, columns)
        return all(self._run(sql, row)[1] for row in rows)

    def tally(self, target: Tally, sums: Mapping[tuple[str, ...], int]) -> None:
        if self.fault is not None:
            raise self.fault
        self.mine.add(target, sums)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return self._run(sql, values)[0]

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        rows = self._run(sql, values)[0]
        return rows[0] if rows else None

    async def fetch_in(self, sql: str, keys: Sequence[Value], *values: Value) -> list[Row]:
        if not keys and self.fault is None and KEYS in sql:
            return []
        return self._run(sql, values, tuple(dict.fromkeys(map(plain, keys))))[0]

    def notify(self, channel: str, payload: str) -> None:
        if self.fault is not None:
            raise self.fault
        if self.notices is None:
            self.notices = []
        self.notices.append((channel, payload))

    def run(self, body: Body[T]) -> T:
        """Drive `body` to its end; it cannot suspend, because nothing here does."""
        steps = body(self).__await__()
        try:
            next(steps)
        except StopIteration as stop:
            if self.fault is not None:  # the body swallowed the failure of a statement
                raise self.fault from None
            result: T = stop.value
            return result
        finally:
            self.fault = self.fault or InvariantError("this transaction is over")
        with contextlib.suppress(Exception):
            getattr(steps, "close", lambda: None)()
        raise InvariantError("a body awaited something that is not a method of its transaction")
