"""Whether a wallet that was just opened has anything to do: questions to its store alone, which load none of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.wallet.states import OperationState
from specie.wallet.transfer import TransferState

if TYPE_CHECKING:
    from specie.storage.ports import Transaction
    from specie.wallet.engine.context import Context

__all__ = ["OFFLINE_POLICY", "WATCH_POLICY", "is_unfinished", "may_watch", "receives_offline"]

OFFLINE_POLICY = "offline"
"""Under which name the store has the policy of receipts without a mint."""
WATCH_POLICY = "watch"
"""Under which name the store has the policy of looking after mints."""


async def is_unfinished(ctx: Context) -> bool:
    """Whether an operation or a transfer is not at its end."""

    async def body(tx: Transaction) -> bool:
        if await ctx.store.operations(tx, (OperationState.OPEN,)):
            return True
        return bool(await ctx.store.transfers(tx, (TransferState.PAYING, TransferState.PAID)))

    return await ctx.storage.read(body)


async def receives_offline(ctx: Context) -> bool:
    """Whether a policy of receipts without a mint is in use, so that some may wait to be settled."""
    return await ctx.storage.read(lambda tx: ctx.store.policy(tx, OFFLINE_POLICY)) is not None


async def may_watch(ctx: Context) -> bool:
    """Whether a check of the mints may be due: a policy was set, or a mint is being left. Without both none ever is."""

    async def body(tx: Transaction) -> bool:
        return await ctx.store.policy(tx, WATCH_POLICY) is not None or bool(await ctx.store.leaving(tx))

    return await ctx.storage.read(body)
