"""Melt quotes and payments (NUT-05, 08, 15, 23, 25, 30): a saga of two transactions around one payment.

    decide    checks; nothing is written
    TX1       quote UNPAID -> PENDING under our lease, inputs PENDING, blank outputs kept
    act       the rail pays attempt `<quote>/<n>`; the same attempt again is looked up there, never paid twice
    wait      on-chain and other slow rails: PENDING and broadcast, outpoint kept, the lease let go; looked at until sure
    TX2       PAID: inputs SPENT, change signed, books posted; or FAILED: inputs and outputs released, quote UNPAID

What a crash leaves behind:

    before TX1         nothing
    TX1 .. act         PENDING, unknown at the rail: whoever takes over the lease orders the same attempt
    act .. TX2         PENDING: the rail is asked until it is sure; PAID settles, FAILED releases, anything else waits
    TX2 fails          paid, but its change is not signed, say: PENDING, and known to be ordered; the next look tries again
    wait               PENDING: as above; a reorganisation changes nothing here, for the rail alone follows its transaction
    after TX2          the end; the same request again is answered from the store

Only the holder of the lease orders, settles or releases, and each of these is a compare and swap on the lease. Inputs of
a payment whose end is not known stay PENDING for ever rather than be released (`UncertainError`, and someone is paged).

A fee option is chosen with TX1 and stays chosen, also after a failed attempt. A part of an invoice (NUT-15) is a payment like
another: one at a time for one invoice. An own invoice is settled inside the mint; an own offer or address, which may be paid
any number of times, is paid through its rail like a stranger's, and arrives there as a deposit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import msgspec

from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    MeltFeeOption,
    MeltQuote,
    MeltQuoteRequest,
    MeltRequest,
    MeltState,
    change_amounts,
    fee_for,
)
from specie.ecash.codes import (
    AmountlessUnsupportedError,
    AmountMismatchError,
    AmountOutOfRangeError,
    InvoicePaidError,
    MintingDisabledError,
    PaymentFailedError,
    QuoteExpiredError,
    QuotePendingError,
    UnbalancedError,
)
from specie.ecash.conditions import verify_spend
from specie.kernel import (
    MalformedError,
    OutgoingQuote,
    PaymentOrder,
    PaymentOutcome,
    PaymentState,
    Rail,
    RefusedError,
    UnavailableError,
    UncertainError,
    uuid7,
)
from specie.kernel.money import msat_from_amount, sat_ceil_from_msat
from specie.ledger import Posting
from specie.mint.engine import checks
from specie.mint.engine.checks import Inputs
from specie.mint.engine.context import CHANGES, Context
from specie.mint.engine.deposit import change_quote, transact_moving
from specie.mint.engine.issue import unknown_quote
from specie.mint.engine.swap import announce_proofs, refuse_inputs, refuse_outputs
from specie.mint.ports import Claim, Promise, ProofRecord
from specie.mint.quotes import MeltRecord, MintRecord
from specie.mint.states import MELT_QUOTE
from specie.storage import Transaction

__all__ = [
    "LEASE_S",
    "begin",
    "held",
    "melt_quote",
    "order",
    "public_quote",
    "renew",
    "request_melt_quote",
    "resolve",
    "settle",
]

LEASE_S = 30
"""A lease that was not renewed for so long belongs to a process that died."""

_LIGHTNING = ("bolt11", "bolt12")
"""Methods whose texts name an amount in `options.amountless`; all others name it beside the request (NUT-05, NUT-30)."""


def _units_from_msat(amount_msat: int, unit: str) -> int:
    return amount_msat if unit == "msat" else sat_ceil_from_msat(amount_msat)


async def request_melt_quote(context: Context, request: MeltQuoteRequest) -> MeltQuote:
    """Price a payment. RefusedError with the NUT-05 or NUT-23 code."""
    settings = context.settings
    if not settings.melting:
        raise MintingDisabledError("melting is disabled")
    rail = context.rail_for(request.method, request.unit)
    if len(request.request) > settings.limits.request_chars:
        raise MalformedError(f"request is longer than {settings.limits.request_chars} characters")
    priced = await _price(rail, request)
    amount = _units_from_msat(priced.amount_msat, request.unit)
    if not settings.melt_min <= amount <= settings.melt_max:
        raise AmountOutOfRangeError(f"amount must be from {settings.melt_min} to {settings.melt_max}")
    most_msat = settings.fee_limit_min_msat + priced.amount_msat * settings.fee_limit_ppm // 1_000_000
    if priced.fee_reserve_msat > most_msat and not priced.fee_options:  # where there are options, the payer has chosen
        raise RefusedError("the payment would cost more in fees than this mint allows")
    internal = await context.storage.read(lambda tx: _own_quote(context, tx, rail.name, priced.payment_id, request.unit))
    if internal is not None and request.mpp_msat is not None:
        raise RefusedError("an invoice of this mint cannot be paid in parts")
    options = tuple(
        MeltFeeOption(one.fee_index, _units_from_msat(one.fee_reserve_msat, request.unit), one.estimated_blocks)
        for one in priced.fee_options
    )
    now = context.clock.now()
    expiry = now + settings.melt_quote_expiry_s
    record = MeltRecord(
        quote=uuid7(context.clock.now_ns() // 1_000_000, context.entropy.bytes(10)),
        method=request.method,
        rail=rail.name,
        unit=request.unit,
        amount=amount,
        fee_reserve=0 if internal else _units_from_msat(priced.fee_reserve_msat, request.unit),
        request=request.request,
        payment_id=priced.payment_id,
        pay_msat=priced.amount_msat,
        state=MeltState.UNPAID,
        expiry=expiry if priced.expiry is None else min(expiry, priced.expiry),
        created_at=now,
        updated_at=now,
        partial=request.mpp_msat is not None,
        fee_options=options,
    )
    await context.storage.transact(lambda tx: context.store.add_melt_quote(tx, record))
    context.telemetry.count("melt_quotes", unit=record.unit)
    return record.public()


async def _price(rail: Rail, request: MeltQuoteRequest) -> OutgoingQuote:
    """What the rail asks, for the amount that its terms let name whoever may name it."""
    terms = rail.terms
    if request.mpp_msat is not None:
        if not terms.partial:
            raise RefusedError("partial payments are not supported")
        part = await rail.quote(request.request, amount_msat=request.mpp_msat, partial=True)
        if part.own:
            raise RefusedError("an invoice of this mint cannot be paid in parts")
        if part.amount_msat != request.mpp_msat:
            raise AmountMismatchError
        return part
    if terms.outgoing_amount == "payer" and request.amount is None:
        raise MalformedError(f"method {request.method} needs the amount to pay")
    if request.amount is not None:
        if request.method in _LIGHTNING or terms.outgoing_amount == "request":
            raise MalformedError(f"method {request.method} takes no amount beside its request, but options.amountless")
        wanted: int | None = msat_from_amount(request.amount, request.unit)
    elif request.amount_msat is not None and terms.outgoing_amount == "request":
        raise AmountlessUnsupportedError
    else:
        wanted = request.amount_msat
    priced = await rail.quote(request.request, amount_msat=wanted)
    if priced.amount_msat <= 0:
        raise AmountlessUnsupportedError("an invoice without an amount needs options.amountless")
    if wanted is not None and wanted != priced.amount_msat:
        raise AmountMismatchError
    return priced


async def _own_quote(context: Context, tx: Transaction, rail: str, payment_id: str, unit: str) -> MintRecord | None:
    """The mint quote whose invoice is being paid, if it is this mint's own in the same unit."""
    record = await context.store.mint_quote_by_payment(tx, rail, payment_id)
    return record if record is not None and record.unit == unit else None


