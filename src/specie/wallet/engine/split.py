"""One invoice paid by several mints at once (NUT-15), when no mint has enough alone. The receiver takes all parts or none.

`plan` asks every mint for its price and plans again where one refuses or is too dear. `pay_plan` writes all parts down in one
transaction, reserves their coins in it, and only then sends them, all at the same time and without asking anybody anything:
the receiver's node waits for the last part for about a minute. From there on each part is a melt like any other (`pay`).

- A second set of parts is sent only when every part of the first is known to have failed for good.
- A part whose end is not known keeps its coins, and the payment is PENDING; `resume` follows all parts, again together.
- After one part has failed no other is sent (again): the receiver would not take it.

| a crash ...                       | the mints have             | `resume` finds             | and                            |
|-----------------------------------|----------------------------|----------------------------|--------------------------------|
| while planning                    | unpaid quotes              | nothing                    | nothing                        |
| before the journal is committed   | the same                   | nothing (counters skipped) | nothing                        |
| after it, before anything is sent | the same                   | all parts OPEN             | sends all, or frees them later |
| after some parts were sent        | some payments on their way | all parts OPEN             | sends the others, too,         |
|                                   |                            |                            | unless one has failed          |
| after all were sent               | payments on their way      | all parts OPEN             | follows each to its end        |
| after some parts were settled     | some paid, others not yet  | the others OPEN            | follows those                  |
| after the last part               | all paid, or none          | nothing                    | nothing                        |
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specie.ecash.codes import PaymentFailedError
from specie.kernel.errors import (
    InvariantError,
    MalformedError,
    PeerFaultError,
    RefusedError,
    SpecieError,
    UnavailableError,
)
from specie.kernel.money import sat_ceil_from_msat, unit_checked
from specie.lightning.invoice import bare_invoice, invoice_amount_msat
from specie.storage.ports import Transaction
from specie.wallet.engine import journal
from specie.wallet.engine.context import Context
from specie.wallet.engine.methods import setting_of, splits
from specie.wallet.engine.mints import known_mints
from specie.wallet.engine.pay import PartOutcome, Payment, build_payment, pay_journalled, refuse_twice
from specie.wallet.engine.prices import Asked, request_melt_quote
from specie.wallet.errors import (
    FeeExceedsLimitError,
    InsufficientFundsError,
    PaymentTornError,
    UnsupportedError,
)
from specie.wallet.holding import SplitPart, SplitPayment, StoredProof, WalletMeltQuote
from specie.wallet.multipath import PlannedPart, Source, plan_parts
from specie.wallet.operation import Operation
from specie.wallet.selection import net_most, select, spendable
from specie.wallet.states import CoinState, OperationState

__all__ = ["SplitPlan", "at_once", "pay_plan", "payment_of", "plan", "watch_torn"]

_BUILDS = 5
_METHOD = "bolt11"
_MSAT = {"sat": 1000, "msat": 1}


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """Priced parts of an invoice, ready to be paid. `fees` are the input fees of each part, in the order of `quotes`."""

    request: str
    unit: str
    amount: int
    quotes: tuple[WalletMeltQuote, ...]
    fees: tuple[int, ...]

    @property
    def most_fee(self) -> int:
        """The most that paying costs beyond the amount."""
        return sum(quote.fee_reserve for quote in self.quotes) + sum(self.fees)


async def plan(
    ctx: Context, invoice: str, unit: str, *, mints: Sequence[str] = (), without: Sequence[str] = (), max_fee: int | None = None
) -> SplitPlan:
    """Price an invoice at the mints that together can pay it; no money moves. One mint alone where that is enough.

    `mints` limits the choice; those of `without` are left out. InvoicePaidError or OperationBusyError for an invoice that was
    paid or may still be; InsufficientFundsError where all mints together cannot; FeeExceedsLimitError; UnsupportedError for
    units whose rate only a mint knows; MalformedError for an invoice that names no amount.
    """
    text, unit = bare_invoice(invoice), unit_checked(unit)
    amount_msat = invoice_amount_msat(text)
    if amount_msat is None:
        raise MalformedError("an invoice that names no amount cannot be paid by several mints")
    if unit not in _MSAT:
        raise UnsupportedError(f"mints that pay in {unit} cannot share an invoice: each has a rate of its own", nut=15)
    amount = sat_ceil_from_msat(amount_msat) if unit == "sat" else amount_msat
    await ctx.storage.read(lambda tx: refuse_twice(ctx, tx, text))
    sources = await _sources(ctx, unit, mints, without)
    held = sum(source.free for source in sources.values())
    for _ in range(max(ctx.settings.split_plans, 1)):
        parts = plan_parts(amount, list(sources.values()), most_parts=ctx.settings.split_mints)
        if parts is None:
            break
        quotes = await _quoted(ctx, text, unit, amount_msat, parts, sources)
        if quotes is None:
            continue
        fees = [await _input_fee(ctx, quote, sources) for quote in quotes]
        if any(fee is None for fee in fees):
            continue
        made = SplitPlan(text, unit, amount, tuple(quotes), tuple(fee for fee in fees if fee is not None))
        if max_fee is not None and made.most_fee > max_fee:
            raise FeeExceedsLimitError(made.most_fee, max_fee, unit)
        return made
    raise InsufficientFundsError(amount, held, unit)


async def _sources(ctx: Context, unit: str, mints: Sequence[str], without: Sequence[str]) -> dict[str, Source]:
    """Mints with free money of the unit that pay parts of invoices, by URL."""
    by_mint: dict[str, list[StoredProof]] = {}
    for stored in spendable(await ctx.storage.read(lambda tx: ctx.store.proofs(tx, unit=unit, states=(CoinState.UNSPENT,)))):
        by_mint.setdefault(stored.mint, []).append(stored)
    found: dict[str, Source] = {}
    known = await known_mints(ctx)
    for mint, coins in sorted(by_mint.items()):
        if mint not in known:
            continue
        info = await ctx.info(mint)
        if mint in without or (mints and mint not in mints) or not splits(info, _METHOD, unit):
            continue
        setting = setting_of(info, 5, _METHOD, unit)
        found[mint] = Source(
            mint=mint,
            free=max(net_most(coins, await ctx.terms(mint, coins), max_inputs=await ctx.array_limit(mint)), 0),
            reserve_floor=ctx.settings.reserve_floor,
            reserve_ppm=ctx.settings.reserve_ppm,
            least=max((setting.min_amount if setting is not None else None) or 1, 1),
            most=setting.max_amount if setting is not None else None,
        )
    return found


async def _quoted(
    ctx: Context, text: str, unit: str, amount_msat: int, parts: Sequence[PlannedPart], sources: dict[str, Source]
) -> list[WalletMeltQuote] | None:
    """A quote for each part, asked for at once; None after `sources` has learnt of a mint that refuses or is dearer."""
    excess = sum(part.amount for part in parts) * _MSAT[unit] - amount_msat
    asked: list[Asked] = []
    for place, part in enumerate(parts):
        part_msat = part.amount * _MSAT[unit] - (excess if place == 0 else 0)
        whole = len(parts) == 1
        asked.append(Asked(_METHOD, text, unit, part_msat=None if whole else part_msat))
    answers = await asyncio.gather(
        *(request_melt_quote(ctx, part.mint, one) for part, one in zip(parts, asked, strict=True)), return_exceptions=True
    )
    quotes: list[WalletMeltQuote] = []
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, WalletMeltQuote):
            if not _learn(sources, part, answer):
                continue
            quotes.append(answer)
        elif isinstance(answer, (RefusedError, PeerFaultError, UnavailableError)):
            ctx.telemetry.event("wallet_split_refused", mint=part.mint, reason=answer.detail)
            del sources[part.mint]
        else:
            raise answer
    return quotes if len(quotes) == len(parts) else None


def _learn(sources: dict[str, Source], part: PlannedPart, quote: WalletMeltQuote) -> bool:
    """Whether the mint can be paid what it asks for; if not, its next part is reckoned with what it asked for now."""
    source = sources[part.mint]
    if part.amount + quote.fee_reserve <= source.free:
        return True
    dearer = -(-quote.fee_reserve * 1_000_000 // part.amount)
    sources[part.mint] = replace(
        source, reserve_ppm=max(source.reserve_ppm, dearer), reserve_floor=max(source.reserve_floor, quote.fee_reserve)
    )
    return False


async def _input_fee(ctx: Context, quote: WalletMeltQuote, sources: dict[str, Source]) -> int | None:
    """Fee of the coins that would pay a part; None after `sources` has learnt that they do not reach it."""
    coins = await ctx.storage.read(
        lambda tx: ctx.store.proofs(tx, mint=quote.mint, unit=quote.unit, states=(CoinState.UNSPENT,))
    )
    try:
        chosen = select(
            coins,
            quote.amount + quote.fee_reserve,
            await ctx.terms(quote.mint, spendable(coins)),
            unit=quote.unit,
            max_inputs=await ctx.array_limit(quote.mint),
        )
    except InsufficientFundsError:
        source = sources[quote.mint]
        sources[quote.mint] = replace(source, free=max(quote.amount + quote.fee_reserve - 1, 0))
        return None
    return chosen.fee


async def pay_plan(
    ctx: Context, made: SplitPlan, *, memo: str | None, wait_s: float, max_fee: int | None, fee_bound: int | None
) -> Payment:
    """Pay the parts of a plan. A Payment that is PAID, or PENDING while a part may still be paid after `wait_s`.

    Where all parts failed for good it is planned and tried again without the mint that failed first, at no more than
    `fee_bound` of fees. FeeExceedsLimitError and InsufficientFundsError before anything is sent; PaymentFailedError or another
    RefusedError when all coins are free again; PaymentTornError where some parts were paid and others failed, which is never
    tried again.
    """
    if max_fee is not None and made.most_fee > max_fee:
        raise FeeExceedsLimitError(made.most_fee, max_fee, made.unit)
    left_out: list[str] = []
    failure: SpecieError | None = None
    for _ in range(max(ctx.settings.split_plans, 1)):
        payment_id, errors = await _pay_parts(ctx, made, memo, wait_s)
        payment = await _stored(ctx, payment_id)
        if payment.state == "TORN":
            _tell_torn(ctx, payment)
            raise PaymentTornError(
                "some mints say that they paid their part, others that they did not: it is not paid again by itself",
                reference=payment_id,
            )
        if payment.state != "FAILED":
            return payment_of(payment)
        if errors:
            left_out.append(errors[0][0])
            failure = failure or errors[0][1]
        try:
            made = await plan(ctx, made.request, made.unit, without=left_out, max_fee=fee_bound)
        except (RefusedError, UnavailableError):
            break
        if len(made.quotes) == 1:
            break  # an ordinary payment, which is the caller's to make
    if isinstance(failure, RefusedError):
        raise failure
    raise PaymentFailedError("the payment failed; its coins are free again")


async def _pay_parts(
    ctx: Context, made: SplitPlan, memo: str | None, wait_s: float
) -> tuple[str, list[tuple[str, SpecieError]]]:
    """Journal all parts, send all parts. The payment's id, and which mints failed of what, in the order in which they did."""
    for _ in range(_BUILDS):
        operations = [await build_payment(ctx, quote, max_fee=None, memo=memo) for quote in made.quotes]
        payment = _payment(ctx, made, operations, memo)

        async def also(tx: Transaction, payment: SplitPayment = payment) -> None:
            await refuse_twice(ctx, tx, payment.request)
            await ctx.store.add_payment(tx, payment)

        if await journal.begin_all(ctx, [(operation, operation.inputs) for operation in operations], also=also):
            break
    else:
        raise RefusedError("the coins are being used by other operations; try again")
    errors: list[tuple[str, SpecieError]] = []

    async def one(operation: Operation, quote: WalletMeltQuote) -> None:
        try:
            await pay_journalled(ctx, operation, quote, wait_s=wait_s)
        except InvariantError:
            raise
        except SpecieError as error:
            errors.append((quote.mint, error))

    try:
        await at_once([one(operation, quote) for operation, quote in zip(operations, made.quotes, strict=True)])
    finally:
        ctx.busy.difference_update(operation.operation_id for operation in operations)
    return payment.payment_id, errors


