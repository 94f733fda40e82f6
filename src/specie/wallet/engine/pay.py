"""Paying a request with coins (NUT-05, 08, 23, 25, 30). This is where money is lost, so the rules are narrow:

- Coins are freed only when the quote is UNPAID *and* the mint says of every input that it is UNSPENT *and* the request
  cannot be on its way any more. A coin whose payment may be running is never freed by a look at its state alone.
- The request is sent once. It is sent again, to the byte, only after a look at the quote and at the coins showed that
  the mint never saw it, and only soon after; it is never built anew.
- Blank outputs stay in the journal until the change is stored. It is taken from the answer, from the quote, or by
  NUT-09 from the outputs.

| a crash ...                       | the mint has               | `resume` finds              | and                      |
|-----------------------------------|----------------------------|-----------------------------|--------------------------|
| after the journal, before sending | nothing                    | quote UNPAID, coins UNSPENT | sends it, or frees later |
| while the payment runs            | coins PENDING              | quote PENDING               | keeps the coins locked   |
| after the payment failed          | nothing                    | quote UNPAID, coins UNSPENT | frees the coins          |
| after it was paid                 | coins SPENT, change signed | quote PAID                  | stores the change        |

A payment on chain is PENDING until it has its confirmations, for hours perhaps; its coins are locked and its outpoint is
stored meanwhile. An invoice is never paid twice: not while an operation pays it, and not after. Payments by several mints:
`split`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from specie.ecash import wire
from specie.ecash.blank import PLACEHOLDER_AMOUNT, blank_count
from specie.ecash.codes import (
    InvoicePaidError,
    PaymentFailedError,
    ProofsPendingError,
    QuotePendingError,
)
from specie.ecash.proof import BlindSignature, State
from specie.ecash.quote import MeltQuote, MeltState
from specie.ecash.transaction import MeltRequest
from specie.kernel.errors import (
    InvariantError,
    MalformedError,
    PeerFaultError,
    RefusedError,
    SpecieError,
    UnavailableError,
    UncertainError,
)
from specie.kernel.money import split_amount
from specie.storage.ports import Transaction
from specie.wallet.engine import journal
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import active_keyset, fresh_keysets
from specie.wallet.engine.outputs import coins_from, derived_outputs
from specie.wallet.engine.perform import KEYSET_LEFT, restored_pairs, spent_of, states_of
from specie.wallet.engine.prices import as_melt_quote, check_unchanged, choose_fee, with_fee
from specie.wallet.engine.send import swap_coins
from specie.wallet.engine.wait import wait_until
from specie.wallet.errors import FeeExceedsLimitError, OperationBusyError, OperationOpenError, QuoteUnknownError
from specie.wallet.holding import StoredProof, WalletMeltQuote
from specie.wallet.operation import Kind, Operation, Output, Purpose, Role, blinded_messages
from specie.wallet.selection import Selection, fee_of, select, spendable
from specie.wallet.states import CoinState, OperationState

__all__ = ["PartOutcome", "Payment", "build_payment", "finish_payment", "pay", "pay_journalled", "refuse_twice"]

_BUILDS = 5
_WORKING = (ProofsPendingError,)
"""Refusals after which the mint may still work on our coins; others count if quote and coins are then seen untouched."""


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """One mint's part of a payment by several (NUT-15); `fee` is the most it can be until it is PAID."""

    mint: str
    amount: int
    fee: int
    state: str
    """PAID, PENDING or FAILED."""
    operation: str


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment: `fee` is all that left the wallet beyond `amount`. While `state` is PENDING `fee` is the most it can be."""

    mint: str
    unit: str
    amount: int
    fee: int
    state: str
    """PAID or PENDING; a payment that failed raises."""
    preimage: str | None
    operation: str
    """Its operation's id, or that of the payment where several mints pay."""
    outpoint: str | None = None
    """`txid:vout` of a payment on chain once it was broadcast."""
    parts: tuple[PartOutcome, ...] = ()
    """Of a payment by several mints; `mint` is then empty."""