async def find_melt_quote(context: Context, quote_id: str, method: str | None = None) -> MeltRecord:
    """A melt quote; RefusedError if there is none of this id and method."""
    record = await context.storage.read(lambda tx: context.store.melt_quote(tx, quote_id))
    if record is None or (method is not None and record.method != method):
        raise unknown_quote()
    return record


async def melt_quote(context: Context, quote_id: str, method: str) -> MeltQuote:
    """A melt quote as the store has it; a look never settles or releases anything."""
    await find_melt_quote(context, quote_id, method)
    return await public_quote(context, quote_id)


async def public_quote(context: Context, quote_id: str) -> MeltQuote:
    """The wallet's view of a quote, with its change once PAID."""

    async def body(tx: Transaction) -> MeltQuote:
        record = await context.store.melt_quote(tx, quote_id)
        if record is None:
            raise unknown_quote()
        view = record.public()
        if record.state is not MeltState.PAID:
            return view
        change = tuple(await context.store.change(tx, quote_id))
        return msgspec.structs.replace(view, change=change or None)

    return await context.storage.read(body)


async def begin(context: Context, request: MeltRequest) -> MeltRecord:
    """Decide and TX1. Returns the quote: in flight under our lease and still to be ordered (`state` PENDING, `owner` us),
    already in flight for this same request, or PAID (settled inside the mint, or this same request again).

    RefusedError with the NUT-05 code; then nothing has changed.
    """
    choice = "" if request.fee_index is None else f"#{request.fee_index}"
    operation = checks.operation_hash("melt", request.quote + choice, request.inputs, request.outputs)
    record = await find_melt_quote(context, request.quote, request.method)
    try:
        return await _begin_once(context, record, request, operation)
    except RefusedError:
        current = await find_melt_quote(context, request.quote)
        if current.operation != operation or current.state is MeltState.UNPAID:
            raise
        context.telemetry.count("replayed", verb="melt")
        return replace(current, owner="")


