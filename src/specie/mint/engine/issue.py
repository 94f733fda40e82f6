"""Mint quotes and issuing (NUT-04, NUT-20, NUT-23).

A deposit and an issue are one transaction each. What a crash leaves behind:

    quote: after the rail's request, before ours    a request nobody was shown
    deposit: before the transaction                 an arrival that the rail tells again, behind the cursor
    issue: before the transaction                   nothing
    issue: after the transaction                    all of it; the same request again is answered from the store
"""

from __future__ import annotations

from dataclasses import replace

from specie.ecash import (
    BlindSignature,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    verify_quote_signature,
)
from specie.ecash.codes import (
    AmountOutOfRangeError,
    MintingDisabledError,
    QuoteExpiredError,
    QuoteIssuedError,
    QuoteUnpaidError,
    UnbalancedError,
    UnitMismatchError,
)
from specie.ecash.quote import quote_pubkey_checked
from specie.kernel import IncomingPayment, InvariantError, MalformedError, RefusedError, UnavailableError, uuid7
from specie.kernel.money import msat_from_amount
from specie.ledger import Posting
from specie.mint.engine import checks
from specie.mint.engine.context import CHANGES, Context
from specie.mint.engine.swap import refuse_outputs, replay
from specie.mint.quotes import MintRecord
from specie.storage import Transaction

__all__ = ["credit", "issue", "mint_quote", "request_mint_quote", "unknown_quote"]


_UNASSIGNED = "liability:deposit/unassigned"
"""What came in for no quote, in sat."""


def unknown_quote() -> RefusedError:
    """NUT-04 and NUT-05 give no code to a quote id that is not known."""
    return RefusedError("quote not found")


