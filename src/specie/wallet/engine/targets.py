"""Targets over mints: what each should hold, and the transfers that bring it there.

A rebalance is a row of transfers, one after another; each is whole in itself, so one that is interrupted leaves the wallet as
valid as before, and the next plan begins from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from specie.ecash.mint_url import mint_url_checked
from specie.kernel.errors import SpecieError
from specie.kernel.money import unit_checked
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import known_mint
from specie.wallet.engine.transfer import Transfers, payment_bounds
from specie.wallet.errors import MintUnknownError
from specie.wallet.selection import net_value, spendable
from specie.wallet.states import CoinState
from specie.wallet.target import Holding, Move, Target, check_targets, most_wanting, plan_moves
from specie.wallet.transfer import Transfer, TransferState

__all__ = ["Rebalance", "Targets", "holdings_of"]

MIN_MOVE = 10
COST_PPM = 20_000


@dataclass(frozen=True, slots=True)
class Rebalance:
    """A plan, and what came of it: `transfers` that were begun, and `refused` moves with the reason."""

    unit: str
    moves: tuple[Move, ...]
    transfers: tuple[Transfer, ...] = ()
    refused: tuple[tuple[Move, str], ...] = ()


async def holdings_of(ctx: Context, unit: str) -> list[Holding]:
    """What each known mint holds of a unit, in the order they were added; asks nobody. Sent tokens do not count."""
    records = await ctx.storage.read(ctx.store.mints)
    gone = {one.mint for one in await ctx.storage.read(ctx.store.leaving)}
    coins = defaultdict(list)
    for stored in await ctx.storage.read(lambda tx: ctx.store.proofs(tx, unit=unit)):
        coins[stored.mint].append(stored)
    found: list[Holding] = []
    for record in records:
        held = [p for p in coins[record.url] if p.token is None]
        free = [p for p in spendable(held) if p.state is CoinState.UNSPENT]
        info = await ctx.info(record.url)
        terms = await ctx.terms(record.url, free)
        least, most = payment_bounds(info.methods(4), unit)
        least_out, most_out = payment_bounds(info.methods(5), unit)
        takes = ctx.choose_keyset(await ctx.keysets(record.url), unit) is not None
        found.append(
            Holding(
                mint=record.url,
                held=sum(p.proof.amount for p in held),
                movable=max(net_value(free, terms), 0),
                leaving=record.url in gone,
                least=least,
                most=most,
                least_out=least_out,
                most_out=most_out,
                takes=takes and ("4" not in info.nuts or info.supports(4)),
            )
        )
    return found


class Targets:
    """`wallet.targets`: a share or a maximum for each mint and unit, and the way there."""

    def __init__(self, context: Context, transfers: Transfers) -> None:
        """Work on a wallet's context, by its transfers."""
        self._context = context
        self._transfers = transfers

    async def set(self, mint: str, *, unit: str = "sat", share_ppm: int | None = None, maximum: int | None = None) -> Target:
        """Give a mint a share (millionths of all money of the unit), a maximum, or both; replaces what it had.

        MintUnknownError; MalformedError where the shares of the unit would be more than the whole.
        """
        ctx = self._context
        target = Target(mint_url_checked(mint), unit_checked(unit), share_ppm, maximum)
        if not await known_mint(ctx, target.mint):
            raise MintUnknownError(target.mint)
        others = [one for one in await self.all() if (one.mint, one.unit) != (target.mint, target.unit)]
        check_targets([*others, target])
        await ctx.storage.transact(lambda tx: ctx.store.save_target(tx, target))
        return target

    async def clear(self, *, mint: str | None = None, unit: str | None = None) -> int:
        """Forget targets: of a mint, of a unit, or all; how many there were."""
        ctx = self._context
        url = None if mint is None else mint_url_checked(mint)
        kind = None if unit is None else unit_checked(unit)
        return await ctx.storage.transact(lambda tx: ctx.store.drop_targets(tx, mint=url, unit=kind))

    async def all(self) -> Sequence[Target]:
        """The targets, by unit and mint."""
        return await self._context.storage.read(self._context.store.targets)

    async def holdings(self, *, unit: str = "sat") -> Sequence[Holding]:
        """What each mint holds of a unit against its target; asks nobody."""
        return await holdings_of(self._context, unit_checked(unit))

    async def plan(self, *, unit: str = "sat", min_move: int = MIN_MOVE, cost_ppm: int = COST_PPM) -> Rebalance:
        """The fewest moves that meet the targets of a unit; asks nobody. Mints being left are emptied as well."""
        unit = unit_checked(unit)
        wanted = {one.mint: one for one in await self.all() if one.unit == unit}
        if not wanted:
            return Rebalance(unit, ())
        holdings = await holdings_of(self._context, unit)
        return Rebalance(unit, plan_moves(holdings, wanted, min_move=min_move, cost_ppm=cost_ppm))

    async def rebalance(
        self,
        *,
        unit: str = "sat",
        dry_run: bool = False,
        min_move: int = MIN_MOVE,
        cost_ppm: int = COST_PPM,
        wait_s: float | None = None,
    ) -> Rebalance:
        """Plan, and unless `dry_run` carry the moves out one after another. A move that may cost too much is left, and said.

        After a transfer whose end is not known no further one leaves the same mint.
        """
        plan = await self.plan(unit=unit, min_move=min_move, cost_ppm=cost_ppm)
        if dry_run:
            return plan
        done: list[Transfer] = []
        refused: list[tuple[Move, str]] = []
        waiting: set[str] = set()
        for move in plan.moves:
            if move.source in waiting:
                refused.append((move, "another transfer from this mint is still on its way"))
                continue
            try:
                transfer = await self._transfers.move(
                    move.amount,
                    source=move.source,
                    destination=move.destination,
                    unit=plan.unit,
                    max_fee=move.max_fee,
                    wait_s=wait_s,
                )
            except SpecieError as error:
                refused.append((move, error.detail))
                continue
            done.append(transfer)
            if transfer.state is TransferState.PAYING:
                waiting.add(move.source)
        return replace(plan, transfers=tuple(done), refused=tuple(refused))

    async def preferred(self, *, unit: str = "sat") -> Sequence[str]:
        """Mints for new money: those whose share lacks most first; none that is full, being left or takes no money."""
        unit = unit_checked(unit)
        wanted = {one.mint: one for one in await self.all() if one.unit == unit}
        return most_wanting(await holdings_of(self._context, unit), wanted)