def _payment(ctx: Context, made: SplitPlan, operations: Sequence[Operation], memo: str | None) -> SplitPayment:
    return SplitPayment(
        payment_id=ctx.new_id(),
        request=made.request,
        unit=made.unit,
        amount=made.amount,
        memo=memo,
        created_at=ctx.clock.now(),
        parts=tuple(
            SplitPart(
                mint=quote.mint,
                quote=quote.quote,
                operation=operation.operation_id,
                part_msat=quote.part_msat or quote.amount * _MSAT[made.unit],
                amount=quote.amount,
                fee=operation.fee + quote.fee_reserve,
            )
            for quote, operation in zip(made.quotes, operations, strict=True)
        ),
    )


async def at_once(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all at the same time; if one raises, the others are cancelled before it is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stored(ctx: Context, payment_id: str) -> SplitPayment:
    for payment in await ctx.storage.read(ctx.store.split_payments):
        if payment.payment_id == payment_id:
            return payment
    raise InvariantError("a payment that was journalled is not stored")


def _tell_torn(ctx: Context, payment: SplitPayment) -> None:
    ctx.telemetry.page("wallet: some parts of a payment were paid and others not", payment=payment.payment_id)


async def watch_torn(ctx: Context, operation_id: str) -> None:
    """Tell a human where the end of this operation leaves a payment by several mints torn."""
    payment = await ctx.storage.read(lambda tx: ctx.store.payment_of(tx, operation_id))
    if payment is not None and payment.state == "TORN":
        _tell_torn(ctx, payment)


def payment_of(payment: SplitPayment) -> Payment:
    """How a payment by several mints stands, with each part."""
    names = {OperationState.DONE: "PAID", OperationState.OPEN: "PENDING", OperationState.FAILED: "FAILED"}
    parts = tuple(PartOutcome(part.mint, part.amount, part.fee, names[part.state], part.operation) for part in payment.parts)
    return Payment(
        mint="",
        unit=payment.unit,
        amount=payment.amount,
        fee=sum(part.fee for part in parts if part.state != "FAILED"),
        state=payment.state,
        preimage=next((part.preimage for part in payment.parts if part.preimage is not None), None),
        operation=payment.payment_id,
        parts=parts,
    )
