"""A store that remembers every statement it was given, so that their plans can be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from specie.storage import Body, Migration, Row, Storage, StorageStatus, Tally, Transaction, Value
from specie.storage.deferred import insert_sql

__all__ = ["RecordingStorage", "Statement"]

T = TypeVar("T")

Statement = tuple[str, tuple[Value, ...], tuple[Value, ...] | None]
"""SQL, its values, and the keys of a `fetch_in`."""


class _RecordingTransaction:
    def __init__(self, inner: Transaction, statements: dict[str, Statement]) -> None:
        self._inner = inner
        self._statements = statements

    @property
    def lane(self) -> int:
        return self._inner.lane

    def _seen(self, sql: str, values: Sequence[Value], keys: Sequence[Value] | None = None) -> None:
        self._statements.setdefault(sql, (sql, tuple(values), None if keys is None else tuple(keys)))

    async def execute(self, sql: str, *values: Value) -> int:
        self._seen(sql, values)
        return await self._inner.execute(sql, *values)

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        listed = [tuple(row) for row in rows]
        if listed:
            self._seen(sql, listed[0])
        await self._inner.execute_many(sql, listed)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        self._seen(sql, values)
        return await self._inner.fetch(sql, *values)

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        self._seen(sql, values)
        return await self._inner.fetch_one(sql, *values)

    async def fetch_in(self, sql: str, keys: Sequence[Value], *values: Value) -> list[Row]:
        if keys:
            self._seen(sql, values, keys)
        return await self._inner.fetch_in(sql, keys, *values)

    async def insert(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        if rows:
            self._seen(insert_sql(table, columns), rows[0])
        return await self._inner.insert(table, columns, rows)

    def tally(self, target: Tally, sums: Mapping[tuple[str, ...], int]) -> None:
        self._inner.tally(_RecordingTally(target, self._statements), sums)

    def notify(self, channel: str, payload: str) -> None:
        self._inner.notify(channel, payload)


class _RecordingTally:
    def __init__(self, inner: Tally, statements: dict[str, Statement]) -> None:
        self._inner = inner
        self._statements = statements

    async def write(self, tx: Transaction, sums: Mapping[tuple[str, ...], int]) -> None:
        await self._inner.write(_RecordingTransaction(tx, self._statements), sums)


class RecordingStorage:
    """`Storage` over another one. `statements` holds each SQL text once, with the values it first came with."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.statements: dict[str, Statement] = {}

    def _recorded(self, body: Body[T]) -> Body[T]:
        async def recorded(tx: Transaction) -> T:
            return await body(_RecordingTransaction(tx, self.statements))

        return recorded

    async def transact(self, body: Body[T]) -> T:
        return await self.inner.transact(self._recorded(body))

    async def read(self, body: Body[T]) -> T:
        return await self.inner.read(self._recorded(body))

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        return await self.inner.migrate(migrations)

    def listen(self, channel: str) -> AsyncIterator[str]:
        return self.inner.listen(channel)

    async def backup(self, target: Path) -> None:
        await self.inner.backup(target)

    def status(self) -> StorageStatus:
        return self.inner.status()

    async def close(self) -> None:
        await self.inner.close()
