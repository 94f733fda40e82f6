"""What the play rail remembers: rows as values, and the statements that move them. Every function runs in a caller's body.

Claims are compare and swap: an invoice settles while `settled_ms` is NULL, a payment ends while it is PENDING, and one
unique index lets one attempt at a payment live. So any number of processes may do the same thing at the same time.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields

from specie.kernel.errors import InvariantError
from specie.kernel.rail import IncomingPayment, PaymentOutcome, PaymentState
from specie.storage import Row, Transaction, Value

__all__ = [
    "BATCH",
    "BOLT11",
    "CHANNEL",
    "Due",
    "InvoiceRow",
    "PaymentRow",
    "arrival_of",
    "arrivals_after",
    "balance_msat",
    "book_arrival",
    "due",
    "due_payments",
    "hold_invoice",
    "insert_invoice",
    "insert_payment",
    "invoice_row",
    "living_payment",
    "lock_book",
    "number",
    "open_book",
    "payment_row",
    "resolve_payment",
    "settle_invoice",
]

CHANNEL = "play"
"""Notices of arrivals and of payments that ended; the payload is the payment id."""

BOLT11 = "play"
"""Name under which BOLT 11 keeps its book and its payments."""

BATCH = 200
"""Rows of one look at what is due, and of one page of arrivals."""


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """An invoice of ours. `held`: somebody announced to pay it, so autopay keeps away."""

    payment_id: str
    request: str
    preimage: str
    amount_msat: int
    created_ms: int
    expiry: int
    held: bool
    settled_ms: int | None


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """One attempt at a payment. While `state` is PENDING, `answer` is what is said of it, and `plan` comes true at `due_ms`."""

    payment_id: str
    attempt: str
    request: str
    amount_msat: int
    max_fee_msat: int
    own: bool
    state: PaymentState
    answer: PaymentState
    plan: PaymentState
    due_ms: int | None
    preimage: str
    fee_msat: int
    reason: str
    ordered_ms: int
    updated_ms: int
    rail: str = BOLT11
    target: str = ""
    """`payment_id` of the request of ours that is paid; empty for a foreign one (BOLT 11: see `own`)."""
    partial: bool = False
    """A part of an invoice; others pay the rest."""
    blocks: int = 0
    """In how many blocks it is to be mined, by the fee that was chosen."""
    outpoint: str = ""
    """`txid:vout` once it was broadcast."""

    @property
    def outcome(self) -> PaymentOutcome:
        """As the rail answers it; preimage and fee only once it is PAID."""
        outpoint = self.outpoint or None
        if self.state is PaymentState.PAID:
            return PaymentOutcome(self.state, self.preimage or None, self.fee_msat, self.reason, outpoint)
        pending = self.state is PaymentState.PENDING
        return PaymentOutcome(self.answer if pending else self.state, reason=self.reason, outpoint=outpoint)


@dataclass(frozen=True, slots=True)
class Due:
    """What waits for its time: payments and invoices that are due now, and when the next one is (Unix milliseconds)."""

    payments: tuple[tuple[str, str], ...]
    """(payment id, attempt)."""
    invoices: tuple[str, ...]
    next_ms: int | None


_INVOICE = ", ".join(field.name for field in fields(InvoiceRow))
_PAYMENT = ", ".join(field.name for field in fields(PaymentRow))
_ARRIVAL = "payment_id, amount_msat, cursor"


def number(value: Value) -> int:
    """A column that must hold a number."""
    if not isinstance(value, int | str):
        raise InvariantError("a number is missing in a row of the play rail")
    return int(value)


def _arrival(row: Row) -> IncomingPayment:
    payment_id = str(row[0])
    return IncomingPayment(payment_id, f"play:{payment_id}", number(row[1]), str(row[2]))


def _invoice(row: Row) -> InvoiceRow:
    settled = None if row[7] is None else number(row[7])
    amount, created, expiry = number(row[3]), number(row[4]), number(row[5])
    return InvoiceRow(str(row[0]), str(row[1]), str(row[2]), amount, created, expiry, bool(row[6]), settled)


def _payment(row: Row) -> PaymentRow:
    return PaymentRow(
        payment_id=str(row[0]),
        attempt=str(row[1]),
        request=str(row[2]),
        amount_msat=number(row[3]),
        max_fee_msat=number(row[4]),
        own=bool(row[5]),
        state=PaymentState(str(row[6])),
        answer=PaymentState(str(row[7])),
        plan=PaymentState(str(row[8])),
        due_ms=None if row[9] is None else number(row[9]),
        preimage=str(row[10]),
        fee_msat=number(row[11]),
        reason=str(row[12]),
        ordered_ms=number(row[13]),
        updated_ms=number(row[14]),
        rail=str(row[15]),
        target=str(row[16]),
        partial=bool(row[17]),
        blocks=number(row[18]),
        outpoint=str(row[19]),
    )


async def insert_invoice(tx: Transaction, row: InvoiceRow) -> None:
    """Remember a new invoice."""
    await tx.execute(
        "INSERT INTO play_invoice (payment_id, request, preimage, amount_msat, created_ms, expiry, held)"
        " VALUES ($1, $2, $3, $4, $5, $6, 0)",
        row.payment_id,
        row.request,
        row.preimage,
        str(row.amount_msat),
        row.created_ms,
        row.expiry,
    )


async def invoice_row(tx: Transaction, payment_id: str) -> InvoiceRow | None:
    """The invoice of ours with this payment hash."""
    row = await tx.fetch_one(f"SELECT {_INVOICE} FROM play_invoice WHERE payment_id = $1", payment_id)  # noqa: S608
    return None if row is None else _invoice(row)


async def hold_invoice(tx: Transaction, payment_id: str) -> None:
    """Keep autopay away from an invoice for good."""
    await tx.execute("UPDATE play_invoice SET held = 1 WHERE payment_id = $1 AND held = 0", payment_id)


async def settle_invoice(tx: Transaction, payment_id: str, *, source: str, now_ms: int) -> bool:
    """Settle an invoice: claim, arrival and books together. False if it was settled before (or, for autopay, is held)."""
    unheld = " AND held = 0" if source == "autopay" else ""
    rows = await tx.fetch(
        f"UPDATE play_invoice SET settled_ms = $2 WHERE payment_id = $1 AND settled_ms IS NULL{unheld} RETURNING amount_msat",  # noqa: S608
        payment_id,
        now_ms,
    )
    if not rows:
        return False
    cursor = await book_arrival(tx, BOLT11, number(rows[0][0]))
    await tx.execute(
        "INSERT INTO play_arrival (cursor, payment_id, amount_msat, source, arrived_ms) VALUES ($1, $2, $3, $4, $5)",
        cursor,
        payment_id,
        rows[0][0],
        source,
        now_ms,
    )
    tx.notify(CHANNEL, payment_id)
    return True


async def open_book(tx: Transaction, rail: str) -> None:
    """See to it that a rail has a book."""
    await tx.execute(
        "INSERT INTO play_book (id, cursor, in_sat, in_msat, out_sat, out_msat, rail) VALUES ($1, 0, 0, 0, 0, 0, $2)"
        " ON CONFLICT DO NOTHING",
        2 + zlib.crc32(rail.encode()),
        rail,
    )


async def lock_book(tx: Transaction, rail: str) -> None:
    """Let no other process change what belongs to a rail until this transaction is over."""
    await tx.execute("UPDATE play_book SET cursor = cursor WHERE rail = $1", rail)


async def book_arrival(tx: Transaction, rail: str, amount_msat: int) -> int:
    """Add what arrived (below zero: what was withdrawn) to the book; the cursor of the news."""
    sat, msat = divmod(amount_msat, 1000)
    book = await tx.fetch_one(
        "UPDATE play_book SET cursor = cursor + 1, in_sat = in_sat + $1, in_msat = in_msat + $2 WHERE rail = $3"
        " RETURNING cursor",
        sat,
        msat,
        rail,
    )
    if book is None:
        raise InvariantError("the play rail has no book")
    return number(book[0])


async def arrival_of(tx: Transaction, payment_id: str) -> IncomingPayment | None:
    """The arrival of one invoice."""
    row = await tx.fetch_one(f"SELECT {_ARRIVAL} FROM play_arrival WHERE payment_id = $1", payment_id)  # noqa: S608
    return None if row is None else _arrival(row)


async def arrivals_after(tx: Transaction, cursor: int) -> list[IncomingPayment]:
    """The next arrivals behind a cursor, at most BATCH."""
    sql = f"SELECT {_ARRIVAL} FROM play_arrival WHERE cursor > $1 ORDER BY cursor LIMIT {BATCH}"  # noqa: S608
    return [_arrival(row) for row in await tx.fetch(sql, cursor)]


async def payment_row(tx: Transaction, payment_id: str, attempt: str) -> PaymentRow | None:
    """One attempt at a payment."""
    sql = f"SELECT {_PAYMENT} FROM play_payment WHERE payment_id = $1 AND attempt = $2"  # noqa: S608
    row = await tx.fetch_one(sql, payment_id, attempt)
    return None if row is None else _payment(row)


async def living_payment(tx: Transaction, payment_id: str) -> PaymentRow | None:
    """The one attempt at a payment that is PENDING or PAID."""
    sql = f"SELECT {_PAYMENT} FROM play_payment WHERE payment_id = $1 AND state <> 'FAILED'"  # noqa: S608
    row = await tx.fetch_one(sql, payment_id)
    return None if row is None else _payment(row)


async def insert_payment(tx: Transaction, row: PaymentRow) -> bool:
    """Claim an attempt. False if it exists, or if another attempt lives."""
    places = ", ".join(f"${number}" for number in range(1, 21))
    changed = await tx.execute(
        f"INSERT INTO play_payment ({_PAYMENT}) VALUES ({places}) ON CONFLICT DO NOTHING",  # noqa: S608
        row.payment_id,
        row.attempt,
        row.request,
        str(row.amount_msat),
        str(row.max_fee_msat),
        int(row.own),
        str(row.state),
        str(row.answer),
        str(row.plan),
        row.due_ms,
        row.preimage,
        str(row.fee_msat),
        row.reason,
        row.ordered_ms,
        row.updated_ms,
        row.rail,
        row.target,
        int(row.partial),
        row.blocks,
        row.outpoint,
    )
    return changed == 1


async def resolve_payment(tx: Transaction, row: PaymentRow, truth: PaymentState, *, now_ms: int) -> bool:
    """End a payment that is PENDING; an own invoice settles with it. False if it was ended before.

    PAID of an own invoice that was paid by somebody else meanwhile becomes FAILED.
    """
    sql = "UPDATE play_payment SET state = $3, updated_ms = $4 WHERE payment_id = $1 AND attempt = $2 AND state = 'PENDING'"
    if not await tx.execute(sql, row.payment_id, row.attempt, str(truth), now_ms):
        return False
    tx.notify(CHANNEL, row.payment_id)
    if truth is not PaymentState.PAID:
        return True
    if row.own and not await settle_invoice(tx, row.payment_id, source="own", now_ms=now_ms):
        sql = "UPDATE play_payment SET state = 'FAILED', reason = $3 WHERE payment_id = $1 AND attempt = $2"
        await tx.execute(sql, row.payment_id, row.attempt, "the invoice was paid by somebody else")
        return True
    sat, msat = divmod(row.amount_msat + row.fee_msat, 1000)
    sql = "UPDATE play_book SET out_sat = out_sat + $1, out_msat = out_msat + $2 WHERE rail = $3"
    await tx.execute(sql, sat, msat, row.rail)
    return True


async def due_payments(tx: Transaction, rail: str) -> list[Row]:
    """Payments with a time at which their plan comes true, the next one first: payment id, attempt, time (milliseconds)."""
    sql = "SELECT payment_id, attempt, due_ms FROM play_payment WHERE state = 'PENDING' AND due_ms IS NOT NULL AND rail = $1"
    return await tx.fetch(f"{sql} ORDER BY due_ms LIMIT {BATCH}", rail)


async def due(tx: Transaction, *, now_ms: int, autopay_delay_ms: int | None) -> Due:
    """What is due now, and when to look again. Without a delay no invoice ever is."""
    payments = await due_payments(tx, BOLT11)
    ready = tuple((str(row[0]), str(row[1])) for row in payments if number(row[2]) <= now_ms)
    times = [number(row[2]) for row in payments]
    invoices: tuple[str, ...] = ()
    if autopay_delay_ms is not None:
        sql = "SELECT payment_id, created_ms FROM play_invoice WHERE settled_ms IS NULL AND held = 0 AND expiry > $1"
        rows = await tx.fetch(f"{sql} ORDER BY created_ms LIMIT {BATCH}", now_ms // 1000)
        invoices = tuple(str(row[0]) for row in rows if number(row[1]) + autopay_delay_ms <= now_ms)
        times += [number(row[1]) + autopay_delay_ms for row in rows]
    return Due(ready, invoices, min((time for time in times if time > now_ms), default=None))


async def balance_msat(tx: Transaction, rail: str = BOLT11) -> int:
    """What came in less what went out; below zero where more foreign requests were paid than arrived."""
    row = await tx.fetch_one("SELECT in_sat, in_msat, out_sat, out_msat FROM play_book WHERE rail = $1", rail)
    if row is None:
        raise InvariantError("the play rail has no book")
    in_sat, in_msat, out_sat, out_msat = map(number, row)
    return (in_sat - out_sat) * 1000 + in_msat - out_msat
