"""Leaving a mint: nothing new comes in, what can be moved is moved, what cannot is named, and then the mint is forgotten.

| a crash ...                  | leaves behind                      | then                                                     |
|------------------------------|------------------------------------|----------------------------------------------------------|
| after the mark               | a mint that takes nothing new      | `leave` again moves what is there; `stay` takes it off   |
| during a transfer            | see `transfer`                     | `resume` ends it, `leave` again moves the rest           |
| after coins became a token   | a sent token, on record            | it can be reclaimed                                      |
| before a mint is forgotten   | the mint and its coins             | nothing                                                  |

A mint is forgotten with the same commit that hands its coins out, if that was forced; keysets and counters stay for good.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from specie.ecash.mint_url import mint_url_checked
from specie.kernel.errors import RefusedError, SpecieError, UnavailableError
from specie.storage.ports import Transaction
from specie.wallet.engine import receive
from specie.wallet.engine.batch import claim_all
from specie.wallet.engine.context import Context
from specie.wallet.engine.locks import is_locked
from specie.wallet.engine.mints import known_mint, refresh
from specie.wallet.engine.send import SendOrder, hand_out
from specie.wallet.engine.targets import Targets, holdings_of
from specie.wallet.engine.tokens import token_text
from specie.wallet.engine.transfer import Transfers
from specie.wallet.errors import (
    FeeExceedsLimitError,
    FeeExceedsValueError,
    MintHoldsMoneyError,
    MintLeavingError,
    MintUnknownError,
)
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import SentToken, StoredProof
from specie.wallet.placement import Advice, Leaving, MintHealth, WatchPolicy, advice, next_probe_at
from specie.wallet.selection import Selection, spendable
from specie.wallet.states import CoinState, OperationState, TokenState
from specie.wallet.transfer import Transfer, TransferState

__all__ = ["Departure", "Dust", "Exits", "Stuck", "WatchReport", "check_income"]

COST_PPM = 200_000
_ROUNDS = 20
_POLICY = "watch"
_QUIET_S = 3600


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


@dataclass(frozen=True, slots=True)
class WatchReport:
    """A mint's health, what speaks against it, what is there, and what leaving it came to if that was tried."""

    health: MintHealth
    advice: tuple[Advice, ...]
    stuck: tuple[Stuck, ...]
    departure: Departure | None = None


async def check_income(ctx: Context, mint: str) -> None:
    """MintLeavingError where nothing new is taken at this mint."""
    if any(one.mint == mint for one in await ctx.storage.read(ctx.store.leaving)):
        raise MintLeavingError(mint)


