"""Receipts without a mint, by policy, and their settlement: the most exposed and oldest first.

Nothing new is done here with money: coins are kept by `receive.receive_offline`, in one transaction with the judgement of the
policy, and swapped by `receive.secure`. Crash tables: there, and in `journal`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass, field

from specie.ecash.conditions import parse_secret
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.token import Token
from specie.kernel.errors import SpecieError
from specie.storage.ports import Transaction
from specie.wallet.engine import receive
from specie.wallet.engine.context import Context
from specie.wallet.engine.due import OFFLINE_POLICY
from specie.wallet.engine.own_keys import own_keys
from specie.wallet.engine.receive import Receipt
from specie.wallet.errors import MintUntrustedError
from specie.wallet.offline import (
    OfflineCoin,
    OfflinePolicy,
    Unsettled,
    check_policy,
    check_receipt,
    risk_of,
    safe_until,
)

__all__ = ["Offline", "Settlement"]


@dataclass(slots=True)
class Settlement:
    """What settling came to: `settled` is ours now; `short` went to fees or had been spent by whoever sent it."""

    settled: int = 0
    short: int = 0
    problems: list[str] = field(default_factory=list)
    left: tuple[Unsettled, ...] = ()


class Offline:
    """`wallet.offline`: what is taken without asking a mint, what of it is not settled, and settling it."""

    def __init__(self, context: Context) -> None:
        """Work on a wallet's context."""
        self._context = context

    async def use(self, policy: OfflinePolicy | None) -> None:
        """Take off-line tokens by this policy from now on, on every start; None goes back to none."""
        ctx = self._context
        if policy is not None:
            check_policy(policy)
            for url in policy.mints:
                mint_url_checked(url)
        text = None if policy is None else json.dumps(asdict(policy))
        await ctx.storage.transact(lambda tx: ctx.store.save_policy(tx, OFFLINE_POLICY, text))

    async def policy(self) -> OfflinePolicy | None:
        """The policy in use."""
        text = await self._context.storage.read(lambda tx: self._context.store.policy(tx, OFFLINE_POLICY))
        if text is None:
            return None
        fields = json.loads(text)
        return OfflinePolicy(**{**fields, "mints": tuple(fields["mints"])})

    async def receive(self, token: str, *, preimage: str | None = None, policy: OfflinePolicy | None = None) -> Receipt:
        """Keep a token's coins without asking anybody, as `policy` (or the one in use) allows; as `Wallet.receive`.

        OfflineRefusedError, whose `rule` says why, and nothing is kept.
        """
        ctx = self._context
        rules = policy if policy is not None else await self.policy()
        if rules is None:
            return await receive.receive_offline(ctx, token, preimage=preimage)
        check_policy(rules)
        allowed = OfflinePolicy(**{**asdict(rules), "mints": tuple(mint_url_checked(url) for url in rules.mints)})

        now = ctx.clock.now()
        known = await self._ours()

        async def judge(tx: Transaction, whole: Token, ours: Collection[bytes]) -> None:
            seen = next((one.refreshed_at for one in await ctx.store.mints(tx) if one.url == whole.mint), None)
            if seen is None:
                raise MintUntrustedError(whole.mint)
            fresh = [
                OfflineCoin(whole.mint, whole.unit, one.amount, safe_until(parse_secret(one.secret), ours, now), now)
                for one in whole.proofs
            ]
            check_receipt(allowed, fresh, await self._held(tx, known, now), looked_at=seen, now=now)

        return await receive.receive_offline(ctx, token, preimage=preimage, judge=judge)

    async def status(self) -> list[Unsettled]:
        """What was received off-line and is not settled, the most urgent first, with its risk; asks nobody."""
        ctx = self._context
        now = ctx.clock.now()
        ours = await self._ours()
        held = await ctx.storage.read(lambda tx: self._held(tx, ours, now))
        warn_s = (await self.policy() or OfflinePolicy()).warn_s
        groups: dict[tuple[str, str, int | None], list[OfflineCoin]] = defaultdict(list)
        for coin in held:
            until = coin.until if coin.until is None or coin.until >= now else 0
            groups[coin.mint, coin.unit, until].append(coin)
        found = [
            Unsettled(
                mint,
                unit,
                sum(coin.amount for coin in coins),
                len(coins),
                min(coin.since for coin in coins),
                until,
                risk_of(until, now, warn_s),
            )
            for (mint, unit, until), coins in groups.items()
        ]
        return sorted(found, key=lambda one: (one.until is None, one.until or 0, one.since, -one.amount, one.mint))

    async def settle(self) -> Settlement:
        """Swap what was received off-line, the most urgent first; a mint that does not answer keeps no other from it."""
        ctx, report = self._context, Settlement()
        for group in await self.status():
            held = await ctx.storage.read(ctx.store.unswapped)
            ours, now = await self._ours(), ctx.clock.now()
            only = {
                stored.y
                for stored, _ in held
                if (stored.mint, stored.unit) == (group.mint, group.unit)
                and _same(safe_until(parse_secret(stored.proof.secret), ours, now), group.until, now)
            }
            if not only:
                continue
            try:
                settled = await receive.secure(ctx, group.mint, group.unit, only=only)
            except SpecieError as error:
                report.problems.append(f"{group.mint}: {error.detail}")
                continue
            kept = sum(one.proof.amount for one, _ in await ctx.storage.read(ctx.store.unswapped) if one.y in only)
            if kept:
                report.problems.append(f"{group.mint}: {kept} {group.unit} were refused, and stay")
            report.settled += settled
            report.short += group.amount - settled - kept
        report.left = tuple(await self.status())
        return report

    async def settle_due(self) -> Settlement | None:
        """`settle` if the policy in use wants that and something is left to settle."""
        return await self.settle() if await self.is_due() else None

    async def is_due(self) -> bool:
        """Whether receipts wait that the policy in use wants settled."""
        policy = await self.policy()
        return policy is not None and policy.settle and bool(await self._context.storage.read(self._context.store.unswapped))

    async def _ours(self) -> set[bytes]:
        """Our keys, plain and as they stand blinded in the locks of what is not settled (x-only)."""
        ctx = self._context
        held = await ctx.storage.read(ctx.store.unswapped)
        return await (await own_keys(ctx)).guarding(stored.proof for stored, _ in held)

    async def _held(self, tx: Transaction, ours: Collection[bytes], now: int) -> list[OfflineCoin]:
        return [
            OfflineCoin(
                stored.mint, stored.unit, stored.proof.amount, safe_until(parse_secret(stored.proof.secret), ours, now), since
            )
            for stored, since in await self._context.store.unswapped(tx)
        ]


def _same(until: int | None, group: int | None, now: int) -> bool:
    """Whether a coin safe up to `until` is of this group, in which all that is past counts as 0."""
    return group == (until if until is None or until >= now else 0)
