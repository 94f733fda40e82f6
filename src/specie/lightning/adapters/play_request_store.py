"""What play rails remember whose requests are paid any number of times: requests, and the news of arrivals for them.

Every function runs in a caller's body. A receipt is written once: the news of one arrival have one cursor.
"""

from __future__ import annotations

from dataclasses import dataclass

from specie.kernel.rail import IncomingPayment
from specie.lightning.adapters.play_store import BATCH, CHANNEL, book_arrival, lock_book, number, open_book
from specie.storage import Row, Transaction

__all__ = [
    "RequestRow",
    "add_receipt",
    "hold_request",
    "insert_request",
    "open_requests",
    "receipts_after",
    "receipts_of",
    "request_by_text",
    "request_row",
]


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request of ours. `held`: somebody announced to pay it, or autopay has paid it, so autopay keeps away."""

    payment_id: str
    request: str
    amount_msat: int | None
    created_ms: int
    expiry: int
    held: bool


_REQUEST = "payment_id, request, amount_msat, created_ms, expiry, held"
_RECEIPT = "payment_id, receipt_id, amount_msat, cursor, first_seen, reference, withdrawn"


def _request(row: Row) -> RequestRow:
    amount = number(row[2]) if row[2] else None
    return RequestRow(str(row[0]), str(row[1]), amount, number(row[3]), number(row[4]), bool(row[5]))


def _receipt(row: Row) -> IncomingPayment:
    return IncomingPayment(
        payment_id=str(row[0]),
        receipt_id=str(row[1]),
        amount_msat=number(row[2]),
        cursor=str(row[3]),
        first_seen=number(row[4]),
        reference=str(row[5]),
        withdrawn=bool(row[6]),
    )


async def insert_request(tx: Transaction, rail: str, row: RequestRow) -> None:
    """Remember a new request."""
    await open_book(tx, rail)
    await tx.execute(
        f"INSERT INTO play_request (rail, {_REQUEST}) VALUES ($1, $2, $3, $4, $5, $6, $7)",  # noqa: S608
        rail,
        row.payment_id,
        row.request,
        "" if row.amount_msat is None else str(row.amount_msat),
        row.created_ms,
        row.expiry,
        int(row.held),
    )


async def request_row(tx: Transaction, rail: str, payment_id: str) -> RequestRow | None:
    """A request of ours by its id."""
    sql = f"SELECT {_REQUEST} FROM play_request WHERE rail = $1 AND payment_id = $2"  # noqa: S608
    row = await tx.fetch_one(sql, rail, payment_id)
    return None if row is None else _request(row)


async def request_by_text(tx: Transaction, rail: str, request: str) -> RequestRow | None:
    """A request of ours by what payers are shown."""
    sql = f"SELECT {_REQUEST} FROM play_request WHERE rail = $1 AND request = $2"  # noqa: S608
    row = await tx.fetch_one(sql, rail, request)
    return None if row is None else _request(row)


async def hold_request(tx: Transaction, rail: str, payment_id: str) -> bool:
    """Keep autopay away from a request for good; False if it was held before."""
    sql = "UPDATE play_request SET held = 1 WHERE rail = $1 AND payment_id = $2 AND held = 0"
    return bool(await tx.execute(sql, rail, payment_id))


async def open_requests(tx: Transaction, rail: str, now: int) -> list[RequestRow]:
    """Requests that autopay will pay, the oldest first, at most BATCH."""
    sql = f"SELECT {_REQUEST} FROM play_request WHERE rail = $1 AND held = 0 AND expiry > $2"  # noqa: S608
    return [_request(row) for row in await tx.fetch(f"{sql} ORDER BY created_ms LIMIT {BATCH}", rail, now)]


async def add_receipt(
    tx: Transaction,
    rail: str,
    *,
    payment_id: str,
    receipt_id: str,
    amount_msat: int,
    first_seen: int,
    reference: str = "",
    withdrawn: bool = False,
) -> bool:
    """Book an arrival, or the withdrawal of one, and tell it. False if that was told before."""
    await lock_book(tx, rail)
    sql = "SELECT cursor FROM play_receipt WHERE rail = $1 AND receipt_id = $2 AND withdrawn = $3"
    if await tx.fetch_one(sql, rail, receipt_id, int(withdrawn)) is not None:
        return False
    cursor = await book_arrival(tx, rail, -amount_msat if withdrawn else amount_msat)
    await tx.execute(
        f"INSERT INTO play_receipt (rail, {_RECEIPT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",  # noqa: S608
        rail,
        payment_id,
        receipt_id,
        str(amount_msat),
        cursor,
        first_seen,
        reference,
        int(withdrawn),
    )
    tx.notify(CHANNEL, payment_id)
    return True


async def receipts_after(tx: Transaction, rail: str, cursor: int) -> list[IncomingPayment]:
    """The next news behind a cursor, at most BATCH."""
    sql = f"SELECT {_RECEIPT} FROM play_receipt WHERE rail = $1 AND cursor > $2 ORDER BY cursor LIMIT {BATCH}"  # noqa: S608
    return [_receipt(row) for row in await tx.fetch(sql, rail, cursor)]


async def receipts_of(tx: Transaction, rail: str, payment_id: str) -> list[IncomingPayment]:
    """Arrivals for a request that are there now, oldest first."""
    sql = f"SELECT {_RECEIPT} FROM play_receipt WHERE rail = $1 AND payment_id = $2 ORDER BY cursor"  # noqa: S608
    news = [_receipt(row) for row in await tx.fetch(sql, rail, payment_id)]
    gone = {one.receipt_id for one in news if one.withdrawn}
    return [one for one in news if one.receipt_id not in gone]