async def pay(
    ctx: Context,
    quote: WalletMeltQuote,
    *,
    max_fee: int | None,
    memo: str | None,
    wait_s: float,
    fee_index: int | None = None,
    blocks: int | None = None,
) -> Payment:
    """Pay a quote once. A Payment that is PAID, or PENDING where the end is not known after `wait_s`.

    `fee_index` or `blocks` choose among the prices of a payment on chain, else the quote's own choice stands.
    FeeExceedsLimitError and InsufficientFundsError before anything is sent; PeerFaultError where the mint changed what it
    had quoted; PaymentFailedError or another RefusedError where it failed for good and the coins are free again;
    UnavailableError where it was never sent; OperationOpenError where the mint cannot be asked what became of it: the coins
    stay locked until `resume` knows.
    """
    stored = await ctx.storage.read(lambda tx: ctx.store.melt_quote(tx, quote.mint, quote.quote))
    if stored is None:
        raise QuoteUnknownError("the wallet has no such quote")
    if stored.state == MeltState.PAID:
        raise InvoicePaidError("this quote was paid before")
    if stored.state == MeltState.PENDING:
        raise OperationBusyError("this quote is being paid, and its end is not known yet")
    stored = await _chosen(ctx, stored, fee_index, blocks)
    left: RefusedError | None = None
    for _ in range(_BUILDS):
        operation = await build_payment(ctx, stored, max_fee=max_fee, memo=memo)
        if not await journal.begin(ctx, operation, operation.inputs, also=_Journalling(ctx, stored)):
            continue
        try:
            return await _run(ctx, operation, stored, resumed=False, wait_s=wait_s)
        except KEYSET_LEFT as error:  # its coins are free again
            left = error
            await fresh_keysets(ctx, quote.mint, force=True)
    if left is not None:
        raise left
    raise RefusedError("the coins are being used by other operations; try again")


class _Journalling:
    """What is checked and stored in the transaction that journals a payment: its choice of fee, and that it is the only one."""

    def __init__(self, ctx: Context, quote: WalletMeltQuote) -> None:
        self._ctx = ctx
        self._quote = quote

    async def __call__(self, tx: Transaction, operation_id: str) -> None:
        if self._quote.method == "bolt11":
            await refuse_twice(self._ctx, tx, self._quote.request)
        if self._quote.fee_options:
            await self._ctx.store.save_melt_quote(tx, self._quote)


async def refuse_twice(ctx: Context, tx: Transaction, invoice: str) -> None:
    """None if no operation pays or has paid this invoice, at any mint. InvoicePaidError, OperationBusyError."""
    states = await ctx.store.invoice_states(tx, invoice)
    if OperationState.DONE in states:
        raise InvoicePaidError("this invoice was paid before")
    if OperationState.OPEN in states:
        raise OperationBusyError("this invoice is being paid by another operation, whose end is not known yet")


async def _chosen(ctx: Context, quote: WalletMeltQuote, fee_index: int | None, blocks: int | None) -> WalletMeltQuote:
    """The quote with its fee chosen, after a look that the mint still stands by it. Invoices are sent without that look."""
    if not quote.fee_options and (fee_index is not None or blocks is not None):
        raise MalformedError("this payment has no fee options to choose from")
    if quote.method == "bolt11":
        return quote
    if quote.fee_options and (fee_index is not None or blocks is not None):
        quote = with_fee(quote, choose_fee(quote.fee_options, fee_index=fee_index, blocks=blocks))
    seen = await ctx.client(quote.mint).melt_quote(as_melt_quote(quote))
    check_unchanged(quote, seen)
    if seen.state is not MeltState.UNPAID:
        raise QuotePendingError("the mint says that this quote is being paid or was paid already")
    return quote


