"""Leaving a mint: nothing new comes in, what can be moved is moved, what cannot is named, and then the mint is forgotten.

| a crash ...                  | leaves behind                      | then                                                     |
|------------------------------|------------------------------------|----------------------------------------------------------|
| after the mark               | a mint that takes nothing new      | `leave` again moves what is there; `stay` takes it off   |
| during a transfer            | see `transfer`                     | `resume` ends it, `leave` again moves the rest           |
| after coins became a token   | a sent token, on record            | it can be reclaimed                                      |
| before a mint is forgotten   | the mint and its coins             | nothing                                                  |

A mint is forgotten with the same commit that hands its coins out, if that was forced; keysets and counters stay for good.

A check that finds a mint bad does the same by itself, where the policy says so. A mark is never taken off by itself and a
marked mint takes nothing new, so money goes one way, whatever a mint says of itself later. Money can only be moved while the
mint answers: one that is silent is marked, asked at every check, and emptied by the first that it answers.

| two processes, or a crash ...          | leaves behind                        | then                                        |
|----------------------------------------|--------------------------------------|---------------------------------------------|
| begin a check at the same time         | one time of the last check           | the first has it, the other one passes      |
| leave the same mint at the same time   | a mark that says since when one is   | the other one passes; `leave` by hand does  |
|                                        | at it; the coins each has reserved   | not, and finds the coins reserved           |
| a crash during a check                 | the mark, and transfers              | `resume` ends those; after five minutes the |
|                                        |                                      | next check moves the rest                   |
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace

from specie.ecash.mint_url import mint_url_checked
from specie.kernel.errors import MalformedError, SpecieError
from specie.storage.ports import Transaction
from specie.wallet.engine import recover
from specie.wallet.engine.context import Context
from specie.wallet.engine.departure import LEASE_S, Departure, Departures, Dust, Stuck, has_free, may_try, stuck_at
from specie.wallet.engine.due import WATCH_POLICY
from specie.wallet.engine.locks import is_locked
from specie.wallet.engine.mints import known_mint, refresh
from specie.wallet.engine.seen import QUIET_S, check_income, note_seen
from specie.wallet.engine.split import at_once
from specie.wallet.engine.targets import Targets
from specie.wallet.engine.tokens import token_text
from specie.wallet.engine.transfer import Transfers
from specie.wallet.engine.wait import within
from specie.wallet.errors import (
    MintHoldsMoneyError,
    MintLeavingError,
    MintUnknownError,
)
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import SentToken, StoredProof
from specie.wallet.placement import (
    LEAVING_COST_PPM,
    Advice,
    HealthTally,
    Leaving,
    MintHealth,
    WatchPolicy,
    advice,
    next_probe_at,
)
from specie.wallet.states import CoinState, OperationState, TokenState
from specie.wallet.transfer import TransferState

__all__ = ["Departure", "Dust", "Exits", "Stuck", "WatchReport"]

COST_PPM = LEAVING_COST_PPM
OPENING_S = 20.0
_CHECKED = "watch, last check"
_PROBE_S = 10.0
_GUARD_S = 60
_PPM = 1_000_000

Heard = Callable[["WatchReport"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class WatchReport:
    """A mint's health, what speaks against it, what is there, and what leaving it came to if that was tried."""

    health: MintHealth
    advice: tuple[Advice, ...]
    stuck: tuple[Stuck, ...]
    departure: Departure | None = None


