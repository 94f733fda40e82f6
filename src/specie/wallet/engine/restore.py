"""The wallet from its words alone (NUT-13, NUT-09, NUT-07): every keyset of a mint, inactive ones and all units included.

Batches of counters are derived and asked about until several in a row are empty; answers are matched by B_. Coins that
are still live are stored, and each counter is put behind its last hit. Not restorable by a seed: coins locked with random
secrets, and tokens received off-line; those need the wallet's file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from specie.ecash.proof import State
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import refresh
from specie.wallet.engine.outputs import coins_from, probe_outputs
from specie.wallet.engine.perform import restored_pairs, states_of
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import KnownKeyset, StoredProof
from specie.wallet.operation import Kind, Operation, Purpose
from specie.wallet.states import CoinState

__all__ = ["Restored", "restore_keys", "restore_mint"]

Progress = Callable[[str, int, int], None]
"""Called with keyset id, counters asked about so far, and coins found so far."""

_COIN_STATES = {State.UNSPENT: CoinState.UNSPENT, State.PENDING: CoinState.PENDING}


@dataclass(frozen=True, slots=True)
class Restored:
    """What a mint still had of a seed, of one unit: `amount` free now, `pending` held by the mint, `spent` coins seen."""

    mint: str
    unit: str
    amount: int
    pending: int
    coins: int
    spent: int


async def restore_mint(ctx: Context, mint: str, progress: Progress | None = None) -> list[Restored]:
    """Restore from one mint, which is added if it is new; one result a unit. Safe to repeat: known coins are left alone."""
    await refresh(ctx, mint)
    totals: dict[str, Restored] = {}
    for known in await ctx.keysets(mint):
        one = await _restore_keyset(ctx, known, progress)
        unit = known.keyset.unit
        old = totals.get(unit, Restored(mint, unit, 0, 0, 0, 0))
        totals[unit] = Restored(
            mint, unit, old.amount + one.amount, old.pending + one.pending, old.coins + one.coins, old.spent + one.spent
        )
    return list(totals.values())


async def _restore_keyset(ctx: Context, known: KnownKeyset, progress: Progress | None) -> Restored:
    keyset, mint = known.keyset, known.mint
    carrier = _carrier(mint, keyset.unit)
    found: list[StoredProof] = []
    batch = min(ctx.settings.restore_batch, await ctx.array_limit(mint))
    start = empty = 0
    last: int | None = None
    while empty < ctx.settings.restore_gap * ctx.settings.restore_batch:
        outputs = await probe_outputs(ctx, keyset.id, start, batch)
        pairs = await restored_pairs(ctx, mint, outputs)
        for output, stored in coins_from(carrier, pairs, [known], require_dleq=False, restored=True):
            found.append(stored)
            if output.counter is not None:
                last = output.counter if last is None else max(last, output.counter)
        empty = 0 if pairs else empty + batch
        start += batch
        if progress is not None:
            progress(keyset.id, start, len(found))
    return await _store(ctx, known, found, last)


async def _store(ctx: Context, known: KnownKeyset, found: list[StoredProof], last: int | None) -> Restored:
    """States of what was found; live coins, counter and a line of history in one transaction.

    A coin that is stored as free and that the mint calls SPENT (a backup put back, another device) is free no longer.
    """
    mint, unit = known.mint, known.keyset.unit
    states = await states_of(ctx, mint, [stored.y for stored in found]) if found else {}
    gone = [stored.y for stored in found if states[stored.y] is State.SPENT]
    live = [replace(s, state=_COIN_STATES[states[s.y]]) for s in found if states[s.y] in _COIN_STATES]
    now, entry_id = ctx.clock.now(), ctx.new_id()

    async def body(tx: Transaction) -> list[StoredProof]:
        if last is not None:
            await ctx.store.raise_counter(tx, mint, known.keyset.id, last + 1)
        await ctx.store.move_proofs(tx, gone, (CoinState.UNSPENT, CoinState.PENDING), CoinState.SPENT, now)
        already = {stored.y for stored in await ctx.store.proofs_by_y(tx, [s.y for s in live])}
        new = [stored for stored in live if stored.y not in already]
        await ctx.store.add_proofs(tx, new, now)
        amount = sum(s.proof.amount for s in new if s.state is CoinState.UNSPENT)
        if amount:
            await ctx.store.add_history(tx, HistoryEntry(entry_id, now, "restore", mint, unit, amount, 0))
        return new

    new = await ctx.storage.transact(body)
    return Restored(
        mint=mint,
        unit=unit,
        amount=sum(s.proof.amount for s in new if s.state is CoinState.UNSPENT),
        pending=sum(s.proof.amount for s in new if s.state is CoinState.PENDING),
        coins=len(new),
        spent=len(found) - len(live),
    )


def _carrier(mint: str, unit: str) -> Operation:
    """An operation that only names the mint to those who unblind."""
    return Operation(
        operation_id="",
        kind=Kind.SWAP,
        purpose=Purpose.RECEIVE,
        mint=mint,
        unit=unit,
        amount=0,
        fee=0,
        request=b"",
        inputs=(),
        outputs=(),
    )


async def restore_keys(ctx: Context, purpose: str, count: int) -> None:
    """Know the first `count` of our keys for locks (`p2pk`) or quotes (`quote`) again; fresh ones come behind them.

    Keys behind those are found when a lock or a quote turns up that has one of them, within `settings.key_gap`.
    """
    keys = [await ctx.signer.public_key(f"{purpose}/{index}") for index in range(count)]

    async def body(tx: Transaction) -> None:
        for index, public in enumerate(keys):
            await ctx.store.save_key(tx, purpose, index, public)

    await ctx.storage.transact(body)