async def request_mint_quote(context: Context, request: MintQuoteRequest) -> MintQuote:
    """Ask the rail for an invoice over `request.amount` and remember it. RefusedError with the NUT-04 code."""
    settings = context.settings
    if not settings.minting:
        raise MintingDisabledError
    rail = context.rail_for(request.method, request.unit)
    if request.amount is None:
        raise MalformedError(f"method {request.method} needs an amount")
    if not settings.mint_min <= request.amount <= settings.mint_max:
        raise AmountOutOfRangeError(f"amount must be from {settings.mint_min} to {settings.mint_max}")
    description = request.description or ""
    if len(description) > settings.limits.description_chars:
        raise MalformedError(f"description is longer than {settings.limits.description_chars} characters")
    pubkey = None if request.pubkey is None else quote_pubkey_checked(request.pubkey)
    asked = await rail.request(
        msat_from_amount(request.amount, request.unit), description=description, expiry_s=settings.quote_expiry_s
    )
    now = context.clock.now()
    record = MintRecord(
        quote=uuid7(context.clock.now_ns() // 1_000_000, context.entropy.bytes(10)),
        method=request.method,
        rail=rail.name,
        unit=request.unit,
        amount=request.amount,
        request=asked.request,
        payment_id=asked.payment_id,
        pubkey=pubkey,
        description=description,
        expiry=asked.expiry,
        amount_paid=0,
        amount_issued=0,
        created_at=now,
        updated_at=now,
    )
    await context.storage.transact(lambda tx: context.store.add_mint_quote(tx, record))
    context.telemetry.count("mint_quotes", unit=record.unit)
    return record.public()


async def find_mint_quote(context: Context, quote_id: str, method: str) -> MintRecord:
    """A mint quote of this method; RefusedError if there is none."""
    record = await context.storage.read(lambda tx: context.store.mint_quote(tx, quote_id))
    if record is None or record.method != method:
        raise unknown_quote()
    return record


async def mint_quote(context: Context, quote_id: str, method: str) -> MintQuote:
    """A mint quote as it stands. An unpaid one is looked up at its rail first, so no payment waits for a stream."""
    record = await find_mint_quote(context, quote_id, method)
    return (await _look_up(context, record)).public()


async def _look_up(context: Context, record: MintRecord) -> MintRecord:
    if record.amount_paid:
        return record
    try:
        payments = await context.rail(record.rail).incoming(record.payment_id)
    except UnavailableError:
        return record
    for payment in payments:
        await credit(context, record.rail, payment, cursor=False)
    return await find_mint_quote(context, record.quote, record.method) if payments else record


async def credit(context: Context, rail: str, payment: IncomingPayment, *, cursor: bool) -> None:
    """Book one arrival, once however often it is told; with `cursor` also remember how far the stream was read.

    A payment can be quicker than the transaction that stores its quote. Then it is booked for none, and moved to the quote
    when that looks it up.
    """
    now = context.clock.now()

    async def body(tx: Transaction) -> None:
        record = await context.store.mint_quote_by_payment(tx, rail, payment.payment_id)
        unit = record.unit if record else "sat"
        amount = payment.amount_msat if unit == "msat" else payment.amount_msat // 1000
        quote = record.quote if record else None
        if cursor:
            await context.store.set_cursor(tx, rail, payment.cursor)
        booked = [Posting(f"asset:rail/{rail}", unit, amount)]
        if not await context.store.add_deposit(tx, rail, payment.receipt_id, quote, amount, now):
            if quote is None or not await context.store.adopt_deposit(tx, rail, payment.receipt_id, quote):
                return
            sat = payment.amount_msat // 1000
            booked += [Posting(f"asset:rail/{rail}", "sat", -sat), Posting(_UNASSIGNED, "sat", sat)]
        owed = f"liability:deposit/{record.method}" if record else _UNASSIGNED
        postings = [*booked, Posting(owed, unit, -amount)]
        await context.ledger.post(tx, at=now, kind="deposit", reference=quote or payment.payment_id, postings=postings)
        if record is None:
            return
        paid = replace(record, amount_paid=record.amount_paid + amount, updated_at=max(now, record.updated_at))
        await change_quote(context, tx, record, paid)

    await context.storage.transact(body)


async def change_quote(context: Context, tx: Transaction, old: MintRecord, new: MintRecord) -> None:
    """Compare and swap a mint quote and tell its subscribers; UnavailableError, so the body is undone, if it moved."""
    if not await context.store.change_mint_quote(tx, old, new):
        raise UnavailableError("the quote changed at the same moment", retry_after_s=0.05)
    tx.notify(CHANGES, f"mint_quote:{old.quote}")


async def issue(context: Context, request: MintRequest) -> list[BlindSignature]:
    """Sign outputs for a paid quote; signatures in order. The same request again gets the same answer.

    RefusedError with the NUT-04 or NUT-20 code; then nothing has changed and a paid quote stays mintable.
    """
    record = await find_mint_quote(context, request.quote, request.method)
    operation = checks.operation_hash("mint", request.quote, (), request.outputs)
    try:
        return await _issue_once(context, record, request, operation)
    except RefusedError:
        if record.pubkey is not None:
            verify_quote_signature(record.pubkey, request.signature, record.quote, request.outputs)
        done = await replay(context, request.outputs, operation)
        if done is None:
            raise
        context.telemetry.count("replayed", verb="mint")
        return done


async def _issue_once(context: Context, record: MintRecord, request: MintRequest, operation: bytes) -> list[BlindSignature]:
    now = context.clock.now()
    unit, amount = checks.check_outputs(request.outputs, context.catalogue, now, context.settings.limits.array_length)
    if unit != record.unit:
        raise UnitMismatchError
    if record.pubkey is not None:
        verify_quote_signature(record.pubkey, request.signature, record.quote, request.outputs)
    _check_mintable(await _look_up(context, record), amount, now)
    signatures = await checks.blind_sign(context, request.outputs)
    signed = [(output.B_, signature) for output, signature in zip(request.outputs, signatures, strict=True)]
    postings = [
        Posting(f"liability:deposit/{record.method}", unit, amount),
        *(Posting(f"liability:keyset/{output.id}/issued", unit, -output.amount) for output in request.outputs),
    ]

    async def body(tx: Transaction) -> None:
        current = await context.store.mint_quote(tx, record.quote)
        if current is None:
            raise InvariantError("a mint quote vanished")
        _check_mintable(current, amount, now)
        issued = replace(current, amount_issued=current.amount_issued + amount, updated_at=max(now, current.updated_at))
        await change_quote(context, tx, current, issued)
        if not await context.store.add_signatures(tx, signed, operation=operation, quote=None, at=now):
            await refuse_outputs(context, tx, request.outputs)
        await context.ledger.post(tx, at=now, kind="mint", reference=record.quote, postings=postings)

    await context.storage.transact(body)
    return signatures


def _check_mintable(record: MintRecord, amount: int, now: int) -> None:
    """A BOLT 11 quote is issued once and whole (NUT-23)."""
    if record.amount_issued:
        raise QuoteIssuedError
    if record.amount_paid < record.amount:
        if not record.amount_paid and record.expiry is not None and now > record.expiry:
            raise QuoteExpiredError
        raise QuoteUnpaidError
    if amount != record.amount:
        raise UnbalancedError(f"outputs {amount} != quote {record.amount}")