class Exits:
    """`wallet.exits`: leave mints, forget them, and see in time which should be left."""

    def __init__(self, context: Context, transfers: Transfers, targets: Targets) -> None:
        """Work on a wallet's context."""
        self._context = context
        self._transfers = transfers
        self._targets = targets

    async def leave(
        self,
        mint: str,
        *,
        to: Sequence[str] = (),
        cost_ppm: int = COST_PPM,
        dust_as_token: bool = False,
        wait_s: float | None = None,
    ) -> Departure:
        """Take nothing new at `mint` from now on, and move what is free there to other mints; may be repeated.

        `to` names them, in order; none given, those that targets and limits prefer. What costs more than `cost_ppm` millionths
        of its value to move is dust: it stays, or becomes a token with `dust_as_token`. What is reserved, in tokens or on its
        way is listed as stuck. MintUnknownError, MintLeavingError for a destination that is being left itself; troubles on the
        way are in the report.
        """
        ctx, url = self._context, mint_url_checked(mint)
        destinations = tuple(mint_url_checked(one) for one in to)
        for one in (url, *destinations):
            if not await known_mint(ctx, one):
                raise MintUnknownError(one)
        for one in destinations:
            if one == url:
                raise MintLeavingError(url)
            await check_income(ctx, one)
        mark = Leaving(url, destinations, ctx.clock.now())
        await ctx.storage.transact(lambda tx: ctx.store.save_leaving(tx, mark))
        report = Departure(url)
        await self._gather(url, report)
        for unit in sorted({one.unit for one in await self.stuck(mint=url)}):
            await self._empty(url, unit, destinations, cost_ppm, wait_s, report)
            await self._sweep(url, unit, dust_as_token, report)
        report.stuck = list(await self.stuck(mint=url))
        report.empty = not report.stuck
        return report

    async def stay(self, mint: str) -> bool:
        """Leave it no more: the mint takes money again; whether it was being left."""
        ctx, url = self._context, mint_url_checked(mint)
        return await ctx.storage.transact(lambda tx: ctx.store.drop_leaving(tx, url))

    async def leaving(self) -> list[Leaving]:
        """The mints that are being left."""
        return await self._context.storage.read(self._context.store.leaving)

    async def stuck(self, *, mint: str | None = None) -> list[Stuck]:
        """What is at a mint, or at all of them, by what holds it; asks nobody, so it works while a mint is gone."""
        ctx, url = self._context, None if mint is None else mint_url_checked(mint)
        found: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for stored in await ctx.storage.read(lambda tx: ctx.store.proofs(tx, mint=url)):
            found[stored.mint, stored.unit][_holder(stored)] += stored.proof.amount
        return [Stuck(where, unit, **sums) for (where, unit), sums in sorted(found.items())]

    async def remove(self, mint: str, *, force: bool = False) -> list[SentToken]:
        """Forget a mint. MintHoldsMoneyError while money is there or may still arrive.

        With `force` its coins become tokens, which are returned and stay on record as sent: the owner's backup. Coins in open
        operations are not in them; adding the mint again takes those up.
        """
        ctx, url = self._context, mint_url_checked(mint)
        if not await known_mint(ctx, url):
            raise MintUnknownError(url)
        now, ids = ctx.clock.now(), [ctx.new_id() for _ in range(64)]

        async def body(tx: Transaction) -> list[SentToken]:
            reasons = await self._reasons(tx, url, now)
            if reasons and not force:
                raise MintHoldsMoneyError(url, reasons)
            tokens = await self._hand_all_out(tx, url, now, ids) if force else []
            await ctx.store.drop_mint(tx, url)
            return tokens

        tokens = await ctx.storage.transact(body)
        ctx.forget_keysets(url)
        return tokens

    # health

    async def health(self) -> list[WatchReport]:
        """What was seen of each mint and what speaks against it now, by policy; asks nobody."""
        ctx = self._context
        await self.note()
        policy = await self.policy() or WatchPolicy()
        known = {one.mint: one for one in await ctx.storage.read(ctx.store.health)}
        found: list[WatchReport] = []
        for record in await ctx.storage.read(ctx.store.mints):
            seen = known.get(record.url, MintHealth(record.url, answered_at=record.refreshed_at))
            stuck = tuple(await self.stuck(mint=record.url))
            keysets = await ctx.keysets(record.url)
            units = sorted({one.unit for one in stuck})
            speaks = advice(seen, await ctx.info(record.url), keysets, units, policy, ctx.clock.now())
            found.append(WatchReport(seen, speaks, stuck))
        return found

    async def watch(self, policy: WatchPolicy | None) -> None:
        """Set when a mint is called bad and what is done then; None goes back to advice by the defaults."""
        ctx = self._context
        if policy is not None:
            for one in policy.destinations:
                if not await known_mint(ctx, mint_url_checked(one)):
                    raise MintUnknownError(one)
        text = None if policy is None else json.dumps(asdict(policy))
        await ctx.storage.transact(lambda tx: ctx.store.save_policy(tx, _POLICY, text))

    async def policy(self) -> WatchPolicy | None:
        """The policy that was set."""
        text = await self._context.storage.read(lambda tx: self._context.store.policy(tx, _POLICY))
        if text is None:
            return None
        fields = json.loads(text)
        return WatchPolicy(**{**fields, "destinations": tuple(fields["destinations"])})

    async def check(self, *, force: bool = False) -> list[WatchReport]:
        """Ask mints that fail, or have not been asked for an hour, whether they are there; then as `health`.

        A mint that keeps silent is asked ever more seldom, unless `force`. Where the policy says `move` and something speaks
        against a mint that answers now, it is left at once; so is one that was being left when it fell silent.
        """
        ctx = self._context
        now, policy = ctx.clock.now(), await self.policy()
        before = await self.health()
        for one in before:
            idle = one.health.answered_at is None or now - one.health.answered_at >= _QUIET_S or one.health.failures
            if force or (idle and now >= next_probe_at(one.health)):
                with contextlib.suppress(SpecieError):
                    await refresh(ctx, one.health.mint)
        silent = {one.health.mint for one in before if one.health.failures}
        gone = {one.mint: one for one in await self.leaving()}
        found: list[WatchReport] = []
        for one in await self.health():
            mark = gone.get(one.health.mint)
            if mark is not None and one.health.mint in silent:
                found.append(await self._moved_out(one, mark.destinations, COST_PPM))
            elif policy is not None and policy.move and one.advice and mark is None:
                found.append(await self._moved_out(one, policy.destinations, policy.cost_ppm))
            else:
                found.append(one)
        return found

    async def note(self) -> None:
        """Write down what this process has seen of mints; `health`, `check` and `close` do it by themselves."""
        ctx = self._context
        tallies = dict(ctx.tallies.items())

        async def body(tx: Transaction) -> None:
            known = {one.mint: one for one in await ctx.store.health(tx)}
            ours = {record.url for record in await ctx.store.mints(tx)}
            for mint, tally in tallies.items():
                old = known.get(mint, MintHealth(mint))
                new = tally.added_to(old)
                recent = new.answered_at is not None and new.answered_at - (old.answered_at or 0) >= _QUIET_S
                if mint in ours and (new.failures != old.failures or new.failed_at != old.failed_at or recent):
                    await ctx.store.save_health(tx, new)

        if any(tally.failures or tally.answered_at is not None for tally in tallies.values()):
            await ctx.storage.transact(body)
        for tally in tallies.values():
            tally.answered_at, tally.failures, tally.failing_since, tally.failed_at = None, 0, None, None

    async def _moved_out(self, report: WatchReport, destinations: Sequence[str], cost_ppm: int) -> WatchReport:
        free = any(one.available or one.unswapped for one in report.stuck)
        if not free or report.health.failures:
            return report
        try:
            departure = await self.leave(report.health.mint, to=destinations, cost_ppm=cost_ppm)
        except RefusedError as error:
            departure = Departure(report.health.mint, problems=[error.detail])
        return WatchReport(report.health, report.advice, tuple(departure.stuck), departure)

    # leaving

    async def _gather(self, url: str, report: Departure) -> None:
        """Have what is as good as ours: coins received off-line, and invoices that were paid."""
        ctx = self._context
        try:
            for unit in sorted({one.unit for one in await self.stuck(mint=url) if one.unswapped}):
                await receive.secure(ctx, url, unit)
            await claim_all(ctx, url)
        except SpecieError as error:
            report.problems.append(error.detail)

    async def _empty(
        self, url: str, unit: str, named: tuple[str, ...], cost_ppm: int, wait_s: float | None, report: Departure
    ) -> None:
        """Move until nothing is worth moving, the destinations are full, or a transfer's end is not known."""
        targets = {one.mint: one.maximum for one in await self._targets.all() if one.unit == unit and not named}
        places = list(named) or [one for one in await self._targets.preferred(unit=unit) if one != url]
        if not places:
            report.problems.append(f"no other mint takes {unit}")
        for _ in range(_ROUNDS):
            if not places:
                return
            held = {one.mint: one.held for one in await holdings_of(self._context, unit)}
            most = targets.get(places[0])
            room = None if most is None else most - held.get(places[0], 0)
            if room is not None and room <= 0:
                places.pop(0)
                continue
            try:
                transfer = await self._transfers.move(
                    None, source=url, destination=places[0], unit=unit, cost_ppm=cost_ppm, at_most=room, wait_s=wait_s
                )
            except (FeeExceedsValueError, FeeExceedsLimitError) as error:
                report.problems += [] if report.transfers else [error.detail]
                return
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
                return

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

    async def _reasons(self, tx: Transaction, url: str, now: int) -> tuple[str, ...]:
        store = self._context.store
        found: list[str] = []
        sums: dict[str, int] = defaultdict(int)
        for stored in await store.proofs(tx, mint=url):
            sums[stored.unit] += stored.proof.amount
        found += [f"{amount} {unit} are there" for unit, amount in sorted(sums.items()) if amount]
        if any(one.mint == url for one in await store.operations(tx, (OperationState.OPEN,))):
            found.append("an operation is open")
        moving = await store.transfers(tx, (TransferState.PAYING, TransferState.PAID))
        if any(url in (one.source, one.destination) for one in moving):
            found.append("a transfer is on its way")
        for quote in await store.mint_quotes(tx):
            waiting = quote.amount_issued < (quote.amount or 1) and (quote.expiry is None or quote.expiry > now)
            if quote.mint == url and (quote.claimable or waiting):
                found.append("an invoice of it may still be paid")
                break
        return tuple(found)

    async def _hand_all_out(self, tx: Transaction, url: str, now: int, ids: list[str]) -> list[SentToken]:
        """Every UNSPENT coin of a mint into tokens, one a unit, within the caller's transaction."""
        store = self._context.store
        coins: dict[str, list[StoredProof]] = defaultdict(list)
        for stored in await store.proofs(tx, mint=url, states=(CoinState.UNSPENT,)):
            coins[stored.unit].append(stored)
        tokens: list[SentToken] = []
        for token_id, (unit, held) in zip(ids, sorted(coins.items()), strict=False):
            proofs = [p.proof for p in held]
            text = token_text(url, unit, proofs, "backup", include_dleq=True)
            amount = sum(p.amount for p in proofs)
            locked = any(is_locked(proof) for proof in proofs)
            token = SentToken(token_id, url, unit, amount, text, "backup", TokenState.PENDING, locked, now)
            await store.move_proofs(tx, [p.y for p in held], (CoinState.UNSPENT,), CoinState.PENDING, now, token=token_id)
            await store.add_token(tx, token)
            await store.add_history(tx, HistoryEntry(token_id, now, "send", url, unit, amount, 0, "backup", token_id))
            tokens.append(token)
        return tokens


def _holder(stored: StoredProof) -> str:
    if stored.state is CoinState.UNSPENT:
        return "unswapped" if stored.unswapped else "available"
    return "sent" if stored.token is not None else "reserved"
