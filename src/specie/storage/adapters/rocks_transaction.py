"""One body's work on a RocksDB store: the `Transaction`, without its beginning and its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specie.kernel.errors import InvariantError, SpecieError, UnavailableError
from specie.storage.adapters.embedded_transaction import EmbeddedTransaction
from specie.storage.adapters.rocks_rows import INT_MAX, INT_MIN, plain
from specie.storage.adapters.rocks_sql import Plans
from specie.storage.adapters.rocks_view import View
from specie.storage.deferred import Deferred
from specie.storage.ports import Row, Value
from specie.storage.statement import KEYS

__all__ = ["RocksTransaction", "translated"]

_PLAIN = frozenset({bytes, str, int, type(None)})


def translated(error: Exception) -> SpecieError:
    """An error below a statement as one of ours, without the values it was given. The library raises `Exception` itself."""
    if isinstance(error, SpecieError):
        return error
    if type(error) is Exception:
        return UnavailableError(f"RocksDB cannot do this now: {error}")
    return InvariantError(f"RocksDB refused a statement: {type(error).__name__}")


def _bound(values: Sequence[Value]) -> Sequence[Value]:
    """Values as a plan takes them. InvariantError for an integer that no column holds."""
    kinds = set(map(type, values))
    if not kinds <= _PLAIN:
        values = tuple(map(plain, values))
        kinds = set(map(type, values))
    if int in kinds:
        numbers = [value for value in values if type(value) is int]
        if min(numbers) < INT_MIN or max(numbers) > INT_MAX:
            raise InvariantError("RocksDB refused a statement: an integer does not fit into 64 bits")
    return values


class RocksTransaction(EmbeddedTransaction):
    """The `Transaction` of one body."""

    __slots__ = ("plans", "view")

    def __init__(self, view: View, plans: Plans, batch: Deferred | None = None) -> None:
        super().__init__(batch)
        self.view = view
        self.plans = plans

    def _run(self, sql: str, values: Sequence[Value], keys: Sequence[Value] | None = None) -> tuple[list[Row], int]:
        self.check()
        if self.batch is not None and (self.batch.waiting or self.mine.waiting):
            self.flush()
        try:
            statement = self.plans.statement(sql)
            if statement.keyed is not (keys is not None):
                raise InvariantError("fetch_in needs a statement with {keys}, and no other has them")
            if len(values) != statement.parameters:
                raise InvariantError(f"RocksDB refused a statement: it takes {statement.parameters} values, not {len(values)}")
            return statement.plan(self.view, (keys, *_bound(values)))
        except Exception as error:
            self.fault = translated(error)
            raise self.fault from error

    async def execute(self, sql: str, *values: Value) -> int:
        return self._run(sql, values)[1]

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        self.check()
        try:
            for row in rows:
                self._run(sql, tuple(row))
        except SpecieError:
            raise
        except Exception as error:  # of whoever makes the rows
            self.fault = translated(error)
            raise self.fault from error

    def insert_rows(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        try:
            given = [_bound(row) for row in rows]
            return self.plans.insert(table, columns)(self.view, given) == len(rows)
        except Exception as error:
            self.fault = translated(error)
            raise self.fault from error

    def keep_batch(self) -> None:
        self.view.keep()

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return self._run(sql, values)[0]

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        rows = self._run(sql, values)[0]
        return rows[0] if rows else None

    async def fetch_in(self, sql: str, keys: Sequence[Value], *values: Value) -> list[Row]:
        if not keys and self.fault is None and KEYS in sql:
            return []
        return self._run(sql, values, tuple(dict.fromkeys(map(plain, keys))))[0]
