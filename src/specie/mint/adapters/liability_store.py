"""The tables of proved liabilities in an SQL store: epochs, logs of what was issued and spent, and subtrees of the logs.

What is to be logged is found by what the logs lack: nothing is written when coins are signed or spent. `mint_leaf` is
unique by item and by place, `mint_epoch` by number, so whichever process is first decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from specie.ecash.liabilities import Epoch, KeysetCommitment, Root, Side, Span, SumNode
from specie.mint.ports import LoggedLeaf
from specie.mint.states import EPOCH, EpochState
from specie.storage import Row, Transaction

__all__ = ["SqlLiabilityStore"]

_KEYSET_COLUMNS = (
    "keyset, unit, issued_size, issued_hash, issued_sum, spent_size, spent_hash, spent_sum, active, deactivation, signature"
)
_UNLOGGED = {
    Side.ISSUED: "SELECT c.keyset, c.b_, c.amount FROM mint_output c "
    "LEFT JOIN mint_leaf l ON l.side = 'issued' AND l.item = c.b_ "
    "WHERE c.c_ IS NOT NULL AND l.item IS NULL",
    Side.SPENT: "SELECT c.keyset, c.y, c.amount FROM mint_proof c "
    "LEFT JOIN mint_leaf l ON l.side = 'spent' AND l.item = c.y "
    "WHERE c.state = 2 AND l.item IS NULL",
}
_UNBACKED = {
    Side.ISSUED: "SELECT l.keyset, COUNT(*) FROM mint_leaf l LEFT JOIN mint_output c ON c.b_ = l.item AND c.c_ IS NOT NULL "
    "AND c.keyset = l.keyset AND c.amount = l.amount WHERE l.side = 'issued' AND c.b_ IS NULL GROUP BY l.keyset",
    Side.SPENT: "SELECT l.keyset, COUNT(*) FROM mint_leaf l LEFT JOIN mint_proof c ON c.y = l.item AND c.state = 2 "
    "AND c.keyset = l.keyset AND c.amount = l.amount WHERE l.side = 'spent' AND c.y IS NULL GROUP BY l.keyset",
}


def _commitment(row: Row) -> KeysetCommitment:
    return KeysetCommitment(
        keyset_id=str(row[0]),
        unit=str(row[1]),
        issued=Root(cast(int, row[2]), cast(bytes, row[3]), int(str(row[4]))),
        spent=Root(cast(int, row[5]), cast(bytes, row[6]), int(str(row[7]))),
        active=bool(row[8]),
        deactivation_epoch=int(str(row[9])),
    )


def _leaf(row: Row) -> LoggedLeaf:
    return LoggedLeaf(str(row[0]), cast(bytes, row[1]), int(str(row[2])), cast(int, row[3]))


class SqlLiabilityStore:
    """Implements `mint.ports.LiabilityStore` on `storage.Transaction`."""

    async def latest_epoch(self, tx: Transaction) -> Epoch | None:
        """The newest epoch, signed or only decided."""
        row = await tx.fetch_one("SELECT number, at, previous_digest FROM mint_epoch ORDER BY number DESC LIMIT 1")
        return None if row is None else await self._epoch(tx, row)

    async def epochs(self, tx: Transaction, first: int, limit: int) -> list[Epoch]:
        """Signed epochs from number `first` on, ascending."""
        rows = await tx.fetch(
            "SELECT number, at, previous_digest FROM mint_epoch WHERE number >= $1 AND state = $2 ORDER BY number LIMIT $3",
            first,
            EpochState.SIGNED.value,
            limit,
        )
        return [await self._epoch(tx, row) for row in rows]

    async def _epoch(self, tx: Transaction, row: Row) -> Epoch:
        keysets = await tx.fetch(
            f"SELECT {_KEYSET_COLUMNS} FROM mint_epoch_keyset WHERE epoch = $1",  # noqa: S608
            row[0],
        )
        keysets.sort(key=lambda one: str(one[0]))
        signatures = tuple(cast(bytes, one[10]) for one in keysets if one[10] is not None)
        return Epoch(cast(int, row[0]), cast(int, row[1]), cast(bytes, row[2]), tuple(map(_commitment, keysets)), signatures)

    async def add_epoch(self, tx: Transaction, epoch: Epoch) -> bool:
        """Write an epoch down as decided; False if its number is taken."""
        inserted = await tx.execute(
            "INSERT INTO mint_epoch (number, at, previous_digest, state) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            epoch.number,
            epoch.at,
            epoch.previous_digest,
            EPOCH.initial.value,
        )
        if not inserted:
            return False
        await tx.execute_many(
            f"INSERT INTO mint_epoch_keyset (epoch, {_KEYSET_COLUMNS}) "  # noqa: S608
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL)",
            [
                (
                    epoch.number,
                    keyset.keyset_id,
                    keyset.unit,
                    keyset.issued.size,
                    keyset.issued.hash,
                    str(keyset.issued.sum),
                    keyset.spent.size,
                    keyset.spent.hash,
                    str(keyset.spent.sum),
                    int(keyset.active),
                    str(keyset.deactivation_epoch),
                )
                for keyset in epoch.keysets
            ],
        )
        return True

    async def sign_epoch(self, tx: Transaction, epoch: Epoch) -> bool:
        """Give a decided epoch its signatures; False if it has them."""
        changed = await tx.execute(
            "UPDATE mint_epoch SET state = $1 WHERE number = $2 AND state = $3",
            EPOCH.next(EpochState.DECIDED, "sign").value,
            epoch.number,
            EpochState.DECIDED.value,
        )
        if not changed:
            return False
        await tx.execute_many(
            "UPDATE mint_epoch_keyset SET signature = $1 WHERE epoch = $2 AND keyset = $3",
            [
                (signature, epoch.number, keyset.keyset_id)
                for keyset, signature in zip(epoch.keysets, epoch.signatures, strict=True)
            ],
        )
        return True

    async def unlogged(self, tx: Transaction, side: Side) -> list[tuple[str, bytes, int]]:
        """Everything issued or spent that no log holds; sorted, so that a log tells no order within an epoch."""
        rows = await tx.fetch(_UNLOGGED[side])
        return sorted((str(keyset), cast(bytes, item), int(str(amount))) for keyset, item, amount in rows)

    async def add_leaves(self, tx: Transaction, side: Side, leaves: Sequence[LoggedLeaf]) -> bool:
        """Append to logs; False if an item or a place is taken."""
        rows = [(side.value, leaf.item, leaf.keyset, leaf.position, str(leaf.amount)) for leaf in leaves]
        return await tx.insert("mint_leaf", "side, item, keyset, position, amount", rows)

    async def leaves(self, tx: Transaction, side: Side, keyset: str, first: int, limit: int) -> list[LoggedLeaf]:
        """Leaves of a log from place `first` on, in order."""
        rows = await tx.fetch(
            "SELECT keyset, item, amount, position FROM mint_leaf "
            "WHERE side = $1 AND keyset = $2 AND position >= $3 ORDER BY position LIMIT $4",
            side.value,
            keyset,
            first,
            limit,
        )
        return list(map(_leaf, rows))

    async def find_leaves(self, tx: Transaction, side: Side, items: Sequence[bytes]) -> dict[bytes, LoggedLeaf]:
        """Those of the items that are in a log."""
        rows = await tx.fetch_in(
            "SELECT keyset, item, amount, position FROM mint_leaf WHERE side = $1 AND item IN {keys}", items, side.value
        )
        return {leaf.item: leaf for leaf in map(_leaf, rows)}

    async def add_nodes(self, tx: Transaction, side: Side, keyset: str, nodes: Sequence[tuple[Span, SumNode]]) -> None:
        """Keep complete subtrees."""
        await tx.execute_many(
            "INSERT INTO mint_leaf_node (side, keyset, height, start, hash, total) VALUES ($1, $2, $3, $4, $5, $6)",
            [(side.value, keyset, span.height, span.start, node.hash, str(node.sum)) for span, node in nodes],
        )

    async def node(self, tx: Transaction, side: Side, keyset: str, span: Span) -> SumNode | None:
        """A complete subtree that was kept."""
        row = await tx.fetch_one(
            "SELECT hash, total FROM mint_leaf_node WHERE side = $1 AND keyset = $2 AND height = $3 AND start = $4",
            side.value,
            keyset,
            span.height,
            span.start,
        )
        return None if row is None else SumNode(cast(bytes, row[0]), int(str(row[1])))

    async def promised_keysets(self, tx: Transaction) -> set[str]:
        """Keysets under which change of a running payment may still be signed."""
        return {str(row[0]) for row in await tx.fetch("SELECT DISTINCT keyset FROM mint_output WHERE c_ IS NULL")}

    async def unbacked(self, tx: Transaction, side: Side) -> int:
        """How many leaves the tables of coins do not bear out, beyond those whose coins were pruned."""
        missing = {str(keyset): cast(int, count) for keyset, count in await tx.fetch(_UNBACKED[side])}
        rows = await tx.fetch("SELECT keyset, logged_count FROM mint_pruned WHERE side = $1", side.value)
        pruned = {str(keyset): cast(int, count) for keyset, count in rows}
        return sum(abs(missing.get(keyset, 0) - pruned.get(keyset, 0)) for keyset in missing.keys() | pruned.keys())

    async def unlogged_dropped(self, tx: Transaction, side: Side) -> dict[str, int]:
        """For each keyset: sum of what was pruned before any log held it."""
        rows = await tx.fetch("SELECT keyset, total, logged_total FROM mint_pruned WHERE side = $1", side.value)
        return {str(keyset): int(str(total)) - int(str(logged)) for keyset, total, logged in rows}