async def build_payment(ctx: Context, quote: WalletMeltQuote, *, max_fee: int | None, memo: str | None) -> Operation:
    """Choose coins and build the melt; nothing is reserved or journalled yet. FeeExceedsLimitError, InsufficientFundsError."""
    target = quote.amount + quote.fee_reserve
    selection = await _choose(ctx, quote, target)
    most = quote.fee_reserve + selection.fee
    if max_fee is not None and most > max_fee:
        raise FeeExceedsLimitError(most, max_fee, quote.unit)
    info = await ctx.info(quote.mint)
    keyset = await active_keyset(ctx, quote.mint, quote.unit)
    if not info.supports(8) and selection.net > target:
        await swap_coins(
            ctx,
            selection.proofs,
            keyset,
            purpose=Purpose.SPLIT,
            amount=selection.amount,
            fee=selection.fee,
            kept=selection.net,
            amounts=_exact_parts(selection.net, target, keyset.input_fee_ppk, sorted(keyset.keys)),
        )
        selection = await _choose(ctx, quote, target)
    count = blank_count(selection.net - quote.amount) if info.supports(8) else 0
    blanks = tuple(await derived_outputs(ctx, quote.mint, keyset, [PLACEHOLDER_AMOUNT] * count, Role.CHANGE))
    request = MeltRequest(
        method=quote.method,
        quote=quote.quote,
        inputs=tuple(stored.proof for stored in selection.proofs),
        outputs=blinded_messages(blanks),
        prefer_async=bool(quote.fee_options),
        fee_index=quote.fee_index,
    )
    now = ctx.clock.now()
    return Operation(
        operation_id=ctx.new_id(),
        kind=Kind.MELT,
        purpose=Purpose.PAY,
        mint=quote.mint,
        unit=quote.unit,
        amount=quote.amount,
        fee=selection.fee,
        request=wire.melt_request_to_json(request),
        inputs=tuple(stored.y for stored in selection.proofs),
        outputs=blanks,
        method=quote.method,
        quote=quote.quote,
        memo=memo,
        created_at=now,
        updated_at=now,
    )


async def _choose(ctx: Context, quote: WalletMeltQuote, target: int) -> Selection:
    free = spendable(
        await ctx.storage.read(lambda tx: ctx.store.proofs(tx, mint=quote.mint, unit=quote.unit, states=(CoinState.UNSPENT,)))
    )
    terms = await ctx.terms(quote.mint, free)
    return select(free, target, terms, unit=quote.unit, max_inputs=await ctx.array_limit(quote.mint))


def _exact_parts(total: int, target: int, ppk: int, denominations: Sequence[int]) -> list[int]:
    """Split `total` so that some of the coins are worth exactly `target` after their own fee, if `total` allows it."""
    aim = target
    while True:
        parts = split_amount(aim, denominations)
        needed = target + fee_of([ppk] * len(parts))
        if needed <= aim or needed > total:
            break
        aim = needed
    return sorted(parts + (split_amount(total - aim, denominations) if total > aim else []))


async def finish_payment(ctx: Context, operation: Operation, *, wait_s: float) -> Payment:
    """Take up an OPEN melt after a restart; as `pay`, but begins with a look."""
    quote = await ctx.storage.read(lambda tx: ctx.store.melt_quote(tx, operation.mint, operation.quote or ""))
    if quote is None:
        raise InvariantError("a melt names a quote that is not stored")
    return await _run(ctx, operation, quote, resumed=True, wait_s=wait_s)


async def pay_journalled(ctx: Context, operation: Operation, quote: WalletMeltQuote, *, wait_s: float) -> Payment:
    """Send a melt that was just journalled; as `pay`."""
    return await _run(ctx, operation, quote, resumed=False, wait_s=wait_s)