def _check_open(record: MeltRecord, now: int) -> None:
    if record.state is MeltState.PAID:
        raise InvoicePaidError
    if record.state is MeltState.PENDING:
        raise QuotePendingError
    if record.expiry is not None and now > record.expiry:
        raise QuoteExpiredError


async def _begin_once(context: Context, record: MeltRecord, request: MeltRequest, operation: bytes) -> MeltRecord:
    if not context.settings.melting:
        raise MintingDisabledError("melting is disabled")
    now = context.clock.now()
    limit = context.settings.limits.array_length
    _check_open(record, now)
    context.rail(record.rail)
    reserve = record.chosen(request.fee_index)
    inputs = checks.check_inputs(request.inputs, context.catalogue, now, limit)
    checks.check_same_unit(inputs, record.unit)
    if request.outputs:
        unit, _ = checks.check_outputs(request.outputs, context.catalogue, now, limit, blank=True)
        checks.check_same_unit(inputs, unit)
    if inputs.amount < record.amount + reserve + inputs.fee:
        raise UnbalancedError(f"inputs {inputs.amount} < amount {record.amount} + reserve {reserve} + fee {inputs.fee}")
    ys = await checks.verify_proofs(context, inputs)
    verify_spend(inputs.proofs, request.outputs, record.quote, now)
    claims = inputs.claims(ys)
    promises = [Promise(output.B_, output.id, position) for position, output in enumerate(request.outputs)]

    async def body(tx: Transaction) -> MeltRecord:
        current = await context.store.melt_quote(tx, record.quote)
        if current is None:
            raise unknown_quote()
        _check_open(current, now)
        current.chosen(request.fee_index)
        pending = replace(
            current,
            fee_reserve=reserve,
            fee_index=request.fee_index,
            state=MELT_QUOTE.next(current.state, "lock inputs"),
            operation=operation,
            attempts=current.attempts + 1,
            ordered=False,
            owner=context.owner,
            lease_until=now + LEASE_S,
            updated_at=max(now, current.updated_at),
        )
        if not await context.store.change_melt_quote(tx, current, pending):
            raise QuotePendingError
        if not await context.store.claim(tx, claims, operation=operation, quote=record.quote, at=now):
            await refuse_inputs(context, tx, ys)
        if not await context.store.add_promises(tx, promises, operation=operation, quote=record.quote, at=now):
            await refuse_outputs(context, tx, request.outputs)
        announce_proofs(tx, ys)
        tx.notify(CHANGES, f"melt_quote:{record.quote}")
        return pending

    async def inside(tx: Transaction) -> MintRecord | None:
        own = await _own_quote(context, tx, record.rail, record.payment_id, record.unit)
        if own is not None and request.outputs:  # what fails anyway must not cost a signature; the transaction decides
            await _refuse_early(context, tx, record, own, ys, request.outputs)
        return own

    internal = await context.storage.read(inside)
    if internal is not None:
        return await _settle_inside(context, record, internal, inputs, claims, request, operation)
    return await context.storage.transact(body)


