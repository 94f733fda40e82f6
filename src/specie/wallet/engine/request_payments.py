"""Paying somebody's payment request: coins are made as for any send, and then delivered.

| a crash after ...                | leaves                                                                     |
|----------------------------------|----------------------------------------------------------------------------|
| choosing a mint                  | nothing                                                                    |
| payment and operation journalled | an OPEN payment: `resume` ends the operation as for any send               |
| token written                    | an UNDELIVERED payment: `deliver` it, or reclaim its token                 |
| coins handed over                | the same; delivering again hands over the same coins, which count once     |
| delivery noted                   | done                                                                       |

Payment and operation are one transaction, and for a single-use request the payment holds a claim that is unique: it is
given up only where its operation FAILED or its token was taken back. Deliveries are repeated, payments are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from specie.ecash import wire
from specie.ecash.codes import ConditionMalformedError
from specie.ecash.payload import PaymentPayload
from specie.ecash.requests import (
    NostrProfile,
    PaymentRequest,
    Transport,
    TransportKind,
    decode_nostr_profile,
    decode_payment_request,
    encode_payment_request,
    lock_condition,
)
from specie.ecash.token import decode_token
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import known_mints
from specie.wallet.engine.send import SendOrder, send
from specie.wallet.engine.tokens import resolved
from specie.wallet.errors import (
    DeliveryFailedError,
    InsufficientFundsError,
    RequestPaidError,
    RequestUnknownError,
    TransportUnsupportedError,
)
from specie.wallet.ports import NostrRelays, Transports
from specie.wallet.request import PaymentPlan, PaymentState, RequestPayment
from specie.wallet.selection import spendable
from specie.wallet.states import CoinState, OperationState, TokenState

__all__ = ["IN_BAND", "RequestPayments", "melt_methods"]

IN_BAND = "in-band"
_PRIVATE_MESSAGES = "17"
_OVER = (PaymentState.FAILED, PaymentState.RECLAIMED)


async def melt_methods(ctx: Context, mint: str, unit: str) -> list[str]:
    """By which methods a known mint says it melts a unit (NUT-05)."""
    info = await ctx.info(mint)
    return [one.method for one in info.methods(5) if one.unit == unit] if info.supports(5) else []


class RequestPayments:
    """The payer's half of `Requests`."""

    def __init__(self, ctx: Context, transports: Transports) -> None:
        """Share the wallet's ports."""
        self._ctx = ctx
        self._transports = transports
        self._relays: NostrRelays | None = None

    def nostr(self) -> NostrRelays:
        """The relays' client, made on first use; TransportUnsupportedError where there is none."""
        if self._relays is None:
            if self._transports.nostr is None:
                raise TransportUnsupportedError("this wallet has no Nostr")
            self._relays = self._transports.nostr()
        return self._relays

    async def plan(
        self, request: PaymentRequest, *, amount: int | None, unit: str, mint: str | None, relays: Sequence[str]
    ) -> PaymentPlan:
        """What paying would do. Errors as `Requests.plan`."""
        if request.amount is not None and amount is not None and amount < request.amount:
            raise MalformedError("the amount is less than the request asks for")
        wanted = amount if amount is not None else request.amount
        if wanted is None or wanted <= 0:
            raise MalformedError("the request names no amount: say how much to pay")
        if request.lock is not None:
            self._check_lock(request)
        transport = self._transport(request, relays)
        unit = request.unit or unit
        chosen, extra = await self._mint(request, wanted, unit, mint)
        paid = [one for one in await self._payments_of(request) if one.state not in _OVER]
        return PaymentPlan(
            request=request,
            mint=chosen,
            unit=unit,
            amount=wanted,
            extra=extra,
            transport=IN_BAND if transport is None else transport.kind,
            target="" if transport is None else transport.target,
            locked=request.lock is not None,
            paid_before=len(paid),
        )

    def _check_lock(self, request: PaymentRequest) -> None:
        if request.lock is None:
            return
        condition = lock_condition(request.lock)
        if condition.locktime is not None and condition.locktime <= self._ctx.clock.now():
            raise ConditionMalformedError("the request's lock is open already: its time is over")

    def _transport(self, request: PaymentRequest, relays: Sequence[str]) -> Transport | None:
        """The first transport that can be used; None for in-band."""
        usable = self._usable(request, relays)
        if request.transports and not usable:
            raise TransportUnsupportedError("the payment can be delivered by no transport that this wallet has")
        return usable[0] if usable else None

    def _usable(self, request: PaymentRequest, relays: Sequence[str]) -> list[Transport]:
        return [one for one in request.transports if self._can_use(one, relays)]

    def _can_use(self, transport: Transport, relays: Sequence[str]) -> bool:
        if transport.kind == TransportKind.POST:
            return self._transports.post is not None
        if transport.kind == TransportKind.NOSTR:
            return self._transports.nostr is not None and _nostr_target(transport, relays) is not None
        return False

    async def _mint(self, request: PaymentRequest, amount: int, unit: str, mint: str | None) -> tuple[str, int]:
        """The mint to pay from and what is owed on top: one that is listed if possible, then the fullest."""
        ctx = self._ctx
        free: dict[str, int] = {}
        known = await known_mints(ctx)
        held = await ctx.storage.read(lambda tx: ctx.store.proofs(tx, unit=unit, states=(CoinState.UNSPENT,)))
        for stored in (one for one in spendable(held) if one.mint in known):
            free[stored.mint] = free.get(stored.mint, 0) + stored.proof.amount
        best = 0
        for url in sorted(free, key=lambda one: (one not in request.mints, -free[one], one)):
            if (mint is not None and url != mint) or not request.takes(url):
                continue
            extra = request.fee_for(url, await melt_methods(ctx, url, unit))
            if extra is None:
                continue
            if free[url] >= amount + extra:
                return url, extra
            best = max(best, free[url])
        raise InsufficientFundsError(amount, best, unit)

    async def pay(
        self, request: PaymentRequest, plan: PaymentPlan, *, again: bool, memo: str | None, relays: Sequence[str]
    ) -> RequestPayment:
        """Make the coins and deliver them. Errors as `Requests.pay`."""
        ctx = self._ctx
        only = request.single_use is True and not again
        if only:
            await self._release(request)
        fingerprint = _fingerprint(request)
        draft = RequestPayment(
            payment_id=ctx.new_id(),
            request=encode_payment_request(request),
            mint=plan.mint,
            unit=plan.unit,
            amount=plan.amount + plan.extra,
            memo=memo,
            created_at=ctx.clock.now(),
            operation="",
        )

        async def also(tx: Transaction, operation_id: str) -> None:
            if not await ctx.store.save_payment(tx, replace(draft, operation=operation_id), fingerprint, only=only):
                raise RequestPaidError(next((p.payment_id for p in await ctx.store.payments(tx, fingerprint)), ""))

        order = SendOrder(
            mint=plan.mint,
            unit=plan.unit,
            amount=plan.amount + plan.extra,
            lock=request.lock,
            memo=memo,
            include_fee=True,
            also=also,
        )
        await send(ctx, order)
        return await self.deliver(draft.payment_id, relays=relays)

    async def _release(self, request: PaymentRequest) -> None:
        """Free the claims of payments that came to nothing; RequestPaidError where one did not."""
        ctx = self._ctx
        before = await self._payments_of(request)
        live = next((one for one in before if one.state not in _OVER), None)
        if live is not None:
            raise RequestPaidError(live.payment_id)

        async def body(tx: Transaction) -> None:
            for one in before:
                await ctx.store.release_payment(tx, one.payment_id)

        if before:
            await ctx.storage.transact(body)

    async def _payments_of(self, request: PaymentRequest) -> list[RequestPayment]:
        fingerprint = _fingerprint(request)
        stored = await self._ctx.storage.read(lambda tx: self._ctx.store.payments(tx, fingerprint))
        return [await self._seen(one) for one in stored]

    async def _seen(self, payment: RequestPayment) -> RequestPayment:
        """The payment with its state and its token."""
        ctx = self._ctx
        token = await ctx.storage.read(lambda tx: ctx.store.token(tx, payment.operation))
        if token is None:
            operation = await ctx.storage.read(lambda tx: ctx.store.operation(tx, payment.operation))
            is_open = operation is not None and operation.state is OperationState.OPEN
            return replace(payment, state=PaymentState.OPEN if is_open else PaymentState.FAILED)
        state = PaymentState.UNDELIVERED if payment.delivered_at is None else PaymentState.DELIVERED
        if token.state is not TokenState.PENDING:
            state = PaymentState(token.state.value)
        return replace(payment, state=state, token=token.text)

    async def payments(self) -> list[RequestPayment]:
        """All payments, oldest first."""
        return [await self._seen(one) for one in await self._ctx.storage.read(self._ctx.store.payments)]

    async def payment(self, payment_id: str) -> RequestPayment:
        """One payment; RequestUnknownError."""
        found = next((one for one in await self.payments() if one.payment_id == payment_id), None)
        if found is None:
            raise RequestUnknownError("this wallet has made no payment of this id")
        return found

    async def payload(self, payment: RequestPayment) -> PaymentPayload:
        """What is handed over: the coins of the payment's token, with the request's id."""
        if payment.token is None:
            raise RefusedError("the payment has no coins")
        token = await resolved(self._ctx, decode_token(payment.token, limits=self._ctx.settings.limits))
        request = decode_payment_request(payment.request, limits=self._ctx.settings.limits)
        return PaymentPayload(token.mint, token.unit, token.proofs, request.id, payment.memo)

    async def deliver(self, payment_id: str, *, relays: Sequence[str]) -> RequestPayment:
        """Hand the coins over, by the first transport that works. Errors as `Requests.deliver`."""
        ctx = self._ctx
        payment = await self.payment(payment_id)
        if payment.state in (PaymentState.OPEN, *_OVER):
            raise RefusedError(f"there is nothing to deliver: the payment is {payment.state}")
        if payment.state is PaymentState.CLAIMED:
            return payment
        request = decode_payment_request(payment.request, limits=ctx.settings.limits)
        usable = self._usable(request, relays)
        if not request.transports:
            return await self._delivered(payment, IN_BAND)
        body = wire.payment_payload_to_json(await self.payload(payment))
        reason = "this wallet has none of the request's transports"
        for transport in usable:
            try:
                await self._hand_over(transport, body, relays)
            except (RefusedError, PeerFaultError, UnavailableError, UncertainError) as error:
                reason = error.detail
            else:
                return await self._delivered(payment, transport.kind)
        await ctx.storage.transact(lambda tx: ctx.store.note_delivery(tx, payment_id, by=None, at=None, error=reason))
        raise DeliveryFailedError(f"the coins are made but were not delivered: {reason}", reference=payment_id)

    async def _hand_over(self, transport: Transport, body: bytes, relays: Sequence[str]) -> None:
        if transport.kind == TransportKind.NOSTR:
            target = _nostr_target(transport, relays)
            if target is None:
                raise RefusedError("the request names no relay")
            await self.nostr().send(target, body.decode())
        elif self._transports.post is not None:
            await self._transports.post.post(transport.target, body)

    async def _delivered(self, payment: RequestPayment, by: str) -> RequestPayment:
        ctx = self._ctx
        now = ctx.clock.now()
        await ctx.storage.transact(lambda tx: ctx.store.note_delivery(tx, payment.payment_id, by=by, at=now, error=""))
        return await self.payment(payment.payment_id)

    async def close(self) -> None:
        """Let go of the transports."""
        if self._relays is not None:
            await self._relays.close()
            self._relays = None
        if self._transports.post is not None:
            await self._transports.post.close()


def _fingerprint(request: PaymentRequest) -> bytes:
    return sha256(encode_payment_request(request).encode()).digest()


def _nostr_target(transport: Transport, relays: Sequence[str]) -> NostrProfile | None:
    """Whom to write to, on the request's relays or else on `relays`; None where it cannot be paid by NIP-17."""
    numbers = [value for tag in transport.tags if tag[0] == "n" for value in tag[1:]]
    if numbers and _PRIVATE_MESSAGES not in numbers:
        return None
    try:
        profile = decode_nostr_profile(transport.target)
    except MalformedError:
        return None
    found = profile.relays or tuple(relays)
    return NostrProfile(profile.public_key, found) if found else None