async def _run(ctx: Context, operation: Operation, quote: WalletMeltQuote, *, resumed: bool, wait_s: float) -> Payment:
    ctx.busy.add(operation.operation_id)
    try:
        return await _drive(ctx, operation, quote, resumed, wait_s)
    finally:
        ctx.busy.discard(operation.operation_id)


async def _drive(ctx: Context, operation: Operation, quote: WalletMeltQuote, resumed: bool, wait_s: float) -> Payment:
    answer: MeltQuote | None = None
    refusal: SpecieError | None = None
    if not resumed:
        answer, refusal = await _send_first(ctx, operation, quote)
    attempt = 0
    while True:
        attempt += 1
        seen = answer if answer is not None and answer.state is not MeltState.UNPAID else await _look(ctx, operation, quote)
        answer = None
        await _watch_for_changes(ctx, operation, quote, seen)
        if seen.state is MeltState.PENDING:
            quote = await _mark_pending(ctx, quote, seen)
            seen = await _await_end(ctx, operation, quote, wait_s)
        if seen.state is MeltState.PAID:
            return await _settle(ctx, operation, quote, seen)
        if seen.state is MeltState.PENDING:
            return _payment(operation, await _mark_pending(ctx, quote, seen), "PENDING", None)
        fate = await _fate(ctx, operation, quote, refusal)
        if fate is not None:
            raise fate
        if attempt > ctx.settings.retry.attempts:
            break
        if not await _may_send_again(ctx, operation):
            await journal.note(ctx, operation, "another part of the payment failed, so this one is not sent again")
            raise OperationOpenError(
                "another part of the payment failed; this one's coins are freed once it cannot be on its way any more",
                reference=operation.operation_id,
            )
        if attempt > 1:
            await ctx.pause(attempt)
        answer, refusal = await _send_again(ctx, operation, quote)
    await journal.note(ctx, operation, "the mint does not say what became of the payment")
    raise OperationOpenError(
        "nobody knows yet what became of the payment; its coins stay locked", reference=operation.operation_id
    )


