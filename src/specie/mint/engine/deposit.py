"""Arrivals at a rail, booked to the mint quotes they pay (NUT-04, NUT-25, NUT-30).

Booking an arrival, and taking it back, are one transaction each. What a crash leaves behind:

    before the transaction    an arrival, or a withdrawal, that the rail tells again, behind the cursor
    after the transaction     all of it; told again it changes nothing

A receipt moves one way only: unknown, booked, withdrawn. A withdrawal that is heard before its arrival is remembered, so that
the arrival, told late by another process, counts no more. What a rail takes back is taken from what the quote may still
issue; what was issued already is the mint's loss: booked as an expense, told to a human, and made up for by whatever the same
quote is paid later, which as a rule is the same money confirmed again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from specie.kernel import IncomingPayment, UnavailableError
from specie.kernel.money import msat_from_amount
from specie.ledger import Posting
from specie.mint.engine.context import CHANGES, Context
from specie.mint.ports import Deposit, DepositState
from specie.mint.quotes import MintRecord
from specie.storage import Body, Transaction

__all__ = ["QuoteMovedError", "change_quote", "credit", "transact_moving"]

T = TypeVar("T")

_UNASSIGNED = "liability:deposit/unassigned"
"""What came in for no quote, in sat."""
_UNCOUNTED = "liability:deposit/uncounted"
"""What came in for a quote and does not count for it: too small, or first seen too late (NUT-30)."""
_LOSS = "expense:withdrawn_deposits"
"""Ecash was issued for it, and then it was there no more."""

_TRIES = 8
"""Of one change of a quote, where somebody else moves it each time."""


class QuoteMovedError(UnavailableError):
    """A quote changed between our look and our change, and nothing happened: look again."""

    def __init__(self) -> None:
        super().__init__("the quote changed at the same moment", retry_after_s=0.05)


@dataclass(frozen=True, slots=True)
class _Loss:
    """What a withdrawal cost the mint."""

    quote: str
    amount: int


async def credit(context: Context, rail: str, payment: IncomingPayment, *, cursor: bool) -> None:
    """Book one arrival or withdrawal, once however often it is told; with `cursor` also how far the stream was read.

    A payment can be quicker than the transaction that stores its quote. Then it is booked for none, and moved to the quote
    when that looks it up. UnavailableError, and nothing is booked, if the quote moved at the same moment.
    """

    now = context.clock.now()

    async def body(tx: Transaction) -> _Loss | None:
        if cursor:
            await context.store.set_cursor(tx, rail, payment.cursor)
        record = await context.store.mint_quote_by_payment(tx, rail, payment.payment_id)
        if payment.withdrawn:
            return await _withdraw(context, tx, rail, payment, record, now)
        await _book(context, tx, rail, payment, record, now)
        return None

    loss = await context.storage.transact(body)
    if loss is not None:
        context.telemetry.page(
            "a deposit was withdrawn after ecash was issued for it", quote=loss.quote, rail=rail, amount=loss.amount
        )


def _amount(payment: IncomingPayment, unit: str) -> int:
    return payment.amount_msat if unit == "msat" else payment.amount_msat // 1000


def _counts(context: Context, record: MintRecord, rail: str, payment: IncomingPayment, now: int) -> bool:
    """Whether an arrival counts for its quote: each alone must reach the least, and be first seen in time (NUT-30)."""
    terms = context.rail(rail).terms
    if terms.minimum_in_msat:
        least = max(msat_from_amount(context.settings.mint_min, record.unit), terms.minimum_in_msat)
        if payment.amount_msat < least:
            return False
    seen = now if payment.first_seen is None else payment.first_seen
    return not (terms.expiry_cuts and record.expiry is not None and seen > record.expiry)


async def _book(
    context: Context, tx: Transaction, rail: str, payment: IncomingPayment, record: MintRecord | None, now: int
) -> None:
    unit = record.unit if record else "sat"
    amount = _amount(payment, unit)
    counts = record is None or _counts(context, record, rail, payment, now)
    quote = record.quote if record else None
    deposit = Deposit(quote, amount, DepositState.COUNTED if counts else DepositState.UNCOUNTED)
    booked = [Posting(f"asset:rail/{rail}", unit, amount)]
    if not await context.store.add_deposit(tx, rail, payment.receipt_id, deposit, now):
        known = await context.store.deposit(tx, rail, payment.receipt_id)
        if known is None or known.quote is not None or known.state is not DepositState.COUNTED or quote is None:
            return
        if not await context.store.change_deposit(tx, rail, payment.receipt_id, known, deposit):
            raise QuoteMovedError
        booked += [Posting(f"asset:rail/{rail}", "sat", -known.amount), Posting(_UNASSIGNED, "sat", known.amount)]
    if record is None or not counts:
        booked.append(Posting(_UNASSIGNED if record is None else _UNCOUNTED, unit, -amount))
    else:
        counted, recovered = record.credited(amount)
        booked += [Posting(f"liability:deposit/{record.method}", unit, -counted), Posting(_LOSS, unit, -recovered)]
        paid = replace(
            record,
            amount_paid=record.amount_paid + counted,
            lost=record.lost - recovered,
            updated_at=max(now, record.updated_at),
        )
        await change_quote(context, tx, record, paid)
    await context.ledger.post(tx, at=now, kind="deposit", reference=quote or payment.payment_id, postings=booked)


async def _withdraw(
    context: Context, tx: Transaction, rail: str, payment: IncomingPayment, record: MintRecord | None, now: int
) -> _Loss | None:
    gone = Deposit(record.quote if record else None, 0, DepositState.WITHDRAWN)
    if await context.store.add_deposit(tx, rail, payment.receipt_id, gone, now):
        return None
    known = await context.store.deposit(tx, rail, payment.receipt_id)
    if known is None or known.state is DepositState.WITHDRAWN:
        return None
    if not await context.store.change_deposit(
        tx, rail, payment.receipt_id, known, replace(known, state=DepositState.WITHDRAWN)
    ):
        raise QuoteMovedError
    loss = 0
    if known.quote is None or record is None:
        unit = "sat"
        booked = [Posting(_UNASSIGNED, unit, known.amount)]
    elif known.state is DepositState.UNCOUNTED:
        unit = record.unit
        booked = [Posting(_UNCOUNTED, unit, known.amount)]
    else:
        unit = record.unit
        taken, loss = record.withdrawn(known.amount)
        booked = [Posting(f"liability:deposit/{record.method}", unit, taken), Posting(_LOSS, unit, loss)]
        left = replace(
            record,
            amount_paid=record.amount_paid - taken,
            lost=record.lost + loss,
            updated_at=max(now, record.updated_at),
        )
        await change_quote(context, tx, record, left)
    booked.append(Posting(f"asset:rail/{rail}", unit, -known.amount))
    await context.ledger.post(tx, at=now, kind="withdrawal", reference=known.quote or payment.payment_id, postings=booked)
    return _Loss(record.quote, loss) if loss and record else None


async def change_quote(context: Context, tx: Transaction, old: MintRecord, new: MintRecord) -> None:
    """Compare and swap a mint quote and tell its subscribers; UnavailableError, so the body is undone, if it moved."""
    if not await context.store.change_mint_quote(tx, old, new):
        raise QuoteMovedError
    tx.notify(CHANGES, f"mint_quote:{old.quote}")


async def transact_moving(context: Context, body: Body[T]) -> T:
    """Run a body that moves quotes with `change_quote`, again where somebody else moved one first (a deposit, say).

    QuoteMovedError if that goes on.
    """
    for _ in range(_TRIES - 1):
        try:
            return await context.storage.transact(body)
        except QuoteMovedError:  # whoever moved it has committed, so there is nothing to wait for
            continue
    return await context.storage.transact(body)
