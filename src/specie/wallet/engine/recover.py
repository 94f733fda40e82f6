"""After a crash, a lost answer or a long absence: operations are carried to their end, and coins out of hand are looked at.

Two processes may resume one operation: both send the same bytes, and the store lets one of them settle it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from specie.ecash.proof import State
from specie.kernel.errors import PeerFaultError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.storage.ports import Transaction
from specie.wallet.engine import journal
from specie.wallet.engine.batch import claim_all
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import known_mint
from specie.wallet.engine.pay import finish_payment
from specie.wallet.engine.perform import perform, states_of, taken_up
from specie.wallet.engine.split import at_once, watch_torn
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import StoredProof
from specie.wallet.operation import Kind, Operation
from specie.wallet.states import CoinState, OperationState, TokenState

__all__ = ["CheckReport", "ResumeReport", "check_pending", "resume"]


@dataclass(slots=True)
class ResumeReport:
    """Ids of operations: `settled` took effect, `failed` did not, `open` are not known yet (with the reason)."""

    settled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class CheckReport:
    """What a look at coins and quotes changed: ids of tokens `claimed` by others, what was `minted` and `released` by unit."""

    claimed: list[str] = field(default_factory=list)
    minted: dict[str, int] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)
    unreachable: list[str] = field(default_factory=list)


async def resume(ctx: Context, *, wait_s: float = 0.0) -> ResumeReport:
    """Carry every OPEN operation, but those a task of this process is at, as far as the mints allow; never raises for one."""
    report = ResumeReport()
    together: dict[str, list[str]] = defaultdict(list)
    for listed in await ctx.storage.read(lambda tx: ctx.store.operations(tx, (OperationState.OPEN,))):
        name = listed.operation_id
        payment = await ctx.storage.read(lambda tx, name=name: ctx.store.payment_of(tx, name))  # type: ignore[misc]
        together[name if payment is None else payment.payment_id].append(name)
    for names in together.values():  # the parts of one payment at the same time, or the payee gives up on the first
        await at_once([_resume_listed(ctx, name, wait_s, report) for name in names])
        await watch_torn(ctx, names[-1])
    return report


async def _resume_listed(ctx: Context, operation_id: str, wait_s: float, report: ResumeReport) -> None:
    async with taken_up(ctx, operation_id) as operation:
        if operation is None:
            return
        if not await known_mint(ctx, operation.mint):
            report.open[operation.operation_id] = f"its mint {operation.mint} was removed; adding it again takes this up"
            return
        failure: SpecieError | None = None
        try:
            await _resume_one(ctx, operation, wait_s)
        except SpecieError as error:
            failure = error
        await _sort(ctx, operation, failure, report)


async def _resume_one(ctx: Context, operation: Operation, wait_s: float) -> None:
    if operation.kind is Kind.MELT:
        await finish_payment(ctx, operation, wait_s=wait_s)
    else:
        await perform(ctx, operation, resumed=True)


async def _sort(ctx: Context, operation: Operation, error: SpecieError | None, report: ResumeReport) -> None:
    now = await ctx.storage.read(lambda tx: ctx.store.operation(tx, operation.operation_id))
    match now.state if now is not None else OperationState.FAILED:
        case OperationState.DONE:
            report.settled.append(operation.operation_id)
        case OperationState.FAILED:
            report.failed.append(operation.operation_id)
        case OperationState.OPEN:
            reason = error.detail if error is not None else "the payment is on its way"
            report.open[operation.operation_id] = reason
            if error is not None and not isinstance(error, (UnavailableError, UncertainError)):
                await journal.note(ctx, operation, reason)


async def check_pending(ctx: Context, *, claim_paid: bool = True) -> CheckReport:
    """Look at coins that are PENDING and at quotes that are not issued; coins of OPEN operations are left to `resume`."""
    report = CheckReport()
    by_mint: dict[str, list[StoredProof]] = defaultdict(list)
    for stored in await ctx.storage.read(lambda tx: ctx.store.proofs(tx, states=(CoinState.PENDING,))):
        by_mint[stored.mint].append(stored)
    for mint, coins in by_mint.items():
        try:
            await _check_coins(ctx, mint, coins, report)
        except (UnavailableError, RefusedError, PeerFaultError):
            report.unreachable.append(mint)
    if claim_paid:
        report.minted = await claim_all(ctx)
    return report


async def _check_coins(ctx: Context, mint: str, coins: list[StoredProof], report: CheckReport) -> None:
    states = await states_of(ctx, mint, [stored.y for stored in coins])
    spent = [s for s in coins if states[s.y] is State.SPENT]
    free = [s for s in coins if states[s.y] is State.UNSPENT and s.token is None]
    now = ctx.clock.now()

    async def body(tx: Transaction) -> list[str]:
        await ctx.store.move_proofs(tx, [s.y for s in spent], (CoinState.PENDING,), CoinState.SPENT, now)
        await ctx.store.move_proofs(tx, [s.y for s in free], (CoinState.PENDING,), CoinState.UNSPENT, now)
        left = {s.token for s in await ctx.store.proofs(tx, mint=mint, states=(CoinState.PENDING,))}
        gone = sorted({s.token for s in spent if s.token is not None and s.token not in left})
        claimed: list[str] = []
        for token_id in gone:
            token = await ctx.store.token(tx, token_id)
            if token is not None and await ctx.store.close_token(tx, token_id, TokenState.CLAIMED):
                claimed.append(token_id)
                entry = HistoryEntry(ids[token_id], now, "claimed", mint, token.unit, token.amount, 0, token.memo, token_id)
                await ctx.store.add_history(tx, entry)
        return claimed

    ids = {s.token: ctx.new_id() for s in spent if s.token is not None}
    report.claimed += await ctx.storage.transact(body)
    for stored in free:
        report.released[stored.unit] = report.released.get(stored.unit, 0) + stored.proof.amount
