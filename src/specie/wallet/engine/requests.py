"""`wallet.requests`: payment requests of ours, what is paid for them, and paying those of others (NUT-18, NUT-26).

Redeeming what came for a request:

| a crash after ...                | leaves                                                                      |
|----------------------------------|-----------------------------------------------------------------------------|
| the payment was judged           | nothing; the payer still has the coins                                      |
| claim and operation journalled   | an OPEN receive: `resume` sends it again, for the coins are nowhere else    |
| the mint swapped                 | the same; `resume` gets the signatures again and settles                    |
| settled                          | a receipt; the same payment again is answered with it                       |

Claim and operation are one transaction. The claim of a single-use request is unique, so of two payments at once one is
refused before its coins are touched; a claim whose operation FAILED is none. The policy on fees: the amount is what the
payee is left with, so payers put the fee of the swap on top (`WalletSettings.request_payer_pays_fees`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from hashlib import sha256
from typing import Any

from specie.ecash import wire
from specie.ecash.codes import ProofsSpentError
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.payload import PaymentPayload
from specie.ecash.requests import (
    LockOption,
    NostrProfile,
    PaymentMethod,
    PaymentRequest,
    Transport,
    TransportKind,
    decode_nostr_profile,
    decode_payment_request,
    encode_nostr_profile,
    encode_payment_request,
    lock_condition,
    verify_payment,
)
from specie.ecash.token import Token, decode_token
from specie.kernel.errors import MalformedError, RefusedError, SpecieError
from specie.kernel.money import amount_checked, unit_checked
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.locks import fresh_key
from specie.wallet.engine.mints import add_mint, fresh_keysets, known_mint
from specie.wallet.engine.perform import check_unspent, perform, taken_up
from specie.wallet.engine.receive import swap_in
from specie.wallet.engine.request_payments import RequestPayments, melt_methods
from specie.wallet.engine.tokens import resolved
from specie.wallet.errors import (
    FeeExceedsValueError,
    MintLeavingError,
    MintUnknownError,
    MintUntrustedError,
    OperationBusyError,
    RequestClosedError,
    RequestUnknownError,
    TransportUnsupportedError,
)
from specie.wallet.operation import Purpose
from specie.wallet.ports import NostrMessage, NostrRelays, Transports
from specie.wallet.request import (
    Arrival,
    OwnRequest,
    PaymentPlan,
    RequestPayment,
    RequestReceipt,
    RequestRecord,
    RequestState,
)
from specie.wallet.selection import fee_of
from specie.wallet.states import CoinState

__all__ = ["Requests"]

_ID_BYTES = 8
_NOSTR = "nostr"
_WRAP_LAG_S = 3 * 86_400
"""Wrapped messages are dated up to two days before they are sent (NIP-59)."""
_REFRESH_S = 30
_SEEN = 20_000
"""Messages that are remembered, lest they be told twice."""
_LOOK_S = 3.0
"""How often one who listens looks for requests that were made meanwhile."""


class Requests:
    """Payment requests, both sides. Amounts are in the unit's minor unit; one object a wallet, `wallet.requests`."""

    def __init__(self, ctx: Context, transports: Transports) -> None:
        """Share the wallet's ports; `transports` is how payments travel."""
        self._ctx = ctx
        self._transports = transports
        self._payments = RequestPayments(ctx, transports)

    # the payee

    async def create(
        self,
        amount: int | None = None,
        *,
        unit: str = "sat",
        description: str | None = None,
        single_use: bool = True,
        mints: Sequence[str] | None = None,
        mints_preferred: bool = False,
        methods: Sequence[PaymentMethod] = (),
        post: str | None = None,
        relays: Sequence[str] = (),
        lock: bool | LockOption = False,
    ) -> OwnRequest:
        """Ask for ecash: show `text` or `short` of the result to the payer.

        `amount` is what shall be left once the coins are swapped; None leaves it to the payer. `mints`: of ours, by default
        all that have the unit but those being left; with `mints_preferred` others are named acceptable, too, and `methods`
        say by what they must melt and what that costs. Payments come to the URL `post` (see `PaymentReceiver`), or over Nostr
        by `relays`, to a key made for this request alone; with neither they are handed over in-band and given to `accept`.
        `lock` True locks the coins to a fresh key of ours. MintUnknownError, MintLeavingError, MalformedError;
        TransportUnsupportedError without Nostr.
        """
        ctx = self._ctx
        unit = unit_checked(unit)
        if amount is not None:
            amount_checked(amount, minimum=1)
        chosen = await self._own_mints(mints, unit)
        transports: list[Transport] = []
        if post is not None:
            transports.append(Transport(TransportKind.POST, _post_checked(post)))
        number = None
        if relays:
            if self._transports.nostr is None:
                raise TransportUnsupportedError("this wallet has no Nostr")
            checked = tuple(map(_relay_checked, relays))
            number = await ctx.storage.transact(lambda tx: ctx.store.take_key_index(tx, _NOSTR))
            key = await ctx.signer.public_key(f"{_NOSTR}/{number}")
            target = encode_nostr_profile(NostrProfile(key[1:], checked))
            transports.append(Transport(TransportKind.NOSTR, target, (("n", "17"),)))
        option = lock if isinstance(lock, LockOption) else None
        if lock is True:
            option = LockOption("P2PK", await fresh_key(ctx))
        elif option is not None:
            lock_condition(option)
        request = PaymentRequest(
            id=ctx.entropy.bytes(_ID_BYTES).hex(),
            amount=amount,
            unit=unit,
            single_use=single_use,
            mints=chosen,
            description=description,
            transports=tuple(transports),
            lock=option,
            mints_preferred=True if mints_preferred else None,
            methods=tuple(methods),
        )
        text = encode_payment_request(request, limits=ctx.settings.limits)
        encode_payment_request(request, "creqB", limits=ctx.settings.limits)
        record = RequestRecord(str(request.id), text, number, ctx.clock.now())
        if not await ctx.storage.transact(lambda tx: ctx.store.add_request(tx, record)):
            raise OperationBusyError("the id of this request is taken; try again")
        return await self._own(record)

    async def _own_mints(self, mints: Sequence[str] | None, unit: str) -> tuple[str, ...]:
        ctx = self._ctx
        known = [record.url for record in await ctx.storage.read(ctx.store.mints)]
        gone = {one.mint for one in await ctx.storage.read(ctx.store.leaving)}
        if mints is None:
            found = [url for url in known if url not in gone and ctx.choose_keyset(await ctx.keysets(url), unit) is not None]
            if not found:
                raise MintUnknownError(f"(none for {unit})")
            return tuple(found)
        wanted = [mint_url_checked(url) for url in mints]
        if not wanted:
            raise MalformedError("a request of ours lists at least one mint")
        for url in wanted:
            if url not in known:
                raise MintUnknownError(url)
            if url in gone:
                raise MintLeavingError(url)
        return tuple(dict.fromkeys(wanted))

    async def _own(self, record: RequestRecord) -> OwnRequest:
        ctx = self._ctx
        request = decode_payment_request(record.text, limits=ctx.settings.limits)
        receipts = tuple(await ctx.storage.read(lambda tx: ctx.store.receipts(tx, record.request_id)))
        state = RequestState.OPEN
        if request.single_use and any(receipt.settled for receipt in receipts):
            state = RequestState.PAID
        elif record.cancelled_at is not None:
            state = RequestState.CANCELLED
        return OwnRequest(
            request_id=record.request_id,
            request=request,
            text=record.text,
            short=encode_payment_request(request, "creqB", limits=ctx.settings.limits),
            state=state,
            receipts=receipts,
            created_at=record.created_at,
            key_number=record.key_number,
        )

    async def list(self, *, only_open: bool = False) -> Sequence[OwnRequest]:
        """Requests of ours, newest first: all, or those that are OPEN (`only_open`)."""
        found = [await self._own(record) for record in await self._ctx.storage.read(self._ctx.store.requests)]
        return [one for one in found if one.state is RequestState.OPEN] if only_open else found

    async def show(self, request_id: str) -> OwnRequest:
        """One request of ours, with what was paid for it; RequestUnknownError."""
        return await self._own(await self._record(request_id))

    async def _record(self, request_id: str) -> RequestRecord:
        record = await self._ctx.storage.read(lambda tx: self._ctx.store.request(tx, request_id))
        if record is None:
            raise RequestUnknownError("this wallet has made no payment request of this id")
        return record

    async def cancel(self, request_id: str) -> OwnRequest:
        """Take no more payments for a request; what has been paid stays. RequestUnknownError."""
        ctx = self._ctx
        await self._record(request_id)
        now = ctx.clock.now()
        await ctx.storage.transact(lambda tx: ctx.store.cancel_request(tx, request_id, now))
        return await self.show(request_id)

    async def accept(
        self,
        payment: PaymentPayload | str | bytes,
        *,
        request_id: str | None = None,
        preimage: str | None = None,
        locktime_at_least: int | None = None,
        trust: bool = False,
    ) -> RequestReceipt:
        """Redeem what was paid for a request of ours: a payload (JSON), or a token that came in-band.

        `request_id` says which request it is for, where the payment itself does not. `preimage` (hex) opens an HTLC lock.
        `locktime_at_least`: see `verify_payment`. `trust` adds a mint that the owner has not added.

        The same payment again gets the same receipt. Where it is refused its coins are not touched:
        RequestUnknownError; RequestClosedError for one that is paid or cancelled; PaymentMismatchError, with the reason;
        MintUntrustedError; TokenLockedError; FeeExceedsValueError; ProofsSpentError where somebody redeemed it before;
        OperationBusyError while it is being redeemed. UnavailableError where the mint cannot be reached: give it again;
        OperationOpenError where its answer was lost: `resume`, or give it again.
        """
        payload = await self._payload(payment, request_id)
        if payload.id is None:
            raise RequestUnknownError("the payment names no request")
        own = await self.show(payload.id)
        coins = sha256(b"".join(sorted(proof.y for proof in payload.proofs))).digest()
        for receipt in own.receipts:
            if receipt.coins == coins:
                return await self._taken_before(own.request_id, receipt)
        if own.state is not RequestState.OPEN:
            raise RequestClosedError(f"the payment request takes no more payments: it is {own.state}")
        token = await self._judged(own.request, payload, locktime_at_least=locktime_at_least, trust=trust)
        return await self._redeem(own, token, coins, preimage)

    async def _payload(self, payment: PaymentPayload | str | bytes, request_id: str | None) -> PaymentPayload:
        limits = self._ctx.settings.limits
        if isinstance(payment, str) and payment.lstrip()[:5].lower() == "cashu":
            draft = decode_token(payment, limits=limits)
            if not await known_mint(self._ctx, draft.mint):
                raise MintUntrustedError(draft.mint)
            token = await resolved(self._ctx, draft)
            return PaymentPayload(token.mint, token.unit, token.proofs, request_id, token.memo)
        payload = payment if isinstance(payment, PaymentPayload) else wire.payment_payload_from_json(payment, limits=limits)
        if payload.id is None and request_id is not None:
            return PaymentPayload(payload.mint, payload.unit, payload.proofs, request_id, payload.memo)
        if request_id is not None and payload.id != request_id:
            raise RequestUnknownError("the payment is for another request")
        return payload

    async def _taken_before(self, request_id: str, receipt: RequestReceipt) -> RequestReceipt:
        """The receipt of a payment that is claimed already, once it is settled."""
        ctx = self._ctx
        if not receipt.settled:
            async with taken_up(ctx, receipt.operation) as operation:
                if operation is not None:
                    await perform(ctx, operation, resumed=True)
        for seen in (await self.show(request_id)).receipts:
            if seen.receipt_id == receipt.receipt_id and seen.settled:
                return seen
        raise OperationBusyError("this payment is being redeemed")

    async def _judged(
        self, request: PaymentRequest, payload: PaymentPayload, *, locktime_at_least: int | None, trust: bool
    ) -> Token:
        """The payment's coins, if they are what the request asks for."""
        ctx = self._ctx
        if request.takes(payload.mint) and not await known_mint(ctx, payload.mint):
            if not trust:
                raise MintUntrustedError(payload.mint)
            await add_mint(ctx, payload.mint)
        keysets = []
        methods: list[str] = []
        if await known_mint(ctx, payload.mint):
            keysets = await fresh_keysets(ctx, payload.mint)
            if not {proof.id for proof in payload.proofs} <= {known.keyset.id for known in keysets}:
                record = await ctx.mint_record(payload.mint)
                keysets = await fresh_keysets(ctx, payload.mint, force=ctx.clock.now() - record.refreshed_at > _REFRESH_S)
            methods = await melt_methods(ctx, payload.mint, payload.unit)
            if len(payload.proofs) > await ctx.array_limit(payload.mint):
                raise MalformedError("the payment has more coins than its mint takes at once")
        verify_payment(
            request,
            payload,
            keysets={known.keyset.id: known.keyset for known in keysets},
            now=ctx.clock.now(),
            melt_methods=methods,
            locktime_at_least=locktime_at_least,
            payer_pays_fees=ctx.settings.request_payer_pays_fees,
        )
        ours = await ctx.storage.read(lambda tx: ctx.store.proofs_by_y(tx, [proof.y for proof in payload.proofs]))
        if any(stored.state is CoinState.SPENT for stored in ours):
            raise ProofsSpentError("this wallet has had a coin of this payment before")
        if any(stored.state is CoinState.RESERVED for stored in ours):
            raise OperationBusyError("a coin of this payment is being used by another operation of this wallet")
        return Token(payload.mint, payload.unit, payload.proofs, payload.memo)

    async def _redeem(self, own: OwnRequest, token: Token, coins: bytes, preimage: str | None) -> RequestReceipt:
        ctx = self._ctx
        ppk = {known.keyset.id: known.keyset.input_fee_ppk for known in await ctx.keysets(token.mint)}
        fee = fee_of(ppk[proof.id] for proof in token.proofs)
        if fee >= token.amount:
            raise FeeExceedsValueError(fee, token.amount, token.unit)
        receipt_id, now = ctx.new_id(), ctx.clock.now()
        only = own.request.single_use is True
        await check_unspent(ctx, token.mint, [proof.y for proof in token.proofs])

        async def also(tx: Transaction, operation_id: str) -> None:
            claim = RequestReceipt(
                receipt_id=receipt_id,
                request_id=own.request_id,
                mint=token.mint,
                unit=token.unit,
                amount=token.amount - fee,
                fee=fee,
                memo=token.memo,
                created_at=now,
                operation=operation_id,
                coins=coins,
            )
            record = await ctx.store.request(tx, own.request_id)
            if record is None or record.cancelled_at is not None:
                raise RequestClosedError("the payment request was cancelled")
            if await ctx.store.add_receipt(tx, claim, only=only):
                return
            if any(receipt.coins == coins for receipt in await ctx.store.receipts(tx, own.request_id)):
                raise OperationBusyError("this payment is being redeemed")
            raise RequestClosedError("another payment of this request was faster, or these coins pay another one")

        await swap_in(ctx, token, Purpose.RECEIVE, preimage=preimage, also=also)
        return next(one for one in (await self.show(own.request_id)).receipts if one.receipt_id == receipt_id)

    async def watch(self, *, follow: bool = True) -> AsyncGenerator[Arrival, None]:
        """Take what comes over Nostr for our open requests: what relays hold, and with `follow` what is yet to come.

        Every message gives one `Arrival`, also one that is refused. What failed for a mint that could not be reached stays
        with the relays, and comes again the next time. Requests that are made meanwhile, by another process too, are
        listened for within seconds. RefusedError where at first no open request is to be paid over Nostr;
        UnavailableError where no relay answers.
        """
        by_ref = await self._listening()
        if not by_ref:
            raise RefusedError("no open payment request is to be paid over Nostr")
        seen: dict[str, None] = {}
        while True:
            async with contextlib.aclosing(self._heard(by_ref, follow=follow)) as stream:
                async for message in stream:
                    if message.message_id not in seen:
                        seen[message.message_id] = None
                        if len(seen) > _SEEN:
                            del seen[next(iter(seen))]
                        yield await self._arrival(message, by_ref[message.ref].request_id)
            if not follow:
                return
            by_ref = await self._listening()

    async def _listening(self) -> dict[str, OwnRequest]:
        """Open requests that are paid over Nostr, by the name of their key."""
        return {f"{_NOSTR}/{own.key_number}": own for own in await self.list(only_open=True) if own.key_number is not None}

    async def _heard(self, by_ref: dict[str, OwnRequest], *, follow: bool) -> AsyncGenerator[NostrMessage, None]:
        """Messages for these requests; ends where, with `follow`, there is a request that is not among them."""
        relays = sorted({relay for own in by_ref.values() for relay in _relays_of(own.request)})
        since = max(min(own.created_at for own in by_ref.values()) - _WRAP_LAG_S, 0)
        messages = self._payments.nostr().messages(sorted(by_ref), relays, since=since, follow=follow)
        async with contextlib.aclosing(messages) as stream:
            while True:
                waiting = asyncio.ensure_future(anext(stream, None))
                try:
                    while follow and not await self._done_soon(waiting):
                        if not set(await self._listening()) <= set(by_ref):
                            return
                    message = await waiting
                finally:
                    waiting.cancel()
                    await asyncio.wait({waiting})
                if message is None:
                    return
                yield message

    async def _done_soon(self, waiting: asyncio.Future[NostrMessage | None]) -> bool:
        """Whether something came before it is time to look for new requests."""
        pause = asyncio.ensure_future(self._ctx.clock.sleep(_LOOK_S))
        both: list[asyncio.Future[Any]] = [waiting, pause]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        pause.cancel()
        return waiting.done()

    async def _arrival(self, message: NostrMessage, request_id: str) -> Arrival:
        try:
            return Arrival(request_id, await self.accept(message.text, request_id=request_id))
        except SpecieError as error:
            self._ctx.telemetry.event("wallet_payment_refused", request=request_id, reason=error.detail)
            return Arrival(request_id, error=error)

    # the payer

    async def plan(
        self,
        request: str | PaymentRequest,
        *,
        amount: int | None = None,
        unit: str = "sat",
        mint: str | None = None,
        relays: Sequence[str] = (),
    ) -> PaymentPlan:
        """What paying a request would do; nothing is done. `amount` where the request names none, or to pay more.

        `unit` where the request names none; `mint` to pay from; `relays` for a payee that names none. MalformedError;
        InsufficientFundsError where no mint that the request takes has enough; TransportUnsupportedError;
        ConditionMalformedError for a lock that nobody could open.
        """
        read = self._read(request)
        url = None if mint is None else mint_url_checked(mint)
        return await self._payments.plan(read, amount=amount, unit=unit_checked(unit), mint=url, relays=relays)

    async def pay(
        self,
        request: str | PaymentRequest,
        *,
        amount: int | None = None,
        unit: str = "sat",
        mint: str | None = None,
        memo: str | None = None,
        again: bool = False,
        relays: Sequence[str] = (),
    ) -> RequestPayment:
        """Pay a request: make the coins it asks for, locked as it asks, and deliver them. The payee's swap fee is put on top.

        In-band the result's `token` is for the caller to hand over. Errors as `plan`, and: RequestPaidError for a
        single-use request that was paid before, unless `again`; UnsupportedError where the mint enforces no such lock;
        OperationOpenError as `Wallet.send`; DeliveryFailedError where the coins were made and nobody took them: `deliver`
        again, or `Wallet.reclaim` its token (coins that are locked to the payee cannot be taken back).
        """
        read = self._read(request)
        plan = await self.plan(read, amount=amount, unit=unit, mint=mint, relays=relays)
        return await self._payments.pay(read, plan, again=again, memo=memo, relays=relays)

    async def deliver(self, payment_id: str, *, relays: Sequence[str] = ()) -> RequestPayment:
        """Hand the coins of a payment over again; the same coins, so it cannot be paid twice. DeliveryFailedError.

        RequestUnknownError; RefusedError for a payment that has no coins to deliver.
        """
        return await self._payments.deliver(payment_id, relays=relays)

    async def payments(self) -> Sequence[RequestPayment]:
        """Payments of others' requests, oldest first."""
        return await self._payments.payments()

    async def payload(self, payment_id: str) -> bytes:
        """The JSON of a payment (NUT-18), for a way of delivery of the caller's own. It is money. RequestUnknownError."""
        return wire.payment_payload_to_json(await self._payments.payload(await self._payments.payment(payment_id)))

    def _read(self, request: str | PaymentRequest) -> PaymentRequest:
        if isinstance(request, PaymentRequest):
            return request
        return decode_payment_request(request, limits=self._ctx.settings.limits)

    def nostr(self) -> NostrRelays:
        """The relays' client of this wallet; TransportUnsupportedError where there is none."""
        return self._payments.nostr()

    async def close(self) -> None:
        """Let go of the transports."""
        await self._payments.close()


def _post_checked(url: str) -> str:
    if not url.startswith(("https://", "http://")) or len(url) > 2048 or not url.isprintable() or " " in url:
        raise MalformedError("payments are posted to an http or https address")
    return url


def _relay_checked(url: str) -> str:
    if not url.startswith(("wss://", "ws://")) or len(url.encode()) > 255 or not url.isprintable() or " " in url:
        raise MalformedError("a relay's address starts with wss:// (or ws://) and has at most 255 bytes")
    return url


def _relays_of(request: PaymentRequest) -> tuple[str, ...]:
    return tuple(
        relay
        for one in request.transports
        if one.kind == TransportKind.NOSTR
        for relay in decode_nostr_profile(one.target).relays
    )