async def _refuse_early(
    context: Context,
    tx: Transaction,
    record: MeltRecord,
    own: MintRecord,
    ys: Sequence[bytes],
    outputs: Sequence[BlindedMessage],
) -> None:
    """Refuse what `_settle_inside` would refuse as things stand, before the signer is asked for change."""
    if own.amount_paid or own.amount != record.amount:
        raise InvoicePaidError
    if await context.store.proofs(tx, ys):
        await refuse_inputs(context, tx, ys)
    blinded = [output.B_ for output in outputs]
    if await context.store.signatures(tx, blinded) or await context.store.promised(tx, blinded):
        await refuse_outputs(context, tx, outputs)


async def _settle_inside(
    context: Context,
    record: MeltRecord,
    own: MintRecord,
    inputs: Inputs,
    claims: Sequence[Claim],
    request: MeltRequest,
    operation: bytes,
) -> MeltRecord:
    """Pay an invoice of this very mint: both quotes move in one transaction, and no rail is asked."""
    now = context.clock.now()
    signed = await _sign_change(
        context, inputs.amount - inputs.fee - record.amount, [Promise(o.B_, o.id, n) for n, o in enumerate(request.outputs)]
    )
    ys = [claim.y for claim in claims]
    promises = [Promise(output.B_, output.id, position) for position, output in enumerate(request.outputs)]

    async def body(tx: Transaction) -> MeltRecord:
        current = await context.store.melt_quote(tx, record.quote)
        target = await context.store.mint_quote(tx, own.quote)
        if current is None or target is None:
            raise unknown_quote()
        _check_open(current, now)
        if target.amount_paid or target.amount != record.amount:
            raise InvoicePaidError
        paid = replace(
            current,
            state=MELT_QUOTE.next(current.state, "settle inside the mint"),
            operation=operation,
            attempts=current.attempts + 1,
            fee_paid=0,
            updated_at=max(now, current.updated_at),
        )
        if not await context.store.change_melt_quote(tx, current, paid):
            raise QuotePendingError
        if not await context.store.claim(tx, claims, operation=operation, quote=record.quote, at=now):
            await refuse_inputs(context, tx, ys)
        await context.store.spend_claimed(tx, record.quote)
        if not await context.store.add_promises(tx, promises, operation=operation, quote=record.quote, at=now):
            await refuse_outputs(context, tx, request.outputs)
        await context.store.keep_promises(tx, record.quote, signed)
        credited = replace(target, amount_paid=target.amount, updated_at=max(now, target.updated_at))
        await change_quote(context, tx, target, credited)
        postings = _melt_postings(record, checks.by_keyset(inputs.proofs), inputs.fee, 0, signed)
        postings.append(Posting(f"asset:rail/{record.rail}", record.unit, record.amount))
        postings.append(Posting(f"liability:deposit/{target.method}", record.unit, -record.amount))
        await context.ledger.post(tx, at=now, kind="melt", reference=record.quote, postings=postings)
        announce_proofs(tx, ys)
        tx.notify(CHANGES, f"melt_quote:{record.quote}")
        return paid

    return await transact_moving(context, body)


def _melt_postings(
    record: MeltRecord,
    redeemed: dict[str, int],
    input_fee: int,
    fee_paid: int,
    change: list[tuple[bytes, BlindSignature]],
) -> list[Posting]:
    """The entry of a settled melt: what the payer overpaid beyond change and fees is income."""
    unit = record.unit
    given_back = sum(signature.amount for _, signature in change)
    kept = sum(redeemed.values()) - record.amount - fee_paid - input_fee - given_back
    return [
        *(Posting(f"liability:keyset/{keyset}/redeemed", unit, value) for keyset, value in redeemed.items()),
        *checks.issued(unit, [signature for _, signature in change]),
        Posting(f"asset:rail/{record.rail}", unit, -(record.amount + fee_paid)),
        Posting("income:input_fee", unit, -input_fee),
        Posting("income:payment_fee" if kept >= 0 else "expense:payment_fee", unit, -kept),
    ]


