"""`PlayRail`: a rail of play money. Real BOLT 11 regtest invoices, real states, durable in the store; no network, no bitcoin.

Invoices are signed by the node key behind the `Signer`. An order for an invoice of its own moves the money between its
two users in one transaction, free of charge. A foreign invoice is paid in play money: nobody receives anything and the
preimage is made up, which the outcome's `reason` says. Invoices that nobody announced to pay are paid by themselves.

What a crash leaves behind, and what becomes of it:

| crash                                | in the store          | after the next start                                          |
|--------------------------------------|-----------------------|---------------------------------------------------------------|
| before an order is stored            | nothing               | ABSENT; the order may be given again                          |
| own invoice, no fault: in the order  | all or nothing        | PAID or ABSENT                                                |
| after a foreign order is stored      | PENDING and its plan  | PENDING, then the plan comes true when it is due              |
| after it ended, before the answer    | PAID or FAILED        | the same order again, and `outgoing`, say so                  |
| after a request is stored            | an unpaid invoice     | autopay finds it                                              |

Any number of processes may drive one store. `start` runs autopay and recovery; without it nothing happens by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import InvariantError, MalformedError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.kernel.rail import (
    IncomingPayment,
    IncomingRequest,
    OutgoingQuote,
    PaymentOrder,
    PaymentOutcome,
    PaymentState,
    RailHealth,
    RailTerms,
)
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.ports import KeyRef, Signer
from specie.lightning.adapters import play_store as rows
from specie.lightning.adapters.play_faults import CRASH_POINTS, Answer, Fault, PlayFaults
from specie.lightning.adapters.play_policy import PlaySettings, amount_of, plan_order, reserve_for
from specie.lightning.adapters.play_schema import MIGRATIONS
from specie.lightning.adapters.play_store import InvoiceRow, PaymentRow
from specie.lightning.errors import InvoiceExpiredError, InvoiceNetworkError, InvoicePaidError
from specie.lightning.invoice import (
    MAX_DESCRIPTION_BYTES,
    Invoice,
    InvoiceDraft,
    Network,
    decode_invoice,
    encode_invoice,
)
from specie.storage import Body, Storage, Transaction

__all__ = ["CRASH_POINTS", "MIGRATIONS", "Answer", "Fault", "PlayFaults", "PlayRail", "PlaySettings"]

T = TypeVar("T")

_MAX_EXPIRY_S = 10 * 365 * 86_400
_TICK_S = 0.02
"""Pause between two looks at what is due: what comes due in it is done together, in one commit."""


class PlayRail:
    """A `kernel.Rail` in play money on `storage` (schema: MIGRATIONS, room `play`); `key` names the node key of `signer`."""

    def __init__(
        self,
        storage: Storage,
        signer: Signer,
        clock: Clock,
        entropy: Entropy,
        settings: PlaySettings | None = None,
        *,
        autopay_delay_s: float | None = 3.0,
        faults: PlayFaults | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
        key: KeyRef = "node",
    ) -> None:
        """Keep the plugs; nothing runs before `start`. `autopay_delay_s`: how long an invoice stays unpaid; None: for good."""
        self._storage = storage
        self._signer = signer
        self._clock = clock
        self._entropy = entropy
        self._settings = settings or PlaySettings()
        self._autopay_ms = None if autopay_delay_s is None else int(autopay_delay_s * 1000)
        self._faults = faults or PlayFaults()
        self._telemetry = telemetry
        self._key = key
        self._events: set[asyncio.Event] = set()
        self._driver = asyncio.Event()
        self._next_ms: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    # The port

    @property
    def name(self) -> str:
        """`play`."""
        return "play"

    @property
    def method(self) -> str:
        """`bolt11`."""
        return "bolt11"

    @property
    def play(self) -> bool:
        """True: its money is play money."""
        return True

    @property
    def terms(self) -> RailTerms:
        """Those of BOLT 11, without partial payments."""
        return RailTerms()

    async def request(self, amount_msat: int | None, *, description: str, expiry_s: int) -> IncomingRequest:
        """Issue a FRESH regtest invoice. RefusedError for an amount, expiry or description that cannot be asked for."""
        self._check_available()
        if self._faults.refuse_requests:
            raise RefusedError("play rail: told to refuse requests")
        if amount_msat is None:
            raise RefusedError("an invoice of the play rail names its amount")
        if not 1 <= amount_msat <= self._settings.max_amount_msat:
            raise RefusedError("the play rail does not ask for this amount")
        if not 1 <= expiry_s <= _MAX_EXPIRY_S:
            raise RefusedError("an invoice lives from a second to ten years")
        if len(description.encode()) > MAX_DESCRIPTION_BYTES:
            raise RefusedError(f"a description has at most {MAX_DESCRIPTION_BYTES} bytes")
        preimage = self._entropy.bytes(32)
        created_ms = self._now_ms()
        draft = InvoiceDraft(
            network=Network.REGTEST,
            amount_msat=amount_msat,
            timestamp=created_ms // 1000,
            payment_hash=hashlib.sha256(preimage).digest(),
            payment_secret=self._entropy.bytes(32),
            description=description,
            expiry_s=expiry_s,
            min_final_cltv_expiry_delta=80,
            features=frozenset({8, 14}),
        )
        text = await encode_invoice(draft, self._sign)
        self._faults.point("request:signed")
        row = InvoiceRow(draft.payment_id, text, preimage.hex(), amount_msat, created_ms, draft.expiry, False, None)
        await self._change(lambda tx: rows.insert_invoice(tx, row))
        self._faults.point("request:stored")
        if self._autopay_ms is not None:
            self._expect(created_ms + self._autopay_ms)
        return IncomingRequest(draft.payment_id, text, amount_msat, draft.expiry)

    async def incoming(self, payment_id: str) -> list[IncomingPayment]:
        """The one arrival for an invoice, or none while it is unpaid."""
        self._check_available()
        found = await self._storage.read(lambda tx: rows.arrival_of(tx, payment_id))
        return [] if found is None else [found]

    async def arrivals(self, after: str | None) -> AsyncIterator[IncomingPayment]:
        """Arrivals behind the cursor `after` (a decimal number), each once, in order, until the rail closes."""
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
            raise MalformedError("not a cursor of the play rail")
        cursor = int(after or 0)
        with self._watch() as event:
            while not self._closed:
                event.clear()
                self._check_available()
                page = await self._storage.read(_page(cursor))
                for payment in page:
                    cursor = int(payment.cursor)
                    yield payment
                if not page:
                    await self._wait(event, self._settings.poll_s)

    async def quote(self, request: str, *, amount_msat: int | None = None, partial: bool = False) -> OutgoingQuote:
        """Price a payment; autopay lets go of an own invoice that is quoted.

        RefusedError and its leaves: not an invoice, another network, expired, paid before, no or another amount.
        """
        self._check_available()
        if self._faults.refuse_quotes:
            raise RefusedError("play rail: told to refuse quotes")
        if partial:
            raise RefusedError("the play rail pays invoices whole")
        invoice = decode_invoice(request)
        amount = amount_of(invoice, amount_msat, self._settings)
        own, paid = await self._storage.read(lambda tx: _known(tx, invoice.payment_id))
        if own is not None and own.request != invoice.text:
            raise RefusedError("the invoice has the payment hash of another that was issued here")
        if paid or (own is not None and own.settled_ms is not None):
            raise InvoicePaidError("the invoice is paid")
        if invoice.expired(self._clock.now()):
            raise InvoiceExpiredError("the invoice has expired")
        if own is not None:
            await self._change(lambda tx: rows.hold_invoice(tx, invoice.payment_id))
            self._faults.point("quote:held")
            return OutgoingQuote(invoice.payment_id, amount, 0, invoice.expiry, True)
        if invoice.network not in self._settings.networks:
            raise InvoiceNetworkError("the invoice is for another network, and this rail has play money only")
        return OutgoingQuote(invoice.payment_id, amount, reserve_for(amount, self._settings), invoice.expiry, False)

    async def pay(self, order: PaymentOrder) -> PaymentOutcome:
        """Pay once. What cannot be an order at all is FAILED and not stored; every other FAILED is.

        UnavailableError: nothing was stored. UncertainError: the commit's fate is unknown, or a fault says so.
        """
        self._check_available()
        self._faults.point("pay:begin")
        try:
            invoice = decode_invoice(order.request)
        except RefusedError as error:
            return PaymentOutcome(PaymentState.FAILED, reason=error.detail)
        if invoice.payment_id != order.payment_id or not order.attempt:
            return PaymentOutcome(PaymentState.FAILED, reason="the order does not name the payment of its invoice")
        fault = self._faults.take(order.payment_id)
        if fault is not None and fault.answer is Answer.UNAVAILABLE:
            raise UnavailableError("play rail: told to be unavailable for this order")
        try:
            row, new = await self._storage.transact(self._ordering(order, invoice, fault))
        except BaseException:
            self._faults.give_back(order.payment_id, fault)
            raise
        if not new:
            self._faults.give_back(order.payment_id, fault)
            return await self._await_end(row, order.deadline_s)
        self._faults.point("pay:stored")
        if row.state is not PaymentState.PENDING:
            self._wake()
            return row.outcome
        if row.due_ms is not None:
            self._expect(row.due_ms)
        return await self._carry_out(row, fault, order.deadline_s)

    async def outgoing(self, payment_id: str, attempt: str) -> PaymentOutcome:
        """What the store knows of one attempt; ABSENT if it was never ordered."""
        self._check_available()
        row = await self._storage.read(lambda tx: rows.payment_row(tx, payment_id, attempt))
        return PaymentOutcome(PaymentState.ABSENT) if row is None else row.outcome

    async def health(self) -> RailHealth:
        """What came in less what went out; below zero where more foreign invoices were paid than arrived."""
        if self._faults.unavailable:
            return RailHealth(False, None, "play money; told to be unavailable")
        return RailHealth(True, await self._storage.read(rows.balance_msat), "play money")

    async def close(self) -> None:
        """End the tasks and the streams of arrivals. Again: does nothing."""
        self._closed = True
        self._wake()
        self._driver.set()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # For operators and tests

    async def start(self) -> None:
        """Run autopay and recovery, and listen to other processes. Again: does nothing."""
        if self._tasks or self._closed:
            return
        for name, work in (("play-listen", self._listen()), ("play-drive", self._drive())):
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def set_faults(self, faults: PlayFaults) -> None:
        """Behave by another policy from now on; what was stored keeps the plan it has."""
        self._faults = faults
        self._driver.set()

    @property
    def faults(self) -> PlayFaults:
        """The policy in force."""
        return self._faults

    async def settle(self, payment_id: str) -> IncomingPayment:
        """Pay an own invoice by hand, expired or not; the arrival, also if it was paid before. RefusedError if unknown."""
        now_ms = self._now_ms()

        async def body(tx: Transaction) -> IncomingPayment:
            await rows.settle_invoice(tx, payment_id, source="operator", now_ms=now_ms)
            arrival = await rows.arrival_of(tx, payment_id)
            if arrival is None:
                raise RefusedError("the play rail has issued no such invoice")
            return arrival

        arrival = await self._storage.transact(body)
        self._faults.point("settle:stored")
        self._wake()
        return arrival

    async def resolve(self, payment_id: str, truth: PaymentState) -> PaymentOutcome:
        """End a payment that is PENDING by hand: PAID or FAILED. One that was PAID stays so. RefusedError if there is none."""
        if truth not in (PaymentState.PAID, PaymentState.FAILED):
            raise RefusedError("a payment ends PAID or FAILED")
        row = await self._storage.read(lambda tx: rows.living_payment(tx, payment_id))
        if row is None:
            raise RefusedError("no payment of this id is on its way")
        return (await self._end(row, truth)).outcome

    async def tick(self) -> float | None:
        """Do everything that is due now; seconds until the next thing is due, None where nothing waits."""
        self._next_ms = None
        if self._faults.unavailable:
            return None
        now_ms = self._now_ms()
        due = await self._storage.read(lambda tx: rows.due(tx, now_ms=now_ms, autopay_delay_ms=self._autopay_ms))
        if due.payments or due.invoices:
            await self._storage.transact(_doing(due, now_ms))
            self._faults.point("due:stored")
            self._telemetry.event("play.due", payments=len(due.payments), autopaid=len(due.invoices))
            self._wake()
        if rows.BATCH in (len(due.payments), len(due.invoices)):
            return 0.0
        self._next_ms = due.next_ms
        return None if due.next_ms is None else max(0.0, (due.next_ms - self._now_ms()) / 1000)

    # Paying

    def _ordering(self, order: PaymentOrder, invoice: Invoice, fault: Fault | None) -> Body[tuple[PaymentRow, bool]]:
        """The body that stores an order, or finds the one that stands in its way. True: it is new."""
        now_ms, made_up = self._now_ms(), self._entropy.bytes(32).hex()

        async def body(tx: Transaction) -> tuple[PaymentRow, bool]:
            for _ in range(2):
                found = await rows.payment_row(tx, order.payment_id, order.attempt)
                found = found or await rows.living_payment(tx, order.payment_id)
                if found is not None:
                    return found, False
                own = await rows.invoice_row(tx, order.payment_id)
                row = plan_order(order, invoice, own, fault, self._settings, now_ms=now_ms, made_up=made_up)
                if await rows.insert_payment(tx, row):
                    break
            else:
                raise UnavailableError("another attempt at this payment was stored and failed just now")
            if own is not None and row.state is PaymentState.PENDING:
                await rows.hold_invoice(tx, order.payment_id)
                if fault is None:
                    await rows.resolve_payment(tx, row, PaymentState.PAID, now_ms=now_ms)
                    row = await rows.payment_row(tx, row.payment_id, row.attempt) or row
            return row, True

        return body

    async def _carry_out(self, row: PaymentRow, fault: Fault | None, deadline_s: float) -> PaymentOutcome:
        """The second half of `pay`: the order is stored, and from here it comes to its end with or without us."""
        answer, after_s = (fault.answer, fault.after_s) if fault else (Answer.TRUTH, 0.0)
        if answer in (Answer.PENDING, Answer.UNKNOWN):
            return row.outcome
        if row.plan is PaymentState.PENDING or after_s > deadline_s:
            return await self._await_end(row, deadline_s)
        if after_s:
            await self._clock.sleep(after_s)
        try:
            row = await self._end(row, row.plan)
        except (UnavailableError, UncertainError) as error:
            return PaymentOutcome(PaymentState.PENDING, reason=error.detail)
        self._faults.point("pay:settled")
        if answer is Answer.LOST:
            raise UncertainError("play rail: told to lose the answer", reference=row.payment_id)
        return row.outcome

    async def _end(self, row: PaymentRow, truth: PaymentState) -> PaymentRow:
        """End a payment, unless it has ended; its row as it is then."""
        now_ms = self._now_ms()

        async def body(tx: Transaction) -> PaymentRow:
            await rows.resolve_payment(tx, row, truth, now_ms=now_ms)
            ended = await rows.payment_row(tx, row.payment_id, row.attempt)
            if ended is None:
                raise InvariantError("a payment of the play rail has disappeared")
            return ended

        ended = await self._storage.transact(body)
        self._wake()
        return ended

    async def _await_end(self, row: PaymentRow, deadline_s: float) -> PaymentOutcome:
        """Wait until a payment ends, at most `deadline_s`. Its order is durable, so a store out of reach means PENDING."""
        until = self._clock.monotonic() + deadline_s
        with self._watch() as event:
            while row.state is PaymentState.PENDING and row.answer is PaymentState.PENDING:
                left = until - self._clock.monotonic()
                if left <= 0:
                    break
                await self._wait(event, min(left, self._settings.poll_s))
                event.clear()
                try:
                    row = await self._storage.read(_again(row))
                except UnavailableError:
                    break
        return row.outcome

    # Machinery

    async def _sign(self, digest: bytes) -> tuple[bytes, int]:
        return (await self._signer.sign_recoverable(self._key, [digest]))[0]

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    def _check_available(self) -> None:
        if self._closed or self._faults.unavailable:
            raise UnavailableError("the play rail is closed" if self._closed else "play rail: told to be unavailable")

    async def _change(self, body: Body[T]) -> T:
        """A transaction without a payment in it: should its fate be unknown, it is as good as not done."""
        try:
            return await self._storage.transact(body)
        except UncertainError as error:
            raise UnavailableError(error.detail) from error

    @contextmanager
    def _watch(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever something may have changed."""
        event = asyncio.Event()
        self._events.add(event)
        try:
            yield event
        finally:
            self._events.discard(event)

    def _wake(self) -> None:
        for event in self._events:
            event.set()

    def _expect(self, due_ms: int) -> None:
        """Something comes due at `due_ms`; wake the driver if that is sooner than it knows."""
        if self._next_ms is None or due_ms < self._next_ms:
            self._next_ms = due_ms
            self._driver.set()

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set or the time is over."""
        if event.is_set():
            return
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self) -> None:
        poll_s = self._settings.poll_s
        while not self._closed:
            self._driver.clear()
            try:
                next_s = await self.tick()
            except InvariantError:
                raise
            except SpecieError as error:
                self._telemetry.event("play.tick_failed", error=error.detail)
                next_s = None
            await self._clock.sleep(min(_TICK_S, poll_s))
            await self._wait(self._driver, poll_s if next_s is None else min(next_s, poll_s))

    async def _listen(self) -> None:
        while not self._closed:
            try:
                async for _ in self._storage.listen(rows.CHANNEL):
                    self._wake()
            except UnavailableError as error:
                self._telemetry.event("play.listen_failed", error=error.detail)
            await self._clock.sleep(self._settings.poll_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._telemetry.page("a task of the play rail has died", task=task.get_name(), error=repr(error))


def _page(cursor: int) -> Body[list[IncomingPayment]]:
    return lambda tx: rows.arrivals_after(tx, cursor)


def _again(row: PaymentRow) -> Body[PaymentRow]:
    async def body(tx: Transaction) -> PaymentRow:
        return await rows.payment_row(tx, row.payment_id, row.attempt) or row

    return body


async def _known(tx: Transaction, payment_id: str) -> tuple[InvoiceRow | None, bool]:
    """The own invoice of a payment hash, and whether a payment for it was made."""
    living = await rows.living_payment(tx, payment_id)
    return await rows.invoice_row(tx, payment_id), living is not None and living.state is PaymentState.PAID


def _doing(due: rows.Due, now_ms: int) -> Body[None]:
    async def body(tx: Transaction) -> None:
        for payment_id, attempt in due.payments:
            row = await rows.payment_row(tx, payment_id, attempt)
            if row is not None:
                await rows.resolve_payment(tx, row, row.plan, now_ms=now_ms)
        for payment_id in due.invoices:
            await rows.settle_invoice(tx, payment_id, source="autopay", now_ms=now_ms)

    return body
