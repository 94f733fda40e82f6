"""Sending: coins become a token. Exact coins are handed out as they are; otherwise a swap makes them.

A token is recorded with its coins before its text is given to anybody, so it can be followed and reclaimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specie.ecash import wire
from specie.ecash.codes import ProofsSpentError
from specie.ecash.keyset import Keyset
from specie.ecash.requests import LockOption
from specie.ecash.transaction import SwapRequest
from specie.kernel.errors import InvariantError, MalformedError, RefusedError
from specie.kernel.money import split_amount
from specie.storage.ports import Transaction
from specie.wallet.engine import journal
from specie.wallet.engine.context import Context
from specie.wallet.engine.locks import check_lock_supported, lock_secrets
from specie.wallet.engine.mints import active_keyset
from specie.wallet.engine.outputs import derived_outputs, kept_amounts, locked_outputs
from specie.wallet.engine.perform import RebuildError, perform
from specie.wallet.engine.tokens import token_text
from specie.wallet.errors import InsufficientFundsError
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import SentToken, StoredProof
from specie.wallet.lock import HTLC, P2PK
from specie.wallet.operation import Kind, Operation, Output, Purpose, Role, blinded_messages
from specie.wallet.selection import Selection, fee_of, select, select_exact, spendable
from specie.wallet.states import CoinState, TokenState

__all__ = ["SendOrder", "hand_out", "send", "swap_coins"]

_BUILDS = 5
_LARGE_FEE_PPK = 10_000


@dataclass(frozen=True, slots=True)
class SendOrder:
    """What to send: `amount` for the receiver; with `include_fee` the fee of the receiver's swap is put on top."""

    mint: str
    unit: str
    amount: int
    lock: P2PK | HTLC | LockOption | None = None
    memo: str | None = None
    include_dleq: bool = True
    include_fee: bool = False
    offline: bool = False
    also: journal.Also | None = None
    """Written with the intent, given the token's id; again, with another id, where the coins had to be chosen again."""


async def send(ctx: Context, order: SendOrder) -> SentToken:
    """Make a token. InsufficientFundsError; off-line also where no coins make the amount exactly (and for locks)."""
    if order.amount <= 0:
        raise MalformedError("an amount to send must be positive")
    if order.lock is None:
        token = await _send_exact(ctx, order)
        if token is not None:
            return token
    if order.offline:
        free = await _free(ctx, order.mint, order.unit)
        have = sum(p.proof.amount for p in free)
        if have >= order.amount:
            raise RefusedError("no coins make this amount exactly, and a swap needs the mint")
        raise InsufficientFundsError(order.amount, have, order.unit)
    for _ in range(_BUILDS):
        token = await _send_by_swap(ctx, order)
        if token is not None:
            return token
    raise RefusedError("the coins are being used by other operations; try again")


async def _free(ctx: Context, mint: str, unit: str) -> list[StoredProof]:
    return spendable(await ctx.storage.read(lambda tx: ctx.store.proofs(tx, mint=mint, unit=unit, states=(CoinState.UNSPENT,))))


async def _send_exact(ctx: Context, order: SendOrder) -> SentToken | None:
    """Hand out coins as they are, in one transaction; None where none fit or they were taken meanwhile."""
    free = await _free(ctx, order.mint, order.unit)
    terms = await ctx.terms(order.mint, free)
    limit = ctx.settings.limits.array_length
    chosen = select_exact(free, order.amount, terms, with_fee=order.include_fee, max_inputs=limit)
    if chosen is None or any(terms[p.proof.id].leaving for p in chosen.proofs):
        return None
    if order.include_dleq and any(p.proof.dleq is None for p in chosen.proofs):
        return None
    return await hand_out(ctx, order, chosen)


async def hand_out(ctx: Context, order: SendOrder, chosen: Selection) -> SentToken | None:
    """Make these coins a token as they are, in one transaction; None where one was taken meanwhile."""
    now, token_id = ctx.clock.now(), ctx.new_id()
    proofs = [p.proof for p in chosen.proofs]
    token = SentToken(
        token_id=token_id,
        mint=order.mint,
        unit=order.unit,
        amount=chosen.amount,
        text=token_text(order.mint, order.unit, proofs, order.memo, include_dleq=order.include_dleq),
        memo=order.memo,
        state=TokenState.PENDING,
        locked=False,
        created_at=now,
    )
    ys = [p.y for p in chosen.proofs]
    entry = HistoryEntry(token_id, now, str(Purpose.SEND), order.mint, order.unit, chosen.amount, 0, order.memo, token_id)

    async def body(tx: Transaction) -> bool:
        if not await ctx.store.reserve(tx, ys, token_id):
            await ctx.store.release(tx, token_id)
            return False
        await ctx.store.move_proofs(tx, ys, (CoinState.RESERVED,), CoinState.PENDING, now, token=token_id)
        await ctx.store.add_token(tx, token)
        await ctx.store.add_history(tx, entry)
        if order.also is not None:
            await order.also(tx, token_id)
        return True

    return token if await ctx.storage.transact(body) else None