async def _sign_change(context: Context, overpaid: int, promises: list[Promise]) -> list[tuple[bytes, BlindSignature]]:
    """Imprint what was overpaid on the first blank outputs (NUT-08), each under the keyset it names."""
    if overpaid <= 0 or not promises:
        return []
    denominations = context.catalogue.get(promises[0].keyset).keyset.keys
    amounts = change_amounts(overpaid, len(promises), denominations)
    outputs = [BlindedMessage(amount, p.keyset, p.b_) for amount, p in zip(amounts, promises, strict=False)]
    signatures = await checks.blind_sign(context, outputs)
    return [(output.B_, signature) for output, signature in zip(outputs, signatures, strict=True)]


async def order(context: Context, record: MeltRecord) -> PaymentOutcome:
    """Act: have the rail pay our attempt, and say what is known. Never raises for an outcome that is not known."""
    rail = context.rail(record.rail)
    payment = PaymentOrder(
        payment_id=record.payment_id,
        attempt=record.attempt,
        request=record.request,
        amount_msat=record.pay_msat,
        max_fee_msat=record.fee_reserve if record.unit == "msat" else record.fee_reserve * 1000,
        deadline_s=context.settings.pay_deadline_s,
        fee_index=record.fee_index,
        partial=record.partial,
    )
    started = context.clock.monotonic()
    try:
        outcome = await rail.pay(payment)
    except RefusedError as error:
        outcome = PaymentOutcome(PaymentState.FAILED, reason=error.detail)
    except UnavailableError as error:
        outcome = PaymentOutcome(PaymentState.ABSENT, reason=error.detail)
    except UncertainError as error:
        outcome = PaymentOutcome(PaymentState.UNKNOWN, reason=error.detail)
    context.telemetry.observe("rail_pay", context.clock.monotonic() - started, rail=record.rail, state=outcome.state)
    return outcome


async def resolve(context: Context, record: MeltRecord) -> PaymentOutcome:
    """After a crash or a deadline: ask the rail what became of our attempt, ordering it if it was never ordered.

    UnavailableError where the rail cannot be asked or cannot take the order: nothing was learnt. The inputs stay locked,
    for whoever held the lease before may have the same attempt on its way to the rail.
    """
    outcome = await context.rail(record.rail).outgoing(record.payment_id, record.attempt)
    if outcome.state is not PaymentState.ABSENT:
        return outcome
    if record.ordered:
        return PaymentOutcome(PaymentState.UNKNOWN, reason="the rail took the order and no longer knows it")
    outcome = await order(context, record)
    if outcome.state is PaymentState.ABSENT:
        raise UnavailableError(outcome.reason)
    return outcome


async def settle(context: Context, record: MeltRecord, outcome: PaymentOutcome) -> MeltRecord:
    """TX2 for what is known of a quote in flight under our lease; the quote as it is then.

    PaymentFailedError once the payment failed for good and everything is released.
    """
    match outcome.state:
        case PaymentState.PAID:
            try:
                return await _settle_paid(context, record, outcome)
            except Exception:
                with contextlib.suppress(UnavailableError, UncertainError):  # the storage fails; what is raised is told
                    await _remember_taken(context, record)
                raise
        case PaymentState.FAILED | PaymentState.ABSENT:
            if await _release(context, record, outcome):
                raise PaymentFailedError(outcome.reason or "the payment failed")
            return await find_melt_quote(context, record.quote)
    if outcome.state is PaymentState.UNKNOWN and record.quote not in context.paged:
        context.paged.add(record.quote)
        context.telemetry.page("a payment's end is not known", quote=record.quote, rail=record.rail, reason=outcome.reason)
    known = record.ordered or outcome.state is PaymentState.PENDING
    outpoint = outcome.outpoint or record.outpoint
    waiting = replace(record, ordered=known, owner="", lease_until=0, outpoint=outpoint)
    if outpoint != record.outpoint:
        waiting = replace(waiting, updated_at=max(context.clock.now(), record.updated_at))

    async def wait(tx: Transaction) -> None:
        if await context.store.change_melt_quote(tx, record, waiting) and outpoint != record.outpoint:
            tx.notify(CHANGES, f"melt_quote:{record.quote}")

    await context.storage.transact(wait)
    return await find_melt_quote(context, record.quote)


async def _remember_taken(context: Context, record: MeltRecord) -> None:
    """Note that the rail took our attempt: should it forget a payment that we cannot settle yet, it is never ordered again."""
    taken = replace(record, ordered=True, owner="", lease_until=0)
    await context.storage.transact(lambda tx: context.store.change_melt_quote(tx, record, taken))