async def _send_first(
    ctx: Context, operation: Operation, quote: WalletMeltQuote
) -> tuple[MeltQuote | None, SpecieError | None]:
    """The first and normally only sending. What certainly never left may be tried again; then it fails for good."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return _answered(await ctx.client(operation.mint).melt(as_melt_quote(quote), operation.request))
        except UnavailableError as error:
            if attempt >= ctx.settings.retry.attempts:
                await journal.fail(ctx, operation, error.detail, never_sent=True)
                raise
            await ctx.pause(attempt)
        except (UncertainError, PeerFaultError):
            return None, None
        except RefusedError as error:
            return None, error


async def _send_again(
    ctx: Context, operation: Operation, quote: WalletMeltQuote
) -> tuple[MeltQuote | None, SpecieError | None]:
    """The identical bytes, after a look showed that the mint never saw them."""
    ctx.telemetry.event("wallet_melt_replayed", mint=operation.mint, operation=operation.operation_id)
    try:
        return _answered(await ctx.client(operation.mint).melt(as_melt_quote(quote), operation.request))
    except (UnavailableError, UncertainError, PeerFaultError):
        return None, None
    except RefusedError as error:
        return None, error


def _answered(answer: MeltQuote) -> tuple[MeltQuote | None, SpecieError | None]:
    """Some mints say that a payment failed by an answer that is UNPAID, where others refuse (20004)."""
    if answer.state is MeltState.UNPAID:
        return None, PaymentFailedError("the payment failed; its coins are free again")
    return answer, None


async def _look(ctx: Context, operation: Operation, quote: WalletMeltQuote) -> MeltQuote:
    try:
        seen = await ctx.client(operation.mint).melt_quote(as_melt_quote(quote))
    except (UnavailableError, PeerFaultError, RefusedError) as error:
        await journal.note(ctx, operation, error.detail)
        raise OperationOpenError(
            "the mint cannot be asked what became of the payment; its coins stay locked", reference=operation.operation_id
        ) from error
    if seen.quote != quote.quote:
        raise PeerFaultError("the mint answered about another quote", peer=operation.mint)
    return seen


async def _await_end(ctx: Context, operation: Operation, quote: WalletMeltQuote, wait_s: float) -> MeltQuote:
    seen = await wait_until(
        ctx,
        operation.mint,
        f"{quote.method}_melt_quote",
        quote.quote,
        lambda: _look(ctx, operation, quote),
        lambda one: one.state is not MeltState.PENDING,
        timeout_s=wait_s,
    )
    return as_melt_quote(quote) if seen is None else seen


async def _mark_pending(ctx: Context, quote: WalletMeltQuote, seen: MeltQuote) -> WalletMeltQuote:
    """Store that it is on its way, and where; written once for each thing that is new."""
    pending = replace(quote, state=MeltState.PENDING.value, outpoint=seen.outpoint or quote.outpoint)
    if pending != quote:
        await ctx.storage.transact(lambda tx: ctx.store.save_melt_quote(tx, pending))
    return pending


async def _watch_for_changes(ctx: Context, operation: Operation, quote: WalletMeltQuote, seen: MeltQuote) -> None:
    """Tell a human where the mint, with our coins in its hands, says that it does something else than we agreed to.

    The payment is followed all the same: its coins and its change can be had back in no other way.
    """
    try:
        check_unchanged(quote, seen)
    except PeerFaultError as error:
        await journal.note(ctx, operation, error.detail)
        ctx.telemetry.page(
            "wallet: a mint changed a quote after it had the coins",
            mint=operation.mint,
            operation=operation.operation_id,
            change=error.detail,
        )


async def _may_send_again(ctx: Context, operation: Operation) -> bool:
    """A part of a payment by several mints is not sent once another part has failed: the payee would take none of them."""
    payment = await ctx.storage.read(lambda tx: ctx.store.payment_of(tx, operation.operation_id))
    return payment is None or all(part.state is not OperationState.FAILED for part in payment.parts)


async def _fate(ctx: Context, operation: Operation, quote: WalletMeltQuote, refusal: SpecieError | None) -> SpecieError | None:
    """The quote is UNPAID: None if the request may be sent again, else the error to raise, after failing or noting it."""
    try:
        states = await states_of(ctx, operation.mint, operation.inputs)
    except (UnavailableError, PeerFaultError, RefusedError) as error:
        await journal.note(ctx, operation, error.detail)
        return OperationOpenError(
            "the mint does not say what became of the coins; they stay locked", reference=operation.operation_id
        )
    spent = spent_of(states)
    definite = refusal is not None and not isinstance(refusal, _WORKING)
    if spent and not definite and State.PENDING not in states.values() and set(spent) <= await _used_by_us(ctx, operation):
        await journal.fail(ctx, operation, "its coins were spent by another device of this wallet")
        return PaymentFailedError("the payment was never made: another device of this wallet has spent its coins")
    if State.PENDING in states.values() or (spent and not definite) or isinstance(refusal, _WORKING):
        await journal.note(ctx, operation, "the mint holds the coins of a payment whose quote says UNPAID")
        return OperationOpenError("the mint is still working on the coins; they stay locked", reference=operation.operation_id)
    if refusal is not None:
        await journal.fail(ctx, operation, refusal.detail, spent=spent)
        return refusal
    if quote.state == MeltState.PENDING:
        await journal.fail(ctx, operation, "the payment failed")
        return PaymentFailedError("the payment failed; its coins are free again")
    if ctx.clock.now() - operation.created_at > ctx.settings.replay_window_s:
        await journal.fail(ctx, operation, "the mint never got the request")
        return PaymentFailedError("the payment was never made; its coins are free again")
    return None


async def _used_by_us(ctx: Context, operation: Operation) -> set[bytes]:
    """Inputs that our own books call spent, or sent in a token, though this operation is open: a merged backup told of it."""
    inputs = await ctx.storage.read(lambda tx: ctx.store.proofs_by_y(tx, operation.inputs))
    return {stored.y for stored in inputs if stored.state is CoinState.SPENT or stored.token is not None}


async def _settle(ctx: Context, operation: Operation, quote: WalletMeltQuote, paid: MeltQuote) -> Payment:
    inputs = await ctx.storage.read(lambda tx: ctx.store.proofs_by_y(tx, operation.inputs))
    most = sum(s.proof.amount for s in inputs) - operation.fee - quote.amount
    pairs, restored = await _change(ctx, operation, quote, paid, least=most - quote.fee_reserve)
    keysets = await ctx.keysets(operation.mint)
    if restored and _worth(pairs) > most:
        # another device of this seed used the secrets of our blank outputs: its coins, which `restore` finds
        ctx.telemetry.event("wallet_change_of_another", mint=operation.mint, operation=operation.operation_id)
        pairs = []
    try:
        coins = coins_from(operation, pairs, keysets, require_dleq=False)
        _check_change(operation, coins, most)
    except PeerFaultError as error:
        await journal.note(ctx, operation, error.detail)
        ctx.telemetry.page("wallet: a mint's change is wrong", mint=operation.mint, operation=operation.operation_id)
        raise
    await journal.settle(ctx, operation, coins, paid=paid)
    if operation.outputs and sum(stored.proof.amount for _, stored in coins) < most - quote.fee_reserve:
        ctx.telemetry.page(
            "wallet: a mint kept more of a payment than it had agreed to", mint=operation.mint, operation=operation.operation_id
        )
    left = sum(s.proof.amount for s in inputs) - sum(s.proof.amount for _, s in coins)
    done = _payment(operation, quote, "PAID", paid.payment_preimage)
    return replace(done, fee=left - quote.amount, outpoint=paid.outpoint or quote.outpoint)


def _check_change(operation: Operation, coins: Sequence[tuple[Output, StoredProof]], most: int) -> None:
    if sum(stored.proof.amount for _, stored in coins) > most:
        raise PeerFaultError("the mint gave more change than there was", peer=operation.mint)


async def _change(
    ctx: Context, operation: Operation, quote: WalletMeltQuote, paid: MeltQuote, *, least: int
) -> tuple[list[tuple[Output, BlindSignature]], bool]:
    """Signatures on the blank outputs: those in the answer by position (NUT-08), else (True) by NUT-09 from the outputs.

    So too where the answer has less than `least`, which is all that the agreed reserve leaves over.
    """
    if not operation.outputs:
        return [], False
    if paid.change is None:
        paid = await _look(ctx, operation, quote)
    told = list(zip(operation.outputs, paid.change or (), strict=False))
    if paid.change is not None and _worth(told) >= least:
        return told, False
    try:
        pairs = await restored_pairs(ctx, operation.mint, operation.outputs)
    except RefusedError as error:
        ctx.telemetry.event("wallet_change_unknown", mint=operation.mint, reason=error.detail)
        return told, False
    except UnavailableError as error:
        await journal.note(ctx, operation, error.detail)
        raise OperationOpenError(
            "the payment was made; its change is fetched when the mint answers", reference=operation.operation_id
        ) from error
    return (pairs, True) if _worth(pairs) > _worth(told) else (told, False)


def _worth(pairs: Sequence[tuple[Output, BlindSignature]]) -> int:
    return sum(signature.amount for _, signature in pairs)


def _payment(operation: Operation, quote: WalletMeltQuote, state: str, preimage: str | None) -> Payment:
    return Payment(
        mint=operation.mint,
        unit=operation.unit,
        amount=quote.amount,
        fee=operation.fee + quote.fee_reserve,
        state=state,
        preimage=preimage,
        operation=operation.operation_id,
        outpoint=quote.outpoint,
    )