async def _send_by_swap(ctx: Context, order: SendOrder) -> SentToken | None:
    keyset = await active_keyset(ctx, order.mint, order.unit)
    if order.lock is not None:
        await check_lock_supported(ctx, order.mint, order.lock)
    parts = _parts_for(order, keyset)
    selection = await _select(ctx, order.mint, order.unit, sum(parts))
    send_outputs = (
        await derived_outputs(ctx, order.mint, keyset, parts, Role.SEND)
        if order.lock is None
        else locked_outputs(ctx, keyset, parts, lock_secrets(ctx, order.lock, len(parts)))
    )
    operation = await swap_coins(
        ctx,
        selection.proofs,
        keyset,
        purpose=Purpose.SEND,
        amount=sum(parts),
        fee=selection.fee,
        kept=selection.net - sum(parts),
        more=send_outputs,
        memo=order.memo,
        include_dleq=order.include_dleq,
        locked=order.lock is not None,
        also=order.also,
    )
    if operation is None:
        return None
    token = await ctx.storage.read(lambda tx: ctx.store.token(tx, operation.operation_id))
    if token is None:
        raise InvariantError("a finished send left no token")
    return token


def _parts_for(order: SendOrder, keyset: Keyset) -> list[int]:
    """Amounts of the token's coins; with `include_fee` a total that leaves `amount` after swapping those very coins.

    The least such total, unless fees are so large that looking for it one by one would take long.
    """
    parts = split_amount(order.amount, keyset.keys)
    if not order.include_fee or not keyset.input_fee_ppk:
        return parts
    total = order.amount
    while total < order.amount + (fee := fee_of([keyset.input_fee_ppk] * len(parts))):
        total = total + 1 if keyset.input_fee_ppk <= _LARGE_FEE_PPK else order.amount + fee
        parts = split_amount(total, keyset.keys)
    return parts


async def _select(ctx: Context, mint: str, unit: str, target: int) -> Selection:
    free = await _free(ctx, mint, unit)
    terms = await ctx.terms(mint, free)
    return select(free, target, terms, unit=unit, max_inputs=await ctx.array_limit(mint))


async def swap_coins(
    ctx: Context,
    proofs: Sequence[StoredProof],
    keyset: Keyset,
    *,
    purpose: Purpose,
    amount: int,
    fee: int,
    kept: int,
    more: Sequence[Output] = (),
    memo: str | None = None,
    include_dleq: bool = True,
    locked: bool = False,
    amounts: Sequence[int] | None = None,
    also: journal.Also | None = None,
) -> Operation | None:
    """Swap coins of ours for `kept` (as `amounts` if given) in new coins and the outputs `more`.

    The operation once it is DONE; None where coins were taken or found spent, counters had to be moved, or the keyset was
    retired under us: choose coins and build it again.
    """
    kept_parts = list(amounts) if amounts is not None else await kept_amounts(ctx, proofs[0].mint, keyset, kept)
    keep = await derived_outputs(ctx, proofs[0].mint, keyset, kept_parts, Role.KEEP)
    outputs = tuple(sorted([*keep, *more], key=lambda output: output.amount))
    ordered = tuple(stored.proof for stored in proofs)
    now = ctx.clock.now()
    operation = Operation(
        operation_id=ctx.new_id(),
        kind=Kind.SWAP,
        purpose=purpose,
        mint=proofs[0].mint,
        unit=proofs[0].unit,
        amount=amount,
        fee=fee,
        request=wire.swap_request_to_json(SwapRequest(ordered, blinded_messages(outputs))),
        inputs=tuple(stored.y for stored in proofs),
        outputs=outputs,
        memo=memo,
        include_dleq=include_dleq,
        locked=locked,
        created_at=now,
        updated_at=now,
    )
    if not await journal.begin(ctx, operation, operation.inputs, also):
        return None
    try:
        await perform(ctx, operation)
    except (RebuildError, ProofsSpentError):
        return None
    return operation
