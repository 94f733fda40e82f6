"""What this process has seen of mints, written down; and whether a mint takes anything new. The rest of it is `exits`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.wallet.errors import MintLeavingError

if TYPE_CHECKING:
    from specie.storage.ports import Transaction
    from specie.wallet.engine.context import Context

__all__ = ["QUIET_S", "check_income", "note_seen"]

QUIET_S = 3600
"""How long a mint that answers goes without being asked or noted again."""


async def check_income(ctx: Context, mint: str) -> None:
    """MintLeavingError where nothing new is taken at this mint."""
    if any(one.mint == mint for one in await ctx.storage.read(ctx.store.leaving)):
        raise MintLeavingError(mint)


async def note_seen(ctx: Context) -> None:
    """Add what was seen since the last time to what the store has of each mint."""
    from specie.wallet.placement import MintHealth

    tallies = dict(ctx.tallies.items())

    async def body(tx: Transaction) -> None:
        known = {one.mint: one for one in await ctx.store.health(tx)}
        ours = {record.url for record in await ctx.store.mints(tx)}
        for mint, tally in tallies.items():
            old = known.get(mint, MintHealth(mint))
            new = tally.added_to(old)
            recent = new.answered_at is not None and new.answered_at - (old.answered_at or 0) >= QUIET_S
            if mint in ours and (new.failures != old.failures or new.failed_at != old.failed_at or recent):
                await ctx.store.save_health(tx, new)

    if any(tally.failures or tally.answered_at is not None for tally in tallies.values()):
        await ctx.storage.transact(body)
    for tally in tallies.values():
        tally.answered_at, tally.failures, tally.failing_since, tally.failed_at = None, 0, None, None
