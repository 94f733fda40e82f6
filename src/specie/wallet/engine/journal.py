"""The two transactions around every request: one writes down what will be sent, the other what came of it.

| a crash ...                       | leaves behind                              | `resume` then                   |
|-----------------------------------|--------------------------------------------|---------------------------------|
| before the counters are committed | nothing                                    | nothing                         |
| after that, before the journal    | counters that are skipped                  | nothing                         |
| after the journal, before sending | an OPEN operation, coins RESERVED          | sends the journalled bytes      |
| after the request was sent        | the same; the mint may have acted          | sends the same bytes, restores  |
| after the answer, before `settle` | the same; the mint has acted               | the same                        |
| after `settle` or `fail`          | everything in its place                    | nothing                         |

Coins become SPENT only in the transaction that stores what replaces them, or because the mint said so. Both closings are
compare-and-swap on the operation's state, so two processes that resume one operation settle it once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from specie.ecash.quote import MeltQuote
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.tokens import token_text
from specie.wallet.errors import OperationBusyError
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import SentToken, StoredProof
from specie.wallet.operation import Claimed, Kind, Operation, Output, Role
from specie.wallet.states import CoinState, OperationState, TokenState

__all__ = ["Also", "begin", "begin_all", "fail", "note", "settle"]

Also = Callable[[Transaction, str], Awaitable[None]]
"""What else is written in the transaction that journals an operation or hands out a token, given its id; it may refuse."""

_LIVE = (CoinState.UNSPENT, CoinState.RESERVED, CoinState.PENDING)


class _Taken(Exception):
    """A coin was taken by another operation meanwhile."""


async def begin(ctx: Context, operation: Operation, reserve: Sequence[bytes] = (), also: Also | None = None) -> bool:
    """Journal an operation and reserve its coins, in one transaction; `begin_all` of one. `also` is given its id."""

    async def before(tx: Transaction) -> None:
        if also is not None:
            await also(tx, operation.operation_id)

    return await begin_all(ctx, [(operation, reserve)], also=before)


async def begin_all(
    ctx: Context,
    operations: Sequence[tuple[Operation, Sequence[bytes]]],
    *,
    also: Callable[[Transaction], Awaitable[None]] | None = None,
) -> bool:
    """Journal operations, each with the coins it reserves, in one transaction: all or none.

    `also` runs first in the same transaction, and undoes it all by raising. False, and nothing changed, if a coin is free
    no more: choose again. OperationBusyError if a quote is being worked on. On return the operations count as busy, so that
    no `resume` of this process sends them too; whoever performs them ends that.
    """
    names = [operation.operation_id for operation, _ in operations]

    async def body(tx: Transaction) -> None:
        if also is not None:
            await also(tx)
        for operation, reserve in operations:
            if not await ctx.store.add_operation(tx, operation):
                raise OperationBusyError("this quote is being worked on by another operation")
            if not await ctx.store.reserve(tx, reserve, operation.operation_id):
                raise _Taken

    ctx.busy.update(names)
    try:
        await ctx.storage.transact(body)
    except BaseException as error:
        ctx.busy.difference_update(names)
        if isinstance(error, _Taken):
            return False
        raise
    return True


async def note(ctx: Context, operation: Operation, error: str, *, request: bytes | None = None) -> None:
    """Write down why an operation is still open, or that it is sent with other bytes from now on."""
    now = ctx.clock.now()
    await ctx.storage.transact(
        lambda tx: ctx.store.note_operation(tx, operation.operation_id, request=request, error=error, now=now)
    )


async def fail(
    ctx: Context, operation: Operation, reason: str, *, spent: Sequence[bytes] = (), never_sent: bool = False
) -> None:
    """Close an operation that had no effect: its coins are free again, but for those the mint says are `spent`.

    With `never_sent` its counters are given back, so that trying again and again without a network leaves no gap for a
    later restore to stumble over.
    """
    now = ctx.clock.now()

    async def body(tx: Transaction) -> None:
        if not await ctx.store.close_operation(tx, operation.operation_id, OperationState.FAILED, reason, now):
            return
        await ctx.store.move_proofs(tx, spent, _LIVE, CoinState.SPENT, now)
        await ctx.store.release(tx, operation.operation_id)
        if never_sent:
            await _give_back_counters(ctx, tx, operation)
        if operation.kind is Kind.MELT and operation.quote is not None:
            quote = await ctx.store.melt_quote(tx, operation.mint, operation.quote)
            if quote is not None:
                await ctx.store.save_melt_quote(tx, replace(quote, state="UNPAID"))

    await ctx.storage.transact(body)
    ctx.telemetry.count("wallet_operation", purpose=str(operation.purpose), state="FAILED")


def _counters(operation: Operation) -> dict[str, list[int]]:
    taken: dict[str, list[int]] = {}
    for output in operation.outputs:
        if output.counter is not None:
            taken.setdefault(output.keyset_id, []).append(output.counter)
    return taken


async def _give_back_counters(ctx: Context, tx: Transaction, operation: Operation) -> None:
    for keyset_id, counters in _counters(operation).items():
        if max(counters) - min(counters) + 1 == len(counters):
            await ctx.store.return_counters(tx, operation.mint, keyset_id, min(counters), len(counters))


async def settle(
    ctx: Context, operation: Operation, coins: Sequence[tuple[Output, StoredProof]], *, paid: MeltQuote | None = None
) -> None:
    """Close an operation that took effect: new coins in, old ones SPENT, token, quote and history written, at once.

    Also where another process, which did not reach the mint, has closed it as FAILED and given its counters back meanwhile.
    """
    now = ctx.clock.now()
    kept = [stored for output, stored in coins if output.role is not Role.SEND]
    sent = [stored for output, stored in coins if output.role is Role.SEND]
    token = _token(operation, sent, now) if sent else None
    more = [ctx.new_id() for _ in operation.claims[1:]]

    async def body(tx: Transaction) -> None:
        if not await ctx.store.close_operation(tx, operation.operation_id, OperationState.DONE, "", now):
            return
        for keyset_id, counters in _counters(operation).items():
            await ctx.store.raise_counter(tx, operation.mint, keyset_id, max(counters) + 1)
        inputs = await ctx.store.proofs_by_y(tx, operation.inputs)
        await ctx.store.add_proofs(tx, kept, now)
        if token is not None:
            handed = [replace(s, state=CoinState.PENDING, token=token.token_id) for s in sent]
            await ctx.store.add_proofs(tx, handed, now)
            await ctx.store.add_token(tx, token)
        await ctx.store.move_proofs(tx, operation.inputs, _LIVE, CoinState.SPENT, now)
        for token_id in {stored.token for stored in inputs if stored.token is not None}:
            await ctx.store.close_token(tx, token_id, TokenState.RECLAIMED)
        fee, reference = operation.fee, None
        if operation.kind is Kind.MINT:
            whole = _entry(replace(operation, amount=sum(s.proof.amount for s in kept)), operation.fee, None, now)
            for entry in await _issued(ctx, tx, operation, whole, more):
                await ctx.store.add_history(tx, entry)
            return
        if paid is not None:
            fee = sum(s.proof.amount for s in inputs) - sum(s.proof.amount for s in kept) - operation.amount
            reference = await _paid(ctx, tx, operation, paid)
        elif token is not None:
            reference = token.token_id
        await ctx.store.add_history(tx, _entry(operation, fee, reference, now))

    await ctx.storage.transact(body)
    ctx.telemetry.count("wallet_operation", purpose=str(operation.purpose), state="DONE")


def _entry(operation: Operation, fee: int, reference: str | None, now: int) -> HistoryEntry:
    return HistoryEntry(
        entry_id=operation.operation_id,
        at=now,
        kind=str(operation.purpose),
        mint=operation.mint,
        unit=operation.unit,
        amount=operation.amount,
        fee=fee,
        memo=operation.memo,
        reference=reference,
    )


def _token(operation: Operation, sent: Sequence[StoredProof], now: int) -> SentToken:
    proofs = [stored.proof for stored in sent]
    return SentToken(
        token_id=operation.operation_id,
        mint=operation.mint,
        unit=operation.unit,
        amount=sum(proof.amount for proof in proofs),
        text=token_text(operation.mint, operation.unit, proofs, operation.memo, include_dleq=operation.include_dleq),
        memo=operation.memo,
        state=TokenState.PENDING,
        locked=operation.locked,
        created_at=now,
    )


async def _issued(
    ctx: Context, tx: Transaction, operation: Operation, whole: HistoryEntry, more: Sequence[str]
) -> list[HistoryEntry]:
    """Write down what was issued of each claimed quote; a line of the history for each, together `whole`."""
    claims = operation.claims or (Claimed(operation.quote or "", whole.amount, 0),)
    entries: list[HistoryEntry] = []
    for entry_id, claimed in zip((operation.operation_id, *more), claims, strict=True):
        quote = await ctx.store.mint_quote(tx, operation.mint, claimed.quote)
        if quote is None:
            continue
        issued = max(quote.amount_issued, claimed.issued + claimed.amount)
        await ctx.store.save_mint_quote(tx, replace(quote, amount_paid=max(quote.amount_paid, issued), amount_issued=issued))
        entries.append(replace(whole, entry_id=entry_id, amount=claimed.amount, reference=quote.request))
    if len(entries) == 1 or sum(entry.amount for entry in entries) != whole.amount:
        return [replace(whole, reference=entries[0].reference if entries else None)]
    return entries


async def _paid(ctx: Context, tx: Transaction, operation: Operation, paid: MeltQuote) -> str | None:
    quote = await ctx.store.melt_quote(tx, operation.mint, operation.quote or "")
    if quote is None:
        return None
    seen = replace(quote, state="PAID", preimage=paid.payment_preimage, outpoint=paid.outpoint)
    await ctx.store.save_melt_quote(tx, seen)
    return quote.request