async def _settle_paid(context: Context, record: MeltRecord, outcome: PaymentOutcome) -> MeltRecord:
    now = context.clock.now()
    fee_paid = _units_from_msat(outcome.fee_msat, record.unit)
    proofs, promises = await context.storage.read(lambda tx: _in_flight(context, tx, record.quote))
    redeemed: dict[str, int] = {}
    for proof in proofs:
        redeemed[proof.keyset] = redeemed.get(proof.keyset, 0) + proof.amount
    fees = [context.catalogue.get(proof.keyset).keyset.input_fee_ppk for proof in proofs]
    input_fee = fee_for(fees)
    if fee_paid > record.fee_reserve:
        context.telemetry.page("a rail took more than the fee reserve", quote=record.quote, rail=record.rail)
    overpaid = sum(redeemed.values()) - input_fee - record.amount - fee_paid
    signed = await _sign_change(context, overpaid, promises)

    async def body(tx: Transaction) -> MeltRecord:
        current = await context.store.melt_quote(tx, record.quote)
        if current is None or current.state is not MeltState.PENDING or current.attempts != record.attempts:
            return record if current is None else current
        paid = replace(
            current,
            state=MELT_QUOTE.next(current.state, "payment arrived"),
            preimage=outcome.preimage,
            outpoint=outcome.outpoint or current.outpoint,
            fee_paid=fee_paid,
            owner="",
            lease_until=0,
            updated_at=max(now, current.updated_at),
        )
        if current.owner not in ("", record.owner) or not await context.store.change_melt_quote(tx, current, paid):
            return current
        await context.store.spend_claimed(tx, record.quote)
        await context.store.keep_promises(tx, record.quote, signed)
        postings = _melt_postings(record, redeemed, input_fee, fee_paid, signed)
        await context.ledger.post(tx, at=now, kind="melt", reference=record.quote, postings=postings)
        announce_proofs(tx, [proof.y for proof in proofs])
        tx.notify(CHANGES, f"melt_quote:{record.quote}")
        return paid

    return await context.storage.transact(body)


async def _in_flight(context: Context, tx: Transaction, quote: str) -> tuple[list[ProofRecord], list[Promise]]:
    return await context.store.claimed_by(tx, quote), await context.store.promises(tx, quote)


async def _release(context: Context, record: MeltRecord, outcome: PaymentOutcome) -> bool:
    """Give inputs and outputs back, if the lease is still ours; the quote may be tried again until it expires."""
    now = context.clock.now()

    async def body(tx: Transaction) -> bool:
        proofs = await context.store.claimed_by(tx, record.quote)
        unpaid = replace(
            record,
            state=MELT_QUOTE.next(record.state, "payment failed for good"),
            operation=None,
            outpoint=None,
            ordered=False,
            owner="",
            lease_until=0,
            updated_at=max(now, record.updated_at),
        )
        if not await context.store.change_melt_quote(tx, record, unpaid):
            return False
        await context.store.release_claimed(tx, record.quote)
        announce_proofs(tx, [proof.y for proof in proofs])
        tx.notify(CHANGES, f"melt_quote:{record.quote}")
        return True

    released = await context.storage.transact(body)
    if released:
        context.telemetry.event("melt_failed", quote=record.quote, rail=record.rail, reason=outcome.reason)
    return released


async def renew(context: Context, record: MeltRecord) -> bool:
    """Hold our lease for another `LEASE_S`; False if it is no longer ours."""
    longer = replace(record, lease_until=context.clock.now() + LEASE_S)
    return await context.storage.transact(lambda tx: context.store.change_melt_quote(tx, record, longer))


@contextlib.asynccontextmanager
async def held(context: Context, record: MeltRecord) -> AsyncIterator[None]:
    """Keep our lease alive while inside, for as long as the rail takes."""

    async def renewing() -> None:
        ours = True
        while ours:
            await context.clock.sleep(LEASE_S / 3)
            try:
                ours = await renew(context, record)
            except (UnavailableError, UncertainError) as error:
                context.telemetry.event("lease_not_renewed", quote=record.quote, reason=error.detail)

    renewal = asyncio.get_running_loop().create_task(renewing())
    try:
        yield
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
