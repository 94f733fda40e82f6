"""Rows of expired keysets in an SQL store: found by walking a table in the order of its key, dropped with their sums kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from specie.ecash.liabilities import Side
from specie.mint.prune_ports import Dropped, Window
from specie.storage import Transaction

__all__ = ["SqlPruneStore"]

_TABLES = {
    Side.SPENT: ("mint_proof", "y", "state = 2"),
    Side.ISSUED: ("mint_output", "b_", "c_ IS NOT NULL"),
}


class SqlPruneStore:
    """Implements `mint.prune_ports.PruneStore` on `storage.Transaction`."""

    async def window(self, tx: Transaction, side: Side, after: bytes, limit: int) -> Window:
        """The next rows of a table, whatever their keyset: one range of its key."""
        table, key, settled = _TABLES[side]
        rows = await tx.fetch(
            f"SELECT {key}, keyset, amount, CASE WHEN {settled} THEN 1 ELSE 0 END FROM {table} "  # noqa: S608
            f"WHERE {key} > $1 ORDER BY {key} LIMIT $2",
            after,
            limit,
        )
        found = [(cast(bytes, item), str(keyset), int(str(amount))) for item, keyset, amount, done in rows if done]
        return Window(tuple(found), cast(bytes, rows[-1][0]) if len(rows) == limit else None)

    async def drop(self, tx: Transaction, side: Side, keyset: str, items: Sequence[bytes], *, unlogged: bool) -> Dropped:
        """Delete those of the items that are settled and of the keyset, and add them to what was dropped of it."""
        table, key, settled = _TABLES[side]
        logged = {
            cast(bytes, row[0])
            for row in await tx.fetch_in("SELECT item FROM mint_leaf WHERE side = $1 AND item IN {keys}", items, side.value)
        }
        wanted = list(items) if unlogged else [item for item in items if item in logged]
        rows = await tx.fetch_in(
            f"DELETE FROM {table} WHERE {key} IN {{keys}} AND keyset = $1 AND {settled} RETURNING {key}, amount",  # noqa: S608
            wanted,
            keyset,
        )
        amounts = {cast(bytes, item): int(str(amount)) for item, amount in rows}
        kept = [amount for item, amount in amounts.items() if item in logged]
        gone = Dropped(len(amounts), sum(amounts.values()), len(kept), sum(kept))
        if gone.count:
            await self._add(tx, side, keyset, gone)
        return gone

    async def _add(self, tx: Transaction, side: Side, keyset: str, gone: Dropped) -> None:
        while True:  # compare and swap, in step with whoever prunes beside us
            row = await tx.fetch_one(
                "SELECT count, total, logged_count, logged_total FROM mint_pruned WHERE keyset = $1 AND side = $2",
                keyset,
                side.value,
            )
            before = Dropped() if row is None else _dropped(row)
            new = (before.count + gone.count, str(before.total + gone.total))
            new_logged = (before.logged_count + gone.logged_count, str(before.logged_total + gone.logged_total))
            if row is None:
                changed = await tx.execute(
                    "INSERT INTO mint_pruned (keyset, side, count, total, logged_count, logged_total) "
                    "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                    keyset,
                    side.value,
                    *new,
                    *new_logged,
                )
            else:
                changed = await tx.execute(
                    "UPDATE mint_pruned SET count = $3, total = $4, logged_count = $5, logged_total = $6 "
                    "WHERE keyset = $1 AND side = $2 AND count = $7",
                    keyset,
                    side.value,
                    *new,
                    *new_logged,
                    before.count,
                )
            if changed:
                return

    async def dropped(self, tx: Transaction) -> dict[tuple[Side, str], Dropped]:
        """Everything that was ever dropped."""
        rows = await tx.fetch("SELECT side, keyset, count, total, logged_count, logged_total FROM mint_pruned")
        return {(Side(str(row[0])), str(row[1])): _dropped(row[2:]) for row in rows}


def _dropped(row: Sequence[object]) -> Dropped:
    count, total, logged_count, logged_total = (int(str(value)) for value in row)
    return Dropped(count, total, logged_count, logged_total)