class Exits:
    """`wallet.exits`: leave mints, forget them, and see in time which should be left."""

    def __init__(self, context: Context, transfers: Transfers, targets: Targets) -> None:
        """Work on a wallet's context."""
        self._context = context
        self._transfers = transfers
        self._departures = Departures(context, transfers, targets)

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
        now = ctx.clock.now()
        mark = Leaving(url, destinations, now, cost_ppm, now + LEASE_S)
        await ctx.storage.transact(lambda tx: ctx.store.save_leaving(tx, mark))
        return await self._departures.depart(mark, destinations, (), dust_as_token, wait_s)

    async def stay(self, mint: str) -> bool:
        """Leave it no more: the mint takes money again; whether it was being left."""
        ctx, url = self._context, mint_url_checked(mint)
        return await ctx.storage.transact(lambda tx: ctx.store.drop_leaving(tx, url))

    async def leaving(self) -> list[Leaving]:
        """The mints that are being left."""
        return await self._context.storage.read(self._context.store.leaving)

    async def stuck(self, *, mint: str | None = None) -> list[Stuck]:
        """What is at a mint, or at all of them, by what holds it; asks nobody, so it works while a mint is gone."""
        return await stuck_at(self._context, None if mint is None else mint_url_checked(mint))

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
        """Set when a mint is called bad and what is done then; None goes back to advice by the defaults, which moves nothing.

        MintUnknownError for destinations that were not added; MalformedError for numbers out of range.
        """
        ctx = self._context
        text = None
        if policy is not None:
            if min(policy.failures, policy.every_s) < 1 or min(policy.silent_s, policy.horizon_s) < 0:
                raise MalformedError("a watch policy's numbers are positive")
            if not 0 <= policy.cost_ppm <= _PPM:
                raise MalformedError("what moving may cost is from 0 to a million millionths")
            named = tuple(mint_url_checked(one) for one in policy.destinations)
            for one in named:
                if not await known_mint(ctx, one):
                    raise MintUnknownError(one)
            keep = tuple(mint_url_checked(one) for one in policy.keep)
            text = json.dumps(asdict(replace(policy, destinations=named, keep=keep)))
        await ctx.storage.transact(lambda tx: ctx.store.save_policy(tx, WATCH_POLICY, text))

    async def policy(self) -> WatchPolicy | None:
        """The policy that was set."""
        text = await self._context.storage.read(lambda tx: self._context.store.policy(tx, WATCH_POLICY))
        if text is None:
            return None
        fields = json.loads(text)
        return WatchPolicy(**{**fields, "destinations": tuple(fields["destinations"]), "keep": tuple(fields.get("keep", ()))})

    async def check(self, *, force: bool = False, wait_s: float | None = None) -> list[WatchReport]:
        """Ask mints that fail, or have not been asked for an hour, whether they are there; then as `health`.

        A mint that keeps silent is asked ever more seldom, unless `force`. A mint that is being left and answers is emptied.
        Where the policy says `move` and something speaks against a mint, it is left: at once if it answers, else as soon as it
        does. A silent one is only judged while another mint answers, and did before: else the network here may be to blame.
        `wait_s`: how long to wait for each payment. Every part that a mint refuses is in the report.
        """
        ctx = self._context
        now, policy = ctx.clock.now(), await self.policy() or WatchPolicy()
        await ctx.storage.transact(lambda tx: ctx.store.save_policy(tx, _CHECKED, str(now)))
        before = await self.health()
        marks = {one.mint: one for one in await self.leaving()}
        await at_once([self._ask(one) for one in self._to_ask(before, marks, policy, force)])
        reports = await self.health()
        bad = {one.health.mint for one in reports if one.health.failures or (policy.move and one.advice)} | set(marks)
        shaky = {one.health.mint for one in before if one.health.failures}
        well = [one.health.mint for one in reports if one.health.mint not in bad]
        found: list[WatchReport] = []
        for one in reports:
            mint = one.health.mint
            mark = marks.get(mint)
            if mark is None and policy.move and one.advice and mint not in policy.keep:
                mark = Leaving(mint, policy.destinations, now, policy.cost_ppm)
            if mark is None or not has_free(one.stuck):
                found.append(one)
                continue
            places = [place for place in mark.destinations or well if place in well and place != mint]
            if not one.health.failures:
                found.append(await self._moved_out(one, mark, places, wait_s))
            elif mint not in marks and set(places) - shaky:
                found.append(await self._given_up(one, mark))
            else:
                found.append(one)
        return found

    async def is_due(self) -> bool:
        """Whether `check_due` would check now: the policy moves money or a mint is being left, and it is time. Asks nobody."""
        policy = await self.policy() or WatchPolicy()
        if not policy.move and not await self._waits():
            return False
        at, now = await self._context.storage.read(self._checked_at), self._context.clock.now()
        return at is None or not at <= now < at + policy.every_s

    async def check_due(self, *, within_s: float = OPENING_S) -> list[WatchReport]:
        """`check`, if it is due and no other process has begun it: at most `within_s`, and no error is raised.

        What takes longer is cut off there; `resume` carries it on. `Wallet.open` calls it.
        """
        ctx = self._context
        try:
            policy = await self.policy() or WatchPolicy()
            if not await self.is_due() or await self._claim_check(policy.every_s):
                return []
            found = await within(ctx, self.check(wait_s=within_s / 4), within_s)
        except SpecieError as error:
            ctx.telemetry.event("wallet_check_failed", reason=error.detail)
            return []
        return found or []

    async def guard(self, heard: Heard | None = None, *, always: bool = True, every_s: int | None = None) -> None:
        """`check` again and again, until cancelled: for programs that stay open. Transfers on their way are carried on as well.

        `heard` is awaited with each report. One check in `every_s` (that of the policy unless given), of all processes with
        this wallet together, at slightly irregular times. `always` False checks only where money is to be moved. Survives
        every error of a check.
        """
        ctx = self._context
        while True:
            rest: float = _GUARD_S
            found: list[WatchReport] = []
            try:
                rest, found = await self._round(always, every_s)
            except SpecieError as error:
                ctx.telemetry.event("wallet_check_failed", reason=error.detail)
            if heard is not None:
                for one in found:
                    await heard(one)
            share = int.from_bytes(ctx.entropy.bytes(4), "big") / 2**32
            await ctx.clock.sleep(rest * (1 + share / 10))

    async def _round(self, always: bool, every_s: int | None) -> tuple[float, list[WatchReport]]:
        """One look: seconds until the next one, and what a check has found if it was ours to make."""
        policy = await self.policy() or WatchPolicy()
        pause = max(every_s or policy.every_s, 1)
        if await self._transfers.entries():
            await recover.resume(self._context)
            await self._transfers.resume()
        if not (always or policy.move or await self._waits()):
            return min(pause, _GUARD_S), []
        rest = await self._claim_check(pause)
        found = [] if rest else await self.check()
        on_its_way = await self._transfers.entries()
        return min(rest or pause, _GUARD_S if on_its_way else pause), found

    async def _claim_check(self, every_s: int) -> int:
        """0 where the check is ours to make now, else the seconds until one is."""
        ctx = self._context
        now = ctx.clock.now()

        async def body(tx: Transaction) -> int:
            at = await self._checked_at(tx)
            if at is not None and at <= now < at + every_s:
                return at + every_s - now
            await ctx.store.save_policy(tx, _CHECKED, str(now))
            return 0

        return await ctx.storage.transact(body)

    async def _checked_at(self, tx: Transaction) -> int | None:
        text = await self._context.store.policy(tx, _CHECKED)
        return None if text is None else int(text)

    async def _waits(self) -> bool:
        """Whether money waits at a mint that is being left, and may be tried again now."""
        now = self._context.clock.now()
        return any([may_try(one, now) and has_free(await self.stuck(mint=one.mint)) for one in await self.leaving()])

    def _to_ask(self, before: Sequence[WatchReport], marks: Collection[str], policy: WatchPolicy, force: bool) -> list[str]:
        """Mints to ask in a check. Those with money to be moved out are asked in each."""
        now, quiet_s = self._context.clock.now(), min(QUIET_S, policy.every_s)
        found: list[str] = []
        for one in before:
            seen = one.health
            idle = seen.answered_at is None or now - seen.answered_at >= quiet_s or seen.failures
            after = next_probe_at(seen)
            if seen.mint in marks and has_free(one.stuck):
                after = min(after, (seen.failed_at or 0) + quiet_s)
            if force or (idle and now >= after):
                found.append(seen.mint)
        return found

    async def _ask(self, mint: str) -> None:
        """See whether a mint is there; taking too long is no answer."""
        ctx = self._context

        async def asked() -> bool:
            with contextlib.suppress(SpecieError):
                await refresh(ctx, mint)
            return True

        if await within(ctx, asked(), _PROBE_S) is None:
            ctx.tallies.setdefault(mint, HealthTally()).unavailable(ctx.clock.now())

    async def _given_up(self, report: WatchReport, mark: Leaving) -> WatchReport:
        """Mark a mint that does not answer: nothing new there, and its money moves as soon as it does."""
        if not await self._departures.claim(mark, 0):
            return report
        self._context.telemetry.event("wallet_mint_given_up", mint=mark.mint)
        departure = Departure(
            mark.mint, stuck=list(report.stuck), problems=["it does not answer: its money moves once it does"]
        )
        return replace(report, departure=departure)

    async def _moved_out(self, report: WatchReport, mark: Leaving, places: Sequence[str], wait_s: float | None) -> WatchReport:
        """Empty a mint that answers, into `places`."""
        if not places:
            problem = "no mint where its money may go is well"
            return replace(report, departure=Departure(mark.mint, stuck=list(report.stuck), problems=[problem]))
        if not await self._departures.claim(mark, self._context.clock.now() + LEASE_S):
            return report
        named = tuple(places) if mark.destinations else ()
        try:
            departure = await self._departures.depart(mark, named, places, False, wait_s)
        except SpecieError as error:
            departure = Departure(mark.mint, stuck=list(report.stuck), problems=[error.detail])
        self._context.telemetry.event("wallet_mint_left", mint=mark.mint, transfers=len(departure.transfers))
        return replace(report, stuck=tuple(departure.stuck), departure=departure)

    async def note(self) -> None:
        """Write down what this process has seen of mints; `health`, `check` and `close` do it by themselves."""
        await note_seen(self._context)

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
