"""The part of `SqlWalletStore` that sees whole tables: for backups and for merging. For SQLite, where wallets live.

Columns are those of the store, never those of a file: what a backup names and the store does not have is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from specie.kernel.errors import MalformedError
from specie.storage.ports import Transaction

if TYPE_CHECKING:
    from specie.wallet.merge import Changes, Record, Tables

# ruff: noqa: S608 - names of tables and columns come from the store's own schema

__all__ = ["SqlTableStore"]


class SqlTableStore:
    """Whole tables in and out, inside the caller's transaction."""

    async def schema(self, tx: Transaction) -> dict[str, int]:
        """The version of each room's tables in this store."""
        rows = await tx.fetch("SELECT room, MAX(version) FROM specie_schema GROUP BY room")
        return {str(room): int(str(version)) for room, version in rows}

    async def table_names(self, tx: Transaction) -> list[str]:
        """Every table that rooms have made here, sorted."""
        rows = await tx.fetch("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name")
        return [str(row[0]) for row in rows if row[0] != "specie_schema"]

    async def _columns(self, tx: Transaction, table: str) -> list[str]:
        rows = await tx.fetch("SELECT name FROM pragma_table_info($1)", table)
        return [str(row[0]) for row in rows]

    async def tables(self, tx: Transaction) -> dict[str, list[Record]]:
        """All rows of all tables."""
        found: dict[str, list[Record]] = {}
        for table in await self.table_names(tx):
            columns = await self._columns(tx, table)
            rows = await tx.fetch(f"SELECT {', '.join(columns)} FROM {table}")
            found[table] = [dict(zip(columns, row, strict=True)) for row in rows]
        return found

    async def fill(self, tx: Transaction, tables: Tables) -> None:
        """Insert all rows into empty tables. MalformedError for a table or column that this store does not have."""
        known = await self.table_names(tx)
        for table, rows in tables.items():
            if table not in known:
                raise MalformedError("the backup has a table that this version does not know")
            await self._insert(tx, table, rows)

    async def _insert(self, tx: Transaction, table: str, rows: Sequence[Record]) -> None:
        columns = await self._columns(tx, table)
        if any(set(row) - set(columns) for row in rows):
            raise MalformedError("the backup has a column that this version does not know")
        places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"
        await tx.execute_many(sql, [tuple(row.get(column) for column in columns) for row in rows])

    async def write(self, tx: Transaction, changes: Mapping[str, Changes]) -> None:
        """Carry out what `merge_tables` found."""
        from specie.wallet.merge import RULES

        for table, change in changes.items():
            key = RULES[table].key
            where = " AND ".join(f"{column} = ${number}" for number, column in enumerate(key, 1))
            gone = change.removed + [tuple(row[column] for column in key) for row in change.rows]
            await tx.execute_many(f"DELETE FROM {table} WHERE {where}", gone)
            await self._insert(tx, table, change.rows)
