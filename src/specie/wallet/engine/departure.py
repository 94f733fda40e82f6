"""Moving the money of a mint that is being left: the part of `exits` that acts. The crash tables stand there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from specie.kernel.errors import SpecieError, UnavailableError
from specie.storage.ports import Transaction
from specie.wallet.engine import receive
from specie.wallet.engine.batch import claim_all
from specie.wallet.engine.context import Context
from specie.wallet.engine.send import SendOrder, hand_out
from specie.wallet.engine.targets import Targets, holdings_of
from specie.wallet.engine.transfer import Transfers
from specie.wallet.errors import FeeExceedsLimitError, FeeExceedsValueError
from specie.wallet.holding import SentToken
from specie.wallet.placement import Leaving
from specie.wallet.selection import Selection, spendable
from specie.wallet.states import CoinState
from specie.wallet.transfer import Transfer, TransferState

__all__ = ["LEASE_S", "Departure", "Departures", "Dust", "Stuck", "has_free", "may_try", "stuck_at"]

LEASE_S = 300
"""For so long one who moves money out is not disturbed by another check."""
_DUST_S = 86_400
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Dust:
    """Free money that is not worth moving, and why; `token` is that money, where it was asked for as one."""

    unit: str
    amount: int
    reason: str
    token: SentToken | None = None


@dataclass(frozen=True, slots=True)
class Stuck:
    """Money at a mint of one unit, by what holds it. Known without asking anybody."""

    mint: str
    unit: str
    available: int = 0
    unswapped: int = 0
    """Received off-line, locked or not, and not swapped yet."""
    reserved: int = 0
    """In operations whose end is not known."""
    sent: int = 0
    """In tokens that nobody has redeemed yet."""


@dataclass(slots=True)
class Departure:
    """What leaving a mint has come to. `empty`: nothing of ours is there any more, so the mint can be removed."""

    mint: str
    transfers: list[Transfer] = field(default_factory=list)
    dust: list[Dust] = field(default_factory=list)
    stuck: list[Stuck] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    empty: bool = False


async def stuck_at(ctx: Context, mint: str | None = None) -> list[Stuck]:
    """What is at a mint, or at all of them, by what holds it; asks nobody."""
    return [
        Stuck(one.mint or "", one.unit, one.available, one.unswapped, one.reserved, one.sent)
        for one in await ctx.storage.read(lambda tx: ctx.store.balances(tx, mint=mint))
    ]


def has_free(stuck: Sequence[Stuck]) -> bool:
    """Whether there is money that could be moved."""
    return any(one.available or one.unswapped for one in stuck)


def may_try(mark: Leaving, now: int) -> bool:
    """Whether a check may move now. A time that is further off than any we set comes from a clock that was put back."""
    return not now < mark.again_at <= now + _DUST_S


class Departures:
    """Carries departures out, for `Exits`."""

    def __init__(self, context: Context, transfers: Transfers, targets: Targets) -> None:
        """Work on a wallet's context."""
        self._context = context
        self._transfers = transfers
        self._targets = targets

    async def claim(self, mark: Leaving, again_at: int) -> bool:
        """Mark a mint as being left, until `again_at` by us alone; False where another one is at it, or it is too early."""
        ctx = self._context
        now = ctx.clock.now()

        async def body(tx: Transaction) -> bool:
            known = next((one for one in await ctx.store.leaving(tx) if one.mint == mark.mint), None)
            if known is not None and not may_try(known, now):
                return False
            await ctx.store.save_leaving(tx, replace(known or mark, again_at=again_at))
            return True

        return await ctx.storage.transact(body)

    async def depart(
        self, mark: Leaving, named: tuple[str, ...], among: Sequence[str], dust_as_token: bool, wait_s: float | None
    ) -> Departure:
        """Move what is free at a marked mint: to `named`, or wherever targets say (`among` these, if any are given)."""
        ctx, url, report = self._context, mark.mint, Departure(mark.mint)
        await self._gather(url, report)
        dust = True
        for unit in sorted({one.unit for one in await stuck_at(ctx, url)}):
            dust &= await self._empty(mark, unit, named, among, wait_s, report)
            await self._sweep(url, unit, dust_as_token, report)
        report.stuck = list(await stuck_at(ctx, url))
        report.empty = not report.stuck
        again_at = ctx.clock.now() + _DUST_S if dust and has_free(report.stuck) else 0

        async def body(tx: Transaction) -> None:
            for one in await ctx.store.leaving(tx):
                if one.mint == url:  # `stay` may have taken the mark off meanwhile
                    await ctx.store.save_leaving(tx, replace(one, again_at=again_at))

        await ctx.storage.transact(body)
        return report

    async def _gather(self, url: str, report: Departure) -> None:
        """Have what is as good as ours: coins received off-line, and invoices that were paid."""
        ctx = self._context
        try:
            for unit in sorted({one.unit for one in await stuck_at(ctx, url) if one.unswapped}):
                await receive.secure(ctx, url, unit)
            await claim_all(ctx, url)
        except SpecieError as error:
            report.problems.append(error.detail)

    async def _empty(
        self,
        mark: Leaving,
        unit: str,
        named: tuple[str, ...],
        among: Sequence[str],
        wait_s: float | None,
        report: Departure,
    ) -> bool:
        """Move until nothing is worth moving (True), the destinations are full, or a transfer's end is not known."""
        url = mark.mint
        targets = {one.mint: one.maximum for one in await self._targets.all() if one.unit == unit and not named}
        places = list(named) or [one for one in await self._targets.preferred(unit=unit) if one != url]
        places = [one for one in places if not among or one in among]
        if not places:
            report.problems.append(f"no other mint takes {unit}")
        for _ in range(_ROUNDS):
            if not places:
                return False
            held = {one.mint: one.held for one in await holdings_of(self._context, unit)}
            most = targets.get(places[0])
            room = None if most is None else most - held.get(places[0], 0)
            if room is not None and room <= 0:
                places.pop(0)
                continue
            try:
                transfer = await self._transfers.move(
                    None, source=url, destination=places[0], unit=unit, cost_ppm=mark.cost_ppm, at_most=room, wait_s=wait_s
                )
            except (FeeExceedsValueError, FeeExceedsLimitError) as error:
                report.problems += [] if report.transfers else [error.detail]
                return True
            except UnavailableError as error:
                report.problems.append(error.detail)
                places.pop(0)
                continue
            except SpecieError as error:
                report.problems.append(error.detail)
                places.pop(0)
                continue
            report.transfers.append(transfer)
            if transfer.state is TransferState.PAYING:
                return False
        return False

    async def _sweep(self, url: str, unit: str, as_token: bool, report: Departure) -> None:
        """Name what is left free, and make it a token if that is wanted."""
        ctx = self._context
        free = spendable(
            await ctx.storage.read(lambda tx: ctx.store.proofs(tx, mint=url, unit=unit, states=(CoinState.UNSPENT,)))
        )
        amount = sum(p.proof.amount for p in free)
        if not amount:
            return
        reason = report.problems[-1] if report.problems else "moving it costs more than it is worth"
        token = None
        if as_token:
            order = SendOrder(mint=url, unit=unit, amount=amount, memo="left over")
            token = await hand_out(ctx, order, Selection(tuple(free), amount, 0))
        report.dust.append(Dust(unit, amount, reason, token))
