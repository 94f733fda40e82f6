"""Coins into other coins of ours: split, consolidate, and the move off keysets that are inactive or about to expire."""

from __future__ import annotations

from collections.abc import Sequence

from specie.kernel.errors import MalformedError, RefusedError
from specie.kernel.money import split_amount
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import active_keyset, fresh_keysets
from specie.wallet.engine.send import swap_coins
from specie.wallet.holding import StoredProof
from specie.wallet.operation import Operation, Purpose
from specie.wallet.selection import fee_of, net_value, select, spendable
from specie.wallet.states import CoinState

__all__ = ["consolidate", "rotate", "split"]

_BUILDS = 5


async def _free(ctx: Context, mint: str, unit: str) -> list[StoredProof]:
    return spendable(await ctx.storage.read(lambda tx: ctx.store.proofs(tx, mint=mint, unit=unit, states=(CoinState.UNSPENT,))))


async def split(ctx: Context, mint: str, unit: str, amounts: Sequence[int]) -> int:
    """Make coins that include exactly these amounts (each as its fewest denominations); the fee paid."""
    if not amounts or min(amounts) <= 0:
        raise MalformedError("amounts to split into must be positive")
    for _ in range(_BUILDS):
        keyset = await active_keyset(ctx, mint, unit)
        parts = [coin for amount in amounts for coin in split_amount(amount, keyset.keys)]
        free = await _free(ctx, mint, unit)
        chosen = select(free, sum(parts), await ctx.terms(mint, free), unit=unit, max_inputs=await ctx.array_limit(mint))
        rest = chosen.net - sum(parts)
        parts = sorted(parts + (split_amount(rest, keyset.keys) if rest else []))
        done = await swap_coins(
            ctx,
            chosen.proofs,
            keyset,
            purpose=Purpose.SPLIT,
            amount=chosen.amount,
            fee=chosen.fee,
            kept=chosen.net,
            amounts=parts,
        )
        if done is not None:
            return done.fee
    raise RefusedError("the coins are being used by other operations; try again")


async def consolidate(ctx: Context, mint: str, unit: str) -> int:
    """Swap all free coins for as few as possible; the fee paid. Coins not worth their own fee are left alone."""
    fee = 0
    for group in await _groups(ctx, mint, unit, leaving_only=False):
        operation = await _into_few(ctx, group, Purpose.CONSOLIDATE)
        fee += 0 if operation is None else operation.fee
    return fee


async def rotate(ctx: Context, mint: str, unit: str) -> int:
    """Swap coins of inactive or soon expiring keysets to the active one; how much was moved.

    Coins whose fee eats their value are left, and reported.
    """
    await fresh_keysets(ctx, mint, force=True)
    moved = 0
    for group in await _groups(ctx, mint, unit, leaving_only=True):
        operation = await _into_few(ctx, group, Purpose.ROTATE)
        moved += 0 if operation is None else operation.amount - operation.fee
    return moved


async def _groups(ctx: Context, mint: str, unit: str, *, leaving_only: bool) -> list[list[StoredProof]]:
    free = await _free(ctx, mint, unit)
    terms = await ctx.terms(mint, free)
    free = [p for p in free if 1000 * p.proof.amount > terms[p.proof.id].input_fee_ppk]
    if leaving_only:
        target = ctx.choose_keyset(await ctx.keysets(mint), unit)
        free = [p for p in free if terms[p.proof.id].leaving and (target is None or p.proof.id != target.id)]
    limit = await ctx.array_limit(mint)
    free.sort(key=lambda p: p.proof.amount)
    return [free[start : start + limit] for start in range(0, len(free), limit)]


async def _into_few(ctx: Context, group: Sequence[StoredProof], purpose: Purpose) -> Operation | None:
    """Swap these coins for as few as possible; None where the fee eats them or they were taken meanwhile."""
    mint, unit = group[0].mint, group[0].unit
    keyset = await active_keyset(ctx, mint, unit)
    terms = await ctx.terms(mint, group)
    total = sum(p.proof.amount for p in group)
    fee = fee_of(terms[p.proof.id].input_fee_ppk for p in group)
    if net_value(group, terms) <= 0:
        ctx.telemetry.event("wallet_coins_not_worth_their_fee", mint=mint, unit=unit, amount=total, fee=fee)
        return None
    parts = split_amount(total - fee, keyset.keys)
    if purpose is Purpose.CONSOLIDATE and len(parts) >= len(group):
        return None
    return await swap_coins(ctx, group, keyset, purpose=purpose, amount=total, fee=fee, kept=total - fee, amounts=parts)
