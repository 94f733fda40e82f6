"""Mint quotes and issuing (NUT-04, NUT-20, NUT-23, NUT-25, NUT-30). Deposits are `deposit`'s, several quotes at once `batch`'s.

An issue is one transaction. What a crash leaves behind:

    quote: after the rail's request, before ours    a request nobody was shown
    issue: before the transaction                   nothing
    issue: after the transaction                    all of it; the same request again is answered from the store

A quote that is paid once (an invoice) is issued once and whole. One that is paid any number of times (an offer, an address)
is issued in any parts, at most what arrived: two requests at the same moment meet at the compare and swap of its amounts.
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
    QuotePubkeyRequiredError,
    QuoteUnpaidError,
    UnbalancedError,
    UnitMismatchError,
)
from specie.ecash.quote import quote_pubkey_checked
from specie.kernel import InvariantError, MalformedError, RailTerms, RefusedError, UnavailableError, uuid7
from specie.kernel.money import msat_from_amount
from specie.ledger import Posting
from specie.mint.engine import checks
from specie.mint.engine.context import Context
from specie.mint.engine.deposit import change_quote, credit, transact_moving
from specie.mint.engine.swap import refuse_outputs, replay
from specie.mint.quotes import MintRecord
from specie.storage import Transaction

__all__ = [
    "check_mintable",
    "find_mint_quote",
    "issue",
    "look_up",
    "mint_quote",
    "request_mint_quote",
    "unknown_quote",
]


def unknown_quote() -> RefusedError:
    """NUT-04 and NUT-05 give no code to a quote id that is not known."""
    return RefusedError("quote not found")


async def request_mint_quote(context: Context, request: MintQuoteRequest) -> MintQuote:
    """Ask the rail for an invoice over `request.amount` and remember it. RefusedError with the NUT-04 code."""
    settings = context.settings
    if not settings.minting:
        raise MintingDisabledError
    rail = context.rail_for(request.method, request.unit)
    terms = rail.terms
    _check_amount(context, request, terms)
    description = request.description or ""
    if len(description) > settings.limits.description_chars:
        raise MalformedError(f"description is longer than {settings.limits.description_chars} characters")
    if description and not terms.description:
        raise RefusedError(f"method {request.method} has no place for a description")
    if request.pubkey is None and terms.pubkey_required:
        raise QuotePubkeyRequiredError
    pubkey = None if request.pubkey is None else quote_pubkey_checked(request.pubkey)
    asked = await rail.request(
        None if request.amount is None else msat_from_amount(request.amount, request.unit),
        description=description,
        expiry_s=settings.quote_expiry_s,
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
        reusable=terms.reusable,
    )
    await context.storage.transact(lambda tx: context.store.add_mint_quote(tx, record))
    context.telemetry.count("mint_quotes", unit=record.unit)
    return record.public()


def _check_amount(context: Context, request: MintQuoteRequest, terms: RailTerms) -> None:
    """An invoice names its amount, an offer may, an address cannot."""
    amount, settings = request.amount, context.settings
    if amount is None:
        if terms.incoming_amount == "required":
            raise MalformedError(f"method {request.method} needs an amount")
        return
    if terms.incoming_amount == "never":
        raise MalformedError(f"with method {request.method} the payer chooses the amount; a quote names none")
    if not settings.mint_min <= amount <= settings.mint_max:
        raise AmountOutOfRangeError(f"amount must be from {settings.mint_min} to {settings.mint_max}")


async def find_mint_quote(context: Context, quote_id: str, method: str) -> MintRecord:
    """A mint quote of this method; RefusedError if there is none."""
    record = await context.storage.read(lambda tx: context.store.mint_quote(tx, quote_id))
    if record is None or record.method != method:
        raise unknown_quote()
    return record


async def mint_quote(context: Context, quote_id: str, method: str) -> MintQuote:
    """A mint quote as it stands. What can still be paid is looked up at its rail first, so no payment waits for a stream."""
    record = await find_mint_quote(context, quote_id, method)
    return (await look_up(context, record)).public()


async def look_up(context: Context, record: MintRecord) -> MintRecord:
    """The quote with everything booked that its rail has for it; as it is where the rail cannot be asked."""
    if record.amount_paid and not record.reusable:
        return record
    try:
        payments = await context.rail(record.rail).incoming(record.payment_id)
        if payments:
            known = await context.storage.read(lambda tx: context.store.deposits(tx, record.quote))
            payments = [payment for payment in payments if payment.receipt_id not in known]
        for payment in payments:
            await credit(context, record.rail, payment, cursor=False)
    except UnavailableError:  # also: somebody else books the same at this moment
        payments = []
    return await find_mint_quote(context, record.quote, record.method)


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
    check_mintable(await look_up(context, record), amount, now)
    signatures = await checks.blind_sign(context, request.outputs)
    signed = [(output.B_, signature) for output, signature in zip(request.outputs, signatures, strict=True)]
    postings = [
        Posting(f"liability:deposit/{record.method}", unit, amount),
        *(
            Posting(f"liability:keyset/{keyset}/issued", unit, -value)
            for keyset, value in checks.by_keyset(request.outputs).items()
        ),
    ]

    async def body(tx: Transaction) -> None:
        current = await context.store.mint_quote(tx, record.quote)
        if current is None:
            raise InvariantError("a mint quote vanished")
        check_mintable(current, amount, now)
        issued = replace(current, amount_issued=current.amount_issued + amount, updated_at=max(now, current.updated_at))
        await change_quote(context, tx, current, issued)
        if not await context.store.add_signatures(tx, signed, operation=operation, quote=None, at=now):
            await refuse_outputs(context, tx, request.outputs)
        await context.ledger.post(tx, at=now, kind="mint", reference=record.quote, postings=postings)

    await transact_moving(context, body)
    return signatures


def check_mintable(record: MintRecord, amount: int, now: int) -> None:
    """Whether `amount` may be issued: all of an invoice's quote, once (NUT-23); of another what is there (NUT-25, NUT-30)."""
    if record.amount_issued and (not record.reusable or not record.mintable):
        raise QuoteIssuedError
    if not record.mintable or (not record.reusable and record.amount_paid < (record.amount or 0)):
        if not record.amount_paid and record.expiry is not None and now > record.expiry:
            raise QuoteExpiredError
        raise QuoteUnpaidError
    if record.reusable and amount > record.mintable:
        raise UnbalancedError(f"outputs {amount} > mintable {record.mintable}")
    if not record.reusable and amount != record.amount:
        raise UnbalancedError(f"outputs {amount} != quote {record.amount}")
