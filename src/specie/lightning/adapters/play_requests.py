"""`PlayRequestRail`: play money by requests that are paid any number of times: BOLT 12 offers (NUT-25), custom methods.

What a request looks like is its codec's (`play_codecs`). Each payment of ours has a FRESH id, so an offer can be paid twice;
each payment to a request of ours is an arrival of its own. A foreign request is paid in play money: nobody receives anything.
Requests that nobody announced to pay are paid once by themselves, where they name no amount with a gift.

What a crash leaves behind is what `play` says of invoices: an order is stored with its plan before anything is answered, and
one for a request of our own moves the money in the same transaction. Any number of processes may drive one store.
"""

from __future__ import annotations

from dataclasses import replace

from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import InvariantError, RefusedError
from specie.kernel.rail import (
    IncomingPayment,
    IncomingRequest,
    OutgoingQuote,
    PaymentOrder,
    PaymentState,
    RailTerms,
)
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.ports import KeyRef, Signer
from specie.lightning.adapters import play_request_store as asked
from specie.lightning.adapters import play_store as rows
from specie.lightning.adapters.play_codecs import Payee, RequestCodec
from specie.lightning.adapters.play_faults import Fault, PlayFaults
from specie.lightning.adapters.play_machine import PlayMachine
from specie.lightning.adapters.play_policy import PlaySettings, fee_of, plan_payment, refused, reserve_for
from specie.lightning.adapters.play_request_store import RequestRow
from specie.lightning.adapters.play_store import PaymentRow
from specie.storage import Storage, Transaction

__all__ = ["PlayRequestRail"]

_MAX_EXPIRY_S = 10 * 365 * 86_400
_DESCRIPTION_BYTES = 639


