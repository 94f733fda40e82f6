"""A backup taken up into this wallet: one transaction, then the mints are asked about what is not certain.

| a crash ...                    | leaves behind                                        | the next start or restore            |
|--------------------------------|------------------------------------------------------|--------------------------------------|
| before the transaction         | nothing                                              | restore again                        |
| after it, before the mints     | coins PENDING, operations OPEN                       | `resume` and `check_pending`         |
| between two mints              | the same, of the mints not asked yet                 | the same                             |
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from specie.ecash.proof import State
from specie.kernel.errors import PeerFaultError, RefusedError, UnavailableError
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.perform import states_of
from specie.wallet.holding import StoredProof
from specie.wallet.merge import MergeReport, Tables, merge_tables
from specie.wallet.states import CoinState

__all__ = ["CoinLook", "look_at_coins", "merge"]


@dataclass(frozen=True, slots=True)
class CoinLook:
    """What a mint says of free coins: `amount` of a unit in this state (UNSPENT, PENDING or SPENT; UNKNOWN: not reached)."""

    mint: str
    unit: str
    state: str
    coins: int
    amount: int


async def merge(ctx: Context, theirs: Tables) -> MergeReport:
    """Take up another state of this wallet, table by table, all of it or nothing. Nobody is asked yet."""

    async def body(tx: Transaction) -> MergeReport:
        changes, report = merge_tables(await ctx.store.tables(tx), theirs)
        await ctx.store.write(tx, changes)
        return report

    report = await ctx.storage.transact(body)
    ctx.forget_all_keysets()
    return report


async def look_at_coins(ctx: Context) -> list[CoinLook]:
    """Ask every mint about the coins that are free here; those that it calls SPENT are free no longer (NUT-07)."""
    by_place: dict[tuple[str, str], list[StoredProof]] = defaultdict(list)
    for stored in await ctx.storage.read(lambda tx: ctx.store.proofs(tx, states=(CoinState.UNSPENT,))):
        by_place[stored.mint, stored.unit].append(stored)
    looks: list[CoinLook] = []
    for (mint, unit), coins in sorted(by_place.items()):
        try:
            states = await states_of(ctx, mint, [stored.y for stored in coins])
        except (UnavailableError, RefusedError, PeerFaultError):
            looks.append(CoinLook(mint, unit, "UNKNOWN", len(coins), sum(stored.proof.amount for stored in coins)))
            continue
        await _mark_spent(ctx, [stored.y for stored in coins if states[stored.y] is State.SPENT])
        for state in State:
            these = [stored for stored in coins if states[stored.y] is state]
            if these:
                looks.append(CoinLook(mint, unit, str(state.value), len(these), sum(one.proof.amount for one in these)))
    return looks


async def _mark_spent(ctx: Context, ys: list[bytes]) -> None:
    now = ctx.clock.now()

    async def body(tx: Transaction) -> None:
        await ctx.store.move_proofs(tx, ys, (CoinState.UNSPENT,), CoinState.SPENT, now)

    if ys:
        await ctx.storage.transact(body)
