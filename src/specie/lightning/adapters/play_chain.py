"""A chain of play blocks in the store: transactions are seen, mined, buried, reorganised and replaced. No node, no scripts.

One transaction pays one address of the rail's users, or one payment of theirs, or both. Every function runs in a caller's
body behind `lock_book`, so that processes agree on the chain.

| what happens                         | what becomes of a transaction, and what is told                                       |
|--------------------------------------|---------------------------------------------------------------------------------------|
| it is broadcast                      | seen; its time is kept, nothing is told                                               |
| a block has it                       | depth 1; told as an arrival once it is as deep as `confirmations` say                 |
| the block is reorganised away        | seen again, with its old time; an arrival that was told is withdrawn                  |
| a block has it again                 | told again, under a receipt of that block                                             |
| it is replaced, or its inputs spent  | gone for good; a replacement is another transaction, first seen when it came          |

Payments of ours are never replaced: the rail broadcasts the one transaction again until a block has it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from specie.kernel.errors import RefusedError
from specie.lightning.adapters.play_request_store import add_receipt
from specie.lightning.adapters.play_store import number
from specie.storage import Row, Transaction

__all__ = [
    "TransactionRow",
    "add_transaction",
    "drop_transaction",
    "mine_block",
    "next_block_ms",
    "reorganise",
    "tip_height",
    "transaction_row",
]

_VOUT = 0
_COLUMNS = "txid, payment_id, amount_msat, seen_ms, ready_height, height, receipt_id, paying, attempt"


@dataclass(frozen=True, slots=True)
class TransactionRow:
    """A transaction that is not gone. `payment_id` is the request of ours that it pays, if any; `paying` and `attempt` are the
    payment of ours that it makes, if any. No block below `ready_height` takes it, for its fee is too small."""

    txid: str
    payment_id: str
    amount_msat: int
    seen_ms: int
    ready_height: int
    height: int | None = None
    receipt_id: str = ""
    paying: str = ""
    attempt: str = ""

    @property
    def outpoint(self) -> str:
        """Where its output is: `txid:vout`."""
        return f"{self.txid}:{_VOUT}"


def _row(row: Row) -> TransactionRow:
    height = None if row[5] is None else number(row[5])
    return TransactionRow(
        str(row[0]), str(row[1]), number(row[2]), number(row[3]), number(row[4]), height, str(row[6]), str(row[7]), str(row[8])
    )


async def _fetch(tx: Transaction, rail: str, condition: str, *values: str | int) -> list[TransactionRow]:
    sql = f"SELECT {_COLUMNS} FROM play_transaction WHERE rail = $1 AND gone = 0 AND {condition} ORDER BY seen_ms, txid"  # noqa: S608
    return [_row(row) for row in await tx.fetch(sql, rail, *values)]


async def tip_height(tx: Transaction, rail: str) -> int:
    """Height of the newest block; 0 where there is none."""
    row = await tx.fetch_one("SELECT MAX(height) FROM play_block WHERE rail = $1", rail)
    return 0 if row is None or row[0] is None else number(row[0])


async def transaction_row(tx: Transaction, rail: str, txid: str) -> TransactionRow | None:
    """A transaction, unless it is gone."""
    found = await _fetch(tx, rail, "txid = $2", txid)
    return found[0] if found else None


async def add_transaction(tx: Transaction, rail: str, row: TransactionRow) -> bool:
    """Broadcast a transaction; False if it was before."""
    return bool(
        await tx.execute(
            f"INSERT INTO play_transaction (rail, {_COLUMNS}, gone) VALUES ($1, $2, $3, $4, $5, $6, NULL, '', $7, $8, 0)"  # noqa: S608
            " ON CONFLICT DO NOTHING",
            rail,
            row.txid,
            row.payment_id,
            str(row.amount_msat),
            row.seen_ms,
            row.ready_height,
            row.paying,
            row.attempt,
        )
    )


async def mine_block(tx: Transaction, rail: str, *, now_ms: int, salt: bytes, confirmations: int) -> list[TransactionRow]:
    """A new block of everything that waits. What is deep enough is told; the payments of ours among it are answered."""
    height = await tip_height(tx, rail) + 1
    before = await tx.fetch_one("SELECT block_id FROM play_block WHERE rail = $1 AND height = $2", rail, height - 1)
    parent = str(before[0]) if before else ""
    block_id = hashlib.sha256(parent.encode() + salt + height.to_bytes(8, "big")).hexdigest()
    await tx.execute(
        "INSERT INTO play_block (rail, height, block_id, mined_ms) VALUES ($1, $2, $3, $4)", rail, height, block_id, now_ms
    )
    await tx.execute(
        "UPDATE play_transaction SET height = $2 WHERE rail = $1 AND gone = 0 AND height IS NULL AND ready_height <= $2",
        rail,
        height,
    )
    return await _tell_buried(tx, rail, height - confirmations + 1)


async def _tell_buried(tx: Transaction, rail: str, buried: int) -> list[TransactionRow]:
    """Tell every arrival at or below a height that is not told; the payments of ours there."""
    paid: list[TransactionRow] = []
    for row in await _fetch(tx, rail, "height <= $2 AND receipt_id = ''", buried):
        block = await tx.fetch_one("SELECT block_id FROM play_block WHERE rail = $1 AND height = $2", rail, row.height or 0)
        receipt_id = f"{row.outpoint}@{str(block[0])[:16] if block else ''}"
        await tx.execute(
            "UPDATE play_transaction SET receipt_id = $3 WHERE rail = $1 AND txid = $2", rail, row.txid, receipt_id
        )
        if row.payment_id:
            await add_receipt(
                tx,
                rail,
                payment_id=row.payment_id,
                receipt_id=receipt_id,
                amount_msat=row.amount_msat,
                first_seen=row.seen_ms // 1000,
                reference=row.outpoint,
            )
        if row.paying:
            paid.append(row)
    return paid


async def reorganise(tx: Transaction, rail: str, depth: int) -> int:
    """Undo the newest `depth` blocks, withdraw what was told of them; how many arrivals were withdrawn."""
    height = await tip_height(tx, rail) - depth
    if depth < 1 or height < 0:
        raise RefusedError("the play chain is not that high")
    withdrawn = 0
    for row in await _fetch(tx, rail, "height > $2 AND receipt_id <> ''", height):
        if not row.payment_id:
            continue
        withdrawn += await add_receipt(
            tx,
            rail,
            payment_id=row.payment_id,
            receipt_id=row.receipt_id,
            amount_msat=row.amount_msat,
            first_seen=row.seen_ms // 1000,
            reference=row.outpoint,
            withdrawn=True,
        )
    sql = "UPDATE play_transaction SET height = NULL, receipt_id = '' WHERE rail = $1 AND gone = 0 AND height > $2"
    await tx.execute(sql, rail, height)
    await tx.execute("DELETE FROM play_block WHERE rail = $1 AND height > $2", rail, height)
    return withdrawn


async def drop_transaction(tx: Transaction, rail: str, txid: str) -> TransactionRow:
    """Its sender spends the inputs elsewhere: it is gone. RefusedError if a block has it, or if it is a payment of ours."""
    row = await transaction_row(tx, rail, txid)
    if row is None:
        raise RefusedError("the play chain has no such transaction")
    if row.height is not None:
        raise RefusedError("a block has the transaction; reorganise first")
    if row.paying:
        raise RefusedError("the transaction is a payment of this rail, which replaces none")
    await tx.execute("UPDATE play_transaction SET gone = 1 WHERE rail = $1 AND txid = $2", rail, txid)
    return row


async def next_block_ms(tx: Transaction, rail: str, *, block_ms: int, confirmations: int) -> int | None:
    """When the clock brings the next block: while a transaction waits to be deep enough, else None."""
    height = await tip_height(tx, rail)
    waiting = await _fetch(tx, rail, "(height IS NULL OR height > $2)", height - confirmations + 1)
    if not waiting:
        return None
    row = await tx.fetch_one("SELECT MAX(mined_ms) FROM play_block WHERE rail = $1", rail)
    last = 0 if row is None or row[0] is None else number(row[0])
    return max(last, min(one.seen_ms for one in waiting)) + block_ms