class PlayRequestRail(PlayMachine[Payee]):
    """A `kernel.Rail` in play money for `method`, whose requests `codec` writes and reads; `name` names it in the store too."""

    def __init__(
        self,
        storage: Storage,
        signer: Signer,
        clock: Clock,
        entropy: Entropy,
        settings: PlaySettings | None = None,
        *,
        method: str,
        codec: RequestCodec,
        name: str,
        autopay_delay_s: float | None = 3.0,
        faults: PlayFaults | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
        key: KeyRef = "node",
    ) -> None:
        """Keep the plugs; nothing runs before `start`. `autopay_delay_s`: how long a request stays unpaid; None: for good."""
        super().__init__(
            storage,
            clock,
            entropy,
            settings,
            name=name,
            book=name,
            autopay_delay_s=autopay_delay_s,
            faults=faults,
            telemetry=telemetry,
        )
        self._signer = signer
        self._key = key
        self._method = method
        self._codec = codec

    # The port

    @property
    def method(self) -> str:
        """What it was made for."""
        return self._method

    @property
    def terms(self) -> RailTerms:
        """Those of its codec."""
        return self._codec.terms

    async def request(self, amount_msat: int | None, *, description: str, expiry_s: int) -> IncomingRequest:
        """Issue a FRESH request. RefusedError for an amount, expiry or description that cannot be asked for."""
        self._check_available()
        if self._faults.refuse_requests:
            raise RefusedError("play rail: told to refuse requests")
        if amount_msat is not None and self.terms.incoming_amount == "never":
            raise RefusedError("the payer chooses the amount")
        if amount_msat is not None and not 1 <= amount_msat <= self._settings.max_amount_msat:
            raise RefusedError("the play rail does not ask for this amount")
        if not 1 <= expiry_s <= _MAX_EXPIRY_S:
            raise RefusedError("a request lives from a second to ten years")
        if len(description.encode()) > _DESCRIPTION_BYTES:
            raise RefusedError(f"a description has at most {_DESCRIPTION_BYTES} bytes")
        created_ms = self._now_ms()
        expiry = created_ms // 1000 + expiry_s
        issuer = await self._signer.public_key(self._key)
        text = self._codec.write(
            self._entropy.bytes(20), issuer, amount_msat=amount_msat, description=description, expiry=expiry
        )
        self._faults.point("request:signed")
        row = RequestRow(self._entropy.bytes(32).hex(), text, amount_msat, created_ms, expiry, held=False)
        await self._change(lambda tx: asked.insert_request(tx, self._book, row))
        self._faults.point("request:stored")
        if self._autopay_ms is not None:
            self._expect(created_ms + self._autopay_ms)
        return IncomingRequest(row.payment_id, text, amount_msat, expiry)

    async def incoming(self, payment_id: str) -> list[IncomingPayment]:
        """Every arrival for a request that is there now, oldest first."""
        self._check_available()
        return await self._storage.read(lambda tx: asked.receipts_of(tx, self._book, payment_id))

    async def quote(self, request: str, *, amount_msat: int | None = None, partial: bool = False) -> OutgoingQuote:
        """Price a payment, under a FRESH id; autopay lets go of a request of ours that is quoted.

        RefusedError and its leaves: not a request of this method, another network, expired, no or another amount.
        """
        self._check_available()
        if self._faults.refuse_quotes:
            raise RefusedError("play rail: told to refuse quotes")
        if partial:
            raise RefusedError("requests of this method are paid whole")
        payee = self._codec.read(request, self._clock.now())
        amount = self._amount_of(payee, amount_msat)
        own = await self._change(lambda tx: self._held(tx, payee.request))
        self._faults.point("quote:held")
        return self._priced(self._entropy.bytes(32).hex(), payee, amount, own)

    def _priced(self, payment_id: str, payee: Payee, amount_msat: int, own: bool) -> OutgoingQuote:
        return OutgoingQuote(payment_id, amount_msat, 0 if own else reserve_for(amount_msat, self._settings), payee.expiry, own)

    async def _held(self, tx: Transaction, request: str) -> bool:
        """Whether a request is ours; then autopay keeps away from it."""
        own = await asked.request_by_text(tx, self._book, request)
        if own is not None:
            await asked.hold_request(tx, self._book, own.payment_id)
        return own is not None

    def _amount_of(self, payee: Payee, amount_msat: int | None) -> int:
        amount = payee.amount_msat if amount_msat is None else amount_msat
        if amount is None:
            raise RefusedError("the request names no amount")
        if payee.amount_msat is not None and amount != payee.amount_msat:
            raise RefusedError("the amount is not the request's", code=11012)
        if not 1 <= amount <= self._settings.max_amount_msat:
            raise RefusedError("the play rail does not pay this amount")
        return amount

    # For operators and tests

    async def settle(self, request: str, amount_msat: int | None = None) -> IncomingPayment:
        """Pay a request of ours by hand, once more each time; `amount_msat` where it names none. RefusedError if unknown."""
        now_ms, receipt_id = self._now_ms(), f"play:{self._entropy.bytes(16).hex()}"

        async def body(tx: Transaction) -> IncomingPayment:
            own = await asked.request_row(tx, self._book, request) or await asked.request_by_text(tx, self._book, request)
            if own is None:
                raise RefusedError("the play rail has issued no such request")
            await asked.hold_request(tx, self._book, own.payment_id)
            amount = own.amount_msat if amount_msat is None else amount_msat
            await self._deliver(tx, own, receipt_id, self._settings.gift_msat if amount is None else amount, now_ms)
            return (await asked.receipts_of(tx, self._book, own.payment_id))[-1]

        arrival = await self._storage.transact(body)
        self._faults.point("settle:stored")
        self._wake()
        return arrival

    async def _deliver(self, tx: Transaction, own: RequestRow, receipt_id: str, amount_msat: int, now_ms: int) -> None:
        await asked.add_receipt(
            tx,
            self._book,
            payment_id=own.payment_id,
            receipt_id=receipt_id,
            amount_msat=amount_msat,
            first_seen=now_ms // 1000,
        )

    # What the machine asks

    def _read(self, order: PaymentOrder) -> Payee:
        if order.partial:
            raise RefusedError("requests of this method are paid whole")
        return self._codec.read(order.request, 0)

    async def _plan(
        self, tx: Transaction, order: PaymentOrder, payee: Payee, fault: Fault | None, made_up: str, now_ms: int
    ) -> PaymentRow:
        await rows.open_book(tx, self._book)  # a rail that was never asked for money may be the first to pay some
        own = await asked.request_by_text(tx, self._book, payee.request)
        fee = fee_of(order.amount_msat, own is not None, fault, self._settings)
        row = plan_payment(order, fault, self._settings, now_ms=now_ms, fee_msat=fee, preimage=made_up, own=own is not None)
        row = replace(row, rail=self._book, request=payee.request, target=own.payment_id if own else "")
        try:
            self._codec.read(order.request, now_ms // 1000)
            self._amount_of(payee, order.amount_msat)
        except RefusedError as error:
            return refused(row, error.detail)
        return refused(row, "no way to the payee within the fee limit") if fee > order.max_fee_msat else row

    async def _begin(self, tx: Transaction, row: PaymentRow, fault: Fault | None, now_ms: int) -> None:
        if row.target:
            await asked.hold_request(tx, self._book, row.target)
            if fault is None:
                await self._finish(tx, row, PaymentState.PAID, now_ms)

    async def _finish(self, tx: Transaction, row: PaymentRow, truth: PaymentState, now_ms: int) -> None:
        ended = await rows.resolve_payment(tx, replace(row, own=False), truth, now_ms=now_ms)
        own = await asked.request_row(tx, self._book, row.target) if row.target else None
        if ended and own is not None and truth is PaymentState.PAID:
            await self._deliver(tx, own, f"play:{row.payment_id}", row.amount_msat, now_ms)

    async def _work(self, now_ms: int) -> int | None:
        pays, gives, next_ms = await self._storage.read(lambda tx: self._due(tx, now_ms))
        if pays or gives:
            await self._storage.transact(lambda tx: self._do(tx, pays, gives, now_ms))
            self._faults.point("due:stored")
            self._telemetry.event("play.due", payments=len(pays), autopaid=len(gives))
            self._wake()
        return now_ms if rows.BATCH in (len(pays), len(gives)) else next_ms

    async def _due(self, tx: Transaction, now_ms: int) -> tuple[list[tuple[str, str]], list[RequestRow], int | None]:
        """Payments and requests that are due, and when the next one is."""
        payments = await rows.due_payments(tx, self._book)
        times = [rows.number(row[2]) for row in payments]
        ready = [(str(row[0]), str(row[1])) for row, time in zip(payments, times, strict=True) if time <= now_ms]
        requests: list[RequestRow] = []
        if self._autopay_ms is not None:
            requests = await asked.open_requests(tx, self._book, now_ms // 1000)
            times += [row.created_ms + self._autopay_ms for row in requests]
            requests = [row for row in requests if row.created_ms + self._autopay_ms <= now_ms]
        return ready, requests, min((time for time in times if time > now_ms), default=None)

    async def _do(self, tx: Transaction, pays: list[tuple[str, str]], gives: list[RequestRow], now_ms: int) -> None:
        for payment_id, attempt in pays:
            row = await rows.payment_row(tx, payment_id, attempt)
            if row is not None:
                await self._finish(tx, row, row.plan, now_ms)
        for own in gives:
            if await asked.hold_request(tx, self._book, own.payment_id):
                amount = self._settings.gift_msat if own.amount_msat is None else own.amount_msat
                await self._deliver(tx, own, f"play:{own.payment_id}:gift", amount, now_ms)

    async def _balance(self, tx: Transaction) -> int:
        try:
            return await super()._balance(tx)
        except InvariantError:  # no book yet: nothing came and nothing went
            return 0

    async def _page(self, tx: Transaction, cursor: int) -> list[IncomingPayment]:
        return await asked.receipts_after(tx, self._book, cursor)
