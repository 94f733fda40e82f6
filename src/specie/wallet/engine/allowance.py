"""Paying for resources within limits (NUT-24): what may be spent, what became of it, and what is taken back.

| a crash ...                          | leaves behind                        | afterwards                                 |
|--------------------------------------|--------------------------------------|--------------------------------------------|
| before the toll is written           | nothing                              | nothing                                    |
| after it, before the token is made   | a toll BEGUN that counts in full     | it counts until its period is over         |
| after the token, before it is SENT   | the same, and the token on record    | the same; reclaim the token by hand        |
| after SENT, before the request       | a toll SENT, its token unspent       | the same resource gets it, else `settle`   |
| after the request, before the answer | SENT; the host may have redeemed     | the same: a host that honours it answers   |
| after the answer, before its record  | SENT                                 | `settle` asks the mint: SPENT or BACK      |

A limit may count too much after a crash, never too little. A token is never made twice for one request, and never taken back
while its coins may be on their way into the host's hands, except after the host has said no.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specie.ecash.codes import ConditionMalformedError, ProofsSpentError
from specie.ecash.conditions import parse_secret
from specie.ecash.proof import Proof
from specie.ecash.requests import LockOption, PaymentRequest, lock_condition, same_lock
from specie.ecash.token import decode_token
from specie.kernel.errors import PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.perform import spent_of, states_of
from specie.wallet.engine.receive import reclaim
from specie.wallet.engine.send import SendOrder, send
from specie.wallet.errors import InsufficientFundsError, MintUntrustedError, PaymentUnfitError, SpendingLimitError
from specie.wallet.holding import SentToken
from specie.wallet.paid import TOLL, Toll, TollState
from specie.wallet.selection import spendable
from specie.wallet.states import CoinState

__all__ = ["Allowance"]

_TERMS = frozenset(("pubkeys", "n_sigs", "locktime", "refund", "n_sigs_refund", "sigflag"))
_PATIENCE_S = 3600
"""A token whose fate nobody told is taken back no sooner than this after it was made."""


class Allowance:
    """Pays requests in-band; `Wallet.allowance`. Verbs may run at the same time."""

    def __init__(self, ctx: Context) -> None:
        """Over a wallet's ports."""
        self._ctx = ctx
        self._flying: set[str] = set()

    async def pay(
        self,
        request: PaymentRequest,
        *,
        host: str,
        resource: str,
        max_amount: int,
        max_per_host: int,
        period_s: int,
        unit: str = "sat",
    ) -> Toll:
        """Count a payment and make its token: the toll, whose `text` is to be given to the host alone, once.

        A token that was made for the same resource before and whose fate is not known is given again. Follow it by `spent`,
        `declined` or `unknown`. SpendingLimitError beyond `max_amount`, or `max_per_host` within the last `period_s` seconds;
        PaymentUnfitError for another unit, no amount, or a lock that cannot be made; MintUntrustedError,
        InsufficientFundsError; before any of these nothing was made.
        """
        amount = request.amount
        if amount is None or amount < 1 or request.unit != unit:
            raise PaymentUnfitError(f"{host} asks for no amount, or in another unit than {unit}")
        if amount > max_amount:
            raise SpendingLimitError(host, amount, max_amount, unit)
        if request.lock is not None:
            _check_lock(request.lock)
        again = await self._unfinished(request, host, resource, amount)
        if again is not None:
            return again
        mint = await self._mint(request, unit, amount)
        ctx, now = self._ctx, self._ctx.clock.now()
        toll = Toll(ctx.new_id(), host, resource, mint, unit, amount, TollState.BEGUN, None, now)

        async def body(tx: Transaction) -> int | None:
            counted = sum(one.amount for one in await ctx.store.tolls(tx, host=host, since=now - period_s) if one.unit == unit)
            if counted + amount > max_per_host:
                return max(max_per_host - counted, 0)
            await ctx.store.add_toll(tx, toll)
            return None

        left = await ctx.storage.transact(body)
        if left is not None:
            raise SpendingLimitError(host, amount, left, unit)
        return await self._made(toll, request.lock)

    async def _made(self, toll: Toll, lock: LockOption | None) -> Toll:
        ctx = self._ctx
        try:
            token = await send(ctx, SendOrder(toll.mint, toll.unit, toll.amount, lock=lock))
        except UncertainError as error:
            await self._move(toll, "hand out", token=error.reference)
            raise
        except (RefusedError, UnavailableError):
            await self._move(toll, "fail", amount=0)
            raise
        made = await self._move(toll, "hand out", token=token.token_id)
        self._flying.add(made.toll_id)
        return replace(made, text=token.text)

    async def spent(self, toll: Toll) -> None:
        """The host took it and answered."""
        self._flying.discard(toll.toll_id)
        await self._move(toll, "redeem")

    def unknown(self, toll: Toll) -> None:
        """No answer, or one that does not tell: the token stays on record, and on the account of its host."""
        self._flying.discard(toll.toll_id)

    async def declined(self, toll: Toll) -> Toll:
        """The host said no: ask the mint, and take the token back if it is unspent. The toll as it is now.

        It stays SENT where the mint cannot be asked or the token is locked; never raises for a mint's answer.
        """
        self._flying.discard(toll.toll_id)
        try:
            return await self._looked_at(toll, take_back=True)
        except (RefusedError, PeerFaultError, UnavailableError, UncertainError) as error:
            self._ctx.telemetry.event("wallet_toll_not_known", host=toll.host, reason=error.detail)
            return toll

    async def settle(self, *, patience_s: int = _PATIENCE_S) -> list[Toll]:
        """Look at tolls whose fate is not known; those that changed. What is unspent and older than `patience_s` comes back."""
        now, changed = self._ctx.clock.now(), []
        for toll in await self.tolls(states=(TollState.SENT,)):
            if toll.toll_id in self._flying:
                continue
            try:
                seen = await self._looked_at(toll, take_back=now - toll.created_at > patience_s)
            except (RefusedError, PeerFaultError, UnavailableError, UncertainError) as error:
                self._ctx.telemetry.event("wallet_toll_not_known", host=toll.host, reason=error.detail)
                continue
            if seen.state is not toll.state:
                changed.append(seen)
        return changed

    async def tolls(self, *, host: str | None = None, since: int = 0, states: Sequence[TollState] = ()) -> list[Toll]:
        """What was paid, oldest first."""
        return await self._ctx.storage.read(lambda tx: self._ctx.store.tolls(tx, host=host, since=since, states=states))

    async def _looked_at(self, toll: Toll, *, take_back: bool) -> Toll:
        ctx = self._ctx
        token = await self._token(toll)
        if token is None:
            return toll
        ys = [proof.y for proof in decode_token(token.text, limits=ctx.settings.limits).proofs]
        if spent_of(await states_of(ctx, token.mint, ys)):
            stored = await ctx.storage.read(lambda tx: ctx.store.token(tx, token.token_id))
            back = stored is not None and stored.state == "RECLAIMED"
            return await self._move(toll, "reclaim", amount=0) if back else await self._move(toll, "redeem")
        if not take_back or token.locked:
            return toll
        try:
            receipt = await reclaim(ctx, token.token_id)
        except ProofsSpentError:
            return await self._move(toll, "redeem")
        return await self._move(toll, "reclaim", amount=max(toll.amount - receipt.amount, 0))

    async def _token(self, toll: Toll) -> SentToken | None:
        if toll.token is None:
            return None
        return await self._ctx.storage.read(lambda tx: self._ctx.store.token(tx, toll.token or ""))

    async def _move(self, toll: Toll, event: str, *, amount: int | None = None, token: str | None = None) -> Toll:
        """The toll in its next state; as it was where somebody else has moved it meanwhile."""
        moved = replace(
            toll,
            state=TOLL.next(toll.state, event),
            amount=toll.amount if amount is None else amount,
            token=token or toll.token,
            text=None,
        )
        done = await self._ctx.storage.transact(lambda tx: self._ctx.store.save_toll(tx, moved, toll.state))
        return moved if done else toll

    async def _unfinished(self, request: PaymentRequest, host: str, resource: str, amount: int) -> Toll | None:
        """A toll of this resource whose token was made and may not have been answered for, with its token."""
        for toll in await self.tolls(host=host, states=(TollState.SENT,)):
            if toll.resource != resource or toll.toll_id in self._flying:
                continue
            token = await self._token(toll)
            if token is None or token.state != "PENDING" or token.amount < amount or token.unit != request.unit:
                continue
            if request.takes(token.mint) and _fits(request.lock, decode_token(token.text).proofs):
                self._flying.add(toll.toll_id)
                return replace(toll, text=token.text)
        return None

    async def _mint(self, request: PaymentRequest, unit: str, amount: int) -> str:
        """The mint with the most free money among those asked for and known."""
        ctx = self._ctx
        known = [record.url for record in await ctx.storage.read(ctx.store.mints)]
        usable = [url for url in known if request.takes(url)]
        if not usable:
            raise MintUntrustedError(request.mints[0] if request.mints else "(none)")
        held = spendable(await ctx.storage.read(lambda tx: ctx.store.proofs(tx, unit=unit, states=(CoinState.UNSPENT,))))
        free = {url: sum(p.proof.amount for p in held if p.mint == url) for url in usable}
        best = max(usable, key=lambda url: free[url])
        if free[best] < amount:
            raise InsufficientFundsError(amount, free[best], unit)
        return best


def _check_lock(lock: LockOption) -> None:
    """PaymentUnfitError for a lock that is none, is not to keys, or has terms that nobody could be held to."""
    try:
        wanted = lock_condition(lock)
    except ConditionMalformedError as error:
        raise PaymentUnfitError(f"the lock that is asked for cannot be made: {error.detail}") from None
    if wanted.kind != "P2PK":
        raise PaymentUnfitError("only locks to keys are paid to")
    if {tag[0] for tag in lock.tags} - _TERMS:
        raise PaymentUnfitError("the lock that is asked for has terms that are not known here")


def _fits(lock: LockOption | None, proofs: Sequence[Proof]) -> bool:
    """Whether coins carry the lock that is asked for, or none where none is."""
    for proof in proofs:
        condition = parse_secret(proof.secret)
        if (condition is None) != (lock is None):
            return False
        if lock is not None and condition is not None and not same_lock(lock, condition):
            return False
    return True
